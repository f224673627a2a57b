//! A fleet: agents on one box, each with its own conversation and its own word. Whatever happens to
//! the box, each must be there afterwards, once, and know its word.
//!
//! A word is made up anew in each run and told to its agent alone, in a turn: it stands in no
//! argument, no variable and no path, and the provider remembers nothing. So an agent that answers
//! with it is in its conversation.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::wait;

use crate::listing::{self, listing, text};
use crate::machine::{HOME, LONG, Machine, USER};
use crate::provider::Provider;
use crate::real::Agent;

/// The agents that share one folder: what resumes "the last one here" would mix them up.
pub(crate) const TOGETHER: usize = 4;
/// All of a large fleet start one after the other, and each draws before it takes a prompt.
const ALL: Duration = Duration::from_secs(900);
const SHIPPED: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/session-keeper/agents.d/claude.toml");
const QUESTION: &str = "what was your word?";

/// One of a fleet.
#[derive(Debug)]
struct Member {
    name: String,
    agent: &'static str,
    folder: String,
    word: String,
    /// The turns of its conversation that have ended.
    turns: u32,
    /// The starts that it has had.
    starts: u64,
    conversation: String,
}

/// A fleet.
#[derive(Debug)]
pub(crate) struct Fleet {
    members: Vec<Member>,
    /// A part of every word, and of nothing else.
    mark: String,
}

/// What became of a fleet.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Agents that answered with another's word.
    pub(crate) wrong: Vec<String>,
    /// Processes that are in a conversation beside another, or in one of nobody.
    pub(crate) duplicates: Vec<String>,
    /// Agents that did not answer, or not with all turns that had ended.
    pub(crate) lost: Vec<String>,
}

impl Fleet {
    /// So many of each; the first [`TOGETHER`] share a folder.
    pub(crate) fn of(claudes: usize, scripted: usize) -> Result<Self> {
        let mark = random()?;
        let agents =
            std::iter::repeat_n("claude", claudes).chain(std::iter::repeat_n("scripted", scripted));
        let members = agents.enumerate().map(|(number, agent)| Member {
            name: format!("shop/part-{number}"),
            agent,
            folder: match number < TOGETHER {
                true => format!("{HOME}/work/together"),
                false => format!("{HOME}/work/part-{number}"),
            },
            word: format!("w{number}x{mark}"),
            turns: 0,
            starts: 0,
            conversation: String::new(),
        });
        Ok(Self { members: members.collect(), mark })
    }

    /// How many there are.
    pub(crate) fn size(&self) -> usize {
        self.members.len()
    }

    /// The name of one of them.
    pub(crate) fn name(&self, number: usize) -> &str {
        self.members.get(number).map_or("", |member| &member.name)
    }

    /// The processes of all of them, in their order.
    pub(crate) fn pids(&self, machine: &dyn Machine) -> Result<Vec<u64>> {
        let lines = listing(machine)?;
        let pid = |member: &Member| lines.get(&member.name)?.get("pid")?.as_u64();
        let pids = self
            .members
            .iter()
            .map(|member| pid(member).with_context(|| format!("{} has no process", member.name)));
        pids.collect()
    }

    /// Declares them to a box that has the role, and switches their keeper on.
    pub(crate) fn settle(&self, machine: &dyn Machine, provider: &Provider) -> Result<()> {
        let url = provider.url();
        let probe = url.trim_start_matches("http://");
        let shipped = std::fs::read_to_string(SHIPPED).with_context(|| format!("no {SHIPPED}"))?;
        let scripted = shipped
            .replace("\"claude\", \"--", "\"scripted\", \"--")
            .replace("api.anthropic.com:443", probe);
        ensure!(scripted.matches("\"scripted\"").count() == 2, "{SHIPPED} has changed");
        machine.write_file("/etc/guppy/agents.d/scripted.toml", scripted.as_bytes())?;
        let claude = format!("probe = \"{probe}\"\n");
        machine.write_file("/etc/guppy/agents.d/claude.toml", claude.as_bytes())?;
        let secrets: Vec<String> = Agent::Claude
            .environment(&url)
            .iter()
            .map(|(name, value)| format!("{name}={value}\n"))
            .collect();
        let secrets_file = format!("{HOME}/.config/guppy/claude.env");
        machine.write_file(&secrets_file, secrets.concat().as_bytes())?;
        for (name, text) in Agent::Claude.settings(HOME.as_ref(), &url) {
            machine.write_file(&format!("{HOME}/{name}"), text.as_bytes())?;
        }
        let mut script = String::new();
        for member in &self.members {
            let Member { name, agent, folder, .. } = member;
            let file = name.replace('/', "+");
            script.push_str(&format!(
                "mkdir -p {folder} && printf '%s\\n' 'agent = \"{agent}\"' \
                 'worktree = \"{folder}\"' 'env_files = [\"{secrets_file}\"]' \
                 >{HOME}/.config/guppy/sessions.d/{file}.toml || exit 1\n"
            ));
        }
        let settle = format!(
            "mkdir -p {HOME}/.config/guppy/sessions.d {HOME}/work && chmod 600 {secrets_file} && \
             chown -R {USER}: {HOME}"
        );
        machine.sh_within(LONG, &settle)?.ok()?;
        // Before the first session: a keeper that runs already starts it at once.
        machine
            .user(&format!("mkdir -p {HOME}/.claude && guppy agents setup --yes"))?
            .ok()
            .context("the hooks")?;
        machine.user(&script)?.ok()?;
        // What a person wrote down a day before a power cut is on the disk.
        let unit = format!("systemctl enable --now guppy-session-keeper@{USER}.service && sync");
        machine.sh_within(LONG, &unit)?.ok().map(drop)
    }

