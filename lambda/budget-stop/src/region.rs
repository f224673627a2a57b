//! One region: suspend, stop, look again at what was starting, until nothing is left to try.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use aws_sdk_ec2::Client;
use tokio::time::Instant;
use tracing::info;

use crate::clients::Clients;
use crate::decide::failure::{Failure, pause_at_most};
use crate::decide::stop::{Attempt, Instance, Next, Rules, after, batches};
use crate::outcome::{RegionOutcome, Stopped};
use crate::sense::{groups, instances};
use crate::{TAG_KEY, TAG_VALUE};
use crate::{act, call};

/// The longest pause between two looks at instances that are starting.
const LOOK_AGAIN_AT_MOST: Duration = Duration::from_secs(10);

/// Deals with a region, and says what became of it.
pub(crate) async fn stop_all(
    clients: &Clients,
    region: &str,
    rules: Rules,
    deadline: Instant,
) -> RegionOutcome {
    let mut outcome = RegionOutcome::new(region);
    let (ec2, auto_scaling) = (clients.ec2(region), clients.auto_scaling(region));
    // Whatever hangs here, what is known to run has the other half of the time to be stopped in.
    let half = Instant::now() + (deadline - Instant::now()) / 2;
    let suspending = suspend_groups(&auto_scaling, rules.drill, &mut outcome, half);
    let (groups, mut listed) = tokio::join!(suspending, instances::list(&ec2, half));
    if !outcome.suspended.is_empty() && !rules.drill {
        // A group may have started others before it was suspended, and after they were listed.
        let again = instances::list(&ec2, half).await;
        if again.failure.is_none() {
            listed = again;
        }
    }
    if let Some(failure) = listed.failure {
        let what = if listed.found.is_empty() { "all of it" } else { "the rest of it" };
        outcome.leave(what, format!("its instances could not be listed: {failure}"));
    }
    if let Some(groups) = &groups {
        untagged_groups(groups, &listed.found, &mut outcome);
    }
    Stopper { client: &ec2, rules, deadline, outcome: &mut outcome, waiting: BTreeMap::new() }
        .go_on_until_all_is_settled(listed.found)
        .await;
    outcome
}

/// Nothing if it is not known which groups there are.
async fn suspend_groups(
    client: &aws_sdk_autoscaling::Client,
    drill: bool,
    outcome: &mut RegionOutcome,
    deadline: Instant,
) -> Option<Vec<groups::Group>> {
    match groups::list(client, deadline).await {
        Ok(groups) => {
            act::suspend::suspend(client, &groups, drill, outcome, deadline).await;
            Some(groups)
        }
        Err(failure) => {
            outcome.leave("its Auto Scaling groups", format!("could not be listed: {failure}"));
            None
        }
    }
}

/// A group that does not carry the tag is not touched, and replaces what is stopped in it.
fn untagged_groups(groups: &[groups::Group], instances: &[Instance], outcome: &mut RegionOutcome) {
    let mut names: Vec<&String> = instances
        .iter()
        .filter_map(|one| one.group.as_ref())
        .filter(|name| !groups.iter().any(|group| group.name == **name))
        .collect();
    names.sort();
    names.dedup();
    for name in names {
        outcome.leave(
            format!("Auto Scaling group {name}"),
            format!("may replace its instances: it does not carry {TAG_KEY}={TAG_VALUE} itself"),
        );
    }
}

struct Stopper<'a> {
    client: &'a Client,
    rules: Rules,
    deadline: Instant,
    outcome: &'a mut RegionOutcome,
    /// Those that AWS cannot stop in the state they are in, and what it said.
    waiting: BTreeMap<String, Failure>,
}

