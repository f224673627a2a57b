//! What a run changes besides instances, and that the message's own commands undo all of it.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{process, scenario};
use serde_json::json;

use crate::account::{Account, TAG, all_between, between};
use crate::faults::Poison;
use crate::lambda::{Answer, Function};
use crate::tools;

const LONG: Duration = Duration::from_secs(180);
const HERE: [&str; 1] = ["us-east-1"];

/// An Auto Scaling group with two instances, which get the tag if it does.
fn group(account: &Account, name: &str, tag: (&str, &str), propagate: bool) -> Result<()> {
    let ask = |form: &[(&str, &str)]| account.moto.query("autoscaling", "us-east-1", form);
    ask(&[
        ("Action", "CreateLaunchConfiguration"),
        ("LaunchConfigurationName", name),
        ("ImageId", "ami-12c6146b"),
        ("InstanceType", "t3.micro"),
    ])?;
    ask(&[
        ("Action", "CreateAutoScalingGroup"),
        ("AutoScalingGroupName", name),
        ("LaunchConfigurationName", name),
        ("MinSize", "2"),
        ("MaxSize", "2"),
        ("AvailabilityZones.member.1", "us-east-1a"),
        ("Tags.member.1.ResourceId", name),
        ("Tags.member.1.ResourceType", "auto-scaling-group"),
        ("Tags.member.1.Key", tag.0),
        ("Tags.member.1.Value", tag.1),
        ("Tags.member.1.PropagateAtLaunch", if propagate { "true" } else { "false" }),
    ])?;
    Ok(())
}

/// What of a group is suspended.
fn suspended(account: &Account, name: &str) -> Result<Vec<String>> {
    let form = [("Action", "DescribeAutoScalingGroups"), ("AutoScalingGroupNames.member.1", name)];
    let reply = account.moto.query("autoscaling", "us-east-1", &form)?;
    let list = between(&reply, "<SuspendedProcesses>", "</SuspendedProcesses>").unwrap_or("");
    let mut names = all_between(list, "<ProcessName>", "</ProcessName>");
    names.sort();
    Ok(names)
}

/// Carries out the message's commands, as a person would who copies them.
fn undo(account: &Account, text: &str) -> Result<Vec<String>> {
    let commands: Vec<String> =
        text.lines().filter(|line| line.starts_with("aws ")).map(str::to_owned).collect();
    let path = format!("{}:/usr/bin:/bin", tools::folder()?.join("venv/bin").display());
    for line in &commands {
        let mut command = Command::new("bash");
        command.args(["-euc", line]).envs(account.environment()).env("PATH", &path);
        process::run(command, b"", LONG)?.ok().with_context(|| line.clone())?;
    }
    Ok(commands)
}

#[test]
fn groups_start_nothing_until_the_messages_commands_undo_it() {
    scenario(|| {
        let account = Account::new()?;
        account.spent("200");
        group(&account, "it's web", TAG, true)?;
        let running = account.states(&HERE)?;
        ensure!(running.len() == 2, "moto's group has {running:?}");
        let ids: Vec<String> = running.into_keys().collect();
        let mut function = Function::start(&account)?;
        function.invoke(&json!({ "action": "check" }), LONG)?.done()?;
        let all = ["HealthCheck", "Launch", "ReplaceUnhealthy"];
        ensure!(suspended(&account, "it's web")? == all, "{:?}", suspended(&account, "it's web")?);
        ensure!(account.in_state(&HERE, &ids, "stopped")? == ids, "its instances run on");
        let calls = account.proxy.calls();
        let place = |action: &str| calls.iter().position(|call| call.action == action);
        ensure!(place("SuspendProcesses") < place("StopInstances"), "stopped before suspended");

        // Again: there is nothing to suspend.
        function.invoke(&json!({ "action": "check" }), LONG)?.done()?;
        ensure!(account.proxy.count("SuspendProcesses") == 1, "suspended again");

        let published = account.proxy.published();
        ensure!(published.len() == 1, "{} messages", published.len());
        let commands = undo(&account, &published[0].text)?;
        // A group that looks after its instances again terminates those that do not run yet.
        let verbs: Vec<_> = commands.iter().filter_map(|line| line.split(' ').nth(2)).collect();
        ensure!(verbs == ["start-instances", "wait", "resume-processes"], "{commands:?}");
        ensure!(suspended(&account, "it's web")?.is_empty(), "still suspended");
        ensure!(account.in_state(&HERE, &ids, "running")? == ids, "not started again");
        Ok(())
    });
}

