//! Content digests: SHA-256, written `sha256:<64 lower-case hex>`.
//!
//! Source: OCI image-spec 1.1, descriptor.md, section "Digests". The specification registers
//! `sha512` too; packgate accepts `sha256` only, so that one artifact has one digest
//! (docs/threat-model.md, row 9).

use std::{fmt, str::FromStr};

use aws_lc_rs::digest::{Context, SHA256, SHA512, digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::reason::{Reason, classify};

/// A SHA-256 content digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

/// Why a string is no [`Digest`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum DigestError {
    #[error("digest {0:?} must start with \"sha256:\", the only algorithm that is supported")]
    Algorithm(String),
    #[error("digest {0:?} must have 64 lower-case hexadecimal digits after \"sha256:\"")]
    Hex(String),
}

classify!(DigestError, |_| Reason::InvalidSpec);

impl Digest {
    /// The digest of `bytes`.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let mut hasher = DigestHasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The digest of a list: two lists that differ have different ones, wherever parts begin and end.
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = DigestHasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher.finish()
    }

    /// The 64 hexadecimal digits without the algorithm.
    pub fn hex_digits(&self) -> String {
        hex::encode(self.0)
    }

    /// The raw 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The referrers fallback tag, `sha256-<hex>` (distribution-spec 1.1, "Referrers Tag Schema").
    pub fn referrers_fallback_tag(&self) -> String {
        format!("sha256-{}", self.hex_digits())
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let shown = || text.chars().take(100).collect::<String>();
        let digits = text
            .strip_prefix("sha256:")
            .ok_or_else(|| DigestError::Algorithm(shown()))?;
        let lower = digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let mut bytes = [0; 32];
        if !lower || hex::decode_to_slice(digits, &mut bytes).is_err() {
            return Err(DigestError::Hex(shown()));
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex_digits())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// True if `declared` is a digest of other bytes than these. It knows the algorithms that OCI
/// registers (image-spec 1.1, descriptor.md): sha256 and sha512. Any other text is no mismatch.
pub fn is_digest_mismatch(declared: &str, bytes: &[u8]) -> bool {
    let Some((algorithm, digits)) = declared.split_once(':') else {
        return false;
    };
    let actual = match algorithm {
        "sha256" => digest(&SHA256, bytes),
        "sha512" => digest(&SHA512, bytes),
        _ => return false,
    };
    hex::decode(digits).is_ok_and(|declared| {
        declared.len() == actual.as_ref().len() && declared != actual.as_ref()
    })
}

/// Computes a [`Digest`] incrementally.
#[derive(Clone)]
pub struct DigestHasher(Context);

impl DigestHasher {
    /// A hasher that has seen nothing.
    pub fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all that was taken in.
    pub fn finish(self) -> Digest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.finish().as_ref());
        Digest(bytes)
    }
}

impl Default for DigestHasher {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn lists_that_differ_have_different_digests() {
        let lists: [&[&[u8]]; 6] = [
            &[],
            &[b""],
            &[b"ab", b"c"],
            &[b"a", b"bc"],
            &[b"abc"],
            &[b"abc", b""],
        ];
        let digest = |list: &[&[u8]]| Digest::of_parts(list.iter().copied());
        for (at, list) in lists.iter().enumerate() {
            for other in &lists[..at] {
                assert_ne!(digest(list), digest(other), "{list:?} {other:?}");
            }
        }
    }

    #[test]
    fn the_digest_of_nothing_is_known() {
        assert_eq!(Digest::of_bytes(b"").to_string(), EMPTY);
        assert_eq!(
            EMPTY.parse::<Digest>().expect("valid"),
            Digest::of_bytes(b"")
        );
    }

    #[test]
    fn only_a_digest_that_can_be_computed_contradicts() {
        let sha512 = format!("sha512:{}", hex::encode(digest(&SHA512, b"").as_ref()));
        for declared in [
            EMPTY,
            &EMPTY.replace('e', "E"),
            &sha512,
            "",
            "sha256",
            "sha256:",
            "sha256:00",
            "sha512:00",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
        ] {
            assert!(!is_digest_mismatch(declared, b""), "{declared}");
        }
        for declared in [EMPTY, &EMPTY.to_uppercase().replace("SHA", "sha"), &sha512] {
            assert!(is_digest_mismatch(declared, b"other"), "{declared}");
        }
    }

    #[test]
    fn only_one_spelling_is_accepted() {
        let upper = EMPTY.to_uppercase();
        let long = format!("{EMPTY}0");
        for wrong in [
            "",
            "sha256:",
            "sha512:00",
            "e3b0",
            "sha256:e3b0",
            "sha256: e3b0",
            &upper,
            &long,
            &EMPTY.replace("e3", "E3"),
            &EMPTY.replace("e3", "g3"),
        ] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }
}
