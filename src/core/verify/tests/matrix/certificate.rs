//! The certificate: its name, validity and purpose, its issuer, and its SCT.

use rcgen::ExtendedKeyUsagePurpose;
use serde_json::Value;

use super::{
    super::*,
    Case, Change,
    Change::{Bundle, Forge, Make, Root},
    Expected::{Holds, Refused},
    Fault, Part, Shape, material, remove, row,
};
use crate::core::verify::testing::sigstore::{
    Algorithm, Authority, Ca, CtLog, DAY, ISSUER, Key, Leaf, NOON, San, Sct, WORKFLOW, base64,
};

const fn refused(name: &'static str, reason: Reason, change: Change) -> Fault {
    row(name, Part::Always, Shape::keyless, Refused(reason), change)
}

const fn holds(name: &'static str, change: Change) -> Fault {
    row(name, Part::Always, Shape::keyless, Holds, change)
}

fn leaf(case: &mut Case) -> &mut Leaf {
    case.recipe.leaf()
}

fn names(case: &mut Case, names: &[San]) {
    leaf(case).names = names.to_vec();
}

/// The certificates in the form of bundle version 0.2.
fn chain(bundle: &mut Value, above: &[&[u8]]) {
    bundle["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.2".into();
    let mut certificates = vec![remove(material(bundle), "certificate")];
    certificates.extend(above.iter().map(|der| json!({"rawBytes": base64(der)})));
    material(bundle)["x509CertificateChain"] = json!({"certificates": certificates});
}

/// Only the root is trusted: the bundle has to contain the intermediate.
fn trust_the_root_alone(root: &mut Value) {
    root["certificateAuthorities"][0]["certChain"]["certificates"]
        .as_array_mut()
        .expect("certificates")
        .remove(0);
}

fn window(case: &mut Case, from: i64, to: i64) {
    leaf(case).window = (from, to);
}

pub(super) const FAULTS: &[Fault] = &[
    // The name.
    holds(
        "an email address",
        Make(|case| names(case, &[San::Email("a@example.com")])),
    ),
    refused(
        "no name",
        Reason::IdentityMismatch,
        Make(|case| names(case, &[])),
    ),
    refused(
        "two URIs",
        Reason::IdentityMismatch,
        Make(|case| {
            names(
                case,
                &[San::Uri(WORKFLOW), San::Uri("https://example.com/other")],
            );
        }),
    ),
    refused(
        "a URI and an email address",
        Reason::IdentityMismatch,
        Make(|case| names(case, &[San::Uri(WORKFLOW), San::Email("a@example.com")])),
    ),
    refused(
        "an email address and a URI",
        Reason::IdentityMismatch,
        Make(|case| names(case, &[San::Email("a@example.com"), San::Uri(WORKFLOW)])),
    ),
    refused(
        "another name before the URI",
        Reason::IdentityMismatch,
        Make(|case| names(case, &[San::Other("alice"), San::Uri(WORKFLOW)])),
    ),
    refused(
        "another name after the URI",
        Reason::IdentityMismatch,
        Make(|case| names(case, &[San::Uri(WORKFLOW), San::Dns("example.com")])),
    ),
    holds(
        "a Fulcio username",
        Make(|case| names(case, &[San::Other("alice!example.com")])),
    ),
    refused(
        "only another name",
        Reason::IdentityMismatch,
        Make(|case| names(case, &[San::Other("alice")])),
    ),
    refused(
        "a DNS name",
        Reason::IdentityMismatch,
        Make(|case| names(case, &[San::Dns("example.com")])),
    ),
    refused(
        "an email address that is a URI",
        Reason::IdentityMismatch,
        Make(|case| names(case, &[San::Email(WORKFLOW)])),
    ),
    refused(
        "an email address without @",
        Reason::IdentityMismatch,
        Make(|case| names(case, &[San::Email("alice")])),
    ),
    refused(
        "a URI that is an email address",
        Reason::IdentityMismatch,
        Make(|case| names(case, &[San::Uri("a@example.com")])),
    ),
    refused(
        "an empty URI",
        Reason::IdentityMismatch,
        Make(|case| names(case, &[San::Uri("")])),
    ),
    refused(
        "no issuer",
        Reason::IdentityMismatch,
        Make(|case| {
            leaf(case).issuer = None;
            leaf(case).legacy_issuer = None;
        }),
    ),
    refused(
        "an empty issuer",
        Reason::IdentityMismatch,
        Make(|case| leaf(case).issuer = Some("")),
    ),
    refused(
        "an empty issuer of the old kind",
        Reason::IdentityMismatch,
        Make(|case| {
            leaf(case).issuer = None;
            leaf(case).legacy_issuer = Some("");
        }),
    ),
    holds(
        "an issuer of the old kind",
        Make(|case| leaf(case).issuer = None),
    ),
    holds(
        "an issuer of the new kind",
        Make(|case| leaf(case).legacy_issuer = None),
    ),
    holds(
        "no claims of a CI",
        Make(|case| leaf(case).claims = Vec::new()),
    ),
    // Its validity and purpose.
    refused(
        "a certificate that had expired",
        Reason::CertificateExpired,
        Make(|case| window(case, NOON - 600, NOON)),
    ),
    refused(
        "a certificate that was not valid yet",
        Reason::CertificateExpired,
        Make(|case| window(case, NOON + 120, NOON + 720)),
    ),
    refused(
        "a certificate for servers",
        Reason::UntrustedChain,
        Make(|case| leaf(case).purposes = vec![ExtendedKeyUsagePurpose::ServerAuth]),
    ),
    refused(
        "a certificate for timestamps",
        Reason::UntrustedChain,
        Make(|case| leaf(case).purposes = vec![ExtendedKeyUsagePurpose::TimeStamping]),
    ),
    refused(
        "a certificate for anything",
        Reason::UntrustedChain,
        Make(|case| leaf(case).purposes = vec![ExtendedKeyUsagePurpose::Any]),
    ),
    refused(
        "a certificate for nothing",
        Reason::UntrustedChain,
        Make(|case| leaf(case).purposes = Vec::new()),
    ),
    holds(
        "a certificate for servers and code",
        Make(|case| {
            leaf(case).purposes = vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::CodeSigning,
            ];
        }),
    ),
    refused(
        "a certificate that may certify",
        Reason::UntrustedChain,
        Make(|case| leaf(case).is_ca = true),
    ),
    refused(
        "a certificate for another key",
        Reason::InvalidSignature,
        Make(|case| case.recipe.certified = Some(Key::new(Algorithm::P256))),
    ),
    refused(
        "garbage for a certificate",
        Reason::MalformedEvidence,
        Bundle(|b| material(b)["certificate"]["rawBytes"] = "MAA=".into()),
    ),
    // The issuer.
    refused(
        "an authority that nobody knows",
        Reason::UntrustedChain,
        Forge(|b, case| {
            let mut other = case.clone();
            other.sigstore.authority = Authority::new();
            *b = other.recipe.bundle(&other.sigstore);
        }),
    ),
    refused(
        "no authority",
        Reason::UntrustedChain,
        Root(|root| root["certificateAuthorities"] = json!([])),
    ),
    refused(
        "an authority that was no longer trusted to certify",
        Reason::UntrustedChain,
        Make(|case| {
            case.sigstore.authority.valid_for.1 = Some(NOON - DAY);
        }),
    ),
    refused(
        "an authority that was not trusted to certify yet",
        Reason::UntrustedChain,
        Make(|case| case.sigstore.authority.valid_for.0 = NOON + DAY),
    ),
    refused(
        "an intermediate that had expired",
        Reason::CertificateExpired,
        Make(|case| {
            let expired = case
                .sigstore
                .authority
                .root
                .intermediate("intermediate", (NOON - 100 * DAY, NOON - DAY));
            case.sigstore.authority.intermediate = Some(expired);
        }),
    ),
    refused(
        "a root that had expired",
        Reason::CertificateExpired,
        Make(|case| {
            case.sigstore.authority.root = Ca::root("authority", (NOON - 100 * DAY, NOON - DAY));
            case.sigstore.authority.intermediate = None;
        }),
    ),
    holds(
        "no intermediate",
        Make(|case| case.sigstore.authority.intermediate = None),
    ),
    refused(
        "a chain in a bundle of version 0.3",
        Reason::MalformedEvidence,
        Bundle(|b| {
            chain(b, &[]);
            b["mediaType"] = "application/vnd.dev.sigstore.bundle.v0.3+json".into();
        }),
    ),
    holds(
        "a chain",
        Forge(|b, case| chain(b, &case.sigstore.authority.chain())),
    ),
    holds(
        "as many certificates as may be",
        Forge(|b, case| chain(b, &[case.sigstore.authority.chain()[0]; 7])),
    ),
    refused(
        "no certificate in a chain",
        Reason::MalformedEvidence,
        Bundle(|b| {
            chain(b, &[]);
            material(b)["x509CertificateChain"]["certificates"] = json!([]);
        }),
    ),
    refused(
        "an authority's certificate instead of the signer's",
        Reason::UntrustedChain,
        Forge(|b, case| {
            material(b)["certificate"]["rawBytes"] =
                base64(case.sigstore.authority.chain()[0]).into();
        }),
    ),
    refused(
        "only the root is trusted, and the bundle has no intermediate",
        Reason::UntrustedChain,
        Root(trust_the_root_alone),
    ),
    // The SCT.
    refused(
        "no promise of the certificates' log",
        Reason::UntrustedChain,
        Make(|case| leaf(case).sct = Sct::Missing),
    ),
    holds(
        "two promises of the certificates' log",
        Make(|case| leaf(case).sct = Sct::Times(2)),
    ),
    refused(
        "nine promises of the certificates' log",
        Reason::LimitExceeded,
        Make(|case| leaf(case).sct = Sct::Times(9)),
    ),
    holds(
        "a promise of a log that is not known beside a good one",
        Make(|case| leaf(case).sct = Sct::AndOf(Key::new(Algorithm::P256))),
    ),
    refused(
        "a forged promise of the certificates' log beside a good one",
        Reason::UntrustedChain,
        Make(|case| leaf(case).sct = Sct::AndBy(Key::new(Algorithm::P256))),
    ),
    refused(
        "a promise about the certificate by another key",
        Reason::UntrustedChain,
        Make(|case| leaf(case).sct = Sct::By(Key::new(Algorithm::P256))),
    ),
    refused(
        "a promise about another certificate",
        Reason::UntrustedChain,
        Make(|case| leaf(case).sct = Sct::ForAnother),
    ),
    refused(
        "a promise about a certificate of another issuer",
        Reason::UntrustedChain,
        Make(|case| {
            leaf(case).sct = Sct::ForIssuer(Key::new(Algorithm::P256).spki());
        }),
    ),
    refused(
        "another log of certificates is trusted",
        Reason::UntrustedChain,
        Forge(|b, case| {
            let mut other = case.clone();
            other.sigstore.ct_log = CtLog::new();
            *b = other.recipe.bundle(&other.sigstore);
        }),
    ),
    refused(
        "no log of certificates is trusted",
        Reason::UntrustedChain,
        Root(|root| root["ctlogs"] = json!([])),
    ),
    refused(
        "a log of certificates that had ended",
        Reason::UntrustedChain,
        Make(|case| case.sigstore.ct_log.valid_for.1 = Some(NOON - DAY)),
    ),
    refused(
        "a log of certificates that had not begun",
        Reason::UntrustedChain,
        Make(|case| case.sigstore.ct_log.valid_for.0 = NOON + DAY),
    ),
    refused(
        "a promise about the certificate before the log began",
        Reason::UntrustedChain,
        Make(|case| {
            leaf(case).sct = Sct::At(NOON - 600 * DAY);
        }),
    ),
];

