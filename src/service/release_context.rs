//! What every step of a release works with.

use std::sync::Arc;

use super::progress::Progress;
use crate::{clock::Clock, core::limits::InputLimits, oci::ContentTarget};

/// Where a bundle goes, and what its packing, signing and tagging have in common.
pub struct ReleaseContext<'a> {
    /// Where the bundle goes.
    pub target: &'a dyn ContentTarget,
    /// The time of signatures and verdicts.
    pub clock: &'a dyn Clock,
    /// The limits of what is read.
    pub limits: &'a InputLimits,
    /// Shows long work to people.
    pub progress: Arc<dyn Progress>,
}
