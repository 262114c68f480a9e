//! What the author of a `PackedBundle` must be allowed to do: read the Secrets that it refers to,
//! and have tokens made of the account that it signs as.

use super::{
    access::{self, AccessKind},
    review_request::ReviewRequest,
    review_response::ReviewResponse,
    webhook_state::WebhookState,
};
use crate::{
    api::{
        bundle_policy::ConfigObjectKind,
        packed_bundle::{
            FetchSpec, PackedBundleSpec, PackedBundleWork, PackingRequest, SigningParty,
            TenantSigner, TenantSigningIdentity, ValidatedPackedBundle,
        },
    },
    core::reason::Reason,
};

/// A Secret that an object refers to, or a ServiceAccount whose token it uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequiredAccess {
    /// The path of the field that names it.
    pub field: String,
    /// Its name.
    pub name: String,
    /// What the user must be allowed to do with it.
    pub access: AccessKind,
}

/// Every Secret that the object refers to, and the ServiceAccount that it signs as.
pub(super) fn required_accesses(spec: &PackedBundleSpec) -> Vec<RequiredAccess> {
    let source = &spec.source;
    let context = source.oci_ref.as_ref();
    let context = context.and_then(|oci| oci.secret_ref.as_ref());
    let bundle = source.bundle.as_ref();
    let bundle = bundle.and_then(|bundle| bundle.secret_ref.as_ref());
    let push = spec.destination.as_ref();
    let push = push.and_then(|destination| destination.secret_ref.as_ref());
    let mut all: Vec<RequiredAccess> = [
        ("spec.source.ociRef.secretRef", context),
        ("spec.source.bundle.secretRef", bundle),
        ("spec.destination.secretRef", push),
    ]
    .into_iter()
    .filter_map(|(field, secret)| Some(secret_access(field, &secret?.name)))
    .collect();
    all.extend(spec.fetch.iter().flat_map(fetch_accesses));
    let work = ValidatedPackedBundle::try_from(spec).map(|validated| validated.work);
    if let Ok(PackedBundleWork::Pack(packing)) = work {
        all.extend(packing_accesses(&packing));
    }
    all
}

fn secret_access(field: &str, name: &str) -> RequiredAccess {
    RequiredAccess {
        field: field.to_owned(),
        name: name.to_owned(),
        access: AccessKind::GetSecret,
    }
}

fn fetch_accesses(fetch: &FetchSpec) -> impl Iterator<Item = RequiredAccess> {
    let credentials = fetch.credentials.iter().enumerate();
    let credentials = credentials.map(|(index, credential)| {
        let field = format!("spec.fetch.credentials[{index}].secretRef");
        secret_access(&field, &credential.secret_ref.name)
    });
    let proxy = fetch.proxy_secret_ref.iter();
    credentials.chain(proxy.map(|secret| secret_access("spec.fetch.proxySecretRef", &secret.name)))
}

fn packing_accesses(packing: &PackingRequest) -> impl Iterator<Item = RequiredAccess> {
    let (key, account) = match &packing.signing {
        SigningParty::Namespace(TenantSigner {
            identity: TenantSigningIdentity::Key(name),
            ..
        }) => (Some(name), None),
        SigningParty::Namespace(TenantSigner {
            identity: TenantSigningIdentity::ServiceAccount,
            ..
        }) => (None, Some(TenantSigner::ACCOUNT.to_owned())),
        SigningParty::Platform | SigningParty::Unsigned => (None, None),
    };
    let ca = packing.fetch_ca.as_ref();
    let ca = ca.filter(|ca| ca.kind == ConfigObjectKind::Secret);
    [
        key.map(|name| secret_access("spec.signing.keySecretRef", name)),
        account.map(|name| RequiredAccess {
            field: "spec.signing.keyless".to_owned(),
            name,
            access: AccessKind::CreateToken,
        }),
        ca.map(|ca| secret_access("spec.fetch.caRef", &ca.name)),
    ]
    .into_iter()
    .flatten()
}

/// A user who names a Secret must be allowed to read it: otherwise packgate would send it where
/// that user cannot. A user who has a ServiceAccount's token made, and sent to services of their
/// choice, must be allowed to create it: whoever receives the token can act as that account.
pub(super) async fn check_access(
    state: &WebhookState,
    request: &ReviewRequest,
    named: &RequiredAccess,
) -> Option<ReviewResponse> {
    let RequiredAccess {
        field,
        name,
        access: wanted,
    } = named;
    let namespace = request.namespace();
    let user = &request.admission_request().user_info;
    let deny = |message: String| {
        Some(ReviewResponse::Forbidden {
            reason: Reason::SecretAccessDenied,
            field: field.clone(),
            message,
        })
    };
    match access::is_access_allowed(&state.client, user, *wanted, namespace, name).await {
        Ok(true) => None,
        Ok(false) => deny(access_denied_message(
            user.username.as_deref().unwrap_or("this user"),
            *wanted,
            namespace,
            name,
        )),
        Err(error) => deny(format!(
            "the SubjectAccessReview for {namespace}/{name} in {field} failed: {error}; try again"
        )),
    }
}

fn access_denied_message(who: &str, wanted: AccessKind, namespace: &str, name: &str) -> String {
    match wanted {
        AccessKind::GetSecret => format!(
            "{who} may not get Secret {namespace}/{name}; a user who references a Secret must be allowed \
                to read it"
        ),
        AccessKind::CreateToken => format!(
            "{who} may not create tokens of ServiceAccount {namespace}/{name} \
                (serviceaccounts/token), and keyless signing sends such a token to the services \
             that spec.signing.signingConfigRef names; get that permission, or sign with a key"
        ),
    }
}
