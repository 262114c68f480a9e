//! Rebuilding and signing: what is signed, what is refused, and in which order things happen.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use serde_json::{Value, json};

use super::{
    forged::{Forged, tar},
    *,
};
use crate::{
    clock::FixedClock,
    core::{
        intoto::COSIGN_SIGN,
        job::{
            INPUTS_VERSION, JobDestination, JobInputs, JobLockSource, JobRunKey, JobSigning,
            JobSigningMode, JobSuccess, JobTagPolicy, PackedBundleIdentity,
        },
        media_type,
        oci::{Descriptor, ManifestOrIndex},
        pack::{BundleFormat, LayerCompression},
        reference::ImageTag,
        sbom::{self, SbomDocument},
        slsa::PROVENANCE_V1,
    },
    oci::{
        ContentReader, ContentTarget, OciError, PushContent, fetch_content, fetch_document,
        verify_stream::DigestVerifyingReader,
    },
    service::{
        rebuild_and_sign::{RebuildAndSignError, rebuild_and_sign},
        release_context::ReleaseContext,
    },
    signing::{BundleSigner, KeySigner, Password, SignatureWithMaterial, Signer, SigningError},
};

const KEY: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/data/keys/p256-pkcs8.pem"
));
const TAG: &str = "v1";

/// A registry that records its requests, and misbehaves as configured.
#[derive(Default)]
struct Registry {
    inner: MemoryTarget,
    asked: Mutex<Vec<String>>,
    /// A blob with one changed byte.
    changed: Option<Digest>,
    /// Lists no referrers.
    forgets_referrers: bool,
    /// Refuses requests for tags.
    refuses_tags: bool,
    /// What every new tag is changed to.
    moves_tags: Option<Descriptor>,
}

impl Registry {
    fn note(&self, what: impl Into<String>) {
        self.asked.lock().expect("no panic").push(what.into());
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }

    async fn tag(&self) -> Option<Digest> {
        let tag = TagOrDigest::Tag(TAG.parse().expect("a tag"));
        self.inner
            .resolve_manifest(&tag, &InputLimits::DEFAULT)
            .await
            .ok()
            .map(|found| found.descriptor.digest)
    }

    async fn referrers_of(&self, digest: &Digest) -> usize {
        let subject = Descriptor::new(media_type::MANIFEST, *digest, 0);
        self.inner
            .list_referrers(&subject, &InputLimits::DEFAULT)
            .await
            .expect("listed")
            .len()
    }

    /// Nothing was signed, nothing was tagged.
    async fn assert_untouched(&self, digest: &Digest) {
        assert_eq!(
            (self.tag().await, self.referrers_of(digest).await),
            (None, 0)
        );
    }
}

#[async_trait]
impl ContentSource for Registry {
    fn location(&self) -> String {
        "r.example.com/team-a/siem".into()
    }

    async fn resolve_manifest(
        &self,
        selector: &TagOrDigest,
        limits: &InputLimits,
    ) -> Result<ResolvedManifest, OciError> {
        self.note(format!("resolve {selector}"));
        if self.refuses_tags && matches!(selector, TagOrDigest::Tag(_)) {
            return Err(OciError::Denied {
                location: self.location(),
                status: 403,
                cause: "no".into(),
            });
        }
        self.inner.resolve_manifest(selector, limits).await
    }

    async fn open_content(&self, descriptor: &Descriptor) -> Result<ContentReader, OciError> {
        if self.changed != Some(descriptor.digest) {
            return self.inner.open_content(descriptor).await;
        }
        let mut bytes = fetch_content(&self.inner, descriptor, 1 << 20)
            .await?
            .to_vec();
        let last = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .expect("not only zeros");
        bytes[last] ^= 1;
        Ok(Box::new(DigestVerifyingReader::new(
            Cursor::new(bytes),
            descriptor,
        )))
    }

