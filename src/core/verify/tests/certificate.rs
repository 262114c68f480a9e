//! Certificates of a private CA: one that is valid, and every single fault.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, KeyUsagePurpose, NameConstraints, OtherNameValue, SanType,
};

use super::{
    super::testing_pki::{
        Change, Holder, Issuer, Pki, RELEASE, at, authority, ca, date, holder, issued, issued_by,
        leaf, list, list_until, now, root, signature_of, uri,
    },
    *,
};

fn same(_: &mut CertificateParams) {}

fn email(name: &str) -> SanType {
    SanType::Rfc822Name(name.try_into().expect("ASCII"))
}

fn host(name: &str) -> SanType {
    SanType::DnsName(name.try_into().expect("ASCII"))
}

/// Name constraints that permit only this subtree.
fn only(subtree: GeneralSubtree) -> NameConstraints {
    NameConstraints {
        permitted_subtrees: vec![subtree],
        excluded_subtrees: Vec::new(),
    }
}

/// Name constraints about URIs, which rcgen does not make: `permitted` or not, `corp.example.com`.
fn about_uris(permitted: bool) -> CustomExtension {
    let base = b"corp.example.com";
    let length = u8::try_from(base.len()).expect("short");
    let tree = if permitted { 0xa0 } else { 0xa1 };
    let mut content = vec![
        0x30,
        length + 6,
        tree,
        length + 4,
        0x30,
        length + 2,
        0x86,
        length,
    ];
    content.extend_from_slice(base);
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 30], content);
    extension.set_criticality(true);
    extension
}

fn not_after(params: &mut CertificateParams, text: &str) {
    params.not_after = date(text);
}

fn judged(holder: &Holder, by: &Arc<CertificateAuthority>) -> Result<String, Reason> {
    verdict(holder.sign(&subject()), &issued_by([by]))
}

