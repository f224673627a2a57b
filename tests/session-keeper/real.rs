//! The agents themselves, of pinned versions, and how each is started and resumed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use lab::{cache, process};
use serde_json::{Value, json};

/// The key that the stub takes: any. An agent must be told that it is approved, by its end.
const KEY: &str = "sk-ant-test-0123456789-abcdefghijklmnop";
/// The conversation that claude is told to begin.
pub(crate) const CLAUDE_ID: &str = "5e551000-0000-4000-8000-000000000001";

/// An agent of others'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Agent {
    Claude,
    Codex,
    OpenCode,
    Aider,
}

/// The folder with `claude`, `codex`, `opencode` and `aider`, installed once per recipe.
pub(crate) fn installed() -> Result<PathBuf> {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("agents/real");
    let parts = cache::parts_of(&recipe)?;
    cache::folder_of("agents", cache::key(parts.iter().map(Vec::as_slice)), |folder| {
        lab::say("installing the agents");
        let start = Instant::now();
        let mut install = Command::new(recipe.join("install"));
        install.arg(folder);
        process::run(install, b"", Duration::from_secs(1200))?
            .ok()
            .context("cannot install the agents")?;
        lab::say(format_args!("installed them in {:.1} s", start.elapsed().as_secs_f64()));
        Ok(())
    })
}

