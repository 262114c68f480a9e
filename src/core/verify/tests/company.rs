//! Certificates, revocation lists, signatures and a timestamp made by openssl (`tests/data/pki`).

use std::{fs, path::PathBuf};

use jiff::{SignedDuration, ToSpan};

use super::{
    super::testing_pki::{RELEASE, at},
    *,
};

struct Company {
    folder: PathBuf,
    signed: Timestamp,
}

impl Company {
    fn new() -> Self {
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/pki"));
        let times: Value =
            serde_json::from_slice(&fs::read(folder.join("times.json")).expect("times"))
                .expect("JSON");
        Self {
            folder,
            signed: at(times["signed"].as_str().expect("a time")),
        }
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.join(name)).expect(name)
    }

    fn trust(
        &self,
        lists: Option<&str>,
        root: Option<&Arc<TrustRoot>>,
        now: Timestamp,
    ) -> TrustedMaterial {
        let lists = lists.map(|lists| self.read(lists));
        let authority = CertificateAuthority::parse(
            &self.read("ca.crt"),
            lists.as_deref(),
            &InputLimits::DEFAULT,
        )
        .expect("an authority");
        TrustedMaterial {
            authorities: vec![TrustedCertificateAuthority {
                authority: Arc::new(authority),
                root: root.cloned(),
            }],
            now: Some(now),
            ..TrustedMaterial::default()
        }
    }

    fn root(&self) -> Arc<TrustRoot> {
        Arc::new(
            TrustRoot::parse(&self.read("trusted_root.json"), &InputLimits::DEFAULT)
                .expect("a trust root"),
        )
    }

    fn bundle(&self, name: &str) -> Value {
        serde_json::from_slice(&self.read(name)).expect("JSON")
    }

    fn judge(&self, bundle: &str, trust: &TrustedMaterial) -> Result<String, Reason> {
        verdict(candidate(&subject(), &self.bundle(bundle)), trust)
    }

    /// Long after the certificate's end, while the CA and its lists are still valid.
    fn later(&self) -> Timestamp {
        self.signed + SignedDuration::from_hours(24 * 365)
    }
}

#[test]
fn what_openssl_made_holds_while_the_certificate_does() {
    let company = Company::new();
    let minute = |minutes: i64| company.signed + minutes.minutes();
    for lists in [None, Some("ca.crl"), Some("none.crl")] {
        assert_eq!(
            company
                .judge("release.json", &company.trust(lists, None, minute(5)))
                .as_deref(),
            Ok(COSIGN_SIGN),
            "{lists:?}"
        );
        assert_eq!(
            company.judge("release.json", &company.trust(lists, None, minute(61))),
            Err(Reason::CertificateExpired),
            "{lists:?}"
        );
    }
    assert_eq!(
        company
            .judge(
                "revoked.json",
                &company.trust(Some("none.crl"), None, minute(5))
            )
            .as_deref(),
        Ok(COSIGN_SIGN)
    );
    assert_eq!(
        company.judge(
            "revoked.json",
            &company.trust(Some("ca.crl"), None, minute(5))
        ),
        Err(Reason::Revoked)
    );
    // One list in DER: of the intermediate alone, so there is none for the intermediate itself.
    assert_eq!(
        company.judge(
            "release.json",
            &company.trust(Some("signing.crl"), None, minute(5))
        ),
        Err(Reason::UntrustedChain)
    );
    assert_eq!(
        company.judge(
            "revoked.json",
            &company.trust(Some("signing.crl"), None, minute(5))
        ),
        Err(Reason::UntrustedChain)
    );
}

