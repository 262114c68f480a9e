//! Evaluates a written `PackedBundle`: its fields, by the controller's own parser; whether its
//! author may read the Secrets that it refers to; and, if it adopts an existing bundle, the full
//! verdict.

use std::{sync::Arc, time::Instant};

use serde_json::Value;

use super::{
    image_check::ImageCheckRequest,
    pull_credentials::ReviewCredentials,
    required_access::{check_access, required_accesses},
    review_request::ReviewRequest,
    review_response::{EvaluatedImage, ReviewResponse},
    webhook_state::WebhookState,
};
use crate::{
    api::{
        installation::NoMatchAction,
        packed_bundle::{
            LockSource, PackedBundle, PackedBundleSpec, PackedBundleWork, PackingRequest,
            ValidatedPackedBundle,
        },
        rbac::tenant_grant_command,
    },
    cluster_reader::{PullCredentials, PullSecretError},
    core::{
        limits::InputLimits,
        lockfile::Lockfile,
        policy::ReferenceUse,
        pull_secret_names::PullSecretNames,
        reason::{ClassifiedError, Reason},
        reference::PinnedReference,
    },
    service::cpu_work::{run_namespace_work, wait_for_cpu_budget},
};

/// An artifact to verify before the object is admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ArtifactToVerify {
    field: &'static str,
    reference: PinnedReference,
    secret: Option<String>,
    no_match: NoMatchAction,
}

/// Evaluates the `PackedBundle` of the request.
pub(super) async fn evaluate_packed_bundle(
    state: &WebhookState,
    request: &ReviewRequest,
    object: Value,
    old: Option<Value>,
    begun: Instant,
) -> ReviewResponse {
    let old = old.and_then(|old| serde_json::from_value::<PackedBundle>(old).ok());
    let object: PackedBundle = match serde_json::from_value(object) {
        Ok(object) => object,
        Err(error) => {
            return ReviewResponse::Invalid {
                field: "spec".into(),
                message: error.to_string(),
            };
        }
    };
    // Labels, annotations and owner references are not evidence: an update of only these is not
    // evaluated.
    if old.as_ref().is_some_and(|old| old.spec == object.spec) {
        return ReviewResponse::NothingToEvaluate;
    }
    let validated = match ValidatedPackedBundle::try_from(&object) {
        Ok(validated) => validated,
        Err(error) => {
            return ReviewResponse::Invalid {
                field: error.field,
                message: error.message,
            };
        }
    };
    if let Some(refusal) = check_inline_lock(state, request.namespace(), &validated).await {
        return refusal;
    }
    let uses_secrets_as_before = old
        .as_ref()
        .is_some_and(|old| differs_only_in_schedule(&old.spec, &object.spec));
    for named in required_accesses(&object.spec)
        .into_iter()
        .filter(|_| !uses_secrets_as_before)
    {
        if let Some(refusal) = check_access(state, request, &named).await {
            return refusal;
        }
    }
    let before = old.as_ref().and_then(|old| {
        artifact_to_verify(
            &ValidatedPackedBundle::try_from(old).ok()?,
            state.no_match.packed_bundle,
        )
    });
    match artifact_to_verify(&validated, state.no_match.packed_bundle)
        .filter(|adopted| before.as_ref() != Some(adopted))
    {
        Some(adopted) => verify_artifact(state, request, adopted, begun).await,
        None => ReviewResponse::NothingToEvaluate,
    }
}

/// True if an update changes only when work is done. Suspending an object needs no permission to
/// read its Secrets; a change of how they are used does.
fn differs_only_in_schedule(old: &PackedBundleSpec, new: &PackedBundleSpec) -> bool {
    let PackedBundleSpec {
        suspend,
        interval,
        timeout,
        history,
        ..
    } = new.clone();
    PackedBundleSpec {
        suspend,
        interval,
        timeout,
        history,
        ..old.clone()
    } == *new
}

/// An inline lock is validated immediately: one at a time, and waits only for other inline locks.
async fn check_inline_lock(
    state: &WebhookState,
    namespace: &str,
    validated: &ValidatedPackedBundle,
) -> Option<ReviewResponse> {
    let PackedBundleWork::Pack(packing) = &validated.work else {
        return None;
    };
    if !matches!(packing.source, LockSource::Inline(_)) {
        return None;
    }
    wait_for_cpu_budget(namespace).await;
    let planning = Arc::clone(&state.planning).acquire_owned().await;
    let packing = packing.clone(); // not before: a waiting request needs no copy
    let checked = run_namespace_work(namespace, move || {
        let _planning = planning; // held by the work, not by the waiting request
        validate_inline_lock(&packing)
    });
    checked.await.unwrap_or_else(|_| {
        let message = "checking the lock failed; try again".to_owned();
        Some(ReviewResponse::Forbidden {
            reason: Reason::Internal,
            field: "spec.source.inline".into(),
            message,
        })
    })
}

