use std::{
    collections::BTreeMap,
    io::{Cursor, Write},
    os::unix::fs::MetadataExt,
};

use ::zip::{ZipWriter, write::SimpleFileOptions};
use bzip2::write::BzEncoder;
use flate2::write::GzEncoder;

use super::*;
use crate::core::{
    lockfile::ArchiveCompression,
    reason::{ClassifiedError, Reason},
};

const SMALL: InputLimits = InputLimits {
    unpack_entries: 20,
    unpack_bytes: 100_000,
    ..InputLimits::DEFAULT
};

/// A folder with a file that must not change; the destination is `out`.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(TempDir::new().expect("a folder"));
        fs::write(bench.0.path().join("canary"), "alive").expect("written");
        bench
    }

    fn destination(&self) -> PathBuf {
        self.0.path().join("out")
    }

    fn staging(&self) -> OutDirStaging {
        OutDirStaging::create(&self.destination()).expect("a staging folder")
    }

    /// Only the canary exists, and it is unchanged.
    fn assert_untouched(&self, what: &str) {
        assert_eq!(
            listing(self.0.path()),
            BTreeMap::from([("canary".into(), "alive".into())]),
            "{what}"
        );
    }
}

fn path(text: &str) -> BundlePath {
    text.parse().expect(text)
}

fn extraction(compression: ArchiveCompression, into: Option<&str>) -> ArchiveExtractionPlan {
    ArchiveExtractionPlan {
        archive: path("opt/archive"),
        compression,
        into: into.map(path),
    }
}

fn write(staging: &OutDirStaging, target: &str, content: &[u8]) {
    staging
        .write_file(&path(target), BundleFileMode::Plain)
        .expect(target)
        .write_all(content)
        .expect("written");
}

/// The contents of a folder: files, targets of links, and modes that are not the default.
fn listing(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)
            .expect("readable")
            .map(|entry| entry.expect("an entry").path())
        {
            let meta = entry.symlink_metadata().expect("metadata");
            let name = entry
                .strip_prefix(root)
                .expect("below")
                .display()
                .to_string();
            if meta.is_symlink() {
                found.insert(
                    name,
                    format!("-> {}", fs::read_link(&entry).expect("a link").display()),
                );
            } else if meta.is_dir() {
                assert_eq!(meta.mode() & 0o7777, 0o755, "{name}");
                folders.push(entry);
            } else {
                let mode = if meta.mode() & 0o7777 == 0o644 {
                    String::new()
                } else {
                    format!("{:o} ", meta.mode() & 0o7777)
                };
                found.insert(
                    name,
                    mode + &String::from_utf8_lossy(&fs::read(&entry).expect("readable")),
                );
            }
        }
    }
    found
}

// --- The staging folder

#[test]
fn a_committed_folder_is_what_was_written() {
    let bench = Bench::new();
    fs::create_dir(bench.destination()).expect("an empty folder is fine");
    let staging = bench.staging();
    write(&staging, "a/b/plain", b"1");
    staging
        .write_file(&path("a/run"), BundleFileMode::Executable)
        .expect("created")
        .write_all(b"2")
        .expect("written");
    assert!(
        fs::read_dir(bench.destination())
            .expect("still there")
            .next()
            .is_none(),
        "nothing is visible before the end"
    );
    staging.commit_folder().expect("committed");
    assert_eq!(
        listing(&bench.destination()),
        BTreeMap::from([
            ("a/b/plain".into(), "1".into()),
            ("a/run".into(), "755 2".into())
        ])
    );
    assert_eq!(
        fs::metadata(bench.destination()).expect("metadata").mode() & 0o7777,
        0o755
    );
    assert_eq!(
        fs::read_dir(bench.0.path()).expect("readable").count(),
        2,
        "no staging folder is left"
    );
}

#[test]
fn an_abandoned_folder_leaves_nothing() {
    let bench = Bench::new();
    let staging = bench.staging();
    write(&staging, "a/b", b"1");
    drop(staging);
    bench.assert_untouched("dropped");
}