#[test]
fn a_timestamp_outlives_the_certificate() {
    let (company, root) = (Company::new(), Company::new().root());
    let later = company.later();
    for lists in [None, Some("ca.crl")] {
        let trust = company.trust(lists, Some(&root), later);
        let findings = verify_evidence(
            &subject(),
            &evidence(vec![candidate(
                &subject(),
                &company.bundle("timestamped.json"),
            )]),
            &trust,
            &InputLimits::DEFAULT,
        );
        let [verified] = &findings.verified[..] else {
            panic!("{:?}", findings.rejected)
        };
        let signer = SignerIdentity::Certificate {
            san: RELEASE.into(),
            authority: trust.authorities[0].authority.digest(),
        };
        assert_eq!(
            (
                verified.signer(),
                verified.trust_root(),
                verified.time_evidence()
            ),
            (&signer, Some(&root.digest()), TimeEvidenceStatus::Verified)
        );
        assert!(verified.signing_time().timestamp().is_some_and(|time| {
            time.duration_until(company.signed).abs() < SignedDuration::from_secs(5)
        }));
        assert!(!verified.is_logged());
        // Only its revocation lists must not be outdated.
        let until = verified.validity_period();
        assert_eq!((until.from, until.until.is_some()), (None, lists.is_some()));
    }
    // Without a trusted authority, or without the timestamp, it has expired.
    assert_eq!(
        company.judge("timestamped.json", &company.trust(None, None, later)),
        Err(Reason::CertificateExpired)
    );
    assert_eq!(
        company.judge("release.json", &company.trust(None, Some(&root), later)),
        Err(Reason::CertificateExpired)
    );
    // Outdated lists give no status.
    let never = company.signed + SignedDuration::from_hours(24 * 3_660);
    assert_eq!(
        company.judge(
            "timestamped.json",
            &company.trust(Some("ca.crl"), Some(&root), never)
        ),
        Err(Reason::CertificateExpired)
    );
    assert_eq!(
        company
            .judge("timestamped.json", &company.trust(None, Some(&root), never))
            .as_deref(),
        Ok(COSIGN_SIGN)
    );
}

#[test]
fn a_timestamp_that_does_not_hold_is_no_time() {
    let company = Company::new();
    let root = company.root();
    let trust = company.trust(None, Some(&root), company.signed + 5.minutes());
    let timestamp = |bundle: &mut Value, token: &[u8]| {
        let token = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, token);
        bundle["verificationMaterial"]["timestampVerificationData"] =
            json!({"rfc3161Timestamps": [{"signedTimestamp": token}]});
    };
    let token = company.bundle("timestamped.json")["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"][0]["signedTimestamp"]
        .as_str()
        .map(|text| base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).expect("base64"))
        .expect("a timestamp");
    // Of another signature, by another certificate.
    let mut other = company.bundle("revoked.json");
    timestamp(&mut other, &token);
    refused(
        Reason::InvalidTimestamp,
        candidate(&subject(), &other),
        &trust,
    );
    // Changed: its form, its content (two places), its signed attributes, and the signature.
    let changed = |at: usize| {
        let mut changed = token.clone();
        changed[at] ^= 1;
        let mut bundle = company.bundle("timestamped.json");
        timestamp(&mut bundle, &changed);
        candidate(&subject(), &bundle)
    };
    for at in [9, 100, 130, 800, token.len() - 9] {
        refused(Reason::InvalidTimestamp, changed(at), &trust);
    }
    // The copy of the authority's certificate in it proves nothing: the trust root has its own.
    assert_eq!(
        verdict(changed(token.len() / 2), &trust).as_deref(),
        Ok(COSIGN_SIGN)
    );
    // By an authority that is not in the trust root.
    let empty = TrustRoot::parse(
        br#"{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}"#,
        &InputLimits::DEFAULT,
    )
    .expect("a root");
    let stranger = company.trust(None, Some(&Arc::new(empty)), company.signed + 5.minutes());
    assert_eq!(
        company.judge("timestamped.json", &stranger),
        Err(Reason::InvalidTimestamp)
    );
    // A certificate of another authority is reported as such, even with an invalid timestamp.
    let foreign = testing_pki::Pki::new().authority();
    let elsewhere = TrustedMaterial {
        authorities: vec![TrustedCertificateAuthority {
            authority: foreign,
            root: Some(root),
        }],
        ..trust
    };
    refused(
        Reason::UntrustedChain,
        candidate(&subject(), &other),
        &elsewhere,
    );
}
