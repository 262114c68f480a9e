//! The policy for every bundle that this installation packs: its signer, its builder and its lock.

use super::{
    platform_key, reconcile_context::ReconcileContext, reconcile_error::ReconcileError,
    tenant_sigstore,
};
use crate::{
    api::packed_bundle::{PackingRequest, SigningParty, TenantSigner, TenantSigningIdentity},
    core::{
        digest::Digest,
        policy::{
            AdHocPolicyOptions, AuthorityKind, ClaimsRule, Policy, PolicyAuthority, SubjectMatcher,
        },
        reason::Reason,
        verify::VerificationKey,
    },
};

/// The policy for every bundle that this installation packs. `None` if bundles are not signed.
pub(super) async fn build_signer_policy(
    namespace: &str,
    packing: &PackingRequest,
    lock: Digest,
    context: &ReconcileContext,
) -> Result<Option<Policy>, ReconcileError> {
    let (name, kind, builder_id) = match &packing.signing {
        SigningParty::Unsigned => return Ok(None),
        SigningParty::Platform => {
            let key = parse_public_key(&platform_key::public_key(context).await?)?;
            (
                "platform",
                AuthorityKind::Key { key, root: None },
                context.installation.platform_builder(&context.cluster_uid),
            )
        }
        SigningParty::Namespace(signer) => (
            "namespace",
            tenant_authority(namespace, signer, context).await?,
            context
                .installation
                .namespace_builder(&context.cluster_uid, namespace),
        ),
    };
    let authorities = vec![PolicyAuthority {
        name: name.to_owned(),
        kind,
    }];
    let wish = AdHocPolicyOptions {
        authorities,
        builder_id: Some(builder_id),
        lock: Some(lock),
        ..AdHocPolicyOptions::default()
    };
    Policy::ad_hoc(wish)
        .map(Some)
        .map_err(|error| ReconcileError::from_classified(&error))
}

/// The authority of the tenant's signatures.
async fn tenant_authority(
    namespace: &str,
    signer: &TenantSigner,
    context: &ReconcileContext,
) -> Result<AuthorityKind, ReconcileError> {
    let root = match &signer.services {
        Some(name) => Some(tenant_sigstore::load_trust_root(namespace, name, context).await?),
        None => None,
    };
    match (&signer.identity, root) {
        (TenantSigningIdentity::Key(secret), root) => {
            let pem = context
                .secrets
                .read_secret_text(
                    namespace,
                    secret,
                    "spec.signing.keySecretRef",
                    platform_key::PUBLIC,
                )
                .await?;
            Ok(AuthorityKind::Key {
                key: parse_public_key(&pem)?,
                root,
            })
        }
        (TenantSigningIdentity::ServiceAccount, Some(root)) => {
            let subject = SubjectMatcher::Exact(TenantSigner::service_account_identity(namespace));
            Ok(AuthorityKind::Keyless {
                subject,
                issuer: tenant_sigstore::discover_issuer(context).await?,
                claims: ClaimsRule::default(),
                root,
            })
        }
        (TenantSigningIdentity::ServiceAccount, None) => Err(ReconcileError::new(
            Reason::NoSigner,
            "spec.signing.signingConfigRef is needed by keyless",
        )),
    }
}

fn parse_public_key(pem: &str) -> Result<VerificationKey, ReconcileError> {
    VerificationKey::from_pem(pem)
        .map_err(|error| ReconcileError::new(Reason::NoSigner, error.to_string()))
}
