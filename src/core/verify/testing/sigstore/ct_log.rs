//! A certificate transparency log (RFC 6962): its SCT, embedded in the certificate.

use rcgen::CustomExtension;

use super::{
    DAY, NOON, der,
    key::{Algorithm, Key, sha256},
};

/// The SCTs of a certificate.
#[derive(Clone)]
pub(crate) enum Sct {
    Good,
    Missing,
    /// This many SCTs.
    Times(usize),
    /// A good one and one in the name of this log.
    AndOf(Key),
    /// A good one and one that this key signed in the log's name.
    AndBy(Key),
    /// Signed by this key, in the log's name.
    By(Key),
    /// About a certificate of this key's issuer instead.
    ForIssuer(Vec<u8>),
    /// About other bytes.
    ForAnother,
    /// With this time.
    At(i64),
}

#[derive(Clone)]
pub(crate) struct CtLog {
    pub(crate) key: Key,
    pub(crate) valid_for: (i64, Option<i64>),
}

impl CtLog {
    pub(crate) fn new() -> Self {
        Self {
            key: Key::new(Algorithm::P256),
            valid_for: (NOON - 500 * DAY, None),
        }
    }

    /// The extension for a certificate whose body without it is `signed`.
    pub(super) fn extension(
        &self,
        how: &Sct,
        signed: &[u8],
        issuer_spki: &[u8],
        now: i64,
    ) -> Option<CustomExtension> {
        let good = || self.promise(&self.key, signed, issuer_spki, now);
        let promises = match how {
            Sct::Missing => return None,
            Sct::Good => vec![good()],
            Sct::Times(count) => vec![good(); *count],
            Sct::AndOf(log) => vec![promise(log, &log.id(), signed, issuer_spki, now), good()],
            Sct::AndBy(key) => vec![good(), self.promise(key, signed, issuer_spki, now)],
            Sct::By(key) => vec![self.promise(key, signed, issuer_spki, now)],
            Sct::ForIssuer(spki) => vec![self.promise(&self.key, signed, spki, now)],
            Sct::ForAnother => {
                vec![self.promise(&self.key, &[signed, b"x"].concat(), issuer_spki, now)]
            }
            Sct::At(time) => vec![self.promise(&self.key, signed, issuer_spki, *time)],
        };
        let list: Vec<u8> = promises
            .iter()
            .flat_map(|promise| opaque16(promise))
            .collect();
        Some(CustomExtension::from_oid_content(
            &[1, 3, 6, 1, 4, 1, 11129, 2, 4, 2],
            der::octets(&opaque16(&list)),
        ))
    }

    fn promise(&self, key: &Key, signed: &[u8], issuer_spki: &[u8], now: i64) -> Vec<u8> {
        promise(key, &self.key.id(), signed, issuer_spki, now)
    }
}

/// `SignedCertificateTimestamp`, section 3.2.
fn promise(key: &Key, log: &[u8; 32], signed: &[u8], issuer_spki: &[u8], now: i64) -> Vec<u8> {
    let time = u64::try_from(now * 1_000)
        .expect("after 1970")
        .to_be_bytes();
    let length = u32::try_from(signed.len()).expect("small").to_be_bytes();
    let message = [
        &[0, 0],
        &time[..],
        &[0, 1],
        &sha256(issuer_spki),
        &length[1..],
        signed,
        &[0, 0],
    ]
    .concat();
    [
        &[0],
        &log[..],
        &time,
        &[0, 0],
        &[4, 3],
        &opaque16(&key.sign(&message)),
    ]
    .concat()
}

fn opaque16(content: &[u8]) -> Vec<u8> {
    [
        &u16::try_from(content.len()).expect("small").to_be_bytes()[..],
        content,
    ]
    .concat()
}
