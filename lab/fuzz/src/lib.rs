//! Damaged bytes for every parser at a border, and what must hold whatever they are: no panic, and what is
//! read is the same when it is written and read again.
//!
//! Knows no coverage: it begins with inputs that are right and damages them in ways that keep most of
//! their form. The same seed damages them in the same ways.

mod mutate;
mod targets;

pub use mutate::Mutator;
pub use targets::{TARGETS, Target};
