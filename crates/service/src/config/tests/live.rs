//! A daemon's config when the files are broken.

use super::*;

#[test]
fn a_broken_start_runs_on_the_last_good_config_of_this_boot() {
    let etc = Etc::new(&[("x.toml", "mode = \"stop\"\nidle_after = \"1h\"\n[tcp]\nports = [7]")]);
    let good = etc.live();
    assert_eq!(good.error(), None);
    etc.write("x.toml", "mode = ");
    let live = etc.live();
    assert_eq!(live.config(), good.config());
    let error = live.error().unwrap();
    assert!(error.contains("x.toml:1:") && error.contains("the last good config"), "{error}");
}

#[test]
fn without_a_last_good_one_the_valid_keys_stand_so_the_role_keeps_its_mode() {
    let etc = Etc::new(&[
        ("x.toml", "idle_after = 30\nwarning = \"1min\"\n[tcp]\nfloor = 3\nprots = [1]\n"),
        ("x.d/10-role.toml", "mode = \"stop\"\n"),
        ("x.d/20-no.toml", "mode = \"observe\nwarning = \"3min\"\n"),
        ("x.d/30-range.toml", "idle_after = \"1s\"\n[tcp]\nports = [0]\n"),
    ]);
    let live = etc.live();
    let expected = Config {
        mode: Mode::Stop,
        warning: Duration::from_secs(60),
        // A table begins from its own type's default, as in files without a mistake.
        tcp: Tcp { ports: vec![], floor: 3 },
        ..Config::default()
    };
    assert_eq!(live.config(), &expected);
    assert!(
        live.error().unwrap().ends_with("running on the defaults and the valid keys of the files")
    );
    assert!(!etc.path("last-good.toml").exists());
}

#[test]
fn a_role_installed_together_with_a_typo_takes_its_mode_though_the_last_good_config_observes() {
    let etc = Etc::new(&[("x.toml", "warning = \"1min\"")]);
    assert_eq!(etc.live().config().mode, Mode::Observe);
    etc.write("x.d/10-role.toml", "mode = \"stop\"");
    etc.write("x.toml", "warnin = \"1min\"");
    let live = etc.live();
    assert_eq!((live.config().mode, live.config().warning.as_secs()), (Mode::Stop, 60));
    assert!(live.error().unwrap().contains("did you mean \"warning\"?"));
}

#[test]
fn a_last_good_config_of_an_older_version_is_passed_over() {
    let etc = Etc::new(&[("x.toml", "?"), ("last-good.toml", "gone = 1")]);
    let live = etc.live();
    assert_eq!(live.config(), &Config::default());
    assert!(
        live.error().unwrap().ends_with("running on the defaults and the valid keys of the files")
    );
}

#[test]
fn a_reload_of_broken_files_keeps_what_runs_and_one_of_good_files_takes_them() {
    let etc = Etc::new(&[("x.toml", "mode = \"stop\"")]);
    let mut live = etc.live();
    etc.write("x.toml", "mode = \"sotp\"");
    assert!(live.reload().is_err());
    assert_eq!(live.config().mode, Mode::Stop);
    assert!(live.error().unwrap().contains("did you mean \"stop\"?"));
    etc.write("x.toml", "mode = \"observe\"");
    assert_eq!(live.reload().unwrap().mode, Mode::Observe);
    assert_eq!(live.error(), None);
}

#[test]
fn a_daemon_that_cannot_keep_its_last_good_config_runs_all_the_same() {
    let etc = Etc::new(&[("x.toml", "mode = \"stop\"")]);
    let live: Live<Config> = Live::start(etc.paths(), Some(Path::new("/proc/nowhere/x").into()));
    assert_eq!((live.config().mode, live.error()), (Mode::Stop, None));
}
