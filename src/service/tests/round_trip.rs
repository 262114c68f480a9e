//! A packed lock is unpacked without a change.

use proptest::{collection, option, prelude::*};

use super::*;
use crate::core::{
    bundle_path::BundlePath,
    oci::{Annotations, ManifestOrIndex},
    pack::{BundleFormat, LayerCompression, PackPlan},
    policy::{AppliedExemption, Clearance},
};

const PLATFORMS: [&str; 3] = ["linux/amd64", "linux/arm64", "linux/arm64/v8"];

fn segment() -> impl Strategy<Value = String> {
    prop_oneof![8 => "[a-zA-Z0-9_ .+-]{1,10}", 1 => "[a-z]{99,120}", 1 => "[äß日本🦀]{1,20}"]
        .prop_map(|text| {
            if matches!(text.as_str(), "." | "..") {
                "dots".to_owned()
            } else {
                text
            }
        })
}

fn file(
    platforms: bool,
) -> impl Strategy<Value = (String, Vec<u8>, BundleFileMode, Vec<Platform>)> {
    let content = (prop_oneof![Just(0), Just(512), 0..1_500_usize], any::<u8>())
        .prop_map(|(size, byte)| vec![byte; size]);
    let mode = prop_oneof![
        Just(BundleFileMode::Plain),
        Just(BundleFileMode::Executable)
    ];
    let most = if platforms { 3 } else { 1 };
    let platforms =
        collection::btree_set(prop::sample::select(&PLATFORMS[..]), 0..most).prop_map(|set| {
            set.into_iter()
                .map(|platform| platform.parse().expect("a platform"))
                .collect()
        });
    (
        collection::vec(segment(), 1..5).prop_map(|segments| segments.join("/")),
        content,
        mode,
        platforms,
    )
}

/// Files that can be in one lock: none below another, none at the entrypoint's path.
fn files(count: std::ops::Range<usize>, platforms: bool) -> impl Strategy<Value = Vec<File>> {
    collection::vec(file(platforms), count).prop_map(|list| {
        let mut files: Vec<File> = vec![File::new("always", b"there")];
        for (path, content, mode, platforms) in list {
            let Ok(clean) = path.parse::<BundlePath>() else {
                continue;
            };
            let clashes = |other: &BundlePath| {
                *other == clean || other.contains(&clean) || clean.contains(other)
            };
            let taken = files
                .iter()
                .map(|file| file.path.parse().expect("a path"))
                .chain(["run.sh".parse().expect("a path")]);
            if !taken.collect::<Vec<BundlePath>>().iter().any(clashes) {
                files.push(File {
                    path: clean.to_string(),
                    content,
                    mode,
                    platforms,
                });
            }
        }
        files
    })
}

fn output(platforms: bool) -> impl Strategy<Value = PackOptions> {
    let shape = if platforms {
        prop_oneof![
            Just((BundleFormat::Image, LayerCompression::None)),
            Just((BundleFormat::Image, LayerCompression::Zstd))
        ]
        .boxed()
    } else {
        let shapes = [
            (BundleFormat::Image, LayerCompression::None),
            (BundleFormat::Image, LayerCompression::Zstd),
            (BundleFormat::Artifact, LayerCompression::None),
        ];
        prop::sample::select(shapes.to_vec()).boxed()
    };
    let annotations = collection::btree_map("[a-z.]{1,20}", "\\PC{0,20}", 0..3)
        .prop_map(|map| map.into_iter().collect::<Annotations>());
    (shape, option::of(0..253_402_300_799_i64), annotations).prop_map(
        |((format, compression), source_date_epoch, annotations)| PackOptions {
            format,
            compression,
            source_date_epoch,
            annotations,
        },
    )
}

fn expected(files: &[File], entrypoint: Option<&[u8]>, platform: Option<&Platform>) -> Tree {
    let here = |file: &&File| {
        file.platforms.is_empty()
            || platform.is_some_and(|platform| file.platforms.contains(platform))
    };
    let files = files.iter().filter(here).map(|file| {
        (
            file.path.clone(),
            (file.mode.permission_bits(), file.content.clone()),
        )
    });
    files
        .chain(entrypoint.map(|content| ("run.sh".to_owned(), (0o755, content.to_vec()))))
        .collect()
}

async fn round_trip(files: &[File], entrypoint: Option<&[u8]>, output: PackOptions) {
    let (lock, origin) = lock(files, entrypoint);
    let (target, packed) = pack(&lock, origin.clone(), output.clone())
        .await
        .expect("packed");
    let contents = open(&target, packed.root.digest).await.expect("opened");
    assert_eq!((&contents.lock, &contents.plan.output), (&lock, &output));
    for part in &contents.parts {
        let platform = part.platform.clone();
        let selection = UnpackSelection {
            platform: platform.clone(),
            ..UnpackSelection::default()
        };
        assert_eq!(
            unpacked(&target, &contents, &selection)
                .await
                .expect("unpacked"),
            expected(files, entrypoint, platform.as_ref())
        );
        assert!(part.layers.len() <= 63 || output.format == BundleFormat::Artifact);
    }
    // Packed once more, it is the same as before and as predicted.
    let again = pack(&lock, origin, output.clone()).await.expect("packed").1;
    assert_eq!(again.root, packed.root);
    if output.format == BundleFormat::Artifact {
        assert_eq!(
            PackPlan::new(&lock, output)
                .expect("a plan")
                .predict_digest()
                .expect("predicted"),
            packed.root.digest
        );
    }
    let whole = target
        .resolve_manifest(
            &TagOrDigest::Digest(packed.root.digest),
            &InputLimits::DEFAULT,
        )
        .await
        .expect("there");
    let is_index = matches!(
        whole
            .parse_document(&InputLimits::DEFAULT)
            .expect("a document"),
        ManifestOrIndex::Index(_)
    );
    assert_eq!(
        is_index,
        files.iter().any(|file| !file.platforms.is_empty())
    );
}

