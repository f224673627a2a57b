//! The laboratory's own proof, on real machines.

mod frozen;
mod power;
