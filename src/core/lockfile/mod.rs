//! Lockfiles: what belongs into a bundle, byte for byte.

mod model;

pub use model::{Artifact, Compression, Entrypoint, FileMode, Lockfile, OciSelection, OriginType, RecordedLayer, Unpack};
