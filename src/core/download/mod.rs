//! Rules of downloads: to which URLs a credential may be sent, and which mirrors stand for a URL.
//! Both are compared with URLs as the HTTP client parses them. Nothing is sent here.

mod credential_scope;
mod mirror;

pub use credential_scope::{CredentialScope, CredentialScopeMatch};
pub use mirror::DownloadMirror;

use url::Url;

use super::reason::{Reason, classify};

/// Why a rule is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum DownloadRuleError {
    #[error("{0:?} must be HOST or HOST:PORT, such as files.example.com")]
    Host(String),
    #[error("{0:?} must be a path that begins with /, without ? and #")]
    Path(String),
    #[error(
        "{0:?} must be HOST[:PORT][/PATH], with http:// or https:// before it if that matters, and \
            without user name, ? and #"
    )]
    Mirror(String),
}

classify!(DownloadRuleError, |error| match error {
    Self::Host(_) | Self::Path(_) | Self::Mirror(_) => Reason::InvalidSpec,
});

/// A refused text for an error, without a user name and password.
fn shown(text: &str) -> String {
    text.rsplit('@').next().unwrap_or_default().to_owned()
}

/// `HOST[:PORT]` as a URL of that host. Its path is `/`.
fn parse_host(host: &str) -> Option<Url> {
    let is_plain = !host.is_empty()
        && !host.contains(['/', '?', '#', '@', '\\', '%', '*'])
        && !host.contains(char::is_whitespace);
    let url = Url::parse(&format!("https://{host}/")).ok()?;
    (is_plain && url.has_host()).then_some(url)
}

/// A path in the form that URLs have, without a final slash; empty for the root.
fn parse_path(path: &str) -> Option<String> {
    if !path.starts_with('/') || path.contains(['?', '#', '\\']) {
        return None;
    }
    let mut url = Url::parse("https://localhost/").ok()?;
    url.set_path(path);
    Some(url.path().trim_end_matches('/').to_owned())
}

/// What follows `parent` in `path`, if it is the same or below it: whole segments.
fn path_below<'a>(path: &'a str, parent: &str) -> Option<&'a str> {
    path.strip_prefix(parent)
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
}