#[test]
fn destinations_that_are_taken_are_refused() {
    let bench = Bench::new();
    let below = |name: &str| bench.0.path().join(name);
    fs::create_dir(below("empty")).expect("made");
    fs::create_dir(below("full")).expect("made");
    fs::write(below("full/x"), "").expect("written");
    std::os::unix::fs::symlink("empty", below("link")).expect("linked");
    for (destination, part) in [
        (below("full"), "is not empty"),
        (below("canary"), "is not a folder"),
        (below("link"), "is not a folder"),
        (below("canary/out"), "lies in a folder that does not exist"),
        (below("missing/out"), "lies in a folder that does not exist"),
        (below(".."), "has no name"),
        (PathBuf::from("/"), "has no name"),
        (PathBuf::new(), "has no name"),
    ] {
        let error = OutDirStaging::create(&destination).expect_err(part);
        assert_eq!(error.reason(), Reason::InvalidSpec);
        assert!(error.to_string().contains(part), "{error}");
    }
    assert!(OutDirStaging::create(&below("empty")).is_ok());
}

#[test]
fn a_destination_that_appears_meanwhile_is_not_replaced() {
    let bench = Bench::new();
    let staging = bench.staging();
    fs::create_dir(bench.destination()).expect("made");
    fs::write(bench.destination().join("theirs"), "x").expect("written");
    assert_eq!(
        staging.commit_folder().expect_err("taken").reason(),
        Reason::InvalidSpec
    );
    assert_eq!(
        listing(bench.0.path()).into_keys().collect::<Vec<_>>(),
        ["canary", "out/theirs"]
    );
}

#[test]
fn no_name_is_written_twice() {
    let bench = Bench::new();
    let staging = bench.staging();
    write(&staging, "a/b", b"1");
    for (target, reason) in [
        ("a/b", Reason::InvalidLock),
        ("a/b/c", Reason::InvalidLock),
        ("a", Reason::InvalidLock),
    ] {
        assert_eq!(
            staging
                .write_file(&path(target), BundleFileMode::Plain)
                .expect_err(target)
                .reason(),
            reason,
            "{target}"
        );
    }
    // The longest name that a path may have fits.
    staging
        .write_file(&path(&"x".repeat(255)), BundleFileMode::Plain)
        .expect("written");
}

// --- Real archives

macro_rules! data {
    ($name:literal) => {
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/data/archives/",
            $name
        ))
        .as_slice()
    };
}

#[test]
fn archives_of_other_tools_are_extracted() {
    let deep = format!("opt/x/{0}/{0}/file", "a".repeat(90));
    for (name, archive, compression, has_deep) in [
        (
            "gnu.tar.gz",
            data!("gnu.tar.gz"),
            ArchiveCompression::Gzip,
            true,
        ),
        (
            "v7.tar.gz",
            data!("v7.tar.gz"),
            ArchiveCompression::Gzip,
            false,
        ),
        (
            "git.tar.gz",
            data!("git.tar.gz"),
            ArchiveCompression::Gzip,
            true,
        ),
        (
            "pax.tar.bz2",
            data!("pax.tar.bz2"),
            ArchiveCompression::Bzip2,
            true,
        ),
        ("git.zip", data!("git.zip"), ArchiveCompression::Zip, true),
    ] {
        let bench = Bench::new();
        let staging = bench.staging();
        write(&staging, "opt/archive", archive);
        staging
            .extract_archive(&extraction(compression, Some("opt/x")), &SMALL)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        staging.commit_folder().expect("committed");
        let mut found = listing(&bench.destination());
        found.remove("opt/archive").expect("the archive stays");
        assert_eq!(found.remove(&deep).is_some(), has_deep, "{name}");
        let expected = [
            ("opt/x/lib/libx.so", "-> libx.so.1"),
            ("opt/x/lib/libx.so.1", "so\n"),
            ("opt/x/lib/run", "-> ../run.sh"),
            ("opt/x/run.sh", "755 #!/bin/sh\n"),
        ];
        assert_eq!(
            found,
            expected
                .map(|(name, content)| (name.into(), content.into()))
                .into(),
            "{name}"
        );
    }
}