#[test]
fn a_certificate_of_the_authority_holds_and_names_its_holder() {
    let pki = Pki::new();
    let by = pki.authority();
    let findings = verify_evidence(
        &subject(),
        &evidence(vec![pki.leaf.sign(&subject())]),
        &issued_by([&by]),
        &InputLimits::DEFAULT,
    );
    let [verified] = &findings.verified[..] else {
        panic!("{:?}", findings.rejected)
    };
    assert_eq!(
        *verified.signer(),
        SignerIdentity::Certificate {
            san: RELEASE.into(),
            authority: by.digest()
        }
    );
    assert_eq!(
        verified.key_fingerprint(),
        Some(&pki.leaf.key.public().fingerprint())
    );
    assert_eq!(
        (
            verified.signing_time(),
            verified.trust_root(),
            verified.time_evidence(),
            verified.is_logged()
        ),
        (
            SigningTime::Unknown,
            None,
            TimeEvidenceStatus::Absent,
            false
        )
    );
    // Up to and including the last second of the certificates.
    assert_eq!(
        verified.validity_period(),
        ValidityPeriod::between(at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:01Z"))
    );
    assert!(
        verified
            .signer()
            .to_string()
            .starts_with("spiffe://corp.example.com/release (certificate authority sha256:")
    );
}

#[test]
fn every_kind_of_name_has_its_own_rule() {
    let other_name = || {
        SanType::OtherName((
            vec![1, 3, 6, 1, 4, 1, 57264, 1, 7],
            OtherNameValue::Utf8String("u!x".into()),
        ))
    };
    let address = || SanType::IpAddress("192.0.2.1".parse().expect("an address"));
    let table: Vec<(Vec<SanType>, Option<&str>)> = vec![
        (vec![uri(RELEASE)], Some(RELEASE)),
        (
            vec![email("release@example.com")],
            Some("release@example.com"),
        ),
        (vec![host("build.example.com")], Some("build.example.com")),
        // Each kind disguised as another.
        (vec![uri("release@example.com")], None),
        (vec![email("spiffe://x@y")], None),
        (vec![email("build.example.com")], None),
        (vec![host("spiffe://corp.example.com/release")], None),
        (vec![host("release@example.com")], None),
        (vec![host("u!x")], None),
        (vec![host("*.example.com")], None),
        (vec![host("a b")], None),
        (vec![uri("spiffe://corp/\u{1b}[2J")], None),
        (vec![other_name()], None),
        (vec![address()], None),
        // It is ambiguous which name is meant.
        (
            vec![uri(RELEASE), uri("spiffe://corp.example.com/other")],
            None,
        ),
        (vec![uri(RELEASE), host("build.example.com")], None),
        (Vec::new(), None),
    ];
    let pki = Pki::new();
    let by = pki.authority();
    for (names, expected) in table {
        let mut params = leaf();
        params.subject_alt_names.clone_from(&names);
        let findings = verify_evidence(
            &subject(),
            &evidence(vec![holder(&params, &pki.intermediate).sign(&subject())]),
            &issued_by([&by]),
            &InputLimits::DEFAULT,
        );
        match (expected, &findings.verified[..], &findings.rejected[..]) {
            (Some(name), [verified], []) => {
                assert_eq!(
                    *verified.signer(),
                    SignerIdentity::Certificate {
                        san: name.into(),
                        authority: by.digest()
                    }
                );
            }
            (None, [], [rejected]) => {
                assert_eq!(rejected.reason, Reason::IdentityMismatch, "{names:?}");
            }
            other => panic!("{names:?}: {other:?}"),
        }
    }
}

#[test]
fn every_fault_of_a_chain_is_refused() {
    let table: &[(&str, Reason, Change, Change, Change)] = &[
        (
            "the certificate is over",
            Reason::CertificateExpired,
            same,
            same,
            |p| not_after(p, "2026-11-21T11:59:59Z"),
        ),
        (
            "the intermediate is over",
            Reason::CertificateExpired,
            same,
            |p| not_after(p, "2026-11-21T11:59:59Z"),
            same,
        ),
        (
            "the root is over",
            Reason::CertificateExpired,
            |p| not_after(p, "2026-11-21T11:59:59Z"),
            same,
            same,
        ),
        (
            "the certificate comes later",
            Reason::CertificateExpired,
            same,
            same,
            |p| p.not_before = date("2026-11-21T12:00:01Z"),
        ),
        (
            "the intermediate comes later",
            Reason::CertificateExpired,
            same,
            |p| p.not_before = date("2026-11-21T12:00:01Z"),
            same,
        ),
        (
            "the root comes later",
            Reason::CertificateExpired,
            |p| p.not_before = date("2026-11-21T12:00:01Z"),
            same,
            same,
        ),
        (
            "it does not say what it is for",
            Reason::UntrustedChain,
            same,
            same,
            |p| p.extended_key_usages.clear(),
        ),
        (
            "it is for servers",
            Reason::UntrustedChain,
            same,
            same,
            |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
        ),
        (
            "it is for anything",
            Reason::UntrustedChain,
            same,
            same,
            |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any],
        ),
        (
            "its key may not sign",
            Reason::UntrustedChain,
            same,
            same,
            |p| p.key_usages = vec![KeyUsagePurpose::KeyEncipherment],
        ),
        (
            "it is an authority's",
            Reason::UntrustedChain,
            same,
            same,
            |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
        ),
        (
            "the intermediate is for servers",
            Reason::UntrustedChain,
            same,
            |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
            same,
        ),
        (
            "the root allows no intermediate",
            Reason::UntrustedChain,
            |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)),
            same,
            same,
        ),
        (
            "an unknown critical extension",
            Reason::UntrustedChain,
            same,
            same,
            |p| {
                let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
                extension.set_criticality(true);
                p.custom_extensions.push(extension);
            },
        ),
        // Name constraints: names outside of them, and of kinds that cannot be compared, which must
        // not be accepted.
        (
            "a host outside",
            Reason::UntrustedChain,
            same,
            |p| p.name_constraints = Some(only(GeneralSubtree::DnsName("corp.example.com".into()))),
            |p| {
                p.subject_alt_names = vec![host("build.example.org")];
            },
        ),
        (
            "a host outside of the root's",
            Reason::UntrustedChain,
            |p| p.name_constraints = Some(only(GeneralSubtree::DnsName("corp.example.com".into()))),
            same,
            |p| {
                p.subject_alt_names = vec![host("build.example.org")];
            },
        ),
        (
            "constraints about email, outside",
            Reason::UntrustedChain,
            same,
            |p| p.name_constraints = Some(only(GeneralSubtree::Rfc822Name("example.com".into()))),
            |p| {
                p.subject_alt_names = vec![email("release@example.org")];
            },
        ),
        (
            "constraints about email, inside",
            Reason::UntrustedChain,
            same,
            |p| p.name_constraints = Some(only(GeneralSubtree::Rfc822Name("example.com".into()))),
            |p| {
                p.subject_alt_names = vec![email("release@example.com")];
            },
        ),
        (
            "constraints about URIs, permitted",
            Reason::UntrustedChain,
            same,
            |p| p.custom_extensions.push(about_uris(true)),
            same,
        ),
        (
            "constraints about URIs, excluded",
            Reason::UntrustedChain,
            same,
            |p| p.custom_extensions.push(about_uris(false)),
            same,
        ),
        (
            "constraints about URIs in the root",
            Reason::UntrustedChain,
            |p| p.custom_extensions.push(about_uris(true)),
            same,
            same,
        ),
        (
            "constraints about directories",
            Reason::UntrustedChain,
            same,
            |p| {
                let mut name = rcgen::DistinguishedName::new();
                name.push(DnType::OrganizationName, "Corp");
                p.name_constraints = Some(only(GeneralSubtree::DirectoryName(name)));
            },
            same,
        ),
    ];
    for (what, reason, change_root, change_intermediate, change_leaf) in table {
        let pki = Pki::with(*change_root, *change_intermediate, *change_leaf);
        assert_eq!(judged(&pki.leaf, &pki.authority()), Err(*reason), "{what}");
    }
}

