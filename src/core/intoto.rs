//! in-toto statements, version 1 (in-toto attestation framework, spec/v1/statement.md). Version 0.1
//! is read as well: cosign writes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::digest::Digest;

/// `_type` of the statements that we write.
pub const STATEMENT_V1: &str = "https://in-toto.io/Statement/v1";
/// `_type` of the statements that cosign's `attest` writes.
pub const STATEMENT_V01: &str = "https://in-toto.io/Statement/v0.1";
/// Predicate type of cosign's signatures.
pub const COSIGN_SIGN: &str = "https://sigstore.dev/cosign/sign/v1";

/// Subjects, and what is claimed of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement {
    /// [`STATEMENT_V1`] or [`STATEMENT_V01`].
    #[serde(rename = "_type")]
    pub statement_type: String,
    /// The subjects of the statement.
    pub subject: Vec<InTotoSubject>,
    /// The predicate type.
    pub predicate_type: String,
    /// The predicate.
    #[serde(default)]
    pub predicate: Value,
}

/// A subject of a statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InTotoSubject {
    /// The name, such as `registry/repository`. cosign's signatures have none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Digests by algorithm, in lower-case hexadecimal.
    pub digest: BTreeMap<String, String>,
}

impl Statement {
    /// A statement about one digest.
    pub fn for_digest(
        name: impl Into<String>,
        digest: &Digest,
        predicate_type: impl Into<String>,
        predicate: Value,
    ) -> Self {
        let subject = InTotoSubject {
            name: name.into(),
            digest: BTreeMap::from([("sha256".to_owned(), digest.hex_digits())]),
        };
        Self {
            statement_type: STATEMENT_V1.into(),
            subject: vec![subject],
            predicate_type: predicate_type.into(),
            predicate,
        }
    }

    /// True if `digest` is the sha256 of one of its subjects. Exact: upper case or another algorithm
    /// does not count.
    pub fn has_subject_digest(&self, digest: &Digest) -> bool {
        let wanted = digest.hex_digits();
        self.subject
            .iter()
            .any(|subject| subject.digest.get("sha256") == Some(&wanted))
    }
}
