//! Listing what refers to a manifest (distribution-spec 1.1, "Listing Referrers").
//!
//! Nothing is filtered, neither by the registry nor here: registries without the API list
//! descriptors whose type says nothing.

use std::{collections::HashSet, fmt};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::{RawValue, to_raw_value};
use url::Url;

use super::{
    fallback, manifests,
    session::{Access, Session},
};
use crate::{
    core::{
        json,
        limits::Limits,
        media_type,
        oci::{Annotations, Descriptor, ManifestError},
        reference::Selector,
    },
    http::{Head, Request, StatusCode, header},
    oci::OciError,
};

/// Pages of one list. Empty pages that link to each other would else never end.
const PAGES: usize = 100;
/// Annotations of a listed descriptor. One with more is listed without them: only people look at
/// them.
const ANNOTATIONS: usize = 64;

/// Asks the referrers API; a registry without it is asked for the fallback tag. Each referrer is
/// listed once.
pub(super) async fn list(
    session: &Session,
    subject: &Descriptor,
    limits: &Limits,
) -> Result<Vec<Descriptor>, OciError> {
    let found = match pages(session, subject, limits).await? {
        Some(found) => found,
        None => fallback::read(session, subject, limits).await?,
    };
    Ok(once(found)
        .filter_map(|entry| entry.readable(subject))
        .collect())
}

/// Each referrer once, however often it is listed. Descriptors that differ in type or size name
/// different things: all stay, so that a wrong one hides no right one.
fn once(listed: Vec<Entry>) -> impl Iterator<Item = Entry> {
    let mut seen = HashSet::new();
    listed
        .into_iter()
        .filter(move |entry| entry.name.clone().is_none_or(|name| seen.insert(name)))
}

/// `None`: the registry has no such API.
async fn pages(
    session: &Session,
    subject: &Descriptor,
    limits: &Limits,
) -> Result<Option<Vec<Entry>>, OciError> {
    let mut entries = Vec::new();
    let mut next = Some(session.endpoint.referrers(&subject.digest));
    for page in 0..PAGES {
        let Some(url) = next else {
            return Ok(Some(entries));
        };
        let Some((head, bytes)) = page_at(session, url, page == 0, subject, limits).await? else {
            return Ok(None);
        };
        entries.extend(parse(&bytes, subject, limits)?);
        bounded(&entries, subject, limits)?;
        next = next_page(session, &head)?;
    }
    match next {
        None => Ok(Some(entries)),
        Some(_) => Err(too_many(subject, limits)),
    }
}

async fn page_at(
    session: &Session,
    url: Url,
    first: bool,
    subject: &Descriptor,
    limits: &Limits,
) -> Result<Option<(Head, Bytes)>, OciError> {
    let what = format!("referrers of {}", subject.digest);
    let request = Request::get(url).header(header::ACCEPT, media_type::INDEX);
    match session
        .fetch(&Access::Pull, request, &what, limits.manifest_bytes)
        .await
    {
        Ok(page) => Ok(Some(page)),
        Err(OciError::NotFound { .. }) if first => Ok(None),
        Err(error) => Err(error),
    }
}

fn next_page(session: &Session, head: &Head) -> Result<Option<Url>, OciError> {
    let Some(target) = head.headers(header::LINK).find_map(next_link) else {
        return Ok(None);
    };
    let url = head.follow(target).map_err(|e| session.lost(e))?;
    if session.endpoint.owns(&url) {
        return Ok(Some(url));
    }
    let cause = format!(
        "its list of referrers goes on at another address, {}",
        crate::http::redact::shown(&url)
    );
    Err(OciError::Unavailable {
        location: session.location(),
        cause,
    })
}

/// `<target>; rel="next"` (RFC 8288), alone or in a list.
fn next_link(value: &str) -> Option<&str> {
    let mut rest = value;
    while let Some((_, after)) = rest.split_once('<') {
        let (target, after) = after.split_once('>')?;
        let (parameters, following) = after.split_once('<').map_or((after, ""), |(own, _)| {
            (own, after.get(own.len()..).unwrap_or_default())
        });
        let is_next = |p: &str| {
            p.trim()
                .split_once('=')
                .is_some_and(|(k, v)| k.trim() == "rel" && v.trim().trim_matches('"') == "next")
        };
        if parameters.split([';', ',']).any(is_next) {
            return Some(target);
        }
        rest = following;
    }
    None
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    schema_version: u32,
    media_type: Option<String>,
    manifests: Listed,
}