#[test]
fn what_issuers_allow_is_allowed() {
    let table: &[(&str, Change, Change, Change)] = &[
        (
            "a path that is just short enough",
            |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(1)),
            |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)),
            same,
        ),
        (
            "issuers for code signing",
            |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning],
            |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any],
            same,
        ),
        (
            "a host inside",
            same,
            |p| p.name_constraints = Some(only(GeneralSubtree::DnsName("corp.example.com".into()))),
            |p| p.subject_alt_names = vec![host("build.corp.example.com")],
        ),
        // RFC 5280, section 4.2.1.10: names of other kinds are not restricted.
        (
            "constraints about hosts, a URI",
            same,
            |p| p.name_constraints = Some(only(GeneralSubtree::DnsName("corp.example.com".into()))),
            same,
        ),
        ("two purposes", same, same, |p| {
            p.extended_key_usages = vec![
                ExtendedKeyUsagePurpose::ClientAuth,
                ExtendedKeyUsagePurpose::CodeSigning,
            ];
        }),
        ("no key usage", same, same, |p| p.key_usages.clear()),
        ("the last second", same, same, |p| {
            not_after(p, "2026-11-21T12:00:00Z");
        }),
    ];
    for (what, change_root, change_intermediate, change_leaf) in table {
        let pki = Pki::with(*change_root, *change_intermediate, *change_leaf);
        assert_eq!(
            judged(&pki.leaf, &pki.authority()).as_deref(),
            Ok(COSIGN_SIGN),
            "{what}"
        );
    }
}

#[test]
fn a_certificate_of_somebody_else_is_refused() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    // The same names, other keys.
    assert_eq!(
        judged(&theirs.leaf, &ours.authority()),
        Err(Reason::UntrustedChain)
    );
    assert_eq!(
        judged(&theirs.leaf, &theirs.authority()).as_deref(),
        Ok(COSIGN_SIGN)
    );
    // Self-signed.
    let own = root(leaf());
    let mut forged = Pki::new().leaf;
    forged.der = own.der().to_vec();
    assert_eq!(
        judged(&forged, &ours.authority()),
        Err(Reason::InvalidSignature)
    );
    refused(
        Reason::NoMatchingAuthority,
        ours.leaf.sign(&subject()),
        &TrustedMaterial::default(),
    );
    // Two authorities, one of which issued it.
    let trust = issued_by([&theirs.authority(), &ours.authority()]);
    assert_eq!(
        verdict(ours.leaf.sign(&subject()), &trust).as_deref(),
        Ok(COSIGN_SIGN)
    );
}

