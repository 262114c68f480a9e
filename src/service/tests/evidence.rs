//! What is read for one request: how much of it at once, in which order, and what only after a
//! valid signature.

use std::sync::Mutex;

use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::{
    clock::FixedClock,
    core::{
        media_type,
        oci::Descriptor,
        policy::{
            AdHocPolicyOptions, AdmissionVerdict, AuthorityKind, Policy, PolicyAuthority,
            PolicyDecision, PolicyOutcome, ReferenceUse,
        },
        verify::VerificationKey,
    },
    oci::{ContentReader, ContentTarget, OciError, PushContent},
    service::{
        sign,
        verification_request::{EvidenceDepth, VerificationRequest, VerifyError},
        verify::{self, BundleEvaluation},
    },
    signing::{KeySigner, Password, Signer},
};

const KEY: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/data/keys/p256-pkcs8.pem"
));
const NAME: &str = "r.example.com/team-a/siem";

/// A registry that records which blobs are read.
#[derive(Default)]
struct Registry {
    inner: MemoryTarget,
    opened: Mutex<Vec<(Digest, u64)>>,
}

impl Registry {
    fn opened(&self) -> Vec<(Digest, u64)> {
        std::mem::take(&mut *self.opened.lock().expect("no panic"))
    }

    /// A Sigstore bundle about `subject`, of this many bytes and in a layer of its own.
    async fn attach(&self, subject: &Descriptor, number: usize, size: usize) -> Digest {
        let mut bundle = format!("{{\"number\":{number},\"x\":\"").into_bytes();
        bundle.resize(size - 2, b'x');
        bundle.extend(b"\"}");
        let layer = Descriptor::of_bytes(media_type::SIGSTORE_BUNDLE_V03, &bundle);
        self.inner
            .push_content(&layer, PushContent::Bytes(&bundle.into()))
            .await
            .expect("pushed");
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type::MANIFEST,
            "artifactType": media_type::SIGSTORE_BUNDLE_V03,
            "config": Descriptor::empty(), "layers": [layer], "subject": subject.without_metadata(),
        });
        let bytes = Bytes::from(manifest.to_string());
        self.inner
            .push_content(
                &Descriptor::of_bytes(media_type::MANIFEST, &bytes),
                PushContent::Bytes(&bytes),
            )
            .await
            .expect("pushed");
        layer.digest
    }
}

#[async_trait]
impl ContentSource for Registry {
    fn location(&self) -> String {
        NAME.into()
    }

    async fn resolve_manifest(
        &self,
        selector: &TagOrDigest,
        limits: &InputLimits,
    ) -> Result<ResolvedManifest, OciError> {
        self.inner.resolve_manifest(selector, limits).await
    }

    async fn open_content(&self, descriptor: &Descriptor) -> Result<ContentReader, OciError> {
        self.opened
            .lock()
            .expect("no panic")
            .push((descriptor.digest, descriptor.size));
        self.inner.open_content(descriptor).await
    }

    async fn list_referrers(
        &self,
        subject: &Descriptor,
        limits: &InputLimits,
    ) -> Result<Vec<Descriptor>, OciError> {
        self.inner.list_referrers(subject, limits).await
    }
}

fn signer() -> KeySigner {
    KeySigner::from_pem(KEY, Some(&Password::new(""))).expect("a signer")
}

fn policy(lock: Option<Digest>) -> Policy {
    let key = VerificationKey::from_pem(signer().public_key_pem()).expect("a key");
    let authorities = vec![PolicyAuthority {
        name: "a".into(),
        kind: AuthorityKind::Key { key, root: None },
    }];
    Policy::ad_hoc(AdHocPolicyOptions {
        authorities,
        lock,
        ..AdHocPolicyOptions::default()
    })
    .expect("a policy")
}

async fn sign(registry: &Registry, subject: &Descriptor) {
    let clock = FixedClock("2026-11-21T12:00:00Z".parse().expect("a time"));
    sign::sign_subject(&registry.inner, subject, "", &signer(), &clock)
        .await
        .expect("signed");
}

async fn ask(
    registry: &Registry,
    root: &ResolvedManifest,
    policy: &Policy,
) -> Result<BundleEvaluation, VerifyError> {
    let repository = NAME.parse().expect("a name");
    let request = VerificationRequest {
        policies: std::slice::from_ref(policy),
        reference: NAME,
        repository: Some(&repository),
        had_digest: true,
        used_as: ReferenceUse::PackedBundle,
        namespace: Some("team-a"),
        now: "2026-11-21T12:00:00Z".parse().expect("a time"),
        reading: EvidenceDepth::Needed,
    };
    verify::evaluate_bundle(registry, root, &request, &InputLimits::DEFAULT).await
}

