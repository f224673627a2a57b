//! `decide` on a world made of values: hours pass in microseconds.

#![allow(clippy::unwrap_used)]

mod attacks;
mod incidents;
mod kinds;
mod phases;
mod restarts;
mod traces;
mod world;