    async fn list_referrers(
        &self,
        subject: &Descriptor,
        limits: &InputLimits,
    ) -> Result<Vec<Descriptor>, OciError> {
        self.note("referrers");
        if self.forgets_referrers {
            Ok(Vec::new())
        } else {
            self.inner.list_referrers(subject, limits).await
        }
    }
}

#[async_trait]
impl ContentTarget for Registry {
    async fn content_exists(&self, descriptor: &Descriptor) -> Result<bool, OciError> {
        self.inner.content_exists(descriptor).await
    }

    async fn push_content(
        &self,
        descriptor: &Descriptor,
        content: PushContent<'_>,
    ) -> Result<(), OciError> {
        self.note(if descriptor.is_manifest_or_index() {
            "push manifest"
        } else {
            "push blob"
        });
        self.inner.push_content(descriptor, content).await
    }

    async fn tag_manifest(&self, descriptor: &Descriptor, tag: &ImageTag) -> Result<(), OciError> {
        self.note(format!("tag {tag}"));
        self.inner
            .tag_manifest(self.moves_tags.as_ref().unwrap_or(descriptor), tag)
            .await
    }
}

/// Signs this many times, and then fails.
struct Tired {
    signer: KeySigner,
    left: AtomicUsize,
}

fn signer() -> Tired {
    tired(usize::MAX)
}

fn tired(signatures: usize) -> Tired {
    Tired {
        signer: KeySigner::from_pem(KEY, None).expect("a key"),
        left: signatures.into(),
    }
}

#[async_trait]
impl Signer for Tired {
    async fn sign(&self, pae: &[u8]) -> Result<SignatureWithMaterial, SigningError> {
        if self
            .left
            .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
            .is_err()
        {
            return Err(SigningError::NoPrivateKey);
        }
        self.signer.sign(pae).await
    }

    fn public_key_pem(&self) -> &str {
        self.signer.public_key_pem()
    }

    fn key_hint(&self) -> &str {
        self.signer.key_hint()
    }
}

fn files() -> Vec<File> {
    vec![
        File::new("opt/a", b"first file"),
        File::new("opt/b/c", b"second"),
        File {
            mode: BundleFileMode::Executable,
            ..File::new("z", b"#!")
        },
    ]
}

/// Packs these files, and freezes the inputs that request them.
async fn packed(files: &[File], output: PackOptions) -> (Registry, StoredBundle, JobInputs) {
    let (lock, origin) = lock(files, None);
    let (target, packed) = pack(&lock, origin, output.clone()).await.expect("packed");
    (
        Registry {
            inner: target,
            ..Registry::default()
        },
        packed,
        inputs(&lock, output),
    )
}

fn inputs(lock: &Lockfile, output: PackOptions) -> JobInputs {
    let lock_digest = lock.to_canonical().digest;
    JobInputs {
        v: INPUTS_VERSION,
        run: JobRunKey::new("u-1", 3, &lock_digest),
        bundle: PackedBundleIdentity {
            namespace: "team-a".into(),
            name: "siem".into(),
            uid: "u-1".into(),
            generation: 3,
        },
        cluster: "c-1".into(),
        started_on: "2026-11-21T10:00:00Z".parse().expect("a time"),
        source: JobLockSource {
            uri: "k8s://team-a/configmaps/siem-lock".into(),
            context: None,
            lock_path: None,
        },
        lock_digest,
        layers: Vec::new(),
        signed_origins: BTreeMap::new(),
        output,
        destination: JobDestination {
            repository: "r.example.com/team-a/siem".into(),
            tag: Some(TAG.into()),
            tag_policy: JobTagPolicy::Immutable,
        },
        registries: Vec::new(),
        private_networks: Vec::new(),
        registry_networks: Vec::new(),
        fetch_ca: None,
        fetch: crate::core::job::JobFetch::default(),
        signing: JobSigning {
            mode: JobSigningMode::Platform,
            builder_id: "https://packgate.dev/builder/c-1/platform".into(),
        },
        sbom: None,
        packer: None,
    }
}