#[test]
fn a_group_that_hangs_keeps_no_instance_running() {
    scenario(|| {
        for action in ["SuspendProcesses", "DescribeAutoScalingGroups"] {
            let account = Account::new()?;
            account.spent("200");
            group(&account, "web", TAG, true)?;
            let ids: Vec<String> = account.states(&HERE)?.into_keys().collect();
            account.proxy.faults().hanging_actions.insert(action);
            let mut function = Function::start(&account)?;
            let check = json!({ "action": "check" });
            let answer = function.invoke(&check, Duration::from_secs(60))?.done()?;
            ensure!(account.in_state(&HERE, &ids, "stopped")? == ids, "{action}: {answer}");
            let text = &account.proxy.published()[0].text;
            ensure!(
                text.contains("us-east-1 Auto Scaling group web: could not be kept")
                    || text.contains("us-east-1 its Auto Scaling groups: could not be listed"),
                "{text}"
            );
        }
        Ok(())
    });
}

#[test]
fn what_a_group_starts_before_it_is_suspended_is_stopped_too() {
    scenario(|| {
        let account = Account::new()?;
        account.spent("200");
        group(&account, "web", TAG, true)?;
        account.proxy.faults().late_launch = true;
        let mut function = Function::start(&account)?;
        let answer = function.invoke(&json!({ "action": "check" }), LONG)?.done()?;
        let ids: Vec<String> = account.states(&HERE)?.into_keys().collect();
        ensure!(ids.len() == 3, "{ids:?}");
        ensure!(account.in_state(&HERE, &ids, "stopped")? == ids, "{answer}");
        Ok(())
    });
}

#[test]
fn a_group_that_does_not_carry_the_tag_is_named_and_not_touched() {
    scenario(|| {
        let account = Account::new()?;
        account.spent("200");
        group(&account, "batch", ("team", "x"), true)?;
        let ids: Vec<String> = account.states(&HERE)?.into_keys().collect();
        let mut form = vec![("Action", "CreateTags"), ("Tag.1.Key", TAG.0), ("Tag.1.Value", TAG.1)];
        form.extend([("ResourceId.1", ids[0].as_str()), ("ResourceId.2", ids[1].as_str())]);
        account.moto.query("ec2", "us-east-1", &form)?;
        let mut function = Function::start(&account)?;
        let answer = function.invoke(&json!({ "action": "check" }), LONG)?.done()?;
        ensure!(suspended(&account, "batch")?.is_empty(), "it was suspended");
        ensure!(account.in_state(&HERE, &ids, "stopped")? == ids, "its instances run on");
        let text = &account.proxy.published()[0].text;
        ensure!(text.contains("Auto Scaling group batch: may replace its instances"), "{text}");
        ensure!(answer["not_stopped"] == 1, "{answer}");
        Ok(())
    });
}

#[test]
fn protection_is_lifted_if_the_template_says_so_and_can_be_put_back() {
    scenario(|| {
        let account = Account::new()?;
        account.spent("200");
        let ids = account.run_tagged("us-east-1", 5)?;
        let protect = |id: &str| {
            account.proxy.faults().instances.insert(id.to_owned(), Poison::Protected);
        };
        ids.iter().take(2).for_each(|id| protect(id));
        let on = [("GUPPY_OVERRIDE_STOP_PROTECTION", "true")];
        let mut function = Function::start_with(&account, &on)?;
        let answer = function.invoke(&json!({ "action": "check" }), LONG)?.done()?;
        ensure!(account.in_state(&HERE, &ids, "stopped")? == ids, "{answer}");
        ensure!(account.proxy.count("ModifyInstanceAttribute") == 2, "not lifted once each");
        let commands = undo(&account, &account.proxy.published()[0].text)?;
        let back = commands.iter().filter(|line| line.contains("--disable-api-stop")).count();
        ensure!(back == 2 && commands.len() == 3, "{commands:?}");
        ensure!(account.in_state(&HERE, &ids, "running")? == ids, "not started again");
        Ok(())
    });
}

