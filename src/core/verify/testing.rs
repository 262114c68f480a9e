//! Signed material for tests, and the folder of genuine material by other tools.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests find the shared folder through the environment, and say when there is none"
)]

pub(crate) mod sigstore;

use std::path::PathBuf;

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};

use super::*;
use crate::core::{
    digest::Digest,
    intoto::{COSIGN_SIGN, Statement},
    media_type,
    oci::{Annotations, Descriptor, ImageManifest, ManifestOrIndex},
    slsa::PROVENANCE_V1,
};

/// The folder that `PACKGATE_SHARED_DATA` names, or a note that the test was not run.
pub(crate) fn shared_data(test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("PACKGATE_SHARED_DATA").map(PathBuf::from);
    if folder.is_none() {
        assert!(
            std::env::var_os("PACKGATE_REQUIRE_DATA").is_none(),
            "{test}: PACKGATE_SHARED_DATA is not set, and the data is required"
        );
        eprintln!("{test}: not run, set PACKGATE_SHARED_DATA to the folder with genuine bundles");
    }
    folder
}

/// A P-256 key that signs.
pub(crate) struct TestKey(EcdsaKeyPair);

impl TestKey {
    pub(crate) fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key"))
    }

    /// The same key as PKCS#8 of another library.
    pub(crate) fn from_pkcs8(der: &[u8]) -> Self {
        Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der).expect("a key"))
    }

    pub(crate) fn public(&self) -> VerificationKey {
        VerificationKey::from_pem(&self.pem()).expect("a public key")
    }

    pub(crate) fn pem(&self) -> String {
        let spki = self.0.public_key().as_der().expect("DER");
        format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            BASE64.encode(spki.as_ref())
        )
    }

    /// A signature over `message`.
    pub(crate) fn signature(&self, message: &[u8]) -> Vec<u8> {
        self.0
            .sign(&SystemRandom::new(), message)
            .expect("a signature")
            .as_ref()
            .to_vec()
    }

    /// A Sigstore bundle 0.3 over `payload` as cosign makes it without a log.
    pub(crate) fn bundle(&self, payload_type: &str, payload: &[u8]) -> Value {
        let pae = sigstore_types::pae(payload_type, payload);
        let signature = self
            .0
            .sign(&SystemRandom::new(), &pae)
            .expect("a signature");
        json!({
            "mediaType": media_type::SIGSTORE_BUNDLE_V03,
            "verificationMaterial": {"publicKey": {"hint": self.public().bundle_key_hint()}},
            "dsseEnvelope": {
                "payload": BASE64.encode(payload),
                "payloadType": payload_type,
                "signatures": [{"sig": BASE64.encode(signature.as_ref())}],
            },
        })
    }

    /// A referrer of `subject` with `statement`, signed.
    pub(crate) fn attest(&self, subject: &Digest, statement: &Statement) -> ReferrerCandidate {
        let payload = serde_json::to_vec(statement).expect("JSON");
        candidate(subject, &self.bundle(media_type::IN_TOTO, &payload))
    }

    /// The referrer that `cosign sign --key` makes.
    pub(crate) fn sign(&self, subject: &Digest) -> ReferrerCandidate {
        self.attest(
            subject,
            &Statement::for_digest("", subject, COSIGN_SIGN, json!({})),
        )
    }

    /// Provenance with this predicate.
    pub(crate) fn provenance(&self, subject: &Digest, predicate: Value) -> ReferrerCandidate {
        self.attest(
            subject,
            &Statement::for_digest(
                "r.example.com/team-a/siem",
                subject,
                PROVENANCE_V1,
                predicate,
            ),
        )
    }
}

/// A referrer of `subject` whose only layer is this bundle.
pub(crate) fn candidate(subject: &Digest, bundle: &Value) -> ReferrerCandidate {
    with_content(subject, bundle.to_string().into_bytes())
}

/// A referrer of `subject` whose only layer is called a Sigstore bundle and has this content.
pub(crate) fn with_content(subject: &Digest, content: Vec<u8>) -> ReferrerCandidate {
    let manifest = ImageManifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.into()),
        artifact_type: Some(media_type::SIGSTORE_BUNDLE_V03.into()),
        config: Descriptor::empty(),
        layers: vec![Descriptor::of_bytes(
            media_type::SIGSTORE_BUNDLE_V03,
            &content,
        )],
        subject: Some(Descriptor::new(media_type::MANIFEST, *subject, 555)),
        annotations: Annotations::new(),
    };
    let bytes = serde_json::to_vec(&manifest).expect("JSON");
    let referrer = Descriptor {
        artifact_type: Some(media_type::EMPTY.into()),
        ..Descriptor::of_bytes(media_type::MANIFEST, &bytes)
    };
    ReferrerCandidate {
        referrer,
        manifest: ManifestOrIndex::Manifest(manifest),
        content: content.into(),
    }
}

/// These candidates and nothing else.
pub(crate) fn evidence(candidates: Vec<ReferrerCandidate>) -> UnverifiedEvidence {
    UnverifiedEvidence {
        candidates,
        ..UnverifiedEvidence::default()
    }
}

/// Trusted material with these keys.
pub(crate) fn trust<const N: usize>(keys: [&TestKey; N]) -> TrustedMaterial {
    TrustedMaterial {
        keys: keys.map(TestKey::public).to_vec(),
        ..TrustedMaterial::default()
    }
}
