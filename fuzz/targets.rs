//! Fuzz targets: everything that parses untrusted bytes, one function each. None may panic, and
//! their assertions must hold.
//!
//! `fuzz_targets/NAME.rs` passes each function to the fuzzer; `tests/it/fuzz.rs` runs every seed,
//! and deterministic mutations of it, through the same functions in every run of the tests.

use std::{
    fmt::Display,
    str::FromStr,
    sync::{Arc, LazyLock},
};

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use packgate::{
    api::bundle_policy::{PolicyObject, ResolvedPolicyReferences},
    core::{
        bundle_path::BundlePath,
        digest::Digest,
        dsse, json,
        limits::InputLimits,
        lockfile::{LockInput, Lockfile},
        media_type,
        oci::{Annotations, Descriptor, ImageManifest, ManifestOrIndex, Platform},
        pack::{
            BundleFormat, PackOptions, PackPlan, read_lock_from_layer, read_pack_options,
            require_manifest,
        },
        path_glob::PathGlob,
        reference::{BundleLocation, ImageReference, ImageRepository, ImageTag},
        sigstore_bundle::SigstoreBundle,
        unpack::{
            check_link_target, entry_file_path, entry_folder_path,
            tar::{BLOCK, PendingTarMetadata, TarHeader},
        },
        verify::{
            ReferrerCandidate, TrustRoot, TrustedMaterial, UnverifiedEvidence,
            VerificationFindings, VerificationKey, verify_evidence,
        },
    },
};
use serde_json::{Value, json};

/// A target, and the name of its folder of seeds.
pub(super) type Target = (&'static str, fn(&[u8]));

/// Every target.
pub(super) const ALL: &[Target] = &[
    ("certificate", certificate),
    ("dsse", dsse),
    ("embedded_lock", embedded_lock),
    ("json", strict_json),
    ("lock", lock),
    ("manifest", manifest),
    ("policy", policy),
    ("reference", reference),
    ("sigstore_bundle", sigstore_bundle),
    ("tar", tar),
    ("trusted_root", trusted_root),
];

const LIMITS: InputLimits = InputLimits::DEFAULT;

/// A valid bundle with [`ROOT`] about [`subject`]: with an entry of Rekor v1 and a timestamp.
const BUNDLE: &str = include_str!("seeds/sigstore_bundle/rekor-v1.json");
const ROOT: &[u8] = include_bytes!("seeds/trusted_root/virtual.json");

fn subject() -> Digest {
    Digest::of_bytes(b"the judged manifest")
}

/// Verifies a bundle as if a registry had listed it.
fn judge(content: Vec<u8>, trust: &TrustedMaterial) -> VerificationFindings {
    let manifest = ImageManifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.into()),
        artifact_type: None,
        config: Descriptor::empty(),
        layers: vec![Descriptor::of_bytes(
            media_type::SIGSTORE_BUNDLE_V03,
            &content,
        )],
        subject: Some(Descriptor::new(media_type::MANIFEST, subject(), 7)),
        annotations: Annotations::new(),
    };
    let referrer = Descriptor::of_bytes(media_type::MANIFEST, b"");
    let candidate = ReferrerCandidate {
        referrer,
        manifest: ManifestOrIndex::Manifest(manifest),
        content: content.into(),
    };
    let evidence = UnverifiedEvidence {
        candidates: vec![candidate],
        ..UnverifiedEvidence::default()
    };
    let findings = verify_evidence(&subject(), &evidence, trust, &LIMITS);
    assert!(
        findings
            .rejected
            .iter()
            .all(|rejected| rejected.message.chars().count() <= 300
                && !rejected.message.contains(char::is_control))
    );
    assert!(
        findings
            .verified
            .iter()
            .all(|verified| verified.claim().has_subject_digest(&subject()))
    );
    findings
}

static ROOT_TRUST: LazyLock<TrustedMaterial> = LazyLock::new(|| TrustedMaterial {
    roots: vec![Arc::new(
        TrustRoot::parse(ROOT, &LIMITS).expect("a trust root"),
    )],
    ..TrustedMaterial::default()
});

