//! Why a lock or manifest was refused, and where.

use std::fmt;

use crate::core::{
    bundle_path::BundlePathError,
    digest::Digest,
    oci::descriptor::PlatformError,
    reason::{Reason, classify},
};

/// Why a lock or manifest was refused. Whatever is wrong with the document itself is
/// [`Reason::InvalidLock`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum LockfileError {
    /// More bytes than the cap, counted before anything is parsed.
    #[error("lock of {size} bytes is over the limit of {limit}")]
    TooLarge { size: usize, limit: usize },
    #[error("{place}: {fault}")]
    Refused {
        place: LockfileFieldLocation,
        fault: LockfileFieldError,
    },
    #[error("lock is not in its canonical form (RFC 8785), so its digest does not identify it")]
    NotCanonical,
    #[error(
        "{field}: origin {origin:?} leaves the lockfile's folder, move the file below it or pass \
            --allow-outside"
    )]
    LeavesFolder { field: String, origin: String },
    #[error(
        "artifact {name:?}: its checksum cannot be verified against the registry, run `packgate lock \
            --update` to record the image's digest"
    )]
    UnverifiableOci { name: String },
    #[error("{name}: has checksum {actual}, but the manifest pins {pinned}")]
    PinnedChecksum {
        /// The artifact, or `entrypoint`.
        name: String,
        pinned: Digest,
        actual: Digest,
    },
    #[error("{name}: has {actual} bytes, but the manifest pins {pinned}")]
    PinnedSize {
        /// The artifact, or `entrypoint`.
        name: String,
        pinned: u64,
        actual: u64,
    },
}

classify!(LockfileError, |error| match error {
    Self::TooLarge { .. }
    | Self::Refused { .. }
    | Self::NotCanonical
    | Self::LeavesFolder { .. } => Reason::InvalidLock,
    Self::UnverifiableOci { .. } => Reason::UnverifiableOci,
    Self::PinnedChecksum { .. } => Reason::ChecksumMismatch,
    Self::PinnedSize { .. } => Reason::SizeMismatch,
});

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
#[allow(missing_docs, reason = "the messages say it")]
pub enum LockfileFieldError {
    #[error("{0}")]
    Syntax(String),
    #[error("empty document, expected a lock or manifest")]
    Empty,
    #[error("a second document, a file must contain exactly one")]
    SecondDocument,
    #[error("anchors and aliases are not allowed, write the value out")]
    Anchor,
    #[error("tags are not allowed, remove the !tag")]
    Tag,
    #[error("keys must be plain text (quote a value that starts with {{{{)")]
    Key,
    #[error("duplicate key {0:?}")]
    DuplicateKey(String),
    #[error("nested deeper than {0} levels")]
    TooDeep(usize),
    #[error("more than {0} values")]
    TooManyValues(usize),
    #[error("unknown field {field:?}, expected one of {}", known.join(" "))]
    Unknown {
        field: String,
        known: &'static [&'static str],
    },
    #[error("is required")]
    Missing,
    #[error("must be {0}")]
    Type(&'static str),
    #[error("must be one of {}, not {found:?}", expected.join(" "))]
    Choice {
        found: String,
        expected: Vec<&'static str>,
    },
    #[error(
        "must be \"0644\" or \"0755\", in quotes, because YAML reads the bare digits as a number"
    )]
    Mode,
    #[error("must not contain control characters")]
    Control,
    /// It contains a character that is invisible, or that changes the display order of others.
    #[error("must not contain invisible or bidirectional control characters")]
    Invisible,
    #[error("must have at most {0} bytes")]
    TooLong(usize),
    #[error("{found} is over the limit of {limit}")]
    OverLimit { found: u64, limit: u64 },
    #[error("must be \"sha256:\" and 64 hexadecimal digits")]
    Digest,
    /// It is not a valid name of at most this many characters.
    #[error("must have 1 to {0} characters of A-Z a-z 0-9 . _ -")]
    Name(usize),
    #[error("must not be empty")]
    EmptyText,
    /// It is not a valid path in a bundle.
    #[error(transparent)]
    Path(#[from] BundlePathError),
    /// It is not a valid platform.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    #[error("must have at least one entry")]
    NoEntries,
    #[error("{value:?} is the name of artifacts[{other}] already")]
    TakenName { value: String, other: usize },
    #[error("{value:?} is the target of {other} already")]
    TakenTarget { value: String, other: String },
    /// A target inside of a file, or a file where another target needs a folder.
    #[error("{value:?} and {other_value:?} of {other} cannot both exist: one is inside the other")]
    NestedTarget {
        value: String,
        other_value: String,
        other: String,
    },
    #[error("must be the base name of the script")]
    EntrypointTarget,
    #[error("{0}")]
    Origin(&'static str),
    /// User name or password in an origin. The origin is not repeated here.
    #[error("must not carry a user name or password, give credentials to the tool that fetches")]
    UserInfo,
    #[error("is only allowed together with {0}")]
    OnlyWith(&'static str),
    #[error("{0:?} is listed twice")]
    DuplicateValue(String),
    #[error("counts {counted} artifacts{}, but the lock has \
        {expected}", of_platform(platform.as_ref()))]
    LayerCount {
        /// The platform's layers that were counted; none without platforms.
        platform: Option<String>,
        counted: u64,
        /// Artifacts of the lock, the entrypoint included.
        expected: u64,
    },
    #[error("has more than {0} layers")]
    TooManyLayers(usize),
    #[error("is not a platform of the lock's artifacts")]
    LayerPlatform,
    #[error("has {{{{ without }}}}")]
    OpenTemplate,
    #[error("unknown variable {0:?}")]
    UnknownVariable(String),
    #[error("variables refer to each other: {0}")]
    Cycle(String),
    #[error("is not supported: {0}")]
    Unsupported(&'static str),
}

fn of_platform(platform: Option<&String>) -> String {
    platform.map_or_else(String::new, |platform| format!(" of {platform}"))
}
