//! Converts HTTP errors and responses into [`OciError`].

use serde::Deserialize;

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
        HttpError::Tls { ref failure, .. } if failure.fault.is_configuration() => {
            OciError::Invalid(format!("{location} cannot be reached: {error}"))
        }
        HttpError::Tls { .. }
        | HttpError::Unreachable { .. }
        | HttpError::Broken { .. }
        | HttpError::TooSlow { .. }
        | HttpError::Redirect { .. } => OciError::Unavailable {
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
    let location = location.to_owned();
    match status.as_u16() {
        404 => OciError::NotFound {
            what: what.into(),
            location,
        },
        401 | 403 => OciError::Denied {
            location,
            status: status.as_u16(),
            cause: words,
        },
        429 => OciError::RateLimited { location },
        status => OciError::Unavailable {
            location,
            cause: format!("HTTP {status} for {what}: {words}"),
        },
    }
}

/// The registry's message (distribution-spec 1.1, "Error Codes"), shortened to one printable line.
pub(super) async fn read_error_message(answer: HttpResponse) -> String {
    let status = answer.status();
    let body = answer.read_body_prefix(MAX_ERROR_BODY_BYTES).await;
    let text = serde_json::from_slice(&body).map_or_else(
        |_| String::new(),
        |body: RegistryErrorBody| body.first_message(),
    );
    let text = sanitize_line(&text, MAX_MESSAGE_CHARACTERS);
    if text.is_empty() {
        status
            .canonical_reason()
            .unwrap_or("no explanation")
            .to_ascii_lowercase()
    } else {
        text
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RegistryErrorBody {
    errors: Vec<RegistryErrorDetail>,
    /// The format of some token services.
    details: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RegistryErrorDetail {
    code: String,
    message: String,
}

impl RegistryErrorBody {
    fn first_message(self) -> String {
        match self.errors.into_iter().next() {
            Some(problem) => format!("{} {}", problem.code, problem.message),
            None => self.details,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::reason::{ClassifiedError, Reason};

    #[test]
    fn every_status_has_a_reason() {
        for (status, reason) in [
            (401, Reason::RegistryDenied),
            (403, Reason::RegistryDenied),
            (404, Reason::SourceNotFound),
            (429, Reason::RateLimited),
            (400, Reason::RegistryUnavailable),
            (418, Reason::RegistryUnavailable),
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
}
