//! Outcomes as data, for people and for machines: what every command reports. spec/reports.md has them field by field.

pub mod apply;
pub mod create;
pub mod diff;
pub mod document;
pub mod export;
pub mod inspect;
pub mod overlap;
pub mod verify;