fn run(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(work);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_is_packed_comes_out_again(files in files(0..40, false), entrypoint in option::of(collection::vec(any::<u8>(), 0..600)), output in output(false)) {
        run(round_trip(&files, entrypoint.as_deref(), output));
    }

    #[test]
    fn each_platform_gets_its_own(files in files(0..12, true), entrypoint in option::of(Just(b"#!/bin/sh\n".to_vec())), output in output(true)) {
        run(round_trip(&files, entrypoint.as_deref(), output));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 4, ..ProptestConfig::default() })]

    #[test]
    fn so_do_many_files(files in files(100..200, false), output in output(false)) {
        run(round_trip(&files, Some(b"x"), output));
    }
}

#[tokio::test]
async fn a_selection_reads_only_the_layers_that_it_needs() {
    let files = [
        File::new("a/one", b"1"),
        File::new("a/two", b"2"),
        File::new("b/empty", b""),
    ];
    for (format, compression) in [
        (BundleFormat::Image, LayerCompression::None),
        (BundleFormat::Image, LayerCompression::Zstd),
        (BundleFormat::Artifact, LayerCompression::None),
    ] {
        let (lock, origin) = lock(&files, None);
        let (whole, packed) = pack(
            &lock,
            origin,
            PackOptions {
                format,
                compression,
                ..PackOptions::default()
            },
        )
        .await
        .expect("packed");
        let contents = open(&whole, packed.root.digest).await.expect("opened");
        // Only the content of `b/empty` exists.
        let target = MemoryTarget::new();
        let layer = &contents.parts[0].layers[2].descriptor;
        crate::oci::ContentTarget::push_content(
            &target,
            layer,
            crate::oci::PushContent::StoredIn(&whole),
        )
        .await
        .expect("pushed");
        let select = |glob: &str| UnpackSelection {
            globs: vec![glob.parse().expect("a pattern")],
            platform: None,
        };
        let tree = unpacked(&target, &contents, &select("b/*"))
            .await
            .expect("unpacked");
        assert_eq!(
            tree,
            Tree::from([("b/empty".to_owned(), (0o644, Vec::new()))])
        );
        assert_eq!(
            unpacked(&target, &contents, &select("a/*"))
                .await
                .expect_err("missing")
                .reason(),
            Reason::SourceNotFound
        );
        assert_eq!(
            unpacked(&target, &contents, &select("c"))
                .await
                .expect_err("none")
                .reason(),
            Reason::InvalidSpec
        );
    }
}

#[tokio::test]
async fn a_platform_is_chosen_or_said() {
    let (arm, amd) = (
        File::new("arm", b"").on("linux/arm64"),
        File::new("amd", b"").on("linux/amd64"),
    );
    let selection = |platform: Option<&str>| UnpackSelection {
        platform: platform.map(|text| text.parse().expect("a platform")),
        ..UnpackSelection::default()
    };
    for (files, platform, expected) in [
        (vec![arm.clone(), amd.clone()], None, Ok(vec!["amd"])),
        (vec![arm.clone(), amd], Some("linux/arm64"), Ok(vec!["arm"])),
        (vec![arm.clone()], None, Ok(vec!["arm"])),
        (
            vec![arm.clone()],
            Some("linux/arm64/v8"),
            Err(Reason::InvalidSpec),
        ),
        (
            vec![arm, File::new("s390x", b"").on("linux/s390x")],
            None,
            Err(Reason::InvalidSpec),
        ),
        (
            vec![File::new("all", b"")],
            Some("linux/s390x"),
            Ok(vec!["all"]),
        ),
    ] {
        let (lock, origin) = lock(&files, None);
        let (target, packed) = pack(&lock, origin, PackOptions::default())
            .await
            .expect("packed");
        let contents = open(&target, packed.root.digest).await.expect("opened");
        let found = unpacked(&target, &contents, &selection(platform))
            .await
            .map_err(|e| e.reason());
        assert_eq!(
            found.map(|tree| tree.into_keys().collect()),
            expected.map(|names| names.into_iter().map(ToOwned::to_owned).collect::<Vec<_>>())
        );
    }
}

#[tokio::test]
async fn a_clearance_for_another_bundle_unpacks_nothing() {
    let (lock, origin) = lock(&[File::new("a", b"content")], None);
    let (target, packed) = pack(&lock, origin, PackOptions::default())
        .await
        .expect("packed");
    let root = packed.root.digest;
    let contents = open(&target, root).await.expect("opened");
    let unpack_with = async |cleared: Digest| {
        let clearance = Clearance::Exempted(AppliedExemption::for_test(cleared));
        let permission = UnpackPermission::Cleared(clearance);
        let all = UnpackSelection::default();
        unpacked_with(permission, &target, root, &contents, &all).await
    };
    assert_eq!(unpack_with(root).await.expect("unpacked").len(), 1);
    let another = Digest::of_bytes(b"another");
    let error = unpack_with(another).await.expect_err("refused");
    assert_eq!(error.reason(), Reason::Internal);
    assert_eq!(
        error.to_string(),
        format!("internal: {another} was verified, {root} was opened")
    );
}
