//! Converts HTTP errors and responses into [`OciError`].

use super::error_message::error_message;
use crate::{
    core::display_text::sanitize_line,
    http::{HttpError, HttpResponse, StatusCode},
    oci::OciError,
};

/// Bytes of an error response's body that are read.
pub(super) const MAX_ERROR_BODY_BYTES: usize = 16 << 10;
/// Characters of a registry's message that are shown.
const MAX_MESSAGE_CHARACTERS: usize = 200;

/// The error of a request without a response.
pub(super) fn from_http(error: HttpError, location: &str) -> OciError {
    let location = location.to_owned();
    match error {
        HttpError::Address { cause, .. } => OciError::AddressNotAllowed {
            location,
            cause: cause.to_string(),
        },
        HttpError::Timeout { .. } => OciError::Deadline {
            location,
            cause: error.to_string(),
        },
        HttpError::TooLarge { url, limit } => OciError::LimitExceeded {
            what: url,
            size: limit as u64 + 1,
            limit: limit as u64,
        },
        HttpError::Setup { .. } => OciError::Invalid(error.to_string()),
        HttpError::Tls { .. }
        | HttpError::Unreachable { .. }
        | HttpError::Broken { .. }
        | HttpError::TooSlow { .. } => OciError::Unavailable {
            location,
            cause: error.to_string(),
        },
        HttpError::Redirect { .. } => OciError::Redirected {
            location,
            cause: error.to_string(),
        },
    }
}

/// The error of an unsuccessful response. `what` was requested.
pub(super) fn from_status(
    status: StatusCode,
    words: String,
    what: &str,
    location: &str,
) -> OciError {
    let (what, cause) = (what.to_owned(), words);
    match status.as_u16() {
        404 => OciError::NotFound {
            location: with_words(location, &cause),
            what,
        },
        status @ (401 | 403) => OciError::Denied {
            location: location.into(),
            status,
            cause,
        },
        429 => OciError::RateLimited {
            location: location.into(),
            retry_after: None,
        },
        code if is_definite_refusal(status) => OciError::Refused {
            location: location.into(),
            what,
            status: code,
            cause,
        },
        status => OciError::Unavailable {
            location: location.into(),
            cause: format!("HTTP {status} for {what}: {cause}"),
        },
    }
}

/// The error of an unsuccessful response to a write: what is not found then is the repository, or
/// something in it that has to exist before.
pub(super) fn from_write_status(
    status: StatusCode,
    words: String,
    what: &str,
    location: &str,
) -> OciError {
    if status == StatusCode::NOT_FOUND {
        OciError::Refused {
            location: location.into(),
            what: what.into(),
            status: status.as_u16(),
            cause: words,
        }
    } else {
        from_status(status, words, what, location)
    }
}

/// True if the same request would get the same answer again.
fn is_definite_refusal(status: StatusCode) -> bool {
    let may_pass = matches!(status.as_u16(), 408 | 421 | 425);
    (status.is_client_error() && !may_pass) || matches!(status.as_u16(), 501 | 505 | 507)
}

/// The repository, with what the registry says about it: it may say that the project is missing,
/// and not only the content.
fn with_words(location: &str, words: &str) -> String {
    let says_nothing = words.eq_ignore_ascii_case("not found")
        || ["MANIFEST_UNKNOWN", "BLOB_UNKNOWN"]
            .iter()
            .any(|code| words.starts_with(code));
    if says_nothing {
        location.to_owned()
    } else {
        format!("{location} ({words})")
    }
}

/// The registry's code and message (distribution-spec 1.1, "Error Codes"), or whatever else it
/// says, shortened to one printable line.
pub(super) async fn read_error_message(answer: HttpResponse) -> String {
    let status = answer.status();
    let body = answer.read_body_prefix(MAX_ERROR_BODY_BYTES).await;
    let text = sanitize_line(&error_message(&body), MAX_MESSAGE_CHARACTERS);
    if text.is_empty() {
        status
            .canonical_reason()
            .unwrap_or("no explanation")
            .to_ascii_lowercase()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::reason::{ClassifiedError, Reason};
    use crate::http::{ErrorAdvice, TlsFailure, TlsFault};

    #[test]
    fn every_status_has_a_reason() {
        for (status, reason) in [
            (401, Reason::RegistryDenied),
            (403, Reason::RegistryDenied),
            (404, Reason::SourceNotFound),
            (429, Reason::RateLimited),
            (400, Reason::RegistryRefused),
            (402, Reason::RegistryRefused),
            (405, Reason::RegistryRefused),
            (409, Reason::RegistryRefused),
            (412, Reason::RegistryRefused),
            (413, Reason::RegistryRefused),
            (418, Reason::RegistryRefused),
            (501, Reason::RegistryRefused),
            (507, Reason::RegistryRefused),
            (408, Reason::RegistryUnavailable),
            (500, Reason::RegistryUnavailable),
            (503, Reason::RegistryUnavailable),
            (302, Reason::RegistryUnavailable),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(
                from_status(status, String::new(), "x", "r").reason(),
                reason,
                "{status}"
            );
        }
    }

    #[test]
    fn what_is_missing_for_a_write_is_no_missing_source() {
        let words = "NAME_UNKNOWN The repository with name 'a' does not exist";
        let write = from_write_status(StatusCode::NOT_FOUND, words.into(), "x", "r");
        assert_eq!(write.reason(), Reason::RegistryRefused);
        assert!(write.to_string().contains(words), "{write}");
        let read = from_status(StatusCode::NOT_FOUND, words.into(), "v1", "r");
        assert_eq!(read.to_string(), format!("v1 was not found in r ({words})"));
        for words in ["not found", "MANIFEST_UNKNOWN manifest unknown"] {
            let read = from_status(StatusCode::NOT_FOUND, words.into(), "v1", "r");
            assert_eq!(read.to_string(), "v1 was not found in r");
        }
    }

    #[test]
    fn a_request_without_an_answer_has_a_reason() {
        let (url, cause) = ("https://r.example.com/".to_owned(), String::new());
        for (error, reason) in [
            (
                HttpError::Unreachable {
                    url: url.clone(),
                    cause: cause.clone(),
                },
                Reason::RegistryUnavailable,
            ),
            (
                HttpError::TooSlow {
                    url: url.clone(),
                    bytes: 1,
                    seconds: 60,
                    least: 8_192,
                },
                Reason::RegistryUnavailable,
            ),
            (
                HttpError::Redirect {
                    url: url.clone(),
                    cause: cause.clone(),
                },
                Reason::RegistryUnavailable,
            ),
            (
                HttpError::Timeout {
                    url: url.clone(),
                    wait: "data",
                    seconds: 1,
                },
                Reason::DeadlineExceeded,
            ),
            (
                HttpError::TooLarge {
                    url: url.clone(),
                    limit: 1,
                },
                Reason::LimitExceeded,
            ),
            (HttpError::Setup { what: url, cause }, Reason::InvalidSpec),
        ] {
            assert_eq!(from_http(error, "r").reason(), reason);
        }
    }

    #[test]
    fn a_fault_of_tls_is_told_in_words() {
        for advice in [ErrorAdvice::CommandLine, ErrorAdvice::Cluster] {
            let failure = TlsFailure {
                fault: TlsFault::UnknownIssuer,
                host: "r.example.com".into(),
                advice,
            };
            let text = failure.to_string();
            let url = "https://r.example.com/".into();
            let error = from_http(HttpError::Tls { url, failure }, "r");
            assert_eq!(error.reason(), Reason::RegistryUnavailable);
            assert!(error.to_string().contains(&text), "{error}");
        }
    }
}
