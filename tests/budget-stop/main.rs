//! budget-stop: the function's own binary, against moto and a proxy that adds what AWS does besides.
//!
//! The function speaks Lambda's real Runtime API, to a stub with real deadlines. No test asks anybody
//! outside this machine.

// JSON gives null for what is not there, and anything else that is not there fails the test.
#![allow(clippy::indexing_slicing)]

mod account;
mod doorbells;
mod faults;
mod headline;
mod http;
mod lambda;
mod moto;
mod proxy;
mod recipes;
mod regions;
mod stops;
mod template;
mod tools;
mod undo;