// --- Hostile archives

/// One entry of a tar: name, type flag, link target, content.
type Entry<'a> = (&'a str, u8, &'a str, &'a [u8]);

fn tar_of(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut tar: Vec<u8> = entries.iter().flat_map(tar_entry).collect();
    tar.resize(tar.len() + 1_024, 0);
    tar
}

fn tar_entry(&(name, flag, link, content): &Entry<'_>) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0006755");
    block[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    block[156] = flag;
    block[157..157 + link.len()].copy_from_slice(link.as_bytes());
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block.extend_from_slice(content);
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

fn file(name: &str) -> Entry<'_> {
    (name, b'0', "", b"evil")
}

const fn link<'a>(name: &'a str, target: &'a str) -> Entry<'a> {
    (name, b'2', target, b"")
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).expect("in memory");
    encoder.finish().expect("in memory")
}

fn bzip2(content: &[u8]) -> Vec<u8> {
    let mut encoder = BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(content).expect("in memory");
    encoder.finish().expect("in memory")
}

/// Extracts `archive` into `opt`, where `opt/locked` exists already, and expects an error and no
/// leftovers.
fn refused(
    what: &str,
    archive: &[u8],
    compression: ArchiveCompression,
    reason: Reason,
    part: &str,
) {
    let bench = Bench::new();
    let staging = bench.staging();
    write(&staging, "opt/archive", archive);
    write(&staging, "opt/locked", b"locked");
    let error = staging
        .extract_archive(&extraction(compression, Some("opt")), &SMALL)
        .expect_err(what);
    assert!(error.to_string().contains(part), "{what}: {error}");
    assert_eq!(error.reason(), reason, "{what}: {error}");
    assert_eq!(
        fs::read_to_string(staging.folder.path().join("opt/locked")).expect("still there"),
        "locked",
        "{what}"
    );
    drop(staging);
    bench.assert_untouched(what);
}