    /// Waits until all of them take a prompt, each in its own conversation and after one start more
    /// than before. Gives how long that took.
    pub(crate) fn back(&mut self, machine: &dyn Machine) -> Result<Duration> {
        let start = Instant::now();
        let lines = wait::until("all agents to be ready", ALL, || {
            let lines = listing(machine)?;
            // What was seen of them before counts for nothing.
            let is_ready = |member: &Member| {
                matches!(listing::state(&lines, &member.name).as_str(), "idle" | "interrupted")
                    && listing::starts(&lines, &member.name) > member.starts
            };
            Ok(self.members.iter().all(is_ready).then_some(lines))
        });
        let lines = lines.with_context(|| listing::all_that_is_known(machine))?;
        for member in &mut self.members {
            let line = lines.get(&member.name).context("a line of each")?;
            let conversation = text(line, "conversation");
            let known = &member.conversation;
            ensure!(
                known.is_empty() || *known == conversation,
                "{} was in {known} and is in {conversation}",
                member.name
            );
            let starts = listing::starts(&lines, &member.name);
            ensure!(starts == member.starts + 1, "{} was started: {line}", member.name);
            member.starts = starts;
            member.conversation = conversation;
        }
        Ok(start.elapsed())
    }

    /// Tells each its word, and waits for the answers.
    pub(crate) fn tell(&mut self, machine: &dyn Machine) -> Result<()> {
        self.send(machine, |member| format!("your word is {}", member.word))?;
        wait::until_true("all to have noted their words", ALL, || {
            let screens = self.screens(machine)?;
            let noted = |member: &Member| {
                let answer = format!("Noted: {}. turns=1", member.word);
                screens.get(&member.name).is_some_and(|screen| screen.contains(&answer))
            };
            Ok(self.members.iter().all(noted))
        })
        .with_context(|| listing::all_that_is_known(machine))?;
        self.members.iter_mut().for_each(|member| member.turns = 1);
        Ok(())
    }

    /// Waits until the last turn of any of them was written down ten seconds ago: for longer than a
    /// keeper takes to save it.
    pub(crate) fn saved(&self, machine: &dyn Machine) -> Result<()> {
        let new = format!("find {HOME}/.claude/projects -name '*.jsonl' -newermt '-10 seconds'");
        wait::until_true("all turns to be saved", LONG, || {
            Ok(machine.sh_within(LONG, &new)?.ok()?.is_empty())
        })
    }

    /// Gives each something to do that takes longer than it has, and waits until all are at it.
    pub(crate) fn busy(&self, machine: &dyn Machine) -> Result<()> {
        self.send(machine, |member| match member.agent {
            "scripted" => "/long 600 a long turn".to_owned(),
            _ => "long answer".to_owned(),
        })?;
        wait::until_true("all to be at work", ALL, || {
            let lines = listing(machine)?;
            Ok(self.members.iter().all(|member| listing::state(&lines, &member.name) == "working"))
        })
        .with_context(|| listing::all_that_is_known(machine))
    }

    /// Whether all of them wait for their provider, as `guppy ls` says. That one of them was started
    /// is an error.
    pub(crate) fn all_wait_for(&self, machine: &dyn Machine, provider: &Provider) -> Result<bool> {
        let awaited = provider.url().trim_start_matches("http://").to_owned();
        let lines = listing(machine)?;
        let mut waiting = 0;
        for (member, line) in
            self.members.iter().filter_map(|one| Some((one, lines.get(&one.name)?)))
        {
            ensure!(
                listing::starts(&lines, &member.name) == member.starts,
                "{} was started: {line}",
                member.name
            );
            waiting +=
                usize::from(text(line, "state") == "due" && text(line, "why").contains(&awaited));
        }
        Ok(waiting == self.members.len())
    }

