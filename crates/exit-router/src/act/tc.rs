//! The filters on an uplink's way out, by tc(8): the last layer, which knows a packet by the interface
//! that it came in by, or by the tunnel's address, whatever rules and chains say.

use super::nft::feed;
use crate::kernel::{Filter, Link};

/// The program, where Debian's package iproute2 has it.
const TC: &str = "/usr/sbin/tc";

/// Makes the filters of one preference of an uplink anew.
///
/// # Errors
/// For people: what tc(8) says; modules sch_ingress, cls_u32 and act_gact are needed.
pub async fn replace(uplink: &Link, preference: u32, filters: &[Filter]) -> Result<(), String> {
    let name = &uplink.name;
    // One that is there already is an error, and good.
    let _ = feed(TC, &["-batch", "-"], &format!("qdisc add dev {name} clsact\n")).await;
    // So is one that is not.
    let delete = format!("filter del dev {name} egress pref {preference}\n");
    let _ = feed(TC, &["-batch", "-"], &delete).await;
    let add: String = filters.iter().map(|filter| filter.tc(name) + "\n").collect();
    if add.is_empty() { Ok(()) } else { feed(TC, &["-batch", "-"], &add).await }
}
