//! The smallest set of actions from what is there to what must hold: what closes comes before what
//! opens.

use crate::kernel::{Filter, GROUP, PREFERENCES, PROTOCOL, Route};
use crate::sense::Network;

use super::Action;
use super::plan::Plan;

/// What routing lacks, or has too much.
pub fn routing(plan: &Plan, network: &Network) -> Vec<Action> {
    let mut actions = Vec::new();
    for rule in &plan.rules {
        if !network.rules.contains(rule) {
            actions.push(Action::AddRule(rule.clone()));
        }
    }
    for link in &plan.grouped {
        if link.group != GROUP {
            actions.push(Action::Group(link.clone()));
        }
    }
    // In the order of the plan the last route of all comes last, and yet opens nothing: without it
    // the rule behind the table closes.
    let lacking = || plan.routes.iter().filter(|route| !network.routes.contains(route));
    // The table is ours: whatever else is in it leads somewhere else. What has the place of one that is
    // lacking goes first: IPv6 takes no second route of the same metric, whatever its type, for a
    // duplicate (fib6_add_rt2node()). Between the two the rule behind the table closes.
    let (in_place, others): (Vec<&Route>, Vec<&Route>) = network
        .routes
        .iter()
        .filter(|route| !plan.routes.contains(route))
        .partition(|old| lacking().any(|new| new.to == old.to && new.metric == old.metric));
    actions.extend(in_place.into_iter().map(|route| Action::DeleteRoute(*route)));
    actions.extend(lacking().map(|route| Action::AddRoute(*route)));
    actions.extend(others.into_iter().map(|route| Action::DeleteRoute(*route)));
    let mut kept = Vec::new();
    for rule in network.rules.iter().filter(|rule| rule.protocol == PROTOCOL) {
        // The kernel takes the same rule twice.
        if !plan.rules.contains(rule) || kept.contains(&rule) {
            actions.push(Action::DeleteRule(rule.clone()));
        } else {
            kept.push(rule);
        }
    }
    actions.extend(filters(plan, network));
    actions
}

/// What has one preference is made anew together; the rest of an uplink's filters stands meanwhile.
fn filters(plan: &Plan, network: &Network) -> Vec<Action> {
    let mut actions = Vec::new();
    for uplink in &network.uplinks {
        let Some(link) = network.links.iter().find(|link| link.index == *uplink) else { continue };
        for preference in PREFERENCES {
            let of_preference = |filters: &[Filter]| -> Vec<Filter> {
                let mut here = filters.to_vec();
                here.retain(|each| each.uplink == *uplink && each.preference() == preference);
                here.sort();
                here
            };
            let filters = of_preference(&plan.filters);
            if filters != of_preference(&network.filters) {
                actions.push(Action::Filters { uplink: link.clone(), preference, filters });
            }
        }
    }
    actions
}
