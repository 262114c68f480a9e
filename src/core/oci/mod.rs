//! OCI documents: descriptors, manifests, indexes, and the layout's own files (image-spec 1.1).
//!
//! Raw bytes are kept end to end: a document that was read is never serialised again, because its
//! digest is of the bytes.

pub mod descriptor;
pub mod layout;
pub mod manifest;
pub mod platform;

use std::collections::BTreeMap;

pub use descriptor::{Descriptor, Platform};
pub use manifest::{ImageIndex, ImageManifest, ManifestError, ManifestOrIndex};

/// Annotations, sorted by key.
pub type Annotations = BTreeMap<String, String>;
