//! A tenant's own Sigstore: which services vouch for its signatures, and what they are believed by.
//! Both lie in one `ConfigMap` of its namespace.

use std::{collections::BTreeMap, sync::Arc};

use kube::core::{Request, params::GetParams};
use serde::Deserialize;

use super::{
    build::{CA_KEY, SIGNING_CONFIG_KEY, ServicesMap},
    context::Context,
    trouble::{Trouble, is_forbidden},
};
use crate::{
    api::trust_root::TRUSTED_ROOT_KEY,
    core::{class::Reason, limits::Limits, sigstore::SigningConfig, verify::TrustRoot},
};

const FIELD: &str = "spec.signing.signingConfigRef";

/// What the sign Job needs to know about the `ConfigMap`, which is checked first: a person is told
/// at once what would fail there.
pub(super) async fn services(
    namespace: &str,
    name: &str,
    context: &Context,
) -> Result<ServicesMap, Trouble> {
    let data = context.secrets.config_map(namespace, name, FIELD).await?;
    let config = SigningConfig::parse(
        text(&data, SIGNING_CONFIG_KEY, namespace, name)?.as_bytes(),
        &Limits::DEFAULT,
    );
    config
        .and_then(|config| config.services(context.clock.now()))
        .map_err(|error| Trouble::of(&error))?;
    parse(&data, namespace, name)?;
    Ok(ServicesMap {
        name: name.to_owned(),
        has_ca: data.contains_key(CA_KEY),
    })
}

/// What the services are believed by.
pub(super) async fn trust_root(
    namespace: &str,
    name: &str,
    context: &Context,
) -> Result<Arc<TrustRoot>, Trouble> {
    let data = context.secrets.config_map(namespace, name, FIELD).await?;
    parse(&data, namespace, name)
}

fn parse(
    data: &BTreeMap<String, String>,
    namespace: &str,
    name: &str,
) -> Result<Arc<TrustRoot>, Trouble> {
    let root = TrustRoot::parse(
        text(data, TRUSTED_ROOT_KEY, namespace, name)?.as_bytes(),
        &Limits::DEFAULT,
    );
    root.map(Arc::new).map_err(|error| Trouble::of(&error))
}

fn text<'a>(
    data: &'a BTreeMap<String, String>,
    key: &str,
    namespace: &str,
    name: &str,
) -> Result<&'a str, Trouble> {
    let missing = || {
        Trouble::new(
            Reason::NoSigner,
            format!("ConfigMap {namespace}/{name} ({FIELD}) has no key {key}; add it"),
        )
    };
    data.get(key).map(String::as_str).ok_or_else(missing)
}

/// The part of the cluster's discovery document that we need (OpenID Connect Discovery 1.0, section
/// 3).
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
}

/// Who issues the tokens of this cluster's ServiceAccounts. Kubernetes lets every ServiceAccount
/// ask.
pub(super) async fn issuer(context: &Context) -> Result<String, Trouble> {
    let request = Request::new("/.well-known").get("openid-configuration", &GetParams::default());
    let request = request.map_err(|error| {
        Trouble::new(
            Reason::Internal,
            format!("no request for the cluster's issuer: {error}"),
        )
    })?;
    match context.client.request::<Discovery>(request).await {
        Ok(Discovery { issuer }) if !issuer.is_empty() => Ok(issuer),
        Ok(_) => Err(Trouble::new(
            Reason::NoSigner,
            "the cluster names no issuer of ServiceAccount tokens",
        )),
        Err(error) if is_forbidden(&error) => Err(Trouble::new(
            Reason::NoSigner,
            "packgate may not ask for the issuer of ServiceAccount tokens, which keyless signing \
                needs; bind its account to the ClusterRole \
             system:service-account-issuer-discovery",
        )),
        Err(error) => Err(error.into()),
    }
}
