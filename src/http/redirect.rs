//! The rules for redirects.

use reqwest::{
    Method, StatusCode,
    header::{self, HeaderName},
};
use url::Url;

use super::{
    HttpError, HttpRequest,
    redact::{redact_url, strip_user_info},
    request::HttpRequestBody,
    response::HttpResponseHead,
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

fn redirect_location(answer: &HttpResponseHead) -> Option<&str> {
    let redirects = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    redirects.then(|| answer.header(header::LOCATION)).flatten()
}

/// Resolves a `Location` or link relative to `base`. Never from `https` to another scheme, never to
/// a scheme other than `http` and `https`.
pub(super) fn resolve_location(base: &Url, location: &str) -> Result<Url, String> {
    let mut url = base
        .join(location)
        .map_err(|e| format!("its Location cannot be parsed: {e}"))?;
    strip_user_info(&mut url);
    match (base.scheme(), url.scheme()) {
        (_, "https") | ("http", "http") => Ok(url),
        (_, scheme) => Err(format!(
            "a redirect from {} to {} at {} is not allowed",
            base.scheme(),
            scheme,
            redact_url(&url)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_read_relative_to_where_they_came_from() {
        let base: Url = "https://r.example.com/v2/a?x=1".parse().expect("valid");
        for (location, url) in [
            ("/v2/b?y=2", "https://r.example.com/v2/b?y=2"),
            ("b", "https://r.example.com/v2/b"),
            ("https://u:p@s.example.com/c", "https://s.example.com/c"),
            ("//s.example.com/c", "https://s.example.com/c"),
        ] {
            assert_eq!(
                resolve_location(&base, location).expect(location).as_str(),
                url
            );
        }
    }

    #[test]
    fn encryption_is_never_lost() {
        let base: Url = "https://r.example.com/".parse().expect("valid");
        for location in [
            "http://r.example.com/?sig=hunter2",
            "file:///etc/passwd",
            "ftp://r.example.com/",
            "https://",
            "data:,x",
        ] {
            let error = resolve_location(&base, location).expect_err(location);
            assert!(!error.contains("hunter2"), "{error}");
        }
        let plain: Url = "http://r.example.com/".parse().expect("valid");
        assert!(resolve_location(&plain, "https://r.example.com/").is_ok());
        assert!(resolve_location(&plain, "gopher://r.example.com/").is_err());
    }
}
