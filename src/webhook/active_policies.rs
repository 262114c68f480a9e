//! The policies in force: replaced as a whole, read without waiting.

use std::sync::{Arc, PoisonError, RwLock};

use crate::api::bundle_policy::PolicySnapshot;

/// The newest snapshot.
#[derive(Clone, Debug, Default)]
pub(super) struct ActivePolicies(Arc<RwLock<Arc<PolicySnapshot>>>);

impl ActivePolicies {
    /// A snapshot of the policies in force.
    pub(super) fn current(&self) -> Arc<PolicySnapshot> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts these policies in force.
    pub(super) fn set(&self, snapshot: PolicySnapshot) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
    }
}
