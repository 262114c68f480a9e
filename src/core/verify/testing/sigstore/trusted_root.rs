//! `trusted_root.json`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Sigstore,
    key::{Key, base64},
};

impl Sigstore {
    /// The document with all services.
    pub(crate) fn trusted_root(&self) -> Value {
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [
                log("https://rekor.example.com", &self.rekor_v1.key, &self.rekor_v1.id,
                    self.rekor_v1.valid_for),
                log("https://log2025-1.rekor.example.com", &self.rekor_v2.key, &self.rekor_v2.id,
                    self.rekor_v2.valid_for),
            ],
            "certificateAuthorities": [
                authority("https://fulcio.example.com", &self.authority.chain(),
                    self.authority.valid_for),
            ],
            "ctlogs": [
                log("https://ctfe.example.com", &self.ct_log.key, &self.ct_log.key.id(),
                    self.ct_log.valid_for),
            ],
            "timestampAuthorities": [
                authority("https://tsa.example.com", &self.tsa.chain(), self.tsa.valid_for),
            ],
        })
    }
}

fn log(url: &str, key: &Key, id: &[u8; 32], window: (i64, Option<i64>)) -> Value {
    let (details, ..) = key.algorithm.details();
    json!({
        "baseUrl": url,
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": base64(&key.spki()),
            "keyDetails": details,
            "validFor": valid_for(window),
        },
        "logId": {"keyId": base64(id)},
    })
}

fn authority(uri: &str, chain: &[&[u8]], window: (i64, Option<i64>)) -> Value {
    let certificates: Vec<Value> = chain
        .iter()
        .map(|der| json!({"rawBytes": base64(der)}))
        .collect();
    json!({
        "subject": {"organization": "virtual", "commonName": "virtual"},
        "uri": uri,
        "certChain": {"certificates": certificates},
        "validFor": valid_for(window),
    })
}

fn valid_for((start, end): (i64, Option<i64>)) -> Value {
    let time = |seconds| Timestamp::from_second(seconds).expect("a time").to_string();
    let mut window = json!({"start": time(start)});
    if let Some(end) = end {
        window["end"] = time(end).into();
    }
    window
}
