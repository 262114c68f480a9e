//! One table of all faults in the issuers of a certificate, for all three kinds of paths: the
//! certificate authorities of a trust root, its timestamp authorities, and private CAs.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose,
};
use time::Duration;

use super::{
    super::{
        testing::sigstore::{
            Algorithm, Ca, DAY, Key, Kind, LOGGED, Leaf, Logging, Material, NOON, Recipe, STAMPED,
            Sigstore, Stamp, Tsa, base64, purposes,
        },
        testing_pki::{
            Holder, Pki, ca, holder, issued, issued_by, leaf, list, list_by_key, root, signature_of,
        },
    },
    *,
};

const WINDOW: (i64, i64) = (NOON - 1_000 * DAY, NOON + 3_000 * DAY);

/// A change to an issuer whose certificates are for this purpose.
type Edit = fn(&mut CertificateParams, ExtendedKeyUsagePurpose);

/// The result for a certificate of an authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Holds,
    Refused(Reason),
    /// The CA file is refused as a whole, so that nothing can be verified with it.
    Unusable,
}

use Outcome::{Holds, Refused, Unusable};

const UNTRUSTED: Outcome = Refused(Reason::UntrustedChain);
const EXPIRED: Outcome = Refused(Reason::CertificateExpired);

/// Name, change in the root, change in the intermediate, result with a trust root, and result with
/// a private CA. The result of a timestamp is that of the trust root.
type Row = (&'static str, Edit, Edit, Outcome, Outcome);

fn same(_: &mut CertificateParams, _: ExtendedKeyUsagePurpose) {}

const fn path_length(params: &mut CertificateParams, length: u8) {
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(length));
}

fn critical(params: &mut CertificateParams) {
    let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
    extension.set_criticality(true);
    params.custom_extensions.push(extension);
}

fn ends(params: &mut CertificateParams) {
    params.not_after = params.not_before + Duration::DAY;
}

fn begins(params: &mut CertificateParams) {
    params.not_before = params.not_after - Duration::DAY;
}

const TABLE: &[Row] = &[
    ("as they should be", same, same, Holds, Holds),
    (
        "the root allows no intermediate",
        |p, _| path_length(p, 0),
        same,
        UNTRUSTED,
        UNTRUSTED,
    ),
    (
        "the root allows one intermediate",
        |p, _| path_length(p, 1),
        same,
        Holds,
        Holds,
    ),
    (
        "the intermediate allows none below",
        same,
        |p, _| path_length(p, 0),
        Holds,
        Holds,
    ),
    (
        "the root has no basic constraints",
        |p, _| p.is_ca = IsCa::NoCa,
        same,
        UNTRUSTED,
        Unusable,
    ),
    (
        "the root is CA:FALSE",
        |p, _| p.is_ca = IsCa::ExplicitNoCa,
        same,
        UNTRUSTED,
        Unusable,
    ),
    (
        "the intermediate has no basic constraints",
        same,
        |p, _| p.is_ca = IsCa::NoCa,
        UNTRUSTED,
        Unusable,
    ),
    (
        "the intermediate is CA:FALSE",
        same,
        |p, _| p.is_ca = IsCa::ExplicitNoCa,
        UNTRUSTED,
        Unusable,
    ),
    (
        "the root may not sign certificates",
        |p, _| p.key_usages = vec![KeyUsagePurpose::CrlSign],
        same,
        UNTRUSTED,
        Unusable,
    ),
    (
        "the intermediate may not sign certificates",
        same,
        |p, _| p.key_usages = vec![KeyUsagePurpose::DigitalSignature],
        UNTRUSTED,
        Unusable,
    ),
    (
        "the root does not say what its key is for",
        |p, _| p.key_usages.clear(),
        same,
        Holds,
        Holds,
    ),
    (
        "the intermediate does not say what its key is for",
        same,
        |p, _| p.key_usages.clear(),
        Holds,
        Holds,
    ),
    (
        "the root is for servers",
        |p, _| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
        same,
        UNTRUSTED,
        Unusable,
    ),
    (
        "the intermediate is for servers",
        same,
        |p, _| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
        UNTRUSTED,
        UNTRUSTED,
    ),
    (
        "both are for this",
        |p, purpose| p.extended_key_usages = vec![purpose],
        |p, purpose| p.extended_key_usages = vec![purpose],
        Holds,
        Holds,
    ),
    (
        "both are for anything",
        |p, _| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any],
        |p, _| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any],
        Holds,
        Holds,
    ),
    (
        "the intermediate is for this and for servers",
        same,
        |p, purpose| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, purpose],
        Holds,
        Holds,
    ),
    (
        "an unknown critical extension in the root",
        |p, _| critical(p),
        same,
        UNTRUSTED,
        Unusable,
    ),
    (
        "an unknown critical extension in the intermediate",
        same,
        |p, _| critical(p),
        UNTRUSTED,
        UNTRUSTED,
    ),
    ("the root had ended", |p, _| ends(p), same, EXPIRED, EXPIRED),
    (
        "the root had not begun",
        |p, _| begins(p),
        same,
        EXPIRED,
        EXPIRED,
    ),
    (
        "the intermediate had ended",
        same,
        |p, _| ends(p),
        EXPIRED,
        EXPIRED,
    ),
    (
        "the intermediate had not begun",
        same,
        |p, _| begins(p),
        EXPIRED,
        EXPIRED,
    ),
];

