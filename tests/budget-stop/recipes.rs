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
const CHECKS: &str = "guppy-budget-stop-checks";

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
    just_with(account, lambda, &[], arguments)
}

/// The same, with some of its environment changed.
fn just_with(
    account: &Account,
    lambda: &str,
    change: &[(&str, &str)],
    arguments: &[&str],
) -> Result<Output> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let programs = tools::folder()?.join("venv/bin");
    let mut command = Command::new(programs.join("just"));
    command
        .arg("--justfile")
        .arg(root.join("packaging/justfile"))
        .args(arguments)
        .envs(account.environment())
        .env("AWS_ENDPOINT_URL_LAMBDA", format!("http://{lambda}"))
        .env("PATH", format!("{}:{}", programs.display(), std::env::var("PATH")?))
        .envs(change.iter().copied());
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
        let shell = format!("email=$(touch {}; echo x@y)", account.place.join("ran").display());
        for (settings, wanted) in [
            (&["cap=200"][..], "say both"),
            (&["email=you@example.com"], "say both"),
            (&["cap=200", "mail=x"], "'mail=x' is no setting"),
            (&["cap=0"], "cap is '0': say a number of dollars"),
            (&["cap=-5"], "cap is '-5': say"),
            (&["cap=abc"], "cap is 'abc': say"),
            (&["cap=1,000"], "cap is '1,000': say"),
            (&["cap=$200"], "cap is '$200': say"),
            (&["email=you and me@example.com"], "email is 'you and me@example.com': say one"),
            (&["email=o'brien"], "email is 'o'brien': say one"),
            (&["email=*"], "email is '*': say one"),
            (&[&shell], "say one address"),
            (&["override=yes"], "override is 'yes': say true or false"),
            (&["days=10"], "days is '10': say 7, 14"),
        ] {
            let arguments = [&["budget-deploy"], settings].concat();
            let said = just(&account, nobody, &arguments)?;
            ensure!(said.status == 2 && said.stderr.contains(wanted), "{settings:?}: {said:?}");
        }
        ensure!(!account.place.join("ran").exists(), "a setting was run as a command");
        Ok(())
    });
}

#[test]
fn the_recipes_say_what_is_missing_and_the_remedy() {
    scenario(|| {
        let account = Account::new()?;
        let no_region =
            [("AWS_REGION", ""), ("AWS_DEFAULT_REGION", ""), ("AWS_CONFIG_FILE", "/dev/null")];
        let no_keys = [
            ("AWS_ACCESS_KEY_ID", ""),
            ("AWS_SECRET_ACCESS_KEY", ""),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ];
        for (change, status, wanted) in [
            (&no_region[..], 1, "no region is set: say aws configure"),
            (&no_keys, 1, "Unable to locate credentials"),
            (&[("GUPPY_STACK", "Team_B")], 2, "GUPPY_STACK is 'Team_B': say"),
            (&[("GUPPY_STACK", "")], 2, "GUPPY_STACK is '': say"),
        ] {
            // Both settings: what is refused here is refused before anything is built.
            let deploy = ["budget-deploy", "cap=200", "email=you@example.com"];
            for recipe in [&deploy[..], &["budget-drill"], &["budget-status"]] {
                let address = account.proxy.url.trim_start_matches("http://");
                let said = just_with(&account, address, change, recipe)?;
                let right = said.status == status && said.stderr.contains(wanted);
                ensure!(right && said.stdout.is_empty(), "{recipe:?} {change:?}: {said:?}");
            }
        }
        // The first version of the CLI reads another name of the region than the second.
        let other = [("AWS_REGION", "eu-west-1"), ("AWS_DEFAULT_REGION", "")];
        for recipe in ["budget-drill", "budget-status"] {
            let address = account.proxy.url.trim_start_matches("http://");
            let said = just_with(&account, address, &other, &[recipe])?;
            let wanted = "is guppy-budget-stop deployed in eu-west-1?";
            ensure!(said.status == 1 && said.stderr.contains(wanted), "{recipe}: {said:?}");
        }
        Ok(())
    });
}

