//! The rules for redirects.

use super::{
    HttpError, HttpRequest, location::resolve_location, redact::redact_url,
    request::HttpRequestBody, response::HttpResponseHead,
};
use url::Url;

use reqwest::{
    Method, StatusCode,
    header::{self, HeaderName},
};

/// Headers that must not reach another origin.
const CREDENTIALS: [HeaderName; 3] = [
    header::AUTHORIZATION,
    header::COOKIE,
    header::PROXY_AUTHORIZATION,
];

/// The request that follows `answer`, or `None` if the response is not a redirect to follow.
pub(super) fn redirected_request(
    request: Option<HttpRequest>,
    answer: &HttpResponseHead,
) -> Result<Option<HttpRequest>, HttpError> {
    let Some(location) = redirect_location(answer) else {
        return Ok(None);
    };
    let refuse = |cause: String| HttpError::Redirect {
        url: redact_url(answer.url()),
        cause,
    };
    let mut request =
        request.ok_or_else(|| refuse("a redirect of an upload is not followed".into()))?;
    let url = resolve_location(answer.url(), location).map_err(refuse)?;
    let keeps_method = matches!(
        answer.status(),
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
    );
    if !keeps_method && !matches!(request.method, Method::GET | Method::HEAD) {
        return Err(refuse(format!(
            "HTTP {} to a {} is not followed",
            answer.status().as_u16(),
            request.method
        )));
    }
    if url.origin() != answer.url().origin() {
        if !matches!(request.payload, HttpRequestBody::Nothing) {
            return Err(refuse(format!(
                "a redirect that sends the body to {} is not followed",
                redact_url(&url)
            )));
        }
        for name in &CREDENTIALS {
            request.headers.remove(name);
        }
    }
    request.url = url;
    Ok(Some(request))
}

/// The target of a redirect in the answer to a `GET` request; `None` if it is another answer.
pub fn redirect_target(answer: &HttpResponseHead) -> Result<Option<Url>, HttpError> {
    redirect_location(answer)
        .map(|location| answer.resolve_location(location))
        .transpose()
}

fn redirect_location(answer: &HttpResponseHead) -> Option<&str> {
    let redirects = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    redirects.then(|| answer.header(header::LOCATION)).flatten()
}
