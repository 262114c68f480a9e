use std::time::Duration;

use super::*;
use crate::core::lockfile::{
    BundleFileMode, LockedArtifact, Lockfile, LockfileGeneration, OriginType,
};

/// Signed by `platform`, with provenance by it: the valid case.
fn valid(platform: &TestKey, ci: &TestKey) -> Case {
    let mut rules = rules(vec![
        key_authority("platform", platform),
        key_authority("ci", ci),
    ]);
    rules.slsa = Some(slsa(2, &[(BUILDER, "platform", 3)]));
    Case::new(
        rules,
        vec![
            platform.sign(&judged()),
            platform.provenance(&judged(), predicate(BUILDER)),
        ],
    )
}

fn attested(key: &TestKey, predicate_type: &str) -> ReferrerCandidate {
    key.attest(
        &judged(),
        &Statement::for_digest("", &judged(), predicate_type, json!({})),
    )
}

fn slsa_of(case: &mut Case) -> &mut SlsaRules {
    case.rules[0].slsa.as_mut().expect("slsa rules")
}

#[test]
fn provenance_by_a_bound_builder_is_admitted() {
    let (platform, ci) = (TestKey::new(), TestKey::new());
    let case = valid(&platform, &ci);
    assert_eq!(case.admitted().evidence().len(), 2);
    let finding = SlsaFinding {
        builder: BUILDER.into(),
        level: 3,
        lock_checked: false,
    };
    assert_eq!(case.decide().policies()[0].slsa, Some(finding));
}

#[test]
fn every_fault_of_provenance_has_its_reason_and_the_furthest_is_told() {
    let (platform, ci) = (TestKey::new(), TestKey::new());
    let mut case = valid(&platform, &ci);
    case.candidates.truncate(1);
    slsa_of(&mut case).builders.push(BuilderRule {
        id: "https://small.example.com".into(),
        authority: "ci".into(),
        level: 1,
    });
    for (next, reason) in [
        (None, Reason::NoProvenance),
        (
            Some(attested(&platform, "https://spdx.dev/Document")),
            Reason::PredicateTypeMismatch,
        ),
        (
            Some(platform.provenance(&judged(), json!({"runDetails": 1}))),
            Reason::MalformedEvidence,
        ),
        (
            Some(platform.provenance(
                &judged(),
                predicate("https://ci.example.com/packgate/platform@v2"),
            )),
            Reason::BuilderNotTrusted,
        ),
        (
            Some(ci.provenance(&judged(), predicate(BUILDER))),
            Reason::BuilderNotBoundToSigner,
        ),
        (
            Some(ci.provenance(&judged(), predicate("https://small.example.com"))),
            Reason::LevelTooLow,
        ),
    ] {
        case.candidates.extend(next);
        assert_eq!(case.denied(reason).len(), 1);
    }
    case.candidates
        .push(platform.provenance(&judged(), predicate(BUILDER)));
    case.admitted();
}

#[test]
fn an_attestation_is_no_signature_and_a_signature_no_provenance() {
    let (platform, ci) = (TestKey::new(), TestKey::new());
    let mut case = valid(&platform, &ci);
    case.candidates = vec![platform.provenance(&judged(), predicate(BUILDER))];
    case.denied(Reason::PredicateTypeMismatch);
    case.candidates = vec![platform.sign(&judged())];
    case.denied(Reason::NoProvenance);
}

#[test]
fn strangers_provenance_does_not_exist() {
    let (platform, ci) = (TestKey::new(), TestKey::new());
    let mut case = valid(&platform, &ci);
    case.candidates[1] = TestKey::new().provenance(&judged(), predicate(BUILDER));
    case.denied(Reason::NoProvenance);
    case.evidence
        .unread
        .push(crate::core::verify::RejectedEvidence {
            referrer: judged(),
            reason: Reason::SizeMismatch,
            message: "x".into(),
            signer: None,
        });
    case.denied(Reason::SizeMismatch);
}

#[test]
fn a_revoked_builder_counts_for_nothing() {
    let (platform, ci) = (TestKey::new(), TestKey::new());
    let mut case = valid(&platform, &ci);
    case.rules[0].revocations = vec![RevocationRule {
        what: RevocationTarget::Builder(BUILDER.into()),
        reason: "leak-7".into(),
        since: None,
    }];
    case.denied(Reason::Revoked);
    case.rules[0].exemptions = vec![ExemptionRule {
        digest: judged(),
        reason: "INC-42".into(),
        expires: "2027-01-01T00:00:00Z".parse().expect("a time"),
    }];
    case.denied(Reason::Revoked);
    case.rules[0].revocations[0].what =
        RevocationTarget::Builder("https://other.example.com".into());
    assert!(case.decide().is_admitted());
}