/// A Sigstore, and a signature with a log entry and a timestamp by its services.
fn keyless() -> (Sigstore, Recipe) {
    let mut recipe = Recipe::new(&Key::new(Algorithm::P256), signature_of(&subject()));
    recipe.material = Material::Certificate(Box::new(Leaf::workflow()));
    recipe.logging = Some(Logging::new(Kind::HashedRekord002, LOGGED));
    recipe.stamps = vec![Stamp::at(STAMPED)];
    (Sigstore::new(), recipe)
}

fn trusted(root: &Value) -> TrustedMaterial {
    let root =
        TrustRoot::parse(root.to_string().as_bytes(), &InputLimits::DEFAULT).expect("a trust root");
    TrustedMaterial {
        roots: vec![Arc::new(root)],
        ..TrustedMaterial::default()
    }
}

fn judged(sigstore: &Sigstore, recipe: &Recipe) -> Outcome {
    let judged = verdict(
        candidate(&subject(), &recipe.bundle(sigstore)),
        &trusted(&sigstore.trusted_root()),
    );
    judged.map_or_else(Refused, |_| Holds)
}

/// The result for a certificate by an authority of a trust root, which lists `listed`.
fn by_trust_root(root: &Ca, issuer: &Ca, listed: Vec<Vec<u8>>) -> Outcome {
    let (mut sigstore, recipe) = keyless();
    sigstore.authority.root = root.clone();
    sigstore.authority.intermediate = Some(issuer.clone());
    sigstore.authority.listed = Some(listed);
    judged(&sigstore, &recipe)
}

/// The result for a timestamp authority with a certificate of `issuer`, and `above` as the rest of
/// its chain in the trust root.
fn by_timestamp_authority(issuer: &Ca, above: Vec<Vec<u8>>) -> Outcome {
    let (mut sigstore, recipe) = keyless();
    sigstore.tsa = Tsa::issued_by(issuer, above, WINDOW, |_| ());
    judged(&sigstore, &recipe)
}

fn by_company(holder: &Holder, certificates: &str) -> Outcome {
    match CertificateAuthority::parse(certificates.as_bytes(), None, &InputLimits::DEFAULT) {
        Err(_) => Unusable,
        Ok(by) => verdict(holder.sign(&subject()), &issued_by([&Arc::new(by)]))
            .map_or_else(Refused, |_| Holds),
    }
}

/// A root and an intermediate with these changes.
fn authority(
    edit_root: Edit,
    edit_intermediate: Edit,
    purpose: &ExtendedKeyUsagePurpose,
) -> (Ca, Ca) {
    let root = Ca::root_with("authority", WINDOW, |params| {
        edit_root(params, purpose.clone());
    });
    let intermediate = root.intermediate_with("intermediate", WINDOW, |params| {
        edit_intermediate(params, purpose.clone());
    });
    (root, intermediate)
}