impl Agent {
    /// The program's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Codex => "codex",
            Self::OpenCode => "opencode",
            Self::Aider => "aider",
        }
    }

    /// The files of a new home, below it: what a person answers at an agent's first start, and
    /// where its provider is.
    pub(crate) fn settings(self, home: &Path, url: &str) -> Vec<(&'static str, String)> {
        let work = home.join("work").display().to_string();
        match self {
            Self::Claude => {
                // It knows a key by its last twenty characters.
                let end = KEY.get(KEY.len() - 20..).unwrap_or(KEY);
                let text = json!({
                    "hasCompletedOnboarding": true,
                    "customApiKeyResponses": { "approved": [end], "rejected": [] },
                    "projects": { work: { "hasTrustDialogAccepted": true } },
                });
                vec![(".claude.json", text.to_string())]
            }
            Self::Codex => {
                let text = format!(
                    "model = \"stub-model\"\nmodel_provider = \"stub\"\n\
                     check_for_update_on_startup = false\n\
                     [model_providers.stub]\nname = \"stub\"\nbase_url = \"{url}/v1\"\n\
                     env_key = \"STUB_KEY\"\nwire_api = \"responses\"\n\
                     [projects.\"{work}\"]\ntrust_level = \"trusted\"\n"
                );
                vec![(".codex/config.toml", text)]
            }
            Self::OpenCode => {
                let text = json!({
                    "model": "stub/stub-model", "small_model": "stub/stub-model",
                    "autoupdate": false, "share": "disabled",
                    "provider": { "stub": {
                        "npm": "@ai-sdk/openai-compatible", "name": "Stub",
                        "options": { "baseURL": format!("{url}/v1"), "apiKey": KEY },
                        "models": { "stub-model": {
                            "name": "stub-model", "limit": { "context": 100_000, "output": 4_000 }
                        } },
                    } },
                });
                vec![(".config/opencode/opencode.json", text.to_string())]
            }
            Self::Aider => vec![],
        }
    }

    /// Makes a home on this machine, with its [`Self::settings`] and a folder `work`.
    pub(crate) fn settle(self, home: &Path, url: &str) -> Result<()> {
        fs::create_dir_all(home.join("work"))?;
        for (name, text) in self.settings(home, url) {
            let path = home.join(name);
            fs::create_dir_all(path.parent().unwrap_or(home))?;
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// The environment that it is started with.
    pub(crate) fn environment(self, url: &str) -> Vec<(&'static str, String)> {
        match self {
            Self::Claude => vec![
                ("ANTHROPIC_BASE_URL", url.to_owned()),
                ("ANTHROPIC_API_KEY", KEY.into()),
                ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".into()),
            ],
            Self::Codex => vec![("STUB_KEY", KEY.into())],
            Self::OpenCode => vec![],
            Self::Aider => {
                vec![("OPENAI_API_BASE", format!("{url}/v1")), ("OPENAI_API_KEY", KEY.into())]
            }
        }
    }

    /// The command line of a first start.
    pub(crate) fn start(self, programs: &Path, home: &Path) -> Vec<String> {
        let words: &[&str] = match self {
            Self::Claude => &["--session-id", CLAUDE_ID],
            Self::Codex => &["--no-daemon"],
            Self::OpenCode => &[],
            Self::Aider => return self.aider(programs, home),
        };
        self.line(programs, words)
    }

    /// The command line that goes on with a conversation.
    pub(crate) fn resume(self, programs: &Path, home: &Path, id: &str) -> Vec<String> {
        match self {
            Self::Claude => self.line(programs, &["--resume", id]),
            Self::Codex => self.line(programs, &["--no-daemon", "resume", id]),
            Self::OpenCode => self.line(programs, &["--session", id]),
            // It has no ids: the conversation is the history file.
            Self::Aider => self.aider(programs, home),
        }
    }

    fn line(self, programs: &Path, words: &[&str]) -> Vec<String> {
        let program = programs.join(self.name()).display().to_string();
        std::iter::once(program).chain(words.iter().map(|word| (*word).to_owned())).collect()
    }

    fn aider(self, programs: &Path, home: &Path) -> Vec<String> {
        let words = "--model openai/stub-model --no-show-model-warnings --no-check-update \
             --analytics-disable --no-gitignore --no-git --no-show-release-notes --yes-always \
             --map-tokens 0 --restore-chat-history";
        let mut line = self.line(programs, &words.split_whitespace().collect::<Vec<_>>());
        let at = |name: &str| home.join(name).display().to_string();
        line.extend(["--chat-history-file".into(), at("history.md")]);
        line.extend(["--input-history-file".into(), at("input")]);
        line
    }

    /// Whether its screen says that it takes a prompt.
    pub(crate) fn is_ready(self, screen: &str) -> bool {
        match self {
            Self::Claude => screen.contains("? for shortcuts"),
            Self::Codex => screen.contains("Ask Codex to do anything"),
            Self::OpenCode => screen.contains("ctrl+p commands"),
            Self::Aider => screen.lines().rfind(|line| !line.trim().is_empty()) == Some(">"),
        }
    }

    /// Whether the screen of a resumed agent shows that it has its conversation.
    pub(crate) fn is_restored(self, screen: &str, answer: &str) -> bool {
        match self {
            Self::Aider => screen.contains("Restored previous conversation history"),
            _ => screen.contains(answer),
        }
    }

    /// Whether what the agent keeps of its conversations in a home holds a text.
    ///
    /// Each writes a turn down a moment after it is said and shown; until then a kill loses it.
    pub(crate) fn has_written(self, home: &Path, text: &str) -> Result<bool> {
        let files = match self {
            Self::Claude => files_below(&home.join(".claude/projects"), "jsonl")?,
            Self::Codex => files_below(&home.join(".codex/sessions"), "jsonl")?,
            // A database, and what is not yet in it: neither packs its text.
            Self::OpenCode => ["opencode.db", "opencode.db-wal"]
                .map(|name| home.join(".local/share/opencode").join(name))
                .to_vec(),
            Self::Aider => vec![home.join("history.md")],
        };
        let holds = |file: &PathBuf| -> Result<bool> {
            let bytes = fs::read(file).with_context(|| format!("no {}", file.display()))?;
            Ok(bytes.windows(text.len()).any(|window| window == text.as_bytes()))
        };
        files.iter().map(holds).try_fold(false, |any, one| Ok(any | one?))
    }

    /// What the last line of a turn holds, where one follows the answer: without it the answer itself was
    /// once missing from what claude resumed.
    pub(crate) const fn turn_end(self) -> Option<&'static str> {
        match self {
            Self::Claude => Some("\"turn_duration\""),
            _ => None,
        }
    }

    /// The conversation's id, as the agent has left it on the disk: what a keeper would go by.
    pub(crate) fn conversation(self, programs: &Path, home: &Path) -> Result<String> {
        match self {
            Self::Claude => {
                // Its folder's name is the work folder's path with a dash for all but letters.
                let transcripts = files_below(&home.join(".claude/projects"), "jsonl")?;
                only(&transcripts)?.file_stem().map(|id| id.to_string_lossy().into_owned())
            }
            Self::Codex => {
                let rollouts = files_below(&home.join(".codex/sessions"), "jsonl")?;
                let text = fs::read_to_string(only(&rollouts)?)?;
                let first: Value = serde_json::from_str(text.lines().next().unwrap_or_default())?;
                first.pointer("/payload/id").and_then(Value::as_str).map(str::to_owned)
            }
            Self::OpenCode => {
                let mut command = Command::new("env");
                command.args(["-i", "PATH=/usr/bin:/bin"]).arg(format!("HOME={}", home.display()));
                command.arg(programs.join("opencode"));
                command
                    .args(["session", "list", "--format", "json"])
                    .current_dir(home.join("work"));
                let text = process::run(command, b"", process::PATIENCE)?.ok()?;
                let list: Vec<Value> = serde_json::from_str(&text).context("opencode's list")?;
                ensure!(list.len() == 1, "not one conversation: {text}");
                list.first().and_then(|one| one.get("id")?.as_str()).map(str::to_owned)
            }
            Self::Aider => return Ok(String::new()),
        }
        .ok_or_else(|| anyhow!("{} left no conversation behind", self.name()))
    }
}

fn only(files: &[PathBuf]) -> Result<&PathBuf> {
    ensure!(files.len() == 1, "not one conversation: {files:?}");
    files.first().context("no conversation")
}

fn files_below(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files_below(&path, extension)?);
        } else if path.extension().is_some_and(|its| its == extension) {
            found.push(path);
        }
    }
    Ok(found)
}
