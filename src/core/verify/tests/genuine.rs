//! Bundles made by cosign 3.1 with a key and no log.

use std::{fs, path::Path};

use super::*;
use crate::core::{intoto::STATEMENT_V1, oci::layout, slsa::PROVENANCE_V1};

const JUDGED: &str = "sha256:4de7c72b901d6a86e1fa4babc043e6157aead46183192b4399d98fa978d0e33e";

fn read(layout: &Path, descriptor: &Descriptor) -> Bytes {
    fs::read(layout.join(layout::blob_path(&descriptor.digest)))
        .expect("a blob")
        .into()
}

/// Every manifest of the layout with a subject. cosign listed them as
/// `application/vnd.oci.empty.v1+json`.
fn gather(layout: &Path, judged: &Digest) -> UnverifiedEvidence {
    let index = fs::read(layout.join(layout::INDEX_FILE)).expect("an index");
    let index =
        ManifestOrIndex::parse(media_type::INDEX, &index, &InputLimits::DEFAULT).expect("an index");
    let mut evidence = UnverifiedEvidence::default();
    for referrer in index.children() {
        let manifest = ManifestOrIndex::parse(
            &referrer.media_type,
            &read(layout, referrer),
            &InputLimits::DEFAULT,
        )
        .expect("a document");
        if let Ok(Some(layer)) = sigstore_bundle_layer(&manifest, judged) {
            let content = read(layout, layer);
            evidence.candidates.push(ReferrerCandidate {
                referrer: referrer.clone(),
                manifest,
                content,
            });
        }
    }
    evidence
}

#[test]
fn cosigns_signature_and_provenance_hold() {
    let Some(data) = shared_data("cosigns_signature_and_provenance_hold") else {
        return;
    };
    let judged: Digest = JUDGED.parse().expect("a digest");
    let evidence = gather(&data.join("cosign-made/lay-bundle"), &judged);
    let key = VerificationKey::from_pem(
        &fs::read_to_string(data.join("cosign-made/cosign.pub")).expect("a key"),
    )
    .expect("a key");
    let ours = TrustedMaterial {
        keys: vec![key],
        ..TrustedMaterial::default()
    };
    let findings = verify_evidence(&judged, &evidence, &ours, &InputLimits::DEFAULT);
    let mut types: Vec<_> = findings
        .verified
        .iter()
        .map(|v| {
            (
                v.claim().predicate_type.as_str(),
                v.claim().statement_type.as_str(),
            )
        })
        .collect();
    types.sort_unstable();
    assert_eq!(
        types,
        [(COSIGN_SIGN, STATEMENT_V1), (PROVENANCE_V1, STATEMENT_V01)]
    );
    assert!(findings.rejected.is_empty());

    let findings = verify_evidence(
        &judged,
        &evidence,
        &trust([&TestKey::new()]),
        &InputLimits::DEFAULT,
    );
    let reasons: Vec<_> = findings
        .rejected
        .iter()
        .map(|rejected| rejected.reason)
        .collect();
    assert_eq!(
        (findings.verified.len(), reasons),
        (0, vec![Reason::NoMatchingAuthority; 2])
    );
    let findings = verify_evidence(&subject(), &evidence, &ours, &InputLimits::DEFAULT);
    assert!(
        findings.verified.is_empty()
            && findings
                .rejected
                .iter()
                .all(|rejected| rejected.reason == Reason::SubjectMismatch)
    );
}
