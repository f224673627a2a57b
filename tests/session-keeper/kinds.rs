//! Every kind of agent under the keeper, the real ones: made by `guppy new`, told a word, ended with
//! all that is on the box, and back in its own conversation, once. What tells one kind from another
//! is its file in agents.d alone.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::process::host;
use lab::{Release, debian, process, scenario, wait};
use serde_json::Value;

use crate::container::Contained;
use crate::listing::{self, all_that_is_known, listing, text};
use crate::machine::{HOME, LONG, Machine, USER};
use crate::provider::Provider;
use crate::real::{Agent, installed};

/// An agent draws for a minute and more on a machine that has other things to do.
const DRAWN: Duration = Duration::from_secs(900);
const KINDS: [Agent; 3] = [Agent::Codex, Agent::OpenCode, Agent::Aider];
const QUESTION: &str = "what was your word?";
/// What aider asks and tells at a first start, and what it would fetch.
const AIDER: &str = "--model openai/stub-model --no-show-model-warnings --no-check-update \
    --analytics-disable --no-gitignore --no-git --no-show-release-notes --yes-always --map-tokens 0";

#[test]
fn each_kind_of_agent_is_kept_in_its_conversation() {
    // aider takes the Python of Debian 12, and no newer one.
    scenario(|| {
        let mut it = Kinds::boot()?;
        it.begin()?;
        it.learned()?;
        let server = "kill -KILL $(systemctl show -P MainPID guppy-tmux@dev.service)";
        it.contained.container.sh_within(LONG, server)?.ok()?;
        it.back(1).context("after the server was killed")?;
        it.contained.container.cut()?;
        it.contained.container.start_again()?;
        it.back(2).context("after all of it was killed")?;
        it.twin(Agent::Codex).and_then(|()| it.twin(Agent::OpenCode)).context("a twin")?;
        it.forgotten().context("a session that was removed, and made anew")
    });
}

struct Kinds {
    contained: Contained,
    provider: Provider,
    /// What `guppy ls` has said of each before the last blow.
    known: Vec<Value>,
}

fn name(kind: Agent) -> String {
    format!("shop/{}", kind.name())
}

/// Told to one agent alone, and written nowhere else.
fn word(kind: Agent) -> &'static str {
    match kind {
        Agent::Claude => "maple",
        Agent::Codex => "walnut",
        Agent::OpenCode => "linden",
        Agent::Aider => "juniper",
    }
}

/// The programs, and a Python for aider.
fn prepare(root: &Path) -> Result<()> {
    let (from, programs) = (installed()?, root.join("usr/local/bin"));
    for kind in [Agent::Codex, Agent::OpenCode] {
        fs::copy(from.join(kind.name()), programs.join(kind.name()))
            .with_context(|| format!("cannot copy {}", kind.name()))?;
    }
    let packages = root.join("opt/aider.d");
    let mut copy = Command::new("cp");
    copy.arg("-r").arg(from.join("aider.d")).arg(packages);
    // Thousands of small files: longer than a host's command gets, where the disk is busy.
    process::run(copy, b"", DRAWN)?.ok().context("cannot copy aider")?;
    let aider = programs.join("aider");
    fs::write(&aider, "#!/bin/sh\nPYTHONPATH=/opt/aider.d exec python3.11 -m aider \"$@\"\n")?;
    fs::set_permissions(&aider, fs::Permissions::from_mode(0o755))?;
    let wanted = ["python3", "libpython3", "libsqlite3", "libexpat", "libffi", "media-types"];
    let is_wanted = |deb: &&PathBuf| {
        let name = deb.file_name().unwrap_or_default().to_string_lossy().into_owned();
        wanted.iter().any(|wanted| name.starts_with(wanted))
    };
    for deb in debian::packages(Release::Bookworm, &["python3.11"])?.iter().filter(is_wanted) {
        // dpkg-deb -x would put a folder in the place of the link that /lib is.
        let unpack = format!(
            "dpkg-deb --fsys-tarfile {} | tar -x --keep-directory-symlink -C {}",
            deb.display(),
            root.display()
        );
        host("bash", &["-o", "pipefail", "-c", &unpack])?;
    }
    Ok(())
}

impl Kinds {
    fn boot() -> Result<Self> {
        let contained = Contained::boot(Release::Bookworm, prepare)?;
        let provider = Provider::start(&contained.switch.host()?)?;
        Ok(Self { contained, provider, known: Vec::new() })
    }

    fn machine(&self) -> &dyn Machine {
        &self.contained.container
    }

