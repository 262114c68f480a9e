//! Deterministic tar streams, as a plan of literal bytes and files' contents.
//!
//! Part of `packFormat: "1"` and frozen with it. POSIX ustar, a pax header only where ustar cannot
//! represent a path or size; entries sorted by name; parent folders (0755) once, before what is in
//! them; uid, gid and mtime 0, no names; two zero blocks at the end. Source: POSIX.1-2017, pax,
//! "ustar Interchange Format" and "pax Interchange Format".
//!
//! Packing writes the plan out; unpacking and rebuilding compare it with the bytes read. A bundle's
//! own tar is never parsed.

const BLOCK: usize = 512;
const MAX_OCTAL_SIZE: u64 = 0o77_777_777_777;

/// A file that goes into a tar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TarFile<T> {
    /// Relative path with `/`, checked by the caller.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Length of the content in bytes.
    pub size: u64,
    /// The caller's identifier of the content.
    pub content: T,
}

/// A segment of a tar stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TarSegment<T> {
    /// These bytes.
    Literal(Vec<u8>),
    /// The content of a file, `size` bytes long.
    Content {
        /// The caller's identifier of the content.
        content: T,
        /// The size of the content in bytes.
        size: u64,
    },
}

impl<T> TarSegment<T> {
    /// The size in bytes.
    pub const fn len(&self) -> u64 {
        match self {
            Self::Literal(bytes) => bytes.len() as u64,
            Self::Content { size, .. } => *size,
        }
    }

    /// True if it has no bytes.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The segments of a tar with `files` and their parent folders. Paths must be unique, and none may
/// be a parent of another.
pub fn plan_tar_segments<T>(files: impl IntoIterator<Item = TarFile<T>>) -> Vec<TarSegment<T>> {
    let files: Vec<TarFile<T>> = files.into_iter().collect();
    let entries = header_entries(&files);
    let mut files: Vec<Option<TarFile<T>>> = files.into_iter().map(Some).collect();
    let mut writer = TarSegmentWriter::default();
    for TarPathEntry { file, length } in entries {
        match files.get_mut(file) {
            Some(Some(within)) if length < within.path.len() => writer
                .literal
                .extend(header_blocks(&within.path[..length], 0o755, 0, b'5')),
            Some(whole) => whole
                .take()
                .into_iter()
                .for_each(|file| writer.write_file(file)),
            None => {}
        }
    }
    writer.literal.extend([0; 2 * BLOCK]);
    writer.finish()
}

/// A file, or a folder above it: the first `length` bytes of the path of a file with this index.
struct TarPathEntry {
    file: usize,
    length: usize,
}

/// Everything that gets a header, in order. Names are not copied: a path of a kilobyte can have
/// five hundred folders.
fn header_entries<T>(files: &[TarFile<T>]) -> Vec<TarPathEntry> {
    let name = |entry: &TarPathEntry| {
        files
            .get(entry.file)
            .and_then(|file| file.path.get(..entry.length))
            .unwrap_or_default()
    };
    let mut entries = Vec::new();
    for (file, TarFile { path, .. }) in files.iter().enumerate() {
        entries.extend(path.match_indices('/').map(|(at, _)| TarPathEntry {
            file,
            length: at + 1,
        }));
        entries.push(TarPathEntry {
            file,
            length: path.len(),
        });
    }
    entries.sort_by(|a, b| name(a).cmp(name(b)));
    entries.dedup_by(|a, b| name(a) == name(b));
    entries
}

/// The length in bytes of all segments together.
pub fn total_segment_bytes<T>(segments: &[TarSegment<T>]) -> u64 {
    segments
        .iter()
        .map(TarSegment::len)
        .fold(0, u64::saturating_add)
}

struct TarSegmentWriter<T> {
    literal: Vec<u8>,
    segments: Vec<TarSegment<T>>,
}

impl<T> Default for TarSegmentWriter<T> {
    fn default() -> Self {
        Self {
            literal: Vec::new(),
            segments: Vec::new(),
        }
    }
}

impl<T> TarSegmentWriter<T> {
    fn write_file(&mut self, file: TarFile<T>) {
        self.literal
            .extend(header_blocks(&file.path, file.mode, file.size, b'0'));
        self.flush_literal();
        self.segments.push(TarSegment::Content {
            content: file.content,
            size: file.size,
        });
        self.literal.resize(block_padding(file.size), 0);
    }

    fn flush_literal(&mut self) {
        if !self.literal.is_empty() {
            self.segments
                .push(TarSegment::Literal(std::mem::take(&mut self.literal)));
        }
    }

    fn finish(mut self) -> Vec<TarSegment<T>> {
        self.flush_literal();
        self.segments
    }
}

const fn block_padding(size: u64) -> usize {
    // Less than a block, so it fits.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "a remainder of a division by 512"
    )]
    let over = (size % BLOCK as u64) as usize;
    (BLOCK - over) % BLOCK
}

/// The header blocks of one entry: one ustar block, with a pax header before it if ustar cannot
/// represent the path or the size.
fn header_blocks(path: &str, mode: u32, size: u64, kind: u8) -> Vec<u8> {
    let split = split_path(path);
    let mut records = Vec::new();
    if split.is_none() {
        records.extend(pax_record("path", path));
    }
    if size > MAX_OCTAL_SIZE {
        records.extend(pax_record("size", &size.to_string()));
    }
    let mut blocks = Vec::new();
    if !records.is_empty() {
        blocks.extend(ustar_block(
            ("", "PaxHeaders/packgate"),
            0o644,
            records.len() as u64,
            b'x',
        ));
        records.resize(records.len() + block_padding(records.len() as u64), 0);
        blocks.extend(records);
    }
    let shown = split.unwrap_or_else(|| ("", truncate_path(path)));
    blocks.extend(ustar_block(
        shown,
        mode,
        if size > MAX_OCTAL_SIZE { 0 } else { size },
        kind,
    ));
    blocks
}