/// Other algorithms than P-256. The verifier supports Rekor v2's `hashedrekord` for P-256 only.
#[test]
fn certificates_of_other_algorithms() {
    use super::{By, When, outcome};
    for (algorithm, v1, v2) in [
        (Algorithm::P384, None, Some(Reason::MalformedEvidence)),
        (Algorithm::Ed25519, None, Some(Reason::MalformedEvidence)),
        (Algorithm::Rsa2048, None, Some(Reason::MalformedEvidence)),
        (Algorithm::Rsa4096, None, Some(Reason::MalformedEvidence)),
        (
            Algorithm::P521,
            Some(Reason::MalformedEvidence),
            Some(Reason::MalformedEvidence),
        ),
    ] {
        for (when, expected) in [
            (When::RekorV1, v1),
            (When::RekorV1AndStamp, v1),
            (When::RekorV2AndStamp, v2),
        ] {
            let shape = Shape {
                by: By::Certificate,
                when,
            };
            let mut case = Case::new(shape);
            case.recipe.key = Key::new(algorithm);
            let findings = case.judge(&Make(|_| ()));
            let expected = expected.map_or(Holds, Refused);
            assert_eq!(
                outcome(&findings, shape).1,
                expected,
                "{algorithm:?} {when:?}: {:?}",
                findings.rejected
            );
        }
    }
}

#[test]
fn whoever_is_named_is_told() {
    use super::{By, When, outcome};
    let shape = Shape {
        by: By::Certificate,
        when: When::RekorV1,
    };
    let mut case = Case::new(shape);
    names(&mut case, &[San::Email("a@example.com")]);
    let findings = case.judge(&Make(|_| ()));
    let signer = SignerIdentity::Identity {
        san: "a@example.com".into(),
        issuer: ISSUER.into(),
    };
    assert_eq!(
        outcome(&findings, shape).0.map(Verified::signer),
        Some(&signer)
    );
}
