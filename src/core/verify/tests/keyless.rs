//! Genuine keyless bundles, and forgeries that another verifier accepted
//! (`docs/adr/0001-sigstore-crates.md`).

use std::{fs, path::PathBuf};

use super::*;

const SAN: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main";

struct Genuine {
    bundle: Value,
    root: Arc<TrustRoot>,
    artifact: Digest,
}

fn genuine(test: &str) -> Option<(PathBuf, Genuine)> {
    let data = shared_data(test)?;
    let read = |path: &str| fs::read(data.join(path)).expect(path);
    let bundle = serde_json::from_slice(&read(
        "sigstore-conformance/happy-path-intoto-in-dsse-v3/bundle.sigstore.json",
    ))
    .expect("JSON");
    let root = TrustRoot::parse(&read("trust/prod_trusted_root.json"), &InputLimits::DEFAULT)
        .expect("a trust root");
    let artifact = "sha256:a0cfc71271d6e278e57cd332ff957c3f7043fdda354c4cbb190a30d56efa01bf"
        .parse()
        .expect("a digest");
    Some((
        data,
        Genuine {
            bundle,
            root: Arc::new(root),
            artifact,
        },
    ))
}

impl Genuine {
    fn judge(&self, bundle: &Value) -> VerificationFindings {
        let trust = TrustedMaterial {
            roots: vec![self.root.clone()],
            ..TrustedMaterial::default()
        };
        verify_evidence(
            &self.artifact,
            &evidence(vec![candidate(&self.artifact, bundle)]),
            &trust,
            &InputLimits::DEFAULT,
        )
    }
}

#[test]
fn a_genuine_bundle_holds_and_names_its_signer() {
    let Some((_, genuine)) = genuine("a_genuine_bundle_holds_and_names_its_signer") else {
        return;
    };
    let findings = genuine.judge(&genuine.bundle);
    let [verified] = &findings.verified[..] else {
        panic!("{:?}", findings.rejected)
    };
    let signer = SignerIdentity::Identity {
        san: SAN.into(),
        issuer: "https://token.actions.githubusercontent.com".into(),
    };
    assert_eq!(
        (verified.signer(), verified.trust_root()),
        (&signer, Some(&genuine.root.digest()))
    );
    assert_eq!(
        verified
            .signing_time()
            .timestamp()
            .map(Timestamp::as_second),
        Some(1_734_374_576)
    );
}

type Change = fn(&mut Value);

fn entry(bundle: &mut Value) -> &mut Value {
    &mut bundle["verificationMaterial"]["tlogEntries"][0]
}

fn without_proof(bundle: &mut Value) {
    entry(bundle)
        .as_object_mut()
        .expect("an entry")
        .remove("inclusionProof");
}

fn relabel(bundle: &mut Value, version: &str) {
    bundle["mediaType"] =
        format!("application/vnd.dev.sigstore.bundle+json;version={version}").into();
    let material = bundle["verificationMaterial"]
        .as_object_mut()
        .expect("material");
    let certificate = material.remove("certificate").expect("a certificate");
    material.insert(
        "x509CertificateChain".into(),
        json!({"certificates": [certificate]}),
    );
}

#[test]
fn forgeries_of_a_genuine_bundle_are_refused() {
    let Some((_, genuine)) = genuine("forgeries_of_a_genuine_bundle_are_refused") else {
        return;
    };
    let table: &[(&str, Reason, Change)] = &[
        ("garbage SET", Reason::InvalidTimestamp, |b| {
            entry(b)["inclusionPromise"]["signedEntryTimestamp"] = "AAAA".into();
        }),
        ("a minute later", Reason::InvalidTimestamp, |b| {
            entry(b)["integratedTime"] = "1734374636".into();
        }),
        ("no proof hashes", Reason::InvalidInclusionProof, |b| {
            entry(b)["inclusionProof"]["hashes"] = json!([]);
        }),
        ("zeroed root", Reason::InvalidInclusionProof, |b| {
            entry(b)["inclusionProof"]["rootHash"] =
                "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".into();
        }),
        ("garbage checkpoint", Reason::MalformedEvidence, |b| {
            entry(b)["inclusionProof"]["checkpoint"]["envelope"] = "garbage".into();
        }),
        ("no proof", Reason::InvalidInclusionProof, without_proof),
        (
            "no proof, relabelled 0.2",
            Reason::InvalidInclusionProof,
            |b| {
                without_proof(b);
                relabel(b, "0.2");
            },
        ),
        (
            "no proof, relabelled 0.1",
            Reason::InvalidInclusionProof,
            |b| {
                without_proof(b);
                relabel(b, "0.1");
            },
        ),
        ("one entry 2,000 times", Reason::LimitExceeded, |b| {
            b["verificationMaterial"]["tlogEntries"] = vec![entry(b).clone(); 2_000].into();
        }),
        ("one entry twice", Reason::MalformedEvidence, |b| {
            b["verificationMaterial"]["tlogEntries"] = vec![entry(b).clone(); 2].into();
        }),
        (
            "a second entry without proof",
            Reason::InvalidInclusionProof,
            |b| {
                let mut second = entry(b).clone();
                second["logId"]["keyId"] = "AAAA".into();
                second
                    .as_object_mut()
                    .expect("an entry")
                    .remove("inclusionProof");
                b["verificationMaterial"]["tlogEntries"] = json!([entry(b).clone(), second]);
            },
        ),
        ("no log entry", Reason::InvalidInclusionProof, |b| {
            b["verificationMaterial"]["tlogEntries"] = json!([]);
        }),
        ("no vouched time", Reason::NoTrustedTime, |b| {
            entry(b)
                .as_object_mut()
                .expect("an entry")
                .remove("inclusionPromise");
        }),
        ("another log", Reason::InvalidTimestamp, |b| {
            entry(b)["logId"]["keyId"] = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=".into();
        }),
        ("another signature", Reason::InvalidSignature, |b| {
            b["dsseEnvelope"]["signatures"][0]["sig"] = "MEQCIAAA".into();
        }),
        ("another payload", Reason::InvalidSignature, |b| {
            let payload = serde_json::to_vec(&Statement::for_digest(
                "",
                &subject(),
                COSIGN_SIGN,
                json!({}),
            ))
            .expect("JSON");
            b["dsseEnvelope"]["payload"] =
                base64::Engine::encode(&base64::engine::general_purpose::STANDARD, payload).into();
        }),
        ("a raw key as certificate", Reason::MalformedEvidence, |b| {
            b["verificationMaterial"]["certificate"]["rawBytes"] =
                "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE".into();
        }),
        (
            "a key and no certificate",
            Reason::NoMatchingAuthority,
            |b| {
                b["verificationMaterial"]
                    .as_object_mut()
                    .expect("material")
                    .remove("certificate");
                b["verificationMaterial"]["publicKey"] = json!({"hint": ""});
            },
        ),
    ];
    for (what, reason, change) in table {
        let mut bundle = genuine.bundle.clone();
        change(&mut bundle);
        let findings = genuine.judge(&bundle);
        assert!(findings.verified.is_empty(), "{what} was accepted");
        assert_eq!(
            findings.rejected[0].reason, *reason,
            "{what}: {}",
            findings.rejected[0].message
        );
    }
}

