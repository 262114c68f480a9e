//! Mirrors of downloads.

use url::Url;

use super::{DownloadRuleError, parse_path, path_below, shown};

/// A place that has the same files as another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownloadMirror {
    /// The scheme of the URLs that it stands for; `None` for both.
    scheme: Option<String>,
    host: String,
    port: Option<u16>,
    /// Without a final slash; empty for the whole host.
    path: String,
    to: Url,
}

impl DownloadMirror {
    /// What begins with `from` is fetched from `to`: both `[SCHEME://]HOST[:PORT][/PATH]`. A mirror
    /// without a scheme speaks `https`.
    pub fn new(from: &str, to: &str) -> Result<Self, DownloadRuleError> {
        let scheme = from.contains("://");
        let from = parse_place(from)?;
        Ok(Self {
            scheme: scheme.then(|| from.scheme().to_owned()),
            host: from.host_str().unwrap_or_default().to_owned(),
            port: from.port(),
            path: from.path().trim_end_matches('/').to_owned(),
            to: parse_place(to)?,
        })
    }

    /// The URL at the mirror, with the same query. `None` if it does not stand for this one.
    pub fn map_url(&self, url: &Url) -> Option<Url> {
        let same_scheme = self.scheme.as_deref().is_none_or(|own| own == url.scheme());
        let same_place = url.host_str() == Some(&self.host) && url.port() == self.port;
        if !same_scheme || !same_place {
            return None;
        }
        let rest = path_below(url.path(), &self.path)?;
        let mut mapped = self.to.clone();
        mapped.set_path(&format!("{}{rest}", self.to.path().trim_end_matches('/')));
        mapped.set_query(url.query());
        // A path that leaves the mirror's is another place.
        path_below(mapped.path(), self.to.path().trim_end_matches('/'))?;
        Some(mapped)
    }
}

fn parse_place(text: &str) -> Result<Url, DownloadRuleError> {
    let refused = || DownloadRuleError::Mirror(shown(text));
    let whole = if text.contains("://") {
        text.to_owned()
    } else {
        format!("https://{text}")
    };
    let url = Url::parse(&whole).map_err(|_| refused())?;
    let authority = whole
        .split_once("://")
        .and_then(|(_, rest)| rest.split('/').next())
        .unwrap_or_default();
    let is_plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && !authority.is_empty()
        && !whole.contains(['?', '#', '@', '\\', '*'])
        && !whole.contains(char::is_whitespace)
        && parse_path(url.path()).is_some();
    if is_plain { Ok(url) } else { Err(refused()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_mapped_by_whole_segments() {
        for (from, to, url, mapped) in [
            (
                "up.example.org",
                "mirror.example.com/up",
                "https://up.example.org/a/b.tgz?v=1",
                Some("https://mirror.example.com/up/a/b.tgz?v=1"),
            ),
            (
                "up.example.org",
                "mirror.example.com",
                "http://up.example.org/a",
                Some("https://mirror.example.com/a"),
            ),
            (
                "https://up.example.org/a/",
                "http://127.0.0.1:8080/b/",
                "https://up.example.org/a/c%20d",
                Some("http://127.0.0.1:8080/b/c%20d"),
            ),
            (
                "UP.example.org/a",
                "mirror.example.com",
                "https://up.example.org/a",
                Some("https://mirror.example.com/"),
            ),
            (
                "https://up.example.org",
                "m.example.com",
                "http://up.example.org/a",
                None,
            ),
            (
                "up.example.org/a",
                "m.example.com",
                "https://up.example.org/ab",
                None,
            ),
            (
                "up.example.org",
                "m.example.com",
                "https://up.example.org:8443/a",
                None,
            ),
            (
                "up.example.org:8443",
                "m.example.com",
                "https://up.example.org/a",
                None,
            ),
            (
                "up.example.org",
                "m.example.com",
                "https://up.example.org.evil.net/a",
                None,
            ),
        ] {
            let mirror = DownloadMirror::new(from, to).expect(from);
            let found = mirror.map_url(&url.parse().expect(url));
            assert_eq!(found.as_ref().map(Url::as_str), mapped, "{from} {url}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in [
            "",
            "/a",
            "https://",
            "ftp://m.example.com",
            "file:///a",
            "u:p@m.example.com",
            "m.example.com/a?x=1",
            "m.example.com/#a",
            "m example.com",
            "*.example.com",
        ] {
            assert!(
                DownloadMirror::new(text, "m.example.com").is_err(),
                "{text}"
            );
            assert!(
                DownloadMirror::new("up.example.org", text).is_err(),
                "{text}"
            );
        }
    }
}
