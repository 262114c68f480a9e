//! What one question about a bundle may hold in memory and read, and the threads and the memory
//! that all questions of the process share.
//!
//! Almost every question is small: what it holds at once fits into [`SMALL`] bytes. One that needs
//! more has to wait until it is one of the few large ones, of which each namespace has one and all
//! together a handful, whatever the number of questions is.

use std::{
    num::NonZero,
    sync::{Arc, LazyLock},
    thread::available_parallelism,
};

use tokio::task::spawn_blocking;

use super::{
    shares::{Bounds, Party, Share, Shares},
    stage::{At, Stage},
    verify::{Question, VerifyError},
};
use crate::{
    core::{
        limits::Limits,
        reference::{Repository, Selector},
    },
    oci::{OciError, Resolved, Source},
};

/// Bytes that a small question holds at once: its documents, and evidence that is not judged yet.
const SMALL: usize = 512 << 10;
/// Bytes of memory, about, of the verified statements of a small question.
pub(super) const SMALL_STATEMENTS: usize = 1 << 20;

/// Questions that may hold more than a small one, all at the same time.
static LARGE: LazyLock<Arc<Shares>> = LazyLock::new(|| {
    let unbounded = usize::MAX; // Who asks is bounded already.
    Shares::new(Bounds {
        all: 3,
        namespace: 1,
        host: 2,
        namespace_at_host: 1,
        waiting: unbounded,
        waiting_of_namespace: unbounded,
    })
});

/// Threads that judge evidence: one for each core, of which a namespace has at most half.
static THREADS: LazyLock<Arc<Shares>> = LazyLock::new(|| {
    let all = available_parallelism().map_or(1, NonZero::get);
    let half = all.div_ceil(2);
    Shares::new(Bounds {
        all,
        namespace: half,
        host: all,
        namespace_at_host: half,
        waiting: usize::MAX,
        waiting_of_namespace: usize::MAX,
    })
});

/// What one question may hold and read.
pub(super) struct Room<'a> {
    party: Party,
    limits: &'a Limits,
    stage: &'a Stage,
    /// Bytes of evidence that may still be read.
    pub(super) left: u64,
    /// Is it one of the large ones? What lies on this machine is bounded by whoever put it there.
    large: Option<Share>,
    is_local: bool,
}

impl<'a> Room<'a> {
    pub(super) fn new(question: &Question<'_>, limits: &'a Limits, stage: &'a Stage) -> Self {
        let party = Party::new(
            question.namespace,
            question.repository.map(Repository::host),
        );
        Self {
            party,
            limits,
            stage,
            left: limits.evidence_bytes,
            large: None,
            is_local: question.repository.is_none(),
        }
    }

    /// The limits, with no more for a document than there is room for.
    pub(super) fn limits(&self) -> Limits {
        if self.is_large() || self.is_local {
            *self.limits
        } else {
            Limits {
                manifest_bytes: self.limits.manifest_bytes.min(SMALL),
                ..*self.limits
            }
        }
    }

    /// Bytes of evidence that may be held at once.
    pub(super) const fn bytes(&self) -> usize {
        let all = self.limits.evidence_held_bytes;
        if self.is_large() || all < SMALL {
            all
        } else {
            SMALL
        }
    }

    pub(super) const fn is_large(&self) -> bool {
        self.large.is_some()
    }

    /// Waits to be one of the large ones. False if it is one already.
    pub(super) async fn enlarge(&mut self) -> Result<bool, VerifyError> {
        if self.is_large() {
            return Ok(false);
        }
        self.stage.set(At::Evidence);
        self.large = Some(
            LARGE
                .take(&self.party)
                .await
                .map_err(|_| VerifyError::Overloaded)?,
        );
        self.stage.set(At::Registry);
        Ok(true)
    }

    /// Finds what is judged. Only a document that is too large for a small question is asked for
    /// twice.
    pub(super) async fn resolve(
        &mut self,
        source: &dyn Source,
        selector: &Selector,
    ) -> Result<Resolved, VerifyError> {
        let found = source.resolve(selector, &self.limits()).await;
        if is_too_large(&found) && !self.is_local && self.enlarge().await? {
            return Ok(source.resolve(selector, self.limits).await?);
        }
        Ok(found?)
    }

    /// Does work that takes a core, when a thread is free. It ends soon after nobody waits for it
    /// any more only if it looks whether that is so.
    pub(super) async fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, VerifyError> {
        self.stage.set(At::Evidence);
        let thread = THREADS
            .take(&self.party)
            .await
            .map_err(|_| VerifyError::Overloaded)?;
        // The thread is taken until the work ends, and not only until somebody gives up waiting for
        // it.
        let done = spawn_blocking(move || {
            let done = work();
            drop(thread);
            done
        });
        let done = done
            .await
            .map_err(|error| VerifyError::Worker(error.to_string()))?;
        self.stage.set(At::Registry);
        Ok(done)
    }
}

/// Is a document larger than was asked for?
pub(super) const fn is_too_large<T>(found: &Result<T, OciError>) -> bool {
    matches!(found, Err(OciError::LimitExceeded { .. }))
}