#[test]
fn every_issuer_must_be_one_whoever_trusts_it() {
    for (what, edit_root, edit_intermediate, by_root, by_own) in TABLE {
        let (root_ca, intermediate) = authority(
            *edit_root,
            *edit_intermediate,
            &ExtendedKeyUsagePurpose::CodeSigning,
        );
        let listed = vec![intermediate.der.clone(), root_ca.der.clone()];
        assert_eq!(
            by_trust_root(&root_ca, &intermediate, listed),
            *by_root,
            "keyless: {what}"
        );

        let (root_ca, intermediate) = authority(
            *edit_root,
            *edit_intermediate,
            &ExtendedKeyUsagePurpose::TimeStamping,
        );
        let stamped = by_timestamp_authority(
            &intermediate,
            vec![intermediate.der.clone(), root_ca.der.clone()],
        );
        let expected = if *by_root == Holds {
            Holds
        } else {
            Refused(Reason::InvalidTimestamp)
        };
        assert_eq!(stamped, expected, "timestamp: {what}");

        let (mut one, mut two) = (ca("Corp Root"), ca("Corp Signing"));
        edit_root(&mut one, ExtendedKeyUsagePurpose::CodeSigning);
        edit_intermediate(&mut two, ExtendedKeyUsagePurpose::CodeSigning);
        let top = root(one);
        let middle = issued(two, &top);
        let company = by_company(
            &holder(&leaf(), &middle),
            &format!("{}{}", top.pem(), middle.pem()),
        );
        assert_eq!(company, *by_own, "company: {what}");
    }
}

#[test]
fn path_lengths_count_every_intermediate() {
    for (of_root, of_upper, of_lower, expected) in [
        (None, None, None, Holds),
        (Some(2), Some(1), Some(0), Holds),
        (Some(1), None, None, UNTRUSTED),
        (None, Some(0), None, UNTRUSTED),
        (Some(2), Some(0), Some(0), UNTRUSTED),
        (Some(0), None, None, UNTRUSTED),
    ] {
        let bounded = |length: Option<u8>| {
            move |params: &mut CertificateParams| {
                if let Some(length) = length {
                    path_length(params, length);
                }
            }
        };
        let top = Ca::root_with("authority", WINDOW, bounded(of_root));
        let upper = top.intermediate_with("upper", WINDOW, bounded(of_upper));
        let lower = upper.intermediate_with("lower", WINDOW, bounded(of_lower));
        let listed = vec![lower.der.clone(), upper.der.clone(), top.der.clone()];
        assert_eq!(
            by_trust_root(&top, &lower, listed.clone()),
            expected,
            "keyless: {of_root:?} {of_upper:?} {of_lower:?}"
        );
        let stamped = if expected == Holds {
            Holds
        } else {
            Refused(Reason::InvalidTimestamp)
        };
        assert_eq!(
            by_timestamp_authority(&lower, listed),
            stamped,
            "timestamp: {of_root:?} {of_upper:?} {of_lower:?}"
        );

        let own = |name: &str, length: Option<u8>| {
            let mut params = ca(name);
            bounded(length)(&mut params);
            params
        };
        let top = root(own("Corp Root", of_root));
        let upper = issued(own("Corp", of_upper), &top);
        let lower = issued(own("Corp Signing", of_lower), &upper);
        let company = by_company(
            &holder(&leaf(), &lower),
            &format!("{}{}{}", top.pem(), upper.pem(), lower.pem()),
        );
        assert_eq!(
            company, expected,
            "company: {of_root:?} {of_upper:?} {of_lower:?}"
        );
    }
}

