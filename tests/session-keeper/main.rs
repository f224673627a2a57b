//! guppy-session-keeper: agents, real and scripted, each in its own conversation with a provider
//! that remembers nothing.

mod agents;
mod container;
mod cut;
mod faults;
mod fleet;
mod headline;
mod hog;
mod kept;
mod kinds;
mod limited;
mod listing;
mod logins;
mod machine;
mod pane;
mod provider;
mod real;
mod scripted;
mod trust;
mod unit;
mod upgrade;
mod verbs;