async fn run(
    registry: &Registry,
    digest: &Digest,
    inputs: &JobInputs,
    signer: Option<&dyn BundleSigner>,
) -> Result<JobSuccess, RebuildAndSignError> {
    let clock = FixedClock("2026-11-21T10:00:04Z".parse().expect("a time"));
    let context = ReleaseContext {
        target: registry,
        clock: &clock,
        limits: &InputLimits::DEFAULT,
        progress: Arc::new(SilentProgress),
    };
    rebuild_and_sign(&context, digest, inputs, signer).await
}

async fn refusal(registry: &Registry, digest: &Digest, inputs: &JobInputs) -> (Reason, String) {
    let error = run(registry, digest, inputs, Some(&signer()))
        .await
        .expect_err("refused");
    (error.reason(), error.to_string())
}

/// The statement in a referrer.
async fn statement(registry: &Registry, referrer: &Digest) -> Value {
    let root = registry
        .inner
        .resolve_manifest(&TagOrDigest::Digest(*referrer), &InputLimits::DEFAULT)
        .await
        .expect("there");
    let (_, document) = fetch_document(&registry.inner, &root.descriptor, &InputLimits::DEFAULT)
        .await
        .expect("a manifest");
    let ManifestOrIndex::Manifest(manifest) = document else {
        panic!("an index")
    };
    let bundle = fetch_content(&registry.inner, &manifest.layers[0], 1 << 20)
        .await
        .expect("there");
    let bundle: Value = serde_json::from_slice(&bundle).expect("JSON");
    let payload = bundle["dsseEnvelope"]["payload"]
        .as_str()
        .expect("a payload");
    let payload = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, payload)
        .expect("base64");
    serde_json::from_slice(&payload).expect("a statement")
}

#[tokio::test]
async fn a_bundle_that_is_what_the_lock_gives_is_signed_attested_verified_and_tagged() {
    let (registry, packed, inputs) = packed(&files(), PackOptions::default()).await;
    let done = run(&registry, &packed.root.digest, &inputs, Some(&signer()))
        .await
        .expect("endorsed");
    assert_eq!(
        (done.digest, done.lock_digest),
        (packed.root.digest, inputs.lock_digest)
    );
    assert_eq!(
        (done.size, done.layers, done.artifacts),
        (packed.size, packed.layers, 3)
    );
    let types: Vec<&str> = done
        .evidence
        .iter()
        .map(|evidence| evidence.predicate_type.as_str())
        .collect();
    assert_eq!(types, [COSIGN_SIGN, PROVENANCE_V1]);
    assert_eq!(registry.tag().await, Some(packed.root.digest));
    let statement = statement(&registry, &done.evidence[1].digest).await;
    assert_eq!(statement["subject"][0]["name"], "r.example.com/team-a/siem");
    let predicate = &statement["predicate"];
    assert_eq!(
        predicate["buildDefinition"]["internalParameters"],
        json!({"namespace": "team-a", "name": "siem", "uid": "u-1"})
    );
    assert_eq!(
        predicate["buildDefinition"]["resolvedDependencies"][0]["uri"],
        "k8s://team-a/configmaps/siem-lock"
    );
    assert_eq!(
        predicate["runDetails"]["builder"]["id"],
        "https://packgate.dev/builder/c-1/platform"
    );
    let metadata = &predicate["runDetails"]["metadata"];
    assert_eq!(
        metadata["invocationId"],
        format!("c-1/team-a/siem/3/{}", inputs.run.sign_job_name())
    );
    assert_eq!(
        (&metadata["startedOn"], &metadata["finishedOn"]),
        (
            &json!("2026-11-21T10:00:00Z"),
            &json!("2026-11-21T10:00:04Z")
        )
    );
}

