//! What AWS does and moto does not, each as AWS documents it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::http::Message;

/// Codes and texts of EC2 are from
/// <https://docs.aws.amazon.com/ec2/latest/devguide/errors-overview.html> where nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Poison {
    /// DisableApiStop.
    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_StopProtection.html>
    Protected,
    /// A one-time Spot request's instance.
    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/stop-spot-instances.html>
    OneTimeSpot,
    /// Its root is an instance store.
    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Stop_Start.html>
    InstanceStore,
    /// Terminated after it was listed, and forgotten.
    Gone,
    /// Terminated after it was listed, and still shutting down.
    Ending,
    /// Still starting, for so many more calls.
    Pending(u32),
    /// Somebody has changed its tag after it was listed: the role's policy refuses.
    Retagged,
    /// A call that it is in is throttled, so many times.
    /// <https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html>
    Throttled(u32),
    /// A call that it is in fails within AWS, so many times.
    Broken(u32),
    /// A call that it is in is done, but its answer breaks off, so many times.
    Truncated(u32),
    /// Launched for hibernation, and not ready for it.
    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/troubleshoot-instance-hibernate.html>
    Unhibernatable,
}

/// What a region does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Region {
    /// It is not enabled for the account, as somebody has it since it was listed.
    /// <https://docs.aws.amazon.com/accounts/latest/reference/manage-acct-regions.html>
    Refuses,
    /// It takes requests and never answers.
    Hangs,
    /// It answers after this long.
    Slow(Duration),
}

/// All faults of an account.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) instances: HashMap<String, Poison>,
    pub(crate) regions: HashMap<String, Region>,
    /// Services that answer 500 to everything.
    pub(crate) broken_services: HashSet<&'static str>,
    /// What AWS Budgets says the month has cost: amount and unit. moto always says 0.
    pub(crate) spend: Option<(String, String)>,
    /// AWS Budgets has no cost yet, as for a new budget: the field is not required.
    /// <https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/API_budgets_Budget.html>
    pub(crate) no_cost: bool,
    /// How many reservations a page has, however many are asked for, and an empty one before the
    /// first: "an API call can return an empty page with a token".
    /// <https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-pagination.html>
    pub(crate) page: Option<u32>,
    /// Whether every page but the first fails within AWS.
    pub(crate) one_page: bool,
    /// Actions that are taken and never answered.
    pub(crate) hanging_actions: HashSet<&'static str>,
    /// Actions that fail within AWS, so many times.
    pub(crate) broken_actions: HashMap<&'static str, u32>,
    /// Whether every bucket is somebody else's, who lets others write to it.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html>
    pub(crate) foreign_buckets: bool,
    /// Whether a group starts a tagged instance just before it is suspended.
    pub(crate) late_launch: bool,
    /// Nobody has confirmed an address yet. moto takes every one for confirmed.
    /// <https://docs.aws.amazon.com/sns/latest/api/API_ListSubscriptionsByTopic.html>
    pub(crate) unconfirmed: bool,
    /// Before every answer: the way to a region.
    pub(crate) latency: Duration,
}

/// What is to be answered to a call of StopInstances; moto's own answer if nothing.
pub(crate) enum Verdict {
    Error {
        status: u16,
        code: &'static str,
        text: String,
    },
    /// moto's, cut in half.
    Half,
    /// What it was about is terminated first.
    EndFirst {
        id: String,
        status: u16,
        code: &'static str,
        text: String,
    },
}

