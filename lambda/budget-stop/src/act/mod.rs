//! Changes the world. Each of these may be done twice, and by two runs at once.

pub(crate) mod publish;
pub(crate) mod stop;
pub(crate) mod suspend;
