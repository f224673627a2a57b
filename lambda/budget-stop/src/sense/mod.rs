//! Reads the world: the budget, the regions, and what in them carries the tag.
//!
//! A reading that fails is a [`Failure`](crate::decide::failure::Failure), never an empty list.

pub(crate) mod budget;
pub(crate) mod costs;
pub(crate) mod groups;
pub(crate) mod instances;
pub(crate) mod regions;