/// D16: the order does not matter, nor does a missing root: the uppermost certificate is trusted
/// then.
#[test]
fn chains_of_a_trust_root_may_be_in_any_order_and_without_their_root() {
    let (top, middle) = authority(same, same, &ExtendedKeyUsagePurpose::CodeSigning);
    let (one, two) = (top.der.clone(), middle.der.clone());
    assert_eq!(
        by_trust_root(&top, &middle, vec![one.clone(), two.clone()]),
        Holds
    );
    assert_eq!(by_trust_root(&top, &middle, vec![two.clone()]), Holds);
    assert_eq!(by_trust_root(&top, &middle, vec![one]), UNTRUSTED);
    // With an unrelated root there is no path.
    let other = Ca::root("another", WINDOW);
    assert_eq!(
        by_trust_root(&top, &middle, vec![two, other.der]),
        UNTRUSTED
    );
    // In any order, the root's constraint applies.
    let (narrow, below) = authority(
        |p, _| path_length(p, 0),
        same,
        &ExtendedKeyUsagePurpose::CodeSigning,
    );
    assert_eq!(
        by_trust_root(&narrow, &below, vec![narrow.der.clone(), below.der.clone()]),
        UNTRUSTED
    );
    // The uppermost must be a CA certificate too.
    let (top, none) = authority(
        same,
        |p, _| p.is_ca = IsCa::NoCa,
        &ExtendedKeyUsagePurpose::CodeSigning,
    );
    assert_eq!(
        by_trust_root(&top, &none, vec![none.der.clone()]),
        UNTRUSTED
    );
    let (top, ended) = authority(same, |p, _| ends(p), &ExtendedKeyUsagePurpose::CodeSigning);
    assert_eq!(
        by_trust_root(&top, &ended, vec![ended.der.clone()]),
        EXPIRED
    );
}

#[test]
fn a_certificate_of_version_1_is_no_authoritys() {
    let (top, middle) = authority(same, same, &ExtendedKeyUsagePurpose::CodeSigning);
    let old = top.as_version_1();
    assert_eq!(
        by_trust_root(&old, &middle, vec![middle.der.clone(), old.der.clone()]),
        UNTRUSTED
    );
    assert_eq!(
        by_timestamp_authority(&middle, vec![middle.der.clone(), old.der]),
        Refused(Reason::InvalidTimestamp)
    );
}

/// A fault in one authority does not affect another.
#[test]
fn an_authority_that_is_none_is_passed_over_and_the_others_are_not() {
    let (sigstore, recipe) = keyless();
    let bundle = candidate(&subject(), &recipe.bundle(&sigstore));
    let mut root = sigstore.trusted_root();
    let none = Ca::root_with("authority", WINDOW, |params| params.is_ca = IsCa::NoCa);
    for (kind, der) in [
        ("certificateAuthorities", &none.der),
        ("timestampAuthorities", &none.der),
    ] {
        let mut other = root[kind][0].clone();
        other["certChain"]["certificates"] = json!([{"rawBytes": base64(der)}]);
        root[kind].as_array_mut().expect("a list").insert(0, other);
    }
    assert_eq!(
        verdict(bundle.clone(), &trusted(&root)).as_deref(),
        Ok(COSIGN_SIGN)
    );
    // Without other authorities the reason is reported.
    for (kind, reason, part) in [
        (
            "certificateAuthorities",
            Reason::UntrustedChain,
            "certificate authority 1 of the trust root is not used: certificate 1 is no \
                certificate authority's",
        ),
        (
            "timestampAuthorities",
            Reason::InvalidTimestamp,
            "timestamp authority 1 of the trust root is not used",
        ),
    ] {
        let mut root = root.clone();
        root[kind].as_array_mut().expect("a list").truncate(1);
        let findings = verify_evidence(
            &subject(),
            &evidence(vec![bundle.clone()]),
            &trusted(&root),
            &InputLimits::DEFAULT,
        );
        let [rejected] = &findings.rejected[..] else {
            panic!("{findings:?}")
        };
        assert!(
            rejected.reason == reason && rejected.message.contains(part),
            "{rejected:?}"
        );
    }
}

