//! One layer of the manifest that a cosign tag names.

use serde_json::Value;

/// A layer with a valid structure. Nothing in it is verified.
pub(super) struct SignedTagLayer {
    /// The bytes that the signature covers.
    pub(super) signed_bytes: Vec<u8>,
    pub(super) signature: Vec<u8>,
    /// The payload of the signature or envelope.
    pub(super) payload: Vec<u8>,
    /// As the content of a Sigstore bundle: the name of the field, and its value.
    pub(super) content: (&'static str, Value),
}
