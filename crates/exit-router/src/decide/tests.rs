//! Each case is a value: no machine, no clock.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod kernel;
mod phases;
mod plans;
mod steps;
mod walk;
mod world;
