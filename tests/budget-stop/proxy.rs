//! The fault proxy: between the function and moto, it adds what AWS does and moto does not, and
//! writes down every call.

use std::io::BufReader;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::account::{REGIONS, TAG, all_between};
use crate::faults::{Faults, Region, Verdict, ec2_error, json_error, query_error};
use crate::http::{self, Message};
use crate::moto::{Moto, escaped, fields};

/// One call, as it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) service: String,
    pub(crate) region: String,
    pub(crate) action: String,
    /// The instances it was about.
    pub(crate) ids: Vec<String>,
}

/// A message that SNS took.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    pub(crate) topic: String,
    pub(crate) subject: String,
    pub(crate) text: String,
}

#[derive(Debug, Default)]
struct Seen {
    calls: Vec<Call>,
    published: Vec<Published>,
}

/// A proxy for one account. It serves until the process ends.
#[derive(Debug, Clone)]
pub(crate) struct Proxy {
    pub(crate) url: String,
    faults: Arc<Mutex<Faults>>,
    seen: Arc<Mutex<Seen>>,
}

impl Proxy {
    pub(crate) fn start(moto: &Moto) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no port for the proxy")?;
        let url = format!("http://{}", listener.local_addr()?);
        let proxy = Self { url, faults: Arc::default(), seen: Arc::default() };
        let (serving, moto) = (proxy.clone(), moto.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (serving, moto) = (serving.clone(), moto.clone());
                // A connection that breaks off is the other side's matter.
                thread::spawn(move || serving.serve(stream, &moto));
            }
        });
        Ok(proxy)
    }

    /// The faults, to be changed at any time.
    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All calls so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.seen().calls.clone()
    }

    /// How many calls of an action there were.
    pub(crate) fn count(&self, action: &str) -> usize {
        self.seen().calls.iter().filter(|call| call.action == action).count()
    }

    /// All messages so far.
    pub(crate) fn published(&self) -> Vec<Published> {
        self.seen().published.clone()
    }

    fn serve(&self, stream: TcpStream, moto: &Moto) -> Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        while let Some(request) = http::read(&mut reader)? {
            let reply = self.answer(&request, moto)?;
            match reply {
                Reply::Whole(reply) => http::write(&stream, &reply)?,
                Reply::Half(reply) => return half(&stream, &reply),
                Reply::Never => {
                    // Until the other side gives up.
                    http::read(&mut reader)?;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn answer(&self, request: &Message, moto: &Moto) -> Result<Reply> {
        let call = call_of(request);
        let (latency, region, broken) = {
            let mut faults = self.faults();
            let mut broken = faults.broken_services.contains(call.service.as_str());
            if let Some(left) = faults.broken_actions.get_mut(call.action.as_str()) {
                broken |= *left > 0;
                *left = left.saturating_sub(1);
            }
            (faults.latency, faults.regions.get(&call.region).copied(), broken)
        };
        self.seen().calls.push(call.clone());
        thread::sleep(latency);
        if broken {
            return Ok(Reply::Whole(error_of(&call.service, 500, "InternalFailure", "broken")));
        }
        let owner = request.header("x-amz-expected-bucket-owner");
        if call.service == "s3" && self.faults().foreign_buckets {
            let bucket = !request.path().trim_matches('/').contains('/');
            return Ok(Reply::Whole(match request.method() {
                "HEAD" if owner.is_some() => Message::reply(403, "application/xml", ""),
                "PUT" if bucket => query_error(409, "BucketAlreadyExists", "It is not available"),
                _ => Message::reply(200, "application/xml", ""),
            }));
        }
        if self.faults().hanging_actions.contains(call.action.as_str()) {
            return Ok(Reply::Never);
        }
        match region {
            Some(Region::Hangs) => return Ok(Reply::Never),
            Some(Region::Slow(time)) => thread::sleep(time),
            Some(Region::Refuses) => {
                let text = "AWS was not able to validate the provided access credentials";
                return Ok(Reply::Whole(error_of(&call.service, 401, "AuthFailure", text)));
            }
            None => {}
        }
        match call.action.as_str() {
            "StopInstances" => self.stop(request, &call, moto),
            "DescribeInstances" => self.listing(request, moto),
            "SuspendProcesses" => {
                if std::mem::take(&mut self.faults().late_launch) {
                    let tag = "TagSpecification.1.Tag.1";
                    let (key, value) = (format!("{tag}.Key"), format!("{tag}.Value"));
                    let form = [
                        ("Action", "RunInstances"),
                        ("ImageId", "ami-12c6146b"),
                        ("MinCount", "1"),
                        ("MaxCount", "1"),
                        ("TagSpecification.1.ResourceType", "instance"),
                        (key.as_str(), TAG.0),
                        (value.as_str(), TAG.1),
                    ];
                    moto.query("ec2", &call.region, &form)?;
                }
                Ok(Reply::Whole(moto.pass_on(request)?))
            }
            "ModifyInstanceAttribute" => {
                let reply = moto.pass_on(request)?;
                for id in &call.ids {
                    self.faults().instances.remove(id);
                }
                Ok(Reply::Whole(reply))
            }
            "DescribeBudget" => self.budget(request, moto),
            "DescribeRegions" => Ok(Reply::Whole(regions())),
            "Publish" => {
                let reply = moto.pass_on(request)?;
                if reply.status() == 200 {
                    self.seen().published.push(published(request));
                }
                Ok(Reply::Whole(reply))
            }
            "ListSubscriptionsByTopic" if self.faults().unconfirmed => {
                let mut reply = moto.pass_on(request)?;
                let mut body = reply.text();
                for arn in all_between(&body, "<SubscriptionArn>", "</SubscriptionArn>") {
                    body = body.replace(&arn, "PendingConfirmation");
                }
                reply.body = body.into_bytes();
                Ok(Reply::Whole(reply))
            }
            _ => Ok(Reply::Whole(moto.pass_on(request)?)),
        }
    }

    fn stop(&self, request: &Message, call: &Call, moto: &Moto) -> Result<Reply> {
        let form = fields(&request.text());
        let is = |name: &str| form.iter().any(|(key, value)| key == name && value == "true");
        let verdict = self.faults().stop(&call.ids, is("Hibernate"), is("DryRun"));
        Ok(match verdict {
            None => Reply::Whole(moto.pass_on(request)?),
            Some(Verdict::Half) => Reply::Half(moto.pass_on(request)?),
            Some(Verdict::Error { status, code, text }) => {
                Reply::Whole(ec2_error(status, code, &text))
            }
            Some(Verdict::EndFirst { id, status, code, text }) => {
                let end = [("Action", "TerminateInstances"), ("InstanceId.1", id.as_str())];
                moto.query("ec2", &call.region, &end)?;
                Reply::Whole(ec2_error(status, code, &text))
            }
        })
    }

    fn listing(&self, request: &Message, moto: &Moto) -> Result<Reply> {
        const FIRST: &str = "after-the-empty-page";
        let page = self.faults().page;
        let mut request = request.clone();
        if let Some(page) = page {
            let mut form = fields(&request.text());
            let token = form.iter().position(|(name, _)| name == "NextToken");
            match token.map(|at| form.remove(at)) {
                None => {
                    let body = format!(
                        "<DescribeInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>1</requestId><reservationSet/><nextToken>{FIRST}</nextToken></DescribeInstancesResponse>"
                    );
                    return Ok(Reply::Whole(Message::reply(200, "text/xml", body)));
                }
                Some((_, token)) if token == FIRST => {}
                Some(_) if self.faults().one_page => {
                    return Ok(Reply::Whole(error_of("ec2", 500, "InternalError", "broken")));
                }
                Some(field) => form.push(field),
            }
            form.retain(|(name, _)| name != "MaxResults");
            form.push(("MaxResults".into(), page.to_string()));
            let fields: Vec<String> =
                form.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
            request.body = fields.join("&").into_bytes();
        }
        let mut reply = moto.pass_on(&request)?;
        reply.body = self.faults().listed(reply.text()).into_bytes();
        Ok(Reply::Whole(reply))
    }

    fn budget(&self, request: &Message, moto: &Moto) -> Result<Reply> {
        let mut reply = moto.pass_on(request)?;
        let spend = self.faults().spend.clone();
        if self.faults().no_cost {
            let mut body: Value = serde_json::from_slice(&reply.body)?;
            body["Budget"].as_object_mut().context("no budget")?.remove("CalculatedSpend");
            reply.body = body.to_string().into_bytes();
        } else if let Some((amount, unit)) = spend {
            let mut body: Value = serde_json::from_slice(&reply.body)?;
            body["Budget"]["CalculatedSpend"]["ActualSpend"] =
                serde_json::json!({ "Amount": amount, "Unit": unit });
            reply.body = body.to_string().into_bytes();
        }
        Ok(Reply::Whole(reply))
    }
}

enum Reply {
    Whole(Message),
    /// The connection ends in the middle of the body.
    Half(Message),
    Never,
}

fn half(mut stream: &TcpStream, reply: &Message) -> Result<()> {
    use std::io::Write as _;
    let length = reply.body.len();
    let head =
        format!("{}\r\ncontent-type: text/xml\r\ncontent-length: {length}\r\n\r\n", reply.start);
    stream.write_all(head.as_bytes())?;
    stream.write_all(reply.body.get(..length / 2).unwrap_or_default())?;
    Ok(())
}

/// moto says that every region is enabled, those of other partitions too. An account has these, and
/// with AllRegions also those that it has not opted in to.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeRegions.html>
fn regions() -> Message {
    let item = |name: &str, status: &str| {
        format!(
            "<item><regionName>{name}</regionName><regionEndpoint>ec2.{name}.amazonaws.com</regionEndpoint><optInStatus>{status}</optInStatus></item>"
        )
    };
    let enabled: String = REGIONS.iter().map(|name| item(name, "opt-in-not-required")).collect();
    let items = enabled + &item("af-south-1", "not-opted-in");
    let body = format!(
        "<DescribeRegionsResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>1</requestId><regionInfo>{items}</regionInfo></DescribeRegionsResponse>"
    );
    Message::reply(200, "text/xml", body)
}

/// Service and region are in the signature's scope, the action in the form or in a header.
fn call_of(request: &Message) -> Call {
    let scope = request.header("authorization").and_then(|value| value.split("Credential=").nth(1));
    let mut scope = scope.unwrap_or_default().split('/').skip(2);
    let (region, service) = (scope.next().unwrap_or_default(), scope.next().unwrap_or_default());
    let (mut action, mut ids) = (String::new(), Vec::new());
    if let Some(target) = request.header("x-amz-target") {
        action = target.rsplit('.').next().unwrap_or_default().to_owned();
    } else {
        for (name, value) in fields(&request.text()) {
            match name.as_str() {
                "Action" => action = value,
                name if name.starts_with("InstanceId") => ids.push(value),
                _ => {}
            }
        }
    }
    Call { service: service.into(), region: region.into(), action, ids }
}

fn published(request: &Message) -> Published {
    let form = fields(&request.text());
    let field = |name: &str| {
        let found = form.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    Published { topic: field("TopicArn"), subject: field("Subject"), text: field("Message") }
}

fn error_of(service: &str, status: u16, code: &str, text: &str) -> Message {
    match service {
        "ec2" => ec2_error(status, code, text),
        "budgets" | "tagging" => json_error(status, code, text),
        _ => query_error(status, code, text),
    }
}
