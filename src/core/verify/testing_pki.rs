//! A private certificate authority, made for one test.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use serde_json::{Value, json};

use super::{testing::*, *};
use crate::core::{
    digest::Digest,
    intoto::{COSIGN_SIGN, Statement},
    limits::InputLimits,
    media_type,
};

/// The name of the signer.
pub(crate) const RELEASE: &str = "spiffe://corp.example.com/release";

pub(crate) type Issuer = CertifiedIssuer<'static, KeyPair>;
pub(crate) type Change = fn(&mut CertificateParams);

/// A root, an intermediate, and a certificate that signs, all valid from 2026-01-01 to 2027-01-01.
pub(crate) struct Pki {
    pub(crate) root: Issuer,
    pub(crate) intermediate: Issuer,
    pub(crate) leaf: Holder,
}

/// A key with its certificate.
pub(crate) struct Holder {
    pub(crate) key: TestKey,
    pub(crate) der: Vec<u8>,
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

pub(crate) fn now() -> Timestamp {
    at("2026-11-21T12:00:00Z")
}

pub(crate) fn date(text: &str) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(at(text).as_second()).expect("a time")
}

pub(crate) fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().expect("ASCII"))
}

/// The parameters common to certificates of this name.
pub(crate) fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) =
        (date("2026-01-01T00:00:00Z"), date("2027-01-01T00:00:00Z"));
    params.use_authority_key_identifier_extension = true;
    params.key_identifier_method = KeyIdMethod::Sha256;
    params
}

pub(crate) fn ca(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

pub(crate) fn leaf() -> CertificateParams {
    let mut params = params("release");
    params.serial_number = Some(SerialNumber::from_slice(&[7]));
    params.subject_alt_names = vec![uri(RELEASE)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    params
}

pub(crate) fn root(params: CertificateParams) -> Issuer {
    Issuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a root")
}

pub(crate) fn issued(params: CertificateParams, by: &Issuer) -> Issuer {
    Issuer::signed_by(params, KeyPair::generate().expect("a key"), by).expect("an intermediate")
}

pub(crate) fn holder(params: &CertificateParams, by: &Issuer) -> Holder {
    let key = KeyPair::generate().expect("a key");
    let der = params
        .signed_by(&key, by)
        .expect("a certificate")
        .der()
        .to_vec();
    Holder {
        key: TestKey::from_pkcs8(&key.serialize_der()),
        der,
    }
}

impl Pki {
    pub(crate) fn new() -> Self {
        Self::with(|_| {}, |_| {}, |_| {})
    }

    /// The same with changed parameters of the root, the intermediate, or the certificate.
    pub(crate) fn with(
        change_root: Change,
        change_intermediate: Change,
        change_leaf: Change,
    ) -> Self {
        let (mut one, mut two, mut three) = (ca("Corp Root"), ca("Corp Signing"), leaf());
        change_root(&mut one);
        change_intermediate(&mut two);
        change_leaf(&mut three);
        let root = root(one);
        let intermediate = issued(two, &root);
        let leaf = holder(&three, &intermediate);
        Self {
            root,
            intermediate,
            leaf,
        }
    }

    /// The published certificates.
    pub(crate) fn pem(&self) -> String {
        format!("{}{}", self.root.pem(), self.intermediate.pem())
    }

    pub(crate) fn authority(&self) -> Arc<CertificateAuthority> {
        authority(&self.pem(), None)
    }
}

pub(crate) fn authority(certificates: &str, lists: Option<&str>) -> Arc<CertificateAuthority> {
    Arc::new(
        CertificateAuthority::parse(
            certificates.as_bytes(),
            lists.map(str::as_bytes),
            &InputLimits::DEFAULT,
        )
        .expect("an authority"),
    )
}

/// A revocation list in PEM that is fresh in November 2026.
pub(crate) fn list(by: &Issuer, serials: &[u8]) -> String {
    list_until(by, serials, "2026-12-01T00:00:00Z")
}

pub(crate) fn list_until(by: &Issuer, serials: &[u8], next_update: &str) -> String {
    list_params(serials, next_update)
        .signed_by(by)
        .expect("a revocation list")
        .pem()
        .expect("PEM")
}

/// An empty revocation list, by an issuer of this name whose certificate need not allow it.
pub(crate) fn list_by_key(name: &str, by: &Issuer) -> String {
    let params = ca(name);
    let signer = rcgen::Issuer::from_params(&params, by.key());
    list_params(&[], "2026-12-01T00:00:00Z")
        .signed_by(&signer)
        .expect("a revocation list")
        .pem()
        .expect("PEM")
}

fn list_params(serials: &[u8], next_update: &str) -> CertificateRevocationListParams {
    let revoked = |serial: &u8| RevokedCertParams {
        serial_number: SerialNumber::from_slice(&[*serial]),
        revocation_time: date("2026-10-01T00:00:00Z"),
        reason_code: None,
        invalidity_date: None,
    };
    CertificateRevocationListParams {
        this_update: date("2026-10-02T00:00:00Z"),
        next_update: date(next_update),
        crl_number: SerialNumber::from_slice(&[1]),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    }
}

impl Holder {
    /// A Sigstore bundle with the certificate alone.
    pub(crate) fn bundle(&self, payload: &[u8]) -> Value {
        let mut bundle = self.key.bundle(media_type::IN_TOTO, payload);
        bundle["verificationMaterial"] =
            json!({"certificate": {"rawBytes": BASE64.encode(&self.der)}});
        bundle
    }

    /// A Sigstore bundle 0.2 with further certificates (`further`).
    pub(crate) fn bundle_with(&self, payload: &[u8], further: &[&[u8]]) -> Value {
        let mut bundle = self.bundle(payload);
        bundle["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.2".into();
        let chain: Vec<Value> = std::iter::once(&self.der.as_slice())
            .chain(further)
            .map(|der| json!({"rawBytes": BASE64.encode(der)}))
            .collect();
        bundle["verificationMaterial"] = json!({"x509CertificateChain": {"certificates": chain}});
        bundle
    }

    /// A signature of `subject`.
    pub(crate) fn sign(&self, subject: &Digest) -> ReferrerCandidate {
        candidate(subject, &self.bundle(&signature_of(subject)))
    }
}

/// The payload that `cosign sign` signs.
pub(crate) fn signature_of(subject: &Digest) -> Vec<u8> {
    serde_json::to_vec(&Statement::for_digest("", subject, COSIGN_SIGN, json!({}))).expect("JSON")
}

/// Trusted material with these authorities, without time evidence.
pub(crate) fn issued_by<const N: usize>(
    authorities: [&Arc<CertificateAuthority>; N],
) -> TrustedMaterial {
    let authorities = authorities
        .map(|authority| TrustedCertificateAuthority {
            authority: authority.clone(),
            root: None,
        })
        .to_vec();
    TrustedMaterial {
        authorities,
        now: Some(now()),
        ..TrustedMaterial::default()
    }
}