impl Faults {
    /// The first instance of a call that AWS would refuse, since it takes all or none.
    pub(crate) fn stop(&mut self, ids: &[String], hibernate: bool, dry: bool) -> Option<Verdict> {
        let refused = |code, text: String| Some(Verdict::Error { status: 400, code, text });
        let mut broken_off = None;
        for id in ids {
            let Some(poison) = self.instances.get_mut(id) else { continue };
            match poison {
                Poison::Retagged => {
                    return Some(Verdict::Error {
                        status: 403,
                        code: "UnauthorizedOperation",
                        text: "You are not authorized to perform this operation.".into(),
                    });
                }
                // With DryRun, AWS looks at permissions alone.
                _ if dry => {}
                Poison::Protected => {
                    return refused(
                        "OperationNotPermitted",
                        format!(
                            "The instance '{id}' may not be stopped. Modify its 'disableApiStop' instance attribute and try again."
                        ),
                    );
                }
                Poison::OneTimeSpot => {
                    return refused(
                        "UnsupportedOperation",
                        format!(
                            "You can't stop the Spot Instance '{id}' because it is associated with a one-time Spot Instance request. You can only stop Spot Instances associated with persistent Spot Instance requests."
                        ),
                    );
                }
                Poison::InstanceStore => {
                    return refused(
                        "UnsupportedOperation",
                        format!(
                            "The instance '{id}' does not have an 'ebs' root device type and cannot be stopped"
                        ),
                    );
                }
                Poison::Gone => {
                    return Some(Verdict::EndFirst {
                        id: id.clone(),
                        status: 400,
                        code: "InvalidInstanceID.NotFound",
                        text: format!("The instance ID '{id}' does not exist"),
                    });
                }
                Poison::Ending => {
                    return Some(Verdict::EndFirst {
                        id: id.clone(),
                        status: 400,
                        code: "IncorrectInstanceState",
                        text: not_in_a_state(id),
                    });
                }
                Poison::Pending(left) if *left > 0 => {
                    // A whole call may be about several that are starting: time passes for the one.
                    *left -= u32::from(ids.len() == 1);
                    return refused("IncorrectInstanceState", not_in_a_state(id));
                }
                Poison::Throttled(left) if *left > 0 => {
                    *left -= 1;
                    return Some(Verdict::Error {
                        status: 503,
                        code: "RequestLimitExceeded",
                        text: "Request limit exceeded.".into(),
                    });
                }
                Poison::Broken(left) if *left > 0 => {
                    *left -= 1;
                    return Some(Verdict::Error {
                        status: 500,
                        code: "InternalError",
                        text: "An internal error has occurred".into(),
                    });
                }
                // Only of a call that none of its instances keeps from being carried out.
                Poison::Truncated(left) if *left > 0 => broken_off = Some(id),
                Poison::Unhibernatable if hibernate => {
                    return refused(
                        "UnsupportedOperation",
                        "The instance is not ready to hibernate yet, retry in a few minutes."
                            .into(),
                    );
                }
                _ => {}
            }
        }
        if let Some(Poison::Truncated(left)) = self.instances.get_mut(broken_off?) {
            *left -= 1;
        }
        Some(Verdict::Half)
    }

    /// What moto's listing lacks of the poisoned ones.
    pub(crate) fn listed(&self, mut xml: String) -> String {
        const ID: &str = "<instanceId>";
        let places: Vec<(usize, Poison)> = xml
            .match_indices(ID)
            .filter_map(|(at, _)| {
                let id = xml.get(at + ID.len()..)?.split('<').next()?;
                self.instances.get(id).map(|poison| (at, *poison))
            })
            .collect();
        // From the end, so that places stay where they are.
        for (at, poison) in places.into_iter().rev() {
            match poison {
                Poison::OneTimeSpot => {
                    xml.insert_str(at, "<instanceLifecycle>spot</instanceLifecycle>");
                }
                Poison::InstanceStore => replace_before(
                    &mut xml,
                    at,
                    "<rootDeviceType>ebs<",
                    "<rootDeviceType>instance-store<",
                ),
                Poison::Unhibernatable => replace_before(
                    &mut xml,
                    at,
                    "<hibernationOptions/>",
                    "<hibernationOptions><configured>true</configured></hibernationOptions>",
                ),
                Poison::Pending(left) if left > 0 => {
                    let running = "<code>16</code><name>running<";
                    let state = xml.get(at..).and_then(|rest| rest.find(running));
                    if let Some(start) = state.map(|after| at + after) {
                        let end = start + running.len();
                        xml.replace_range(start..end, "<code>0</code><name>pending<");
                    }
                }
                _ => {}
            }
        }
        xml
    }
}

fn not_in_a_state(id: &str) -> String {
    format!("This instance '{id}' is not in a state from which it can be stopped.")
}

/// Replaces the last `from` before a place.
fn replace_before(xml: &mut String, at: usize, from: &str, to: &str) {
    if let Some(start) = xml.get(..at).and_then(|before| before.rfind(from)) {
        xml.replace_range(start..start + from.len(), to);
    }
}

/// EC2's form of an error.
pub(crate) fn ec2_error(status: u16, code: &str, text: &str) -> Message {
    let text = text.replace('<', "&lt;");
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><Errors><Error><Code>{code}</Code><Message>{text}</Message></Error></Errors><RequestID>1</RequestID></Response>"
    );
    Message::reply(status, "text/xml", body)
}

/// The form of an error of Auto Scaling and SNS.
pub(crate) fn query_error(status: u16, code: &str, text: &str) -> Message {
    let body = format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{text}</Message></Error><RequestId>1</RequestId></ErrorResponse>"
    );
    Message::reply(status, "text/xml", body)
}

/// The form of an error of Budgets and tagging.
pub(crate) fn json_error(status: u16, code: &str, text: &str) -> Message {
    let body = serde_json::json!({ "__type": code, "message": text }).to_string();
    Message::reply(status, "application/x-amz-json-1.1", body)
}
