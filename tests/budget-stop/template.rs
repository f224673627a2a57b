//! The template: that AWS would take it, and what its role may and may not do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{process, scenario};
use serde_json::{Value, json};

use crate::tools;

const LONG: Duration = Duration::from_secs(180);
const ROLE: &str = "arn:aws:sts::123456789012:assumed-role/Role/guppy-budget-stop";

pub(crate) fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../lambda/budget-stop/template.yaml")
}

/// The template's resources, as a stack would have them.
fn resources(override_stop_protection: bool) -> Result<Value> {
    let folder = tools::folder()?;
    let mut command = Command::new(folder.join("venv/bin/python"));
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("budget-stop/tools/resolve.py"));
    command.arg(path()).args(["Cap=200", "Email=somebody@example.com"]);
    command.arg(format!("OverrideStopProtection={override_stop_protection}"));
    let text = process::run(command, b"", LONG)?.ok()?;
    serde_json::from_str(&text).context("resolve.py says no JSON")
}

/// The policies of the function's role, which has no others.
fn policies(resources: &Value) -> Result<BTreeMap<String, Value>> {
    let all = resources.as_object().context("no resources")?;
    for (name, one) in all {
        let kind = one["Type"].as_str().unwrap_or_default();
        let known = ["AWS::IAM::Role", "AWS::IAM::RolePolicy"].contains(&kind);
        ensure!(known || !kind.starts_with("AWS::IAM::"), "{name} is a {kind}");
        ensure!(one["Properties"]["ManagedPolicyArns"].is_null(), "{name} has others' policies");
    }
    ensure!(resources["Role"]["Properties"]["Policies"].is_null(), "it has policies of its own");
    let found = all.iter().filter(|(_, one)| {
        one["Type"] == "AWS::IAM::RolePolicy" && one["Properties"]["RoleName"] == "Role"
    });
    Ok(found
        .map(|(name, one)| (name.clone(), one["Properties"]["PolicyDocument"].clone()))
        .collect())
}

/// A call: action, resource, and what AWS knows of it when it judges.
type Call = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

fn judge(policies: &BTreeMap<String, Value>, calls: &[Call]) -> Result<Vec<String>> {
    let calls: Vec<Value> = calls
        .iter()
        .map(|(action, resource, context)| {
            let context: BTreeMap<_, _> = context.iter().copied().collect();
            json!({ "action": action, "resource": resource, "context": context })
        })
        .collect();
    let input = json!({ "policies": policies, "principal": ROLE, "calls": calls }).to_string();
    let mut command = Command::new("node");
    command.arg("simulate.mjs").current_dir(tools::folder()?);
    let output = process::run(command, input.as_bytes(), LONG)?.ok()?;
    let verdicts: Vec<String> = output.lines().map(str::to_owned).collect();
    ensure!(verdicts.len() == calls.len(), "{} verdicts for {}", verdicts.len(), calls.len());
    Ok(verdicts)
}

const BOX: &str = "arn:aws:ec2:eu-west-1:123456789012:instance/i-0123456789abcdef0";
const GROUP: &str = "arn:aws:autoscaling:eu-west-1:123456789012:autoScalingGroup:00000000-0000-0000-0000-000000000000:autoScalingGroupName/web";
const BUDGET: &str = "arn:aws:budgets::123456789012:budget/guppy-budget-stop-us-east-1";
const REPORTS: &str = "arn:aws:sns:us-east-1:123456789012:ReportTopic";
const FAILURES: &str = "arn:aws:sqs:us-east-1:123456789012:Failures";
const LOG: &str =
    "arn:aws:logs:us-east-1:123456789012:log-group:/aws/lambda/guppy-budget-stop:log-stream:1";
const TAGGED: &[(&str, &str)] = &[("aws:ResourceTag/role", "devorch")];
const GUPPY: &[(&str, &str)] = &[("aws:ResourceTag/role", "control-plane")];
const PROTECTION: &[(&str, &str)] =
    &[("aws:ResourceTag/role", "devorch"), ("ec2:Attribute", "DisableApiStop")];