#[tokio::test]
async fn a_software_bill_of_materials_is_attested_once_and_named_by_the_provenance() {
    for format in sbom::SbomFormat::ALL {
        let (registry, packed, inputs) = packed(&files(), PackOptions::default()).await;
        let inputs = JobInputs {
            sbom: Some(format),
            ..inputs
        };
        let done = run(&registry, &packed.root.digest, &inputs, Some(&signer()))
            .await
            .expect("endorsed");
        let types: Vec<&str> = done
            .evidence
            .iter()
            .map(|evidence| evidence.predicate_type.as_str())
            .collect();
        assert_eq!(types, [COSIGN_SIGN, PROVENANCE_V1, format.predicate_type()]);
        let (lock, _) = lock(&files(), None);
        let bill = SbomDocument::new(format, &lock, None).expect("a bill");
        let attested = statement(&registry, &done.evidence[2].digest).await;
        let document: Value = serde_json::from_slice(bill.bytes()).expect("JSON");
        assert_eq!(
            (&attested["predicateType"], &attested["predicate"]),
            (&json!(format.predicate_type()), &document)
        );
        let provenance = statement(&registry, &done.evidence[1].digest).await;
        let byproducts = json!([
            {
                "name": "sbom",
                "digest": {"sha256": bill.digest().hex_digits()},
                "mediaType": format.media_type(),
            },
        ]);
        assert_eq!(
            provenance["predicate"]["runDetails"]["byproducts"],
            byproducts
        );
        let again = run(&registry, &packed.root.digest, &inputs, Some(&signer()))
            .await
            .expect("endorsed");
        assert_eq!(
            (again, registry.referrers_of(&packed.root.digest).await),
            (done, 3),
            "a second run adds nothing"
        );
    }
}

#[tokio::test]
async fn a_bundle_that_was_signed_without_one_gets_what_is_asked_for_later() {
    let (registry, packed, inputs) = packed(&files(), PackOptions::default()).await;
    let digest = packed.root.digest;
    let first = run(&registry, &digest, &inputs, Some(&signer()))
        .await
        .expect("endorsed");
    let inputs = JobInputs {
        sbom: Some(sbom::SbomFormat::Spdx),
        ..inputs
    };
    let second = run(&registry, &digest, &inputs, Some(&signer()))
        .await
        .expect("endorsed");
    assert_eq!(second.evidence[0], first.evidence[0], "no second signature");
    assert_ne!(
        second.evidence[1], first.evidence[1],
        "another provenance, which names it"
    );
    assert_eq!(registry.referrers_of(&digest).await, 4);
    // One that another signer attested does not count.
    let stranger = include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/keys/cosign-legacy.key"
    ));
    let stranger =
        KeySigner::from_pem(stranger, Some(&Password::new(*b"packgate"))).expect("a key");
    let third = run(&registry, &digest, &inputs, Some(&stranger))
        .await
        .expect("endorsed");
    assert!(
        third
            .evidence
            .iter()
            .all(|evidence| !second.evidence.contains(evidence))
    );
    assert_eq!(registry.referrers_of(&digest).await, 7);
}