/// The first entries of a list, and how many there are. What nobody looks at is not kept: a hundred
/// thousand entries in a few megabytes would take ten times as much.
struct Listed {
    first: Vec<Box<RawValue>>,
    count: usize,
}

impl<'de> Deserialize<'de> for Listed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ListedVisitor)
    }
}

struct ListedVisitor;

impl<'de> Visitor<'de> for ListedVisitor {
    type Value = Listed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of descriptors")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Listed, A::Error> {
        let mut first = Vec::new();
        while first.len() < Limits::DEFAULT.referrers_listed {
            match seq.next_element()? {
                Some(entry) => first.push(entry),
                None => {
                    return Ok(Listed {
                        count: first.len(),
                        first,
                    });
                }
            }
        }
        let mut count = first.len();
        while seq.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(Listed { first, count })
    }
}

/// An entry of a list: its text, which stays as somebody wrote it, and what it names.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Entry {
    text: Box<RawValue>,
    #[serde(skip)]
    name: Option<Name>,
}

/// What tells an entry from others.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Name {
    media_type: String,
    digest: String,
    size: u64,
}

impl Entry {
    fn new(text: Box<RawValue>) -> Self {
        let name = serde_json::from_str(text.get()).ok();
        Self { text, name }
    }

    /// A descriptor of ours.
    pub(super) fn of(descriptor: &Descriptor) -> serde_json::Result<Self> {
        Ok(Self::new(to_raw_value(descriptor)?))
    }

    /// Do both name the same? What names nothing is compared as it is written.
    pub(super) fn same(&self, other: &Self) -> bool {
        match (&self.name, &other.name) {
            (None, None) => self.text.get() == other.text.get(),
            (one, two) => one == two,
        }
    }

    /// An entry that is no descriptor of ours (another digest algorithm, a missing field) can be
    /// nothing that counts, and hides nothing.
    fn readable(self, subject: &Descriptor) -> Option<Descriptor> {
        let read: Result<Descriptor, _> = serde_json::from_str(self.text.get());
        let read = read.inspect_err(|error| tracing::debug!(subject = %subject.digest, %error, "a referrer's descriptor cannot be read")).ok()?;
        let annotations = if read.annotations.len() > ANNOTATIONS {
            Annotations::new()
        } else {
            read.annotations
        };
        Some(Descriptor {
            annotations,
            data: None,
            ..read
        })
    }
}

/// Reads an index of referrers. Its entries stay as they are, so that one that we cannot read does
/// not hide the others.
pub(super) fn parse(
    bytes: &[u8],
    subject: &Descriptor,
    limits: &Limits,
) -> Result<Vec<Entry>, OciError> {
    let wire: Wire = json::parse(bytes, limits.manifest_bytes, limits.json_depth)
        .map_err(ManifestError::from)?;
    if wire.schema_version != 2 {
        return Err(ManifestError::SchemaVersion(wire.schema_version).into());
    }
    if let Some(own) = wire.media_type.filter(|own| !media_type::is_index(own)) {
        return Err(ManifestError::Shape(own.chars().take(120).collect()).into());
    }
    let Listed { first, count } = wire.manifests;
    if count > first.len() {
        return Err(too_many(subject, limits));
    }
    Ok(first.into_iter().map(Entry::new).collect())
}

/// Refuses a list that is longer than the limit.
pub(super) fn bounded(
    entries: &[Entry],
    subject: &Descriptor,
    limits: &Limits,
) -> Result<(), OciError> {
    if entries.len() > limits.referrers_listed {
        Err(too_many(subject, limits))
    } else {
        Ok(())
    }
}

fn too_many(subject: &Descriptor, limits: &Limits) -> OciError {
    OciError::TooManyReferrers {
        subject: subject.digest.to_string(),
        limit: limits.referrers_listed,
    }
}

