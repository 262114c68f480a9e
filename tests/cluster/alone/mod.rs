//! Tests that others cannot bear beside them: they kill, restart, scale, upgrade or uninstall what
//! all share. `tests/cluster/test.sh` runs them after those, one at a time.

mod crashes;
mod gate;
mod leader;
mod lifecycle;
mod many;
mod processes;
mod rivals;
mod roots;
mod threats;
mod webhook;
