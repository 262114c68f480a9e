//! Headers of tar archives: V7, USTAR and PAX (POSIX.1-2017, `pax`), and GNU's long names.
//!
//! The `tar` crate reads GNU's and PAX's metadata into memory however long it is, so a small
//! archive could ask for gigabytes; here [`MAX_METADATA`] limits it. Not supported: sparse files,
//! multi-volume archives.

use super::{ArchiveUnpackError, displayed_name};

/// The size of a header, and the unit that content is padded to.
pub const BLOCK: usize = 512;
/// The longest PAX header or GNU long name that is read, in bytes.
pub const MAX_METADATA: u64 = 1 << 20;

/// The kind of an entry, from its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TarEntryKind {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Symlink,
    /// PAX records about the next entry.
    Extended,
    /// PAX records about all entries that follow.
    Global,
    /// GNU: the next entry's name.
    LongName,
    /// GNU: the next entry's link target.
    LongLink,
}

/// The header of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TarHeader {
    /// The kind of the entry.
    pub kind: TarEntryKind,
    /// The name as written.
    pub name: Vec<u8>,
    /// The target of a link as written.
    pub link: Vec<u8>,
    /// Length of the content that follows.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
}

/// Metadata about the entry that follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PendingTarMetadata {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl TarEntryKind {
    /// True if it describes other entries.
    pub const fn is_metadata(self) -> bool {
        matches!(
            self,
            Self::Extended | Self::Global | Self::LongName | Self::LongLink
        )
    }
}

impl TarHeader {
    /// Parses a header. `None` if the block is all zero, which ends an archive.
    pub fn parse(block: &[u8; BLOCK]) -> Result<Option<Self>, ArchiveUnpackError> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        check_header_checksum(block)?;
        let name = full_name(block);
        let (kind, size) = (
            entry_kind(block[156], &name)?,
            parse_tar_number(&block[124..136])?,
        );
        if size != 0 && matches!(kind, TarEntryKind::Folder | TarEntryKind::Symlink) {
            return Err(malformed_error("a folder or link has content"));
        }
        let mode = u32::try_from(parse_tar_number(&block[100..108])? & 0o7777).unwrap_or_default();
        Ok(Some(Self {
            kind,
            name,
            link: trim_at_nul(&block[157..257]).to_vec(),
            size,
            mode,
        }))
    }
}

impl PendingTarMetadata {
    /// Applies the content of a metadata entry.
    pub fn apply_metadata(
        &mut self,
        kind: TarEntryKind,
        content: &[u8],
    ) -> Result<(), ArchiveUnpackError> {
        match kind {
            TarEntryKind::LongName => self.name = Some(trim_at_nul(content).to_vec()),
            TarEntryKind::LongLink => self.link = Some(trim_at_nul(content).to_vec()),
            TarEntryKind::Extended => self.apply_pax_records(content)?,
            TarEntryKind::Global => check_global_records(content)?,
            TarEntryKind::File | TarEntryKind::Folder | TarEntryKind::Symlink => {
                return Err(malformed_error("an entry is not metadata"));
            }
        }
        Ok(())
    }

