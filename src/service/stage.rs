//! What the verdict on a question waits for at the moment: said when the time for it is over.

use std::{
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum At {
    /// The registry.
    Registry,
    /// Other questions of the same namespace, or about the same registry.
    Queue,
    /// Other evidence that is being judged, or the judging itself.
    Evidence,
}

/// What one question waits for.
#[derive(Debug)]
pub struct Stage(AtomicU8);

impl Default for Stage {
    fn default() -> Self {
        Self(AtomicU8::new(At::Registry as u8))
    }
}

impl Stage {
    /// From now on it is this.
    pub fn set(&self, at: At) {
        self.0.store(at as u8, Ordering::Relaxed);
    }

    /// What it is.
    pub fn at(&self) -> At {
        match self.0.load(Ordering::Relaxed) {
            at if at == At::Queue as u8 => At::Queue,
            at if at == At::Evidence as u8 => At::Evidence,
            _ => At::Registry,
        }
    }

    /// Why there is no verdict about something at `location`.
    pub fn late(&self, location: &str, limit: Duration) -> String {
        let seconds = limit.as_secs_f32();
        match self.at() {
            At::Registry => format!(
                "no verdict within {seconds} s: {location} answers too slowly, or not at all; try \
                    again"
            ),
            At::Queue => format!(
                "no verdict within {seconds} s: the question waited in the queue, behind others of \
                    the same namespace or registry; try again, or ask about fewer images at once"
            ),
            At::Evidence => format!(
                "no verdict within {seconds} s: judging what is attached to the image in \
                    {location} takes too long, or waits for other large evidence of the same \
                    namespace; delete signatures that are not needed, or try again"
            ),
        }
    }
}
