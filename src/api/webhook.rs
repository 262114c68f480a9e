//! What the webhook and the controller must agree on: names, paths, and the content of the
//! certificate's Secret.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

/// The name of the ValidatingWebhookConfiguration. The chart creates it, without entries.
pub const WEBHOOK_CONFIGURATION_NAME: &str = "packgate";
/// The Secret with the certificate: `tls.crt`, `tls.key`, and the CAs that API servers trust.
pub const TLS_SECRET: &str = "packgate-webhook-tls";
/// The Service that the API server calls.
pub const WEBHOOK_SERVICE_NAME: &str = "packgate-webhook";

/// The path of reviews of PackedBundles.
pub const PACKED_BUNDLES_PATH: &str = "/packedbundles";
/// The path of reviews of policies.
pub const POLICIES_PATH: &str = "/policies";
/// The path of reviews of workloads.
pub const IMAGE_USES_PATH: &str = "/uses";

/// Annotation of the certificate's Secret: when the certificate expires.
pub const NOT_AFTER_ANNOTATION: &str = "packgate.dev/not-after";
/// Annotation of the certificate's Secret: any new text requests a new certificate.
pub const ROTATE_REQUESTED_ANNOTATION: &str = "packgate.dev/rotate-requested-at";

/// Annotation of the Lease: the policies that a replica has loaded.
pub fn replica_annotation(replica: &str) -> String {
    format!("{REPLICA}{replica}")
}

/// The replica of an annotation.
pub fn replica_from_annotation(annotation: &str) -> Option<&str> {
    annotation.strip_prefix(REPLICA)
}

const REPLICA: &str = "replica.packgate.dev/";

/// When the certificate in use expires.
pub fn certificate_not_after(secret: &Secret) -> Option<Timestamp> {
    secret
        .metadata
        .annotations
        .as_ref()?
        .get(NOT_AFTER_ANNOTATION)?
        .parse()
        .ok()
}
