//! Signatures and attestations in a registry: a Sigstore bundle, version 0.3, as an OCI referrer.
//!
//! Source: cosign 3 (`dev.sigstore.bundle.*` annotations), image-spec 1.1, manifest.md, "Guidelines
//! for Artifact Usage". The manifest is pushed by digest and gets no tag.

use bytes::Bytes;
use jiff::Timestamp;
use sigstore_types::{
    Bundle as SigstoreBundle, DigestBytes, DsseEnvelope, DsseSignature, HashAlgorithm, KeyId,
    MediaType, MessageDigest, MessageSignature, PayloadBytes, SignatureBytes, SignatureContent,
    VerificationMaterial,
};

use super::{
    digest::Digest,
    media_type,
    oci::{Annotations, Descriptor, ImageManifest, descriptor::EMPTY_CONTENT},
    pack::TITLE_ANNOTATION,
    timestamp::format_rfc3339,
};

/// The creation time of a referrer (image-spec 1.1, annotations.md).
pub const CREATED: &str = "org.opencontainers.image.created";
/// The kind of the bundle's content.
pub const BUNDLE_CONTENT: &str = "dev.sigstore.bundle.content";
/// The predicate type of the statement in it. A claim: the bundle is authoritative.
pub const BUNDLE_PREDICATE_TYPE: &str = "dev.sigstore.bundle.predicateType";

/// The maximum size in bytes of a Sigstore bundle that is also embedded in its manifest, so that a
/// reader needs one request for both. At admission every request adds latency; but a registry that
/// stores manifests in a database should not have to store megabytes in it.
const MAX_EMBEDDED_BUNDLE: usize = 32 << 10;

/// Content with its descriptor, ready to be pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferrerContent {
    /// The descriptor.
    pub descriptor: Descriptor,
    /// The bytes.
    pub bytes: Bytes,
}

/// All content of a referrer, in the order in which it is pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferrerArtifact {
    /// The empty config. Its blob must exist.
    pub config: ReferrerContent,
    /// The Sigstore bundle.
    pub layer: ReferrerContent,
    /// The manifest that refers to the subject.
    pub manifest: ReferrerContent,
}

/// The Sigstore bundle of a signed in-toto statement. `statement` are the bytes whose
/// [`statement_pae`](super::dsse::statement_pae) was signed.
pub fn dsse_envelope_bundle(
    statement: &[u8],
    signature: SignatureBytes,
    material: VerificationMaterial,
) -> serde_json::Result<Bytes> {
    let envelope = DsseEnvelope::new(
        media_type::IN_TOTO,
        PayloadBytes::from_bytes(statement),
        DsseSignature::new(signature, KeyId::default()),
    );
    let bundle = SigstoreBundle::new(
        MediaType::Bundle0_3,
        material,
        SignatureContent::DsseEnvelope(envelope),
    );
    serde_json::to_vec(&bundle).map(Bytes::from)
}

/// The Sigstore bundle of signed bytes with this digest.
pub fn message_signature_bundle(
    digest: &Digest,
    signature: SignatureBytes,
    material: VerificationMaterial,
) -> serde_json::Result<Bytes> {
    let digest = MessageDigest::new(
        HashAlgorithm::Sha2256,
        DigestBytes::new(digest.as_bytes().to_vec()),
    );
    let content = SignatureContent::MessageSignature(
        MessageSignature::new(signature).with_message_digest(digest),
    );
    serde_json::to_vec(&SigstoreBundle::new(
        MediaType::Bundle0_3,
        material,
        content,
    ))
    .map(Bytes::from)
}

/// The referrer of `subject` with `sigstore_bundle`, whose statement has `predicate_type`.
pub fn bundle_referrer(
    sigstore_bundle: Bytes,
    predicate_type: &str,
    subject: &Descriptor,
    created: Timestamp,
) -> serde_json::Result<ReferrerArtifact> {
    let layer = Descriptor::of_bytes(media_type::SIGSTORE_BUNDLE_V03, &sigstore_bundle);
    let shown = if sigstore_bundle.len() <= MAX_EMBEDDED_BUNDLE {
        layer.clone().with_embedded_content(&sigstore_bundle)
    } else {
        layer.clone()
    };
    let annotations = [
        (CREATED, format_rfc3339(created)),
        (BUNDLE_CONTENT, "dsse-envelope".to_owned()),
        (BUNDLE_PREDICATE_TYPE, predicate_type.to_owned()),
    ];
    let manifest = ImageManifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.into()),
        artifact_type: Some(media_type::SIGSTORE_BUNDLE_V03.into()),
        config: Descriptor::empty(),
        layers: vec![shown],
        subject: Some(subject.without_metadata()),
        annotations: annotations
            .map(|(key, value)| (key.to_owned(), value))
            .into_iter()
            .collect::<Annotations>(),
    };
    let manifest = Bytes::from(serde_json::to_vec(&manifest)?);
    Ok(ReferrerArtifact {
        config: ReferrerContent {
            descriptor: Descriptor::empty(),
            bytes: Bytes::from_static(EMPTY_CONTENT),
        },
        layer: ReferrerContent {
            descriptor: layer,
            bytes: sigstore_bundle,
        },
        manifest: ReferrerContent {
            descriptor: Descriptor::of_bytes(media_type::MANIFEST, &manifest),
            bytes: manifest,
        },
    })
}

