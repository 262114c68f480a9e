//! A tenant's own Sigstore: the services that its signatures are made with, and the trust root that
//! verifies them. One `ConfigMap` in its namespace contains both.

use std::{collections::BTreeMap, sync::Arc};

use kube::core::{Request, params::GetParams};
use serde::Deserialize;

use super::{
    reconcile_context::ReconcileContext,
    reconcile_error::{ReconcileError, is_forbidden},
    resources::{SIGNING_CONFIG_KEY, SigstoreServicesConfigMap},
};
use crate::{
    api::{bundle_policy::CA_CERTIFICATES_KEY, trust_root::TRUSTED_ROOT_KEY},
    core::{
        limits::InputLimits, reason::Reason, sigstore::SigstoreSigningConfig, verify::TrustRoot,
    },
};

const FIELD: &str = "spec.signing.signingConfigRef";

/// What the sign Job needs from the `ConfigMap`, which is checked first: the user learns
/// immediately what would fail there.
pub(super) async fn check_services(
    namespace: &str,
    name: &str,
    context: &ReconcileContext,
) -> Result<SigstoreServicesConfigMap, ReconcileError> {
    let data = context
        .secrets
        .read_config_map(namespace, name, FIELD)
        .await?;
    let config = SigstoreSigningConfig::parse(
        required_text(&data, SIGNING_CONFIG_KEY, namespace, name)?.as_bytes(),
        &InputLimits::DEFAULT,
    );
    config
        .and_then(|config| config.select_services(context.clock.now()))
        .map_err(|error| ReconcileError::from_classified(&error))?;
    parse_trust_root(&data, namespace, name)?;
    Ok(SigstoreServicesConfigMap {
        name: name.to_owned(),
        has_ca: data.contains_key(CA_CERTIFICATES_KEY),
    })
}

/// The trust root that verifies the services' responses.
pub(super) async fn load_trust_root(
    namespace: &str,
    name: &str,
    context: &ReconcileContext,
) -> Result<Arc<TrustRoot>, ReconcileError> {
    let data = context
        .secrets
        .read_config_map(namespace, name, FIELD)
        .await?;
    parse_trust_root(&data, namespace, name)
}

fn parse_trust_root(
    data: &BTreeMap<String, String>,
    namespace: &str,
    name: &str,
) -> Result<Arc<TrustRoot>, ReconcileError> {
    let root = TrustRoot::parse(
        required_text(data, TRUSTED_ROOT_KEY, namespace, name)?.as_bytes(),
        &InputLimits::DEFAULT,
    );
    root.map(Arc::new)
        .map_err(|error| ReconcileError::from_classified(&error))
}

fn required_text<'a>(
    data: &'a BTreeMap<String, String>,
    key: &str,
    namespace: &str,
    name: &str,
) -> Result<&'a str, ReconcileError> {
    let missing = || {
        ReconcileError::new(
            Reason::NoSigner,
            format!("ConfigMap {namespace}/{name} ({FIELD}) has no key {key}; add it"),
        )
    };
    data.get(key).map(String::as_str).ok_or_else(missing)
}

/// The part of the cluster's discovery document that we need (OpenID Connect Discovery 1.0, section
/// 3).
#[derive(Deserialize)]
struct OidcDiscoveryDocument {
    issuer: String,
}

/// The issuer of this cluster's ServiceAccount tokens. Kubernetes lets every ServiceAccount read
/// it.
pub(super) async fn discover_issuer(context: &ReconcileContext) -> Result<String, ReconcileError> {
    let request = Request::new("/.well-known").get("openid-configuration", &GetParams::default());
    let request = request.map_err(|error| {
        ReconcileError::new(
            Reason::Internal,
            format!("no request for the cluster's issuer: {error}"),
        )
    })?;
    match context
        .client
        .request::<OidcDiscoveryDocument>(request)
        .await
    {
        Ok(OidcDiscoveryDocument { issuer }) if !issuer.is_empty() => Ok(issuer),
        Ok(_) => Err(ReconcileError::new(
            Reason::NoSigner,
            "the cluster names no issuer of ServiceAccount tokens",
        )),
        Err(error) if is_forbidden(&error) => Err(ReconcileError::new(
            Reason::NoSigner,
            "packgate may not ask for the issuer of ServiceAccount tokens, which keyless signing \
                needs; bind its account to the ClusterRole \
             system:service-account-issuer-discovery",
        )),
        Err(error) => Err(error.into()),
    }
}