#[tokio::test]
async fn a_large_software_bill_of_materials_is_a_referrer_of_its_own() {
    let many: Vec<File> = (0..2_500)
        .map(|n| File::new(&format!("opt/{n:0>40}"), b"x"))
        .collect();
    let (registry, packed, inputs) = packed(&many, PackOptions::default()).await;
    let inputs = JobInputs {
        sbom: Some(sbom::SbomFormat::Spdx),
        ..inputs
    };
    let done = run(&registry, &packed.root.digest, &inputs, Some(&signer()))
        .await
        .expect("endorsed");
    assert_eq!(
        done.evidence[2].predicate_type,
        sbom::REFERENCE_PREDICATE_TYPE
    );
    let reference =
        statement(&registry, &done.evidence[2].digest).await["predicate"]["references"][0].clone();
    let place = reference["downloadLocation"]
        .as_str()
        .expect("a place")
        .strip_prefix("oci://r.example.com/team-a/siem@")
        .expect("our repository");
    let root = registry
        .inner
        .resolve_manifest(
            &TagOrDigest::Digest(place.parse().expect("a digest")),
            &InputLimits::DEFAULT,
        )
        .await
        .expect("there");
    let (_, document) = fetch_document(&registry.inner, &root.descriptor, &InputLimits::DEFAULT)
        .await
        .expect("a manifest");
    assert_eq!(
        document.subject().map(|subject| subject.digest),
        Some(packed.root.digest)
    );
    assert_eq!(document.artifact_type(), Some("application/spdx+json"));
    let ManifestOrIndex::Manifest(manifest) = document else {
        panic!("an index")
    };
    let bytes = fetch_content(&registry.inner, &manifest.layers[0], 8 << 20)
        .await
        .expect("there");
    assert_eq!(
        (
            reference["digest"]["sha256"].as_str(),
            bytes.len() > sbom::MAX_ATTESTED_BYTES
        ),
        (Some(&*Digest::of_bytes(&bytes).hex_digits()), true)
    );
    let again = run(&registry, &packed.root.digest, &inputs, Some(&signer()))
        .await
        .expect("endorsed");
    assert_eq!(
        (again, registry.referrers_of(&packed.root.digest).await),
        (done, 4),
        "a second run adds nothing"
    );
}

#[tokio::test]
async fn the_tag_comes_last_and_is_looked_at_before_anything_is_written() {
    let (registry, packed, inputs) = packed(&files(), PackOptions::default()).await;
    run(&registry, &packed.root.digest, &inputs, Some(&signer()))
        .await
        .expect("endorsed");
    let asked = registry.asked();
    let at = |what: &str| asked.iter().position(|asked| asked == what).expect("asked");
    let last = |what: &str| {
        asked
            .iter()
            .rposition(|asked| asked == what)
            .expect("asked")
    };
    assert!(at("resolve v1") < at("push blob"), "{asked:?}");
    assert!(
        last("push manifest") < last("referrers") && last("referrers") < at("tag v1"),
        "{asked:?}"
    );
    assert_eq!(asked[at("tag v1")..], ["tag v1", "resolve v1"]);
}

#[tokio::test]
async fn a_run_that_is_done_again_adds_nothing() {
    let (registry, packed, inputs) = packed(&files(), PackOptions::default()).await;
    let digest = packed.root.digest;
    let first = run(&registry, &digest, &inputs, Some(&signer()))
        .await
        .expect("endorsed");
    let again = run(&registry, &digest, &inputs, Some(&signer()))
        .await
        .expect("endorsed");
    assert_eq!((first, registry.referrers_of(&digest).await), (again, 2));
    // The same bundle, requested by another object: it gets its own provenance, and no second
    // signature.
    let bundle = PackedBundleIdentity {
        uid: "u-2".into(),
        ..inputs.bundle.clone()
    };
    let other = JobInputs { bundle, ..inputs };
    run(&registry, &digest, &other, Some(&signer()))
        .await
        .expect("endorsed");
    assert_eq!(registry.referrers_of(&digest).await, 3);
}

#[tokio::test]
async fn a_run_that_cannot_sign_everything_stores_nothing_and_is_finished_later() {
    let (registry, packed, inputs) = packed(&files(), PackOptions::default()).await;
    let digest = packed.root.digest;
    let error = run(&registry, &digest, &inputs, Some(&tired(1)))
        .await
        .expect_err("no second signature");
    assert_eq!(
        (
            error.reason(),
            registry.tag().await,
            registry.referrers_of(&digest).await
        ),
        (Reason::NoSigner, None, 0)
    );
    run(&registry, &digest, &inputs, Some(&signer()))
        .await
        .expect("endorsed");
    assert_eq!(
        (registry.tag().await, registry.referrers_of(&digest).await),
        (Some(digest), 2)
    );
}

