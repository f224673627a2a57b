//! A world in which agents run, crash and rotate, in memory: time is a value, a thousand cases a
//! second.

#![allow(clippy::unwrap_used)]

mod elsewhere;
mod incidents;
mod looks;
mod neighbours;
mod persons;
mod policy;
mod servers;
mod walk;
mod world;
