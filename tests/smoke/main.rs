//! The laboratory's own proof, on real machines.

mod container;
mod frozen;
mod power;
mod volatile;
