//! A Sigstore bundle, and every fault that can be made before it is signed.

use serde_json::{Value, json};

use super::{
    Leaf, NOON, Sigstore, Tsa,
    key::{Key, base64},
    pae,
    rekor::{Logging, Signed},
};

/// The verification material.
#[derive(Clone)]
pub(crate) enum Material {
    /// A key that the verifier has.
    Key,
    /// A certificate in the bundle.
    Certificate(Box<Leaf>),
}

/// A timestamp.
#[derive(Clone)]
pub(crate) struct Stamp {
    pub(crate) time: i64,
    /// The bytes that are timestamped. `None`: the signature.
    pub(crate) over: Option<Vec<u8>>,
    /// The timestamp authority. `None`: the Sigstore's own.
    pub(crate) by: Option<Tsa>,
    /// Whether the token contains the authority's certificate.
    pub(crate) embed: bool,
}

impl Stamp {
    pub(crate) const fn at(time: i64) -> Self {
        Self {
            time,
            over: None,
            by: None,
            embed: false,
        }
    }
}

/// The content of a log entry, where it differs from the bundle's.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) signature: Option<Vec<u8>>,
    /// Another key, or another certificate about the same identity.
    pub(crate) key: Option<Key>,
}

/// How a bundle is made. Each fault in the result is a fault in one field.
#[derive(Clone)]
pub(crate) struct Recipe {
    pub(crate) key: Key,
    pub(crate) material: Material,
    pub(crate) payload_type: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) logging: Option<Logging>,
    pub(crate) stamps: Vec<Stamp>,
    /// Certified instead of the key that signs.
    pub(crate) certified: Option<Key>,
    /// Changes the signature before anything else is made of it.
    pub(crate) spoil: Option<fn(&mut Vec<u8>)>,
    /// Differences between the log entry and the bundle.
    pub(crate) seen: Seen,
}

impl Recipe {
    /// `payload`, signed with `key`: no log, no timestamp.
    pub(crate) fn new(key: &Key, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            key: key.clone(),
            material: Material::Key,
            payload_type: "application/vnd.in-toto+json".into(),
            payload: payload.into(),
            logging: None,
            stamps: Vec::new(),
            certified: None,
            spoil: None,
            seen: Seen::default(),
        }
    }

    /// The certificate's parameters; panics if there is none.
    pub(crate) fn leaf(&mut self) -> &mut Leaf {
        match &mut self.material {
            Material::Certificate(leaf) => leaf,
            Material::Key => panic!("it is signed with a key"),
        }
    }

    /// The options of the log; panics if there is none.
    pub(crate) const fn log(&mut self) -> &mut Logging {
        self.logging.as_mut().expect("it is logged")
    }

    /// The bundle, version 0.3.
    pub(crate) fn bundle(&self, sigstore: &Sigstore) -> Value {
        let certificate = self.certificate(sigstore, self.certified.as_ref().unwrap_or(&self.key));
        let signature = self.signature();
        let mut material = match &certificate {
            Some(certificate) => json!({"certificate": {"rawBytes": base64(certificate)}}),
            None => json!({"publicKey": {"hint": base64(&self.key.id())}}),
        };
        if let Some(entry) = self.entry(sigstore, &signature, certificate.as_deref()) {
            material["tlogEntries"] = json!([entry]);
        }
        if !self.stamps.is_empty() {
            let stamps: Vec<Value> = self
                .stamps
                .iter()
                .map(|stamp| json!({"signedTimestamp": token(sigstore, stamp, &signature)}))
                .collect();
            material["timestampVerificationData"] = json!({"rfc3161Timestamps": stamps});
        }
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": material,
            "dsseEnvelope": {
                "payload": base64(&self.payload),
                "payloadType": self.payload_type,
                "signatures": [{"sig": base64(&signature)}],
            },
        })
    }

    fn signature(&self) -> Vec<u8> {
        let mut signature = self.key.sign(&pae(&self.payload_type, &self.payload));
        if let Some(spoil) = self.spoil {
            spoil(&mut signature);
        }
        signature
    }

    fn certificate(&self, sigstore: &Sigstore, key: &Key) -> Option<Vec<u8>> {
        match &self.material {
            Material::Certificate(leaf) => {
                Some(sigstore.authority.certify(key, leaf, &sigstore.ct_log))
            }
            Material::Key => None,
        }
    }

    /// The log entry of a signature, if there is a log.
    pub(crate) fn entry(
        &self,
        sigstore: &Sigstore,
        signature: &[u8],
        certificate: Option<&[u8]>,
    ) -> Option<Value> {
        let other = self
            .seen
            .key
            .as_ref()
            .and_then(|key| self.certificate(sigstore, key));
        let key = self.seen.key.as_ref().unwrap_or(&self.key);
        let signed = Signed {
            payload_type: &self.payload_type,
            payload: self.seen.payload.as_ref().unwrap_or(&self.payload),
            signature: self.seen.signature.as_deref().unwrap_or(signature),
            certificate: other.as_deref().or(certificate),
            spki: &key.spki(),
            algorithm: key.algorithm,
        };
        Some(sigstore.log(&signed, self.logging.as_ref()?))
    }
}

fn token(sigstore: &Sigstore, stamp: &Stamp, signature: &[u8]) -> String {
    let by = stamp.by.as_ref().unwrap_or(&sigstore.tsa);
    base64(&by.stamp(
        stamp.over.as_deref().unwrap_or(signature),
        stamp.time,
        stamp.embed,
    ))
}

/// The time of the log entry for what was signed at [`NOON`].
pub(crate) const LOGGED: i64 = NOON + 60;
/// The time of the timestamp.
pub(crate) const STAMPED: i64 = NOON + 30;