/// Everything that the function calls.
const ALLOWED: [Call; 12] = [
    ("ec2:DescribeRegions", "*", &[]),
    ("ec2:DescribeInstances", "*", &[]),
    ("autoscaling:DescribeAutoScalingGroups", "*", &[]),
    ("tag:GetResources", "*", &[]),
    ("ec2:StopInstances", BOX, TAGGED),
    ("ec2:StopInstances", "arn:aws:ec2:us-west-2:123456789012:instance/i-1", TAGGED),
    ("autoscaling:SuspendProcesses", GROUP, TAGGED),
    ("budgets:ViewBudget", BUDGET, &[]),
    ("sns:Publish", REPORTS, &[]),
    ("sqs:SendMessage", FAILURES, &[]),
    ("logs:CreateLogStream", LOG, &[]),
    ("logs:PutLogEvents", LOG, &[]),
];

/// What it may never do, with the option on and off.
const FORBIDDEN: [Call; 42] = [
    // Boxes that are not meant.
    ("ec2:StopInstances", BOX, &[]),
    ("ec2:StopInstances", BOX, GUPPY),
    ("ec2:StopInstances", BOX, &[("aws:ResourceTag/role", "Devorch")]),
    ("ec2:StopInstances", BOX, &[("aws:ResourceTag/role", "devorch2")]),
    ("ec2:StopInstances", BOX, &[("aws:ResourceTag/team", "devorch")]),
    ("ec2:StopInstances", "arn:aws:ec2:eu-west-1:999999999999:instance/i-1", TAGGED),
    // Start, run, end.
    ("ec2:StartInstances", BOX, TAGGED),
    ("ec2:RebootInstances", BOX, TAGGED),
    ("ec2:TerminateInstances", BOX, TAGGED),
    ("ec2:RunInstances", BOX, TAGGED),
    ("ec2:RequestSpotInstances", "*", &[]),
    (
        "ec2:CancelSpotInstanceRequests",
        "arn:aws:ec2:eu-west-1:123456789012:spot-instances-request/sir-1",
        TAGGED,
    ),
    ("ec2:CreateFleet", "arn:aws:ec2:eu-west-1:123456789012:fleet/f-1", TAGGED),
    // Tags decide whom it may stop, so they are not its own.
    ("ec2:CreateTags", BOX, TAGGED),
    ("ec2:DeleteTags", BOX, TAGGED),
    ("tag:TagResources", "*", &[]),
    ("tag:UntagResources", "*", &[]),
    ("autoscaling:CreateOrUpdateTags", GROUP, TAGGED),
    // What else an instance is made of.
    ("ec2:ModifyInstanceAttribute", BOX, &[]),
    ("ec2:ModifyInstanceAttribute", BOX, TAGGED),
    (
        "ec2:ModifyInstanceAttribute",
        BOX,
        &[("aws:ResourceTag/role", "devorch"), ("ec2:Attribute", "UserData")],
    ),
    (
        "ec2:ModifyInstanceAttribute",
        BOX,
        &[("aws:ResourceTag/role", "devorch"), ("ec2:Attribute", "DisableApiTermination")],
    ),
    (
        "ec2:ModifyInstanceAttribute",
        BOX,
        &[("aws:ResourceTag/role", "prod"), ("ec2:Attribute", "DisableApiStop")],
    ),
    ("ec2:DeleteVolume", "arn:aws:ec2:eu-west-1:123456789012:volume/vol-1", TAGGED),
    ("ec2:ReleaseAddress", "arn:aws:ec2:eu-west-1:123456789012:elastic-ip/eipalloc-1", TAGGED),
    ("ec2:DeleteNatGateway", "arn:aws:ec2:eu-west-1:123456789012:natgateway/nat-1", TAGGED),
    ("rds:StopDBInstance", "arn:aws:rds:eu-west-1:123456789012:db:one", TAGGED),
    // Auto Scaling groups.
    ("autoscaling:SuspendProcesses", GROUP, &[]),
    ("autoscaling:SuspendProcesses", GROUP, &[("aws:ResourceTag/role", "prod")]),
    ("autoscaling:ResumeProcesses", GROUP, TAGGED),
    ("autoscaling:UpdateAutoScalingGroup", GROUP, TAGGED),
    ("autoscaling:DeleteAutoScalingGroup", GROUP, TAGGED),
    // Its own limits.
    ("budgets:ModifyBudget", BUDGET, &[]),
    ("budgets:ViewBudget", "arn:aws:budgets::123456789012:budget/other", &[]),
    ("sns:Publish", "arn:aws:sns:us-east-1:123456789012:BudgetTopic", &[]),
    ("sns:Subscribe", REPORTS, &[]),
    ("sqs:ReceiveMessage", FAILURES, &[]),
    ("sqs:PurgeQueue", FAILURES, &[]),
    (
        "logs:DeleteLogGroup",
        "arn:aws:logs:us-east-1:123456789012:log-group:/aws/lambda/guppy-budget-stop",
        &[],
    ),
    ("iam:PutRolePolicy", "arn:aws:iam::123456789012:role/Role", &[]),
    ("iam:PassRole", "arn:aws:iam::123456789012:role/Role", &[]),
    ("lambda:UpdateFunctionCode", "arn:aws:lambda:us-east-1:123456789012:function:Function", &[]),
];