#[test]
fn a_signature_by_another_key_than_the_certificates_is_refused() {
    let pki = Pki::new();
    let other = holder(&leaf(), &pki.intermediate);
    let stolen = Holder {
        key: other.key,
        der: pki.leaf.der.clone(),
    };
    assert_eq!(
        judged(&stolen, &pki.authority()),
        Err(Reason::InvalidSignature)
    );
    let mut bundle = pki.leaf.bundle(&signature_of(&subject()));
    for der in ["", "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE", "AAAA"] {
        bundle["verificationMaterial"]["certificate"]["rawBytes"] = der.into();
        refused(
            Reason::MalformedEvidence,
            candidate(&subject(), &bundle),
            &issued_by([&pki.authority()]),
        );
    }
}

#[test]
fn what_nobody_dates_holds_only_now() {
    let pki = Pki::new();
    let trust = |now| TrustedMaterial {
        now,
        ..issued_by([&pki.authority()])
    };
    let judged = |now: Option<&str>| verdict(pki.leaf.sign(&subject()), &trust(now.map(at)));
    assert_eq!(judged(None), Err(Reason::NoTrustedTime));
    assert_eq!(
        judged(Some("2025-12-31T23:59:59Z")),
        Err(Reason::CertificateExpired)
    );
    assert_eq!(
        judged(Some("2026-01-01T00:00:00Z")).as_deref(),
        Ok(COSIGN_SIGN)
    );
    assert_eq!(
        judged(Some("2027-01-01T00:00:00.999Z")).as_deref(),
        Ok(COSIGN_SIGN)
    );
    assert_eq!(
        judged(Some("2027-01-01T00:00:01Z")),
        Err(Reason::CertificateExpired)
    );
}

#[test]
fn revocation_lists_are_asked_about_every_certificate() {
    let pki = Pki::with(
        same,
        |p| p.serial_number = Some(rcgen::SerialNumber::from_slice(&[5])),
        same,
    );
    let other = Pki::new();
    let (of_root, of_intermediate) = (list(&pki.root, &[]), list(&pki.intermediate, &[]));
    let with = |lists: &str| judged(&pki.leaf, &authority(&pki.pem(), Some(lists)));
    assert_eq!(
        with(&format!("{of_root}{of_intermediate}")).as_deref(),
        Ok(COSIGN_SIGN)
    );
    // Of the same name, by another key.
    let forged = |name: &str| list(&root(ca(name)), &[]);
    for (what, lists, reason) in [
        (
            "the certificate is revoked",
            format!("{of_root}{}", list(&pki.intermediate, &[9, 7])),
            Some(Reason::Revoked),
        ),
        (
            "the intermediate is revoked",
            format!("{}{of_intermediate}", list(&pki.root, &[5])),
            Some(Reason::Revoked),
        ),
        (
            "its serial is revoked by another issuer",
            format!("{}{of_intermediate}", list(&pki.root, &[7])),
            None,
        ),
        (
            "nothing about the certificate",
            of_root.clone(),
            Some(Reason::UntrustedChain),
        ),
        (
            "nothing about the intermediate",
            of_intermediate.clone(),
            Some(Reason::UntrustedChain),
        ),
        (
            "of another authority",
            format!(
                "{}{}",
                list(&other.root, &[]),
                list(&other.intermediate, &[])
            ),
            Some(Reason::UntrustedChain),
        ),
        (
            "forged for the intermediate",
            format!("{of_root}{}", forged("Corp Signing")),
            Some(Reason::UntrustedChain),
        ),
        (
            "forged for the root",
            format!("{}{of_intermediate}", forged("Corp Root")),
            Some(Reason::UntrustedChain),
        ),
        (
            "stale",
            format!(
                "{of_root}{}",
                list_until(&pki.intermediate, &[], "2026-11-21T12:00:00Z")
            ),
            Some(Reason::CertificateExpired),
        ),
        (
            "the root's stale",
            format!(
                "{}{of_intermediate}",
                list_until(&pki.root, &[], "2026-11-21T11:00:00Z")
            ),
            Some(Reason::CertificateExpired),
        ),
    ] {
        let expected = reason.map_or_else(|| Ok(COSIGN_SIGN.to_owned()), Err);
        assert_eq!(with(&lists), expected, "{what}");
    }
}

