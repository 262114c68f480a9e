//! Why a lock or manifest was refused, and where.

use std::fmt;

use crate::core::{
    bundle_path::BundlePathError,
    digest::Digest,
    oci::descriptor::PlatformError,
    reason::{ClassifiedError, Reason},
};

/// Why a lock or manifest was refused. Whatever is wrong with the document itself is
/// [`Reason::InvalidLock`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockfileError {
    /// More bytes than the cap, counted before anything is parsed.
    #[error("lock of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// One field, or the syntax, is wrong.
    #[error("{place}: {fault}")]
    Refused {
        /// The location.
        place: LockfileFieldLocation,
        /// The error.
        fault: LockfileFieldError,
    },
    /// The bytes are not exactly the canonical form of the lock.
    #[error("lock is not in its canonical form (RFC 8785), so its digest does not identify it")]
    NotCanonical,
    /// A `file` origin is outside of the lock's folder, which is not allowed.
    #[error(
        "{field}: origin {origin:?} leaves the lockfile's folder, move the file below it or pass \
            --allow-outside"
    )]
    LeavesFolder {
        /// The path of the field.
        field: String,
        /// The origin as it was written.
        origin: String,
    },
    /// An `oci` artifact whose checksum cannot be checked against what is in a registry.
    #[error(
        "artifact {name:?}: its checksum cannot be verified against the registry, run `packgate lock \
            --update` to record the image's digest"
    )]
    UnverifiableOci {
        /// The name of the artifact.
        name: String,
    },
    /// A manifest pins a checksum that the bytes do not have.
    #[error("{name}: has checksum {actual}, but the manifest pins {pinned}")]
    PinnedChecksum {
        /// The artifact, or `entrypoint`.
        name: String,
        /// The checksum in the manifest.
        pinned: Digest,
        /// The actual checksum.
        actual: Digest,
    },
    /// A manifest pins a size that the bytes do not have.
    #[error("{name}: has {actual} bytes, but the manifest pins {pinned}")]
    PinnedSize {
        /// The artifact, or `entrypoint`.
        name: String,
        /// The size in the manifest.
        pinned: u64,
        /// The actual size.
        actual: u64,
    },
}

impl ClassifiedError for LockfileError {
    fn reason(&self) -> Reason {
        match self {
            Self::TooLarge { .. }
            | Self::Refused { .. }
            | Self::NotCanonical
            | Self::LeavesFolder { .. } => Reason::InvalidLock,
            Self::UnverifiableOci { .. } => Reason::UnverifiableOci,
            Self::PinnedChecksum { .. } => Reason::ChecksumMismatch,
            Self::PinnedSize { .. } => Reason::SizeMismatch,
        }
    }
}

impl LockfileError {
    /// A fault in the field at `path`, whose line is found later.
    pub(super) fn at_field(path: impl Into<String>, fault: impl Into<LockfileFieldError>) -> Self {
        Self::Refused {
            place: LockfileFieldLocation {
                mark: None,
                field: path.into(),
            },
            fault: fault.into(),
        }
    }

    /// A fault at a line and column, before there are fields.
    pub(super) const fn at_position(mark: LineColumn, fault: LockfileFieldError) -> Self {
        Self::Refused {
            place: LockfileFieldLocation {
                mark: Some(mark),
                field: String::new(),
            },
            fault,
        }
    }
}

/// A location in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockfileFieldLocation {
    /// Line and column, where they are known.
    pub mark: Option<LineColumn>,
    /// The path of the field, such as `artifacts[3].target`; empty for the whole document.
    pub field: String,
}

impl fmt::Display for LockfileFieldLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.mark, self.field.as_str()) {
            (None, "") => f.write_str("document"),
            (None, field) => f.write_str(field),
            (Some(mark), "") => write!(f, "{mark}"),
            (Some(mark), field) => write!(f, "{mark}, {field}"),
        }
    }
}

