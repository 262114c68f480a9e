use std::collections::BTreeMap;

use jiff::Timestamp;

use super::*;
use crate::core::{digest::Digest, limits::InputLimits, lockfile::Lockfile, pack::PackOptions};

#[test]
fn credentials_of_origins_return_to_the_lock_that_they_were_taken_from() {
    let text = format!(
        "{{apiVersion: packgate.dev/v1alpha1, kind: Lockfile, artifacts: [{{name: a, type: http, \
            origin: 'https://f.example.com/a?sig=hunter2', target: a, checksum: '{}', size: 1}}]}}",
        Digest::of_bytes(b"")
    );
    let lock = Lockfile::parse(text.as_bytes(), &InputLimits::DEFAULT).expect("a lock");
    let canonical = lock.to_canonical();
    let inputs = |name: &str, signed: &str| JobInputs {
        signed_origins: BTreeMap::from([(
            name.to_owned(),
            serde_json::from_value(signed.into()).expect("text"),
        )]),
        lock_digest: canonical.digest,
        ..example()
    };
    let signed = "https://f.example.com/a?sig=hunter2";
    let written = serde_json::to_vec(&inputs("a", signed)).expect("JSON");
    let read = JobInputs::parse(&written).expect("its own form");
    assert_eq!(read.parse_lock(&canonical.bytes).expect("the lock"), lock);
    assert!(!format!("{read:?}").contains("hunter2"), "it prints");
    for (name, signed) in [
        ("a", "https://f.example.com/b?sig=hunter2"),
        ("a", "https://f.example.com/a"),
        ("b", "https://f.example.com/a?sig=hunter2"),
    ] {
        let error = inputs(name, signed)
            .parse_lock(&canonical.bytes)
            .expect_err(signed);
        assert!(matches!(error, JobInputsError::SignedOrigin(_)), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

fn example() -> JobInputs {
    let lock_digest = Digest::of_bytes(b"lock");
    JobInputs {
        v: INPUTS_VERSION,
        run: JobRunKey::new("u-1", 1, &lock_digest),
        bundle: PackedBundleIdentity {
            namespace: "team-a".into(),
            name: "siem".into(),
            uid: "u-1".into(),
            generation: 1,
        },
        cluster: "c-1".into(),
        started_on: Timestamp::UNIX_EPOCH,
        source: JobLockSource {
            uri: "k8s://team-a/configmaps/siem-lock".into(),
            context: None,
            lock_path: None,
        },
        lock_digest,
        layers: Vec::new(),
        signed_origins: BTreeMap::new(),
        output: PackOptions::default(),
        destination: JobDestination {
            repository: "r.example.com/a".into(),
            tag: None,
            tag_policy: JobTagPolicy::Immutable,
        },
        registries: Vec::new(),
        private_networks: Vec::new(),
        registry_networks: Vec::new(),
        fetch_ca: None,
        fetch: JobFetch::default(),
        signing: JobSigning {
            mode: JobSigningMode::None,
            builder_id: String::new(),
        },
        sbom: None,
        packer: None,
    }
}

#[test]
fn a_run_is_named_by_object_generation_and_lock() {
    let lock = Digest::of_bytes(b"lock");
    let key = JobRunKey::new("u-1", 3, &lock);
    assert_eq!(
        key.as_str(),
        &Digest::of_bytes(format!("u-1/3/{lock}").as_bytes()).hex_digits()[..16]
    );
    assert_eq!(key, JobRunKey::new("u-1", 3, &lock));
    for other in [
        JobRunKey::new("u-2", 3, &lock),
        JobRunKey::new("u-1", 4, &lock),
        JobRunKey::new("u-1", 3, &Digest::of_bytes(b"other")),
    ] {
        assert_ne!(key, other);
    }
    assert_eq!(key.sign_job_name(), format!("packgate-{key}-sign"));
}