#[test]
fn the_source_is_the_locks_own() {
    let (platform, ci) = (TestKey::new(), TestKey::new());
    let allowed = "https://git.example.com/org/siem";
    let with = |build_type: &str, dependencies: Value| {
        let mut predicate = predicate(BUILDER);
        predicate["buildDefinition"]["buildType"] = build_type.into();
        predicate["buildDefinition"]["resolvedDependencies"] = dependencies;
        let mut case = valid(&platform, &ci);
        slsa_of(&mut case).sources = vec![allowed.into()];
        case.candidates[1] = platform.provenance(&judged(), predicate);
        case
    };
    let ours = "https://packgate.dev/pack/v1";
    with(
        ours,
        json!([
            {"name": "lock", "uri": "git+https://git.example.com/org/siem.git@refs/heads/main"},
        ]),
    )
    .admitted();
    for (build_type, dependencies) in [
        (ours, json!([])),
        (ours, json!([{"name": "lock"}])),
        (
            ours,
            json!([{"name": "lock", "uri": "https://git.example.com/org/other"}]),
        ),
        (ours, json!([{"name": "artifact/x", "uri": allowed}])),
        (
            ours,
            json!([{"name": "lock", "uri": allowed}, {"name": "lock", "uri": allowed}]),
        ),
        (
            "https://example.com/other",
            json!([{"name": "lock", "uri": allowed}]),
        ),
    ] {
        with(build_type, dependencies).denied(Reason::SourceMismatch);
    }
}

#[test]
fn provenance_ages() {
    let (platform, ci) = (TestKey::new(), TestKey::new());
    for (finished, reason) in [
        (json!("2026-11-21T11:00:00Z"), None),
        (json!("2026-11-21T12:04:00Z"), None),
        (
            json!("2026-11-21T10:59:59Z"),
            Some(Reason::ProvenanceTooOld),
        ),
        (json!("2026-11-21T12:06:00Z"), Some(Reason::NoTrustedTime)),
        (json!("yesterday"), Some(Reason::NoTrustedTime)),
        (Value::Null, Some(Reason::NoTrustedTime)),
    ] {
        let mut predicate = predicate(BUILDER);
        predicate["runDetails"]["metadata"] = json!({"finishedOn": finished});
        let mut case = valid(&platform, &ci);
        slsa_of(&mut case).max_age = Some(Duration::from_hours(1));
        case.candidates[1] = platform.provenance(&judged(), predicate);
        match reason {
            None => assert!(case.decide().is_admitted(), "{finished}"),
            Some(reason) => assert_eq!(case.denied(reason).len(), 1),
        }
    }
}

fn lock(artifacts: &[(&str, &str)]) -> Lockfile {
    let artifact = |(name, content): &(&str, &str)| LockedArtifact {
        name: (*name).into(),
        origin_type: OriginType::File,
        origin: (*name).into(),
        signed_origin: None,
        target: name.parse().expect("a path"),
        checksum: Digest::of_bytes(content.as_bytes()),
        size: content.len() as u64,
        mode: BundleFileMode::Plain,
        unpack: None,
        oci: None,
        platforms: Vec::new(),
    };
    Lockfile {
        generation: LockfileGeneration::Packgate,
        name: None,
        version: None,
        entrypoint: None,
        artifacts: artifacts.iter().map(artifact).collect(),
        layers: Vec::new(),
    }
}

