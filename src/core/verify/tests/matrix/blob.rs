//! The same bundles for a file, where Sigstore's client specification requires a log entry and a
//! time.

use super::*;
use crate::core::{
    blob_verification::{BlobArtifact, BlobTrustedMaterial, verify_blob},
    reason::ClassifiedError,
};

fn beside_a_file(case: &Case, key: Option<&Key>) -> Result<Verified<()>, EvidenceError> {
    let key = key.map(|key| VerificationKey::from_pem(&key.pem()).expect("a public key"));
    let trust = BlobTrustedMaterial {
        root: parsed(&case.sigstore.trusted_root()),
        key,
    };
    let bundle = case.recipe.bundle(&case.sigstore).to_string();
    verify_blob(
        bundle.as_bytes(),
        BlobArtifact {
            digest: subject(),
            content: None,
        },
        &trust,
        &InputLimits::DEFAULT,
    )
}

fn shapes() -> impl Iterator<Item = Shape> {
    Shape::all()
        .into_iter()
        .filter(|shape| matches!(shape.by, By::Certificate | By::Key(Algorithm::P256)))
}

#[test]
fn a_file_needs_a_log_entry_and_a_time() {
    for shape in shapes() {
        let case = Case::new(shape);
        let outcome = beside_a_file(&case, case.keys.first());
        if shape.logged() {
            let verified = outcome.unwrap_or_else(|error| panic!("{shape:?}: {error}"));
            assert_eq!(
                (
                    verified.signer(),
                    verified.signing_time(),
                    verified.is_logged()
                ),
                (&case.signer(shape), case.time(shape), true),
                "{shape:?}"
            );
        } else {
            assert_eq!(
                outcome.expect_err("refused").reason(),
                Reason::InvalidInclusionProof,
                "{shape:?}"
            );
        }
    }
}

#[test]
fn a_file_is_signed_by_what_was_asked_for() {
    let other = Key::new(Algorithm::P256);
    for shape in shapes().filter(|shape| shape.logged()) {
        let case = Case::new(shape);
        let wrong = if shape.keyed() { None } else { Some(&other) };
        assert_eq!(
            beside_a_file(&case, wrong).expect_err("refused").reason(),
            Reason::NoMatchingAuthority,
            "{shape:?}"
        );
        if shape.keyed() {
            assert_eq!(
                beside_a_file(&case, Some(&other))
                    .expect_err("refused")
                    .reason(),
                Reason::InvalidSignature,
                "{shape:?}"
            );
        }
    }
}
