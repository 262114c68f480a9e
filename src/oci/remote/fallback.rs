//! The referrers tag, for registries without the referrers API (distribution-spec 1.1, "Referrers
//! Tag Schema").
//!
//! Writing it is read, change, write, and the last writer wins: no registry can be relied on to
//! compare before it sets. So nobody who has written is done: each looks again, later and later,
//! until its entry has stayed for longer than anybody else can take between reading and writing
//! ([`super::pace`]), and writes it again if it was lost. Who finds entries of others gone that it
//! has seen puts them back. Writers in this process share what they know and take turns, so that
//! one write carries the entries of all of them.

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
    pace::{LOOKS, Pace, until_shown},
    referrers::{Entry, bounded, index_at, parse},
    session::Session,
};
use crate::{
    core::{
        digest::Digest,
        limits::Limits,
        media_type,
        oci::{Descriptor, Document},
        reference::{Selector, Tag},
    },
    oci::{OciError, Resolved},
};

/// Longest time that an entry is fought for. Fifty writers at once need seconds, on a machine with
/// too much to do a minute.
const PATIENCE: Duration = Duration::from_mins(5);
/// Writes in a row that the list shows no trace of, after which the registry is not believed to
/// keep any.
const UNSEEN: u32 = 6;
/// Reads after which a slow one is taken as it is.
const FRESH_READS: u32 = 4;
/// Writes in a row that the registry refuses or that fail for a passing reason.
const FAILURES: u32 = 4;

/// The entries under the referrers tag; none if there is no such tag.
pub(super) async fn read(
    session: &Session,
    subject: &Descriptor,
    limits: &Limits,
) -> Result<Vec<Entry>, OciError> {
    let selector = Selector::Tag(tag(&subject.digest)?);
    let Some(bytes) = index_at(session, &selector, limits).await? else {
        return Ok(Vec::new());
    };
    let entries = parse(&bytes, subject, limits)?;
    bounded(&entries, subject, limits)?;
    Ok(entries)
}

/// The descriptor that a list shows for a pushed document: with its type and its annotations, which
/// readers go by.
pub(super) fn entry(descriptor: &Descriptor, document: &Document) -> Descriptor {
    let artifact_type = document.artifact_type().map(Into::into);
    Descriptor {
        artifact_type,
        annotations: document.annotations().clone(),
        ..descriptor.bare()
    }
}

/// Adds an entry to the list of `subject`, once, and returns when it has stayed there.
///
/// Errors: [`OciError::NotListed`] if that cannot be assured. The document itself is in the
/// registry then, and may be listed.
pub(super) async fn add(
    session: &Session,
    subject: &Descriptor,
    entry: &Descriptor,
    limits: &Limits,
) -> Result<(), OciError> {
    let list = List::shared(&format!("{}@{}", session.location(), subject.digest));
    let own = Entry::of(entry).map_err(|e| OciError::Invalid(e.to_string()))?;
    list.own(own);
    let mut writer = Writer {
        session,
        subject,
        entry,
        limits,
        list,
        pace: Pace::default(),
        base: None,
        unseen: 0,
        failures: 0,
        wrote: None,
        good: None,
    };
    let late = |_| {
        Err(not_listed(
            session,
            entry,
            format!("others overwrote it for {} s", PATIENCE.as_secs()),
        ))
    };
    timeout(PATIENCE, Box::pin(writer.run()))
        .await
        .unwrap_or_else(late)
}

fn not_listed(session: &Session, entry: &Descriptor, cause: String) -> OciError {
    OciError::NotListed {
        location: session.location(),
        digest: entry.digest.to_string(),
        cause,
    }
}

/// One entry on its way into a list.
struct Writer<'a> {
    session: &'a Session,
    subject: &'a Descriptor,
    entry: &'a Descriptor,
    limits: &'a Limits,
    list: Arc<List>,
    pace: Pace,
    /// The list before the last write.
    base: Option<Vec<Entry>>,
    /// Writes in a row that left the list as it was.
    unseen: u32,
    /// Writes in a row that failed.
    failures: u32,
    /// When was written last.
    wrote: Option<Instant>,
    /// How long after that the entry was seen last.
    good: Option<Duration>,
}

/// What one look at the list came to.
enum Look {
    /// Everything is there.
    Complete,
    /// Entries of this process are there, one that somebody else had written is gone. Its writer
    /// may be about to put it back.
    OthersMissing,
    /// Entries of this process are gone.
    Missing,
    /// They were written.
    Written,
}

