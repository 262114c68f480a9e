//! The hash algorithm for a key under cosign's tags. It follows from the key and the container,
//! never from the signature's own fields.

use aws_lc_rs::signature::{
    ECDSA_P384_SHA256_ASN1, ECDSA_P521_SHA256_ASN1, UnparsedPublicKey, VerificationAlgorithm,
};

use super::super::{VerificationKey, signed_message::SignedMessage};

/// The SPKI size in bytes of keys on P-384 and P-521. A [`VerificationKey`] has one fixed encoding,
/// so the size identifies the curve.
const P384: usize = 120;
const P521: usize = 158;

/// True if `key` signed `message`, as cosign 3 (the key's own hash) or as cosign 2 (SHA-256) does.
pub(super) fn verifies_tag_signature(
    key: &VerificationKey,
    message: &SignedMessage,
    signature: &[u8],
) -> bool {
    key.verifies_hashed_message(message, signature)
        || sha256_key(key).is_some_and(|key| {
            key.verify_digest(message.sha256_digest(), signature)
                .is_ok()
        })
}

/// The larger curves with SHA-256. Every other key has that hash, or none, anyway.
fn sha256_key(key: &VerificationKey) -> Option<UnparsedPublicKey<&[u8]>> {
    let algorithm: &'static dyn VerificationAlgorithm = match key.spki_der().len() {
        P384 => &ECDSA_P384_SHA256_ASN1,
        P521 => &ECDSA_P521_SHA256_ASN1,
        _ => return None,
    };
    Some(UnparsedPublicKey::new(algorithm, key.spki_der()))
}