/// The index that lies under a fallback tag, or nothing.
pub(super) async fn index_at(
    session: &Session,
    selector: &Selector,
    limits: &Limits,
) -> Result<Option<Bytes>, OciError> {
    match manifests::document(session, selector, limits.manifest_bytes).await {
        Ok((head, bytes)) if head.status() == StatusCode::OK => Ok(Some(bytes)),
        Ok((head, _)) => Err(OciError::Unavailable {
            location: session.location(),
            cause: format!("HTTP {} for {selector}", head.status().as_u16()),
        }),
        Err(OciError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_among_links() {
        for (value, target) in [
            (
                r#"</v2/a/referrers/x?n=2>; rel="next""#,
                Some("/v2/a/referrers/x?n=2"),
            ),
            ("<b>;rel=next", Some("b")),
            (
                r#"<a>; rel="prev", <b?x=1,2>; title="t"; rel="next""#,
                Some("b?x=1,2"),
            ),
            (r#"<a>; rel="prev""#, None),
            ("a; rel=next", None),
            ("<a; rel=next", None),
            ("", None),
        ] {
            assert_eq!(next_link(value), target, "{value}");
        }
    }

    fn entries(list: &serde_json::Value) -> Result<Vec<Entry>, OciError> {
        let index = serde_json::json!({"schemaVersion": 2, "manifests": list}).to_string();
        parse(index.as_bytes(), &Descriptor::empty(), &Limits::DEFAULT)
    }

    #[test]
    fn a_referrer_that_is_listed_twice_is_one_and_a_wrong_entry_hides_no_right_one() {
        let one = Descriptor::of(media_type::MANIFEST, b"one");
        let typed = Descriptor {
            artifact_type: Some("x".into()),
            ..one.clone()
        };
        let wrong = Descriptor {
            size: 7,
            ..one.clone()
        };
        let other = Descriptor::of(media_type::INDEX, b"one");
        let listed = entries(&serde_json::json!([
            wrong, one, typed, one, other, wrong, 7
        ]))
        .expect("a list");
        assert!(
            listed[1].same(&listed[2])
                && !listed[1].same(&listed[0])
                && !listed[1].same(&listed[4])
                && !listed[6].same(&listed[0])
        );
        assert!(listed[6].same(&listed[6].clone()));
        let found: Vec<Descriptor> = once(listed)
            .filter_map(|entry| entry.readable(&one))
            .collect();
        assert_eq!(found, [wrong, one, other]);
    }

    #[test]
    fn what_is_listed_costs_no_more_than_its_text() {
        let one = Descriptor::of(media_type::MANIFEST, b"one");
        let wordy = Descriptor {
            annotations: (0..65).map(|n| (n.to_string(), String::new())).collect(),
            data: Some("e30=".into()),
            ..one.clone()
        };
        let found: Vec<Descriptor> = once(entries(&serde_json::json!([wordy])).expect("a list"))
            .filter_map(|entry| entry.readable(&one))
            .collect();
        assert_eq!(found, [one]);
        let many: Vec<u32> = (0..1_001).collect();
        assert!(matches!(
            entries(&serde_json::json!(many)),
            Err(OciError::TooManyReferrers { limit: 1_000, .. })
        ));
        assert_eq!(
            entries(&serde_json::json!(many[1..]))
                .expect("as many as are read")
                .len(),
            1_000
        );
    }

    #[test]
    fn lists_are_indexes() {
        let check = |text: &str| {
            parse(text.as_bytes(), &Descriptor::empty(), &Limits::DEFAULT)
                .map(|entries| entries.len())
                .map_err(|e| e.to_string())
        };
        assert_eq!(
            check(r#"{"schemaVersion":2,"manifests":[{"any":1},2]}"#),
            Ok(2)
        );
        for text in [
            "<html>",
            "{}",
            r#"{"schemaVersion":1,"manifests":[]}"#,
            r#"{"schemaVersion":2,"mediaType":"x","manifests":[]}"#,
            r#"{"schemaVersion":2}"#,
        ] {
            assert!(check(text).is_err(), "{text}");
        }
    }
}