#[tokio::test]
async fn without_a_signer_nothing_is_asked_and_nothing_tagged() {
    let (registry, packed, inputs) = packed(&files(), PackOptions::default()).await;
    let digest = packed.root.digest;
    for mode in [JobSigningMode::Platform, JobSigningMode::Namespace] {
        let inputs = JobInputs {
            signing: JobSigning {
                mode,
                ..inputs.signing.clone()
            },
            ..inputs.clone()
        };
        let error = run(&registry, &digest, &inputs, None)
            .await
            .expect_err("nobody to sign");
        assert_eq!(
            (error.reason(), registry.asked().len()),
            (Reason::NoSigner, 0)
        );
    }
    let error = run(&registry, &digest, &inputs, Some(&tired(0)))
        .await
        .expect_err("a signer that fails");
    assert_eq!(error.reason(), Reason::NoSigner);
    registry.assert_untouched(&digest).await;
}

#[tokio::test]
async fn mode_none_checks_and_neither_signs_nor_tags() {
    let (registry, packed, inputs) = packed(&files(), PackOptions::default()).await;
    let digest = packed.root.digest;
    let inputs = JobInputs {
        signing: JobSigning {
            mode: JobSigningMode::None,
            ..inputs.signing.clone()
        },
        ..inputs
    };
    let done = run(&registry, &digest, &inputs, Some(&signer()))
        .await
        .expect("checked");
    assert_eq!((done.evidence, done.layers), (Vec::new(), packed.layers));
    registry.assert_untouched(&digest).await;
    let other = JobInputs {
        lock_digest: Digest::of_bytes(b"other"),
        ..inputs
    };
    assert_eq!(
        refusal(&registry, &digest, &other).await.0,
        Reason::LockMismatch
    );
}

type Change = fn(&mut Forged);

#[tokio::test]
async fn a_forged_manifest_is_never_signed() {
    let changes: &[(&str, &str, Change)] = &[
        ("other content", "layer 1: ", |f| {
            f.layers[1].set(tar(&[("opt/a", 0o644, b"FIRST file")]));
        }),
        ("another mode", "layer 3: ", |f| {
            f.layers[3].set(tar(&[("z", 0o644, b"#!")]));
        }),
        ("a file more", "layer 2: ", |f| {
            f.layers[2].set(tar(&[
                ("opt/b/c", 0o644, b"second"),
                ("opt/evil", 0o755, b"x"),
            ]));
        }),
        ("a layer less", "number of layers", |f| drop(f.layers.pop())),
        ("an entrypoint", "config", |f| {
            f.config["config"]["Entrypoint"] = json!(["/evil"]);
        }),
        ("another field", "manifest", |f| f.manifest["x"] = 1.into()),
        ("no bundle at all", "not a packgate bundle", |f| {
            f.manifest["annotations"] = json!({});
        }),
    ];
    for (name, part, change) in changes {
        let (registry, packed, inputs) = packed(&files(), PackOptions::default()).await;
        let mut forged = Forged::take_apart(&registry.inner, packed.root.digest).await;
        change(&mut forged);
        let root = forged.seal(&registry.inner).await.digest;
        let (reason, message) = refusal(&registry, &root, &inputs).await;
        assert_eq!(reason, Reason::LockMismatch, "{name}: {message}");
        assert!(message.contains(part), "{name}: {message}");
        registry.assert_untouched(&root).await;
    }
}

