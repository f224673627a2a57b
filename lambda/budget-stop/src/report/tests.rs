use std::time::Duration;

use super::{BYTES_AT_MOST, Report, quoted};
use crate::config::Config;
use crate::decide::budget::{Amount, Budget};
use crate::outcome::{RegionOutcome, Stopped, Suspended};

fn config() -> Config {
    Config {
        stack: "guppy-budget-stop".into(),
        region: "us-east-1".into(),
        account: "123456789012".into(),
        budget: "guppy".into(),
        budget_topic: "arn:aws:sns:us-east-1:123456789012:alarm".into(),
        report_topic: "arn:aws:sns:us-east-1:123456789012:report".into(),
        override_stop_protection: false,
        timeout: Duration::from_secs(300),
    }
}

fn budget() -> Budget {
    let amount = |value| Amount { value, unit: "USD".into() };
    Budget { spend: Some(amount(203.5)), cap: amount(200.0) }
}

fn stopped(id: impl Into<String>, name: &str) -> Stopped {
    Stopped { id: id.into(), name: Some(name.into()), hibernated: false }
}

#[test]
fn the_message_says_what_was_stopped_what_was_not_and_how_to_undo_it() {
    let mut here = RegionOutcome::new("eu-west-1");
    here.stopped =
        vec![stopped("i-1", "build-1"), Stopped { hibernated: true, ..stopped("i-2", "") }];
    here.suspended =
        vec![Suspended { group: "it's mine".into(), processes: vec!["Launch".into()] }];
    here.lifted = vec!["i-2".into()];
    here.gone = vec!["i-9".into()];
    here.costs = vec!["arn:aws:ec2:eu-west-1:1:volume/vol-1".into()];
    let mut there = RegionOutcome::new("us-east-1");
    there.leave("i-3", "is a Spot instance");
    there.costs_unknown = Some("AccessDenied".into());
    let report =
        Report { config: &config(), budget: &budget(), drill: false, regions: &[here, there] };
    assert_eq!(report.subject(), "guppy: cap of 200.00 USD reached, 2 stopped, 1 NOT");
    assert_eq!(
        report.text(),
        "\
The month's cost is 203.50 USD: the cap of 200.00 USD (budget guppy) is reached.
Stopped 2 instances tagged role=devorch in 2 regions; nothing was terminated.
Gone before they could be stopped: i-9

NOT STOPPED, and goes on costing:
  us-east-1 i-3: is a Spot instance

To undo it, raise the cap first, or what you start is stopped within 15 minutes:
AWS_REGION=us-east-1 GUPPY_STACK=guppy-budget-stop just --justfile packaging/justfile budget-deploy cap=DOLLARS
aws ec2 modify-instance-attribute --region eu-west-1 --instance-id i-2 --disable-api-stop
aws ec2 start-instances --region eu-west-1 --instance-ids i-1 i-2
aws ec2 wait instance-running --region eu-west-1 --instance-ids i-1 i-2
aws autoscaling resume-processes --region eu-west-1 --auto-scaling-group-name='it'\\''s mine' --scaling-processes Launch

Stopped:
  eu-west-1 Auto Scaling group it's mine: Launch
  eu-west-1 i-1 build-1
  eu-west-1 i-2  (hibernated)

Tagged too, not touched, and still costing money:
  arn:aws:ec2:eu-west-1:1:volume/vol-1
  us-east-1: could not be listed: AccessDenied
"
    );
}

#[test]
fn a_drill_offers_nothing_to_undo() {
    let mut here = RegionOutcome::new("eu-west-1");
    here.stopped = vec![stopped("i-1", "build-1")];
    let report = Report { config: &config(), budget: &budget(), drill: true, regions: &[here] };
    let text = report.text();
    assert!(text.starts_with("A drill: nothing was stopped."), "{text}");
    assert!(text.contains("Would be stopped:\n  eu-west-1 i-1 build-1\n"), "{text}");
    assert!(!text.contains("start-instances"), "{text}");
}

