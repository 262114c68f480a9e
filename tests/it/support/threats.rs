//! The table of docs/threat-model.md.

#[path = "../../tools/threats.rs"]
mod table;

pub(crate) use table::*;
