//! PURE. No I/O, no clock, no environment: everything that decides, and nothing that can wait or
//! read.

pub mod bundle_path;
pub(crate) mod context_artifact;
pub(crate) mod cosign_tags;
pub mod digest;
pub mod display_text;
pub(crate) mod environment;
pub mod intoto;
pub mod job;
pub mod json;
pub mod limits;
pub mod lockfile;
pub mod media_type;
pub(crate) mod names;
pub mod oci;
pub mod pack;
pub mod path_glob;
pub mod pem;
pub mod policy;
pub(crate) mod predicate;
pub(crate) mod provenance;
pub mod reason;
pub mod reference;
pub mod referrer;
pub mod report;
pub mod sbom;
pub(crate) mod sigstore;
pub mod sigstore_bundle;
pub(crate) mod slsa;
pub(crate) mod timestamp;
pub mod unpack;
pub mod verify;
