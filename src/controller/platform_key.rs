//! The platform key: generated once, on the first start, and published. It is never replaced
//! automatically.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
    core::ObjectMeta,
};

use super::{
    reconcile_context::ReconcileContext,
    reconcile_error::{ReconcileError, is_already_exists},
    resources::{MANAGED_BY, MANAGER},
};
use crate::core::{reason::Reason, verify::VerificationKey};

/// The Secret with the key, and the `ConfigMap` with its public half.
pub(super) const NAME: &str = "packgate-platform-key";
/// Key of both: the public half, in PEM.
pub(super) const PUBLIC: &str = "cosign.pub";
const PRIVATE: &str = "cosign.key";
const PASSWORD: &str = "cosign.password";
const BUILDER_ID: &str = "builder.id";

/// A generated key pair.
pub struct PlatformKeyPair {
    /// The private key in PEM, in cosign's encryption.
    pub private_pem: String,
    /// The password of the private key.
    pub password: String,
    /// The public key in PEM.
    pub public_pem: String,
}

/// Generates key pairs; the caller supplies the implementation.
pub type PlatformKeyGenerator = dyn Fn() -> Result<PlatformKeyPair, String> + Send + Sync;

/// Generates the key if there never was one, and publishes its public half. Errors are logged;
/// objects report them as `NoSigner`.
pub(super) async fn ensure_platform_key(
    context: &ReconcileContext,
    make: &PlatformKeyGenerator,
) -> Result<(), ReconcileError> {
    let secrets = Api::<Secret>::namespaced(
        context.client.clone(),
        &context.run_settings.system_namespace,
    );
    let maps = Api::<ConfigMap>::namespaced(
        context.client.clone(),
        &context.run_settings.system_namespace,
    );
    if secrets.get_opt(NAME).await?.is_none() {
        if maps.get_opt(NAME).await?.is_some() {
            return Err(lost_key_error(&context.run_settings.system_namespace));
        }
        let key = make().map_err(|error| ReconcileError::new(Reason::NoSigner, error))?;
        match secrets
            .create(&PostParams::default(), &platform_key_secret(key))
            .await
        {
            Ok(_) => tracing::info!(secret = NAME, "made the platform key"),
            Err(error) if is_already_exists(&error) => (),
            Err(error) => return Err(error.into()),
        }
    }
    publish_public_key(&maps, &public_key(context).await?, context).await
}

/// The public key, from the signing Secret. Errors: `NoSigner` with a way to resolve it.
pub(super) async fn public_key(context: &ReconcileContext) -> Result<String, ReconcileError> {
    let namespace = &context.run_settings.system_namespace;
    let secret = Api::<Secret>::namespaced(context.client.clone(), namespace)
        .get_opt(NAME)
        .await?
        .ok_or_else(|| lost_key_error(namespace))?;
    let data = secret.data.unwrap_or_default();
    let lacks = |key: &str| broken_key_error(namespace, &format!("has no key {key}"));
    if let Some(missing) = [PRIVATE, PASSWORD]
        .into_iter()
        .find(|key| !data.contains_key(*key))
    {
        return Err(lacks(missing));
    }
    let pem =
        String::from_utf8_lossy(&data.get(PUBLIC).ok_or_else(|| lacks(PUBLIC))?.0).into_owned();
    VerificationKey::from_pem(&pem).map_err(|error| {
        broken_key_error(namespace, &format!("has a {PUBLIC} that is none: {error}"))
    })?;
    Ok(pem)
}

fn platform_key_secret(key: PlatformKeyPair) -> Secret {
    let PlatformKeyPair {
        private_pem,
        password,
        public_pem,
    } = key;
    let data = [
        (PRIVATE, private_pem),
        (PASSWORD, password),
        (PUBLIC, public_pem),
    ];
    Secret {
        metadata: platform_key_metadata(),
        data: Some(
            data.into_iter()
                .map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes())))
                .collect(),
        ),
        ..Secret::default()
    }
}

fn platform_key_metadata() -> ObjectMeta {
    let labels = [
        ("app.kubernetes.io/name", "packgate"),
        (MANAGED_BY, MANAGER),
    ];
    ObjectMeta {
        name: Some(NAME.to_owned()),
        labels: Some(
            labels
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        ),
        ..ObjectMeta::default()
    }
}

async fn publish_public_key(
    maps: &Api<ConfigMap>,
    public_pem: &str,
    context: &ReconcileContext,
) -> Result<(), ReconcileError> {
    let data = BTreeMap::from([
        (PUBLIC.to_owned(), public_pem.to_owned()),
        (
            BUILDER_ID.to_owned(),
            context.installation.platform_builder(&context.cluster_uid),
        ),
    ]);
    let there = maps.get_opt(NAME).await?;
    if there.as_ref().and_then(|map| map.data.as_ref()) == Some(&data) {
        return Ok(());
    }
    let map = ConfigMap {
        metadata: platform_key_metadata(),
        data: Some(data),
        ..ConfigMap::default()
    };
    maps.patch(
        NAME,
        &PatchParams::apply(MANAGER).force(),
        &Patch::Apply(&map),
    )
    .await?;
    Ok(())
}

fn lost_key_error(namespace: &str) -> ReconcileError {
    let message = format!(
        "Secret {namespace}/{NAME} is gone, but its public half is known to policies. Restore it \
            from a backup; or, to have a new key made, delete \
         ConfigMap {namespace}/{NAME} and restart the controller"
    );
    ReconcileError::new(Reason::NoSigner, message)
}

fn broken_key_error(namespace: &str, what: &str) -> ReconcileError {
    let message = format!(
        "Secret {namespace}/{NAME} {what}. Restore it from a backup; or, to have a new key made, \
            delete it and ConfigMap {namespace}/{NAME} and \
         restart the controller"
    );
    ReconcileError::new(Reason::NoSigner, message)
}
