//! The memory and bytes that one request about a bundle may use, and the threads and the memory
//! that all requests of the process share.
//!
//! Almost every request is small: the content that it holds in memory at once fits into
//! [`SMALL_BUDGET_BYTES`] bytes. One that needs more waits until it is one of the few large ones,
//! of which each namespace has one and all together a handful, whatever the number of requests is.

use std::{
    num::NonZero,
    sync::{Arc, LazyLock},
    thread::available_parallelism,
};

use super::{
    cpu_work::{run_namespace_work, wait_for_cpu_budget},
    fair_queue::{FairQueue, FairQueueKey, FairQueueLimits, FairQueuePermit},
    verdict_stage::{VerdictStage, VerdictStageTracker},
    verification_request::{VerificationRequest, VerifyError},
};
use crate::{
    core::{
        limits::InputLimits,
        reference::{ImageRepository, TagOrDigest},
    },
    oci::{ContentSource, OciError, ResolvedManifest},
};

/// Bytes that a small request holds in memory at once: its documents, and evidence that is not
/// verified yet.
const SMALL_BUDGET_BYTES: usize = 512 << 10;
/// Approximate bytes of memory for the verified statements of a small request.
pub(super) const SMALL_STATEMENTS: usize = 1 << 20;

/// Concurrent large requests, which may hold more in memory than a small one.
static LARGE: LazyLock<Arc<FairQueue>> = LazyLock::new(|| {
    let unbounded = usize::MAX; // The caller is limited already.
    FairQueue::new(FairQueueLimits {
        all: 3,
        namespace: 1,
        host: 2,
        namespace_at_host: 1,
        waiting: unbounded,
        waiting_of_namespace: unbounded,
    })
});

/// Threads that verify evidence: one for each core, of which a namespace has at most half.
static THREADS: LazyLock<Arc<FairQueue>> = LazyLock::new(|| {
    let all = available_parallelism().map_or(1, NonZero::get);
    let half = all.div_ceil(2);
    FairQueue::new(FairQueueLimits {
        all,
        namespace: half,
        host: all,
        namespace_at_host: half,
        waiting: usize::MAX,
        waiting_of_namespace: usize::MAX,
    })
});

/// The memory and bytes that one request may use.
pub(super) struct MemoryBudget<'a> {
    party: FairQueueKey,
    limits: &'a InputLimits,
    stage: &'a VerdictStageTracker,
    /// Bytes of evidence that may still be read.
    pub(super) left: u64,
    /// The permit of a large request. Local content needs none: its owner bounds it.
    large: Option<FairQueuePermit>,
    is_local: bool,
}

impl<'a> MemoryBudget<'a> {
    pub(super) fn new(
        request: &VerificationRequest<'_>,
        limits: &'a InputLimits,
        stage: &'a VerdictStageTracker,
    ) -> Self {
        let party = FairQueueKey::new(
            request.namespace,
            request.repository.map(ImageRepository::host),
        );
        Self {
            party,
            limits,
            stage,
            left: limits.evidence_bytes,
            large: None,
            is_local: request.repository.is_none(),
        }
    }

    /// The limits, with documents limited to the memory budget.
    pub(super) fn document_limits(&self) -> InputLimits {
        if self.is_large() || self.is_local {
            *self.limits
        } else {
            InputLimits {
                manifest_bytes: self.limits.manifest_bytes.min(SMALL_BUDGET_BYTES),
                ..*self.limits
            }
        }
    }

    /// Bytes of evidence that may be in memory at once.
    pub(super) const fn held_bytes_limit(&self) -> usize {
        let all = self.limits.evidence_held_bytes;
        if self.is_large() || all < SMALL_BUDGET_BYTES {
            all
        } else {
            SMALL_BUDGET_BYTES
        }
    }

    pub(super) const fn is_large(&self) -> bool {
        self.large.is_some()
    }

    /// Waits to become a large request. False if it is one already.
    pub(super) async fn reserve_large_budget(&mut self) -> Result<bool, VerifyError> {
        if self.is_large() {
            return Ok(false);
        }
        self.stage.set_stage(VerdictStage::Evidence);
        self.large = Some(
            LARGE
                .acquire_permit(&self.party)
                .await
                .map_err(|_| VerifyError::Overloaded)?,
        );
        self.stage.set_stage(VerdictStage::Registry);
        Ok(true)
    }

    /// Resolves the subject. Only a document that is too large for a small request is fetched
    /// twice.
    pub(super) async fn resolve_subject(
        &mut self,
        source: &dyn ContentSource,
        selector: &TagOrDigest,
    ) -> Result<ResolvedManifest, VerifyError> {
        let found = source
            .resolve_manifest(selector, &self.document_limits())
            .await;
        if is_document_too_large(&found) && !self.is_local && self.reserve_large_budget().await? {
            return Ok(source.resolve_manifest(selector, self.limits).await?);
        }
        Ok(found?)
    }

    /// Runs CPU-bound work once a thread is free. To end soon after the request is cancelled, the
    /// work has to check for that itself.
    pub(super) async fn run_on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, VerifyError> {
        self.stage.set_stage(VerdictStage::Evidence);
        wait_for_cpu_budget(&self.party.namespace).await;
        let thread = THREADS
            .acquire_permit(&self.party)
            .await
            .map_err(|_| VerifyError::Overloaded)?;
        // The thread is occupied until the work ends, even if the request is cancelled before.
        let done = run_namespace_work(&self.party.namespace, move || {
            let done = work();
            drop(thread);
            done
        });
        let done = done
            .await
            .map_err(|error| VerifyError::Worker(error.to_string()))?;
        self.stage.set_stage(VerdictStage::Registry);
        Ok(done)
    }
}

/// True if the document exceeds the size limit of the request.
pub(super) const fn is_document_too_large<T>(found: &Result<T, OciError>) -> bool {
    matches!(found, Err(OciError::LimitExceeded { .. }))
}