#[tokio::test]
async fn every_layer_of_every_platform_is_compared() {
    let files = [
        File::new("all", b"1"),
        File::new("amd", b"2").on("linux/amd64"),
        File::new("arm", b"3").on("linux/arm64"),
    ];
    let (registry, packed, inputs) = packed(&files, PackOptions::default()).await;
    let root = registry
        .inner
        .resolve_manifest(
            &TagOrDigest::Digest(packed.root.digest),
            &InputLimits::DEFAULT,
        )
        .await
        .expect("there");
    let mut index: Value = serde_json::from_slice(&root.bytes).expect("JSON");
    let arm: Digest = index["manifests"][1]["digest"]
        .as_str()
        .expect("a digest")
        .parse()
        .expect("a digest");
    // A part of the bundle is not the bundle.
    let (reason, message) = refusal(&registry, &arm, &inputs).await;
    assert!(
        reason == Reason::LockMismatch && message.contains("not the whole bundle"),
        "{message}"
    );
    let mut forged = Forged::take_apart(&registry.inner, arm).await;
    forged.layers[2].set(tar(&[("arm", 0o644, b"4")]));
    let child = forged.seal(&registry.inner).await;
    index["manifests"][1]["digest"] = json!(child.digest);
    index["manifests"][1]["size"] = json!(child.size);
    let bytes = bytes::Bytes::from(serde_json_canonicalizer::to_vec(&index).expect("JSON"));
    let forgery = Descriptor::of_bytes(media_type::INDEX, &bytes);
    registry
        .inner
        .push_content(&forgery, PushContent::Bytes(&bytes))
        .await
        .expect("pushed");
    let (reason, message) = refusal(&registry, &forgery.digest, &inputs).await;
    assert!(
        reason == Reason::LockMismatch && message.starts_with("layer 2 of linux/arm64: "),
        "{message}"
    );
    registry.assert_untouched(&forgery.digest).await;
    let done = run(&registry, &packed.root.digest, &inputs, Some(&signer()))
        .await
        .expect("genuine");
    assert_eq!(done.size, packed.size);
}

#[tokio::test]
async fn a_changed_byte_in_any_layer_is_found() {
    for (format, compression) in [
        (BundleFormat::Image, LayerCompression::None),
        (BundleFormat::Image, LayerCompression::Zstd),
        (BundleFormat::Artifact, LayerCompression::None),
    ] {
        let (mut registry, packed, inputs) = packed(
            &files(),
            PackOptions {
                format,
                compression,
                ..PackOptions::default()
            },
        )
        .await;
        let contents = open(&registry.inner, packed.root.digest)
            .await
            .expect("genuine");
        for layer in &contents.parts[0].layers {
            registry.changed = Some(layer.descriptor.digest);
            let (reason, message) = refusal(&registry, &packed.root.digest, &inputs).await;
            assert_eq!(
                reason,
                Reason::DigestMismatch,
                "{format:?} {compression:?}: {message}"
            );
        }
        registry.assert_untouched(&packed.root.digest).await;
        registry.changed = None;
        run(&registry, &packed.root.digest, &inputs, Some(&signer()))
            .await
            .expect("genuine");
    }
}

#[tokio::test]
async fn a_genuine_bundle_of_another_lock_or_with_other_choices_is_not_signed() {
    let (registry, packed, inputs) = packed(&files(), PackOptions::default()).await;
    let (other, _) = lock(&files()[..2], None);
    let annotated = PackOptions {
        annotations: [("a".to_owned(), "b".to_owned())].into(),
        ..PackOptions::default()
    };
    for other in [
        JobInputs {
            lock_digest: other.to_canonical().digest,
            ..inputs.clone()
        },
        JobInputs {
            output: PackOptions {
                format: BundleFormat::Artifact,
                ..PackOptions::default()
            },
            ..inputs.clone()
        },
        JobInputs {
            output: PackOptions {
                compression: LayerCompression::Zstd,
                ..PackOptions::default()
            },
            ..inputs.clone()
        },
        JobInputs {
            output: PackOptions {
                source_date_epoch: Some(0),
                ..PackOptions::default()
            },
            ..inputs.clone()
        },
        JobInputs {
            output: annotated,
            ..inputs.clone()
        },
    ] {
        let (reason, message) = refusal(&registry, &packed.root.digest, &other).await;
        assert_eq!(reason, Reason::LockMismatch, "{message}");
        registry.assert_untouched(&packed.root.digest).await;
    }
    let absent = refusal(&registry, &Digest::of_bytes(b"nothing"), &inputs)
        .await
        .0;
    assert_eq!(absent, Reason::SourceNotFound);
}

