//! Reads the evidence about a digest and verifies it item by item: each item is dropped before more
//! is read.
//!
//! Small items come first, so that no number of large ones prevents a small signature from being
//! found. Items that are not read because the request's byte budget is used up are reported, as are
//! those not verified because its signature checks are.

mod items;
pub(super) mod read_errors;

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use futures::future::join_all;

use self::{
    items::{
        DeferredEvidence, EvidenceItem, PendingReferrer, fetch_referrer_bundle, open_manifests,
        smallest_first, verify_bundles, verify_tag_layers,
    },
    read_errors::{EvidenceBudgetExceeded, fail_on_registry_error, is_caused_by_evidence},
};
use super::{
    cosign_tags::{self, CosignTagLayer},
    memory_budget::{MemoryBudget, SMALL_STATEMENTS, is_document_too_large},
    verification_request::{EvidenceDepth, VerifyError},
};
use crate::{
    core::{
        digest::Digest,
        limits::InputLimits,
        oci::Descriptor,
        verify::{CosignTagCandidate, EvidenceVerifier, TrustedMaterial, VerificationFindings},
    },
    oci::{ContentSource, OciError, fetch_content, fetch_stored_content},
};

/// The number of items that are read concurrently.
const PARALLEL: usize = 8;

/// Where evidence is searched, and how thoroughly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct EvidenceQuery {
    /// How thoroughly evidence is read.
    pub(super) reading: EvidenceDepth,
    /// Include cosign's tags `.sig` and `.att`. Otherwise they are not fetched: each is a request.
    pub(super) tags: bool,
}

/// The verified evidence.
pub(super) struct CollectedEvidence {
    /// The result of verifying each item.
    pub(super) findings: VerificationFindings,
    /// The registry's refusal to show one of the places where evidence may be. Without it no more
    /// than less evidence was found, so it matters only if the rest is not enough.
    pub(super) withheld: Option<OciError>,
}

/// Reads the evidence about `subject`, and verifies it.
///
/// A malformed referrer is rejected on its own, and so is a malformed layer under a tag. A registry
/// that is unavailable, refuses everything or returns bytes that do not match their digest is an
/// error: it is unknown then which evidence is missing.
pub(super) async fn verify_evidence(
    source: &dyn ContentSource,
    subject: &Descriptor,
    wanted: EvidenceQuery,
    trust: TrustedMaterial,
    budget: &mut MemoryBudget<'_>,
    limits: &InputLimits,
) -> Result<CollectedEvidence, VerifyError> {
    let mut lists = list_evidence(source, subject, wanted, &budget.document_limits()).await;
    let clipped = budget.document_limits().manifest_bytes < limits.manifest_bytes;
    if clipped
        && (is_document_too_large(&lists)
            || lists.as_ref().is_ok_and(|(_, tags)| tags.is_too_large()))
        && budget.reserve_large_budget().await?
    {
        lists = list_evidence(source, subject, wanted, limits).await;
    }
    let (mut referrers, mut tags) = lists?;
    let withheld = tags.withheld.take();
    let mut verifier = EvidenceVerifier::new(subject.digest, trust, limits);
    verifier.record_unopened(referrers.len().saturating_sub(limits.referrers_opened));
    referrers.truncate(limits.referrers_opened);
    verifier.record_unopened(tags.truncate_layers(limits.referrers_opened - referrers.len()));
    for rejected in mem::take(&mut tags.unread) {
        verifier.record_rejection(rejected);
    }
    if !budget.is_large() {
        verifier.limit_statement_memory(SMALL_STATEMENTS);
    }
    let mut collector = EvidenceCollector {
        source,
        subject: subject.digest,
        reading: wanted.reading,
        limits,
        budget,
        verifier: Some(Box::new(verifier)),
        stopped: StopOnDrop(Arc::default()),
    };
    collector.verify_referrers(referrers).await?;
    collector.verify_cosign_tags(tags).await?;
    let verifier = collector.verifier.ok_or_else(lost_verifier_error)?;
    Ok(CollectedEvidence {
        findings: verifier.into_findings(),
        withheld,
    })
}

