//! cosign's tags for a subject: `sha256-<hex>.sig` and similar, which cosign used before registries
//! supported referrers.
//!
//! Source: cosign, specs/SIGNATURE_SPEC.md ("Storage") and specs/ATTESTATION_SPEC.md. A tag names a
//! manifest; every layer of it is one signature or attestation, and the annotations of the layer
//! contain its verification material. Anyone with push access can replace all of them at once, so
//! none of them counts unless a policy accepts this format.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    digest::Digest,
    media_type,
    oci::{Descriptor, ImageManifest},
    reference::ImageTag,
};

/// A signature's payload: "simple signing" (cosign, specs/SIGNATURE_SPEC.md, "Payload").
pub const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// An attestation: a DSSE envelope.
pub const DSSE: &str = "application/vnd.dsse.envelope.v1+json";

/// Base64 of the signature over the payload. Empty for attestations, whose signature is in the
/// envelope.
pub const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// PEM of the signer's certificate. Absent where a key signed.
pub const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
/// JSON of Rekor's promise that the signature is in its log.
pub const LOG_ENTRY: &str = "dev.sigstore.cosign/bundle";
/// JSON of an RFC 3161 timestamp.
pub const TIMESTAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";
/// The predicate type of an attestation. A claim: the envelope is authoritative.
pub const PREDICATE_TYPE: &str = "predicateType";

/// `critical.type` of a payload.
pub const SIMPLE_SIGNING_TYPE: &str = "cosign container image signature";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CosignTagKind {
    /// `.sig`: signatures.
    Signatures,
    /// `.att`: attestations.
    Attestations,
    /// `.sbom`: SBOMs. They are unsigned, and are only copied.
    Sboms,
}

impl CosignTagKind {
    pub const ALL: [Self; 3] = [Self::Signatures, Self::Attestations, Self::Sboms];

    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Signatures => ".sig",
            Self::Attestations => ".att",
            Self::Sboms => ".sbom",
        }
    }

    pub fn tag_for(self, subject: &Digest) -> ImageTag {
        ImageTag::cosign_tag(subject, self.suffix())
    }

    /// The media type of its layers, if it is one that is verified.
    pub const fn layer_media_type(self) -> Option<&'static str> {
        match self {
            Self::Signatures => Some(SIMPLE_SIGNING),
            Self::Attestations => Some(DSSE),
            Self::Sboms => None,
        }
    }
}

/// The fields of a signature's payload that are read. Other fields are signed as well and are
/// ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimpleSigningPayload {
    /// The fields that a verifier must understand.
    pub critical: SimpleSigningCritical,
    /// Optional fields.
    #[serde(default)]
    pub optional: Value,
}

/// The part of the payload that must be understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimpleSigningCritical {
    /// The identity of the image.
    pub identity: SimpleSigningIdentity,
    pub image: SimpleSigningImage,
    /// Must be [`SIMPLE_SIGNING_TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
}

/// The name under which an image is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimpleSigningIdentity {
    /// Its repository. cosign wrote nothing here for a long time.
    #[serde(rename = "docker-reference", default)]
    pub docker_reference: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimpleSigningImage {
    #[serde(rename = "docker-manifest-digest")]
    pub docker_manifest_digest: String,
}

impl SimpleSigningPayload {
    /// The payload that `cosign sign` makes for `subject` in `repository`.
    pub fn for_image(repository: &str, subject: &Digest) -> Self {
        Self {
            critical: SimpleSigningCritical {
                identity: SimpleSigningIdentity {
                    docker_reference: repository.to_owned(),
                },
                image: SimpleSigningImage {
                    docker_manifest_digest: subject.to_string(),
                },
                kind: SIMPLE_SIGNING_TYPE.to_owned(),
            },
            optional: Value::Null,
        }
    }
}

/// The manifest with `more` layers behind those that `before` has, and its config. A layer that is
/// there with the same annotations is not added again; `None` if nothing is new.
pub fn manifest_with_layers(
    before: Option<&ImageManifest>,
    more: &[Descriptor],
) -> Option<(ImageManifest, Vec<u8>)> {
    let mut layers = before
        .map(|manifest| manifest.layers.clone())
        .unwrap_or_default();
    let known = layers.len();
    for layer in more {
        if !layers.iter().any(|there| is_same_layer(there, layer)) {
            layers.push(layer.clone());
        }
    }
    if layers.len() == known {
        return None;
    }
    let config = image_config(&layers).to_string().into_bytes();
    let manifest = ImageManifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.into()),
        artifact_type: None,
        config: Descriptor::of_bytes(media_type::CONFIG, &config),
        layers,
        subject: None,
        annotations: before
            .map(|manifest| manifest.annotations.clone())
            .unwrap_or_default(),
    };
    Some((manifest, config))
}

/// True if both layers are one signature or attestation: the same payload with the same annotations.
pub fn is_same_layer(one: &Descriptor, other: &Descriptor) -> bool {
    one.digest == other.digest && one.annotations == other.annotations
}

/// An image configuration as cosign writes it: layers of no platform.
fn image_config(layers: &[Descriptor]) -> Value {
    let digests: Vec<Digest> = layers.iter().map(|layer| layer.digest).collect();
    json!({
        "architecture": "",
        "config": {},
        "os": "",
        "rootfs": {"type": "layers", "diff_ids": digests},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::oci::Annotations;

    #[test]
    fn tags_are_cosigns() {
        let subject = Digest::of_bytes(b"");
        let tags: Vec<String> = CosignTagKind::ALL
            .iter()
            .map(|tag_kind| tag_kind.tag_for(&subject).to_string())
            .collect();
        let hex = subject.hex_digits();
        assert_eq!(
            tags,
            [
                format!("sha256-{hex}.sig"),
                format!("sha256-{hex}.att"),
                format!("sha256-{hex}.sbom")
            ]
        );
    }

    #[test]
    fn a_payload_is_what_cosign_signs() {
        let subject: Digest =
            "sha256:8c7cb9c9d2e827380186bd014586866c475ee125f2009d8d6303f3b700a3e5cf"
                .parse()
                .expect("a digest");
        let expected = r#"{"critical":{"identity":{"docker-reference":"127.0.0.1:5000/t/legacy"},"image":{"docker-manifest-digest":"sha256:8c7cb9c9d2e827380186bd014586866c475ee125f2009d8d6303f3b700a3e5cf"},"type":"cosign container image signature"},"optional":null}"#;
        assert_eq!(
            serde_json::to_string(&SimpleSigningPayload::for_image(
                "127.0.0.1:5000/t/legacy",
                &subject
            ))
            .expect("JSON"),
            expected
        );
    }

    #[test]
    fn layers_are_added_and_none_is_lost_or_doubled() {
        let layer = |signature: &str| Descriptor {
            annotations: Annotations::from([(SIGNATURE.to_owned(), signature.to_owned())]),
            ..Descriptor::of_bytes(SIMPLE_SIGNING, b"payload")
        };
        let (first, config) = manifest_with_layers(None, &[layer("a")]).expect("a manifest");
        assert_eq!(
            (first.config.digest, first.layers.len()),
            (Digest::of_bytes(&config), 1)
        );
        let (second, _) =
            manifest_with_layers(Some(&first), &[layer("a"), layer("b")]).expect("something new");
        assert_eq!(second.layers, [layer("a"), layer("b")]);
        assert!(manifest_with_layers(Some(&second), &[layer("b"), layer("a")]).is_none());
    }
}
