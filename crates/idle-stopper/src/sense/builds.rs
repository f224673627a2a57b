//! Image builds that exist, busy or not: BuildKit's steps by their cgroups, and the commands that
//! people and scripts start builds with.

use std::collections::HashMap;

use super::file::{Failure, printable};
use super::logins::World;
use super::processes::Entry;
use super::{Build, Process};

/// Build commands that are listed.
const MOST: usize = 1024;

/// What was found out about the processes that may be a build command; None: this one is not.
#[derive(Debug, Default)]
pub(super) struct Builds {
    told: HashMap<Process, Option<String>>,
}

impl Builds {
    pub(super) fn read(
        &mut self,
        World { proc, processes, .. }: World<'_>,
        steps: &[String],
    ) -> Result<Vec<Build>, Failure> {
        let mut builds: Vec<Build> = steps
            .iter()
            .map(|path| Build { id: path.clone(), what: format!("build step {}", short(path)) })
            .collect();
        let mut known = std::mem::take(&mut self.told);
        for entry in processes.iter().filter(|entry| may_build(entry)) {
            if self.told.len() == MOST {
                return Err(Failure::TooMany { limit: MOST, what: "container commands" });
            }
            let process = entry.process();
            let told = match known.remove(&process) {
                Some(told) => told,
                None => {
                    let words = proc.command_line(process)?;
                    is_build(&words).then(|| printable(&words.join(&b' '), 80))
                }
            };
            self.told.insert(process, told);
        }
        for (process, told) in &self.told {
            let Some(what) = told else { continue };
            // `docker build` runs the plugin docker-buildx below itself: one build, not two.
            let parent = processes.find(process.pid).and_then(|entry| processes.find(entry.parent));
            let nested = parent.is_some_and(|parent| {
                self.told.get(&parent.process()).is_some_and(Option::is_some)
            });
            if !nested {
                let id = format!("{}:{}", process.pid, process.start);
                builds.push(Build { id, what: what.clone() });
            }
        }
        Ok(builds)
    }
}

/// The end of a step's path, cut: 25 or 64 characters of an id tell people nothing.
fn short(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    let id = name.rsplit(':').next().unwrap_or(name);
    printable(id.as_bytes(), 12)
}

fn may_build(entry: &Entry) -> bool {
    matches!(
        entry.comm(),
        b"docker"
            | b"docker-buildx"
            | b"docker-compose"
            | b"buildctl"
            | b"podman"
            | b"buildah"
            | b"nerdctl"
    )
}

/// Options of docker, buildx, compose, buildctl, podman and nerdctl before the verb that take the
/// next word as their value.
const TAKE_A_VALUE: [&[u8]; 34] = [
    b"-H",
    b"--host",
    b"-c",
    b"--context",
    b"--config",
    b"-l",
    b"--log-level",
    b"--tlscacert",
    b"--tlscert",
    b"--tlskey",
    b"--builder",
    b"-f",
    b"--file",
    b"-p",
    b"--project-name",
    b"--profile",
    b"--env-file",
    b"--project-directory",
    b"--ansi",
    b"--progress",
    b"--parallel",
    b"--addr",
    b"--timeout",
    b"--tlsdir",
    b"--tlsservername",
    b"--log-format",
    b"--root",
    b"--runroot",
    b"--url",
    b"--connection",
    b"--cgroup-manager",
    b"-n",
    b"--namespace",
    b"-a",
];

/// Whether a command line asks for a build: `docker [options] build`, `docker buildx build`,
/// `docker compose -f x build`, `docker image build`, `buildctl build` …
pub(super) fn is_build(words: &[Vec<u8>]) -> bool {
    let mut verbs = Verbs { words: words.iter().skip(1) };
    match verbs.next() {
        Some(b"build" | b"bake" | b"bud") => true,
        Some(b"buildx" | b"compose" | b"image" | b"builder") => {
            matches!(verbs.next(), Some(b"build" | b"bake" | b"b"))
        }
        _ => false,
    }
}

/// The words of a command line that are neither options nor their values.
struct Verbs<'a> {
    words: std::iter::Skip<std::slice::Iter<'a, Vec<u8>>>,
}

impl<'a> Iterator for Verbs<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let word = self.words.next()?.as_slice();
            if !word.starts_with(b"-") {
                return Some(word);
            }
            if TAKE_A_VALUE.contains(&word) {
                self.words.next();
            }
        }
    }
}
