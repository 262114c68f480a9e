//! What a verdict currently waits for: reported when its deadline has passed.

use std::{
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

/// The stage of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum VerdictStage {
    /// The registry.
    Registry,
    /// Other requests of the same namespace, or for the same registry.
    Queue,
    /// The verification of evidence, or other requests that occupy its threads.
    Evidence,
}

/// The current stage of one request.
#[derive(Debug)]
pub struct VerdictStageTracker(AtomicU8);

impl Default for VerdictStageTracker {
    fn default() -> Self {
        Self(AtomicU8::new(VerdictStage::Registry as u8))
    }
}

impl VerdictStageTracker {
    /// Sets the stage.
    pub fn set_stage(&self, at: VerdictStage) {
        self.0.store(at as u8, Ordering::Relaxed);
    }

    /// The current stage.
    pub fn current_stage(&self) -> VerdictStage {
        match self.0.load(Ordering::Relaxed) {
            at if at == VerdictStage::Queue as u8 => VerdictStage::Queue,
            at if at == VerdictStage::Evidence as u8 => VerdictStage::Evidence,
            _ => VerdictStage::Registry,
        }
    }

    /// The message of a timeout at `location`.
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
