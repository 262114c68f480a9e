//! Why a registry denied access: a Secret that an image is pulled with may not be usable.

use super::{pull_credentials::PullCredentials, pull_secrets::PullSecretError};
use crate::{
    api::rbac::tenant_grant_command,
    core::{policy::Denial, reason::Reason, reference::ImageRepository},
    service::{
        verdict::{ReferenceVerdict, denied_verdict},
        verification_request::VerificationRequest,
    },
};

/// The verdict, for whoever wrote the object: if a registry denied access and some of the object's
/// Secrets could not be used, which ones, and what mends it. Else the same verdict.
pub fn explain_access_denial(
    verdict: ReferenceVerdict,
    request: &VerificationRequest<'_>,
    credentials: &PullCredentials,
    system_namespace: &str,
) -> ReferenceVerdict {
    if !verdict.decision.has_denial_reason(Reason::RegistryDenied) {
        return verdict;
    }
    let (Some(repository), Some(namespace)) = (request.repository, request.namespace) else {
        return verdict;
    };
    match access_denial(credentials, repository, namespace, system_namespace) {
        Some(denial) => ReferenceVerdict {
            digest: verdict.digest,
            requests: verdict.requests,
            ..denied_verdict(request, &denial)
        },
        None => verdict,
    }
}

/// `None` if the object's Secrets are not the cause.
fn access_denial(
    credentials: &PullCredentials,
    repository: &ImageRepository,
    namespace: &str,
    system_namespace: &str,
) -> Option<Denial> {
    let first = credentials.unusable.first()?;
    let told: Vec<String> = credentials
        .unusable
        .iter()
        .map(ToString::to_string)
        .collect();
    let told = told.join("; ");
    let remedy = match first {
        PullSecretError::AccessDenied(_) | PullSecretError::UserAccessDenied(_) => format!(
            "whoever administers the cluster can grant access: {}, or add {namespace} to the \
                chart's value tenants; or give the installation its own credential for {} \
                (chart value registries[].secretRef)",
            tenant_grant_command(namespace, system_namespace),
            repository.host()
        ),
        PullSecretError::NotFound(_) => "create it, or correct its name".to_owned(),
        PullSecretError::Malformed { .. } | PullSecretError::MissingKey(_) => {
            "make it anew with kubectl create secret docker-registry".to_owned()
        }
        PullSecretError::Api { .. } | PullSecretError::Overloaded(_) => "try again".to_owned(),
        PullSecretError::TooMany(_) => "name fewer of them".to_owned(),
    };
    let message =
        format!("{repository} denied access with the credentials at hand, and {told}; {remedy}");
    Some(Denial::new(Reason::SecretAccessDenied, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_names_the_secret_and_what_mends_it() {
        let repository: ImageRepository = "r.example.com/team-a/app".parse().expect("valid");
        let secret = || "Secret team-a/pull".to_owned();
        for (unusable, expected) in [
            (vec![], None),
            (
                vec![PullSecretError::AccessDenied(secret())],
                Some("packgate may not read Secret team-a/pull"),
            ),
            (
                vec![PullSecretError::AccessDenied(secret())],
                Some("kubectl create rolebinding"),
            ),
            (
                vec![PullSecretError::TooMany(secret())],
                Some("only the first 16 Secrets are; name fewer of them"),
            ),
            (
                vec![PullSecretError::NotFound(secret())],
                Some("Secret team-a/pull does not exist; create it"),
            ),
        ] {
            let credentials = PullCredentials {
                configs: vec![],
                unusable,
            };
            let denial = access_denial(&credentials, &repository, "team-a", "packgate-system");
            assert_eq!(denial.is_some(), expected.is_some());
            let (Some(denial), Some(expected)) = (denial, expected) else {
                continue;
            };
            assert_eq!(denial.reason, Reason::SecretAccessDenied);
            assert!(denial.message.contains(expected), "{}", denial.message);
        }
    }
}
