//! Keeps secrets out of logs and errors.

use std::fmt;

use serde::{Deserialize, Deserializer};
use url::Url;

use crate::core::display_text::sanitize_line;

/// A secret. It prints as `***` and is only read with [`Redacted::expose`], so that every use can
/// be found.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Redacted<T>(T);

impl<T> Redacted<T> {
    /// Wraps a secret.
    pub const fn new(secret: T) -> Self {
        Self(secret)
    }

    /// The secret itself.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> From<T> for Redacted<T> {
    fn from(secret: T) -> Self {
        Self(secret)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Redacted<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self)
    }
}

impl<T> fmt::Debug for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T> fmt::Display for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A URL for output: without user info, query and fragment, each of which can contain a secret.
pub fn redact_url(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    strip_user_info(&mut url);
    sanitize_line(url.as_str(), 300)
}

/// Removes user info. The library would turn it into an `Authorization` header.
pub(super) fn strip_user_info(url: &mut Url) {
    // Both fail for URLs without a host only, and those have no user info.
    let _ = url.set_username("");
    let _ = url.set_password(None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_print() {
        let secret = Redacted::new("hunter2");
        assert_eq!(
            format!("{secret} {secret:?} {:?}", Some(&secret)),
            "*** *** Some(***)"
        );
        assert_eq!(*secret.expose(), "hunter2");
    }

    #[test]
    fn urls_are_shown_without_what_may_be_secret() {
        for (url, text) in [
            (
                "https://user:hunter2@r.example.com/a?sig=hunter2#hunter2",
                "https://r.example.com/a",
            ),
            ("http://127.0.0.1:5000/v2/", "http://127.0.0.1:5000/v2/"),
        ] {
            assert_eq!(redact_url(&url.parse().expect(url)), text);
        }
    }
}
