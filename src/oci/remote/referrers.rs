//! Listing the referrers of a manifest (distribution-spec 1.1, "Listing Referrers").
//!
//! Nothing is filtered, neither by the registry nor here: registries without the API list
//! descriptors with a meaningless type.

use bytes::Bytes;
use url::Url;

use super::{
    referrers_index::{
        ReferrerEntry, check_entry_count, deduplicate_entries, is_list, parse_referrers_index,
        too_many_error,
    },
    referrers_tag,
    registry_access::RegistryAccess,
    session::RegistrySession,
};
use crate::{
    core::{display_text::truncate_text, limits::InputLimits, media_type, oci::Descriptor},
    http::{HttpRequest, HttpResponseHead, StatusCode, header},
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
    let (mut found, needs_tag) = match fetch_pages(session, subject, limits).await? {
        ReferrersList::Api(entries) => (entries, false),
        ReferrersList::Doubtful(entries) => (entries, true),
        ReferrersList::NoApi => (Vec::new(), true),
    };
    if needs_tag {
        found.extend(referrers_tag::read_referrers_tag(session, subject, limits).await?);
        check_entry_count(found.len(), subject, limits)?;
    }
    Ok(deduplicate_entries(found)
        .filter_map(|entry| entry.into_descriptor(subject))
        .collect())
}

/// What a registry answers to the request of its referrers API.
enum ReferrersList {
    /// The list.
    Api(Vec<ReferrerEntry>),
    /// A list, but not in the form of the specification: the fallback tag may have more.
    Doubtful(Vec<ReferrerEntry>),
    /// The registry has no such API.
    NoApi,
}

/// One response of the API.
struct ReferrersPage {
    head: HttpResponseHead,
    bytes: Bytes,
    /// False if its media type is no index, or another origin has sent it.
    in_form: bool,
}

async fn fetch_pages(
    session: &RegistrySession,
    subject: &Descriptor,
    limits: &InputLimits,
) -> Result<ReferrersList, OciError> {
    let mut entries = Vec::new();
    let mut in_form = true;
    let mut next = Some(session.endpoint.referrers_url(&subject.digest));
    for page in 0..MAX_PAGES {
        let Some(url) = next else {
            return Ok(if in_form {
                ReferrersList::Api(entries)
            } else {
                ReferrersList::Doubtful(entries)
            });
        };
        let fetched = fetch_page(session, url, subject, limits).await?;
        let listed = match fetched {
            Ok(page) => {
                in_form &= page.in_form;
                parse_page(session, &page, subject, limits)?.map(|listed| (listed, page.head))
            }
            Err(no_api) if page > 0 => return Err(no_api),
            Err(reason) => {
                tracing::debug!(%reason, "no referrers API");
                None
            }
        };
        let Some((listed, head)) = listed else {
            if page == 0 {
                return Ok(ReferrersList::NoApi);
            }
            return Err(malformed_error(session, subject, "a page of it is no list"));
        };
        entries.extend(listed);
        check_entry_count(entries.len(), subject, limits)?;
        next = next_page_url(session, &head)?;
    }
    match next {
        None => Ok(ReferrersList::Api(entries)),
        Some(_) => Err(too_many_error(subject, limits)),
    }
}

/// The entries of a page; `None` if it says that there is no API. Of a page that is not in form
/// nothing else is expected, so what cannot be read in it is no error.
fn parse_page(
    session: &RegistrySession,
    page: &ReferrersPage,
    subject: &Descriptor,
    limits: &InputLimits,
) -> Result<Option<Vec<ReferrerEntry>>, OciError> {
    if !is_list(&page.bytes) {
        return Ok(None);
    }
    match parse_referrers_index(&page.bytes, subject, limits) {
        Ok(entries) => Ok(Some(entries)),
        Err(error @ OciError::TooManyReferrers { .. }) => Err(error),
        Err(_) if !page.in_form => Ok(None),
        Err(error) => Err(malformed_error(session, subject, &error.to_string())),
    }
}

fn malformed_error(session: &RegistrySession, subject: &Descriptor, cause: &str) -> OciError {
    OciError::MalformedReferrers {
        location: session.location(),
        digest: subject.digest.to_string(),
        place: "referrers API".into(),
        cause: cause.into(),
    }
}

/// One page, or the error of an answer that means: there is no such API here. That is a status for
/// requests that are not known, whatever another origin answers after a redirect, and a success
/// that cannot be a list. Whoever can answer one of them can answer 404, so this gives nobody more
/// power: it only ever yields less evidence.
async fn fetch_page(
    session: &RegistrySession,
    url: Url,
    subject: &Descriptor,
    limits: &InputLimits,
) -> Result<Result<ReferrersPage, OciError>, OciError> {
    let what = &format!("the referrers of {}", subject.digest);
    let request = HttpRequest::get(url).header(header::ACCEPT, media_type::INDEX);
    let fetched = session
        .fetch_response(&RegistryAccess::Pull, request, |answer| async move {
            let is_own = session.endpoint.is_same_origin(answer.head().url());
            if !answer.status().is_success() {
                let no_api = !is_own || means_no_api(answer.status());
                let error = session.response_error(answer, what).await;
                return if no_api { Ok(Err(error)) } else { Err(error) };
            }
            let content = ContentKind::of(answer.head());
            if content == ContentKind::Other {
                return Ok(Err(no_list_error(session, answer.head(), what)));
            }
            let head = answer.head().clone();
            let body = answer.read_body(limits.manifest_bytes).await;
            let bytes = body.map_err(|error| session.map_http_error(error))?;
            let in_form = is_own && content == ContentKind::Index;
            Ok(Ok(ReferrersPage {
                head,
                bytes,
                in_form,
            }))
        })
        .await;
    match fetched {
        Err(error @ OciError::Redirected { .. }) => Ok(Err(error)),
        fetched => fetched,
    }
}

/// The statuses for requests that a server does not know. What it refuses (401, 403, 429), and its
/// faults, are none of them.
const fn means_no_api(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 404 | 405 | 406 | 501)
}

fn no_list_error(session: &RegistrySession, head: &HttpResponseHead, what: &str) -> OciError {
    let content_type = head.header(header::CONTENT_TYPE).unwrap_or_default();
    OciError::Unavailable {
        location: session.location(),
        cause: format!(
            "it answered {} in place of {what}",
            truncate_text(content_type, 100)
        ),
    }
}

/// What the `Content-Type` of a success says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ContentKind {
    /// An index, or nothing.
    Index,
    /// It may be an index all the same.
    PossiblyIndex,
    /// It cannot be one.
    Other,
}

impl ContentKind {
    fn of(head: &HttpResponseHead) -> Self {
        let Some(value) = head.header(header::CONTENT_TYPE) else {
            return Self::Index;
        };
        let essence = value.split(';').next().unwrap_or_default().trim();
        let essence = essence.to_ascii_lowercase();
        match essence.as_str() {
            "" => Self::Index,
            essence if media_type::is_index(essence) => Self::Index,
            "text/plain" | "application/octet-stream" => Self::PossiblyIndex,
            essence if essence.ends_with("json") => Self::PossiblyIndex,
            _ => Self::Other,
        }
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