#[test]
fn lists_bound_how_long_a_certificate_may_be_relied_on() {
    let pki = Pki::new();
    let lists = format!(
        "{}{}",
        list(&pki.root, &[]),
        list_until(&pki.intermediate, &[], "2026-11-25T00:00:00Z")
    );
    let by = authority(&pki.pem(), Some(&lists));
    let findings = verify_evidence(
        &subject(),
        &evidence(vec![pki.leaf.sign(&subject())]),
        &issued_by([&by]),
        &InputLimits::DEFAULT,
    );
    assert_eq!(
        findings.verified[0].validity_period(),
        ValidityPeriod::between(at("2026-01-01T00:00:00Z"), at("2026-11-25T00:00:00Z"))
    );
}

#[test]
fn who_revoked_it_is_told_with_whom() {
    let pki = Pki::new();
    let by = authority(
        &pki.pem(),
        Some(&format!(
            "{}{}",
            list(&pki.root, &[]),
            list(&pki.intermediate, &[7])
        )),
    );
    let findings = verify_evidence(
        &subject(),
        &evidence(vec![pki.leaf.sign(&subject())]),
        &issued_by([&by]),
        &InputLimits::DEFAULT,
    );
    assert_eq!(
        findings.rejected[0].signer,
        Some(SignerIdentity::Certificate {
            san: RELEASE.into(),
            authority: by.digest()
        })
    );
}

#[test]
fn intermediates_may_come_with_the_signature_and_prove_nothing_alone() {
    let pki = Pki::new();
    let only_root = authority(&pki.root.pem(), None);
    let payload = signature_of(&subject());
    let judge = |beside: &[&[u8]], by: &Arc<CertificateAuthority>| {
        verdict(
            candidate(&subject(), &pki.leaf.bundle_with(&payload, beside)),
            &issued_by([by]),
        )
    };
    let (middle, top) = (pki.intermediate.der().to_vec(), pki.root.der().to_vec());
    assert_eq!(judge(&[], &only_root), Err(Reason::UntrustedChain));
    assert_eq!(judge(&[&middle], &only_root).as_deref(), Ok(COSIGN_SIGN));
    assert_eq!(
        judge(&[&middle, &top], &only_root).as_deref(),
        Ok(COSIGN_SIGN)
    );
    // A root in the bundle is not a trusted root.
    assert_eq!(
        judge(&[&middle, &top], &Pki::new().authority()),
        Err(Reason::UntrustedChain)
    );
    // Too many, before any of them is parsed.
    assert_eq!(
        judge(&[middle.as_slice(); 3], &only_root),
        Err(Reason::LimitExceeded)
    );
    assert_eq!(
        judge(&[middle.as_slice(); 8], &only_root),
        Err(Reason::LimitExceeded)
    );
    assert_eq!(judge(&[b"x"], &only_root), Err(Reason::UntrustedChain));
}

