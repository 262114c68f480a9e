//! The referrers tag, for registries without the referrers API (distribution-spec 1.1, "Referrers Tag Schema").
//!
//! Writing it is read, change, write without any protection by the registry. Writers in this process take turns; a writer elsewhere can still
//! overwrite an entry between its own read and write, so each writer reads again after writing and repeats what was lost.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError, Weak},
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    manifests,
    referrers::{bounded, index_at, parse},
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

/// Attempts to get an entry into the list while others write it too.
const ATTEMPTS: u32 = 6;

/// The entries under the referrers tag; none if there is no such tag.
pub(super) async fn read(session: &Session, subject: &Descriptor, limits: &Limits) -> Result<Vec<Value>, OciError> {
    let selector = Selector::Tag(tag(&subject.digest)?);
    let Some(bytes) = index_at(session, session.endpoint.manifest(&selector), &selector.to_string(), limits).await? else {
        return Ok(Vec::new());
    };
    let entries = parse(&bytes, limits)?;
    bounded(&entries, subject, limits)?;
    Ok(entries)
}

/// The descriptor that a list shows for a pushed document: with its type and its annotations, which readers go by.
pub(super) fn entry(descriptor: &Descriptor, document: &Document) -> Descriptor {
    let artifact_type = document.artifact_type().map(Into::into);
    Descriptor { artifact_type, annotations: document.annotations().clone(), ..descriptor.bare() }
}

/// Adds an entry to the list of `subject`, once.
pub(super) async fn add(session: &Session, subject: &Descriptor, entry: &Descriptor, limits: &Limits) -> Result<(), OciError> {
    let turn = turn(&format!("{}@{}", session.location(), subject.digest));
    let _turn = turn.lock().await;
    for attempt in 0..=ATTEMPTS {
        // The second round is the look after writing; from the third on, somebody else writes too.
        if attempt > 1 {
            tokio::time::sleep(Duration::from_millis(20 << attempt)).await;
        }
        let entries = read(session, subject, limits).await?;
        if contains(&entries, &entry.digest) {
            return Ok(());
        }
        if attempt < ATTEMPTS {
            write(session, subject, entries, entry, limits).await?;
        }
    }
    let cause = format!("{} was lost from the list of referrers {ATTEMPTS} times while others wrote it", entry.digest);
    Err(OciError::Unavailable { location: session.location(), cause })
}

async fn write(session: &Session, subject: &Descriptor, mut entries: Vec<Value>, entry: &Descriptor, limits: &Limits) -> Result<(), OciError> {
    entries.push(json!(entry));
    bounded(&entries, subject, limits)?;
    let bytes = json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": entries}).to_string();
    if bytes.len() > limits.manifest_bytes {
        let what = format!("the list of referrers of {}", subject.digest);
        return Err(OciError::LimitExceeded { what, size: bytes.len() as u64, limit: limits.manifest_bytes as u64 });
    }
    let index = Resolved { descriptor: Descriptor::of(media_type::INDEX, bytes.as_bytes()), bytes: bytes.into() };
    manifests::put(session, &index, &Selector::Tag(tag(&subject.digest)?)).await.map(|_| ())
}

fn contains(entries: &[Value], digest: &Digest) -> bool {
    let digest = digest.to_string();
    entries.iter().any(|entry| entry.get("digest").and_then(Value::as_str) == Some(&digest))
}

fn tag(digest: &Digest) -> Result<Tag, OciError> {
    digest.fallback_tag().parse().map_err(|e| OciError::Invalid(format!("{e}")))
}

/// The lock of one list, shared by everything in this process that writes it.
fn turn(list: &str) -> Arc<tokio::sync::Mutex<()>> {
    static TURNS: LazyLock<Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>> = LazyLock::new(Mutex::default);
    let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(turn) = turns.get(list).and_then(Weak::upgrade) {
        return turn;
    }
    turns.retain(|_, turn| turn.strong_count() > 0);
    let turn = Arc::new(tokio::sync::Mutex::new(()));
    turns.insert(list.into(), Arc::downgrade(&turn));
    turn
}