#[test]
fn the_role_may_do_its_work_and_nothing_else() {
    scenario(|| {
        for override_stop_protection in [false, true] {
            let policies = policies(&resources(override_stop_protection)?)?;
            ensure!(policies.len() == 1 + usize::from(override_stop_protection), "{policies:?}");
            for (call, verdict) in ALLOWED.iter().zip(judge(&policies, &ALLOWED)?) {
                ensure!(verdict == "Allowed", "{call:?} is {verdict}");
            }
            for (call, verdict) in FORBIDDEN.iter().zip(judge(&policies, &FORBIDDEN)?) {
                ensure!(verdict == "ImplicitlyDenied", "{call:?} is {verdict}");
            }
            let lift = [("ec2:ModifyInstanceAttribute", BOX, PROTECTION)];
            let verdict = judge(&policies, &lift)?;
            let right = if override_stop_protection { "Allowed" } else { "ImplicitlyDenied" };
            ensure!(verdict == [right], "with the option {override_stop_protection}: {verdict:?}");
        }
        Ok(())
    });
}

/// A word, or a list of them.
fn words(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(words) => words.iter().filter_map(Value::as_str).collect(),
        word => word.as_str().into_iter().collect(),
    }
}

#[test]
fn no_wildcard_stands_without_a_condition() {
    scenario(|| {
        let all = resources(true)?;
        let mut policies = policies(&all)?;
        let schedule = all["ScheduleRole"]["Properties"]["Policies"].as_array();
        for one in schedule.context("the schedule may do nothing")? {
            policies.insert("ScheduleRole".into(), one["PolicyDocument"].clone());
        }
        for (name, policy) in policies {
            for statement in policy["Statement"].as_array().context("no statements")? {
                let (actions, places) =
                    (words(&statement["Action"]), words(&statement["Resource"]));
                // NotAction and NotResource would be wildcards too.
                ensure!(!actions.is_empty() && !places.is_empty(), "{name}: {statement}");
                for action in actions {
                    ensure!(!action.contains('*'), "{name}: {action}");
                    let reads = ["Describe", "Get"].iter().any(|verb| {
                        action.split(':').nth(1).is_some_and(|name| name.starts_with(verb))
                    });
                    // The streams of its own log have names that Lambda makes up.
                    let free =
                        places.iter().any(|place| place.trim_end_matches(":*").contains('*'));
                    ensure!(
                        !free || reads || statement["Condition"].is_object(),
                        "{name}: {action} on {places:?} without a condition"
                    );
                }
            }
        }
        Ok(())
    });
}

