//! The canonical lock: the form in bundles, and the one that a lock's digest covers
//! (docs/spec/pack-v1.md, "Lock").
//!
//! JCS (RFC 8785) without a final newline. What it omits has no influence on any digest: the file's
//! name, the order of keys, recorded layers, the generation of the lock format, and credentials in
//! origins.

use serde_json::{Map, Value};

use super::{
    API_VERSION, LOCKFILE_KIND,
    error::LockfileError,
    model::{LockedArtifact, LockedEntrypoint, Lockfile, OciSelection},
};
use crate::core::{digest::Digest, limits::InputLimits};

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
    pub fn to_canonical(&self) -> CanonicalLock {
        let bytes = lock_to_json(self).to_string().into_bytes();
        let digest = Digest::of_bytes(&bytes);
        CanonicalLock { bytes, digest }
    }

    /// Parses a canonical lock, such as one from a bundle.
    ///
    /// # Errors
    /// Those of [`Lockfile::parse`], and [`LockfileError::NotCanonical`] if one byte differs from
    /// the output of [`Lockfile::to_canonical`].
    pub fn from_canonical(bytes: &[u8], limits: &InputLimits) -> Result<Self, LockfileError> {
        let lock = Self::parse_as_published(bytes, limits)?;
        if lock.to_canonical().bytes == bytes {
            Ok(lock)
        } else {
            Err(LockfileError::NotCanonical)
        }
    }
}

/// An object of the fields that are present.
///
/// The fields must be given in the order of their UTF-16 code units, as RFC 8785 sorts them:
/// `serde_json` keeps or makes that order, whichever map it was built with. All keys are ASCII,
/// texts contain no control characters, and numbers are whole and below 2^53, so that its compact
/// output is JCS; a test compares both.
fn json_object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let present = fields
        .into_iter()
        .filter_map(|(key, value)| value.map(|value| (key.to_owned(), value)));
    Value::Object(present.collect::<Map<_, _>>())
}

fn json_string(value: &(impl ToString + ?Sized)) -> Value {
    Value::String(value.to_string())
}

fn lock_to_json(lock: &Lockfile) -> Value {
    let Lockfile {
        generation: _,
        name,
        version,
        entrypoint,
        artifacts,
        layers: _,
    } = lock;
    json_object([
        ("apiVersion", Some(json_string(API_VERSION))),
        (
            "artifacts",
            Some(artifacts.iter().map(artifact_to_json).collect()),
        ),
        ("entrypoint", entrypoint.as_ref().map(entrypoint_to_json)),
        ("kind", Some(json_string(LOCKFILE_KIND))),
        ("name", name.as_ref().map(json_string)),
        ("packFormat", Some(json_string(PACK_FORMAT))),
        ("version", version.as_ref().map(json_string)),
    ])
}

fn entrypoint_to_json(entrypoint: &LockedEntrypoint) -> Value {
    let LockedEntrypoint {
        script,
        target: _,
        mode,
        checksum,
        size,
    } = entrypoint;
    json_object([
        ("checksum", Some(json_string(checksum))),
        ("mode", Some(json_string(mode))),
        ("script", Some(json_string(script))),
        ("size", Some(Value::from(*size))),
    ])
}

fn artifact_to_json(artifact: &LockedArtifact) -> Value {
    let LockedArtifact {
        name,
        origin_type,
        origin,
        signed_origin: _,
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
    json_object([
        ("checksum", Some(json_string(checksum))),
        (
            "compression",
            compression.map(|compression| json_string(compression.as_str())),
        ),
        ("mode", Some(json_string(mode))),
        ("name", Some(json_string(name))),
        ("oci", oci.as_ref().map(selection_to_json)),
        ("origin", Some(json_string(origin))),
        (
            "platforms",
            (!platforms.is_empty()).then(|| platforms.iter().map(json_string).collect()),
        ),
        ("size", Some(Value::from(*size))),
        ("target", Some(json_string(target))),
        ("type", Some(json_string(origin_type.as_str()))),
        ("unpack", unpack.is_some().then_some(Value::Bool(true))),
        ("unpackedPath", unpacked_path.map(json_string)),
    ])
}

fn selection_to_json(selection: &OciSelection) -> Value {
    match selection {
        OciSelection::Blob(digest) => json_object([("blob", Some(json_string(digest)))]),
        OciSelection::Platform(platform) => {
            json_object([("platform", Some(json_string(platform)))])
        }
    }
}