/// D1: the holder of a CA key below a trusted root must not add its certificate through a bundle.
#[test]
fn no_intermediate_is_taken_from_a_bundle() {
    for (what, edit) in [
        ("unbounded", same as Edit),
        ("over a path length of 0", |p, _| path_length(p, 0)),
    ] {
        let (top, middle) = authority(same, edit, &ExtendedKeyUsagePurpose::CodeSigning);
        let below = middle.intermediate("below", WINDOW);
        let (mut sigstore, recipe) = keyless();
        sigstore.authority.root = top.clone();
        sigstore.authority.intermediate = Some(below.clone());
        sigstore.authority.listed = Some(vec![middle.der.clone(), top.der.clone()]);
        let mut bundle = recipe.bundle(&sigstore);
        let material = bundle["verificationMaterial"]
            .as_object_mut()
            .expect("an object");
        let leaf = material.remove("certificate").expect("a certificate");
        material.insert(
            "x509CertificateChain".into(),
            json!({"certificates": [leaf, {"rawBytes": base64(&below.der)}]}),
        );
        bundle["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.2".into();
        let judged = verdict(
            candidate(&subject(), &bundle),
            &trusted(&sigstore.trusted_root()),
        );
        assert_eq!(judged, Err(Reason::UntrustedChain), "{what}");
        // If the trust root lists it, it counts, if it may.
        let expected = if what == "unbounded" {
            Holds
        } else {
            UNTRUSTED
        };
        assert_eq!(
            by_trust_root(
                &top,
                &below,
                vec![below.der.clone(), middle.der.clone(), top.der.clone()]
            ),
            expected,
            "{what}"
        );
    }
}

/// D4: the certificate that signs timestamps is for that only, and its key may sign.
#[test]
fn a_timestamp_authority_is_for_nothing_else() {
    type Row = (&'static str, fn(&mut CertificateParams), bool);
    const TIME_STAMPING: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 8];
    const SERVERS: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 1];
    let (top, middle) = authority(same, same, &ExtendedKeyUsagePurpose::TimeStamping);
    let table: &[Row] = &[
        ("as it should be", |_| (), true),
        ("no key usage", |p| p.key_usages.clear(), true),
        ("no purpose", |p| p.custom_extensions.clear(), false),
        (
            "not critical",
            |p| p.custom_extensions = vec![purposes(false, &[TIME_STAMPING])],
            false,
        ),
        (
            "two purposes",
            |p| p.custom_extensions = vec![purposes(true, &[TIME_STAMPING, SERVERS])],
            false,
        ),
        (
            "for servers",
            |p| p.custom_extensions = vec![purposes(true, &[SERVERS])],
            false,
        ),
        (
            "a key for encryption",
            |p| p.key_usages = vec![KeyUsagePurpose::KeyEncipherment],
            false,
        ),
        (
            "an authority's",
            |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
            false,
        ),
        ("an unknown critical extension", critical, false),
        ("it had ended", ends, false),
    ];
    for (what, change, holds) in table {
        let (mut sigstore, recipe) = keyless();
        sigstore.tsa = Tsa::issued_by(
            &middle,
            vec![middle.der.clone(), top.der.clone()],
            WINDOW,
            change,
        );
        let expected = if *holds {
            Holds
        } else {
            Refused(Reason::InvalidTimestamp)
        };
        assert_eq!(judged(&sigstore, &recipe), expected, "{what}");
    }
    // Alone in the list, without an issuer.
    assert_eq!(
        by_timestamp_authority(&middle, Vec::new()),
        Refused(Reason::InvalidTimestamp)
    );
    assert_eq!(by_timestamp_authority(&top, vec![top.der.clone()]), Holds);
    assert_eq!(
        by_timestamp_authority(&middle, vec![middle.der.clone()]),
        Holds
    );
    assert_eq!(
        by_timestamp_authority(&middle, vec![top.der]),
        Refused(Reason::InvalidTimestamp)
    );
}

