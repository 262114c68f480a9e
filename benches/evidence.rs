//! What judging one piece of evidence costs, beside what cannot be saved: the signature's own
//! verification and reading the bundle; for a certificate, `sigstore-verify` alone on the same
//! bundle. Each pair runs alternately in one process; the median of the ratios counts.
//!
//! `cargo bench --bench evidence`; the keyless pairs need PACKGATE_SHARED_DATA (CONTRIBUTING.md).
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::allow_attributes_without_reason,
    missing_docs,
    reason = "a benchmark prints, and ends where it cannot go on"
)]

use std::{
    fs,
    hint::black_box,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair,
        ParsedPublicKey,
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use packgate::core::{
    digest::Digest,
    dsse,
    intoto::{COSIGN_SIGN, Statement},
    limits::InputLimits,
    media_type,
    oci::{Descriptor, ManifestOrIndex},
    verify::{
        ReferrerCandidate, TrustRoot, TrustedMaterial, UnverifiedEvidence, VerificationKey,
        verify_evidence,
    },
};
use serde_json::json;
use sigstore_trust_root::TrustedRoot;
use sigstore_types::{Bundle, Sha256Hash};
use sigstore_verify::{VerificationPolicy, Verifier};

const ROUNDS: usize = 301;

fn main() {
    keyed();
    match std::env::var_os("PACKGATE_SHARED_DATA").map(PathBuf::from) {
        Some(data) => {
            keyless(
                &data,
                "Rekor v1, DSSE",
                "happy-path-intoto-in-dsse-v3",
                None,
            );
            keyless(
                &data,
                "Rekor v2 and a timestamp, DSSE",
                "rekor2-dsse-happy-path",
                Some("trusted_root.json"),
            );
            trust_root(&data);
        }
        None => println!(
            "keyless: not run, set PACKGATE_SHARED_DATA to the folder with genuine bundles"
        ),
    }
}

/// A signature by a key, as cosign makes it without a log.
fn keyed() {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key");
    let spki = pair.public_key().as_der().expect("DER").as_ref().to_vec();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        STANDARD.encode(&spki)
    );
    let key = VerificationKey::from_pem(&pem).expect("a key");
    let subject = Digest::of_bytes(b"the judged manifest");
    let statement =
        serde_json::to_vec(&Statement::for_digest("", &subject, COSIGN_SIGN, json!({})))
            .expect("JSON");
    let pae = dsse::statement_pae(&statement);
    let signature = pair
        .sign(&SystemRandom::new(), &pae)
        .expect("a signature")
        .as_ref()
        .to_vec();
    let bundle = json!({
        "mediaType": media_type::SIGSTORE_BUNDLE_V03,
        "verificationMaterial": {"publicKey": {"hint": key.bundle_key_hint()}},
        "dsseEnvelope": {
            "payload": STANDARD.encode(&statement),
            "payloadType": media_type::IN_TOTO,
            "signatures": [{"sig": STANDARD.encode(&signature)}],
        },
    })
    .to_string();
    let evidence = evidence(&subject, bundle.as_bytes());
    let trust = TrustedMaterial {
        keys: vec![key],
        ..TrustedMaterial::default()
    };
    let parsed = ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &spki).expect("a key");
    let ours = || {
        assert_eq!(
            verify_evidence(
                &subject,
                black_box(&evidence),
                &trust,
                &InputLimits::DEFAULT
            )
            .verified
            .len(),
            1
        );
    };
    let bare = || {
        let bundle = Bundle::from_json(black_box(&bundle)).expect("a bundle");
        let statement: Statement = serde_json::from_slice(&statement).expect("a statement");
        assert!(parsed.verify_sig(&pae, &signature).is_ok());
        black_box((bundle, statement));
    };
    report(
        "keyed (A) against one ECDSA P-256 verification and parsing (B)",
        "1.3",
        &mut pairs(&ours, &bare),
    );
}