async fn list_evidence(
    source: &dyn ContentSource,
    subject: &Descriptor,
    wanted: EvidenceQuery,
    limits: &InputLimits,
) -> Result<(Vec<Descriptor>, cosign_tags::CosignTagContents), OciError> {
    if wanted.tags {
        let (referrers, tags) = futures::join!(
            source.list_referrers(subject, limits),
            cosign_tags::read_cosign_tags(source, &subject.digest, limits)
        );
        let mut tags = tags?;
        match referrers {
            Err(error) if error.is_definite_answer() && tags.withheld.is_none() => {
                tags.withheld = Some(error);
                Ok((Vec::new(), tags))
            }
            referrers => Ok((referrers?, tags)),
        }
    } else {
        Ok((
            source.list_referrers(subject, limits).await?,
            cosign_tags::CosignTagContents::default(),
        ))
    }
}

fn lost_verifier_error() -> VerifyError {
    VerifyError::Worker("the state of the evidence verification was lost".into())
}

/// Becomes true once the request is cancelled.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct EvidenceCollector<'a, 'r> {
    source: &'a dyn ContentSource,
    subject: Digest,
    reading: EvidenceDepth,
    limits: &'a InputLimits,
    budget: &'a mut MemoryBudget<'r>,
    /// `None` while it works on another thread.
    verifier: Option<Box<EvidenceVerifier>>,
    stopped: StopOnDrop,
}

impl EvidenceCollector<'_, '_> {
    async fn verify_referrers(&mut self, referrers: Vec<Descriptor>) -> Result<(), VerifyError> {
        let mut manifests = smallest_first(
            referrers
                .into_iter()
                .filter(Descriptor::is_manifest_or_index)
                .collect(),
            self.limits,
        );
        let mut stored = Vec::new();
        while let Some(batch) = self.next_batch(&mut manifests)? {
            self.reserve_memory(&batch).await?;
            let (source, limit) = (self.source, self.limits.manifest_bytes);
            let read = join_all(batch.into_iter().map(|referrer: Descriptor| async move {
                let bytes = fetch_content(source, &referrer, limit).await;
                (referrer, bytes)
            }));
            let read = fail_on_registry_error(read.await)?;
            let (subject, reading, limits) = (self.subject, self.reading, *self.limits);
            stored.extend(
                self.verify_batch(move |verifier, stopped| {
                    open_manifests(verifier, read, &subject, reading, &limits, stopped)
                })
                .await?,
            );
        }
        let mut stored = smallest_first(stored, self.limits);
        while let Some(batch) = self.next_batch(&mut stored)? {
            self.reserve_memory(&batch).await?;
            let (source, limits) = (self.source, self.limits);
            let read = join_all(batch.into_iter().map(|item: PendingReferrer| async move {
                let content = fetch_referrer_bundle(source, &item, limits).await;
                (item, content)
            }));
            let read = fail_on_registry_error(read.await)?;
            self.verify_batch(move |verifier, stopped| {
                (verify_bundles(verifier, read, stopped), Vec::new())
            })
            .await
            .map(|_: Vec<PendingReferrer>| ())?;
        }
        Ok(())
    }

    /// Layers under cosign's tags. Many signatures may have the same payload, which is fetched
    /// once.
    async fn verify_cosign_tags(
        &mut self,
        found: cosign_tags::CosignTagContents,
    ) -> Result<(), VerifyError> {
        if self.reading == EvidenceDepth::EveryBlob {
            for (tag_kind, manifest, config) in &found.configs {
                match fetch_stored_content(self.source, config, self.limits.config_bytes).await {
                    Err(error) if is_caused_by_evidence(&error) => self
                        .verifier_mut()?
                        .record_rejection(CosignTagCandidate::rejected_unread(
                            *tag_kind, *manifest, None, &error,
                        )),
                    read => drop(read?),
                }
            }
        }
        let mut by_content: BTreeMap<(Digest, u64), Vec<CosignTagLayer>> = BTreeMap::new();
        for place in found.layers {
            by_content
                .entry((place.layer.digest, place.layer.size))
                .or_default()
                .push(place);
        }
        let mut payloads = smallest_first(by_content.into_values().collect(), self.limits);
        while let Some(batch) = self.next_batch(&mut payloads)? {
            self.reserve_memory(&batch).await?;
            let (source, reading, limit) =
                (self.source, self.reading, self.limits.sigstore_bundle_bytes);
            let read = join_all(
                batch
                    .into_iter()
                    .map(|places: Vec<CosignTagLayer>| async move {
                        let content = match (places.first(), reading) {
                            (Some(place), EvidenceDepth::Needed) => {
                                fetch_content(source, &place.layer, limit).await
                            }
                            (Some(place), EvidenceDepth::EveryBlob) => {
                                fetch_stored_content(source, &place.layer, limit).await
                            }
                            (None, _) => Ok(Bytes::new()),
                        };
                        (places, content)
                    }),
            );
            let read = fail_on_registry_error(read.await)?;
            self.verify_batch(move |verifier, stopped| {
                (verify_tag_layers(verifier, read, stopped), Vec::new())
            })
            .await
            .map(|_: Vec<PendingReferrer>| ())?;
        }
        Ok(())
    }

