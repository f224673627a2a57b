//! The verbs, as a person types them, right and wrong: every mistake is told with its place, its
//! value and what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use lab::process::host;
use lab::{Output, Release, debian, scenario, wait};
use serde_json::Value;

use crate::container::Contained;
use crate::machine::{LONG, scripted};

/// alice's box: claude is the scripted agent, no provider is asked, her repository is `~/shop`.
struct Desk {
    contained: Contained,
}

impl Desk {
    fn boot(release: Release) -> Result<Self> {
        let contained = Contained::boot(release, |root: &Path| {
            let claude = root.join("usr/local/bin/claude");
            fs::copy(scripted(), &claude).context("cannot copy the agent")?;
            fs::set_permissions(&claude, fs::Permissions::from_mode(0o755))?;
            // All that git needs for worktrees is in the image.
            let debs = debian::packages(release, &["git"])?;
            let is_git = |deb: &&PathBuf| deb.to_string_lossy().contains("/git_");
            let git = debs.iter().find(is_git).context("no package git")?;
            host("dpkg-deb", &["-x", &git.to_string_lossy(), &root.to_string_lossy()]).map(drop)
        })?;
        let it = Self { contained };
        it.write("/etc/guppy/agents.d/claude.toml", "probe = \"\"\n")?;
        it.write(
            "/etc/guppy/session-keeper.d/50-test.toml",
            "[starts]\nstagger = \"0s\"\n[crash]\nbackoff = \"1s\"\nbackoff_at_most = \"1s\"\n",
        )?;
        it.root("useradd -m -s /bin/bash alice && useradd -m -s /bin/bash bob")?;
        it.write(
            "/home/alice/.claude.json",
            "{\"projects\": {\"/home/alice\": {\"hasTrustDialogAccepted\": true}}}",
        )?;
        it.root(
            "chown alice: /home/alice/.claude.json && \
             systemctl enable --now guppy-session-keeper@alice.service",
        )?;
        it.alice(
            "git init -q -b main shop && cd shop && git config user.name a && \
             git config user.email a@b && git commit -q --allow-empty -m one && mkdir ~/.claude",
        )?
        .ok()?;
        Ok(it)
    }

    fn root(&self, shell: &str) -> Result<String> {
        self.contained.container.sh_within(LONG, shell)?.ok()
    }

    fn write(&self, path: &str, text: &str) -> Result<()> {
        self.contained.container.write_file(path, text.as_bytes())
    }

    /// As alice would type it.
    fn alice(&self, script: &str) -> Result<Output> {
        let shell = format!("runuser -l alice -c 'exec bash -s' <<'END'\n{script}\nEND");
        self.contained.container.sh_within(LONG, &shell)
    }

    /// A verb that must do what it is told; what it prints.
    fn says(&self, verb: &str) -> Result<String> {
        self.alice(verb)?.ok().with_context(|| verb.to_owned())
    }

    /// The line of `guppy ls` that begins with this name.
    fn line(&self, name: &str) -> Result<String> {
        let listing = self.says("guppy ls")?;
        let line = listing.lines().find(|line| line.split(' ').next() == Some(name));
        Ok(line.unwrap_or_default().to_owned())
    }

    fn until_line(&self, name: &str, wanted: &str) -> Result<String> {
        let found = wait::until(&format!("{name}: {wanted}"), LONG, || {
            let line = self.line(name)?;
            Ok(line.contains(wanted).then_some(line))
        });
        found.with_context(|| self.says("guppy ls").unwrap_or_default())
    }

    /// A verb that must fail, with this status, and say all of this.
    fn fails(&self, verb: &str, status: i32, words: &[&str]) -> Result<()> {
        let said = self.alice(verb)?;
        ensure!(said.status == status, "{verb}: {status} expected: {said:?}");
        ensure!(said.stdout.is_empty(), "{verb}: an error on stdout: {said:?}");
        for word in words {
            ensure!(said.stderr.contains(word), "{verb}: no {word:?} in {said:?}");
        }
        Ok(())
    }
}

#[test]
fn a_person_keeps_an_agent_and_makes_every_mistake() {
    scenario(|| {
        for release in Release::of_this_run() {
            let it = Desk::boot(*release).context(release.name())?;
            a_day(&it).context(release.name())?;
            mistakes(&it).context(release.name())?;
            reasons(&it).context(release.name())?;
            the_whole_box(&it).context(release.name())?;
            without_a_keeper(&it).context(release.name())?;
        }
        Ok(())
    });
}