/// A genuine bundle with a certificate, against the library alone.
fn keyless(data: &Path, what: &str, case: &str, root: Option<&str>) {
    let folder = data.join("sigstore-conformance").join(case);
    let root = root.map_or_else(
        || data.join("trust/prod_trusted_root.json"),
        |root| folder.join(root),
    );
    let root = fs::read(&root).expect("a trusted root");
    let bundle = fs::read_to_string(folder.join("bundle.sigstore.json")).expect("a bundle");
    let artifact = Some(folder.join("artifact"))
        .filter(|path| path.exists())
        .unwrap_or_else(|| data.join("sigstore-conformance/a.txt"));
    let subject = Digest::of_bytes(&fs::read(artifact).expect("an artifact"));
    let evidence = evidence(&subject, bundle.as_bytes());
    let trust = TrustedMaterial {
        roots: vec![Arc::new(
            TrustRoot::parse(&root, &InputLimits::DEFAULT).expect("a trusted root"),
        )],
        ..TrustedMaterial::default()
    };
    let library = Verifier::new(
        &TrustedRoot::from_json(std::str::from_utf8(&root).expect("text")).expect("a trusted root"),
    )
    .expect("a verifier");
    let ours = || {
        let findings = verify_evidence(
            &subject,
            black_box(&evidence),
            &trust,
            &InputLimits::DEFAULT,
        );
        assert_eq!(findings.verified.len(), 1, "{:?}", findings.rejected);
    };
    let alone = || {
        let bundle = Bundle::from_json(black_box(&bundle)).expect("a bundle");
        library
            .verify(
                Sha256Hash::new(*subject.as_bytes()),
                &bundle,
                &VerificationPolicy::any_identity(),
            )
            .expect("a good bundle");
    };
    report(
        &format!("keyless, {what} (A) against sigstore-verify alone (B)"),
        "1.2",
        &mut pairs(&ours, &alone),
    );
}

/// How long a trust root takes to be read: once for each change of it, never for a verdict.
fn trust_root(data: &Path) {
    let root = fs::read(data.join("trust/prod_trusted_root.json")).expect("a trusted root");
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        black_box(
            TrustRoot::parse(black_box(&root), &InputLimits::DEFAULT).expect("a trusted root"),
        );
    }
    println!(
        "a trust root is read in {:?}, once",
        begun.elapsed() / u32::try_from(ROUNDS).expect("few")
    );
}

fn evidence(subject: &Digest, bundle: &[u8]) -> UnverifiedEvidence {
    let layer = Descriptor::of_bytes(media_type::SIGSTORE_BUNDLE_V03, bundle);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::MANIFEST,
        "artifactType": media_type::SIGSTORE_BUNDLE_V03,
        "config": Descriptor::empty(), "layers": [layer],
        "subject": Descriptor::new(media_type::MANIFEST, *subject, 555),
    })
    .to_string();
    let document = ManifestOrIndex::parse(
        media_type::MANIFEST,
        manifest.as_bytes(),
        &InputLimits::DEFAULT,
    )
    .expect("a manifest");
    let candidate = ReferrerCandidate {
        referrer: Descriptor::of_bytes(media_type::MANIFEST, manifest.as_bytes()),
        manifest: document,
        content: bundle.to_vec().into(),
    };
    UnverifiedEvidence {
        candidates: vec![candidate],
        ..UnverifiedEvidence::default()
    }
}

/// The times of both, one after the other.
fn pairs(a: &dyn Fn(), b: &dyn Fn()) -> Vec<(Duration, Duration)> {
    let time = |work: &dyn Fn()| {
        let begun = Instant::now();
        work();
        begun.elapsed()
    };
    (0..ROUNDS + 20)
        .map(|_| (time(a), time(b)))
        .skip(20)
        .collect()
}

fn report(what: &str, promised: &str, pairs: &mut [(Duration, Duration)]) {
    let mut ratios: Vec<f64> = pairs
        .iter()
        .map(|(a, b)| a.as_secs_f64() / b.as_secs_f64())
        .collect();
    ratios.sort_by(f64::total_cmp);
    let middle = pairs.len() / 2;
    pairs.sort_unstable_by_key(|(a, _)| *a);
    let a = pairs[middle].0;
    pairs.sort_unstable_by_key(|(_, b)| *b);
    println!(
        "{what}: A {a:?}  B {:?}  A/B median {:.2} (promised: at most {promised})",
        pairs[middle].1, ratios[middle]
    );
}
