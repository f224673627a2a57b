//! What every guppy daemon shares, and nothing else.

pub mod clock;