fn a_day(it: &Desk) -> Result<()> {
    ensure!(it.says("guppy ls")?.contains("no sessions yet: guppy new"));
    ensure!(it.says("guppy agents")?.contains("hooks missing: guppy agents setup"));
    it.says("guppy agents setup --yes")?;
    let made = it.says("cd shop && guppy new shop/fix-login")?;
    ensure!(made.contains("shop/fix-login is new: idle"), "{made}");
    ensure!(made.contains("/home/alice/shop+fix-login"), "{made}");
    let again = it.says("guppy new shop/fix-login")?;
    ensure!(again.contains("already there: idle"), "{again}");

    it.says("guppy send shop/fix-login 'your word is alder'")?;
    let noted = || it.says("guppy logs shop/fix-login");
    wait::until_true("its answer", LONG, || Ok(noted()?.contains("Noted: alder. turns=1")))?;
    it.until_line("shop/fix-login", "idle")?;
    it.says("printf 'two\\nlines\\n' | guppy send shop/fix-login -")?;
    wait::until_true("one turn of two lines", LONG, || Ok(noted()?.contains("Done. turns=2")))?;
    it.until_line("shop/fix-login", "idle")?;
    ensure!(it.says("guppy stop shop/fix-login")?.contains("stopped"));
    ensure!(it.says("guppy stop shop/fix-login")?.contains("stopped"), "a second time");
    it.fails("guppy attach shop/other", 1, &["shop/other", "guppy ls"])?;
    it.says("guppy start shop/fix-login")?;
    it.says("guppy restart shop/fix-login")?;
    it.says("guppy send shop/fix-login 'what was your word?'")?;
    wait::until_true("its word", LONG, || Ok(noted()?.contains("The word is alder. turns=3")))?;

    // One that is at work takes nothing else.
    it.until_line("shop/fix-login", "idle")?;
    it.says("guppy send shop/fix-login '/long 600 a long turn'")?;
    it.until_line("shop/fix-login", "working")?;
    it.fails("guppy send shop/fix-login more", 4, &["takes no text now", "guppy attach"])?;

    // What is in no commit stays, and so does the branch.
    it.says("touch ~/shop+fix-login/new")?;
    let removed = it.says("guppy rm shop/fix-login")?;
    ensure!(removed.contains("stays"), "{removed}");
    ensure!(it.says("ls ~/shop+fix-login")? == "new");
    ensure!(it.says("git -C shop branch --list fix-login")?.contains("fix-login"));
    it.says("cd shop && guppy new shop/clean && guppy rm shop/clean && test ! -e ~/shop+clean")?;
    ensure!(it.says("guppy ls")?.contains("no sessions yet"));
    Ok(())
}

fn mistakes(it: &Desk) -> Result<()> {
    it.says("cd shop && guppy new shop/fix --worktree ~/shop+fix-login")?;
    it.says("printf 'A=b\\n' >~/keys.env && chmod 644 ~/keys.env")?;
    for (verb, status, words) in [
        ("guppy new noslash", 2, &["noslash", "PROJECT/BRANCH", "shop/fix-login"][..]),
        ("guppy new 'shop/a..b'", 2, &["a..b", "git-check-ref-format"]),
        ("cd shop && guppy new shop/x --agent nobody", 1, &["nobody", "guppy agents"]),
        ("cd / && guppy new shop/x", 1, &["--repository", "--worktree"]),
        ("guppy new shop/x --repository /nowhere", 1, &["/nowhere", "--repository"]),
        (
            "cd shop && guppy new shop/main",
            1,
            &["/home/alice/shop", "'main' is already", "--worktree"],
        ),
        ("cd shop && guppy new shop/x --env-file nowhere", 1, &["shop/nowhere", "KEY=value"]),
        ("cd shop && guppy new shop/x --env-file ~/keys.env", 1, &["keys.env", "chmod 600"]),
        ("guppy start shop/none", 1, &["shop/none", "guppy ls"]),
        ("guppy stop shop/none", 1, &["shop/none", "guppy ls"]),
        ("guppy restart shop/none", 1, &["shop/none", "guppy ls"]),
        ("guppy send shop/none x", 1, &["shop/none", "guppy ls"]),
        ("guppy logs shop/none", 1, &["shop/none", "guppy ls"]),
        ("guppy attach shop/none", 1, &["shop/none", "guppy ls"]),
        ("guppy send shop/fix ' '", 2, &["nothing to send"]),
        ("guppy send shop/fix", 2, &["TEXT"]),
        ("guppy logs shop/fix -n many", 2, &["many"]),
        ("guppy agents setup nobody", 1, &["nobody", "guppy agents"]),
        ("guppy stop", 2, &["NAME"]),
    ] {
        it.fails(verb, status, words)?;
    }
    ensure!(it.says("guppy rm shop/none")?.contains("nothing to remove"));
    ensure!(!it.says("ls ~/.config/guppy/sessions.d")?.contains("shop+x"), "half made");
    ensure!(it.says("git -C shop branch --list x")?.is_empty(), "a branch of one that was refused");
    // A program gets its error as a document.
    let said = it.alice("guppy --json stop shop/none")?;
    let error: Value = serde_json::from_str(&said.stdout).with_context(|| format!("{said:?}"))?;
    ensure!(error.get("error").is_some() && said.status == 1, "{said:?}");
    // bob gets nothing of it.
    let socket = "/run/guppy/session-keeper/alice.sock";
    let bob = format!("cd / && runuser -u bob -- guppy --socket {socket} stop shop/fix");
    let said = it.contained.container.sh_within(LONG, &bob)?;
    ensure!(said.status == 1 && said.stderr.contains("Permission denied"), "{said:?}");
    it.says("guppy rm shop/fix").map(drop)
}

