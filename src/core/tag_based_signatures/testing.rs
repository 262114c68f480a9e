//! Signatures as cosign 2 makes them, and a log with inclusion promises.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};

use crate::core::{
    cosign_tags::{
        CosignTagKind, DSSE, LOG_ENTRY, SIGNATURE, SIMPLE_SIGNING, SimpleSigningPayload,
    },
    digest::Digest,
    intoto::Statement,
    limits::InputLimits,
    media_type,
    oci::Descriptor,
    verify::{CosignTagCandidate, TrustRoot, testing::TestKey},
};

/// The integrated time of all entries in these tests.
pub(crate) const LOGGED: i64 = 1_750_000_000;

/// A layer with this content and these annotations.
pub(crate) fn layer(
    beside: CosignTagKind,
    content: &[u8],
    annotations: &[(&str, &str)],
) -> CosignTagCandidate {
    let media_type = if beside == CosignTagKind::Attestations {
        DSSE
    } else {
        SIMPLE_SIGNING
    };
    let annotations = annotations
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    CosignTagCandidate {
        tag_kind: beside,
        manifest: Digest::of_bytes(b"the manifest under the tag"),
        position: 1,
        layer: Descriptor {
            annotations,
            ..Descriptor::of_bytes(media_type, content)
        },
        content: content.to_vec().into(),
    }
}

impl TestKey {
    /// A `.sig` layer over this payload.
    pub(crate) fn sign_payload(&self, payload: &[u8]) -> CosignTagCandidate {
        layer(
            CosignTagKind::Signatures,
            payload,
            &[(SIGNATURE, &BASE64.encode(self.signature(payload)))],
        )
    }

    /// The older format of `cosign sign --key`.
    pub(crate) fn sign_legacy(&self, subject: &Digest) -> CosignTagCandidate {
        self.sign_payload(
            &serde_json::to_vec(&SimpleSigningPayload::for_image(
                "r.example.com/team-a/siem",
                subject,
            ))
            .expect("JSON"),
        )
    }

    /// An `.att` layer over this statement.
    pub(crate) fn attest_legacy(&self, statement: &Statement) -> CosignTagCandidate {
        let payload = serde_json::to_vec(statement).expect("JSON");
        let signature = self.signature(&sigstore_types::pae(media_type::IN_TOTO, &payload));
        let envelope = json!({
            "payload": BASE64.encode(&payload),
            "payloadType": media_type::IN_TOTO,
            "signatures": [{"keyid": "", "sig": BASE64.encode(signature)}],
        });
        layer(
            CosignTagKind::Attestations,
            envelope.to_string().as_bytes(),
            &[
                (SIGNATURE, ""),
                ("predicateType", &statement.predicate_type),
            ],
        )
    }
}

/// A Rekor v1 with inclusion promises, and a trust root with its key.
pub(crate) struct TestLog(TestKey);

impl TestLog {
    pub(crate) fn new() -> Self {
        Self(TestKey::new())
    }

    fn key_id(&self) -> Digest {
        self.0.public().fingerprint()
    }

    pub(crate) fn root(&self) -> TrustRoot {
        let key = self.0.public();
        let root = json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [{
                "baseUrl": "https://rekor.example.com",
                "hashAlgorithm": "SHA2_256",
                "publicKey": {
                    "rawBytes": BASE64.encode(key.spki_der()),
                    "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                    "validFor": {"start": "2021-01-12T11:53:27Z"},
                },
                "logId": {"keyId": BASE64.encode(self.key_id().as_bytes())},
            }],
            "certificateAuthorities": [], "ctlogs": [], "timestampAuthorities": [],
        });
        TrustRoot::parse(root.to_string().as_bytes(), &InputLimits::DEFAULT).expect("a trust root")
    }

    /// The annotation with the promise for a body.
    pub(crate) fn promise(&self, body: &Value) -> Value {
        let body = BASE64.encode(body.to_string());
        let payload = json!({
            "body": body,
            "integratedTime": LOGGED,
            "logID": self.key_id().hex_digits(),
            "logIndex": 7,
        });
        // Sorted keys, no spaces: its canonical form.
        let set = BASE64.encode(self.0.signature(payload.to_string().as_bytes()));
        json!({"SignedEntryTimestamp": set, "Payload": payload})
    }

    /// The layer with the log's promise for it.
    pub(crate) fn log(
        &self,
        key: &TestKey,
        mut candidate: CosignTagCandidate,
    ) -> CosignTagCandidate {
        let promise = self.promise(&body(key, &candidate)).to_string();
        candidate
            .layer
            .annotations
            .insert(LOG_ENTRY.into(), promise);
        candidate
    }
}

/// The log entry's body for a layer.
pub(crate) fn body(key: &TestKey, candidate: &CosignTagCandidate) -> Value {
    let verifier = BASE64.encode(key.pem());
    let hash = |bytes: &[u8]| json!({"algorithm": "sha256", "value": Digest::of_bytes(bytes).hex_digits()});
    if candidate.tag_kind == CosignTagKind::Signatures {
        let signature = json!({
            "content": candidate.layer.annotations[SIGNATURE],
            "publicKey": {"content": verifier},
        });
        return json!({
            "apiVersion": "0.0.1",
            "kind": "hashedrekord",
            "spec": {"data": {"hash": hash(&candidate.content)}, "signature": signature},
        });
    }
    let envelope: Value = serde_json::from_slice(&candidate.content).expect("JSON");
    let payload = BASE64
        .decode(envelope["payload"].as_str().expect("text"))
        .expect("base64");
    json!({"apiVersion": "0.0.1", "kind": "dsse", "spec": {
        "envelopeHash": hash(&candidate.content), "payloadHash": hash(&payload),
        "signatures": [{"signature": envelope["signatures"][0]["sig"], "verifier": verifier}],
    }})
}