/// The certificate of a bundle in which everything else is valid: its names, claims, validity,
/// chain and SCT.
pub(super) fn certificate(data: &[u8]) {
    static PARTS: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(BUNDLE).expect("JSON"));
    let mut bundle = PARTS.clone();
    let genuine =
        bundle["verificationMaterial"]["certificate"]["rawBytes"] == BASE64.encode(data).as_str();
    bundle["verificationMaterial"]["certificate"]["rawBytes"] = BASE64.encode(data).into();
    let findings = judge(bundle.to_string().into_bytes(), &ROOT_TRUST);
    assert_eq!(
        !findings.verified.is_empty(),
        genuine,
        "no other certificate holds"
    );
}

/// The payload of an envelope signed by a trusted key: what is parsed after the signature.
pub(super) fn dsse(data: &[u8]) {
    static KEY: LazyLock<(EcdsaKeyPair, TrustedMaterial)> = LazyLock::new(|| {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key");
        let spki = key.public_key().as_der().expect("DER");
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            BASE64.encode(spki.as_ref())
        );
        (
            key,
            TrustedMaterial {
                keys: vec![VerificationKey::from_pem(&pem).expect("a key")],
                ..TrustedMaterial::default()
            },
        )
    });
    let (key, trust) = &*KEY;
    let signature = key
        .sign(&SystemRandom::new(), &dsse::statement_pae(data))
        .expect("a signature");
    let envelope = json!({
        "payload": BASE64.encode(data),
        "payloadType": media_type::IN_TOTO,
        "signatures": [{"sig": BASE64.encode(signature)}],
    });
    let bundle = json!({
        "mediaType": media_type::SIGSTORE_BUNDLE_V03,
        "verificationMaterial": {"publicKey": {}},
        "dsseEnvelope": envelope,
    });
    let findings = judge(bundle.to_string().into_bytes(), trust);
    assert_eq!(
        findings.verified.len() + findings.rejected.len(),
        1,
        "one candidate, one answer"
    );
}

/// The embedded documents of a bundle: the lock in its first layer, and from manifest and config
/// (with a zero byte between them) its pack options.
pub(super) fn embedded_lock(data: &[u8]) {
    if let Ok(bytes) = read_lock_from_layer(data) {
        let _ = Lockfile::from_canonical(&bytes, &LIMITS);
    }
    let (manifest, config) = data.split_at(
        data.iter()
            .position(|byte| *byte == 0)
            .unwrap_or(data.len()),
    );
    let Ok(manifest) = ManifestOrIndex::parse(media_type::MANIFEST, manifest, &LIMITS) else {
        return;
    };
    let Ok(manifest) = require_manifest(manifest) else {
        return;
    };
    let Ok(output) = read_pack_options(&manifest, config.get(1..).unwrap_or_default(), &LIMITS)
    else {
        return;
    };
    let lock = br#"{"apiVersion":"packgate.dev/v1alpha1","artifacts":[{"checksum":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","mode":"0644","name":"a","origin":"a","size":0,"target":"a","type":"file"}],"kind":"Lockfile","packFormat":"1"}"#;
    let lock = Lockfile::from_canonical(lock, &LIMITS).expect("canonical");
    if let Ok(plan) = PackPlan::new(&lock, output) {
        for manifest in plan.manifest_plans() {
            let _ = plan.build_documents(&manifest, &[]);
        }
    }
}

/// Strict JSON: other parsers read accepted documents the same way.
pub(super) fn strict_json(data: &[u8]) {
    if let Ok(value) = json::parse_strict::<Value>(data, 1 << 20, 32) {
        assert_eq!(serde_json::from_slice::<Value>(data).expect("JSON"), value);
        let written = serde_json::to_vec(&value).expect("JSON");
        let again = json::parse_strict::<Value>(&written, 1 << 21, 32).expect("its own JSON");
        assert_eq!(serde_json::to_vec(&again).expect("JSON"), written);
    }
}

/// Locks and manifests of both generations: every accepted document has one canonical form, and
/// round-trips through YAML.
pub(super) fn lock(data: &[u8]) {
    let _ = LockInput::parse(data, &LIMITS);
    let Ok(lock) = Lockfile::parse(data, &LIMITS) else {
        return;
    };
    let canonical = lock.to_canonical();
    let read = Lockfile::from_canonical(&canonical.bytes, &LIMITS).expect("its own canonical form");
    assert_eq!(read.to_canonical(), canonical);
    let yaml = Lockfile::parse(lock.to_yaml().as_bytes(), &LIMITS).expect("its own YAML");
    assert_eq!(
        yaml,
        Lockfile {
            generation: yaml.generation,
            ..lock.clone()
        }
    );
    for format in [BundleFormat::Image, BundleFormat::Artifact] {
        if let Ok(plan) = PackPlan::new(
            &lock,
            PackOptions {
                format,
                ..PackOptions::default()
            },
        ) {
            let _ = plan.predict_digest();
        }
    }
}