#[tokio::test]
async fn a_tag_that_names_something_else_is_not_taken_unless_it_may_move() {
    let (registry, packed, inputs) = packed(&files(), PackOptions::default()).await;
    let (digest, tag) = (packed.root.digest, TAG.parse::<ImageTag>().expect("a tag"));
    let mut forged = Forged::take_apart(&registry.inner, digest).await;
    forged.manifest["annotations"]["a"] = "b".into();
    let other = forged.seal(&registry.inner).await;
    registry
        .inner
        .tag_manifest(&other, &tag)
        .await
        .expect("tagged");
    let (reason, message) = refusal(&registry, &digest, &inputs).await;
    assert_eq!(reason, Reason::TagConflict);
    for part in [
        &digest.to_string(),
        &other.digest.to_string(),
        "tagPolicy: Mutable",
        "another tag",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(
        (registry.tag().await, registry.referrers_of(&digest).await),
        (Some(other.digest), 0)
    );
    let mutable = JobInputs {
        destination: JobDestination {
            tag_policy: JobTagPolicy::Mutable,
            ..inputs.destination.clone()
        },
        ..inputs
    };
    run(&registry, &digest, &mutable, Some(&signer()))
        .await
        .expect("it may move");
    assert_eq!(registry.tag().await, Some(digest));
}

#[tokio::test]
async fn a_tag_that_the_registry_does_not_tell_is_not_absent() {
    let (mut registry, packed, inputs) = packed(&files(), PackOptions::default()).await;
    registry.refuses_tags = true;
    assert_eq!(
        refusal(&registry, &packed.root.digest, &inputs).await.0,
        Reason::RegistryDenied
    );
    registry.assert_untouched(&packed.root.digest).await;
}

#[tokio::test]
async fn what_the_registry_does_not_show_is_not_tagged() {
    let (mut registry, packed, inputs) = packed(&files(), PackOptions::default()).await;
    registry.forgets_referrers = true;
    let (reason, message) = refusal(&registry, &packed.root.digest, &inputs).await;
    assert!(
        reason == Reason::NoSignatures && message.contains("is not admitted"),
        "{reason}: {message}"
    );
    assert_eq!(registry.tag().await, None);
}

#[tokio::test]
async fn a_tag_that_moved_while_it_was_set_is_told() {
    let (mut registry, packed, inputs) = packed(&files(), PackOptions::default()).await;
    let mut forged = Forged::take_apart(&registry.inner, packed.root.digest).await;
    forged.manifest["annotations"]["a"] = "b".into();
    registry.moves_tags = Some(forged.seal(&registry.inner).await);
    let (reason, message) = refusal(&registry, &packed.root.digest, &inputs).await;
    assert!(
        reason == Reason::TagConflict && message.contains("two writers"),
        "{reason}: {message}"
    );
}

#[tokio::test]
async fn a_bundle_without_a_tag_is_known_by_its_digest() {
    let (registry, packed, inputs) = packed(
        &files(),
        PackOptions {
            compression: LayerCompression::Zstd,
            ..PackOptions::default()
        },
    )
    .await;
    let inputs = JobInputs {
        destination: JobDestination {
            tag: None,
            ..inputs.destination.clone()
        },
        ..inputs
    };
    let done = run(&registry, &packed.root.digest, &inputs, Some(&signer()))
        .await
        .expect("endorsed");
    assert_eq!(
        (
            registry.tag().await,
            registry.referrers_of(&packed.root.digest).await
        ),
        (None, 2)
    );
    // The compressor is the packing side's claim.
    let statement = statement(&registry, &done.evidence[1].digest).await;
    let definition = &statement["predicate"]["buildDefinition"];
    assert_eq!(definition["externalParameters"]["compression"], "Zstd");
    assert_eq!(
        definition["internalParameters"]
            .as_object()
            .expect("an object")
            .len(),
        3
    );
}
