//! What the verdict on a question waits for at the moment: said when the time for it is over.

use std::{
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum VerdictStage {
    /// The registry.
    Registry,
    /// Other questions of the same namespace, or about the same registry.
    Queue,
    /// Other evidence that is being judged, or the judging itself.
    Evidence,
}

/// What one question waits for.
#[derive(Debug)]
pub struct VerdictStageTracker(AtomicU8);

impl Default for VerdictStageTracker {
    fn default() -> Self {
        Self(AtomicU8::new(VerdictStage::Registry as u8))
    }
}

impl VerdictStageTracker {
    /// From now on it is this.
    pub fn set_stage(&self, at: VerdictStage) {
        self.0.store(at as u8, Ordering::Relaxed);
    }

    /// What it is.
    pub fn current_stage(&self) -> VerdictStage {
        match self.0.load(Ordering::Relaxed) {
            at if at == VerdictStage::Queue as u8 => VerdictStage::Queue,
            at if at == VerdictStage::Evidence as u8 => VerdictStage::Evidence,
            _ => VerdictStage::Registry,
        }
    }

    /// Why there is no verdict about something at `location`.
    pub fn timeout_message(&self, location: &str, limit: Duration) -> String {
        let seconds = limit.as_secs_f32();
        match self.current_stage() {
            VerdictStage::Registry => format!(
                "no verdict within {seconds} s: {location} answers too slowly, or not at all; try \
                    again"
            ),
            VerdictStage::Queue => format!(
                "no verdict within {seconds} s: the request waited in the queue, behind others of \
                    the same namespace or registry; try again, or use fewer images at once"
            ),
            VerdictStage::Evidence => format!(
                "no verdict within {seconds} s: verifying the signatures and attestations of the image in \
                    {location} takes too long, or waits for other large verifications of the same \
                    namespace; delete signatures that are not needed, or try again"
            ),
        }
    }
}
