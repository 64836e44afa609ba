//! How the units of each tensor fall into classes: measured on the delta itself, before it is encoded.
//!
//! Any coder is right; a better one makes a smaller pack. So what is measured may be a sample, and the choices here need no
//! place in the spec.

mod activity;
mod classes;
mod columns;
mod levels;
mod rows;
mod sample;
mod samples;
mod shared;
mod stats;
mod task;

pub(crate) use shared::{Chosen, Fits, Group};
pub(crate) use task::{Fit, Task};
