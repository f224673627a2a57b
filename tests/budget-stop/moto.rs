//! moto's server: AWS as far as it goes. One for all tests of a run, each with an account of its own.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use lab::wait;

use crate::http::{self, Message};
use crate::tools;

/// It imports half of PyPI when it starts, beside other tests.
const START_AT_MOST: Duration = Duration::from_secs(180);

/// Its address, started by whoever asks first.
pub(crate) fn address() -> Result<String> {
    static STARTED: OnceLock<Result<String, String>> = OnceLock::new();
    STARTED
        .get_or_init(|| start().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(|error| anyhow!(error))
}

fn start() -> Result<String> {
    // What it holds ends with this process, however that ends: then the shell reads its end.
    static LIFELINE: Mutex<Option<std::process::ChildStdin>> = Mutex::new(None);
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut shell = Command::new("bash")
        .arg("-c")
        .arg("\"$0\" -H 127.0.0.1 -p \"$1\" </dev/null & cat; kill $!")
        .arg(tools::folder()?.join("venv/bin/moto_server"))
        .arg(address.port().to_string())
        // Else it reads its list of images for each account and region anew.
        .env("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start moto's server")?;
    *LIFELINE.lock().map_err(|_| anyhow!("poisoned"))? = shell.stdin.take();
    let address = address.to_string();
    let ping = Message { start: "GET /moto-api/ HTTP/1.1".into(), ..Message::default() };
    wait::until_true("moto's server to answer", START_AT_MOST, || {
        if let Some(status) = shell.try_wait()? {
            anyhow::bail!("moto's server ended: {status}");
        }
        Ok(http::ask(&address, &ping).is_ok())
    })?;
    Ok(address)
}

/// Asks moto as an account in a region: a request without a signature, which it does not check.
#[derive(Debug, Clone)]
pub(crate) struct Moto {
    pub(crate) account: String,
    address: String,
}

impl Moto {
    /// An account with nothing in it.
    pub(crate) fn new(account: String) -> Result<Self> {
        Ok(Self { account, address: address()? })
    }

    /// Passes a request of somebody else's on, as this account's.
    pub(crate) fn pass_on(&self, request: &Message) -> Result<Message> {
        http::ask(&self.address, &request.clone().with("x-moto-account-id", &self.account))
    }

    /// A service of the query protocol: EC2, Auto Scaling, SNS.
    pub(crate) fn query(
        &self,
        service: &str,
        region: &str,
        parameters: &[(&str, &str)],
    ) -> Result<String> {
        let version = match service {
            "ec2" => "2016-11-15",
            "autoscaling" => "2011-01-01",
            _ => "2010-03-31",
        };
        let mut body = format!("Version={version}");
        for (name, value) in parameters {
            body.push_str(&format!("&{name}={}", escaped(value)));
        }
        let request = self.request(service, region);
        let request = request.with("content-type", "application/x-www-form-urlencoded");
        self.checked(Message { body: body.into_bytes(), ..request })
    }

    /// A service of the JSON protocol: Budgets, tagging.
    pub(crate) fn json(
        &self,
        service: &str,
        target: &str,
        body: &serde_json::Value,
    ) -> Result<String> {
        let request = self.request(service, "us-east-1").with("x-amz-target", target);
        let request = request.with("content-type", "application/x-amz-json-1.1");
        self.checked(Message { body: body.to_string().into_bytes(), ..request })
    }

    fn request(&self, service: &str, region: &str) -> Message {
        let scope = format!("Credential=AK/20261122/{region}/{service}/aws4_request");
        let request = Message { start: "POST / HTTP/1.1".into(), ..Message::default() };
        request.with("host", format!("{service}.{region}.amazonaws.com")).with(
            "authorization",
            format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0"),
        )
    }

    fn checked(&self, request: Message) -> Result<String> {
        let reply = self.pass_on(&request)?;
        ensure!(reply.status() == 200, "moto: {} {}", reply.status(), reply.text());
        Ok(reply.text())
    }
}

/// As a form has it.
pub(crate) fn escaped(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    value
        .bytes()
        .map(|byte| match byte {
            byte if plain(byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// A form's fields.
pub(crate) fn fields(form: &str) -> Vec<(String, String)> {
    form.split('&')
        .filter_map(|field| field.split_once('='))
        .map(|(name, value)| (unescaped(name), unescaped(value)))
        .collect()
}

fn unescaped(value: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        let digits = if byte == b'%' { rest.next().zip(rest.next()) } else { None };
        let decoded = digits.and_then(|(high, low)| {
            let text = [high, low];
            u8::from_str_radix(std::str::from_utf8(&text).ok()?, 16).ok()
        });
        bytes.push(decoded.unwrap_or(if byte == b'+' { b' ' } else { byte }));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