fn reasons(decision: &PolicyDecision) -> Vec<Reason> {
    match decision.outcome() {
        PolicyOutcome::Governed(AdmissionVerdict::Deny(denials)) => {
            denials.iter().map(|denial| denial.reason).collect()
        }
        _ => Vec::new(),
    }
}

async fn subject(registry: &Registry) -> ResolvedManifest {
    let bytes = Bytes::from_static(br#"{"schemaVersion":2,"manifests":[]}"#);
    let descriptor = Descriptor::of_bytes(media_type::INDEX, &bytes);
    registry
        .inner
        .push_content(&descriptor, PushContent::Bytes(&bytes))
        .await
        .expect("pushed");
    ResolvedManifest { descriptor, bytes }
}

#[tokio::test]
async fn a_small_signature_is_found_among_large_ones_and_the_rest_is_told() {
    let registry = Registry::default();
    let root = subject(&registry).await;
    let size = InputLimits::DEFAULT.sigstore_bundle_bytes;
    for number in 0..40 {
        registry.attach(&root.descriptor, number, size).await;
    }
    let refused = ask(&registry, &root, &policy(None))
        .await
        .expect("a verdict");
    assert_eq!(reasons(&refused.decision), [Reason::LimitExceeded]);
    let read: u64 = registry.opened().iter().map(|(_, size)| size).sum();
    assert!(read <= InputLimits::DEFAULT.evidence_bytes, "{read} bytes");
    let unread = 40
        - refused
            .findings
            .rejected
            .iter()
            .filter(|rejected| rejected.reason == Reason::MalformedEvidence)
            .count();
    assert_eq!(refused.findings.over_budget, unread);
    assert_eq!(unread, 40 - 15, "the manifests take a part of what is read");
    sign(&registry, &root.descriptor).await;
    let admitted = ask(&registry, &root, &policy(None))
        .await
        .expect("a verdict");
    assert_eq!(
        (admitted.decision.is_admitted(), reasons(&admitted.decision)),
        (true, Vec::new())
    );
}

#[tokio::test]
async fn what_says_that_it_is_larger_than_it_may_be_takes_nothing_from_the_others() {
    let registry = Registry::default();
    let root = subject(&registry).await;
    for number in 0..40 {
        registry
            .attach(
                &root.descriptor,
                number,
                InputLimits::DEFAULT.sigstore_bundle_bytes + 1,
            )
            .await;
    }
    let last = registry.attach(&root.descriptor, 40, 1_000_000).await;
    let refused = ask(&registry, &root, &policy(None))
        .await
        .expect("a verdict");
    assert_eq!(
        refused.findings.over_budget, 0,
        "{:?}",
        refused.findings.rejected
    );
    assert!(registry.opened().iter().any(|(digest, _)| *digest == last));
}

#[tokio::test]
async fn nothing_inside_is_opened_without_a_good_signature() {
    let (plain, origin) = lock(&[File::new("opt/hello", b"hello")], None);
    let (inner, packed) = pack(&plain, origin, PackOptions::default())
        .await
        .expect("packed");
    let root = inner
        .resolve_manifest(
            &TagOrDigest::Digest(packed.root.digest),
            &InputLimits::DEFAULT,
        )
        .await
        .expect("there");
    let lock = open(&inner, packed.root.digest)
        .await
        .expect("a bundle")
        .plan
        .lock
        .digest;
    let registry = Registry {
        inner,
        ..Registry::default()
    };
    let unsigned = ask(&registry, &root, &policy(Some(lock)))
        .await
        .expect("a verdict");
    assert_eq!(
        reasons(&unsigned.decision),
        [Reason::NoSignatures],
        "and nothing about a lock that nobody looked at"
    );
    assert_eq!(
        (registry.opened(), unsigned.contents.is_some()),
        (Vec::new(), false)
    );
    sign(&registry, &root.descriptor).await;
    let signed = ask(&registry, &root, &policy(Some(lock)))
        .await
        .expect("a verdict");
    assert!(
        signed.decision.is_admitted() && signed.contents.is_some(),
        "{:?}",
        signed.decision
    );
    let other = ask(
        &registry,
        &root,
        &policy(Some(Digest::of_bytes(b"another lock"))),
    )
    .await
    .expect("a verdict");
    assert_eq!(reasons(&other.decision), [Reason::LockMismatch]);
}