/// The error of an inline lock, if there is one.
fn validate_inline_lock(packing: &PackingRequest) -> Option<ReviewResponse> {
    let LockSource::Inline(text) = &packing.source else {
        return None;
    };
    let shape = |message: String| {
        Some(ReviewResponse::Invalid {
            field: "spec.source.inline".into(),
            message,
        })
    };
    match Lockfile::parse(text.as_bytes(), &InputLimits::DEFAULT) {
        Ok(lock) => packing
            .check_lock(&lock)
            .err()
            .and_then(|error| shape(error.to_string())),
        Err(error) => shape(error.to_string()),
    }
}

/// The artifact that the object adopts.
fn artifact_to_verify(
    validated: &ValidatedPackedBundle,
    no_match: NoMatchAction,
) -> Option<ArtifactToVerify> {
    match &validated.work {
        PackedBundleWork::Adopt(adoption) => Some(ArtifactToVerify {
            field: "spec.source.bundle.reference",
            reference: adoption.reference.clone(),
            secret: adoption.secret.clone(),
            no_match,
        }),
        PackedBundleWork::Pack(packing) => match &packing.source {
            LockSource::Context {
                reference,
                secret,
                verify: true,
                ..
            } => Some(ArtifactToVerify {
                field: "spec.source.ociRef.digest",
                reference: reference.clone(),
                secret: secret.clone(),
                no_match: NoMatchAction::Deny, // a verdict is required
            }),
            _ => None,
        },
    }
}

async fn verify_artifact(
    state: &WebhookState,
    request: &ReviewRequest,
    adopted: ArtifactToVerify,
    begun: Instant,
) -> ReviewResponse {
    let credentials = match &adopted.secret {
        Some(name) => match state
            .pull_secrets
            .read_pull_secret(request.namespace(), name)
            .await
        {
            Ok(config) => ReviewCredentials::known(
                PullSecretNames {
                    secrets: vec![name.clone()],
                    ..PullSecretNames::default()
                },
                PullCredentials {
                    configs: vec![config],
                    unusable: Vec::new(),
                },
            ),
            Err(error) => {
                let parent = adopted.field.rsplit_once('.');
                let field = parent.map_or("spec", |(parent, _)| parent);
                return ReviewResponse::Forbidden {
                    reason: error.reason(),
                    field: format!("{field}.secretRef"),
                    message: secret_message(&error, state, request.namespace()),
                };
            }
        },
        None => ReviewCredentials::default(),
    };
    let ask = ImageCheckRequest {
        field: adopted.field.to_owned(),
        reference: adopted.reference.to_string(),
        used_as: ReferenceUse::PackedBundle,
        namespace: request.namespace().to_owned(),
        credentials,
    };
    let image = state
        .checker
        .check_image(&ask, &state.policies.current(), begun)
        .await;
    ReviewResponse::Evaluated(vec![EvaluatedImage::new(image, adopted.no_match)])
}

