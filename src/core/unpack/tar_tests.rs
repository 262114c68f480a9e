use super::*;

/// A USTAR header with a valid checksum.
fn block(name: &[u8], flag: u8, size: &[u8], link: &[u8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..name.len()].copy_from_slice(name);
    block[100..107].copy_from_slice(b"0000755");
    block[124..124 + size.len()].copy_from_slice(size);
    block[156] = flag;
    block[157..157 + link.len()].copy_from_slice(link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    summed(block)
}

fn summed(mut block: [u8; BLOCK]) -> [u8; BLOCK] {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

fn read(block: &[u8; BLOCK]) -> Result<TarHeader, String> {
    TarHeader::parse(block)
        .map(|header| header.expect("not the end"))
        .map_err(|error| error.to_string())
}

#[test]
fn headers_are_read() {
    let header = read(&block(b"a/b", b'0', b"00000000017\0", b"")).expect("a header");
    assert_eq!(
        header,
        TarHeader {
            kind: TarEntryKind::File,
            name: b"a/b".to_vec(),
            link: Vec::new(),
            size: 15,
            mode: 0o755
        }
    );
    let link = read(&block(b"l", b'2', b"0", b"target")).expect("a header");
    assert_eq!(
        (link.kind, link.link.as_slice()),
        (TarEntryKind::Symlink, b"target".as_slice())
    );
    assert_eq!(TarHeader::parse(&[0; BLOCK]), Ok(None));
}

#[test]
fn only_posix_has_a_prefix() {
    let mut posix = block(b"name", b'0', b"0", b"");
    posix[345..348].copy_from_slice(b"dir");
    assert_eq!(read(&summed(posix)).expect("a header").name, b"dir/name");
    let mut gnu = posix;
    gnu[257..265].copy_from_slice(b"ustar  \0");
    assert_eq!(read(&summed(gnu)).expect("a header").name, b"name");
}

#[test]
fn sizes_are_octal_or_base_256() {
    let size = |field: &[u8]| read(&block(b"a", b'0', field, b"")).map(|header| header.size);
    assert_eq!(size(b"77777777777"), Ok(8_589_934_591));
    assert_eq!(size(b"     17 \0"), Ok(15));
    assert_eq!(size(b"\x80\0\0\0\0\0\0\x02\0\0\0\0"), Ok(8_589_934_592));
    for wrong in [
        b"8".as_slice(),
        b"-1",
        b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        assert!(
            size(wrong).expect_err("refused").contains("number"),
            "{wrong:?}"
        );
    }
}

#[test]
fn what_is_no_file_folder_or_symlink_is_refused() {
    for (flag, part) in [
        (b'1', "a hard link"),
        (b'3', "a device"),
        (b'4', "a device"),
        (b'6', "a FIFO"),
        (b'S', "a sparse file"),
        (b'M', "of an unknown kind"),
        (b'V', "of an unknown kind"),
    ] {
        assert!(
            read(&block(b"a", flag, b"0", b""))
                .expect_err("refused")
                .contains(part),
            "{flag}"
        );
    }
    for flag in [b'2', b'5'] {
        assert!(
            read(&block(b"a", flag, b"1", b""))
                .expect_err("refused")
                .contains("has content")
        );
    }
    let mut changed = block(b"a", b'0', b"0", b"");
    changed[0] = b'b';
    assert!(read(&changed).expect_err("refused").contains("checksum"));
}

fn extended(records: &[u8]) -> Result<TarHeader, String> {
    let mut pending = PendingTarMetadata::default();
    pending
        .apply_metadata(TarEntryKind::Extended, records)
        .map_err(|error| error.to_string())?;
    assert!(pending.has_metadata());
    let header = pending
        .apply_to_header(read(&block(b"short", b'0', b"3", b""))?)
        .map_err(|error| error.to_string())?;
    assert!(!pending.has_metadata());
    Ok(header)
}

/// `LENGTH KEY=VALUE\n`, the length counted by trying.
fn record(text: &str) -> Vec<u8> {
    let with = |length: usize| format!("{length} {text}\n").into_bytes();
    (1..200)
        .map(with)
        .find(|record| record.starts_with(format!("{} ", record.len()).as_bytes()))
        .expect("some length fits")
}

#[test]
fn pax_records_overrule_the_header() {
    let records = [
        record("path=a/bä"),
        record("mtime=1700000000.5"),
        record("size=7"),
        record("x=\n="),
    ]
    .concat();
    let header = extended(&records).expect("applied");
    assert_eq!(
        (header.name.as_slice(), header.size),
        ("a/bä".as_bytes(), 7)
    );
}

#[test]
fn broken_pax_records_are_refused() {
    for (records, part) in [
        (b"".as_slice(), ""),
        (b"x path=a\n", "PAX record"),
        (b"9999 path=a\n", "PAX record"),
        (b"9 path=a", "PAX record"),
        (b"0 path=a\n", "PAX record"),
        (b"1 path=a\n", "PAX record"),
        (b"-9 path=a\n", "PAX record"),
        (b"8 patha\n", "PAX record"),
        (b"11 size=-1\n", "no number"),
        (b"29 size=99999999999999999999\n", "no number"),
        (b"22 GNU.sparse.major=1\n", "sparse"),
    ] {
        let mut pending = PendingTarMetadata::default();
        let outcome = pending
            .apply_metadata(TarEntryKind::Extended, records)
            .map_err(|error| error.to_string());
        match outcome {
            Ok(()) => assert!(part.is_empty(), "{records:?}"),
            Err(error) => assert!(
                !part.is_empty() && error.contains(part),
                "{records:?}: {error}"
            ),
        }
    }
}

#[test]
fn global_records_may_only_comment() {
    let mut pending = PendingTarMetadata::default();
    assert!(
        pending
            .apply_metadata(TarEntryKind::Global, b"18 comment=abcdef\n")
            .is_ok()
            && !pending.has_metadata()
    );
    assert!(
        pending
            .apply_metadata(TarEntryKind::Global, b"10 path=a\n")
            .is_err()
    );
}

#[test]
fn gnu_long_names_overrule_the_header() {
    let mut pending = PendingTarMetadata::default();
    pending
        .apply_metadata(TarEntryKind::LongName, b"long\0")
        .expect("taken in");
    pending
        .apply_metadata(TarEntryKind::LongLink, b"far\0")
        .expect("taken in");
    let header = pending
        .apply_to_header(read(&block(b"l", b'2', b"0", b"near")).expect("a header"))
        .expect("applied");
    assert_eq!(
        (header.name.as_slice(), header.link.as_slice()),
        (b"long".as_slice(), b"far".as_slice())
    );
}

#[test]
fn a_pax_size_cannot_give_a_link_content() {
    let mut pending = PendingTarMetadata::default();
    pending
        .apply_metadata(TarEntryKind::Extended, b"10 size=7\n")
        .expect("taken in");
    assert!(
        pending
            .apply_to_header(read(&block(b"l", b'2', b"0", b"near")).expect("a header"))
            .is_err()
    );
}