#[test]
fn hostile_entries_are_refused_and_nothing_is_left() {
    let deep = format!("{}a", "a/".repeat(600));
    let many: Vec<String> = (0..21).map(|n| format!("f{n}")).collect();
    let many: Vec<Entry<'_>> = many.iter().map(|name| file(name)).collect();
    let global = ("pax", b'g', "", b"11 path=a\n\n".as_slice());
    for (what, entries, part) in [
        (
            "absolute path",
            [file("/tmp/evil")].as_slice(),
            "absolute path",
        ),
        ("parent", &[file("../evil")], "must not contain \"..\""),
        (
            "parents in the middle",
            &[file("a/../../../evil")],
            "must not contain \"..\"",
        ),
        (
            "folder above",
            &[("../evil", b'5', "", b"")],
            "must not contain \"..\"",
        ),
        ("backslash", &[file("..\\evil")], "backslash"),
        ("empty name", &[file("")], "must not be empty"),
        ("absolute link", &[link("l", "/tmp")], "is absolute"),
        ("link above", &[link("l", "../canary")], "leads out"),
        (
            "link through a link",
            &[link("s", "."), link("l", "s/../../canary")],
            "behind a name",
        ),
        (
            "written through a link",
            &[link("l", "."), file("l/evil")],
            "is not a folder",
        ),
        (
            "written through a link to a folder",
            &[file("d/x"), link("l", "d"), file("l/evil")],
            "is not a folder",
        ),
        (
            "folder through a link",
            &[link("l", "."), ("l/d", b'5', "", b"")],
            "is not a folder",
        ),
        (
            "file over a link",
            &[link("l", "x"), file("l")],
            "written twice",
        ),
        (
            "link over a file",
            &[file("l"), link("l", "x")],
            "written twice",
        ),
        ("hard link", &[("l", b'1', "locked", b"")], "a hard link"),
        (
            "hard link out",
            &[("l", b'1', "../../canary", b"")],
            "a hard link",
        ),
        ("character device", &[("d", b'3', "", b"")], "a device"),
        ("block device", &[("d", b'4', "", b"")], "a device"),
        ("FIFO", &[("d", b'6', "", b"")], "a FIFO"),
        ("sparse file", &[("d", b'S', "", b"")], "a sparse file"),
        ("duplicate", &[file("a"), file("a")], "written twice"),
        (
            "duplicate, spelt differently",
            &[file("a/b"), file("./a//b")],
            "written twice",
        ),
        ("over a locked file", &[file("locked")], "written twice"),
        (
            "over the archive itself",
            &[file("archive")],
            "written twice",
        ),
        (
            "below a locked file",
            &[file("locked/x")],
            "is not a folder",
        ),
        (
            "folder over a locked file",
            &[("locked", b'5', "", b"")],
            "is not a folder",
        ),
        ("below a file", &[file("a"), file("a/b")], "is not a folder"),
        (
            "name over PAX",
            &[("p", b'x', "", b"19 path=../../evil\n"), file("a")],
            "must not contain",
        ),
        (
            "name by GNU",
            &[("././@LongLink", b'L', "", b"../../evil\0"), file("a")],
            "must not contain",
        ),
        (
            "link by GNU",
            &[("././@LongLink", b'K', "", b"../../evil\0"), link("l", "a")],
            "leads out",
        ),
        ("one name for all", &[global, file("a")], "PAX"),
        (
            "metadata without an entry",
            &[("p", b'x', "", b"10 path=a\n")],
            "after a metadata header",
        ),
        (
            "segment of 300",
            &[("p", b'L', "", &[b'x'; 300]), file("a")],
            "at most 255 bytes",
        ),
        (
            "deep path",
            &[("p", b'L', "", deep.as_bytes()), file("a")],
            "at most 1024",
        ),
    ] {
        refused(
            what,
            &gzip(&tar_of(entries)),
            ArchiveCompression::Gzip,
            Reason::InvalidLock,
            part,
        );
        refused(
            what,
            &bzip2(&tar_of(entries)),
            ArchiveCompression::Bzip2,
            Reason::InvalidLock,
            part,
        );
    }
    refused(
        "many entries",
        &gzip(&tar_of(&many)),
        ArchiveCompression::Gzip,
        Reason::LimitExceeded,
        "more than 20 entries",
    );
}

#[test]
fn the_root_of_a_bundle_keeps_its_reserved_folder() {
    let bench = Bench::new();
    let staging = bench.staging();
    write(
        &staging,
        "opt/archive",
        &gzip(&tar_of(&[file(".packgate/lock.json")])),
    );
    let error = staging
        .extract_archive(&extraction(ArchiveCompression::Gzip, None), &SMALL)
        .expect_err("reserved");
    assert!(error.to_string().contains(".packgate"), "{error}");
}

#[test]
fn damaged_streams_are_refused() {
    let tar = tar_of(&[file("a"), file("b")]);
    let whole = gzip(&tar);
    let damaged = |at: usize, mut bytes: Vec<u8>| {
        bytes[at] ^= 0xff;
        bytes
    };
    let second = [tar.clone(), tar_of(&[file("hidden")])].concat();
    for (what, archive, part) in [
        ("no gzip", b"hello".to_vec(), ""),
        ("empty", Vec::new(), ""),
        ("cut short", whole[..whole.len() - 12].to_vec(), ""),
        ("wrong CRC", damaged(whole.len() - 8, whole.clone()), ""),
        ("trailing bytes", [whole.as_slice(), b"junk"].concat(), ""),
        ("ends in content", gzip(&tar[..513]), "is truncated"),
        ("ends in padding", gzip(&tar[..600]), ""),
        ("ends in a header", gzip(&tar[..1_100]), "is truncated"),
        ("wrong checksum", gzip(&damaged(0, tar.clone())), "checksum"),
        (
            "second archive behind the end",
            gzip(&second),
            "follows the end",
        ),
    ] {
        refused(
            what,
            &archive,
            ArchiveCompression::Gzip,
            Reason::InvalidLock,
            part,
        );
    }
    refused(
        "no bzip2",
        b"hello",
        ArchiveCompression::Bzip2,
        Reason::InvalidLock,
        "",
    );
    refused(
        "no zip",
        b"hello",
        ArchiveCompression::Zip,
        Reason::InvalidLock,
        "",
    );
}

