//! A certificate authority like Fulcio: short-lived certificates for identities.

use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, SanType, SerialNumber,
};
use time::OffsetDateTime;

use super::{
    DAY, NOON,
    ct_log::{CtLog, Sct},
    der,
    key::{Algorithm, Key},
};

const FULCIO: [u64; 9] = [1, 3, 6, 1, 4, 1, 57264, 1, 0];

/// A name in a certificate.
#[derive(Clone, Debug)]
pub(crate) enum San {
    Uri(&'static str),
    Email(&'static str),
    Dns(&'static str),
    /// Fulcio's `username` (1.3.6.1.4.1.57264.1.7).
    Other(&'static str),
}

/// The contents of a leaf certificate.
#[derive(Clone)]
pub(crate) struct Leaf {
    pub(crate) names: Vec<San>,
    /// Extension 1.8, a UTF8String.
    pub(crate) issuer: Option<&'static str>,
    /// Extension 1.1, plain bytes.
    pub(crate) legacy_issuer: Option<&'static str>,
    /// Number and value of extensions: CI claims (1.9 to 1.24).
    pub(crate) claims: Vec<(u64, &'static str)>,
    pub(crate) window: (i64, i64),
    pub(crate) purposes: Vec<ExtendedKeyUsagePurpose>,
    pub(crate) is_ca: bool,
    /// `None`: a new one.
    pub(crate) serial: Option<SerialNumber>,
    pub(crate) sct: Sct,
}

impl Leaf {
    /// A GitHub workflow, valid for ten minutes.
    pub(crate) fn workflow() -> Self {
        Self {
            names: vec![San::Uri(super::WORKFLOW)],
            issuer: Some(super::ISSUER),
            legacy_issuer: Some(super::ISSUER),
            claims: vec![
                (11, "github-hosted"),
                (12, "https://github.com/acme/app"),
                (14, "refs/heads/main"),
                (20, "push"),
            ],
            window: (NOON, NOON + 600),
            purposes: vec![ExtendedKeyUsagePurpose::CodeSigning],
            is_ca: false,
            serial: None,
            sct: Sct::Good,
        }
    }

    fn params(&self) -> CertificateParams {
        let mut params = params(None, self.window);
        params.subject_alt_names = self.names.iter().map(name).collect();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.serial_number = self.serial.clone().or_else(|| params.serial_number.take());
        params.extended_key_usages.clone_from(&self.purposes);
        params.is_ca = if self.is_ca {
            IsCa::Ca(BasicConstraints::Unconstrained)
        } else {
            IsCa::NoCa
        };
        let text = |number: u64, content: Vec<u8>| {
            let mut arcs = FULCIO;
            arcs[8] = number;
            CustomExtension::from_oid_content(&arcs, content)
        };
        params.custom_extensions = self
            .legacy_issuer
            .iter()
            .map(|issuer| text(1, issuer.as_bytes().to_vec()))
            .collect();
        params
            .custom_extensions
            .extend(self.issuer.iter().map(|issuer| text(8, der::utf8(issuer))));
        params.custom_extensions.extend(
            self.claims
                .iter()
                .map(|(number, value)| text(*number, der::utf8(value))),
        );
        params
    }
}

fn name(san: &San) -> SanType {
    let ia5 = |text: &str| text.try_into().expect("ASCII");
    match san {
        San::Uri(uri) => SanType::URI(ia5(uri)),
        San::Email(email) => SanType::Rfc822Name(ia5(email)),
        San::Dns(name) => SanType::DnsName(ia5(name)),
        San::Other(name) => {
            SanType::OtherName((vec![1, 3, 6, 1, 4, 1, 57264, 1, 7], (*name).into()))
        }
    }
}

/// Parameters with a serial number of their own.
pub(super) fn params(subject: Option<&str>, (from, to): (i64, i64)) -> CertificateParams {
    static SERIAL: AtomicU64 = AtomicU64::new(1);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if let Some(subject) = subject {
        params
            .distinguished_name
            .push(DnType::OrganizationName, "virtual");
        params.distinguished_name.push(DnType::CommonName, subject);
    }
    params.serial_number = Some(SerialNumber::from_slice(
        &(0x0100_0000 + SERIAL.fetch_add(1, Ordering::Relaxed)).to_be_bytes()[4..],
    ));
    (params.not_before, params.not_after) = (at(from), at(to));
    params
}

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).expect("a time")
}

/// A CA: a certificate with its key.
#[derive(Clone)]
pub(crate) struct Ca {
    params: CertificateParams,
    key: Key,
    pub(crate) der: Vec<u8>,
}

impl Ca {
    /// A self-signed root that is valid in `window`.
    pub(crate) fn root(subject: &str, window: (i64, i64)) -> Self {
        Self::root_with(subject, window, |_| ())
    }

    /// The same with changed parameters.
    pub(crate) fn root_with(
        subject: &str,
        window: (i64, i64),
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let (mut params, key) = (ca_params(subject, window), Key::new(Algorithm::P256));
        change(&mut params);
        let der = params
            .self_signed(key.pair())
            .expect("a certificate")
            .der()
            .to_vec();
        Self { params, key, der }
    }

    /// A root with the P-256 key in this PKCS#8 and exactly these parameters.
    pub(crate) fn with_key(params: CertificateParams, pkcs8: &[u8]) -> Self {
        let key = Key::from_pkcs8(Algorithm::P256, pkcs8);
        let der = params
            .self_signed(key.pair())
            .expect("a certificate")
            .der()
            .to_vec();
        Self { params, key, der }
    }

    /// An intermediate below it.
    pub(crate) fn intermediate(&self, subject: &str, window: (i64, i64)) -> Self {
        self.intermediate_with(subject, window, |_| ())
    }

    /// The same with changed parameters.
    pub(crate) fn intermediate_with(
        &self,
        subject: &str,
        window: (i64, i64),
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let (mut params, key) = (ca_params(subject, window), Key::new(Algorithm::P256));
        change(&mut params);
        let der = self.sign(&params, &key);
        Self { params, key, der }
    }

    /// The same authority, self-signed in a certificate of version 1: without extensions.
    pub(crate) fn as_version_1(&self) -> Self {
        let parts = der::children(der::children(&self.der)[0]);
        let body = der::sequence(
            &parts[1..7]
                .iter()
                .map(|part| part.to_vec())
                .collect::<Vec<_>>(),
        );
        let signature = [&[0], &self.key.sign(&body)[..]].concat();
        let der = der::sequence(&[body, parts[2].to_vec(), der::tlv(0x03, &signature)]);
        Self {
            der,
            ..self.clone()
        }
    }

    /// Certifies `key` with exactly these parameters.
    pub(crate) fn sign(&self, params: &CertificateParams, key: &Key) -> Vec<u8> {
        let issuer = Issuer::from_params(&self.params, self.key.pair());
        params
            .signed_by(key.pair(), &issuer)
            .expect("a certificate")
            .der()
            .to_vec()
    }
}

fn ca_params(subject: &str, window: (i64, i64)) -> CertificateParams {
    let mut params = params(Some(subject), window);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// An extended key usage.
pub(crate) fn purposes(is_critical: bool, purposes: &[&[u64]]) -> CustomExtension {
    let content = der::sequence(
        &purposes
            .iter()
            .map(|purpose| der::oid(purpose))
            .collect::<Vec<_>>(),
    );
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 37], content);
    extension.set_criticality(is_critical);
    extension
}

/// A certificate authority: a root, possibly an intermediate, and the period in which it is
/// trusted.
#[derive(Clone)]
pub(crate) struct Authority {
    pub(crate) root: Ca,
    pub(crate) intermediate: Option<Ca>,
    /// The certificates that the trust root lists instead of these.
    pub(crate) listed: Option<Vec<Vec<u8>>>,
    pub(crate) valid_for: (i64, Option<i64>),
}

impl Authority {
    pub(crate) fn new() -> Self {
        let window = (NOON - 1_000 * DAY, NOON + 3_000 * DAY);
        let root = Ca::root("authority", window);
        let intermediate = Some(root.intermediate("intermediate", window));
        Self {
            root,
            intermediate,
            listed: None,
            valid_for: (window.0, None),
        }
    }

    /// The certificates from the one that signs to the root.
    pub(crate) fn chain(&self) -> Vec<&[u8]> {
        if let Some(listed) = &self.listed {
            return listed.iter().map(Vec::as_slice).collect();
        }
        self.intermediate
            .iter()
            .chain([&self.root])
            .map(|ca| ca.der.as_slice())
            .collect()
    }

    /// Certifies `key`: first the precertificate for the SCT, then the certificate that contains
    /// it.
    pub(crate) fn certify(&self, key: &Key, leaf: &Leaf, log: &CtLog) -> Vec<u8> {
        let issuer = self.intermediate.as_ref().unwrap_or(&self.root);
        let mut params = leaf.params();
        let precertificate = issuer.sign(&params, key);
        let signed = der::children(&precertificate)[0];
        params.custom_extensions.extend(log.extension(
            &leaf.sct,
            signed,
            &issuer.key.spki(),
            leaf.window.0,
        ));
        issuer.sign(&params, key)
    }
}