/// What stands in a file that a person wrote, and what `guppy ls` says of its session.
fn reasons(it: &Desk) -> Result<()> {
    let file = |stem: &str, text: &str| {
        it.alice(&format!("cat >~/.config/guppy/sessions.d/{stem}.toml <<'FILE'\n{text}\nFILE"))?
            .ok()
    };
    let claude = "agent = \"claude\"\nworktree = \"/home/alice\"";
    let with = |commands: &str| format!("{claude}\nenv = {{ SCRIPTED = \"{commands}\" }}");
    file("a+typo", "agnet = \"claude\"\nworktree = \"/home/alice\"")?;
    file("a+agent", "agent = \"nobody\"\nworktree = \"/home/alice\"")?;
    file("a+folder", "agent = \"claude\"\nworktree = \"/home/alice/gone\"")?;
    file("a+secrets", &format!("{claude}\nenv_files = [\"/home/alice/keys.env\"]"))?;
    file("a+program", "agent = \"mine\"\nworktree = \"/home/alice\"")?;
    file("a+limit", &with("!limit 3600"))?;
    file("a+login", &with("!logout"))?;
    file("a+crash", &with("!end 7"))?;
    it.says(
        "mkdir -p ~/.config/guppy/agents.d && \
             echo 'start = [\"no-such-program\"]' >~/.config/guppy/agents.d/mine.toml",
    )?;
    it.root("systemctl reload guppy-session-keeper@alice.service")?;
    for (name, state, words) in [
        ("a/typo", "blocked", &["a+typo.toml:1:1", "\"agnet\"", "did you mean \"agent\""][..]),
        ("a/agent", "blocked", &["nobody", "guppy agents"]),
        ("a/folder", "blocked", &["/home/alice/gone", "mkdir -p"]),
        ("a/secrets", "parked", &["keys.env", "chmod 600"]),
        ("a/program", "parked", &["no-such-program"]),
        ("a/limit", "parked", &["usage limit", "guppy start a/limit"]),
        ("a/login", "parked", &["not logged in", "guppy start a/login"]),
        ("a/crash", "parked", &["5 crashes within 15m", "it exited with 7"]),
    ] {
        let line = it.until_line(name, state)?;
        for word in words {
            ensure!(line.contains(word), "no {word:?} in {line:?}");
        }
    }
    it.root("rm /home/alice/.claude.json")?;
    file("a+dialog", claude)?;
    it.alice("guppy start a/dialog")?;
    let line = it.until_line("a/dialog", "waiting")?;
    ensure!(line.contains("trust the folder") && line.contains("guppy attach"), "{line}");
    // None of them was started more often than that takes.
    let listing: Value = serde_json::from_str(&it.says("guppy --json ls")?)?;
    let sessions = listing.get("sessions").and_then(Value::as_array).context("no sessions")?;
    for (name, starts) in [("a/limit", 1), ("a/login", 1), ("a/crash", 5), ("a/dialog", 1)] {
        let line = sessions.iter().find(|line| line.get("name") == Some(&name.into()));
        let line = line.with_context(|| name.to_owned())?;
        ensure!(line.get("starts").and_then(Value::as_u64) == Some(starts), "{line}");
    }
    Ok(())
}

/// What `guppy status` and `guppy doctor` tell of the keeper, and what they say when it is gone.
fn the_whole_box(it: &Desk) -> Result<()> {
    let status = it.says("guppy status")?;
    let line = status.lines().find(|line| line.starts_with("guppy-session-keeper@alice"));
    let line = line.with_context(|| status.clone())?;
    ensure!(line.contains("active (running)") && line.contains("1 waiting"), "{status}");
    let doctor = it.alice("guppy doctor")?.stdout;
    ensure!(
        doctor.contains("guppy-session-keeper@alice.service is active and enabled"),
        "{doctor}"
    );
    ensure!(!doctor.contains("guppy-idle-stopper is not installed"), "{doctor}");
    Ok(())
}

fn without_a_keeper(it: &Desk) -> Result<()> {
    it.root("systemctl stop guppy-session-keeper@alice.socket guppy-session-keeper@alice.service")?;
    let listing = it.says("guppy ls")?;
    ensure!(listing.contains("a/limit") && listing.contains("parked"), "{listing}");
    ensure!(listing.contains("the keeper cannot be reached"), "{listing}");
    it.fails("guppy stop a/dialog", 1, &["systemctl status guppy-session-keeper@"])?;
    let status = it.alice("guppy status")?;
    ensure!(status.status == 1 && status.stdout.contains("its unit is inactive"), "{status:?}");
    let doctor = it.alice("guppy doctor")?;
    ensure!(doctor.status == 1 && doctor.stdout.contains("is inactive and enabled"), "{doctor:?}");
    Ok(())
}