#[test]
fn what_still_costs_is_listed_and_not_touched() {
    scenario(|| {
        let account = Account::new()?;
        account.spent("200");
        account.run_tagged("us-east-1", 1)?;
        let tag = [
            ("TagSpecification.1.Tag.1.Key", TAG.0),
            ("TagSpecification.1.Tag.1.Value", TAG.1),
            ("TagSpecification.1.ResourceType", "volume"),
        ];
        let mut form =
            vec![("Action", "CreateVolume"), ("Size", "8"), ("AvailabilityZone", "us-east-1a")];
        form.extend(tag);
        let reply = account.moto.query("ec2", "us-east-1", &form)?;
        let volume = between(&reply, "<volumeId>", "<").context("no volume")?.to_owned();
        let mut function = Function::start(&account)?;
        function.invoke(&json!({ "action": "check" }), LONG)?.done()?;
        let text = &account.proxy.published()[0].text;
        let line = text.lines().find(|line| line.contains(&volume)).context("not listed")?;
        ensure!(line.trim().starts_with("arn:aws:ec2:us-east-1:"), "{line}");
        let form = [("Action", "DescribeVolumes"), ("VolumeId.1", volume.as_str())];
        ensure!(account.moto.query("ec2", "us-east-1", &form)?.contains(&volume), "it is gone");
        Ok(())
    });
}

#[test]
fn a_report_that_cannot_be_sent_is_in_the_failure() {
    scenario(|| {
        for hangs in [false, true] {
            let account = Account::new()?;
            account.spent("200");
            let ids = account.run_tagged("us-east-1", 1)?;
            match hangs {
                true => account.proxy.faults().hanging_actions.insert("Publish"),
                false => account.proxy.faults().broken_services.insert("sns"),
            };
            let mut function = Function::start(&account)?;
            // It is tried until the deadline, and who says nothing by then is killed.
            let check = json!({ "action": "check" });
            let answer = function.invoke(&check, Duration::from_secs(60))?;
            let Answer::Failed(why) = &answer else { anyhow::bail!("no failure: {answer:?}") };
            ensure!(why.contains(&ids[0]) && why.contains("start-instances"), "{why}");
            ensure!(account.in_state(&HERE, &ids, "stopped")? == ids, "it runs on");
        }
        Ok(())
    });
}

/// The next run finds everything stopped, and would have nothing to tell.
#[test]
fn a_report_that_cannot_be_sent_at_first_is_sent_later() {
    scenario(|| {
        let account = Account::new()?;
        account.spent("200");
        let ids = account.run_tagged("us-east-1", 1)?;
        account.proxy.faults().broken_actions.insert("Publish", 7);
        let mut function = Function::start(&account)?;
        let answers = function.deliver(&json!({ "action": "check" }), LONG)?;
        let published = account.proxy.published();
        let told = published.iter().any(|message| message.text.contains(ids[0].as_str()));
        ensure!(told, "nobody was told of {}: {answers:?}", ids[0]);
        Ok(())
    });
}

/// A tag's value may have any letter.
#[test]
fn a_boxs_name_puts_no_command_into_the_message() {
    scenario(|| {
        let account = Account::new()?;
        account.spent("200");
        let forged = "aws ec2 terminate-instances --instance-ids i-0";
        account.run("us-east-1", 1, &[TAG, ("Name", &format!("x\n{forged}"))])?;
        let mut function = Function::start(&account)?;
        function.invoke(&json!({ "action": "check" }), LONG)?.done()?;
        let text = &account.proxy.published()[0].text;
        ensure!(text.contains(forged), "{text}");
        ensure!(!text.lines().any(|line| line.trim_start().starts_with(forged)), "{text}");
        Ok(())
    });
}
