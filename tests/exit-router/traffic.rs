//! A peer's packets of every kind, and what has come of them (`tests/peers/traffic`).

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{ChildStdin, ChildStdout};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::process::Spawned;
use lab::tailnet::Device;
use lab::wait;
use serde_json::Value;

use crate::world::LONG;

/// The kinds of packets: each is sent in both families.
pub(crate) const KINDS: [&str; 6] = ["tcp", "stream", "udp", "quic", "fragments", "icmp"];

/// A program that sends until this value goes.
pub(crate) struct Traffic {
    _program: Spawned,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// The longest of the UDP probe's since [`Self::until_answered`] has last told.
    silence: Duration,
}

/// Of one kind in one family.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    /// The longest pause between two answers since the last look.
    pub(crate) silence: Duration,
}

impl Traffic {
    /// Starts to send to these addresses.
    pub(crate) fn start(device: &Device, to: &[&str]) -> Result<Self> {
        let mut program = device.program("traffic", to)?;
        let stdin = program.child.stdin.take().context("no stdin")?;
        let stdout = BufReader::new(program.child.stdout.take().context("no stdout")?);
        Ok(Self { _program: program, stdin, stdout, silence: Duration::ZERO })
    }

    /// What there was so far, by family and kind: "v4 tcp".
    pub(crate) fn look(&mut self) -> Result<BTreeMap<String, Tally>> {
        self.stdin.write_all(b"\n").context("the traffic has ended")?;
        let mut line = String::new();
        ensure!(self.stdout.read_line(&mut line)? > 0, "the traffic has ended");
        let told: BTreeMap<String, Value> = serde_json::from_str(&line).context("the traffic")?;
        let number = |of: &Value, name: &str| of[name].as_u64().unwrap_or_default();
        let tally = |of: &Value| Tally {
            sent: number(of, "sent"),
            answered: number(of, "answered"),
            silence: Duration::from_millis(number(of, "silence_ms")),
        };
        let told: BTreeMap<_, _> =
            told.iter().map(|(kind, of)| (kind.clone(), tally(of))).collect();
        let of_probe = told.iter().filter(|(kind, _)| kind.ends_with(" udp"));
        self.silence =
            of_probe.fold(self.silence, |longest, (_, tally)| longest.max(tally.silence));
        Ok(told)
    }

    /// Waits until each of these has been sent again, whatever comes back.
    pub(crate) fn until_sent(&mut self, kinds: &[String]) -> Result<()> {
        let before = self.look()?;
        // A stream sends nothing while it waits for an answer.
        let kinds: Vec<_> =
            kinds.iter().filter(|kind| !kind.ends_with("stream")).cloned().collect();
        self.until("packets of each kind to be sent", &kinds, |kind, now| {
            now.sent > before.get(kind).copied().unwrap_or_default().sent + 1
        })
    }

    /// Waits until each of these is answered again, and gives the longest silence of the UDP probe
    /// since the last time.
    pub(crate) fn until_answered(&mut self, kinds: &[String]) -> Result<Duration> {
        let before = self.look()?;
        self.until("answers of each kind", kinds, |kind, now| {
            now.answered > before.get(kind).copied().unwrap_or_default().answered
        })?;
        Ok(std::mem::take(&mut self.silence))
    }

    fn until(
        &mut self,
        what: &str,
        kinds: &[String],
        mut enough: impl FnMut(&str, Tally) -> bool,
    ) -> Result<()> {
        let mut waiting = kinds.to_vec();
        let ended = wait::until_true(what, LONG, || {
            let now = self.look()?;
            waiting.retain(|kind| !enough(kind, now.get(kind).copied().unwrap_or_default()));
            Ok(waiting.is_empty())
        });
        ended.with_context(|| format!("still none: {waiting:?}"))
    }
}

/// Every kind in these families ("v4", "v6").
pub(crate) fn kinds(families: &[&str]) -> Vec<String> {
    families.iter().flat_map(|family| KINDS.map(|kind| format!("{family} {kind}"))).collect()
}
