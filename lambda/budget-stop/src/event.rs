//! What an event asks for.
//!
//! Who may send events at all is the template's matter. Here an event is at most a doorbell.

use anyhow::{Result, bail};
use aws_lambda_events::event::sns::SnsRecord;
use serde::Deserialize;
use serde_json::Value;
use tracing::info;

/// Minutes between two checks of the schedule in template.yaml.
pub const SCHEDULE_MINUTES: u32 = 15;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Ask AWS Budgets, and stop what there is if the cap is reached.
    Check {
        /// Who rang.
        from: Doorbell,
    },
    /// Say what a check would stop now, whatever the cost is, and stop nothing.
    Drill,
    /// Say cost and cap.
    Status,
    /// A message of a topic that has nothing to say here.
    Nothing,
}

/// Who made the function ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doorbell {
    /// The budget's topic.
    Budget,
    /// The schedule.
    Schedule {
        /// Whether it is the first of its UTC day: that one repeats what resists.
        ///
        /// Nothing is stored for this. EventBridge Scheduler puts the time for which a run was meant
        /// into the event, on a retry too, and the schedule is aligned to the hour, so exactly one
        /// run a day is meant for the day's first minutes.
        first_of_day: bool,
    },
    /// A person.
    Hand,
}

/// The function's own events: `{"action": "check" | "drill" | "status"}`.
#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "lowercase", deny_unknown_fields)]
enum Own {
    Check {
        /// When the schedule meant this run, e.g. 2026-11-22T00:15:00Z; a person leaves it out.
        #[serde(default)]
        scheduled: Option<String>,
    },
    Drill {},
    Status {},
}

/// Reads an event. `budget_topic` is the ARN of the only topic that is listened to.
///
/// Fails on what is neither a message of SNS nor one of the function's own events.
pub fn read(event: &Value, budget_topic: &str) -> Result<Ask> {
    if let Some(records) = event.get("Records").and_then(Value::as_array) {
        return Ok(of_records(records, budget_topic));
    }
    match Own::deserialize(event) {
        Ok(Own::Check { scheduled: None }) => Ok(Ask::Check { from: Doorbell::Hand }),
        Ok(Own::Check { scheduled: Some(time) }) => {
            Ok(Ask::Check { from: Doorbell::Schedule { first_of_day: is_first_of_day(&time) } })
        }
        Ok(Own::Drill {}) => Ok(Ask::Drill),
        Ok(Own::Status {}) => Ok(Ask::Status),
        Err(error) => {
            let mut shown = event.to_string();
            shown.truncate(shown.floor_char_boundary(200));
            bail!(
                "no event of mine: {shown} ({error}); say {{\"action\": \"check\"}}, \"drill\" or \"status\""
            )
        }
    }
}

/// One message of the right topic is enough, whatever stands in it and beside it.
fn of_records(records: &[Value], budget_topic: &str) -> Ask {
    for record in records {
        match SnsRecord::deserialize(record) {
            Ok(record) if record.sns.topic_arn == budget_topic => {
                return Ask::Check { from: Doorbell::Budget };
            }
            Ok(record) => info!("ignored: a message of {}", record.sns.topic_arn),
            // A form that AWS has changed is no reason not to ask.
            Err(_) if record.pointer("/Sns/TopicArn").is_some_and(|arn| arn == budget_topic) => {
                return Ask::Check { from: Doorbell::Budget };
            }
            Err(error) => info!("ignored: a record that is no message of SNS ({error})"),
        }
    }
    Ask::Nothing
}

/// A time that cannot be read is no reason not to check.
fn is_first_of_day(scheduled: &str) -> bool {
    let minute_of_day = scheduled.get(11..16).and_then(|clock| {
        let (hour, minute) = clock.split_once(':')?;
        Some(hour.parse::<u32>().ok()? * 60 + minute.parse::<u32>().ok()?)
    });
    minute_of_day.is_some_and(|minute| minute < SCHEDULE_MINUTES)
}

#[cfg(test)]
mod tests {
    use super::{Ask, Doorbell, read};
    use serde_json::{Value, json};

    const TOPIC: &str = "arn:aws:sns:us-east-1:123456789012:guppy-budget";

    fn record(topic: &str, message: &str) -> Value {
        json!({
            "EventSource": "aws:sns", "EventVersion": "1.0", "EventSubscriptionArn": "arn:x",
            "Sns": {
                "Type": "Notification", "MessageId": "1", "TopicArn": topic, "Subject": null,
                "Message": message, "Timestamp": "2026-11-22T14:00:00.000Z",
                "SignatureVersion": "1", "Signature": "x", "SigningCertUrl": "x",
                "UnsubscribeUrl": "x", "MessageAttributes": {}
            }
        })
    }

    #[test]
    fn a_message_of_the_topic_rings_whatever_it_says() {
        let long = "x".repeat(1 << 20);
        for message in ["", "{", "forecast", "stop nothing", long.as_str()] {
            let event = json!({ "Records": [record(TOPIC, message)] });
            let asked = read(&event, TOPIC).expect("a message");
            assert_eq!(asked, Ask::Check { from: Doorbell::Budget });
        }
    }

    #[test]
    fn a_message_of_the_topic_rings_whatever_its_form() {
        for change in
            [json!({ "Timestamp": "22 Nov" }), json!({ "Message": null }), json!({ "Type": 1 })]
        {
            let mut odd = record(TOPIC, "");
            let sns = odd.get_mut("Sns").and_then(Value::as_object_mut).expect("an object");
            sns.extend(change.as_object().expect("an object").clone());
            odd.as_object_mut().expect("an object").remove("EventVersion");
            let asked = read(&json!({ "Records": [odd] }), TOPIC).expect("a message");
            assert_eq!(asked, Ask::Check { from: Doorbell::Budget }, "{change}");
        }
    }

    #[test]
    fn other_topics_do_not_ring_and_do_not_keep_the_right_one_from_it() {
        let other = record("arn:aws:sns:us-east-1:123456789012:other", "over");
        let event = json!({ "Records": [other, { "EventSource": "aws:s3" }] });
        assert_eq!(read(&event, TOPIC).expect("records"), Ask::Nothing);
        let event = json!({ "Records": [other, 7, record(TOPIC, "")] });
        assert_eq!(read(&event, TOPIC).expect("records"), Ask::Check { from: Doorbell::Budget });
    }

    #[test]
    fn the_first_check_of_a_utc_day_is_known_by_its_time() {
        for (scheduled, first_of_day) in [
            ("2026-11-22T00:00:00Z", true),
            ("2026-11-22T00:14:59Z", true),
            ("2026-11-22T00:15:00Z", false),
            ("2026-11-22T23:45:00Z", false),
            ("<aws.scheduler.scheduled-time>", false),
            ("", false),
        ] {
            let event = json!({ "action": "check", "scheduled": scheduled });
            let asked = read(&event, TOPIC).expect("an event of its own");
            assert_eq!(asked, Ask::Check { from: Doorbell::Schedule { first_of_day } });
        }
    }

    #[test]
    fn what_is_not_known_is_refused_with_the_remedy() {
        for event in [
            json!({}),
            json!("drill"),
            json!({"action": "stop"}),
            json!(null),
            json!({"action": "drill", "cap": 0}),
        ] {
            let error = read(&event, TOPIC).expect_err("no event").to_string();
            assert!(error.contains("say {\"action\": \"check\"}"), "{error}");
        }
    }
}