#[test]
fn a_genuine_bundle_does_not_hold_for_another_digest_or_without_its_trust_root() {
    let Some((data, genuine)) =
        genuine("a_genuine_bundle_does_not_hold_for_another_digest_or_without_its_trust_root")
    else {
        return;
    };
    let elsewhere = candidate(&subject(), &genuine.bundle);
    let trust = TrustedMaterial {
        roots: vec![genuine.root.clone()],
        ..TrustedMaterial::default()
    };
    let findings = verify_evidence(
        &subject(),
        &evidence(vec![elsewhere]),
        &trust,
        &InputLimits::DEFAULT,
    );
    assert_eq!(findings.rejected[0].reason, Reason::SubjectMismatch);
    assert!(
        matches!(&findings.rejected[0].signer, Some(SignerIdentity::Identity { san, .. }) if san == SAN)
    );

    let other =
        fs::read(data.join("sigstore-conformance/intoto-with-custom-trust-root/trusted_root.json"))
            .expect("a trust root");
    let other = Arc::new(TrustRoot::parse(&other, &InputLimits::DEFAULT).expect("a trust root"));
    for (roots, refused) in [
        (vec![], 1),
        (vec![other.clone()], 1),
        (vec![other.clone(), genuine.root.clone()], 0),
        (vec![genuine.root.clone(), other], 0),
    ] {
        let case = candidate(&genuine.artifact, &genuine.bundle);
        let findings = verify_evidence(
            &genuine.artifact,
            &evidence(vec![case]),
            &TrustedMaterial {
                roots,
                ..TrustedMaterial::default()
            },
            &InputLimits::DEFAULT,
        );
        assert_eq!(
            (findings.verified.len(), findings.rejected.len()),
            (1 - refused, refused)
        );
    }
}

/// The conformance suite's attestations. Its signatures over plain bytes are never evidence about a
/// manifest.
#[test]
fn the_conformance_suite_agrees() {
    let Some((data, genuine)) = genuine("the_conformance_suite_agrees") else {
        return;
    };
    let (mut good, mut bad) = (0, 0);
    for case in fs::read_dir(data.join("sigstore-conformance"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
    {
        let Ok(bytes) = fs::read(case.join("bundle.sigstore.json")) else {
            continue;
        };
        let name = case
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let artifact = fs::read(case.join("artifact"))
            .map_or(genuine.artifact, |bytes| Digest::of_bytes(&bytes));
        let root = fs::read(case.join("trusted_root.json")).map_or_else(
            |_| Ok(genuine.root.clone()),
            |bytes| TrustRoot::parse(&bytes, &InputLimits::DEFAULT).map(Arc::new),
        );
        let Ok(root) = root else { continue };
        let trust = TrustedMaterial {
            roots: vec![root],
            ..TrustedMaterial::default()
        };
        let findings = verify_evidence(
            &artifact,
            &evidence(vec![with_content(&artifact, bytes.clone())]),
            &trust,
            &InputLimits::DEFAULT,
        );
        let attestation = String::from_utf8_lossy(&bytes).contains("dsseEnvelope");
        assert_eq!(
            findings.verified.len(),
            usize::from(attestation && !name.ends_with("_fail")),
            "{name}: {:?}",
            findings.rejected
        );
        *if findings.verified.is_empty() {
            &mut bad
        } else {
            &mut good
        } += 1;
    }
    assert!(good >= 3 && bad >= 40, "{good} accepted, {bad} refused");
}

#[test]
fn what_says_that_it_is_no_trust_root_is_none() {
    let root = |media_type: &str| {
        TrustRoot::parse(
            json!({"mediaType": media_type}).to_string().as_bytes(),
            &InputLimits::DEFAULT,
        )
    };
    for good in [
        "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "application/vnd.dev.sigstore.trustedroot.v0.2+json",
    ] {
        assert!(root(good).is_ok(), "{good}");
    }
    for other in [
        "",
        "application/json",
        "application/vnd.dev.sigstore.signingconfig.v0.2+json",
        "x application/vnd.dev.sigstore.trustedroot+json",
    ] {
        let error = root(other).expect_err(other);
        assert!(error.to_string().contains("mediaType"), "{error}");
    }
}