/// D15: RFC 5280, section 6.3.3, f.
#[test]
fn a_revocation_list_counts_only_if_its_issuer_may_sign_it() {
    let no_lists =
        |params: &mut CertificateParams| params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let silent = |params: &mut CertificateParams| params.key_usages.clear();
    for (what, pki, expected) in [
        ("both may", Pki::new(), Ok(COSIGN_SIGN.to_owned())),
        (
            "they do not say",
            Pki::with(silent, silent, |_| ()),
            Ok(COSIGN_SIGN.to_owned()),
        ),
        (
            "the root may not",
            Pki::with(no_lists, |_| (), |_| ()),
            Err(Reason::UntrustedChain),
        ),
        (
            "the intermediate may not",
            Pki::with(|_| (), no_lists, |_| ()),
            Err(Reason::UntrustedChain),
        ),
    ] {
        let lists = format!(
            "{}{}",
            list_by_key("Corp Root", &pki.root),
            list_by_key("Corp Signing", &pki.intermediate)
        );
        let by = testing_pki::authority(&pki.pem(), Some(&lists));
        assert_eq!(
            verdict(pki.leaf.sign(&subject()), &issued_by([&by])),
            expected,
            "{what}"
        );
        // Without lists there is no revocation check.
        assert_eq!(
            verdict(pki.leaf.sign(&subject()), &issued_by([&pki.authority()])).as_deref(),
            Ok(COSIGN_SIGN),
            "{what}"
        );
    }
    // Another root in the same file does not sign the list in its place.
    let (bad, good) = (Pki::with(no_lists, |_| (), |_| ()), Pki::new());
    let lists = format!(
        "{}{}{}",
        list_by_key("Corp Root", &bad.root),
        list(&bad.intermediate, &[]),
        list(&good.root, &[])
    );
    let both = testing_pki::authority(&format!("{}{}", bad.pem(), good.root.pem()), Some(&lists));
    assert_eq!(
        verdict(bad.leaf.sign(&subject()), &issued_by([&both])),
        Err(Reason::UntrustedChain)
    );
}

/// S12: a revocation by an issuer is reported, for every issuer, whoever else trusts the
/// certificate.
#[test]
fn who_revoked_a_certificate_is_told_although_somebody_else_believes_it() {
    // One key of a private CA that is also listed in a trust root.
    let (mut sigstore, mut recipe) = keyless();
    let serial = rcgen::SerialNumber::from_slice(&[7]);
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = ca("authority");
    (params.not_before, params.not_after) = (
        testing_pki::date("2020-01-01T00:00:00Z"),
        testing_pki::date("2030-01-01T00:00:00Z"),
    );
    let company = rcgen::CertifiedIssuer::self_signed(params.clone(), key).expect("a root");
    sigstore.authority.root = Ca::with_key(params, &company.key().serialize_der());
    sigstore.authority.intermediate = None;
    recipe.leaf().serial = Some(serial);
    let bundle = candidate(&subject(), &recipe.bundle(&sigstore));
    let revoking = testing_pki::authority(&company.pem(), Some(&list(&company, &[7])));
    let believing = testing_pki::authority(&company.pem(), None);
    let roots = trusted(&sigstore.trusted_root()).roots;
    let signers = |authorities: &[&Arc<CertificateAuthority>], roots: Vec<Arc<TrustRoot>>| {
        let vouching = roots.first().cloned();
        let root = vouching.or_else(|| trusted(&sigstore.trusted_root()).roots.pop());
        let authorities = authorities
            .iter()
            .map(|by| TrustedCertificateAuthority {
                authority: Arc::clone(by),
                root: root.clone(),
            })
            .collect();
        let trust = TrustedMaterial {
            roots,
            authorities,
            now: Some(testing_pki::now()),
            ..TrustedMaterial::default()
        };
        let findings = verify_evidence(
            &subject(),
            &evidence(vec![bundle.clone()]),
            &trust,
            &InputLimits::DEFAULT,
        );
        let revoked = findings
            .rejected
            .iter()
            .filter(|rejected| rejected.reason == Reason::Revoked);
        let named = revoked
            .filter(|rejected| matches!(rejected.signer, Some(SignerIdentity::Certificate { .. })))
            .count();
        (findings.verified.len(), named, findings.rejected.len())
    };
    assert_eq!(signers(&[], roots.clone()), (1, 0, 0));
    assert_eq!(signers(&[&believing], roots.clone()), (2, 0, 0));
    assert_eq!(signers(&[&revoking], roots.clone()), (1, 1, 1));
    assert_eq!(signers(&[&revoking, &believing], roots.clone()), (2, 1, 1));
    // Two issuers revoked it, and no other authority trusts it.
    let again = testing_pki::authority(&company.pem(), Some(&list(&company, &[7, 9])));
    assert_eq!(signers(&[&revoking, &again], Vec::new()), (0, 2, 2));
    assert_eq!(signers(&[&revoking, &again], roots), (1, 2, 2));
}
