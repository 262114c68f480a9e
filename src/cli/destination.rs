//! What a location on the command line means for a bundle that is written there.

use super::error::CliError;
use crate::core::reference::{BundleLocation, ImageTag};

/// The registry of a location, if it has one.
pub(super) fn registry_host(location: &BundleLocation) -> Option<&str> {
    match location {
        BundleLocation::Registry(reference) => Some(reference.repository.host()),
        BundleLocation::Layout(_) | BundleLocation::Archive(_) => None,
    }
}

/// A digest follows from the content, so it cannot be requested.
pub(super) fn reject_digest(to: &BundleLocation) -> Result<(), CliError> {
    match to.digest() {
        Some(_) => Err(CliError::invalid(format!(
            "target {to} must not carry a digest, it follows from the content"
        ))),
        None => Ok(()),
    }
}

/// The default tag of a target: `latest` on this machine, none in a registry.
pub(super) fn destination_tag(to: &BundleLocation) -> Result<Option<ImageTag>, CliError> {
    match (to.tag(), to) {
        (Some(tag), _) => Ok(Some(tag.clone())),
        (None, BundleLocation::Registry(_)) => Ok(None),
        (None, _) => Ok(Some("latest".parse()?)),
    }
}

/// The name of an attestation's subject: the repository, or on this machine the lock's name.
pub(super) fn subject_name(to: &BundleLocation, lock_name: Option<&str>) -> String {
    match to {
        BundleLocation::Registry(reference) => reference.repository.to_string(),
        _ => lock_name.unwrap_or_default().to_owned(),
    }
}
