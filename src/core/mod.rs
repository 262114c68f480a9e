//! PURE. No I/O, no clock, no environment: everything that decides, and nothing that can wait or
//! read.

pub mod bundle_path;
pub mod context_artifact;
pub mod cosign_tags;
pub mod digest;
pub mod display_text;
pub mod environment;
pub mod intoto;
pub mod job;
pub mod json;
pub mod limits;
pub mod lockfile;
pub mod media_type;
pub mod oci;
pub mod pack;
pub mod path_glob;
pub mod pem;
pub mod policy;
pub mod predicate;
pub mod provenance;
pub mod reason;
pub mod reference;
pub mod referrer;
pub mod report;
pub mod sbom;
pub mod sigstore;
pub mod sigstore_bundle;
pub mod slsa;
pub mod unpack;
pub mod verify;