/// Who has a bucket of the name that is to come could put another program into it.
#[test]
fn nothing_is_deployed_through_somebody_elses_bucket() {
    scenario(|| {
        let account = Account::new()?;
        account.proxy.faults().foreign_buckets = true;
        let deploy = ["budget-deploy", "cap=200", "email=you@example.com"];
        let said = just(&account, "127.0.0.1:9", &deploy)?;
        ensure!(said.status != 0 && said.stderr.contains("BucketAlreadyExists"), "{said:?}");
        let calls = account.proxy.calls();
        ensure!(!calls.iter().any(|call| call.action == "CreateChangeSet"), "{calls:?}");
        Ok(())
    });
}

/// AWS's CLI.
fn aws(account: &Account, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(tools::folder()?.join("venv/bin/aws"));
    command.args(arguments).envs(account.environment());
    process::run(command, b"", LONG)?.ok()
}

/// The template's stack, with the function for amd64: `just budget-deploy` builds it for arm64.
fn stack(account: &Account) -> Result<()> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let template = fs::read_to_string(root.join("lambda/budget-stop/template.yaml"))?;
    let built = "../../target/lambda/budget-stop-arm64.zip";
    ensure!(template.contains(built), "the template names no {built}");
    let zip = program("amd64")?.with_file_name("../budget-stop-amd64.zip");
    let template = template.replace(built, &zip.display().to_string());
    let (from, to) = (account.place.join("template.yaml"), account.place.join("packaged.yaml"));
    fs::write(&from, template)?;
    let (from, to) = (from.display().to_string(), to.display().to_string());
    aws(account, &["s3api", "create-bucket", "--bucket", STACK])?;
    let package = ["cloudformation", "package", "--template-file", &from, "--s3-bucket", STACK];
    aws(account, &[&package[..], &["--output-template-file", &to]].concat())?;
    let deploy = ["cloudformation", "deploy", "--template-file", &to, "--stack-name", STACK];
    let settings = ["--parameter-overrides", "Cap=200", "Email=you@example.com"];
    aws(account, &[&deploy[..], &["--capabilities", "CAPABILITY_IAM"], &settings].concat())?;
    Ok(())
}

