//! The real kernel, in network namespaces: what is put there is what is read back, whatever is taken
//! away comes back, and packets go where the plan says. The filters of tc are not looked at here: a
//! kernel of a build machine may lack their action; a virtual machine with Debian's has it.

#![allow(clippy::unwrap_used, missing_docs)]

mod converges;
mod namespace;
mod packets;