#[test]
fn bombs_stop_at_the_limit() {
    let zeros = vec![0; 2 << 20];
    let bomb = tar_of(&[("zeros", b'0', "", &zeros)]);
    refused(
        "gzip bomb",
        &gzip(&bomb),
        ArchiveCompression::Gzip,
        Reason::LimitExceeded,
        "more than 100000 bytes",
    );
    refused(
        "bzip2 bomb",
        &bzip2(&bomb),
        ArchiveCompression::Bzip2,
        Reason::LimitExceeded,
        "more than 100000 bytes",
    );
    refused(
        "zeros behind the end",
        &gzip(&zeros),
        ArchiveCompression::Gzip,
        Reason::LimitExceeded,
        "more than 100000 bytes",
    );
    refused(
        "zip bomb",
        &zip_of(&[("zeros", &zeros)]),
        ArchiveCompression::Zip,
        Reason::LimitExceeded,
        "more than 100000 bytes",
    );
    let many: Vec<Vec<u8>> = (0..11).map(|_| vec![0; 10_000]).collect();
    let names: Vec<String> = (0..11).map(|n| format!("f{n}")).collect();
    let files: Vec<_> = names
        .iter()
        .map(String::as_str)
        .zip(many.iter().map(Vec::as_slice))
        .collect();
    refused(
        "many small files",
        &zip_of(&files),
        ArchiveCompression::Zip,
        Reason::LimitExceeded,
        "more than 100000 bytes",
    );
    let metadata = tar_of(&[("m", b'L', "", &zeros)]);
    refused(
        "metadata bomb",
        &gzip(&metadata),
        ArchiveCompression::Gzip,
        Reason::InvalidLock,
        "metadata of 2097152 bytes",
    );
}

// --- zip

fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        writer
            .start_file(*name, SimpleFileOptions::default())
            .expect(name);
        writer.write_all(content).expect("in memory");
    }
    writer.finish().expect("in memory").into_inner()
}

fn zip_link(name: &str, target: &str) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer
        .add_symlink(name, target, SimpleFileOptions::default())
        .expect(name);
    writer.finish().expect("in memory").into_inner()
}

/// The archive with every `from` replaced by `to`, of the same length.
fn patched(mut archive: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    for at in 0..=archive.len() - from.len() {
        if archive[at..].starts_with(from) {
            archive[at..at + to.len()].copy_from_slice(to);
        }
    }
    archive
}

/// The archive with the Unix mode of its first central header changed.
fn with_mode(mut archive: Vec<u8>, mode: u32) -> Vec<u8> {
    let at = archive
        .windows(4)
        .position(|bytes| bytes == b"PK\x01\x02")
        .expect("a central header");
    archive[at + 38..at + 42].copy_from_slice(&(mode << 16).to_le_bytes());
    archive
}

