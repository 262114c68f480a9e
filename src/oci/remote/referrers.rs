//! Listing what refers to a manifest (distribution-spec 1.1, "Listing Referrers").
//!
//! Nothing is filtered, neither by the registry nor here: registries without the API list descriptors whose type says nothing.

use std::collections::HashSet;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::{
    fallback,
    manifests::accepting,
    session::{Access, Session},
};
use crate::{
    core::{
        json,
        limits::Limits,
        media_type,
        oci::{Descriptor, ManifestError},
    },
    http::{Head, Request, StatusCode, header},
    oci::OciError,
};

/// Pages of one list. Empty pages that link to each other would else never end.
const PAGES: usize = 100;

/// Asks the referrers API; a registry without it is asked for the fallback tag.
pub(super) async fn list(session: &Session, subject: &Descriptor, limits: &Limits) -> Result<Vec<Descriptor>, OciError> {
    let found = match pages(session, subject, limits).await? {
        Some(found) => found,
        None => fallback::read(session, subject, limits).await?,
    };
    Ok(once(found.into_iter().filter_map(|entry| readable(entry, subject))))
}

/// Each referrer once, however often it is listed. Descriptors that differ in type or size name different claims: all stay, so that a wrong one
/// hides no right one.
fn once(listed: impl Iterator<Item = Descriptor>) -> Vec<Descriptor> {
    let mut seen = HashSet::new();
    listed.filter(|entry| seen.insert((entry.digest, entry.size, entry.media_type.clone()))).collect()
}

/// Do two entries name the same referrer?
pub(super) fn same(one: &Value, other: &Value) -> bool {
    let key = |entry: &Value| ["digest", "size", "mediaType"].map(|field| entry.get(field).cloned());
    one == other || (one.get("digest").is_some() && key(one) == key(other))
}

/// `None`: the registry has no such API.
async fn pages(session: &Session, subject: &Descriptor, limits: &Limits) -> Result<Option<Vec<Value>>, OciError> {
    let mut entries = Vec::new();
    let mut next = Some(session.endpoint.referrers(&subject.digest));
    for page in 0..PAGES {
        let Some(url) = next else { return Ok(Some(entries)) };
        let Some((head, bytes)) = page_at(session, url, page == 0, subject, limits).await? else { return Ok(None) };
        entries.extend(parse(&bytes, limits)?);
        bounded(&entries, subject, limits)?;
        next = next_page(session, &head)?;
    }
    match next {
        None => Ok(Some(entries)),
        Some(_) => Err(OciError::TooManyReferrers { subject: subject.digest.to_string(), limit: limits.referrers_listed }),
    }
}

async fn page_at(session: &Session, url: Url, first: bool, subject: &Descriptor, limits: &Limits) -> Result<Option<(Head, Bytes)>, OciError> {
    let what = format!("referrers of {}", subject.digest);
    let request = Request::get(url).header(header::ACCEPT, media_type::INDEX);
    match session.fetch(&Access::Pull, request, &what, limits.manifest_bytes).await {
        Ok(page) => Ok(Some(page)),
        Err(OciError::NotFound { .. }) if first => Ok(None),
        Err(error) => Err(error),
    }
}

fn next_page(session: &Session, head: &Head) -> Result<Option<Url>, OciError> {
    let Some(target) = head.headers(header::LINK).find_map(next_link) else { return Ok(None) };
    let url = head.follow(target).map_err(|e| session.lost(e))?;
    if session.endpoint.owns(&url) {
        return Ok(Some(url));
    }
    let cause = format!("its list of referrers goes on at another address, {}", crate::http::redact::shown(&url));
    Err(OciError::Unavailable { location: session.location(), cause })
}