    /// One session of each, which is told its word.
    fn begin(&mut self) -> Result<()> {
        let (machine, url) = (self.machine(), self.provider.url());
        let mut secrets = String::new();
        for kind in KINDS {
            let probe = format!("/etc/guppy/agents.d/{}.toml", kind.name());
            machine.write_file(&probe, b"probe = \"\"\n")?;
            for (file, text) in kind.settings(HOME.as_ref(), &url) {
                machine.write_file(&format!("{HOME}/{file}"), text.as_bytes())?;
            }
            for (name, value) in kind.environment(&url) {
                secrets.push_str(&format!("{name}={value}\n"));
            }
        }
        machine.write_file(&format!("{HOME}/secrets.env"), secrets.as_bytes())?;
        let settle = format!(
            "id {USER} >/dev/null 2>&1 || useradd -m -s /bin/bash {USER}; \
             mkdir -p {HOME}/work && chmod 600 {HOME}/secrets.env && chown -R {USER}: {HOME} && \
             systemctl enable --now guppy-session-keeper@{USER}.service"
        );
        machine.sh_within(LONG, &settle)?.ok()?;
        // codex shows hooks to its user for a review; without them the file that it holds open tells.
        machine.user("guppy agents setup opencode --yes")?.ok().context("the plugin")?;
        for kind in KINDS {
            self.make(kind)?;
        }
        for kind in KINDS {
            self.ask(kind, &format!("your word is {}", word(kind)))?;
            let noted = format!("Noted: {}.", word(kind));
            self.until_shown(kind, &noted)?;
            // Until it is written down, a kill loses it, whoever kills.
            let written = format!(
                "grep -rqsaF '{noted}' ~/.codex/sessions ~/.local/share/opencode \
                 ~/.local/state/guppy/aider"
            );
            wait::until_true("the turn to be written down", LONG, || {
                Ok(self.machine().user(&written)?.status == 0)
            })?;
        }
        Ok(())
    }

    fn make(&self, kind: Agent) -> Result<()> {
        let words = if kind == Agent::Aider { AIDER } else { "" };
        let new = format!(
            "guppy new {} --agent {} --worktree ~/work --env-file ~/secrets.env -- {words}",
            name(kind),
            kind.name()
        );
        let made = self.machine().user_within(DRAWN, &new)?;
        // Whether it has drawn within the verb's time is not the question.
        ensure!(matches!(made.status, 0 | 3), "{made:?}");
        Ok(())
    }

    /// The keeper knows the conversation of each that has an id.
    fn learned(&mut self) -> Result<()> {
        self.known = self.lines()?;
        for (kind, line) in KINDS.into_iter().zip(&self.known) {
            let known = !text(line, "conversation").is_empty();
            ensure!(known == (kind != Agent::Aider), "{} is in {line}", kind.name());
        }
        Ok(())
    }

    fn lines(&self) -> Result<Vec<Value>> {
        let lines = listing(self.machine())?;
        let line = |kind| lines.get(&name(kind)).cloned().context("a line of each");
        KINDS.into_iter().map(line).collect()
    }

    /// All are back: by one start each, in the conversation that they were in, with its word.
    fn back(&mut self, times: usize) -> Result<()> {
        for (kind, before) in KINDS.into_iter().zip(&self.known) {
            // What was seen of it before the blow counts for nothing.
            let starts = before.get("starts").and_then(Value::as_u64).unwrap_or_default();
            let again = wait::until_true("another start", DRAWN, || {
                Ok(listing::starts(&listing(self.machine())?, &name(kind)) > starts)
            });
            again.with_context(|| all_that_is_known(self.machine()))?;
            self.ask(kind, QUESTION)?;
            // The answer of before the blow is on the screen too.
            let asked =
                wait::until_true(&format!("{} to know its word", kind.name()), DRAWN, || {
                    Ok(self.answers(kind)? >= times)
                });
            asked.with_context(|| all_that_is_known(self.machine()))?;
        }
        let now = self.lines()?;
        for (before, now) in self.known.iter().zip(&now) {
            let starts = |line: &Value| line.get("starts").and_then(Value::as_u64);
            ensure!(
                text(now, "conversation") == text(before, "conversation")
                    && starts(now) == starts(before).map(|starts| starts + 1),
                "{before} has become {now}"
            );
        }
        self.known = now;
        self.once()
    }

