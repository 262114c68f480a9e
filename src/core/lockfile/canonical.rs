//! The canonical lock: what a bundle carries, and what its digest names (formats page, "Canonical
//! lock").
//!
//! JCS (RFC 8785) without a final newline. What it leaves out has no influence on any digest: the
//! file's name, the order of keys, recorded layers, and whose generation the lock was.

use serde_json::{Map, Value};

use super::{
    API_VERSION, KIND,
    error::LockError,
    model::{Artifact, Entrypoint, Lockfile, OciSelection},
};
use crate::core::{digest::Digest, limits::Limits};

/// The only value of `packFormat` that there is.
pub(super) const PACK_FORMAT: &str = "1";

/// The canonical bytes of a lock and their digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalLock {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Their digest.
    pub digest: Digest,
}

impl Lockfile {
    /// The canonical form.
    pub fn canonical(&self) -> CanonicalLock {
        let bytes = lock(self).to_string().into_bytes();
        let digest = Digest::of(&bytes);
        CanonicalLock { bytes, digest }
    }

    /// Reads a canonical lock, such as one out of a bundle.
    ///
    /// # Errors
    /// Those of [`Lockfile::parse`], and [`LockError::NotCanonical`] if one byte is different from
    /// what [`Lockfile::canonical`] writes.
    pub fn from_canonical(bytes: &[u8], limits: &Limits) -> Result<Self, LockError> {
        let lock = Self::parse(bytes, limits)?;
        if lock.canonical().bytes == bytes {
            Ok(lock)
        } else {
            Err(LockError::NotCanonical)
        }
    }
}

/// An object of the fields that are there.
///
/// The fields must be given in the order of their UTF-16 code units, as RFC 8785 sorts them:
/// `serde_json` keeps or makes that order, whichever map it was built with. All keys are ASCII,
/// texts hold no control characters, and numbers are whole and below 2^53, so that its compact
/// output is JCS; a test compares both.
fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let present = fields
        .into_iter()
        .filter_map(|(key, value)| value.map(|value| (key.to_owned(), value)));
    Value::Object(present.collect::<Map<_, _>>())
}

fn text(value: &(impl ToString + ?Sized)) -> Value {
    Value::String(value.to_string())
}

fn lock(lock: &Lockfile) -> Value {
    let Lockfile {
        generation: _,
        name,
        version,
        entrypoint,
        artifacts,
        layers: _,
    } = lock;
    object([
        ("apiVersion", Some(text(API_VERSION))),
        ("artifacts", Some(artifacts.iter().map(artifact).collect())),
        ("entrypoint", entrypoint.as_ref().map(entry)),
        ("kind", Some(text(KIND))),
        ("name", name.as_ref().map(text)),
        ("packFormat", Some(text(PACK_FORMAT))),
        ("version", version.as_ref().map(text)),
    ])
}

fn entry(entrypoint: &Entrypoint) -> Value {
    let Entrypoint {
        script,
        target: _,
        mode,
        checksum,
        size,
    } = entrypoint;
    object([
        ("checksum", Some(text(checksum))),
        ("mode", Some(text(mode))),
        ("script", Some(text(script))),
        ("size", Some(Value::from(*size))),
    ])
}

fn artifact(artifact: &Artifact) -> Value {
    let Artifact {
        name,
        origin_type,
        origin,
        target,
        checksum,
        size,
        mode,
        unpack,
        oci,
        platforms,
    } = artifact;
    let compression = unpack.as_ref().and_then(|unpack| unpack.compression);
    let unpacked_path = unpack.as_ref().and_then(|unpack| unpack.path.as_ref());
    object([
        ("checksum", Some(text(checksum))),
        (
            "compression",
            compression.map(|compression| text(compression.as_str())),
        ),
        ("mode", Some(text(mode))),
        ("name", Some(text(name))),
        ("oci", oci.as_ref().map(selection)),
        ("origin", Some(text(origin))),
        (
            "platforms",
            (!platforms.is_empty()).then(|| platforms.iter().map(text).collect()),
        ),
        ("size", Some(Value::from(*size))),
        ("target", Some(text(target))),
        ("type", Some(text(origin_type.as_str()))),
        ("unpack", unpack.is_some().then_some(Value::Bool(true))),
        ("unpackedPath", unpacked_path.map(text)),
    ])
}

fn selection(selection: &OciSelection) -> Value {
    match selection {
        OciSelection::Blob(digest) => object([("blob", Some(text(digest)))]),
        OciSelection::Platform(platform) => object([("platform", Some(text(platform)))]),
    }
}