/// Line and column, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineColumn {
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl fmt::Display for LineColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// The error at a [`LockfileFieldLocation`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockfileFieldError {
    /// It is neither YAML nor JSON.
    #[error("{0}")]
    Syntax(String),
    /// The document is empty.
    #[error("empty document, expected a lock or manifest")]
    Empty,
    /// It contains a second YAML document.
    #[error("a second document, a file must contain exactly one")]
    SecondDocument,
    /// It contains a YAML anchor or alias.
    #[error("anchors and aliases are not allowed, write the value out")]
    Anchor,
    /// It contains a YAML tag.
    #[error("tags are not allowed, remove the !tag")]
    Tag,
    /// A YAML merge key, or a key that is no text.
    #[error("keys must be plain text (quote a value that starts with {{{{)")]
    Key,
    /// The same key twice in one mapping.
    #[error("duplicate key {0:?}")]
    DuplicateKey(String),
    /// Nested deeper than the limit.
    #[error("nested deeper than {0} levels")]
    TooDeep(usize),
    /// It contains more values than the limit.
    #[error("more than {0} values")]
    TooManyValues(usize),
    /// A field that this kind has not.
    #[error("unknown field {field:?}, expected one of {}", known.join(" "))]
    Unknown {
        /// The unknown field.
        field: String,
        /// The known fields.
        known: &'static [&'static str],
    },
    /// A required field is missing.
    #[error("is required")]
    Missing,
    /// The value has another type than this one.
    #[error("must be {0}")]
    Type(&'static str),
    /// The value is none of the allowed ones.
    #[error("must be one of {}, not {found:?}", expected.join(" "))]
    Choice {
        /// The value.
        found: String,
        /// The allowed values.
        expected: Vec<&'static str>,
    },
    /// A mode that YAML readers take for a number, or another one.
    #[error(
        "must be \"0644\" or \"0755\", in quotes, because YAML reads the bare digits as a number"
    )]
    Mode,
    /// It contains a control character.
    #[error("must not contain control characters")]
    Control,
    /// It contains a character that is invisible, or that changes the display order of others.
    #[error("must not contain invisible or bidirectional control characters")]
    Invisible,
    /// A string is longer than the limit.
    #[error("must have at most {0} bytes")]
    TooLong(usize),
    /// A number is larger than the limit.
    #[error("{found} is over the limit of {limit}")]
    OverLimit {
        /// The number.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// It is not a digest.
    #[error("must be \"sha256:\" and 64 hexadecimal digits")]
    Digest,
    /// It is not a valid name of at most this many characters.
    #[error("must have 1 to {0} characters of A-Z a-z 0-9 . _ -")]
    Name(usize),
    /// A required text is empty.
    #[error("must not be empty")]
    EmptyText,
    /// It is not a valid path in a bundle.
    #[error(transparent)]
    Path(#[from] BundlePathError),
    /// It is not a valid platform.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// There are no artifacts.
    #[error("must have at least one entry")]
    NoEntries,
    /// The name of another artifact.
    #[error("{value:?} is the name of artifacts[{other}] already")]
    TakenName {
        /// The name.
        value: String,
        /// The index of the artifact that has it already.
        other: usize,
    },
    /// The target of another entry.
    #[error("{value:?} is the target of {other} already")]
    TakenTarget {
        /// The target.
        value: String,
        /// The field that has it already.
        other: String,
    },
    /// A target inside of a file, or a file where another target needs a folder.
    #[error("{value:?} and {other_value:?} of {other} cannot both exist: one is inside the other")]
    NestedTarget {
        /// The target.
        value: String,
        /// The other target.
        other_value: String,
        /// The field of the other target.
        other: String,
    },
    /// The entrypoint's target is not the base name of its script.
    #[error("must be the base name of the script")]
    EntrypointTarget,
    /// It is not a valid origin of its type.
    #[error("{0}")]
    Origin(&'static str),
    /// User name or password in an origin. The origin is not repeated here.
    #[error("must not carry a user name or password, give credentials to the tool that fetches")]
    UserInfo,
    /// The field is only allowed with this other one.
    #[error("is only allowed together with {0}")]
    OnlyWith(&'static str),
    /// A list contains this value twice.
    #[error("{0:?} is listed twice")]
    DuplicateValue(String),
    /// `layers` that do not add up.
    #[error("counts {counted} artifacts{}, but the lock has \
        {expected}", of_platform(platform.as_ref()))]
    LayerCount {
        /// The platform's layers that were counted; none without platforms.
        platform: Option<String>,
        /// The sum over `artifacts`.
        counted: u64,
        /// Artifacts of the lock, the entrypoint included.
        expected: u64,
    },
    /// More layers than a bundle has.
    #[error("has more than {0} layers")]
    TooManyLayers(usize),
    /// A layer of a platform that no artifact has.
    #[error("is not a platform of the lock's artifacts")]
    LayerPlatform,
    /// `{{` has no `}}`.
    #[error("has {{{{ without }}}}")]
    OpenTemplate,
    /// The variable is not defined.
    #[error("unknown variable {0:?}")]
    UnknownVariable(String),
    /// Variables that need each other.
    #[error("variables refer to each other: {0}")]
    Cycle(String),
    /// Something that Conduit can do and packgate does not.
    #[error("is not supported: {0}")]
    Unsupported(&'static str),
}

fn of_platform(platform: Option<&String>) -> String {
    platform.map_or_else(String::new, |platform| format!(" of {platform}"))
}