#[test]
fn the_dependencies_must_be_exactly_the_lock() {
    let (platform, ci) = (TestKey::new(), TestKey::new());
    let lock = lock(&[("a", "one"), ("b", "two")]);
    let digest = Digest::of_bytes(b"the canonical lock");
    let bundle = BundleLock {
        lock: &lock,
        digest,
    };
    let hex = |content: &str| json!({"sha256": Digest::of_bytes(content.as_bytes()).hex_digits()});
    let locked = json!({"name": "lock", "digest": hex("the canonical lock")});
    let (a, b) = (
        json!({"name": "artifact/a", "digest": hex("one")}),
        json!({"name": "artifact/b", "digest": hex("two")}),
    );
    let decide = |dependencies: Value, bundle: Option<BundleLock<'_>>| {
        let mut predicate = predicate(BUILDER);
        predicate["buildDefinition"]["resolvedDependencies"] = dependencies;
        let mut case = valid(&platform, &ci);
        slsa_of(&mut case).lock = LockRule::Exact;
        case.candidates[1] = platform.provenance(&judged(), predicate);
        case.decide_with(bundle)
    };
    let good = decide(
        json!([b, locked, a, {"name": "packer", "digest": hex("x")}, {"uri": "x"}]),
        Some(bundle),
    );
    assert!(
        good.is_admitted()
            && good.policies()[0]
                .slsa
                .as_ref()
                .is_some_and(|slsa| slsa.lock_checked)
    );
    denied(&decide(json!([locked, a, b]), None), Reason::LockMismatch);
    for (dependencies, part) in [
        (json!([]), "no single lock"),
        (json!([a, b]), "no single lock"),
        (json!([locked, locked, a, b]), "no single lock"),
        (
            json!([{"name": "lock", "digest": {"sha512": "00"}}, a, b]),
            "no single lock",
        ),
        (
            json!([{"name": "lock", "digest": hex("another")}, a, b]),
            "the bundle holds",
        ),
        (json!([locked, a]), "artifact b of the lock"),
        (
            json!([locked, a, b, {"name": "artifact/c", "digest": hex("three")}]),
            "artifact c of the provenance",
        ),
        (
            json!([locked, a, {"name": "artifact/b", "digest": hex("changed")}]),
            "artifact b of the lock",
        ),
        (
            json!([locked, a, b, {"name": "artifact/b", "digest": hex("changed")}]),
            "artifact b of the provenance",
        ),
        (json!([locked, a, b, b]), "twice"),
        (json!([locked, a, {"name": "artifact/b"}]), "no sha256"),
    ] {
        let denials = denied(&decide(dependencies, Some(bundle)), Reason::LockMismatch);
        assert!(
            denials[0].message.contains(part),
            "{part}: {}",
            denials[0].message
        );
    }
}

#[test]
fn a_command_line_can_ask_for_a_builder_and_a_lock() {
    let (platform, ci) = (TestKey::new(), TestKey::new());
    let authorities = vec![key_authority("one", &platform), key_authority("two", &ci)];
    let lock = lock(&[("a", "one")]);
    let digest = Digest::of_bytes(b"the canonical lock");
    let ask = |builder_id: Option<&str>,
               expected: Option<Digest>,
               bundle: Option<BundleLock<'_>>,
               candidates: Vec<ReferrerCandidate>| {
        let wish = AdHocPolicyOptions {
            authorities: authorities.clone(),
            builder_id: builder_id.map(Into::into),
            lock: expected,
            ..AdHocPolicyOptions::default()
        };
        Case::new(
            Policy::ad_hoc(wish).expect("a policy").rules().clone(),
            candidates,
        )
        .decide_with(bundle)
    };
    let bundle = Some(BundleLock {
        lock: &lock,
        digest,
    });
    let signed = || vec![platform.sign(&judged())];
    let built = || {
        vec![
            platform.sign(&judged()),
            ci.provenance(&judged(), predicate(BUILDER)),
        ]
    };
    assert!(ask(Some(BUILDER), None, None, built()).is_admitted());
    denied(
        &ask(Some(BUILDER), None, None, signed()),
        Reason::NoProvenance,
    );
    denied(
        &ask(Some("https://other.example.com"), None, None, built()),
        Reason::BuilderNotTrusted,
    );
    assert!(ask(None, Some(digest), bundle, signed()).is_admitted());
    denied(
        &ask(None, Some(Digest::of_bytes(b"another")), bundle, signed()),
        Reason::LockMismatch,
    );
    denied(
        &ask(None, Some(digest), None, signed()),
        Reason::LockMismatch,
    );
    denied(
        &ask(Some(BUILDER), Some(digest), bundle, built()),
        Reason::LockMismatch,
    );
}

#[test]
fn attestations_are_asked_for_by_type_and_signer() {
    let (platform, ci) = (TestKey::new(), TestKey::new());
    let mut case = valid(&platform, &ci);
    let rule = |authority: Option<&str>| AttestationRule {
        predicate_type: "https://spdx.dev/Document".into(),
        authority: authority.map(Into::into),
    };
    case.rules[0].attestations = vec![rule(Some("ci"))];
    let denials = case.denied(Reason::PredicateTypeMismatch);
    assert_eq!(denials[0].authority.as_deref(), Some("ci"));
    case.candidates
        .push(attested(&platform, "https://spdx.dev/Document"));
    case.denied(Reason::NoMatchingAuthority);
    case.rules[0].attestations = vec![rule(None)];
    assert_eq!(case.admitted().evidence().len(), 3);
    case.rules[0].attestations = vec![rule(Some("ci"))];
    case.candidates
        .push(attested(&ci, "https://spdx.dev/Document/v2.3"));
    case.admitted();
    for near in [
        "https://spdx.dev/Document2",
        "https://spdx.dev/Document/v",
        "https://spdx.dev/Document/vx",
        "https://spdx.dev",
    ] {
        case.candidates.truncate(2);
        case.candidates.push(attested(&ci, near));
        case.denied(Reason::PredicateTypeMismatch);
    }
}
