//! What cosign stored before registries knew referrers: tags beside the subject, `sha256-<hex>.sig`
//! and its like.
//!
//! Source: cosign, specs/SIGNATURE_SPEC.md ("Storage") and specs/ATTESTATION_SPEC.md. A tag names a
//! manifest; every layer of it is one signature or attestation, and the annotations of the layer
//! carry what is needed to verify it. Whoever may push a tag may replace all of them at once, which
//! is why nothing here counts unless a policy lists it.

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
/// The predicate type of an attestation. A claim: readers open the envelope.
pub const PREDICATE_TYPE: &str = "predicateType";

/// `critical.type` of a payload.
pub const SIMPLE_SIGNING_TYPE: &str = "cosign container image signature";

/// One of the tags beside a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CosignTagKind {
    /// `.sig`: signatures.
    Signatures,
    /// `.att`: attestations.
    Attestations,
    /// `.sbom`: SBOMs. Nobody signs them there; they are only carried along.
    Sboms,
}

impl CosignTagKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Signatures, Self::Attestations, Self::Sboms];

    /// What the tag ends in.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Signatures => ".sig",
            Self::Attestations => ".att",
            Self::Sboms => ".sbom",
        }
    }

    /// The tag beside `subject`.
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

/// The payload of a signature, as far as it is read. Unknown fields are signed as well and say
/// nothing to us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimpleSigningPayload {
    /// What must be understood.
    pub critical: SimpleSigningCritical,
    /// What need not be.
    #[serde(default)]
    pub optional: Value,
}

/// The part of the payload that must be understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimpleSigningCritical {
    /// As what it is known.
    pub identity: SimpleSigningIdentity,
    /// What is signed.
    pub image: SimpleSigningImage,
    /// [`SIMPLE_SIGNING_TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
}

/// As what an image is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimpleSigningIdentity {
    /// Its repository. cosign wrote nothing here for a long time.
    #[serde(rename = "docker-reference", default)]
    pub docker_reference: String,
}

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimpleSigningImage {
    /// The manifest's digest.
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
        if !layers
            .iter()
            .any(|there| there.digest == layer.digest && there.annotations == layer.annotations)
        {
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
            .map(|beside| beside.tag_for(&subject).to_string())
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