#[test]
fn hostile_zips_are_refused_and_nothing_is_left() {
    let plain = || zip_of(&[("AAAA", b"evil"), ("BBBB", b"evil")]);
    let named = |name: &[u8; 4]| patched(plain(), b"AAAA", name);
    let local_only = {
        let mut archive = plain();
        archive[30..34].copy_from_slice(b"CCCC");
        archive
    };
    let many: Vec<String> = (0..21).map(|n| format!("f{n}")).collect();
    let many: Vec<(&str, &[u8])> = many
        .iter()
        .map(|name| (name.as_str(), b"".as_slice()))
        .collect();
    for (what, archive, part) in [
        ("absolute path", named(b"/tmp"), "absolute"),
        ("parent", named(b"../a"), "must not contain \"..\""),
        ("backslash", named(b"..\\a"), "backslash"),
        ("folder with content", named(b"AAA/"), "unknown kind"),
        ("duplicate", named(b"BBBB"), "duplicate"),
        (
            "duplicate, spelt differently",
            zip_of(&[("a/b", b"1"), ("a//b", b"2")]),
            "written twice",
        ),
        (
            "over a locked file",
            zip_of(&[("locked", b"evil")]),
            "written twice",
        ),
        (
            "below a locked file",
            zip_of(&[("locked/x", b"evil")]),
            "is not a folder",
        ),
        (
            "other name in the local header",
            local_only,
            "inconsistency",
        ),
        ("device", with_mode(plain(), 0o020_644), "unknown kind"),
        ("FIFO", with_mode(plain(), 0o010_644), "unknown kind"),
        ("socket", with_mode(plain(), 0o140_644), "unknown kind"),
        ("link above", zip_link("l", "../canary"), "leads out"),
        ("absolute link", zip_link("l", "/tmp"), "is absolute"),
        (
            "link with a long target",
            zip_link("l", &"a/".repeat(600)),
            "is not a valid path",
        ),
        (
            "wrong CRC",
            patched(plain(), &plain()[14..18], b"\x01\x02\x03\x04"),
            "hecksum",
        ),
        ("cut short", plain()[..60].to_vec(), ""),
    ] {
        refused(
            what,
            &archive,
            ArchiveCompression::Zip,
            Reason::InvalidLock,
            part,
        );
    }
    refused(
        "many entries",
        &zip_of(&many),
        ArchiveCompression::Zip,
        Reason::LimitExceeded,
        "more than 20 entries",
    );
}

#[test]
fn a_directory_that_fills_the_memory_is_not_read() {
    let plain = zip_of(&[("a", b"")]);
    let find = |magic: &[u8]| {
        plain
            .windows(4)
            .position(|bytes| bytes == magic)
            .expect("a header")
    };
    let (directory, end) = (find(b"PK\x01\x02"), find(b"PK\x05\x06"));
    let mut header = plain[directory..end].to_vec();
    header[32..34].copy_from_slice(&[0xff, 0xff]);
    header.resize(header.len() + 0xffff, b' ');
    let count: u16 = 1_100;
    let headers = header.repeat(count.into());
    let mut last = plain[end..].to_vec();
    last[8..10].copy_from_slice(&count.to_le_bytes());
    last[10..12].copy_from_slice(&count.to_le_bytes());
    last[12..16].copy_from_slice(&u32::try_from(headers.len()).expect("small").to_le_bytes());
    let archive = [&plain[..directory], &headers, &last].concat();
    refused(
        "a directory of 72 MB",
        &archive,
        ArchiveCompression::Zip,
        Reason::LimitExceeded,
        "bytes in its directory",
    );
}

#[test]
fn a_zip_is_written_with_the_modes_of_a_bundle() {
    let bench = Bench::new();
    let staging = bench.staging();
    write(
        &staging,
        "opt/archive",
        &with_mode(zip_of(&[("run", b"x")]), 0o106_777),
    );
    staging
        .extract_archive(&extraction(ArchiveCompression::Zip, None), &SMALL)
        .expect("extracted");
    staging.commit_folder().expect("committed");
    assert_eq!(listing(&bench.destination())["run"], "755 x");
}

#[test]
fn the_file_system_is_used_off_the_async_threads() {
    const fn is_send<T: Send + 'static>() {}
    is_send::<OutDirStaging>();
}
