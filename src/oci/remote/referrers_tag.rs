//! The referrers tag, for registries without the referrers API (distribution-spec 1.1, "Referrers
//! Tag Schema").
//!
//! An update reads, changes and writes the index, and the last writer wins: registries do not
//! support compare-and-set reliably. So each writer checks again, at growing intervals, until its
//! entry has stayed for longer than any other writer can take between reading and writing
//! ([`super::referrers_tag_timing`]), and writes it again if it was lost. A writer also restores
//! lost entries of others that it has seen. Writers in this process share their state and take
//! turns, so that one write contains the entries of all of them.

use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use super::{
    manifests,
    referrers::{ReferrerEntry, check_entry_count, fetch_tagged_index, parse_referrers_index},
    referrers_tag_timing::{ReferrersTagTiming, STABILITY_CHECKS, visibility_wait},
    session::RegistrySession,
};
use crate::{
    core::{
        digest::Digest,
        limits::InputLimits,
        media_type,
        oci::{Descriptor, ManifestOrIndex},
        reference::{ImageTag, TagOrDigest},
    },
    oci::{OciError, ResolvedManifest},
};

/// The longest time that an entry is retried. Fifty concurrent writers need seconds, on an
/// overloaded machine a minute.
const WRITE_DEADLINE: Duration = Duration::from_mins(5);
/// Consecutive writes without any effect, after which the registry counts as unable to store the
/// list.
const MAX_INEFFECTIVE_WRITES: u32 = 6;
/// The number of reads after which a slow one is used anyway.
const MAX_FRESH_READS: u32 = 4;
/// Consecutive writes that fail with a temporary error.
const MAX_FAILED_WRITES: u32 = 4;

/// The entries under the referrers tag; none if the tag does not exist.
pub(super) async fn read_referrers_tag(
    session: &RegistrySession,
    subject: &Descriptor,
    limits: &InputLimits,
) -> Result<Vec<ReferrerEntry>, OciError> {
    let selector = TagOrDigest::Tag(referrers_tag_for(&subject.digest)?);
    let Some(bytes) = fetch_tagged_index(session, &selector, limits).await? else {
        return Ok(Vec::new());
    };
    let entries = parse_referrers_index(&bytes, subject, limits)?;
    check_entry_count(&entries, subject, limits)?;
    Ok(entries)
}

/// The descriptor of a pushed document in the list: with its type and annotations, which readers
/// use.
pub(super) fn referrer_descriptor(
    descriptor: &Descriptor,
    document: &ManifestOrIndex,
) -> Descriptor {
    let artifact_type = document.artifact_type().map(Into::into);
    Descriptor {
        artifact_type,
        annotations: document.annotations().clone(),
        ..descriptor.without_metadata()
    }
}

/// Adds an entry to the list of `subject`, once, and returns when it is safe from being lost.
///
/// Errors: [`OciError::ReferrerNotListed`] if that cannot be ensured. The document itself is in the
/// registry then, and may be listed.
pub(super) async fn add_referrer(
    session: &RegistrySession,
    subject: &Descriptor,
    entry: &Descriptor,
    limits: &InputLimits,
) -> Result<(), OciError> {
    let list =
        SharedReferrersTag::get_shared(&format!("{}@{}", session.location(), subject.digest));
    let own =
        ReferrerEntry::from_descriptor(entry).map_err(|e| OciError::Invalid(e.to_string()))?;
    list.add_own(own);
    let mut writer = ReferrersTagWriter {
        session,
        subject,
        entry,
        limits,
        list,
        timing: ReferrersTagTiming::default(),
        base: None,
        unseen: 0,
        failures: 0,
        wrote: None,
        good: None,
    };
    let late = |_| {
        Err(not_listed_error(
            session,
            entry,
            format!(
                "other writers overwrote it for {} s",
                WRITE_DEADLINE.as_secs()
            ),
        ))
    };
    timeout(WRITE_DEADLINE, Box::pin(writer.write_until_stable()))
        .await
        .unwrap_or_else(late)
}

fn not_listed_error(session: &RegistrySession, entry: &Descriptor, cause: String) -> OciError {
    OciError::ReferrerNotListed {
        location: session.location(),
        digest: entry.digest.to_string(),
        cause,
    }
}

/// One entry that is being added to a list.
struct ReferrersTagWriter<'a> {
    session: &'a RegistrySession,
    subject: &'a Descriptor,
    entry: &'a Descriptor,
    limits: &'a InputLimits,
    list: Arc<SharedReferrersTag>,
    timing: ReferrersTagTiming,
    /// The list before the last write.
    base: Option<Vec<ReferrerEntry>>,
    /// Consecutive writes that left the list unchanged.
    unseen: u32,
    /// Consecutive writes that failed.
    failures: u32,
    /// The time of the last write.
    wrote: Option<Instant>,
    /// How long after that the entry was last seen.
    good: Option<Duration>,
}