impl Writer<'_> {
    async fn run(&mut self) -> Result<(), OciError> {
        let (mut looks, mut may_write) = (0, true);
        loop {
            let is_final = looks >= LOOKS;
            let look = self.look(may_write, is_final).await?;
            may_write = false;
            match look {
                Look::Complete if is_final || !self.list.is_written() => return Ok(()),
                Look::Written => looks = 0,
                Look::Complete => {}
                Look::OthersMissing if !is_final => {}
                Look::Missing | Look::OthersMissing => {
                    looks = if matches!(look, Look::Missing) {
                        0
                    } else {
                        looks
                    };
                    sleep(self.lost()?).await;
                    may_write = true;
                    continue;
                }
            }
            sleep(self.pace.before_look(looks)).await;
            looks += 1;
        }
    }

    /// Reads the list, and writes it if something is missing and it may. Nobody else in this
    /// process does so in the meantime.
    async fn look(&mut self, may_write: bool, is_final: bool) -> Result<Look, OciError> {
        let list = Arc::clone(&self.list);
        let _turn = list.turn.lock().await;
        let (start, found) = self.read_fresh().await?;
        list.see(&found, self.limits, self.subject)?;
        let missing = list.missing(&found);
        self.compare(&found);
        if missing.own.is_empty() && (missing.others.is_empty() || !(may_write || is_final)) {
            self.good = self.wrote.map(|at| at.elapsed());
            return Ok(if missing.others.is_empty() {
                Look::Complete
            } else {
                Look::OthersMissing
            });
        }
        if !may_write {
            return Ok(if missing.own.is_empty() {
                Look::OthersMissing
            } else {
                Look::Missing
            });
        }
        self.base = Some(found.clone());
        list.written.store(true, Ordering::Relaxed);
        let written = self
            .write([found, missing.own, missing.others].concat())
            .await;
        self.pace.wrote(start.elapsed());
        (self.wrote, self.good) = (Some(Instant::now()), None);
        self.outcome(written)
    }

    /// The list, as it was a moment ago.
    async fn read_fresh(&mut self) -> Result<(Instant, Vec<Entry>), OciError> {
        for _ in 1..FRESH_READS {
            let start = Instant::now();
            let found = read(self.session, self.subject, self.limits).await?;
            if self.pace.is_fresh(start.elapsed()) {
                return Ok((start, found));
            }
        }
        Ok((
            Instant::now(),
            read(self.session, self.subject, self.limits).await?,
        ))
    }

    /// A write that failed for a passing reason is like one that was lost: what it would have
    /// written is old by now.
    fn outcome(&mut self, written: Result<(), OciError>) -> Result<Look, OciError> {
        match written {
            Ok(()) => {
                self.failures = 0;
                Ok(Look::Written)
            }
            Err(
                OciError::Unavailable { .. }
                | OciError::RateLimited { .. }
                | OciError::Deadline { .. },
            ) if self.failures + 1 < FAILURES => {
                self.failures += 1;
                Ok(Look::Missing)
            }
            Err(error) => Err(error),
        }
    }

    /// Did the last write change anything?
    fn compare(&mut self, found: &[Entry]) {
        if let Some(base) = self.base.take() {
            self.unseen = if self.failures == 0
                && base.len() == found.len()
                && base.iter().zip(found).all(|(one, other)| one.same(other))
            {
                self.unseen + 1
            } else {
                0
            };
        }
    }

    /// Entries are gone. How long to wait before they are written again?
    fn lost(&mut self) -> Result<Duration, OciError> {
        if self.unseen >= UNSEEN {
            return Err(not_listed(
                self.session,
                self.entry,
                format!("it was written {UNSEEN} times, and the list never showed it"),
            ));
        }
        self.pace.lost(self.good.take().unwrap_or_default());
        self.wrote = None;
        let wait = self.pace.backoff();
        let unseen = if self.unseen > 0 {
            until_shown(self.unseen)
        } else {
            Duration::ZERO
        };
        let failed = if self.failures > 0 {
            until_shown(self.failures + 1)
        } else {
            Duration::ZERO
        };
        Ok(wait.max(unseen).max(failed))
    }

    async fn write(&self, entries: Vec<Entry>) -> Result<(), OciError> {
        bounded(&entries, self.subject, self.limits)?;
        let index = Index {
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
        let index = Resolved {
            descriptor: Descriptor::of(media_type::INDEX, &bytes),
            bytes: bytes.into(),
        };
        manifests::put_once(
            self.session,
            &index,
            &Selector::Tag(tag(&self.subject.digest)?),
        )
        .await
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    media_type: &'static str,
    manifests: &'a [Entry],
    schema_version: u32,
}

fn tag(digest: &Digest) -> Result<Tag, OciError> {
    digest
        .fallback_tag()
        .parse()
        .map_err(|e| OciError::Invalid(format!("{e}")))
}

/// One list, shared by everything in this process that writes it.
#[derive(Default)]
struct List {
    turn: tokio::sync::Mutex<()>,
    /// Has anybody here written it?
    written: AtomicBool,
    known: Mutex<Entries>,
}

/// Entries that are, or were, or are to be in a list.
#[derive(Default)]
struct Entries {
    /// Those of this process.
    own: Vec<Entry>,
    /// Those of others that were seen.
    others: Vec<Entry>,
}

impl List {
    fn shared(name: &str) -> Arc<Self> {
        static LISTS: LazyLock<Mutex<HashMap<String, Weak<List>>>> = LazyLock::new(Mutex::default);
        let mut lists = LISTS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(list) = lists.get(name).and_then(Weak::upgrade) {
            return list;
        }
        lists.retain(|_, list| list.strong_count() > 0);
        let list = Arc::new(Self::default());
        lists.insert(name.into(), Arc::downgrade(&list));
        list
    }

    fn known(&self) -> MutexGuard<'_, Entries> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_written(&self) -> bool {
        self.written.load(Ordering::Relaxed)
    }

    fn own(&self, entry: Entry) {
        let mut known = self.known();
        known.others.retain(|other| !other.same(&entry));
        if !has(&known.own, &entry) {
            known.own.push(entry);
        }
    }

    /// Remembers what others have written, as much as a list may hold.
    fn see(&self, found: &[Entry], limits: &Limits, subject: &Descriptor) -> Result<(), OciError> {
        let mut known = self.known();
        for entry in found {
            if !has(&known.own, entry) && !has(&known.others, entry) {
                known.others.push(entry.clone());
            }
        }
        bounded(&known.others, subject, limits)
    }

    /// What is known of, and not there.
    fn missing(&self, found: &[Entry]) -> Entries {
        let known = self.known();
        let absent = |entries: &[Entry]| {
            entries
                .iter()
                .filter(|entry| !has(found, entry))
                .cloned()
                .collect()
        };
        Entries {
            own: absent(&known.own),
            others: absent(&known.others),
        }
    }
}

fn has(entries: &[Entry], entry: &Entry) -> bool {
    entries.iter().any(|other| other.same(entry))
}