    fn apply_pax_records(&mut self, content: &[u8]) -> Result<(), ArchiveUnpackError> {
        for record in pax_records(content) {
            let (key, value) = record?;
            match key {
                b"path" => self.name = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => {
                    self.size = Some(
                        parse_decimal(value)
                            .ok_or_else(|| malformed_error("a PAX size is no number"))?,
                    );
                }
                key if key.starts_with(b"GNU.sparse.") => {
                    let name = self.name.as_deref().map(displayed_name).unwrap_or_default();
                    return Err(ArchiveUnpackError::Kind {
                        name,
                        what: "a sparse file",
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The header with the pending metadata applied and cleared.
    pub fn apply_to_header(&mut self, header: TarHeader) -> Result<TarHeader, ArchiveUnpackError> {
        let Self { name, link, size } = std::mem::take(self);
        if size.is_some_and(|size| size != 0) && header.kind != TarEntryKind::File {
            return Err(malformed_error("a folder or link has content"));
        }
        Ok(TarHeader {
            name: name.unwrap_or(header.name),
            link: link.unwrap_or(header.link),
            size: size.unwrap_or(header.size),
            ..header
        })
    }

    /// True if metadata was read and no entry followed.
    pub fn has_metadata(&self) -> bool {
        *self != Self::default()
    }
}

fn malformed_error(what: &str) -> ArchiveUnpackError {
    ArchiveUnpackError::Malformed(what.into())
}

fn entry_kind(flag: u8, name: &[u8]) -> Result<TarEntryKind, ArchiveUnpackError> {
    let refused = |what| ArchiveUnpackError::Kind {
        name: displayed_name(name),
        what,
    };
    match flag {
        b'0' | 0 | b'7' => Ok(TarEntryKind::File),
        b'5' => Ok(TarEntryKind::Folder),
        b'2' => Ok(TarEntryKind::Symlink),
        b'x' => Ok(TarEntryKind::Extended),
        b'g' => Ok(TarEntryKind::Global),
        b'L' => Ok(TarEntryKind::LongName),
        b'K' => Ok(TarEntryKind::LongLink),
        b'1' => Err(refused("a hard link")),
        b'3' | b'4' => Err(refused("a device")),
        b'6' => Err(refused("a FIFO")),
        b'S' => Err(refused("a sparse file")),
        _ => Err(refused("of an unknown kind")),
    }
}

/// Only POSIX has the prefix; GNU's own format has times there.
fn full_name(block: &[u8; BLOCK]) -> Vec<u8> {
    let (name, prefix) = (trim_at_nul(&block[..100]), trim_at_nul(&block[345..500]));
    if &block[257..263] != b"ustar\0" || prefix.is_empty() {
        name.to_vec()
    } else {
        [prefix, name].join(&b'/')
    }
}

fn trim_at_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn check_header_checksum(block: &[u8; BLOCK]) -> Result<(), ArchiveUnpackError> {
    let field = 148..156;
    let counted =
        |(at, byte): (usize, &u8)| u64::from(if field.contains(&at) { b' ' } else { *byte });
    let sum: u64 = block.iter().enumerate().map(counted).sum();
    if parse_tar_number(&block[field.clone()])? == sum {
        Ok(())
    } else {
        Err(malformed_error("a tar header has a wrong checksum"))
    }
}

/// Octal digits with blanks around them, or GNU's base 256 for larger numbers.
fn parse_tar_number(field: &[u8]) -> Result<u64, ArchiveUnpackError> {
    let wrong = || malformed_error("a number in a tar header cannot be read");
    if let Some((0x80, rest)) = field.split_first() {
        return rest
            .iter()
            .try_fold(0_u64, |sum, byte| {
                sum.checked_mul(256)?.checked_add(u64::from(*byte))
            })
            .ok_or_else(wrong);
    }
    let octal = |sum: u64, byte: &u8| {
        matches!(byte, b'0'..=b'7')
            .then(|| sum.checked_mul(8)?.checked_add(u64::from(byte - b'0')))?
    };
    trim_at_nul(field)
        .trim_ascii()
        .iter()
        .try_fold(0, octal)
        .ok_or_else(wrong)
}

fn parse_decimal(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text)
        .ok()
        .filter(|_| digits)?
        .parse()
        .ok()
}

/// Checks records for all entries: comments such as git's commit are allowed, a path or size is
/// not.
fn check_global_records(content: &[u8]) -> Result<(), ArchiveUnpackError> {
    for record in pax_records(content) {
        let (key, _) = record?;
        if matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.") {
            return Err(malformed_error(
                "a global PAX header names one path or size for all entries",
            ));
        }
    }
    Ok(())
}

type PaxRecord<'a> = (&'a [u8], &'a [u8]);

/// PAX records: `LENGTH KEY=VALUE\n`, where the length counts all of it.
fn pax_records(content: &[u8]) -> impl Iterator<Item = Result<PaxRecord<'_>, ArchiveUnpackError>> {
    let mut rest = content;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some((record, after)) = split_pax_record(rest) else {
            rest = &[];
            return Some(Err(malformed_error("a PAX record cannot be read")));
        };
        rest = after;
        Some(Ok(record))
    })
}

fn split_pax_record(content: &[u8]) -> Option<(PaxRecord<'_>, &[u8])> {
    let blank = content.iter().position(|byte| *byte == b' ')?;
    let length = usize::try_from(parse_decimal(content.get(..blank)?)?).ok()?;
    let record = content.get(blank + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((
        (record.get(..equals)?, record.get(equals + 1..)?),
        content.get(length..)?,
    ))
}

#[cfg(test)]
#[path = "tar_tests.rs"]
mod tests;
