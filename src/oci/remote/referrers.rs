//! Listing the referrers of a manifest (distribution-spec 1.1, "Listing Referrers").
//!
//! Nothing is filtered, neither by the registry nor here: registries without the API list
//! descriptors with a meaningless type.

use bytes::Bytes;
use url::Url;

use super::{
    referrers_index::{
        ReferrerEntry, check_entry_count, deduplicate_entries, parse_referrers_index,
        too_many_error,
    },
    referrers_tag,
    registry_access::RegistryAccess,
    session::RegistrySession,
};
use crate::{
    core::{limits::InputLimits, media_type, oci::Descriptor},
    http::{HttpRequest, HttpResponseHead, header},
    oci::OciError,
};

/// The maximum number of pages of one list. Empty pages that link to each other would never end
/// otherwise.
const MAX_PAGES: usize = 100;

/// Requests the referrers API, or from a registry without it the fallback tag. Each referrer is
/// listed once.
pub(super) async fn list_referrers(
    session: &RegistrySession,
    subject: &Descriptor,
    limits: &InputLimits,
) -> Result<Vec<Descriptor>, OciError> {
    let found = match fetch_pages(session, subject, limits).await? {
        Some(found) => found,
        None => referrers_tag::read_referrers_tag(session, subject, limits).await?,
    };
    Ok(deduplicate_entries(found)
        .filter_map(|entry| entry.into_descriptor(subject))
        .collect())
}

/// `None`: the registry does not support the API.
async fn fetch_pages(
    session: &RegistrySession,
    subject: &Descriptor,
    limits: &InputLimits,
) -> Result<Option<Vec<ReferrerEntry>>, OciError> {
    let mut entries = Vec::new();
    let mut next = Some(session.endpoint.referrers_url(&subject.digest));
    for page in 0..MAX_PAGES {
        let Some(url) = next else {
            return Ok(Some(entries));
        };
        let Some((head, bytes)) = fetch_page(session, url, page == 0, subject, limits).await?
        else {
            return Ok(None);
        };
        entries.extend(parse_referrers_index(&bytes, subject, limits)?);
        check_entry_count(entries.len(), subject, limits)?;
        next = next_page_url(session, &head)?;
    }
    match next {
        None => Ok(Some(entries)),
        Some(_) => Err(too_many_error(subject, limits)),
    }
}

async fn fetch_page(
    session: &RegistrySession,
    url: Url,
    first: bool,
    subject: &Descriptor,
    limits: &InputLimits,
) -> Result<Option<(HttpResponseHead, Bytes)>, OciError> {
    let what = format!("referrers of {}", subject.digest);
    let request = HttpRequest::get(url).header(header::ACCEPT, media_type::INDEX);
    match session
        .fetch_body(&RegistryAccess::Pull, request, &what, limits.manifest_bytes)
        .await
    {
        Ok(page) => Ok(Some(page)),
        Err(OciError::NotFound { .. }) if first => Ok(None),
        Err(error) => Err(error),
    }
}

fn next_page_url(
    session: &RegistrySession,
    head: &HttpResponseHead,
) -> Result<Option<Url>, OciError> {
    let Some(target) = head.headers(header::LINK).find_map(next_link) else {
        return Ok(None);
    };
    let url = head
        .resolve_location(target)
        .map_err(|e| session.map_http_error(e))?;
    if session.endpoint.is_same_origin(&url) {
        return Ok(Some(url));
    }
    let cause = format!(
        "its list of referrers continues at another address, {}",
        crate::http::redact::redact_url(&url)
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
}
