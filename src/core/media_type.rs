//! The media types that packgate reads and writes.

/// OCI image manifest (image-spec 1.1, manifest.md).
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index (image-spec 1.1, image-index.md).
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Docker's image manifest, schema 2: the same shape as OCI's.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's manifest list: the same shape as an OCI index.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// OCI image configuration (image-spec 1.1, config.md).
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The empty descriptor's type (image-spec 1.1, manifest.md, "Guidance for an Empty Descriptor").
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// An uncompressed layer.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// A layer compressed with Zstandard.
pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Bytes of unknown type.
pub const OCTET_STREAM: &str = "application/octet-stream";
/// A bundle in the `Artifact` format.
pub const ARTIFACT: &str = "application/vnd.packgate.bundle.v1+json";
/// A context artifact: a lock and the files that it names.
pub const CONTEXT: &str = "application/vnd.packgate.context.v1+json";
/// The canonical lock.
pub const LOCK: &str = "application/vnd.packgate.lock.v1+json";
/// A Sigstore bundle, version 0.3.
pub const SIGSTORE_BUNDLE_V03: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The DSSE payload type of an in-toto statement.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// An SPDX document in JSON.
pub const SPDX: &str = "application/spdx+json";
/// A `CycloneDX` document in JSON.
pub const CYCLONEDX: &str = "application/vnd.cyclonedx+json";

/// The accepted types in requests for a manifest of any kind.
pub const ACCEPT_MANIFESTS: [&str; 4] = [MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX];

/// True for the type of a manifest with layers.
pub fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, MANIFEST | DOCKER_MANIFEST)
}

/// True for the type of an index.
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, INDEX | DOCKER_INDEX)
}

/// True for a Sigstore bundle of any version (`application/vnd.dev.sigstore.bundle.v0.3+json`,
/// `…bundle+json;version=0.1`).
pub fn is_sigstore_bundle(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.dev.sigstore.bundle") && media_type.contains("json")
}