/// A referrer of `subject` with the document `bytes`, called `title`, as its content. It is not
/// signed and has no time: the same document gives the same referrer.
pub fn document_referrer(
    bytes: Bytes,
    media_type: &str,
    title: &str,
    subject: &Descriptor,
) -> serde_json::Result<ReferrerArtifact> {
    let annotations = Annotations::from([(TITLE_ANNOTATION.to_owned(), title.to_owned())]);
    let layer = Descriptor {
        annotations,
        ..Descriptor::of_bytes(media_type, &bytes)
    };
    let manifest = ImageManifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.into()),
        artifact_type: Some(media_type.into()),
        config: Descriptor::empty(),
        layers: vec![layer.clone()],
        subject: Some(subject.without_metadata()),
        annotations: Annotations::new(),
    };
    let manifest = Bytes::from(serde_json::to_vec(&manifest)?);
    Ok(ReferrerArtifact {
        config: ReferrerContent {
            descriptor: Descriptor::empty(),
            bytes: Bytes::from_static(EMPTY_CONTENT),
        },
        layer: ReferrerContent {
            descriptor: layer.without_metadata(),
            bytes,
        },
        manifest: ReferrerContent {
            descriptor: Descriptor::of_bytes(media_type::MANIFEST, &manifest),
            bytes: manifest,
        },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use sigstore_types::{PublicKeyIdentifier, VerificationMaterialContent};

    use super::*;

    #[test]
    fn the_bundle_is_shaped_like_cosigns() {
        let material = VerificationMaterial::new(VerificationMaterialContent::PublicKey(
            PublicKeyIdentifier::new("aGludA=="),
        ));
        let bytes = dsse_envelope_bundle(b"{}", SignatureBytes::from_bytes(b"sig"), material)
            .expect("JSON");
        let mut bundle: Value = serde_json::from_slice(&bytes).expect("JSON");
        // Empty lists and messages, which cosign omits; protobuf's JSON treats them as absent.
        let material = bundle["verificationMaterial"]
            .as_object_mut()
            .expect("an object");
        assert_eq!(
            (
                material.remove("tlogEntries"),
                material.remove("timestampVerificationData")
            ),
            (Some(json!([])), Some(json!({})))
        );
        let expected = json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": "aGludA=="}},
            "dsseEnvelope": {
                "payload": "e30=",
                "payloadType": "application/vnd.in-toto+json",
                "signatures": [{"sig": "c2ln"}],
            },
        });
        assert_eq!(bundle, expected);
    }

    #[test]
    fn the_manifest_is_the_documented_one() {
        let subject = Descriptor {
            artifact_type: Some("x".into()),
            ..Descriptor::of_bytes(media_type::MANIFEST, b"subject")
        };
        let created = "2026-11-21T01:38:00.9Z".parse().expect("a time");
        let ReferrerArtifact {
            config,
            layer,
            manifest,
        } = bundle_referrer(Bytes::from_static(b"{}"), "https://p/v1", &subject, created)
            .expect("JSON");
        assert_eq!(config.descriptor.digest, Digest::of_bytes(&config.bytes));
        assert_eq!(layer.bytes, b"{}".as_slice());
        let expected = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "config": {"mediaType": "application/vnd.oci.empty.v1+json",
                "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
                "size": 2, "data": "e30="},
            "layers": [{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
                "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
                "size": 2, "data": "e30="}],
            "subject": {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": subject.digest,
                "size": 7,
            },
            "annotations": {"org.opencontainers.image.created": "2026-11-21T01:38:00Z",
                "dev.sigstore.bundle.content": "dsse-envelope",
                "dev.sigstore.bundle.predicateType": "https://p/v1"},
        });
        assert_eq!(
            serde_json::from_slice::<Value>(&manifest.bytes).expect("JSON"),
            expected
        );
        assert_eq!(
            manifest.descriptor,
            Descriptor::of_bytes(media_type::MANIFEST, &manifest.bytes)
        );
    }
}