/// The result of one check of the list.
enum ReferrersTagCheck {
    /// All entries are present.
    Complete,
    /// Entries of this process are present, but one of another writer is missing, which may be
    /// about to restore it.
    OthersMissing,
    /// Entries of this process are missing.
    Missing,
    /// Missing entries were written.
    Rewritten,
}

impl ReferrersTagWriter<'_> {
    async fn write_until_stable(&mut self) -> Result<(), OciError> {
        let (mut looks, mut may_write) = (0, true);
        loop {
            let is_final = looks >= STABILITY_CHECKS;
            let look = self.check_and_write(may_write, is_final).await?;
            may_write = false;
            match look {
                ReferrersTagCheck::Complete if is_final || !self.list.is_written() => return Ok(()),
                ReferrersTagCheck::Rewritten => looks = 0,
                ReferrersTagCheck::Complete => {}
                ReferrersTagCheck::OthersMissing if !is_final => {}
                ReferrersTagCheck::Missing | ReferrersTagCheck::OthersMissing => {
                    looks = if matches!(look, ReferrersTagCheck::Missing) {
                        0
                    } else {
                        looks
                    };
                    sleep(self.wait_after_loss()?).await;
                    may_write = true;
                    continue;
                }
            }
            sleep(self.timing.wait_before_check(looks)).await;
            looks += 1;
        }
    }

    /// Reads the list, and writes it if entries are missing and a write is allowed. Only one task
    /// of the process does so at a time.
    async fn check_and_write(
        &mut self,
        may_write: bool,
        is_final: bool,
    ) -> Result<ReferrersTagCheck, OciError> {
        let list = Arc::clone(&self.list);
        let _turn = list.turn.lock().await;
        let (start, found) = self.read_fresh().await?;
        list.track_others(&found, self.limits, self.subject)?;
        let missing = list.missing_entries(&found);
        self.count_ineffective_writes(&found);
        if missing.own.is_empty() && (missing.others.is_empty() || !(may_write || is_final)) {
            self.good = self.wrote.map(|at| at.elapsed());
            return Ok(if missing.others.is_empty() {
                ReferrersTagCheck::Complete
            } else {
                ReferrersTagCheck::OthersMissing
            });
        }
        if !may_write {
            return Ok(if missing.own.is_empty() {
                ReferrersTagCheck::OthersMissing
            } else {
                ReferrersTagCheck::Missing
            });
        }
        self.base = Some(found.clone());
        list.written.store(true, Ordering::Relaxed);
        let written = self
            .write_entries([found, missing.own, missing.others].concat())
            .await;
        self.timing.record_write(start.elapsed());
        (self.wrote, self.good) = (Some(Instant::now()), None);
        self.classify_write(written)
    }

    /// The list, read within a short time.
    async fn read_fresh(&mut self) -> Result<(Instant, Vec<ReferrerEntry>), OciError> {
        for _ in 1..MAX_FRESH_READS {
            let start = Instant::now();
            let found = read_referrers_tag(self.session, self.subject, self.limits).await?;
            if self.timing.is_fresh(start.elapsed()) {
                return Ok((start, found));
            }
        }
        Ok((
            Instant::now(),
            read_referrers_tag(self.session, self.subject, self.limits).await?,
        ))
    }

    /// A write with a temporary error is treated like a lost one: the list that it would have
    /// written is outdated by now.
    fn classify_write(
        &mut self,
        written: Result<(), OciError>,
    ) -> Result<ReferrersTagCheck, OciError> {
        match written {
            Ok(()) => {
                self.failures = 0;
                Ok(ReferrersTagCheck::Rewritten)
            }
            Err(
                OciError::Unavailable { .. }
                | OciError::RateLimited { .. }
                | OciError::Deadline { .. },
            ) if self.failures + 1 < MAX_FAILED_WRITES => {
                self.failures += 1;
                Ok(ReferrersTagCheck::Missing)
            }
            Err(error) => Err(error),
        }
    }

    /// Counts writes without any effect.
    fn count_ineffective_writes(&mut self, found: &[ReferrerEntry]) {
        if let Some(base) = self.base.take() {
            self.unseen = if self.failures == 0
                && base.len() == found.len()
                && base
                    .iter()
                    .zip(found)
                    .all(|(one, other)| one.names_same_content(other))
            {
                self.unseen + 1
            } else {
                0
            };
        }
    }

    /// After a loss: how long to wait before the entries are written again.
    fn wait_after_loss(&mut self) -> Result<Duration, OciError> {
        if self.unseen >= MAX_INEFFECTIVE_WRITES {
            return Err(not_listed_error(
                self.session,
                self.entry,
                format!(
                    "it was written {MAX_INEFFECTIVE_WRITES} times, but the list never contained it"
                ),
            ));
        }
        self.timing
            .record_loss(self.good.take().unwrap_or_default());
        self.wrote = None;
        let wait = self.timing.rewrite_backoff();
        let unseen = if self.unseen > 0 {
            visibility_wait(self.unseen)
        } else {
            Duration::ZERO
        };
        let failed = if self.failures > 0 {
            visibility_wait(self.failures + 1)
        } else {
            Duration::ZERO
        };
        Ok(wait.max(unseen).max(failed))
    }

    async fn write_entries(&self, entries: Vec<ReferrerEntry>) -> Result<(), OciError> {
        check_entry_count(&entries, self.subject, self.limits)?;
        let index = ReferrersIndexBody {
            media_type: media_type::INDEX,
            manifests: &entries,
            schema_version: 2,
        };
        let bytes = serde_json::to_vec(&index).map_err(|e| OciError::Invalid(e.to_string()))?;
        let limit = self.limits.manifest_bytes;
        if bytes.len() > limit {
            let what = format!("the list of referrers of {}", self.subject.digest);
            return Err(OciError::LimitExceeded {
                what,
                size: bytes.len() as u64,
                limit: limit as u64,
            });
        }
        let index = ResolvedManifest {
            descriptor: Descriptor::of_bytes(media_type::INDEX, &bytes),
            bytes: bytes.into(),
        };
        manifests::put_manifest_once(
            self.session,
            &index,
            &TagOrDigest::Tag(referrers_tag_for(&self.subject.digest)?),
        )
        .await
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReferrersIndexBody<'a> {
    media_type: &'static str,
    manifests: &'a [ReferrerEntry],
    schema_version: u32,
}

