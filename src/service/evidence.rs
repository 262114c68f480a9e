//! Gathers the evidence about a digest and has it judged, piece by piece: what was judged is
//! dropped before more is read.
//!
//! Small pieces come first, so that no number of large ones keeps a small signature from being
//! found. What is not read because the question's bytes are used up is told, as what was not judged
//! because its signature checks are.

mod pieces;

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

use self::pieces::{
    Again, NothingLeft, Piece, Stored, fetch_bundle, judge_bundles, judge_layers, only_own_faults,
    open_manifests, smallest_first,
};
use super::{
    beside::{self, Place},
    room::{Room, SMALL_STATEMENTS, is_too_large},
    verify::{Reading, VerifyError},
};
use crate::{
    core::{
        digest::Digest,
        limits::Limits,
        oci::Descriptor,
        verify::{EvidenceVerifier, Findings, LegacyCandidate, Trust},
    },
    oci::{OciError, Source, fetch, fetch_stored},
};

/// Pieces that are read at once.
const PARALLEL: usize = 8;

/// Where evidence is looked for, and how closely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// How closely it is looked at.
    pub(super) reading: Reading,
    /// Under cosign's tags `.sig` and `.att` too. Nobody asks for them otherwise: each is a
    /// request.
    pub(super) tags: bool,
}

/// Gathers the evidence about `subject`, and judges it.
///
/// A referrer that is malformed is evidence against itself alone, and so is what lies under a tag.
/// A registry that does not answer, refuses or returns bytes that contradict their digest is an
/// error: nobody can say then what was withheld.
pub(super) async fn find(
    source: &dyn Source,
    subject: &Descriptor,
    wanted: Wanted,
    trust: Trust,
    room: &mut Room<'_>,
    limits: &Limits,
) -> Result<Findings, VerifyError> {
    let mut lists = list(source, subject, wanted, &room.limits()).await;
    let clipped = room.limits().manifest_bytes < limits.manifest_bytes;
    if clipped
        && (is_too_large(&lists)
            || lists
                .as_ref()
                .is_ok_and(|(_, beside)| beside.is_too_large()))
        && room.enlarge().await?
    {
        lists = list(source, subject, wanted, limits).await;
    }
    let (mut referrers, mut beside) = lists?;
    let mut verifier = EvidenceVerifier::new(subject.digest, trust, limits);
    verifier.leave_unopened(referrers.len().saturating_sub(limits.referrers_opened));
    referrers.truncate(limits.referrers_opened);
    verifier.leave_unopened(beside.truncate(limits.referrers_opened - referrers.len()));
    for rejected in mem::take(&mut beside.unread) {
        verifier.reject(rejected);
    }
    if !room.is_large() {
        verifier.narrow(SMALL_STATEMENTS);
    }
    let mut gathering = Gathering {
        source,
        subject: subject.digest,
        reading: wanted.reading,
        limits,
        room,
        verifier: Some(Box::new(verifier)),
        stopped: Stopped(Arc::default()),
    };
    gathering.referrers(referrers).await?;
    gathering.beside(beside).await?;
    gathering
        .verifier
        .map(|verifier| verifier.into_findings())
        .ok_or_else(lost)
}

async fn list(
    source: &dyn Source,
    subject: &Descriptor,
    wanted: Wanted,
    limits: &Limits,
) -> Result<(Vec<Descriptor>, beside::Found), OciError> {
    if wanted.tags {
        futures::try_join!(
            source.referrers(subject, limits),
            beside::read(source, &subject.digest, limits)
        )
    } else {
        Ok((
            source.referrers(subject, limits).await?,
            beside::Found::default(),
        ))
    }
}

/// Can whoever attached the referrer have caused this, and nobody else?
pub(super) const fn is_its_own_fault(error: &OciError) -> bool {
    matches!(
        error,
        OciError::NotFound { .. }
            | OciError::SizeMismatch { .. }
            | OciError::LimitExceeded { .. }
            | OciError::Manifest(_)
    )
}

fn lost() -> VerifyError {
    VerifyError::Worker("the evidence that was judged is lost".into())
}

/// True once nobody waits for the answer any more.
struct Stopped(Arc<AtomicBool>);

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Gathering<'a, 'r> {
    source: &'a dyn Source,
    subject: Digest,
    reading: Reading,
    limits: &'a Limits,
    room: &'a mut Room<'r>,
    /// Absent while it works on another thread.
    verifier: Option<Box<EvidenceVerifier>>,
    stopped: Stopped,
}

impl Gathering<'_, '_> {
    async fn referrers(&mut self, referrers: Vec<Descriptor>) -> Result<(), VerifyError> {
        let mut manifests = smallest_first(
            referrers
                .into_iter()
                .filter(Descriptor::is_document)
                .collect(),
            self.limits,
        );
        let mut stored = Vec::new();
        while let Some(batch) = self.batch(&mut manifests)? {
            self.hold(&batch).await?;
            let (source, limit) = (self.source, self.limits.manifest_bytes);
            let read = join_all(batch.into_iter().map(|referrer: Descriptor| async move {
                let bytes = fetch(source, &referrer, limit).await;
                (referrer, bytes)
            }));
            let read = only_own_faults(read.await)?;
            let (subject, reading, limits) = (self.subject, self.reading, *self.limits);
            stored.extend(
                self.judge(move |verifier, stopped| {
                    open_manifests(verifier, read, &subject, reading, &limits, stopped)
                })
                .await?,
            );
        }
        let mut stored = smallest_first(stored, self.limits);
        while let Some(batch) = self.batch(&mut stored)? {
            self.hold(&batch).await?;
            let (source, limits) = (self.source, self.limits);
            let read = join_all(batch.into_iter().map(|piece: Stored| async move {
                let content = fetch_bundle(source, &piece, limits).await;
                (piece, content)
            }));
            let read = only_own_faults(read.await)?;
            self.judge(move |verifier, stopped| {
                (judge_bundles(verifier, read, stopped), Vec::new())
            })
            .await
            .map(|_: Vec<Stored>| ())?;
        }
        Ok(())
    }

