//! Tests that others cannot bear beside them: they kill, restart, scale, upgrade or uninstall what
//! all share. `tests/cluster/test.sh` runs them one at a time, in a cluster of their own.

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