    /// Asks each for its word, and judges what comes.
    ///
    /// `cut_off`: a turn was cut off before, which may or may not be in the conversation.
    pub(crate) fn ask(&mut self, machine: &dyn Machine, cut_off: bool) -> Result<Verdict> {
        self.send(machine, |_| QUESTION.to_owned())?;
        let mut answers = BTreeMap::new();
        // Whoever has not answered then is lost, which the verdict says.
        let _ = wait::until_true("all answers", ALL, || {
            let screens = self.screens(machine)?;
            answers = self
                .members
                .iter()
                .filter_map(|member| {
                    let screen = screens.get(&member.name)?;
                    Some((member.name.clone(), answers_on(screen).last().cloned()?))
                })
                .collect();
            Ok(self.members.iter().all(|member| {
                answers.get(&member.name).is_some_and(|(_, turns)| *turns > member.turns)
            }))
        });
        let mut verdict = Verdict::default();
        for member in &mut self.members {
            let most = member.turns + 1 + u32::from(cut_off);
            match answers.get(&member.name) {
                Some((word, _)) if *word != member.word => {
                    verdict.wrong.push(format!("{} said {word}", member.name));
                }
                Some((_, turns)) if (member.turns + 1..=most).contains(turns) => {
                    member.turns = *turns;
                }
                answer => verdict.lost.push(format!("{}: {answer:?}", member.name)),
            }
        }
        verdict.duplicates = self.duplicates(machine)?;
        self.nowhere_else(machine)?;
        Ok(verdict)
    }

    /// A claude may be busy with itself for a moment after it was ready: nothing was typed then.
    fn send(&self, machine: &dyn Machine, what: impl Fn(&Member) -> String) -> Result<()> {
        let lines = self.members.iter().map(|member| {
            format!("until guppy send {} '{}'; do sleep 1; done\n", member.name, what(member))
        });
        machine.user_within(ALL, &lines.collect::<String>())?.ok().context("guppy send").map(drop)
    }

    fn screens(&self, machine: &dyn Machine) -> Result<BTreeMap<String, String>> {
        let lines = self
            .members
            .iter()
            .map(|member| format!("echo '=== {0}'; guppy logs {0}\n", member.name));
        let said = machine.user(&lines.collect::<String>())?.stdout;
        let screens = said.split("=== ").filter_map(|part| part.split_once('\n'));
        Ok(screens.map(|(name, screen)| (name.to_owned(), screen.to_owned())).collect())
    }

    /// Processes beside the one that each conversation has: by their control groups and by what
    /// they were started with.
    fn duplicates(&self, machine: &dyn Machine) -> Result<Vec<String>> {
        let each = "for one in /proc/[0-9]*; do \
                    printf '%s\\t' \"$(sed -n 's/^0:://p' $one/cgroup)\"; \
                    tr '\\0' ' ' <$one/cmdline; echo; done 2>/dev/null";
        let said = machine.sh_within(LONG, each)?.stdout;
        let mut left: Vec<(String, &str)> = self
            .members
            .iter()
            .map(|member| {
                (format!("/agent-{}", member.name.replace('/', "+")), member.conversation.as_str())
            })
            .collect();
        let mut surplus = Vec::new();
        for line in said.lines() {
            let Some((group, command)) = line.split_once('\t') else { continue };
            let program = command
                .split(' ')
                .take(2)
                .any(|word| word.ends_with("claude") || word.ends_with("/scripted"));
            if !program {
                continue;
            }
            let of = left
                .iter()
                .position(|(own, id)| group.ends_with(own.as_str()) && command.contains(id));
            match of {
                Some(at) => drop(left.swap_remove(at)),
                None => surplus.push(line.to_owned()),
            }
        }
        surplus
            .extend(left.into_iter().map(|(group, id)| format!("no process in {group} for {id}")));
        Ok(surplus)
    }

    /// No word is anywhere but in transcripts and on screens.
    fn nowhere_else(&self, machine: &dyn Machine) -> Result<()> {
        machine.write_file("/run/mark", self.mark.as_bytes())?;
        let look = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' \
                    | grep -F -f /run/mark; find / -xdev | grep -F -f /run/mark; true";
        let found = machine.sh_within(LONG, look)?.ok()?;
        ensure!(found.is_empty(), "a word stands in {found}");
        Ok(())
    }

    /// That claude's questions came to the provider once each, of its own conversation.
    pub(crate) fn asked_once(&self, provider: &Provider, times: usize) -> Result<()> {
        let requests = provider.requests()?;
        for member in self.members.iter().filter(|member| member.agent == "claude") {
            let own = requests.iter().filter(|request| {
                request.session.as_deref() == Some(member.conversation.as_str())
                    && request.asks(QUESTION)
            });
            let own: Vec<_> = own.collect();
            ensure!(own.len() == times, "{} asked {} times: {own:?}", member.name, own.len());
            let told = format!("your word is {}", member.word);
            ensure!(own.iter().all(|request| request.carries("user", &told)), "{own:?}");
        }
        Ok(())
    }
}

/// The answers on a screen, oldest first: a word and the number of the user's turns.
fn answers_on(screen: &str) -> Vec<(String, u32)> {
    let answer = |rest: &str| {
        let (word, rest) = rest.split_once(". turns=")?;
        let turns: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Some((word.to_owned(), turns.parse().ok()?))
    };
    screen.split("The word is ").skip(1).filter_map(answer).collect()
}

fn random() -> Result<String> {
    use std::io::Read as _;
    let mut bytes = [0; 4];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:08x}", u32::from_be_bytes(bytes)))
}
