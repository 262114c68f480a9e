//! The signer of a sign Job, with its arguments and files.

use super::pod::PodVolumeMount;
use crate::api::{
    bundle_policy::CA_CERTIFICATES_KEY, packed_bundle::TenantSigningIdentity,
    trust_root::TRUSTED_ROOT_KEY,
};

const KEY: &str = "/signing";
const SERVICES: &str = "/services";
const IDENTITY: &str = "/identity";
/// The audience of identity tokens: the one that Fulcio requires.
const AUDIENCE: &str = "sigstore";

/// The signer of a sign Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignJobSigner {
    /// The platform's key, a Secret of the system namespace.
    Platform(String),
    /// The tenant's own signer, in its namespace.
    Namespace {
        /// The signing identity.
        identity: TenantSigningIdentity,
        /// The Sigstore services to sign with.
        services: Option<SigstoreServicesConfigMap>,
    },
    /// No signer: the bytes are compared only.
    Unsigned,
}

/// A `ConfigMap` of the tenant's namespace with Sigstore's services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigstoreServicesConfigMap {
    /// The name of the `ConfigMap`.
    pub name: String,
    /// True if it contains certificate authorities for TLS.
    pub has_ca: bool,
}

/// Key in a [`SigstoreServicesConfigMap`]: the services.
pub const SIGNING_CONFIG_KEY: &str = "signing_config.json";

/// Adds the arguments of the sign Job for its signer, with the paths of its files.
pub(super) fn add_signer_arguments(
    with: &SignJobSigner,
    args: &mut Vec<String>,
    mounts: &mut Vec<PodVolumeMount>,
) {
    match with {
        SignJobSigner::Platform(secret)
        | SignJobSigner::Namespace {
            identity: TenantSigningIdentity::Key(secret),
            ..
        } => {
            let (key, password) = ("cosign.key", "cosign.password");
            args.extend([
                "--key".to_owned(),
                format!("{KEY}/{key}"),
                "--key-password-file".to_owned(),
                format!("{KEY}/{password}"),
            ]);
            let keys = [(key, key), (password, password)];
            mounts.push(PodVolumeMount::secret_keys(
                "key",
                secret.clone(),
                &keys,
                KEY,
            ));
        }
        SignJobSigner::Namespace {
            identity: TenantSigningIdentity::ServiceAccount,
            ..
        } => {
            args.extend(["--identity-token-file", "/identity/token"].map(ToOwned::to_owned));
            mounts.push(PodVolumeMount::service_account_token(
                "identity", AUDIENCE, "token", IDENTITY,
            ));
        }
        SignJobSigner::Unsigned => (),
    }
    if let SignJobSigner::Namespace {
        services: Some(services),
        ..
    } = with
    {
        add_service_arguments(services, args, mounts);
    }
}

fn add_service_arguments(
    services: &SigstoreServicesConfigMap,
    args: &mut Vec<String>,
    mounts: &mut Vec<PodVolumeMount>,
) {
    let flags = [
        ("--signing-config", SIGNING_CONFIG_KEY),
        ("--trusted-root", TRUSTED_ROOT_KEY),
        ("--ca-file", CA_CERTIFICATES_KEY),
    ];
    let used = if services.has_ca {
        flags.as_slice()
    } else {
        &flags[..2]
    };
    args.extend(
        used.iter()
            .flat_map(|(flag, key)| [(*flag).to_owned(), format!("{SERVICES}/{key}")]),
    );
    let keys: Vec<&str> = used.iter().map(|(_, key)| *key).collect();
    let name = services.name.clone();
    mounts.push(PodVolumeMount::config_map_keys(
        "services", name, &keys, SERVICES,
    ));
}