/// `<target>; rel="next"` (RFC 8288), alone or in a list.
fn next_link(value: &str) -> Option<&str> {
    let mut rest = value;
    while let Some((_, after)) = rest.split_once('<') {
        let (target, after) = after.split_once('>')?;
        let (parameters, following) = after.split_once('<').map_or((after, ""), |(own, _)| (own, after.get(own.len()..).unwrap_or_default()));
        let is_next = |p: &str| p.trim().split_once('=').is_some_and(|(k, v)| k.trim() == "rel" && v.trim().trim_matches('"') == "next");
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
    manifests: Vec<Value>,
}

/// Reads an index of referrers. Its entries stay as they are, so that one that we cannot read does not hide the others.
pub(super) fn parse(bytes: &[u8], limits: &Limits) -> Result<Vec<Value>, OciError> {
    let wire: Wire = json::parse(bytes, limits.manifest_bytes, limits.json_depth).map_err(ManifestError::from)?;
    if wire.schema_version != 2 {
        return Err(ManifestError::SchemaVersion(wire.schema_version).into());
    }
    match wire.media_type {
        Some(own) if !media_type::is_index(&own) => Err(ManifestError::Shape(own.chars().take(120).collect()).into()),
        _ => Ok(wire.manifests),
    }
}

/// Refuses a list that is longer than the limit.
pub(super) fn bounded(entries: &[Value], subject: &Descriptor, limits: &Limits) -> Result<(), OciError> {
    if entries.len() > limits.referrers_listed {
        return Err(OciError::TooManyReferrers { subject: subject.digest.to_string(), limit: limits.referrers_listed });
    }
    Ok(())
}

/// An entry that is no descriptor of ours (another digest algorithm, a missing field) can be nothing that counts, and hides nothing.
fn readable(entry: Value, subject: &Descriptor) -> Option<Descriptor> {
    let read: Result<Descriptor, _> = serde_json::from_value(entry);
    read.inspect_err(|error| tracing::debug!(subject = %subject.digest, %error, "a referrer's descriptor cannot be read")).ok()
}

/// The index that lies under a fallback tag, or nothing.
pub(super) async fn index_at(session: &Session, url: Url, what: &str, limits: &Limits) -> Result<Option<Bytes>, OciError> {
    match session.fetch(&Access::Pull, accepting(Request::get(url)), what, limits.manifest_bytes).await {
        Ok((head, bytes)) if head.status() == StatusCode::OK => Ok(Some(bytes)),
        Ok((head, _)) => Err(OciError::Unavailable { location: session.location(), cause: format!("HTTP {} for {what}", head.status().as_u16()) }),
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
            (r#"</v2/a/referrers/x?n=2>; rel="next""#, Some("/v2/a/referrers/x?n=2")),
            ("<b>;rel=next", Some("b")),
            (r#"<a>; rel="prev", <b?x=1,2>; title="t"; rel="next""#, Some("b?x=1,2")),
            (r#"<a>; rel="prev""#, None),
            ("a; rel=next", None),
            ("<a; rel=next", None),
            ("", None),
        ] {
            assert_eq!(next_link(value), target, "{value}");
        }
    }

    #[test]
    fn a_referrer_that_is_listed_twice_is_one_and_a_wrong_entry_hides_no_right_one() {
        let one = Descriptor::of(media_type::MANIFEST, b"one");
        let typed = Descriptor { artifact_type: Some("x".into()), ..one.clone() };
        let wrong = Descriptor { size: 7, ..one.clone() };
        let other = Descriptor::of(media_type::INDEX, b"one");
        let listed = [&wrong, &one, &typed, &one, &other, &wrong].map(Clone::clone);
        assert_eq!(once(listed.into_iter()), [wrong.clone(), one.clone(), other.clone()]);
        let value = |descriptor: &Descriptor| serde_json::to_value(descriptor).expect("JSON");
        assert!(same(&value(&one), &value(&typed)));
        assert!(!same(&value(&one), &value(&wrong)) && !same(&value(&one), &value(&other)));
        assert!(same(&Value::from(7), &Value::from(7)) && !same(&Value::from(7), &Value::from(8)) && !same(&Value::from(7), &value(&one)));
    }

    #[test]
    fn lists_are_indexes() {
        let check = |text: &str| parse(text.as_bytes(), &Limits::DEFAULT).map(|entries| entries.len()).map_err(|e| e.to_string());
        assert_eq!(check(r#"{"schemaVersion":2,"manifests":[{"any":1},2]}"#), Ok(2));
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
