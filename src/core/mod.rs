//! PURE. No I/O, no clock, no environment: everything that decides, and nothing that can wait or
//! read.

pub mod class;
pub mod context;
pub mod digest;
pub mod environment;
pub mod glob;
pub mod intoto;
pub mod job;
pub mod json;
pub mod legacy;
pub mod limits;
pub mod lockfile;
pub mod media_type;
pub mod oci;
pub mod pack;
pub mod path;
pub mod policy;
pub mod predicate;
pub mod provenance;
pub mod reference;
pub mod referrer;
pub mod report;
pub mod sbom;
pub mod sigstore;
pub mod sigstore_bundle;
pub mod slsa;
pub mod text;
pub mod unpack;
pub mod verify;
