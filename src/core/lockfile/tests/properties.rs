use proptest::{collection, option, prelude::*};

use super::*;
use crate::core::{
    bundle_path::BundlePath, digest::Digest, display_text::is_invisible, oci::Platform,
};

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 4]>().prop_map(|seed| Digest::of_bytes(&seed))
}

fn platform() -> impl Strategy<Value = Platform> {
    "(linux|windows)/(amd64|arm64|arm/v7)".prop_map(|text| text.parse().expect("valid"))
}

/// A target in a folder of its own, so that none is below another.
fn target(index: usize) -> impl Strategy<Value = BundlePath> {
    "[^\\p{Cc}/\\\\]{0,12}(/[^\\p{Cc}/\\\\]{1,12})?".prop_map(move |text| {
        format!("t{index}/{text}x")
            .replace("..", "_")
            .parse()
            .unwrap_or_else(|_| format!("t{index}/x").parse().expect("valid"))
    })
}

fn origin() -> impl Strategy<Value = (OriginType, String, Option<OciSelection>)> {
    let file = "[^\\p{Cc}:]{1,20}"
        .prop_map(|text| (OriginType::File, text.replace(is_invisible, "_"), None));
    let http = "https?://[a-z]{1,8}\\.example\\.com/[a-zA-Z0-9%?=&#.-]{0,20}"
        .prop_map(|text| (OriginType::Http, text, None));
    let selection = option::of(prop_oneof![
        platform().prop_map(OciSelection::Platform),
        digest().prop_map(OciSelection::Blob)
    ]);
    let oci = ("[a-z]{1,8}(:[a-z0-9][a-z0-9.]{0,4})?", digest(), selection).prop_map(
        |(name, digest, selection)| {
            (
                OriginType::Oci,
                format!("oci://r.example.com/{name}@{digest}"),
                selection,
            )
        },
    );
    prop_oneof![file, http, oci]
}

fn unpack(index: usize) -> impl Strategy<Value = Option<UnpackSpec>> {
    let compression = prop_oneof![
        Just(ArchiveCompression::Gzip),
        Just(ArchiveCompression::Bzip2),
        Just(ArchiveCompression::Zip)
    ];
    option::of(
        (option::of(compression), option::of(target(index)))
            .prop_map(|(compression, path)| UnpackSpec { compression, path }),
    )
}

fn artifact(index: usize) -> impl Strategy<Value = LockedArtifact> {
    let mode = prop_oneof![
        Just(BundleFileMode::Plain),
        Just(BundleFileMode::Executable)
    ];
    let platforms =
        collection::btree_set(platform(), 0..3).prop_map(|set| set.into_iter().collect());
    (
        (origin(), target(index)),
        digest(),
        0..1_u64 << 40,
        mode,
        unpack(index),
        platforms,
    )
        .prop_map(
            move |(
                ((origin_type, origin, oci), target),
                checksum,
                size,
                mode,
                unpack,
                platforms,
            )| LockedArtifact {
                name: format!("n.{index}"),
                origin_type,
                origin,
                signed_origin: None,
                target,
                checksum,
                size,
                mode,
                unpack,
                oci,
                platforms,
            },
        )
}

fn entrypoint() -> impl Strategy<Value = LockedEntrypoint> {
    (
        "([a-z .]{1,8}/)?[a-z0-9 #:'\"-]{0,8}s",
        digest(),
        0..1_u64 << 40,
    )
        .prop_map(|(script, checksum, size)| {
            let target = script
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .parse()
                .expect("valid");
            LockedEntrypoint {
                script,
                target,
                mode: BundleFileMode::Executable,
                checksum,
                size,
            }
        })
}

/// One layer for everything, where there are no platforms.
fn with_layer(mut lock: Lockfile, diff_id: Option<Digest>) -> Lockfile {
    if lock
        .artifacts
        .iter()
        .all(|artifact| artifact.platforms.is_empty())
    {
        let artifacts = lock.artifacts.len() + usize::from(lock.entrypoint.is_some());
        lock.layers = diff_id
            .map(|diff_id| RecordedLayer {
                artifacts,
                diff_id,
                size: 1_024,
                platform: None,
            })
            .into_iter()
            .collect();
    }
    lock
}

fn lock() -> impl Strategy<Value = Lockfile> {
    let artifacts =
        (1..6_usize).prop_flat_map(|count| (0..count).map(artifact).collect::<Vec<_>>());
    let titles = (
        option::of("[a-zA-Z0-9._-]{1,20}"),
        option::of("[^\\p{Cc}]{1,20}".prop_map(|text| text.replace(is_invisible, "_"))),
    );
    (
        titles,
        option::of(entrypoint()),
        artifacts,
        option::of(digest()),
    )
        .prop_map(|((name, version), entrypoint, artifacts, diff_id)| {
            let generation = LockfileGeneration::Packgate;
            with_layer(
                Lockfile {
                    generation,
                    name,
                    version,
                    entrypoint,
                    artifacts,
                    layers: Vec::new(),
                },
                diff_id,
            )
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn yaml_that_is_written_is_read_back(lock in lock()) {
        let yaml = lock.to_yaml();
        prop_assert_eq!(parse(&yaml), Ok(lock), "{}", yaml);
    }

    #[test]
    fn canonical_bytes_are_jcs_and_are_read_back(lock in lock()) {
        let canonical = lock.to_canonical();
        let value: serde_json::Value = serde_json::from_slice(&canonical.bytes).expect("JSON");
        prop_assert_eq!(&serde_json_canonicalizer::to_vec(&value).expect("JCS"), &canonical.bytes);
        let read = Lockfile::from_canonical(&canonical.bytes, &InputLimits::DEFAULT).expect("canonical");
        prop_assert_eq!(&read, &Lockfile { layers: Vec::new(), ..lock });
        prop_assert_eq!(read.to_canonical(), canonical);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in collection::vec(any::<u8>(), 0..400)) {
        let _ = LockInput::parse(&bytes, &InputLimits::DEFAULT);
        let _ = Lockfile::parse(&bytes, &InputLimits::DEFAULT);
        let _ = Lockfile::from_canonical(&bytes, &InputLimits::DEFAULT);
    }

    #[test]
    fn no_yaml_makes_the_parser_panic(text in "([ \\n:{}\\[\\],&*!|>'\"#%@`?a-c0-9-]|: |- \
        |\\{\\{|\\}\\}|---\\n){0,200}") {
        let _ = Lockfile::parse(text.as_bytes(), &InputLimits::DEFAULT);
        let _ = LockManifest::parse(text.as_bytes(), &InputLimits::DEFAULT);
    }

    #[test]
    fn no_damage_makes_the_parser_panic(base in 0..3_usize, at in 0..3_000_usize, with in "\\PC{0,6}", length in 0..20_usize) {
        let mut text: Vec<char> = [FULL, SMALL, CONDUIT][base].chars().collect();
        let start = at % text.len();
        let end = (start + length).min(text.len());
        text.splice(start..end, with.chars());
        let text: String = text.into_iter().collect();
        if let Ok(lock) = parse(&text) {
            prop_assert_eq!(Lockfile { generation: lock.generation, ..parse(&lock.to_yaml()).expect("written") }, lock);
        }
    }
}
