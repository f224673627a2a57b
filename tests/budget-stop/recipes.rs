//! The recipes as a person says them, and cargo-lambda's stand-in for Lambda.

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::process::{self, Output, Spawned};
use lab::{scenario, wait};
use serde_json::json;

use crate::account::Account;
use crate::lambda::{Function, program};
use crate::tools;

const LONG: Duration = Duration::from_secs(300);
const STACK: &str = "guppy-budget-stop";

/// cargo lambda watch, and the function asking it for events.
struct Watch {
    address: String,
    _server: Spawned,
    _function: Spawned,
}

impl Watch {
    fn start(account: &Account) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        // It wants a package to watch, and builds nothing of it.
        let package = format!("[package]\nname = \"{STACK}\"\nedition = \"2024\"\n[workspace]\n");
        fs::write(account.place.join("Cargo.toml"), package)?;
        fs::create_dir_all(account.place.join("src"))?;
        fs::write(account.place.join("src/main.rs"), "fn main() {}\n")?;
        let mut server = Command::new(tools::folder()?.join("venv/bin/cargo-lambda"));
        server
            .args(["lambda", "watch", "--only-lambda-apis", "--invoke-address", "127.0.0.1"])
            .args(["--invoke-port", &port.to_string()])
            .current_dir(&account.place)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut server = Spawned::start(&mut server)?;
        wait::until_true("cargo lambda watch to answer", LONG, || {
            if let Some(code) = server.ended()? {
                anyhow::bail!("cargo lambda watch ended with {code}");
            }
            Ok(std::net::TcpStream::connect(&address).is_ok())
        })?;
        let mut function = Command::new(program("amd64")?);
        function
            .env_clear()
            // With the scheme: bare, it has no path.
            .env("AWS_LAMBDA_RUNTIME_API", format!("http://{address}/.rt/{STACK}"))
            .env("AWS_LAMBDA_FUNCTION_NAME", STACK)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .envs(account.environment())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let function = Spawned::start(&mut function)?;
        Ok(Self { address, _server: server, _function: function })
    }
}

/// Says a recipe; the CLI's calls of Lambda go to `lambda`, all others to the account.
fn just(account: &Account, lambda: &str, arguments: &[&str]) -> Result<Output> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let programs = tools::folder()?.join("venv/bin");
    let mut command = Command::new(programs.join("just"));
    command
        .arg("--justfile")
        .arg(root.join("packaging/justfile"))
        .args(arguments)
        .envs(account.environment())
        .env("AWS_ENDPOINT_URL_LAMBDA", format!("http://{lambda}"))
        .env("PATH", format!("{}:{}", programs.display(), std::env::var("PATH")?));
    process::run(command, b"", LONG)
}

#[test]
fn just_budget_drill_prints_what_would_stop() {
    scenario(|| {
        let account = Account::new()?;
        account.spent("12.5");
        let ids = account.run_tagged("us-east-1", 2)?;
        let watch = Watch::start(&account)?;
        let said = just(&account, &watch.address, &["budget-drill"])?.ok()?;
        ensure!(said.starts_with("A drill: nothing was stopped."), "{said}");
        ensure!(ids.iter().all(|id| said.contains(id.as_str())), "{said}");
        ensure!(account.in_state(&["us-east-1"], &ids, "running")? == ids, "it stopped something");
        Ok(())
    });
}

#[test]
fn just_budget_deploy_says_what_it_wants() {
    scenario(|| {
        let account = Account::new()?;
        account.spent("203.5");
        let nobody = "127.0.0.1:9";
        let said = just(&account, nobody, &["budget-deploy", "cap=200"])?;
        ensure!(said.status == 2 && said.stderr.contains("say both"), "{said:?}");
        let said = just(&account, nobody, &["budget-deploy", "cap=200", "mail=x"])?;
        ensure!(said.status == 2 && said.stderr.contains("'mail=x' is no setting"), "{said:?}");
        Ok(())
    });
}

/// Lambda's processors are of arm64: emulated here.
#[test]
#[ignore = "its build takes minutes: tests/run lambda has it"]
fn the_program_for_arm64_asks_for_events() {
    scenario(|| {
        let account = Account::new()?;
        account.spent("203.5");
        let mut command = Command::new("qemu-aarch64-static");
        command.args(["-L", "/usr/aarch64-linux-gnu"]).arg(program("arm64")?);
        let mut function = Function::start_program(&account, command, &[])?;
        function.first_poll(LONG)?;
        let answer = function.invoke(&json!({ "action": "status" }), LONG)?.done()?;
        ensure!(answer["spend"] == 203.5, "{answer}");
        Ok(())
    });
}

/// What the stand-in says for a deadline is in 1970: the configured timeout counts.
#[test]
fn it_runs_under_cargo_lambda_watch() {
    scenario(|| {
        let account = Account::new()?;
        account.spent("200");
        let ids = account.run_tagged("us-east-1", 1)?;
        let watch = Watch::start(&account)?;
        let request = crate::http::Message {
            start: format!("POST /2015-03-31/functions/{STACK}/invocations HTTP/1.1"),
            headers: vec![("host".into(), watch.address.clone())],
            body: json!({ "action": "check" }).to_string().into_bytes(),
        };
        let reply = crate::http::ask(&watch.address, &request)?;
        let answer: serde_json::Value = serde_json::from_slice(&reply.body)
            .with_context(|| format!("{} {}", reply.status(), reply.text()))?;
        ensure!(answer["stopped"] == 1, "{answer}");
        ensure!(account.in_state(&["us-east-1"], &ids, "stopped")? == ids, "it runs on");
        Ok(())
    });
}
