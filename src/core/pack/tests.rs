//! Planned tars are valid for other readers, and locks are found again in layers.

use std::{collections::BTreeMap, io::Read};

use proptest::{collection, prelude::*};

use super::*;
use crate::core::{bundle_path::BundlePath, limits::InputLimits, lockfile::CanonicalLock};

/// A segment of a path: mostly short, sometimes as long as USTAR's fields, sometimes not ASCII.
fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "[a-zA-Z0-9_ .+-]{1,12}",
        2 => "[a-z]{95,110}",
        1 => "[a-z]{150,160}",
        2 => "[äß日本🦀e\u{301} a]{1,40}",
    ]
    .prop_map(|text| {
        if matches!(text.as_str(), "." | "..") {
            "dots".to_owned()
        } else {
            text
        }
    })
}

/// Valid paths with modes and contents, none inside of another.
fn files(
    count: impl Into<collection::SizeRange>,
) -> impl Strategy<Value = BTreeMap<String, (u32, Vec<u8>)>> {
    let size = prop_oneof![
        Just(0),
        Just(1),
        Just(511),
        Just(512),
        Just(513),
        0..2_000_usize
    ];
    let content = (size, any::<u8>()).prop_map(|(size, byte)| vec![byte; size]);
    let file = (
        collection::vec(segment(), 1..8),
        prop_oneof![Just(0o644), Just(0o755)],
        content,
    );
    collection::vec(file, count).prop_map(|list| {
        let mut files: BTreeMap<String, (u32, Vec<u8>)> = BTreeMap::new();
        for (segments, mode, content) in list {
            let Ok(path) = segments.join("/").parse::<BundlePath>() else {
                continue;
            };
            let clashes = |other: &String| {
                other
                    .parse::<BundlePath>()
                    .is_ok_and(|other| other.contains(&path) || path.contains(&other))
            };
            if !files.keys().any(clashes) {
                files.insert(path.to_string(), (mode, content));
            }
        }
        files
    })
}

fn render(files: &BTreeMap<String, (u32, Vec<u8>)>) -> Vec<u8> {
    // In another order than sorted.
    let files = files.iter().rev().map(|(path, (mode, content))| TarFile {
        path: path.clone(),
        mode: *mode,
        size: content.len() as u64,
        content: content.clone(),
    });
    let pieces = plan_tar_segments(files)
        .into_iter()
        .map(|segment| match segment {
            TarSegment::Literal(bytes) | TarSegment::Content { content: bytes, .. } => bytes,
        });
    pieces.collect::<Vec<_>>().concat()
}

