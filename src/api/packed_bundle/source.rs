//! The source of a `PackedBundle`.

use std::str::FromStr;

use super::{
    AdoptedBundleRef, BundleSourceSpec, ContextArtifactRef,
    packing_request::{BundleAdoption, LockSource, PackedBundleSpecError, invalid_field},
};
use crate::core::{
    digest::Digest,
    reference::{ImageReference, ImageRepository},
};

/// What a source names.
pub(super) enum ParsedSource {
    /// A lock to pack.
    Lock(LockSource),
    /// A bundle to adopt.
    Bundle(BundleAdoption),
}

/// Reads `spec.source`.
pub(super) fn parse_source(
    source: &BundleSourceSpec,
) -> Result<ParsedSource, PackedBundleSpecError> {
    match source {
        BundleSourceSpec {
            inline: Some(text),
            config_map_ref: None,
            oci_ref: None,
            bundle: None,
        } => Ok(ParsedSource::Lock(LockSource::Inline(text.clone()))),
        BundleSourceSpec {
            inline: None,
            config_map_ref: Some(map),
            oci_ref: None,
            bundle: None,
        } => Ok(ParsedSource::Lock(LockSource::ConfigMap {
            name: map.name.clone(),
            key: map.key.clone(),
        })),
        BundleSourceSpec {
            inline: None,
            config_map_ref: None,
            oci_ref: Some(context),
            bundle: None,
        } => parse_context(context).map(ParsedSource::Lock),
        BundleSourceSpec {
            inline: None,
            config_map_ref: None,
            oci_ref: None,
            bundle: Some(bundle),
        } => parse_adoption(bundle).map(ParsedSource::Bundle),
        _ => Err(invalid_field(
            "spec.source",
            "must have exactly one of inline, configMapRef, ociRef and bundle",
        )),
    }
}

fn parse_context(context: &ContextArtifactRef) -> Result<LockSource, PackedBundleSpecError> {
    let repository = parse_repository("spec.source.ociRef.repository", &context.repository)?;
    let digest = Digest::from_str(&context.digest)
        .map_err(|e| invalid_field("spec.source.ociRef.digest", &e))?;
    let secret = context.secret_ref.as_ref();
    Ok(LockSource::Context {
        reference: repository.pin_to_digest(digest),
        path: context.path.clone(),
        secret: secret.map(|secret| secret.name.clone()),
        verify: context.verify,
    })
}

fn parse_adoption(bundle: &AdoptedBundleRef) -> Result<BundleAdoption, PackedBundleSpecError> {
    let field = "spec.source.bundle.reference";
    let reference: ImageReference = bundle
        .reference
        .parse()
        .map_err(|e| invalid_field(field, &e))?;
    let reference = reference
        .to_pinned()
        .map_err(|e| invalid_field(field, &e))?;
    let secret = bundle.secret_ref.as_ref();
    Ok(BundleAdoption {
        reference,
        secret: secret.map(|secret| secret.name.clone()),
    })
}

/// Parses a name without tag and digest.
pub(super) fn parse_repository(
    field: &str,
    text: &str,
) -> Result<ImageRepository, PackedBundleSpecError> {
    let reference: ImageReference = text.parse().map_err(|e| invalid_field(field, &e))?;
    match reference {
        ImageReference {
            repository,
            tag: None,
            digest: None,
        } => Ok(repository),
        _ => Err(invalid_field(
            field,
            "must be a repository without tag and digest",
        )),
    }
}
