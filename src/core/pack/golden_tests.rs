//! The digests of pack format 1, frozen. `tests/data/pack-format-1/golden.py` computed them from
//! the specification alone: it writes tar headers, JCS and the distribution of files over layers by
//! itself, and prints the same names and digests.

use super::*;
use crate::core::{
    digest::DigestHasher,
    limits::InputLimits,
    lockfile::{BundleFileMode, LockedEntrypoint, LockfileGeneration, OriginType},
    oci::Annotations,
    reason::{ClassifiedError, Reason},
};

const GOLDEN: &[(&str, &str)] = &[
    (
        "image-5",
        "sha256:4d550d0bd86f3042762e566849d190530a918163142ac7eb6fb4d69f0a57248e",
    ),
    (
        "image-63",
        "sha256:1622403808384189de3ecc8745dfb4b297440ce154b922abedb5001916b5ecce",
    ),
    (
        "image-64",
        "sha256:a955e3dc54391e6f02e8388cf679b341b7846f8b3599e57805be074a292a84b7",
    ),
    (
        "image-130",
        "sha256:48b85300d9d15301fa89f85ae7bb6827ef458ebed4fae673a4f6ebae4ba41438",
    ),
    (
        "image-chosen",
        "sha256:ba3d62371711fb18e676e7cc98a16f2b4b0f7d843ea6a37d70ad5ddbe837947a",
    ),
    (
        "artifact",
        "sha256:97bd61ee8ade3bdfa8bbebe1de8c72f5729aecf45a85a678e268c3a38b08b032",
    ),
    (
        "index",
        "sha256:c8a1d9fcd04b5e4e32584d1c362bd1d567e1253fa068838e7252b79415a1dfa0",
    ),
];

/// Short, in a folder, split between prefix and name, not ASCII, and too long for one name.
fn file_path(i: usize) -> String {
    match i % 5 {
        0 => format!("opt/f{i}"),
        1 => format!("opt/d{}/f{i}", i % 3),
        2 => format!("{}/{}/f{i}", "l".repeat(90), "m".repeat(60)),
        3 => format!("ünï/日本/{i}"),
        _ => format!("{}{i}", "p".repeat(101)),
    }
}

fn file_content(i: usize) -> Vec<u8> {
    vec![u8::try_from(i % 251).expect("a byte"); i * 37 % 1_500]
}

pub(super) fn test_artifact(i: usize, platforms: &[&str]) -> LockedArtifact {
    let content = file_content(i);
    LockedArtifact {
        name: format!("n{i}"),
        origin_type: OriginType::File,
        origin: format!("files/{i}"),
        signed_origin: None,
        target: file_path(i).parse().expect("a path"),
        checksum: Digest::of_bytes(&content),
        size: content.len() as u64,
        mode: if i.is_multiple_of(3) {
            BundleFileMode::Executable
        } else {
            BundleFileMode::Plain
        },
        unpack: None,
        oci: None,
        platforms: platforms
            .iter()
            .map(|platform| platform.parse().expect("a platform"))
            .collect(),
    }
}

pub(super) fn test_lock(
    artifacts: Vec<LockedArtifact>,
    entrypoint: Option<LockedEntrypoint>,
) -> Lockfile {
    let (name, version) = (Some("golden".into()), Some("1.40".into()));
    Lockfile {
        generation: LockfileGeneration::Packgate,
        name,
        version,
        entrypoint,
        artifacts,
        layers: Vec::new(),
    }
    .into_checked(&InputLimits::DEFAULT)
    .expect("valid")
}

const SCRIPT: &[u8] = b"#!/bin/sh\n";

fn diff_id(layer: &LayerPlan) -> Digest {
    let mut hasher = DigestHasher::new();
    for segment in layer.tar_segments() {
        match segment {
            TarSegment::Literal(bytes) => hasher.update(&bytes),
            TarSegment::Content { content: file, .. } if file.item == LockItem::Entrypoint => {
                hasher.update(SCRIPT);
            }
            TarSegment::Content { content: file, .. } => {
                let i = (0..130)
                    .find(|i| file_path(*i) == file.path.as_str())
                    .expect("one of ours");
                hasher.update(&file_content(i));
            }
        }
    }
    hasher.finish()
}

