//! Tests that others cannot bear beside them: they kill or change what all share. Run one after the other, after all others.

mod crashes;
mod gate;
mod leader;
mod many;
mod processes;
mod rivals;