    fn verifier_mut(&mut self) -> Result<&mut EvidenceVerifier, VerifyError> {
        self.verifier.as_deref_mut().ok_or_else(lost_verifier_error)
    }

    /// The next items, as many as fit into memory and at least one. Items beyond the request's byte
    /// budget are reported and skipped.
    fn next_batch<T: EvidenceItem>(
        &mut self,
        rest: &mut VecDeque<T>,
    ) -> Result<Option<Vec<T>>, VerifyError> {
        let (mut batch, mut held) = (Vec::new(), 0);
        while batch.len() < PARALLEL {
            let Some(next) = rest.pop_front() else { break };
            let (size, left) = (next.read_size(self.limits), self.budget.left);
            if size > left {
                let error = EvidenceBudgetExceeded {
                    size,
                    left,
                    limit: self.limits.evidence_bytes,
                };
                let unread = next.reject_unread(&error);
                unread.into_iter().try_for_each(|rejected| {
                    self.verifier_mut()
                        .map(|verifier| verifier.record_unread(rejected))
                })?;
                continue;
            }
            if !batch.is_empty() && held + size > self.budget.held_bytes_limit() as u64 {
                rest.push_front(next);
                break;
            }
            held += size;
            self.budget.left -= size;
            batch.push(next);
        }
        Ok((!batch.is_empty()).then_some(batch))
    }

    /// Waits until there is memory for a batch.
    async fn reserve_memory<T: EvidenceItem>(&mut self, batch: &[T]) -> Result<(), VerifyError> {
        let size = batch.iter().fold(0_u64, |sum, item| {
            sum.saturating_add(item.read_size(self.limits))
        });
        if size > self.budget.held_bytes_limit() as u64 {
            self.reserve_large_budget().await
        } else {
            Ok(())
        }
    }

    async fn reserve_large_budget(&mut self) -> Result<(), VerifyError> {
        self.budget.reserve_large_budget().await?;
        self.verifier_mut()?.release_withheld_memory();
        Ok(())
    }

    /// Verifies on another thread. An item that needs more memory than a small request has is
    /// verified again once the request is a large one.
    async fn verify_batch<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut EvidenceVerifier, &dyn Fn() -> bool) -> (Vec<DeferredEvidence>, Vec<T>)
        + Send
        + 'static,
    ) -> Result<Vec<T>, VerifyError> {
        let (again, found) = self.run_verifier(work).await?;
        if !again.is_empty() {
            self.reserve_large_budget().await?;
            self.run_verifier(move |verifier, stopped| {
                for deferred in again {
                    drop(deferred.verify_again(verifier, stopped));
                }
            })
            .await?;
        }
        Ok(found)
    }

    async fn run_verifier<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut EvidenceVerifier, &dyn Fn() -> bool) -> T + Send + 'static,
    ) -> Result<T, VerifyError> {
        let (mut verifier, stopped) = (
            self.verifier.take().ok_or_else(lost_verifier_error)?,
            Arc::clone(&self.stopped.0),
        );
        let (verifier, done) = self
            .budget
            .run_on_thread(move || {
                let done = work(&mut verifier, &|| stopped.load(Ordering::Relaxed));
                (verifier, done)
            })
            .await?;
        self.verifier = Some(verifier);
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_gives_up_ends_the_work() {
        let stopped = StopOnDrop(Arc::default());
        let seen = Arc::clone(&stopped.0);
        assert!(!seen.load(Ordering::Relaxed));
        drop(stopped);
        assert!(seen.load(Ordering::Relaxed));
    }
}