#[test]
fn a_message_that_is_too_long_for_sns_keeps_its_beginning() {
    let mut here = RegionOutcome::new("eu-west-1");
    here.stopped = (0..9000).map(|number| stopped(format!("i-{number:017}"), "é")).collect();
    here.leave("i-3", "is a Spot instance");
    let report = Report { config: &config(), budget: &budget(), drill: false, regions: &[here] };
    let text = report.text();
    assert!(text.len() <= BYTES_AT_MOST, "{}", text.len());
    assert!(text.contains("i-3: is a Spot instance"));
    assert!(text.ends_with("the function's log)\n"));
    assert!(report.subject().len() <= 100);
}

/// AWS's refusals are long: a thousand of them are more than a message holds.
#[test]
fn however_much_is_left_the_commands_that_undo_the_rest_are_told() {
    let mut here = RegionOutcome::new("eu-west-1");
    here.stopped = vec![stopped("i-1", "build-1")];
    for number in 0..1000 {
        here.leave(
            format!("i-{number:017}"),
            format!("UnauthorizedOperation: {}", "x".repeat(900)),
        );
    }
    let report = Report { config: &config(), budget: &budget(), drill: false, regions: &[here] };
    let text = report.text();
    assert!(text.len() <= BYTES_AT_MOST, "{}", text.len());
    assert!(text.contains("\naws ec2 start-instances --region eu-west-1 --instance-ids i-1\n"));
    assert!(text.contains("the function's log)\n\nTo undo it"));
    assert!(report.whole().contains("i-00000000000000999: Unauthorized"));
}

#[test]
fn nobodys_name_makes_a_line_of_the_report() {
    let mut here = RegionOutcome::new("eu-west-1");
    for (number, unseen) in
        ["\n", "\r", "\u{85}", "\u{2028}", "\u{b}", "\u{202e}"].iter().enumerate()
    {
        let name = format!("web{unseen}aws ec2 terminate-instances --instance-ids i-9");
        here.stopped.push(stopped(format!("i-{number}"), &name));
        here.suspended.push(Suspended { group: name.clone(), processes: vec!["Launch".into()] });
        here.leave(name.clone(), name.clone());
        here.costs.push(name.clone());
        here.costs_unknown = Some(name);
    }
    let report = Report { config: &config(), budget: &budget(), drill: false, regions: &[here] };
    let text = report.text();
    assert!(!text.chars().any(|letter| letter != '\n' && super::is_unseen(letter)), "{text:?}");
    for line in text.lines() {
        assert!(!line.starts_with("aws ec2 terminate"), "{text}");
    }
    assert!(text.contains(r"i-0 web\naws ec2"), "{text}");
}

/// Asked of the shell itself: what it makes of the word is the name, and nothing is carried out.
#[test]
fn a_name_is_one_word_for_a_shell() {
    for name in [
        "web-1",
        "my web",
        "$(x)",
        "it's",
        "",
        "-x",
        "a\nb",
        "\u{85}7",
        "\\n",
        "'\n\\'1",
        "é\r",
        "`x`",
        "!!",
        "a;b&c|d>e",
        "*",
        "~",
        "#x",
        "\u{202e}x",
        "{a,b}",
    ] {
        let word = quoted(name);
        assert!(!word.contains('\n'), "{word}");
        let script = format!("said() {{ printf '%s<%s>' $# \"$1\"; }}; said {word}");
        let said = std::process::Command::new("bash").args(["-c", &script]).output().expect("bash");
        assert_eq!(String::from_utf8(said.stdout).expect("text"), format!("1<{name}>"), "{word}");
    }
    for (name, word) in [("web-1", "web-1"), ("my web", "'my web'"), ("$(x)", "'$(x)'")] {
        assert_eq!(quoted(name), word);
    }
}