fn secret_message(error: &PullSecretError, state: &WebhookState, namespace: &str) -> String {
    let grant = tenant_grant_command(namespace, &state.system_namespace);
    match error {
        PullSecretError::NotFound(_) => format!("{error}; create it, or correct the name"),
        PullSecretError::AccessDenied(_) | PullSecretError::UserAccessDenied(_) => {
            format!(
                "{error}. Grant access: {grant}; or add {namespace} to the chart's value tenants"
            )
        }
        PullSecretError::MissingKey(_) => format!("{error}; add it"),
        PullSecretError::Malformed { .. } => format!("{error}; correct it"),
        PullSecretError::Api { .. } => format!("{error}; try again"),
        PullSecretError::Overloaded(_) | PullSecretError::TooMany(_) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::webhook::{access::AccessKind, required_access::RequiredAccess};

    fn spec(value: Value) -> PackedBundleSpec {
        serde_json::from_value(value).expect("a spec")
    }

    #[test]
    fn every_secret_is_found() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let packs = spec(json!({
            "source": {
                "ociRef": {
                    "repository": "r.example.com/ctx",
                    "digest": digest,
                    "secretRef": {"name": "pull"},
                },
            },
            "destination": {"repository": "r.example.com/b", "secretRef": {"name": "push"}},
            "signing": {"mode": "Namespace", "keySecretRef": {"name": "key"}},
            "fetch": {
                "caRef": {"kind": "Secret", "name": "ca"},
                "credentials": [
                    {"host": "f.example.com", "secretRef": {"name": "files"}},
                    {"host": "g.example.com", "secretRef": {"name": "more"}},
                ],
                "proxySecretRef": {"name": "proxy"},
            },
        }));
        let fields: Vec<_> = required_accesses(&packs)
            .into_iter()
            .map(|named| named.field)
            .filter(|field| field.starts_with("spec.fetch."))
            .collect();
        assert_eq!(
            fields,
            [
                "spec.fetch.credentials[0].secretRef",
                "spec.fetch.credentials[1].secretRef",
                "spec.fetch.proxySecretRef",
                "spec.fetch.caRef",
            ]
        );
        let names: Vec<_> = required_accesses(&packs)
            .into_iter()
            .map(|named| named.name)
            .collect();
        assert_eq!(
            names,
            ["pull", "push", "files", "more", "proxy", "key", "ca"]
        );
        let adopts = spec(json!({
            "source": {
                "bundle": {
                    "reference": format!("r.example.com/b@{digest}"),
                    "secretRef": {"name": "pull"},
                },
            },
        }));
        assert_eq!(
            required_accesses(&adopts),
            [RequiredAccess {
                field: "spec.source.bundle.secretRef".into(),
                name: "pull".into(),
                access: AccessKind::GetSecret
            }]
        );
    }

    #[test]
    fn who_signs_keyless_must_be_allowed_to_make_the_accounts_token() {
        let signing = |signing: Value| {
            spec(json!({
                "source": {"inline": "x"},
                "destination": {"repository": "r.example.com/b"},
                "signing": signing,
            }))
        };
        let keyless = signing(
            json!({"mode": "Namespace", "keyless": {}, "signingConfigRef": {"name": "sigstore"}}),
        );
        assert_eq!(
            required_accesses(&keyless),
            [RequiredAccess {
                field: "spec.signing.keyless".into(),
                name: "default".into(),
                access: AccessKind::CreateToken
            }]
        );
        assert_eq!(required_accesses(&signing(json!({"mode": "Platform"}))), []);
        // Checked again when the token is sent to another service.
        let mut elsewhere = keyless.clone();
        elsewhere.signing = signing(
            json!({"mode": "Namespace", "keyless": {}, "signingConfigRef": {"name": "other"}}),
        )
        .signing;
        assert!(!differs_only_in_schedule(&keyless, &elsewhere));
    }

    #[test]
    fn secrets_are_asked_about_again_when_their_use_changes() {
        let old = spec(json!({
            "source": {"configMapRef": {"name": "a"}},
            "destination": {"repository": "r.example.com/b", "secretRef": {"name": "push"}},
        }));
        let mut new = old.clone();
        (new.suspend, new.interval, new.history.failed) = (true, "2h".into(), 1);
        assert!(differs_only_in_schedule(&old, &new));
        new.destination.as_mut().expect("a destination").tag = Some("v2".into());
        assert!(!differs_only_in_schedule(&old, &new));
    }

    #[test]
    fn what_is_taken_over_as_it_is_must_be_verified() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let validated =
            |value: Value| ValidatedPackedBundle::try_from(&spec(value)).expect("valid");
        let adopts = validated(
            json!({"source": {"bundle": {"reference": format!("r.example.com/b@{digest}")}}}),
        );
        let found = artifact_to_verify(&adopts, NoMatchAction::Warn).expect("adopted");
        assert_eq!(
            (found.field, found.no_match),
            ("spec.source.bundle.reference", NoMatchAction::Warn)
        );
        for (verify, expected) in [(true, Some(NoMatchAction::Deny)), (false, None)] {
            let context = validated(json!({
                "source": {
                    "ociRef": {
                        "repository": "r.example.com/ctx",
                        "digest": digest,
                        "verify": verify,
                    },
                },
                "destination": {"repository": "r.example.com/b"},
            }));
            assert_eq!(
                artifact_to_verify(&context, NoMatchAction::Allow).map(|adopted| adopted.no_match),
                expected
            );
        }
    }

    #[test]
    fn an_inline_lock_is_looked_at() {
        let packs = |lock: &str| {
            let spec = spec(json!({
                "source": {"inline": lock},
                "destination": {"repository": "r.example.com/b"},
            }));
            let PackedBundleWork::Pack(packing) =
                ValidatedPackedBundle::try_from(&spec).expect("valid").work
            else {
                panic!("it packs")
            };
            validate_inline_lock(&packing)
        };
        let message = |answer: Option<ReviewResponse>| match answer {
            Some(ReviewResponse::Invalid { field, message }) if field == "spec.source.inline" => {
                message
            }
            other => panic!("{other:?}"),
        };
        assert!(!message(packs("no lock")).is_empty(), "not a lock");
        let file = "apiVersion: packgate.dev/v1alpha1\nkind: Lockfile\nartifacts:\n- {name: a, \
            type: file, origin: a.txt, target: a.txt, checksum: \"sha256:CHECK\", size: 1}\n";
        let told = message(packs(&file.replace("CHECK", &"a".repeat(64))));
        assert!(told.contains("spec.source.ociRef"), "{told}");
    }
}