/// Splits a path into ustar's prefix (at most 155 bytes) and name (at most 100). `None` if it has
/// to go into a pax header.
fn split_path(path: &str) -> Option<(&str, &str)> {
    if !path.is_ascii() {
        return None;
    }
    if path.len() <= 100 {
        return Some(("", path));
    }
    let inner = path.strip_suffix('/').unwrap_or(path);
    let head = &inner[..inner.len().min(156)];
    let (prefix, name) = path.split_at(head.rfind('/')?);
    let name = &name[1..];
    (!prefix.is_empty() && prefix.len() <= 155 && name.len() <= 100).then_some((prefix, name))
}

/// The path for readers without support for pax headers: its beginning.
fn truncate_path(path: &str) -> &str {
    &path[..path.floor_char_boundary(100)]
}

/// `LENGTH key=value\n`, where LENGTH counts itself.
fn pax_record(key: &str, value: &str) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n").into_bytes()
}

fn ustar_block((prefix, name): (&str, &str), mode: u32, size: u64, kind: u8) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, format!("{mode:07o}\0").as_bytes());
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    put(329, b"0000000\0");
    put(337, b"0000000\0");
    put(345, prefix.as_bytes());
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, size: u64) -> TarFile<String> {
        TarFile {
            path: path.into(),
            mode: 0o644,
            size,
            content: path.into(),
        }
    }

    fn render(files: &[(&str, &[u8])]) -> Vec<u8> {
        let list = files.iter().map(|(path, content)| TarFile {
            path: (*path).into(),
            mode: 0o755,
            size: content.len() as u64,
            content: content.to_vec(),
        });
        let mut out = Vec::new();
        for segment in plan_tar_segments(list) {
            match segment {
                TarSegment::Literal(bytes) => out.extend(bytes),
                TarSegment::Content { content, .. } => out.extend(content),
            }
        }
        out
    }

    fn names(tar: &[u8]) -> Vec<String> {
        let mut names = Vec::new();
        let mut at = 0;
        while tar[at] != 0 {
            let text = |from: usize, len: usize| {
                String::from_utf8_lossy(&tar[at + from..at + from + len])
                    .trim_end_matches('\0')
                    .to_owned()
            };
            let size = usize::from_str_radix(&text(124, 12), 8).expect("octal");
            names.push(format!(
                "{}{}:{}",
                char::from(tar[at + 156]),
                [text(345, 155), text(0, 100)].join("|"),
                size
            ));
            at += 512 + size.div_ceil(512) * 512;
        }
        assert_eq!(&tar[at..], &[0; 1_024]);
        names
    }

    #[test]
    fn entries_are_sorted_and_folders_come_once_before_their_content() {
        let tar = render(&[
            ("b/y", b"1"),
            ("a-b", b"22"),
            ("b/c/x", b""),
            ("a/z", b"333"),
        ]);
        assert_eq!(
            names(&tar),
            [
                "0|a-b:2",
                "5|a/:0",
                "0|a/z:3",
                "5|b/:0",
                "5|b/c/:0",
                "0|b/c/x:0",
                "0|b/y:1"
            ]
        );
    }

    #[test]
    fn content_is_padded_to_blocks() {
        for (size, pad) in [
            (0, 0),
            (1, 511),
            (511, 1),
            (512, 0),
            (513, 511),
            (u64::MAX, 1),
            (u64::MAX - 511, 0),
        ] {
            assert_eq!(block_padding(size), pad, "{size}");
        }
        assert_eq!(
            total_segment_bytes(&plan_tar_segments([file("a", 513)])),
            512 + 1_024 + 1_024
        );
        assert_eq!(render(&[("x", b"1")]).len(), 2_048);
    }

    #[test]
    fn long_paths_are_split_and_longer_ones_take_a_pax_header() {
        let fits = format!("{}/{}", "d".repeat(155), "f".repeat(100));
        let tar = render(&[(&fits, b"")]);
        assert_eq!(
            names(&tar).last(),
            Some(&format!("0{}|{}:0", "d".repeat(155), "f".repeat(100)))
        );
        for path in [
            "f".repeat(101),
            format!("{}/{}", "d".repeat(156), "f"),
            "ä".into(),
        ] {
            let tar = render(&[(&path, b"")]);
            let text = String::from_utf8_lossy(&tar).into_owned();
            assert!(text.contains(&format!(" path={path}\n")), "{path}");
            assert!(
                names(&tar)
                    .iter()
                    .any(|name| name.starts_with("x|PaxHeaders/packgate")),
                "{path}"
            );
        }
    }

    #[test]
    fn sizes_beyond_eight_gigabytes_take_a_pax_header() {
        let plan = plan_tar_segments([file("a", MAX_OCTAL_SIZE + 1)]);
        let TarSegment::Literal(head) = &plan[0] else {
            panic!("starts with content")
        };
        assert!(String::from_utf8_lossy(head).contains("19 size=8589934592\n"));
        let TarSegment::Literal(head) = &plan_tar_segments([file("a", MAX_OCTAL_SIZE)])[0] else {
            panic!("starts with content")
        };
        assert_eq!(head.len(), 512);
    }

    #[test]
    fn pax_records_count_themselves() {
        for length in [1, 89, 90, 91, 988, 989, 990] {
            let record = pax_record("path", &"x".repeat(length));
            let text = String::from_utf8(record.clone()).expect("text");
            assert_eq!(
                text.split(' ')
                    .next()
                    .expect("a length")
                    .parse::<usize>()
                    .expect("a number"),
                record.len()
            );
        }
    }
}