fn bundle_digest(lock: &Lockfile, output: PackOptions) -> String {
    let plan = PackPlan::new(lock, output).expect("a plan");
    let pack = |manifest: ManifestPlan| {
        let blob = |layer: &LayerPlan| {
            LayerBlob::uncompressed_layer(
                diff_id(layer),
                total_segment_bytes(&layer.tar_segments()),
            )
        };
        let blobs: Vec<LayerBlob> = manifest.layers.iter().map(blob).collect();
        plan.build_documents(&manifest, &blobs)
            .expect("documents")
            .manifest
            .0
    };
    let manifests: Vec<Descriptor> = plan.manifest_plans().map(pack).collect();
    plan.bundle_digest_and_index(&manifests)
        .expect("a digest")
        .0
        .to_string()
}

fn compute_golden(name: &str) -> String {
    let plain = |count: usize| test_lock((0..count).map(|i| test_artifact(i, &[])).collect(), None);
    match name {
        "image-chosen" => {
            let annotations = Annotations::from([("a".to_owned(), "b \"ü\"".to_owned())]);
            bundle_digest(
                &plain(5),
                PackOptions {
                    source_date_epoch: Some(1_700_000_000),
                    annotations,
                    ..PackOptions::default()
                },
            )
        }
        "artifact" => bundle_digest(
            &plain(5),
            PackOptions {
                format: BundleFormat::Artifact,
                source_date_epoch: Some(0),
                ..PackOptions::default()
            },
        ),
        "index" => {
            let (amd64, arm64) = ("linux/amd64", "linux/arm64/v8");
            let artifacts = vec![
                test_artifact(0, &[]),
                test_artifact(1, &[amd64]),
                test_artifact(2, &[arm64, amd64]),
                test_artifact(3, &[arm64]),
            ];
            let (script, target) = ("files/run.sh".to_owned(), "run.sh".parse().expect("a path"));
            let (checksum, size) = (Digest::of_bytes(SCRIPT), SCRIPT.len() as u64);
            bundle_digest(
                &test_lock(
                    artifacts,
                    Some(LockedEntrypoint {
                        script,
                        target,
                        mode: BundleFileMode::Executable,
                        checksum,
                        size,
                    }),
                ),
                PackOptions::default(),
            )
        }
        image => bundle_digest(
            &plain(
                image
                    .strip_prefix("image-")
                    .and_then(|count| count.parse().ok())
                    .expect("a count"),
            ),
            PackOptions::default(),
        ),
    }
}

#[test]
fn the_digests_of_pack_format_1_are_what_the_specification_gives() {
    for (name, golden) in GOLDEN {
        assert_eq!(compute_golden(name), *golden, "{name}");
    }
}

#[test]
fn files_are_spread_over_layers_as_specified() {
    for (count, lengths) in [
        (1, vec![1]),
        (63, vec![1; 63]),
        (64, [vec![2], vec![1; 62]].concat()),
        (130, [vec![3; 4], vec![2; 59]].concat()),
    ] {
        let plan = PackPlan::new(
            &test_lock((0..count).map(|i| test_artifact(i, &[])).collect(), None),
            PackOptions::default(),
        )
        .expect("a plan");
        let layers = plan.manifest_plan_at(0).expect("a manifest").layers;
        assert_eq!(
            layers
                .iter()
                .map(|layer| layer.files.len())
                .collect::<Vec<_>>(),
            lengths,
            "{count}"
        );
        let order: Vec<LockItem> = layers
            .iter()
            .flat_map(|layer| &layer.files)
            .map(|file| file.item)
            .collect();
        assert_eq!(
            order,
            (0..count).map(LockItem::Artifact).collect::<Vec<_>>(),
            "{count}"
        );
    }
}

#[test]
fn a_document_that_nobody_would_read_is_refused() {
    let annotations = Annotations::from([(
        "a".to_owned(),
        "x".repeat(InputLimits::DEFAULT.manifest_bytes),
    )]);
    let lock = test_lock(vec![test_artifact(1, &[])], None);
    let plan = PackPlan::new(
        &lock,
        PackOptions {
            format: BundleFormat::Artifact,
            annotations,
            ..PackOptions::default()
        },
    )
    .expect("a plan");
    assert!(matches!(
        plan.predict_digest(),
        Err(PackError::TooLarge { .. })
    ));
    assert_eq!(
        plan.predict_digest().expect_err("too large").reason(),
        Reason::InvalidSpec
    );
}