fn referrers_tag_for(digest: &Digest) -> Result<ImageTag, OciError> {
    digest
        .referrers_fallback_tag()
        .parse()
        .map_err(|e| OciError::Invalid(format!("{e}")))
}

/// One list, shared by all of its writers in this process.
#[derive(Default)]
struct SharedReferrersTag {
    turn: tokio::sync::Mutex<()>,
    /// True if this process has written it.
    written: AtomicBool,
    known: Mutex<TrackedReferrers>,
}

/// Entries that are, were, or will be in a list.
#[derive(Default)]
struct TrackedReferrers {
    /// The entries of this process.
    own: Vec<ReferrerEntry>,
    /// Entries of other writers.
    others: Vec<ReferrerEntry>,
}

impl SharedReferrersTag {
    fn get_shared(name: &str) -> Arc<Self> {
        static LISTS: LazyLock<Mutex<HashMap<String, Weak<SharedReferrersTag>>>> =
            LazyLock::new(Mutex::default);
        let mut lists = LISTS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(list) = lists.get(name).and_then(Weak::upgrade) {
            return list;
        }
        lists.retain(|_, list| list.strong_count() > 0);
        let list = Arc::new(Self::default());
        lists.insert(name.into(), Arc::downgrade(&list));
        list
    }

    fn lock_tracked(&self) -> MutexGuard<'_, TrackedReferrers> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_written(&self) -> bool {
        self.written.load(Ordering::Relaxed)
    }

    fn add_own(&self, entry: ReferrerEntry) {
        let mut known = self.lock_tracked();
        known
            .others
            .retain(|other| !other.names_same_content(&entry));
        if !contains_entry(&known.own, &entry) {
            known.own.push(entry);
        }
    }

    /// Remembers entries of other writers, up to the limit of a list.
    fn track_others(
        &self,
        found: &[ReferrerEntry],
        limits: &InputLimits,
        subject: &Descriptor,
    ) -> Result<(), OciError> {
        let mut known = self.lock_tracked();
        for entry in found {
            if !contains_entry(&known.own, entry) && !contains_entry(&known.others, entry) {
                known.others.push(entry.clone());
            }
        }
        check_entry_count(&known.others, subject, limits)
    }

    /// Tracked entries that are missing.
    fn missing_entries(&self, found: &[ReferrerEntry]) -> TrackedReferrers {
        let known = self.lock_tracked();
        let absent = |entries: &[ReferrerEntry]| {
            entries
                .iter()
                .filter(|entry| !contains_entry(found, entry))
                .cloned()
                .collect()
        };
        TrackedReferrers {
            own: absent(&known.own),
            others: absent(&known.others),
        }
    }
}

fn contains_entry(entries: &[ReferrerEntry], entry: &ReferrerEntry) -> bool {
    entries.iter().any(|other| other.names_same_content(entry))
}
