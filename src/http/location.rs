//! `Location` and `Link` targets, relative to where they came from.

use url::Url;

use super::redact::{redact_url, strip_user_info};

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
