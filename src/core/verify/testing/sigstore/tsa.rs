//! A timestamp authority (RFC 3161): a signed statement (CMS, RFC 5652) that some bytes existed at
//! some time.

use rcgen::{CertificateParams, CustomExtension, KeyUsagePurpose};

use super::{
    DAY, NOON,
    authority::{self, Ca},
    der,
    key::{Algorithm, Key, sha256},
};

const SHA256: &[u64] = &[2, 16, 840, 1, 101, 3, 4, 2, 1];
const ECDSA_SHA256: &[u64] = &[1, 2, 840, 10045, 4, 3, 2];
const SIGNED_DATA: &[u64] = &[1, 2, 840, 113_549, 1, 7, 2];
const TST_INFO: &[u64] = &[1, 2, 840, 113_549, 1, 9, 16, 1, 4];
const CONTENT_TYPE: &[u64] = &[1, 2, 840, 113_549, 1, 9, 3];
const MESSAGE_DIGEST: &[u64] = &[1, 2, 840, 113_549, 1, 9, 4];
const POLICY: &[u64] = &[1, 3, 6, 1, 4, 1, 57264, 2];

/// id-kp-timeStamping.
pub(crate) const TIME_STAMPING: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 8];

#[derive(Clone)]
pub(crate) struct Tsa {
    key: Key,
    certificate: Vec<u8>,
    /// The issuers of that, up to the root.
    above: Vec<Vec<u8>>,
    pub(crate) valid_for: (i64, Option<i64>),
}

impl Tsa {
    pub(crate) fn new() -> Self {
        Self::with(
            (NOON - 100 * DAY, NOON + 1_000 * DAY),
            authority::purposes(true, &[TIME_STAMPING]),
        )
    }

    /// Its certificate is valid in `window`, with this extended key usage.
    pub(crate) fn with(window: (i64, i64), purpose: CustomExtension) -> Self {
        let root = Ca::root("timestamps", (NOON - 1_000 * DAY, NOON + 3_000 * DAY));
        let above = vec![root.der.clone()];
        Self::issued_by(&root, above, window, |params| {
            params.custom_extensions = vec![purpose];
        })
    }

    /// Its certificate is issued by `issuer`; `above` is the rest of the listed chain.
    pub(crate) fn issued_by(
        issuer: &Ca,
        above: Vec<Vec<u8>>,
        window: (i64, i64),
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let mut params = authority::params(Some("timestamp authority"), window);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.custom_extensions = vec![authority::purposes(true, &[TIME_STAMPING])];
        change(&mut params);
        let key = Key::new(Algorithm::P256);
        Self {
            certificate: issuer.sign(&params, &key),
            above,
            key,
            valid_for: (NOON - 100 * DAY, None),
        }
    }

    /// The certificates from the one that signs to the root.
    pub(crate) fn chain(&self) -> Vec<&[u8]> {
        std::iter::once(&self.certificate)
            .chain(&self.above)
            .map(Vec::as_slice)
            .collect()
    }

    /// A `TimeStampResp` for `message` at `time`.
    pub(crate) fn stamp(&self, message: &[u8], time: i64, embed: bool) -> Vec<u8> {
        let info = tst_info(message, time);
        let content = der::sequence(&[der::oid(TST_INFO), der::context(0, &der::octets(&info))]);
        let certificates = if embed {
            der::context(0, &self.certificate)
        } else {
            Vec::new()
        };
        let signed_data = der::sequence(&[
            der::integer(3),
            der::set(vec![der::algorithm(SHA256)]),
            content,
            certificates,
            der::set(vec![self.signer_info(&info)]),
        ]);
        let token = der::sequence(&[der::oid(SIGNED_DATA), der::context(0, &signed_data)]);
        der::sequence(&[der::sequence(&[der::integer(0)]), token])
    }

    fn signer_info(&self, info: &[u8]) -> Vec<u8> {
        let attribute =
            |name: &[u64], value: Vec<u8>| der::sequence(&[der::oid(name), der::set(vec![value])]);
        let attributes = der::set(vec![
            attribute(CONTENT_TYPE, der::oid(TST_INFO)),
            attribute(MESSAGE_DIGEST, der::octets(&sha256(info))),
        ]);
        let body = der::children(&self.certificate)[0];
        let (serial, issuer) = (
            der::children(body)[1].to_vec(),
            der::children(body)[3].to_vec(),
        );
        // Signed as a SET, written as [0] (RFC 5652, section 5.4).
        let written = [&[0xa0], &attributes[1..]].concat();
        der::sequence(&[
            der::integer(1),
            der::sequence(&[issuer, serial]),
            der::algorithm(SHA256),
            written,
            der::algorithm(ECDSA_SHA256),
            der::octets(&self.key.sign(&attributes)),
        ])
    }
}

fn tst_info(message: &[u8], time: i64) -> Vec<u8> {
    let imprint = der::sequence(&[der::algorithm(SHA256), der::octets(&sha256(message))]);
    der::sequence(&[
        der::integer(1),
        der::oid(POLICY),
        imprint,
        der::integer(7),
        der::generalized_time(time),
    ])
}