    /// How often it has asked for its word in the conversation in which it was told it, and was
    /// answered.
    fn answers(&self, kind: Agent) -> Result<usize> {
        let told = format!("your word is {}", word(kind));
        let known = format!("The word is {}.", word(kind));
        let requests = self.provider.requests()?;
        let own = requests.iter().filter(|one| {
            one.asks(QUESTION)
                && one.carries("user", &told)
                && one.answer.as_ref().is_some_and(|answer| answer.starts_with(&known))
        });
        Ok(own.count())
    }

    /// No process is in a conversation beside its session's own.
    fn once(&self) -> Result<()> {
        let each = "for one in /proc/[0-9]*; do printf '%s ' \"$(sed -n 's/^0:://p' $one/cgroup)\"; \
                    tr '\\0' ' ' <$one/cmdline; echo; done 2>/dev/null";
        let said = self.machine().sh_within(LONG, each)?.stdout;
        for (kind, line) in KINDS.into_iter().zip(&self.known) {
            let id = match kind {
                Agent::Aider => "shop+aider.md".to_owned(),
                _ => text(line, "conversation"),
            };
            let there: Vec<_> = said.lines().filter(|process| process.contains(&id)).collect();
            ensure!(there.len() == 1, "{there:#?} are in {id}");
        }
        Ok(())
    }

    /// One that its user has started by hand is waited for, whatever it takes; it costs no start.
    fn twin(&self, kind: Agent) -> Result<()> {
        let name = name(kind);
        let before = listing::starts(&listing(self.machine())?, &name);
        let line = listing(self.machine())?.remove(&name).context("its line")?;
        let id = text(&line, "conversation");
        let resume = match kind {
            Agent::Codex => format!("codex --no-daemon resume {id}"),
            _ => format!("opencode -s {id}"),
        };
        let by_hand = format!(
            "guppy stop {name} && tmux new-session -d -s mine -c ~/work \
             'set -a; . ~/secrets.env; exec {resume}'"
        );
        self.machine().user(&by_hand)?.ok()?;
        let shown = format!("The word is {}.", word(kind));
        let drawn = wait::until_true("the twin to be in the conversation", DRAWN, || {
            Ok(self.machine().user("tmux capture-pane -p -t mine")?.stdout.contains(&shown))
        });
        drawn.with_context(|| all_that_is_known(self.machine()))?;
        // It says at once that it waits, and does not give up while it does.
        let state = || -> Result<_> {
            let line = listing(self.machine())?.remove(&name).unwrap_or_default();
            Ok((text(&line, "state"), text(&line, "why"), line.get("starts").cloned()))
        };
        self.machine().user(&format!("timeout 5 guppy start {name}"))?;
        wait::until_true(&format!("{name} to wait for the twin"), LONG, || {
            let (state, why, _) = state()?;
            Ok(state == "due" && why.contains("open in process"))
        })
        .with_context(|| all_that_is_known(self.machine()))?;
        ensure!(listing::starts(&listing(self.machine())?, &name) == before, "{:?}", state()?);
        self.machine().user("kill -KILL $(tmux list-panes -t mine -F '#{pane_pid}')")?.ok()?;
        self.ask(kind, QUESTION)?;
        ensure!(listing::starts(&listing(self.machine())?, &name) == before + 1, "{:?}", state()?);
        Ok(())
    }

    /// aider's next session of that name knows nothing of the one before.
    fn forgotten(&self) -> Result<()> {
        let name = name(Agent::Aider);
        let removed = format!("guppy rm {name} && ls ~/.local/state/guppy/aider/shop+aider.md.1");
        self.machine().user(&removed)?.ok()?;
        self.make(Agent::Aider)?;
        self.ask(Agent::Aider, QUESTION)?;
        self.until_shown(Agent::Aider, "Nobody told me a word.")
    }

    fn ask(&self, kind: Agent, prompt: &str) -> Result<()> {
        let name = name(kind);
        let ready = wait::until_true(&format!("{name} to be ready"), DRAWN, || {
            let lines = listing(self.machine())?;
            Ok(matches!(listing::state(&lines, &name).as_str(), "idle" | "interrupted"))
        });
        ready.with_context(|| all_that_is_known(self.machine()))?;
        let sent = self.machine().user(&format!("guppy send {name} '{prompt}'"))?.ok();
        sent.with_context(|| all_that_is_known(self.machine())).map(drop)
    }

    fn until_shown(&self, kind: Agent, shown: &str) -> Result<()> {
        let logs = format!("guppy logs {}", name(kind));
        let said = wait::until_true(&format!("{}: {shown}", name(kind)), DRAWN, || {
            Ok(self.machine().user(&logs)?.stdout.contains(shown))
        });
        said.with_context(|| all_that_is_known(self.machine()))
    }
}
