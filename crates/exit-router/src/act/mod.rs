//! Does one thing, and says what came of it. Each may be done twice.

pub mod netlink;
pub mod nft;
pub mod tc;

use crate::decide::Action;
use crate::kernel::Link;
use crate::rtnl::Handle;

/// Performs one action in the kernel; systemd's are not its business, and done.
///
/// # Errors
/// For people: what could not be done, and why.
pub async fn perform(action: &Action, handle: &Handle) -> Result<(), String> {
    match action {
        Action::AddRule(rule) => netlink::add_rule(handle, rule).await,
        Action::DeleteRule(rule) => netlink::delete_rule(handle, rule).await,
        Action::AddRoute(route) => netlink::add_route(handle, route).await,
        Action::DeleteRoute(route) => netlink::delete_route(handle, route).await,
        Action::Group(link) => netlink::group(handle, link).await,
        Action::ReplaceTable(text) => nft::replace(text).await,
        Action::RemoveTable => nft::remove().await,
        Action::Filters { uplink, preference, filters } => {
            tc::replace(uplink, *preference, filters).await
        }
        Action::StartUnit(_) | Action::StopUnit(_) => Ok(()),
    }
}

/// What an action does, for the journal.
pub fn text(action: &Action, links: &[Link]) -> String {
    match action {
        Action::AddRule(rule) => format!("add {rule}"),
        Action::DeleteRule(rule) => format!("delete {rule}"),
        Action::AddRoute(route) => format!("add {}", route.text(links)),
        Action::DeleteRoute(route) => format!("delete {}", route.text(links)),
        Action::Group(link) => format!("ip link set {} group {}", link.name, crate::kernel::GROUP),
        Action::ReplaceTable(_) => "replace nft table inet guppy_exit_router".to_owned(),
        Action::RemoveTable => "remove nft table inet guppy_exit_router".to_owned(),
        Action::Filters { uplink, preference, filters } => {
            let what = if filters.is_empty() { "remove" } else { "replace" };
            format!("{what} tc filters of pref {preference} on {}", uplink.name)
        }
        Action::StartUnit(profile) => format!("start {}", crate::profile::unit(profile)),
        Action::StopUnit(profile) => format!("stop {}", crate::profile::unit(profile)),
    }
}
