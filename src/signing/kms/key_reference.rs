//! The name of a plug-in's key, `NAME://KEY`.

use std::str::FromStr;

use super::error::{KmsError, PROGRAM_PREFIX};
use crate::core::display_text::sanitize_text;

/// The maximum size in bytes of a key's name.
pub(super) const MAX_KEY: usize = 4 << 10;
pub(super) const MAX_NAME: usize = 64;

/// Schemes of keys that cosign reads itself, and that are not plug-ins.
const RESERVED_SCHEMES: [&str; 7] = ["file", "http", "https", "env", "k8s", "github", "gitlab"];

/// A key reference, `NAME://KEY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyReference {
    pub(super) name: String,
    pub(super) key: String,
}

impl KeyReference {
    /// True if the text refers to a plug-in, and not to a file.
    pub fn is_key_reference(text: &str) -> bool {
        text.contains("://")
    }

    /// The name of the plug-in's program.
    pub fn program_name(&self) -> String {
        format!("{PROGRAM_PREFIX}{}", self.name)
    }
}

impl FromStr for KeyReference {
    type Err = KmsError;

    /// Parses `NAME://KEY`. NAME: letters, digits and `- _ .`, at most 64; KEY: anything, at most 4
    /// KiB.
    fn from_str(text: &str) -> Result<Self, KmsError> {
        let malformed = || KmsError::Reference(sanitize_text(text));
        let (name, key) = text.split_once("://").ok_or_else(malformed)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if name.is_empty()
            || name.len() > MAX_NAME
            || key.len() > MAX_KEY
            || !name.bytes().all(plain)
        {
            return Err(malformed());
        }
        if RESERVED_SCHEMES.contains(&name) {
            return Err(KmsError::Scheme(name.into()));
        }
        Ok(Self {
            name: name.into(),
            key: key.into(),
        })
    }
}
