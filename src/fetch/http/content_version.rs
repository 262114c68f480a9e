//! Which version of a file a response is of, and whether another response continues it.

use jiff::fmt::rfc2822;

use crate::http::{HttpResponseHead, StatusCode, header};

/// Seconds that a change must lie back for its time to tell versions apart: two changes within the
/// same second have the same one (RFC 9110, section 8.8.2.2).
const SETTLED_SECONDS: i64 = 60;

/// The validators of a version of the content (RFC 9110, sections 8.8 and 13.1.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HttpContentVersion {
    /// The value of `If-Range`: a strong entity tag, else the time of a change long ago.
    pub(super) validator: Option<String>,
    pub(super) length: Option<u64>,
}

impl HttpContentVersion {
    pub(super) fn from_response_head(head: &HttpResponseHead) -> Self {
        let tag = head.header(header::ETAG).filter(|tag| tag.starts_with('"'));
        Self {
            validator: tag.or_else(|| settled_change(head)).map(ToOwned::to_owned),
            length: head.content_length(),
        }
    }

    /// True if this response is the rest of the same content, from byte `done` on.
    pub(super) fn is_continued_by(&self, head: &HttpResponseHead, done: u64) -> bool {
        let range = head
            .header(header::CONTENT_RANGE)
            .and_then(|range| range.strip_prefix("bytes ")?.split_once('/'));
        let Some((range, total)) = range else {
            return false;
        };
        let same_length = match (total.parse::<u64>(), self.length) {
            (Ok(total), Some(length)) => total == length,
            _ => true,
        };
        let same_tag = head.header(header::ETAG).is_none_or(|tag| {
            self.validator
                .as_deref()
                .is_none_or(|own| !own.starts_with('"') || own == tag)
        });
        head.status() == StatusCode::PARTIAL_CONTENT
            && range.starts_with(&format!("{done}-"))
            && same_length
            && same_tag
    }

    /// True if this response to a request without a range can be the same content.
    pub(super) fn is_repeated_by(&self, head: &HttpResponseHead) -> bool {
        let same_length = match (head.content_length(), self.length) {
            (Some(new), Some(old)) => new == old,
            _ => true,
        };
        head.status() == StatusCode::OK && same_length
    }
}

/// `Last-Modified`, if that was long before `Date`.
fn settled_change(head: &HttpResponseHead) -> Option<&str> {
    let changed = head.header(header::LAST_MODIFIED)?;
    let parse = |text: &str| Some(rfc2822::parse(text).ok()?.timestamp());
    let age = parse(head.header(header::DATE)?)?
        .as_second()
        .checked_sub(parse(changed)?.as_second())?;
    (age >= SETTLED_SECONDS).then_some(changed)
}