impl Stopper<'_> {
    async fn go_on_until_all_is_settled(&mut self, first: Vec<Instance>) {
        let mut listed = first;
        let mut looks = 0;
        loop {
            self.stop(&listed).await;
            if self.waiting.is_empty() {
                return;
            }
            looks += 1;
            let most = Duration::from_millis(500) * 2u32.saturating_pow(looks);
            listed = match self.look_again(most.min(LOOK_AGAIN_AT_MOST)).await {
                Ok(listed) => listed,
                Err(failure) => {
                    for (id, said) in std::mem::take(&mut self.waiting) {
                        self.outcome
                            .leave(id, format!("could not be stopped yet ({said}): {failure}"));
                    }
                    return;
                }
            };
        }
    }

    /// Those that waited, as they are now. What no longer starts or runs was ending.
    async fn look_again(&mut self, pause: Duration) -> Result<Vec<Instance>, Failure> {
        if !call::pause(self.deadline, pause).await {
            return Err(call::out_of_time());
        }
        let listed = instances::list(self.client, self.deadline).await;
        if let Some(failure) = listed.failure {
            return Err(failure);
        }
        let waited = std::mem::take(&mut self.waiting);
        let running = listed.found.into_iter().filter(|one| waited.contains_key(&one.id));
        let running: Vec<Instance> = running.collect();
        let ended = waited.into_keys().filter(|id| !running.iter().any(|one| one.id == *id));
        self.outcome.gone.extend(ended);
        Ok(running)
    }

    async fn stop(&mut self, listed: &[Instance]) {
        let mut queue = batches(&listed.iter().collect::<Vec<_>>());
        while let Some(attempt) = queue.pop_front() {
            match act::stop::stop(self.client, &attempt, self.rules.drill, self.deadline).await {
                Ok(ids) => self.stopped(&ids, &attempt, listed),
                Err(failure) => {
                    if self.failed(attempt, &failure, listed, &mut queue).await.is_break() {
                        return;
                    }
                }
            }
        }
    }

    fn stopped(&mut self, ids: &[String], attempt: &Attempt, listed: &[Instance]) {
        if ids.is_empty() {
            return;
        }
        let done = if self.rules.drill { "would stop" } else { "stopped" };
        info!("{}: {done} {}", self.outcome.region, ids.join(" "));
        self.outcome.stopped.extend(ids.iter().map(|id| Stopped {
            id: id.clone(),
            name: listed.iter().find(|one| one.id == *id).and_then(|one| one.name.clone()),
            hibernated: attempt.hibernate,
        }));
    }

    /// Does what follows from a failure. Breaks if nothing more can be done in this region.
    async fn failed(
        &mut self,
        attempt: Attempt,
        failure: &Failure,
        listed: &[Instance],
        queue: &mut VecDeque<Attempt>,
    ) -> std::ops::ControlFlow<()> {
        let ids = attempt.ids.clone();
        let unknown = Instance::default();
        let instance = listed.iter().find(|one| ids.first() == Some(&one.id)).unwrap_or(&unknown);
        match after(attempt, failure, self.rules, instance) {
            Next::Try(attempts) => {
                let tries = attempts.iter().map(|attempt| attempt.tries).max().unwrap_or(0);
                queue.extend(attempts);
                if let Some(most) = pause_at_most(failure.kind, tries) {
                    call::pause(self.deadline, most).await;
                }
            }
            Next::Lift(attempt) => {
                for id in &ids {
                    match act::stop::lift(self.client, id, self.deadline).await {
                        Ok(()) => {
                            info!("{}: lifted DisableApiStop of {id}", self.outcome.region);
                            self.outcome.lifted.push(id.clone());
                            queue.push_back(attempt.clone());
                        }
                        Err(failure) => self.outcome.leave(
                            id,
                            format!("is protected against stopping, which could not be lifted: {failure}"),
                        ),
                    }
                }
            }
            Next::LookAgain => {
                self.waiting.extend(ids.into_iter().map(|id| (id, failure.clone())));
            }
            Next::Gone => self.outcome.gone.extend(ids),
            Next::Leave(why) => self.leave(ids, &why),
            Next::GiveUp(why) => {
                let rest = std::mem::take(queue).into_iter().flat_map(|attempt| attempt.ids);
                self.leave(ids.into_iter().chain(rest), &why);
                for (id, _) in std::mem::take(&mut self.waiting) {
                    self.outcome.leave(id, &why);
                }
                return std::ops::ControlFlow::Break(());
            }
        }
        std::ops::ControlFlow::Continue(())
    }

    fn leave(&mut self, ids: impl IntoIterator<Item = String>, why: &str) {
        for id in ids {
            info!("{}: not stopped: {id}: {why}", self.outcome.region);
            self.outcome.leave(id, why);
        }
    }
}