/// Manifests and indexes: every accepted document round-trips.
pub(super) fn manifest(data: &[u8]) {
    for media_type in media_type::ACCEPT_MANIFESTS {
        let Ok(document) = ManifestOrIndex::parse(media_type, data, &LIMITS) else {
            continue;
        };
        let _ = (
            document.subject(),
            document.annotations(),
            document.children(),
            document.artifact_type(),
        );
        let written = match &document {
            ManifestOrIndex::Manifest(manifest) => serde_json::to_vec(manifest),
            ManifestOrIndex::Index(index) => serde_json::to_vec(index),
        };
        let again = ManifestOrIndex::parse(media_type, &written.expect("JSON"), &LIMITS)
            .expect("its own JSON");
        assert_eq!(again, document);
    }
}

/// Policies in YAML: every parsed policy round-trips, and is compiled or refused.
pub(super) fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(documents) = serde_saphyr::from_multiple::<Value>(text) else {
        return;
    };
    for document in documents {
        let Ok(object) = PolicyObject::from_json(document) else {
            continue;
        };
        let written = match &object {
            PolicyObject::Cluster(policy) => serde_json::to_value(&**policy),
            PolicyObject::Namespaced(policy) => serde_json::to_value(&**policy),
        };
        assert_eq!(
            PolicyObject::from_json(written.expect("JSON")).expect("its own JSON"),
            object
        );
        let _ = (
            object.referenced_names(),
            object.compile_policy(&ResolvedPolicyReferences::default()),
            object.compile_or_deny_all(&ResolvedPolicyReferences::default()),
        );
    }
}

fn same<T: FromStr + Display + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let printed = value.to_string();
        assert!(
            printed.parse::<T>().is_ok_and(|again| again == value),
            "{text:?} is printed as {printed:?}"
        );
    }
}

/// References, locations, tags, digests and platforms: every accepted one round-trips.
pub(super) fn reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    same::<ImageReference>(text);
    same::<ImageRepository>(text);
    same::<BundleLocation>(text);
    same::<ImageTag>(text);
    same::<Digest>(text);
    same::<Platform>(text);
    same::<BundlePath>(text);
    same::<PathGlob>(text);
}

/// Sigstore bundles: parsed, and verified with a trust root.
pub(super) fn sigstore_bundle(data: &[u8]) {
    if let Ok(bundle) = SigstoreBundle::parse(data, &LIMITS) {
        let _ = bundle.verification_material();
        assert!(bundle.log_entries().len() <= LIMITS.log_entries);
    }
    let _ = judge(data.to_vec(), &ROOT_TRUST);
}

/// Headers and metadata of tar archives.
pub(super) fn tar(data: &[u8]) {
    let mut pending = PendingTarMetadata::default();
    let mut rest = data;
    while let Some((block, after)) = rest.split_first_chunk::<BLOCK>() {
        let Ok(Some(header)) = TarHeader::parse(block) else {
            return;
        };
        let size = usize::try_from(header.size)
            .unwrap_or(usize::MAX)
            .min(after.len());
        let (content, after) = after.split_at(size);
        rest = after;
        if header.kind.is_metadata() {
            if pending.apply_metadata(header.kind, content).is_err() {
                return;
            }
            continue;
        }
        let Ok(header) = pending.apply_to_header(header) else {
            return;
        };
        let _ = entry_folder_path(None, &header.name);
        if let Ok(path) = entry_file_path(None, &header.name) {
            let _ = check_link_target(None, &path, &header.link);
        }
    }
}

/// The number of valid signatures in a bundle.
pub(super) fn verified(data: &[u8]) -> usize {
    judge(data.to_vec(), &ROOT_TRUST).verified.len()
}

/// Trust roots: every accepted one verifies a bundle without a panic.
pub(super) fn trusted_root(data: &[u8]) {
    if let Ok(root) = TrustRoot::parse(data, &LIMITS) {
        let trust = TrustedMaterial {
            roots: vec![Arc::new(root)],
            ..TrustedMaterial::default()
        };
        let _ = judge(BUNDLE.as_bytes().to_vec(), &trust);
    }
}