#[test]
fn an_intermediate_that_is_none_is_refused() {
    let pki = Pki::new();
    let only_root = authority(&pki.root.pem(), None);
    let payload = signature_of(&subject());
    let table: &[(&str, Change)] = &[
        ("CA:FALSE", |p| p.is_ca = IsCa::ExplicitNoCa),
        ("no basic constraints", |p| p.is_ca = IsCa::NoCa),
        ("a key that may not sign certificates", |p| {
            p.key_usages = vec![KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        }),
    ];
    for (what, change) in table {
        let mut params = ca("Corp Signing");
        change(&mut params);
        let middle = issued(params, &pki.root);
        let holder = holder(&leaf(), &middle);
        let bundle = holder.bundle_with(&payload, &[middle.der().as_ref()]);
        refused(
            Reason::UntrustedChain,
            candidate(&subject(), &bundle),
            &issued_by([&only_root]),
        );
        assert!(
            CertificateAuthority::parse(
                format!("{}{}", pki.root.pem(), middle.pem()).as_bytes(),
                None,
                &InputLimits::DEFAULT
            )
            .is_err(),
            "{what}"
        );
    }
}

fn holder_of(issuer: &Issuer) -> Holder {
    holder(&leaf(), issuer)
}

#[test]
fn chains_that_go_in_circles_end() {
    // Two that issued each other, and several of one name: no path, and not much time.
    let pki = Pki::new();
    let (mut one, mut two) = (ca("one"), ca("two"));
    one.key_usages.clear();
    two.key_usages.clear();
    let first = root(one.clone());
    let second = issued(two, &first);
    let again = CertificateParams::signed_by(&one, first.key(), &second).expect("a certificate");
    let holder = holder_of(&second);
    let payload = signature_of(&subject());
    let circle = holder.bundle_with(&payload, &[second.der().as_ref(), again.der().as_ref()]);
    refused(
        Reason::UntrustedChain,
        candidate(&subject(), &circle),
        &issued_by([&pki.authority()]),
    );
    let twins: Vec<_> = (0..2).map(|_| root(ca("twin")).der().to_vec()).collect();
    let twin = root(ca("twin"));
    let lost = holder_of(&twin);
    let beside: Vec<&[u8]> = twins.iter().map(Vec::as_slice).collect();
    refused(
        Reason::UntrustedChain,
        candidate(&subject(), &lost.bundle_with(&payload, &beside)),
        &issued_by([&pki.authority()]),
    );
}

#[test]
fn the_path_that_holds_is_found_among_renewed_ones() {
    let pki = Pki::new();
    // The root and the intermediate were renewed with their keys; the old ones have expired.
    let old = |name: &str, key: &rcgen::KeyPair, by: Option<&Issuer>| {
        let mut params = ca(name);
        not_after(&mut params, "2026-06-01T00:00:00Z");
        let made = by.map_or_else(|| params.self_signed(key), |by| params.signed_by(key, by));
        made.expect("a certificate").pem()
    };
    let (old_root, old_middle) = (
        old("Corp Root", pki.root.key(), None),
        old("Corp Signing", pki.intermediate.key(), Some(&pki.root)),
    );
    for certificates in [
        format!("{old_root}{old_middle}{}", pki.pem()),
        format!("{}{old_root}{old_middle}", pki.pem()),
    ] {
        assert_eq!(
            judged(&pki.leaf, &authority(&certificates, None)).as_deref(),
            Ok(COSIGN_SIGN)
        );
    }
    assert_eq!(
        judged(
            &pki.leaf,
            &authority(&format!("{old_root}{old_middle}"), None)
        ),
        Err(Reason::CertificateExpired)
    );
}

#[test]
fn a_certificate_of_fulcio_is_no_certificate_of_the_company() {
    let test = "a_certificate_of_fulcio_is_no_certificate_of_the_company";
    let Some(data) = shared_data(test) else {
        return;
    };
    let bundle = std::fs::read(
        data.join("sigstore-conformance/happy-path-intoto-in-dsse-v3/bundle.sigstore.json"),
    )
    .expect("a bundle");
    let artifact: Digest =
        "sha256:a0cfc71271d6e278e57cd332ff957c3f7043fdda354c4cbb190a30d56efa01bf"
            .parse()
            .expect("a digest");
    let evidence = evidence(vec![with_content(&artifact, bundle)]);
    let root = std::fs::read(data.join("trust/prod_trusted_root.json")).expect("a trust root");
    let root = Arc::new(TrustRoot::parse(&root, &InputLimits::DEFAULT).expect("a trust root"));
    let company = issued_by([&Pki::new().authority()]);
    let findings = verify_evidence(&artifact, &evidence, &company, &InputLimits::DEFAULT);
    assert_eq!(findings.rejected[0].reason, Reason::UntrustedChain);
    let vouching = company
        .authorities
        .iter()
        .map(|issuing| TrustedCertificateAuthority {
            root: Some(root.clone()),
            ..issuing.clone()
        })
        .collect();
    let findings = verify_evidence(
        &artifact,
        &evidence,
        &TrustedMaterial {
            authorities: vouching,
            ..company.clone()
        },
        &InputLimits::DEFAULT,
    );
    assert_eq!(findings.rejected[0].reason, Reason::UntrustedChain);
    // With a trust root that verifies it too, it is valid as before.
    let both = TrustedMaterial {
        roots: vec![root],
        ..company
    };
    let findings = verify_evidence(&artifact, &evidence, &both, &InputLimits::DEFAULT);
    assert!(
        matches!(
            findings.verified[0].signer(),
            SignerIdentity::Identity { .. }
        ) && findings.rejected.is_empty()
    );
}

#[test]
fn what_is_no_authority_is_refused() {
    let pki = Pki::new();
    let parse = |certificates: &str, lists: Option<&str>| {
        CertificateAuthority::parse(
            certificates.as_bytes(),
            lists.map(str::as_bytes),
            &InputLimits::DEFAULT,
        )
        .map(|_| ())
        .map_err(|error| error.to_string())
    };
    let (root_pem, middle, leaf_pem) = (pki.root.pem(), pki.intermediate.pem(), root(leaf()).pem());
    let of_root = list(&pki.root, &[]);
    assert_eq!(parse(&root_pem, None), Ok(()));
    assert_eq!(
        parse(
            &format!("subject=CN=Corp Root\n{root_pem}\n{root_pem}"),
            Some(&of_root)
        ),
        Ok(())
    );
    let private = root_pem.replace("CERTIFICATE", "PRIVATE KEY");
    let many = root_pem.repeat(65);
    let purposes = root({
        let mut params = ca("for servers");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params
    });
    let critical = root({
        let mut params = ca("critical");
        let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 36], vec![0x30, 0]);
        extension.set_criticality(true);
        params.custom_extensions.push(extension);
        params
    });
    for (part, certificates, lists) in [
        ("none of the 0 certificates", "", None),
        (
            "none of the 1 certificates is a root",
            middle.as_str(),
            None,
        ),
        ("basic constraints do not say CA:TRUE", &leaf_pem, None),
        (
            "block 1 is a PRIVATE KEY, not a CERTIFICATE",
            &private,
            None,
        ),
        (
            "block 2 is no base64",
            &format!("{root_pem}-----BEGIN CERTIFICATE-----\n%%\n-----END CERTIFICATE-----"),
            None,
        ),
        (
            "block 2 has no end",
            &format!("{root_pem}-----BEGIN CERTIFICATE-----\nAAAA"),
            None,
        ),
        (
            "certificate 1 cannot be read",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
            None,
        ),
        ("65 certificates, the limit is 64", &many, None),
        ("bytes, the limit is", &"x".repeat((1 << 20) + 1), None),
        ("may not issue for code signing", &purposes.pem(), None),
        ("critical extension 2.5.29.36", &critical.pem(), None),
        ("there is no revocation list", &root_pem, Some("")),
        (
            "block 1 is a CERTIFICATE, not a X509 CRL",
            &root_pem,
            Some(root_pem.as_str()),
        ),
        (
            "revocation list 1 cannot be used",
            &root_pem,
            Some("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----"),
        ),
        ("revocation list 1 cannot be used", &root_pem, Some("0")),
        (
            "65 revocation lists, the limit is 64",
            &root_pem,
            Some(&of_root.repeat(65)),
        ),
    ] {
        let error = parse(certificates, lists).expect_err(part);
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn an_authority_is_named_by_all_that_it_says() {
    let pki = Pki::new();
    let lists = format!("{}{}", list(&pki.root, &[]), list(&pki.intermediate, &[]));
    let digests = [
        authority(&pki.pem(), None),
        authority(&pki.root.pem(), None),
        authority(&pki.pem(), Some(&lists)),
        authority(&pki.pem(), Some(&list(&pki.root, &[]))),
        Pki::new().authority(),
    ]
    .map(|authority| authority.digest());
    let distinct: std::collections::HashSet<_> = digests.iter().collect();
    assert_eq!(distinct.len(), digests.len());
    assert_eq!(pki.authority().digest(), digests[0]);
    assert!(now() > at("2026-01-01T00:00:00Z"));
}
