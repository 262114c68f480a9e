//! Names and fixed contents of an OCI image layout (image-spec 1.1, image-layout.md).

use crate::core::digest::Digest;

/// Content of the file `oci-layout`.
pub const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// The name of the marker file.
pub const MARKER_FILE: &str = "oci-layout";
/// The name of the index.
pub const INDEX_FILE: &str = "index.json";
/// The annotation that carries a tag in `index.json`.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The path of a blob in the layout: `blobs/sha256/<hex>`.
pub fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex_digits())
}