#[test]
fn just_budget_status_tells_what_is_and_what_is_missing() {
    scenario(|| {
        let account = Account::new()?;
        account.spent("199.5");
        stack(&account)?;
        let watch = Watch::start(&account)?;
        let status = || just(&account, &watch.address, &["budget-status"]);
        // moto's CloudFormation knows neither schedules nor alarms. What cannot be read is no success.
        let said = status()?;
        ensure!(said.status == 1 && said.stderr.contains("GetSchedule"), "{said:?}");
        let said = said.stdout;
        for line in [
            "cost       199.5 of 200 USD",
            "last check NONE in two hours",
            "schedule   UNKNOWN",
            "alarm      guppy-budget-stop-errors: MISSING",
            "alarm      guppy-budget-stop-failures: MISSING",
            "alarm      guppy-budget-stop-undelivered: MISSING",
            "alarm      guppy-budget-stop-checks: MISSING",
            "mail       you@example.com",
        ] {
            ensure!(said.lines().any(|one| one == line), "{line:?} is not in {said}");
        }
        account.spent("200");
        account.proxy.faults().unconfirmed = true;
        let target = "Arn=arn:aws:lambda:us-east-1:1:function:f,RoleArn=arn:aws:iam::1:role/r";
        let create = ["scheduler", "create-schedule", "--name", STACK, "--target", target];
        let times = ["--schedule-expression", "rate(1 hour)", "--flexible-time-window", "Mode=OFF"];
        aws(&account, &[&create[..], &times, &["--state", "DISABLED"]].concat())?;
        let alarm = ["cloudwatch", "put-metric-alarm", "--alarm-name", CHECKS];
        let rule = "--metric-name m --namespace n --statistic Sum --period 900 --threshold 1 \
            --evaluation-periods 4 --comparison-operator LessThanThreshold";
        let rule: Vec<&str> = rule.split_whitespace().collect();
        aws(&account, &[&alarm[..], &rule].concat())?;
        let state = ["set-alarm-state", "--state-value", "ALARM", "--state-reason", "nothing ran"];
        aws(&account, &[&["cloudwatch"], &state[..], &["--alarm-name", CHECKS]].concat())?;
        let group = ["--log-group-name", "/aws/lambda/guppy-budget-stop", "--log-stream-name", "s"];
        aws(&account, &[&["logs", "create-log-stream"], &group[..]].concat())?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis();
        let event = |age: u128, text: &str| format!("timestamp={},message={text}", now - age);
        let (old, new) = (event(600_000, "scheduled check done"), event(1_000, "a drill"));
        let put = ["logs", "put-log-events", "--log-events", &old, &new];
        aws(&account, &[&put[..], &group].concat())?;
        let said = status()?.ok()?;
        for line in [
            "cost       200 of 200 USD: the cap is REACHED",
            "schedule   DISABLED",
            "alarm      guppy-budget-stop-checks: ALARM",
            "mail       you@example.com: NOT CONFIRMED, look for the mail from AWS",
        ] {
            ensure!(said.lines().any(|one| one == line), "{line:?} is not in {said}");
        }
        let checked = u64::try_from((now - 600_000) / 1000)?;
        let date = ["-u", "-d", &format!("@{checked}"), "+last check %F %T UTC\n"];
        let mut command = Command::new("date");
        command.args(date);
        let date = process::run(command, b"", LONG)?.ok()?;
        ensure!(said.contains(date.trim_end()), "{date:?} is not in {said}");
        // A function that fails keeps nothing else from being told.
        account.proxy.faults().broken_services.insert("budgets");
        let said = status()?;
        ensure!(said.status == 1, "{said:?}");
        for line in ["cost       UNKNOWN", "schedule   DISABLED"] {
            ensure!(said.stdout.lines().any(|one| one == line), "{line:?} is not in {said:?}");
        }
        Ok(())
    });
}

#[test]
#[ignore = "its build takes minutes: tests/run lambda has it"]
fn just_budget_deploy_makes_the_stack_and_raises_its_cap() {
    scenario(|| {
        let account = Account::new()?;
        let nobody = "127.0.0.1:9";
        let first = ["budget-deploy", "cap=200", "email=you@example.com"];
        just(&account, nobody, &first)?.ok()?;
        let settings = || {
            let ask = ["cloudformation", "describe-stacks", "--stack-name", STACK];
            let said = aws(&account, &[&ask[..], &["--query", "Stacks[0].Parameters"]].concat())?;
            let said: Vec<serde_json::Value> = serde_json::from_str(&said)?;
            let pair = |one: &serde_json::Value| {
                format!("{}={}", one["ParameterKey"], one["ParameterValue"]).replace('"', "")
            };
            Ok::<_, anyhow::Error>(said.iter().map(pair).collect::<Vec<_>>().join(" "))
        };
        let wanted = "Cap=200 Email=you@example.com OverrideStopProtection=false LogDays=90";
        let found = settings()?;
        ensure!(found == wanted, "{found}");
        // What is deployed is what was built.
        let ask = ["lambda", "get-function", "--function-name", STACK, "--output", "text"];
        let query = ["--query", "Configuration.[Runtime,Handler,CodeSha256]"];
        let found = aws(&account, &[&ask[..], &query].concat())?;
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let zip = root.join("target/lambda/budget-stop-arm64.zip");
        let mut sum = Command::new("bash");
        sum.args(["-c", "openssl dgst -sha256 -binary \"$1\" | base64", "sum"]).arg(zip);
        let sum = process::run(sum, b"", LONG)?.ok()?;
        let built = format!("provided.al2023\tbootstrap\t{}", sum.trim_end());
        ensure!(found.trim_end() == built, "{found} is not {built}");
        just(&account, nobody, &["budget-deploy", "cap=300"])?.ok()?;
        let found = settings()?;
        ensure!(found == wanted.replace("200", "300"), "{found}");
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
