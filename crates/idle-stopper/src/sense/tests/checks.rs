//! The operator's own checks, as their unit writes them.

use std::time::Duration;

use service::clock::{Boottime, Clock};

use super::super::checks::{RESULTS_FILE, Results};
use super::super::{Check, Roots, Said, Sensors};
use super::{Certain, Tree, only, read, without};

const FOLDER: &str = "etc/guppy/idle-stopper.checks.d";

fn results(tree: &Tree, text: &str) {
    tree.file(RESULTS_FILE.trim_start_matches('/'), text);
}

async fn why(tree: &Tree) -> String {
    let config = only(|on| on.checks = true);
    let why = read(&mut tree.sensors(), &config).await.checks.unknown();
    without(tree.folder.path(), &why)
}

#[tokio::test]
async fn no_checks_need_no_results() {
    let tree = Tree::new();
    let config = only(|on| on.checks = true);
    assert!(read(&mut tree.sensors(), &config).await.checks.known().is_empty());
    std::fs::create_dir_all(tree.path(FOLDER)).unwrap();
    assert!(read(&mut tree.sensors(), &config).await.checks.known().is_empty());
    // Results of checks that were removed since do not count.
    results(&tree, r#"{"boot_ms": 599000, "checks": [{"name": "ci", "said": "active"}]}"#);
    assert!(read(&mut tree.sensors(), &config).await.checks.known().is_empty());
}

#[tokio::test]
async fn what_the_unit_writes_is_what_is_read() {
    let tree = Tree::new();
    tree.file(&format!("{FOLDER}/ci"), "#!/bin/sh\n");
    let check = |name: &str, said| Check { name: name.to_owned(), said };
    let checks = vec![
        check("ci", Said::Active),
        check("queue", Said::Quiet),
        check("x", Said::Unknown("no answer within 10 s".to_owned())),
    ];
    let written = Results { boot_ms: 580_000, checks: checks.clone() };
    let text = serde_json::to_string(&written).unwrap();
    assert_eq!(
        text,
        r#"{"boot_ms":580000,"checks":[{"name":"ci","said":"active"},{"name":"queue","said":"quiet"},{"name":"x","said":{"unknown":"no answer within 10 s"}}]}"#
    );
    results(&tree, &text);
    let config = only(|on| on.checks = true);
    assert_eq!(read(&mut tree.sensors(), &config).await.checks.known(), checks);
}

#[tokio::test]
async fn results_that_are_missing_old_of_the_future_or_garbled_are_unknown() {
    let tree = Tree::new();
    tree.file(&format!("{FOLDER}/ci"), "#!/bin/sh\n");
    let file = RESULTS_FILE;
    let folder = format!("/{FOLDER}");
    assert_eq!(why(&tree).await, format!("{file}: not there, but {folder} has checks"));
    // Three ticks of 20 s and a minute ago is the limit.
    results(&tree, r#"{"boot_ms": 479999, "checks": []}"#);
    let old = "120 s old: does the unit that runs the checks hang?";
    assert_eq!(why(&tree).await, format!("{file}: {old}"));
    results(&tree, r#"{"boot_ms": 700000, "checks": []}"#);
    assert!(why(&tree).await.contains("does the unit that runs the checks hang"));
    results(&tree, r#"{"boot_ms": 599000, "checks": [{"name": "ci", "said": "perhaps"}]}"#);
    assert!(why(&tree).await.contains("unknown variant `perhaps`"));
    results(&tree, &" ".repeat(200_000));
    assert_eq!(why(&tree).await, format!("cannot read {file}: File too large (os error 27)"));
}

#[tokio::test]
async fn time_passes_by_the_clock_that_the_sensors_are_given() {
    let tree = Tree::new();
    tree.file(&format!("{FOLDER}/ci"), "#!/bin/sh\n");
    results(&tree, r#"{"boot_ms": 599000, "checks": []}"#);
    let clock = Clock::driven(Boottime::from_millis(600_000));
    let mut sensors = Sensors::at(Roots::below(tree.folder.path()), clock.clone());
    let config = only(|on| on.checks = true);
    assert!(read(&mut sensors, &config).await.checks.known().is_empty());
    clock.advance(Duration::from_secs(120));
    read(&mut sensors, &config).await.checks.unknown();
}