/// Who may ring, fill a queue, or be a role: services, each bound to this account or its topic.
#[test]
fn nobody_else_gets_in() {
    scenario(|| {
        let all = resources(true)?;
        let all = all.as_object().context("no resources")?;
        let mut seen = Vec::new();
        for (name, one) in all {
            let (of, mut policies) = (&one["Properties"], Vec::new());
            policies.extend([&of["PolicyDocument"], &of["AssumeRolePolicyDocument"]]);
            for statement in policies.iter().flat_map(|one| one["Statement"].as_array()).flatten() {
                let who = &statement["Principal"];
                if who.is_null() {
                    continue;
                }
                seen.push(name.as_str());
                let own = who == &json!({ "AWS": "arn:aws:iam::123456789012:role/Role" });
                // Who gives a role to a function needs iam:PassRole in this account.
                let lambda = who == &json!({ "Service": "lambda.amazonaws.com" });
                let tests = statement["Condition"].as_object().into_iter().flatten();
                let tests = tests.flat_map(|(_, keys)| keys.as_object()).flatten();
                let bound = tests.into_iter().any(|(key, value)| {
                    let value = value.as_str().unwrap_or_default();
                    let topic = "arn:aws:sns:us-east-1:123456789012:BudgetTopic";
                    match key.as_str() {
                        "aws:SourceAccount" => value == "123456789012",
                        "aws:SourceArn" => value == topic,
                        _ => false,
                    }
                });
                ensure!(
                    own || lambda || bound && who["Service"].is_string(),
                    "{name}: {statement}"
                );
            }
            if one["Type"] == "AWS::Lambda::Permission" {
                let source = of["SourceArn"].as_str().unwrap_or_default();
                ensure!(source.ends_with(":123456789012:BudgetTopic"), "{name}: {of}");
            }
        }
        let policies = [
            "BudgetTopicPolicy",
            "ReportTopicPolicy",
            "ReportTopicPolicy",
            "Role",
            "ScheduleRole",
            "UndeliveredPolicy",
        ];
        seen.sort_unstable();
        ensure!(seen == policies, "{seen:?}");
        Ok(())
    });
}

#[test]
fn aws_would_take_the_template() {
    scenario(|| {
        let mut lint = Command::new(tools::folder()?.join("venv/bin/cfn-lint"));
        // W3002: the code's place is filled in by `aws cloudformation package`.
        lint.args(["--regions", "us-east-1", "--ignore-checks", "W3002", "--template"]).arg(path());
        process::run(lint, b"", LONG)?.ok()?;
        Ok(())
    });
}

#[test]
fn the_wiring_is_what_the_function_counts_on() {
    scenario(|| {
        let all = resources(false)?;
        let of = |name: &str| &all[name]["Properties"];
        ensure!(of("Function")["Timeout"] == 300 && of("Function")["MemorySize"] == 128);
        ensure!(of("Function")["ReservedConcurrentExecutions"].is_null());
        let variables = &of("Function")["Environment"]["Variables"];
        ensure!(variables["GUPPY_TIMEOUT_SECONDS"] == "300", "{variables}");
        ensure!(variables["GUPPY_BUDGET"] == of("Budget")["Budget"]["BudgetName"]);
        let costs = &of("Budget")["Budget"]["CostTypes"];
        ensure!(costs == &json!({ "IncludeCredit": false, "IncludeRefund": false }), "{costs}");
        // The function rings its own doorbell if it hears its own reports.
        ensure!(of("Subscription")["TopicArn"] == variables["GUPPY_BUDGET_TOPIC"]);
        ensure!(variables["GUPPY_REPORT_TOPIC"] != variables["GUPPY_BUDGET_TOPIC"]);
        ensure!(of("Subscription")["RedrivePolicy"]["deadLetterTargetArn"].is_string());
        ensure!(of("Invocation")["DestinationConfig"]["OnFailure"]["Destination"] == FAILURES);
        let input = of("Schedule")["Target"]["Input"].as_str().unwrap_or_default();
        let event: Value = serde_json::from_str(input)?;
        let check = json!({ "action": "check", "scheduled": "<aws.scheduler.scheduled-time>" });
        ensure!(event == check, "{event}");
        ensure!(of("Schedule")["ScheduleExpressionTimezone"] == "UTC");
        ensure!(of("Schedule")["ScheduleExpression"] == "cron(0/15 * * * ? *)");
        // What the function says, as doorbells.rs sees it.
        ensure!(of("ChecksDone")["FilterPattern"] == "\"scheduled check done\"");
        ensure!(of("ChecksAlarm")["TreatMissingData"] == "breaching");
        let errors = &of("ErrorsAlarm")["Dimensions"];
        ensure!(errors == &json!([{ "Name": "FunctionName", "Value": "Function" }]), "{errors}");
        for alarm in ["ErrorsAlarm", "FailuresAlarm", "UndeliveredAlarm", "ChecksAlarm"] {
            ensure!(of(alarm)["AlarmActions"] == json!([REPORTS]), "{alarm} tells nobody");
        }
        Ok(())
    });
}