    /// What lies under cosign's tags. Many signatures have one payload, which is fetched once.
    async fn beside(&mut self, found: beside::Found) -> Result<(), VerifyError> {
        if self.reading == Reading::EveryBlob {
            for (beside, manifest, config) in &found.configs {
                match fetch_stored(self.source, config, self.limits.config_bytes).await {
                    Err(error) if is_its_own_fault(&error) => self
                        .verifier()?
                        .reject(LegacyCandidate::unread(*beside, *manifest, None, &error)),
                    read => drop(read?),
                }
            }
        }
        let mut by_content: BTreeMap<(Digest, u64), Vec<Place>> = BTreeMap::new();
        for place in found.layers {
            by_content
                .entry((place.layer.digest, place.layer.size))
                .or_default()
                .push(place);
        }
        let mut payloads = smallest_first(by_content.into_values().collect(), self.limits);
        while let Some(batch) = self.batch(&mut payloads)? {
            self.hold(&batch).await?;
            let (source, reading, limit) =
                (self.source, self.reading, self.limits.sigstore_bundle_bytes);
            let read = join_all(batch.into_iter().map(|places: Vec<Place>| async move {
                let content = match (places.first(), reading) {
                    (Some(place), Reading::Needed) => fetch(source, &place.layer, limit).await,
                    (Some(place), Reading::EveryBlob) => {
                        fetch_stored(source, &place.layer, limit).await
                    }
                    (None, _) => Ok(Bytes::new()),
                };
                (places, content)
            }));
            let read = only_own_faults(read.await)?;
            self.judge(move |verifier, stopped| {
                (judge_layers(verifier, read, stopped), Vec::new())
            })
            .await
            .map(|_: Vec<Stored>| ())?;
        }
        Ok(())
    }

    fn verifier(&mut self) -> Result<&mut EvidenceVerifier, VerifyError> {
        self.verifier.as_deref_mut().ok_or_else(lost)
    }

    /// The next pieces, as many as may be held at once and at least one. What the question has no
    /// bytes left for is told and passed over.
    fn batch<T: Piece>(&mut self, rest: &mut VecDeque<T>) -> Result<Option<Vec<T>>, VerifyError> {
        let (mut batch, mut held) = (Vec::new(), 0);
        while batch.len() < PARALLEL {
            let Some(next) = rest.pop_front() else { break };
            let (size, left) = (next.size(self.limits), self.room.left);
            if size > left {
                let error = NothingLeft {
                    size,
                    left,
                    limit: self.limits.evidence_bytes,
                };
                let unread = next.unread(&error);
                unread.into_iter().try_for_each(|rejected| {
                    self.verifier()
                        .map(|verifier| verifier.leave_unread(rejected))
                })?;
                continue;
            }
            if !batch.is_empty() && held + size > self.room.bytes() as u64 {
                rest.push_front(next);
                break;
            }
            held += size;
            self.room.left -= size;
            batch.push(next);
        }
        Ok((!batch.is_empty()).then_some(batch))
    }

    /// Waits until there is memory for a batch.
    async fn hold<T: Piece>(&mut self, batch: &[T]) -> Result<(), VerifyError> {
        let size = batch.iter().fold(0_u64, |sum, piece| {
            sum.saturating_add(piece.size(self.limits))
        });
        if size > self.room.bytes() as u64 {
            self.enlarge().await
        } else {
            Ok(())
        }
    }

    async fn enlarge(&mut self) -> Result<(), VerifyError> {
        self.room.enlarge().await?;
        self.verifier()?.widen();
        Ok(())
    }

    /// Judges on another thread. What needs more memory than a small question has is judged again
    /// when it is a large one.
    async fn judge<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut EvidenceVerifier, &dyn Fn() -> bool) -> (Vec<Again>, Vec<T>)
        + Send
        + 'static,
    ) -> Result<Vec<T>, VerifyError> {
        let (again, found) = self.run(work).await?;
        if !again.is_empty() {
            self.enlarge().await?;
            self.run(move |verifier, stopped| {
                again
                    .into_iter()
                    .for_each(|again| drop(again.judge(verifier, stopped)))
            })
            .await?;
        }
        Ok(found)
    }

    async fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut EvidenceVerifier, &dyn Fn() -> bool) -> T + Send + 'static,
    ) -> Result<T, VerifyError> {
        let (mut verifier, stopped) = (
            self.verifier.take().ok_or_else(lost)?,
            Arc::clone(&self.stopped.0),
        );
        let (verifier, done) = self
            .room
            .on_thread(move || {
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
        let stopped = Stopped(Arc::default());
        let seen = Arc::clone(&stopped.0);
        assert!(!seen.load(Ordering::Relaxed));
        drop(stopped);
        assert!(seen.load(Ordering::Relaxed));
    }
}