/// Everything that the `tar` crate sees: name, mode and content, where a folder has none.
fn read(tar: &[u8]) -> Vec<(String, u32, Option<Vec<u8>>)> {
    let mut archive = ::tar::Archive::new(tar);
    let entries = archive.entries().expect("a tar").map(|entry| {
        let mut entry = entry.expect("an entry");
        let header = entry.header();
        let zeros = (
            header.uid().expect("uid"),
            header.gid().expect("gid"),
            header.mtime().expect("mtime"),
        );
        assert_eq!(zeros, (0, 0, 0));
        assert_eq!(
            (header.username_bytes(), header.groupname_bytes()),
            (Some(b"".as_slice()), Some(b"".as_slice()))
        );
        let (mode, is_folder) = (header.mode().expect("a mode"), header.entry_type().is_dir());
        assert!(is_folder || header.entry_type().is_file());
        let name = String::from_utf8(entry.path_bytes().into_owned()).expect("UTF-8");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("content");
        (name, mode, (!is_folder).then_some(content))
    });
    entries.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_tar_crate_reads_what_was_planned(files in files(0..40)) {
        let tar = render(&files);
        let found = read(&tar);
        let mut expected: BTreeMap<String, (u32, Option<Vec<u8>>)> = BTreeMap::new();
        for (path, (mode, content)) in &files {
            expected.extend(path.match_indices('/').map(|(at, _)| (path[..=at].to_owned(), (0o755, None))));
            expected.insert(path.clone(), (*mode, Some(content.clone())));
        }
        // Sorted by name, every folder once and before what is in it.
        let expected: Vec<_> = expected.into_iter().map(|(name, (mode, content))| (name, mode, content)).collect();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(tar.len() % 512, 0);
        let planned = plan_tar_segments(files.iter().map(|(path, (mode, content))| TarFile { path: path.clone(), mode: *mode, size: content.len() as u64, content: () }));
        prop_assert_eq!(total_segment_bytes(&planned), tar.len() as u64);
    }

    #[test]
    fn our_own_reader_of_headers_agrees(files in files(1..8)) {
        use crate::core::unpack::tar::{BLOCK, TarHeader, PendingTarMetadata};
        let tar = render(&files);
        let (mut at, mut pending, mut names) = (0, PendingTarMetadata::default(), Vec::new());
        while let Some(header) = TarHeader::parse(tar[at..at + BLOCK].try_into().expect("a block")).expect("a header") {
            let size = usize::try_from(header.size).expect("small");
            let content = &tar[at + BLOCK..at + BLOCK + size];
            if header.kind.is_metadata() {
                pending.apply_metadata(header.kind, content).expect("metadata");
            } else {
                names.push(String::from_utf8(pending.apply_to_header(header).expect("applied").name).expect("UTF-8"));
            }
            at += BLOCK + size.next_multiple_of(BLOCK);
        }
        prop_assert_eq!(names, read(&tar).into_iter().map(|(name, ..)| name).collect::<Vec<_>>());
        prop_assert_eq!(tar.len() - at, 2 * BLOCK);
    }

    #[test]
    fn a_lock_is_found_in_its_layer_and_in_no_other(bytes in collection::vec(any::<u8>(), 0..3_000), at in any::<prop::sample::Index>(), with in 1..=255_u8) {
        let lock = CanonicalLock { digest: Digest::of_bytes(&bytes), bytes };
        let documents = image_documents(&lock, &PackOptions::default(), None, &[]).expect("documents");
        let layer = documents.lock.1;
        prop_assert_eq!(read(&layer).len(), 2);
        prop_assert_eq!(read_lock_from_layer(&layer), Ok(lock.bytes.clone()));
        let mut changed = layer.to_vec();
        let at = at.index(changed.len());
        changed[at] ^= with;
        // Only the lock itself may be another one.
        let inside = (1_024..1_024 + lock.bytes.len()).contains(&at);
        prop_assert_eq!(read_lock_from_layer(&changed).is_ok(), inside);
        for cut in [0, 511, 1_023, 1_024, layer.len() - 1] {
            prop_assert_eq!(read_lock_from_layer(&layer[..cut]), Err(BundleFormatError::Layer));
        }
        prop_assert_eq!(read_lock_from_layer(&[&layer[..], &[0; 512]].concat()), Err(BundleFormatError::Layer));
    }

    #[test]
    fn no_bytes_make_the_readers_panic(bytes in collection::vec(any::<u8>(), 0..2_000)) {
        let _ = read_lock_from_layer(&bytes);
        let _ = created_of(&bytes);
    }
}

fn created_of(config: &[u8]) -> Result<PackOptions, BundleFormatError> {
    let lock = CanonicalLock {
        bytes: b"{}".to_vec(),
        digest: Digest::of_bytes(b"{}"),
    };
    let documents = image_documents(&lock, &PackOptions::default(), None, &[]).expect("documents");
    let manifest = serde_json::from_slice(&documents.manifest.1).expect("a manifest");
    read_pack_options(&manifest, config, &InputLimits::DEFAULT)
}

#[test]
fn what_a_bundle_was_packed_with_is_read_back() {
    for (config, expected) in [
        (
            r#"{"created":"2023-11-14T22:13:20Z"}"#,
            Some(Some(1_700_000_000)),
        ),
        ("{}", Some(None)),
        (r#"{"created":null}"#, Some(None)),
        (r#"{"created":"yesterday"}"#, None),
        (r#"{"created":1}"#, None),
        (
            r#"{"created":"2023-11-14T22:13:20Z","created":"2023-11-14T22:13:20Z"}"#,
            None,
        ),
        ("", None),
    ] {
        assert_eq!(
            created_of(config.as_bytes())
                .ok()
                .map(|output| output.source_date_epoch),
            expected,
            "{config}"
        );
    }
}

#[test]
fn sizes_that_no_tar_has_do_not_overflow() {
    let files = [u64::MAX, u64::MAX - 1]
        .into_iter()
        .enumerate()
        .map(|(n, size)| TarFile {
            path: n.to_string(),
            mode: 0o644,
            size,
            content: (),
        });
    assert_eq!(total_segment_bytes(&plan_tar_segments(files)), u64::MAX);
}

#[test]
fn deep_paths_have_each_folder_once() {
    let deep = |name: &str| format!("{}{name}", "d/".repeat(500));
    let files = ["a", "b"]
        .map(|name| (deep(name), (0o644, Vec::new())))
        .into();
    assert_eq!(read(&render(&files)).len(), 502);
}
