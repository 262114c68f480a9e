//! A `PackedBundle` that is written: its shape, by the controller's own parser; whether who writes
//! it may read the Secrets that it names; and, for one that adopts what is there already, the
//! verdict in full.

use std::{sync::Arc, time::Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde_json::Value;

use super::{
    State,
    access::{self, Deed},
    check::{Ask, Credential},
    respond::{Answer, Judged},
    review::Request,
};
use crate::{
    api::{
        installation::NoMatchAction,
        packed_bundle::{
            LockSource, PackedBundle, PackedBundleSpec, Packing, TenantIdentity, TenantSigner,
            ToSign, ValidatedPackedBundle, Work,
        },
        rbac::how_to_grant,
    },
    core::{
        class::Reason, limits::Limits, lockfile::Lockfile, policy::Use, reference::PinnedReference,
    },
};

/// The key of a Secret that holds a docker configuration.
const DOCKER_CONFIG: &str = ".dockerconfigjson";

/// A Secret that an object names, or a ServiceAccount whose token it uses.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    field: &'static str,
    name: String,
    deed: Deed,
}

/// What has to be verified before the object may be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Adopted {
    field: &'static str,
    reference: PinnedReference,
    secret: Option<String>,
    no_match: NoMatchAction,
}

/// Judges what the request brings.
pub(super) async fn judge(
    state: &State,
    request: &Request,
    object: Value,
    old: Option<Value>,
    begun: Instant,
) -> Answer {
    let old = old.and_then(|old| serde_json::from_value::<PackedBundle>(old).ok());
    let object: PackedBundle = match serde_json::from_value(object) {
        Ok(object) => object,
        Err(error) => {
            return Answer::Shape {
                field: "spec".into(),
                message: error.to_string(),
            };
        }
    };
    // Labels, annotations and owners are nobody's evidence: who changes them alone need not be
    // judged.
    if old.as_ref().is_some_and(|old| old.spec == object.spec) {
        return Answer::Nothing;
    }
    let validated = match ValidatedPackedBundle::try_from(&object) {
        Ok(validated) => validated,
        Err(error) => {
            return Answer::Shape {
                field: error.field,
                message: error.message,
            };
        }
    };
    if let Some(answer) = inline_lock(state, &validated).await {
        return answer;
    }
    let uses_secrets_as_before = old
        .as_ref()
        .is_some_and(|old| same_but_for_schedule(&old.spec, &object.spec));
    for named in secrets(&object.spec)
        .into_iter()
        .filter(|_| !uses_secrets_as_before)
    {
        if let Some(answer) = forbidden(state, request, &named).await {
            return answer;
        }
    }
    let before = old.as_ref().and_then(|old| {
        adopted(
            &ValidatedPackedBundle::try_from(old).ok()?,
            state.no_match.packed_bundle,
        )
    });
    match adopted(&validated, state.no_match.packed_bundle)
        .filter(|adopted| before.as_ref() != Some(adopted))
    {
        Some(adopted) => verify(state, request, adopted, begun).await,
        None => Answer::Nothing,
    }
}

/// Does an update only say when work is done? Whoever may suspend an object need not be allowed to
/// read its Secrets; whoever changes what they are used for must be.
fn same_but_for_schedule(old: &PackedBundleSpec, new: &PackedBundleSpec) -> bool {
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

/// A lock that stands in the object can be looked at right away: one after the other, where nobody
/// else waits for it.
async fn inline_lock(state: &State, validated: &ValidatedPackedBundle) -> Option<Answer> {
    let Work::Pack(packing) = &validated.work else {
        return None;
    };
    if !matches!(packing.source, LockSource::Inline(_)) {
        return None;
    }
    let planning = Arc::clone(&state.planning).acquire_owned().await;
    let packing = packing.clone(); // not before: whoever waits has no copy
    let looked = tokio::task::spawn_blocking(move || {
        let _planning = planning; // held by the work, not by who waits for it
        lock_of(&packing)
    });
    looked.await.unwrap_or_else(|_| {
        let message = "the lock was not checked; try again".to_owned();
        Some(Answer::Forbidden {
            reason: Reason::Internal,
            field: "spec.source.inline".into(),
            message,
        })
    })
}

/// What is wrong with the lock that stands in the object.
fn lock_of(packing: &Packing) -> Option<Answer> {
    let LockSource::Inline(text) = &packing.source else {
        return None;
    };
    let shape = |message: String| {
        Some(Answer::Shape {
            field: "spec.source.inline".into(),
            message,
        })
    };
    match Lockfile::parse(text.as_bytes(), &Limits::DEFAULT) {
        Ok(lock) => packing
            .check_lock(&lock)
            .err()
            .and_then(|error| shape(error.to_string())),
        Err(error) => shape(error.to_string()),
    }
}

/// Who names a Secret must be allowed to read it: otherwise packgate would send it where that
/// person cannot. And who has a token of a ServiceAccount made, and sent to the services of their
/// choice, must be allowed to make it: it is that account to whoever gets it.
async fn forbidden(state: &State, request: &Request, named: &Named) -> Option<Answer> {
    let Named { field, name, deed } = named;
    let namespace = request.namespace();
    let user = &request.inner().user_info;
    let deny = |message: String| {
        Some(Answer::Forbidden {
            reason: Reason::SecretAccessDenied,
            field: (*field).to_owned(),
            message,
        })
    };
    match access::may(&state.client, user, *deed, namespace, name).await {
        Ok(true) => None,
        Ok(false) => deny(may_not(
            user.username.as_deref().unwrap_or("this user"),
            *deed,
            namespace,
            name,
        )),
        Err(error) => deny(format!(
            "nobody says whether {field} may name {namespace}/{name}: {error}; try again"
        )),
    }
}

fn may_not(who: &str, deed: Deed, namespace: &str, name: &str) -> String {
    match deed {
        Deed::GetSecret => format!(
            "{who} may not get Secret {namespace}/{name}, and who names a Secret must be allowed \
                to read it"
        ),
        Deed::CreateToken => format!(
            "{who} may not create tokens of ServiceAccount {namespace}/{name} \
                (serviceaccounts/token), and keyless signing sends one to the services \
             that spec.signing.signingConfigRef names; get that right, or sign with a key"
        ),
    }
}

/// Every Secret that the object names, and the ServiceAccount that it signs as.
fn secrets(spec: &PackedBundleSpec) -> Vec<Named> {
    let named = |field, name: Option<&String>| {
        name.map(|name| Named {
            field,
            name: name.clone(),
            deed: Deed::GetSecret,
        })
    };
    let source = &spec.source;
    let context = source
        .oci_ref
        .as_ref()
        .and_then(|oci| oci.secret_ref.as_ref())
        .map(|secret| &secret.name);
    let bundle = source
        .bundle
        .as_ref()
        .and_then(|bundle| bundle.secret_ref.as_ref())
        .map(|secret| &secret.name);
    let push = spec
        .destination
        .as_ref()
        .and_then(|destination| destination.secret_ref.as_ref())
        .map(|secret| &secret.name);
    let validated = ValidatedPackedBundle::try_from(spec).ok();
    let (key, account, ca) = match validated.as_ref().map(|validated| &validated.work) {
        Some(Work::Pack(packing)) => {
            let (key, account) = match &packing.signing {
                ToSign::Namespace(TenantSigner {
                    identity: TenantIdentity::Key(name),
                    ..
                }) => (Some(name), None),
                ToSign::Namespace(TenantSigner {
                    identity: TenantIdentity::ServiceAccount,
                    ..
                }) => (None, Some(TenantSigner::ACCOUNT.to_owned())),
                ToSign::Platform | ToSign::Nobody => (None, None),
            };
            (
                key,
                account,
                packing
                    .fetch_ca
                    .as_ref()
                    .filter(|ca| ca.kind == crate::api::bundle_policy::SourceKind::Secret)
                    .map(|ca| &ca.name),
            )
        }
        _ => (None, None, None),
    };
    [
        named("spec.source.ociRef.secretRef", context),
        named("spec.source.bundle.secretRef", bundle),
        named("spec.destination.secretRef", push),
        named("spec.signing.keySecretRef", key),
        account.map(|name| Named {
            field: "spec.signing.keyless",
            name,
            deed: Deed::CreateToken,
        }),
        named("spec.fetch.caRef", ca),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What the object takes over as it is.
fn adopted(validated: &ValidatedPackedBundle, no_match: NoMatchAction) -> Option<Adopted> {
    match &validated.work {
        Work::Adopt(adoption) => Some(Adopted {
            field: "spec.source.bundle.reference",
            reference: adoption.reference.clone(),
            secret: adoption.secret.clone(),
            no_match,
        }),
        Work::Pack(packing) => match &packing.source {
            LockSource::Context {
                reference,
                secret,
                verify: true,
                ..
            } => Some(Adopted {
                field: "spec.source.ociRef.digest",
                reference: reference.clone(),
                secret: secret.clone(),
                no_match: NoMatchAction::Deny, // who asks for a verdict wants one
            }),
            _ => None,
        },
    }
}

async fn verify(state: &State, request: &Request, adopted: Adopted, begun: Instant) -> Answer {
    let credential = match &adopted.secret {
        Some(name) => match docker_config(state, request.namespace(), name).await {
            Ok(docker_config) => Some(Credential { docker_config }),
            Err((reason, message)) => {
                let field = adopted
                    .field
                    .rsplit_once('.')
                    .map_or("spec", |(parent, _)| parent);
                return Answer::Forbidden {
                    reason,
                    field: format!("{field}.secretRef"),
                    message,
                };
            }
        },
        None => None,
    };
    let ask = Ask {
        field: adopted.field.to_owned(),
        reference: adopted.reference.to_string(),
        used_as: Use::PackedBundle,
        namespace: request.namespace().to_owned(),
        credential,
    };
    let report = state
        .checker
        .check(&ask, &state.policies.current(), begun)
        .await;
    Answer::Judged(vec![Judged {
        report,
        no_match: adopted.no_match,
    }])
}

async fn docker_config(
    state: &State,
    namespace: &str,
    name: &str,
) -> Result<Vec<u8>, (Reason, String)> {
    let secret = match Api::<Secret>::namespaced(state.client.clone(), namespace)
        .get_opt(name)
        .await
    {
        Ok(Some(secret)) => secret,
        Ok(None) => {
            return Err((
                Reason::SourceNotFound,
                format!("Secret {namespace}/{name} does not exist; create it, or correct the name"),
            ));
        }
        Err(kube::Error::Api(status)) if status.is_forbidden() => {
            let grant = how_to_grant(namespace, &state.system_namespace);
            let message = format!(
                "packgate may not read Secret {namespace}/{name}. Let it: {grant}; or add \
                    {namespace} to the chart's value tenants"
            );
            return Err((Reason::SecretAccessDenied, message));
        }
        Err(error) => {
            return Err((
                Reason::SecretAccessDenied,
                format!("Secret {namespace}/{name} was not read: {error}; try again"),
            ));
        }
    };
    let found = secret.data.and_then(|mut data| data.remove(DOCKER_CONFIG));
    found.map(|bytes| bytes.0).ok_or_else(|| {
        (
            Reason::SourceNotFound,
            format!("Secret {namespace}/{name} has no key {DOCKER_CONFIG}; add it"),
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
            "fetch": {"caRef": {"kind": "Secret", "name": "ca"}},
        }));
        let names: Vec<_> = secrets(&packs)
            .into_iter()
            .map(|named| named.name)
            .collect();
        assert_eq!(names, ["pull", "push", "key", "ca"]);
        let adopts = spec(json!({
            "source": {
                "bundle": {
                    "reference": format!("r.example.com/b@{digest}"),
                    "secretRef": {"name": "pull"},
                },
            },
        }));
        assert_eq!(
            secrets(&adopts),
            [Named {
                field: "spec.source.bundle.secretRef",
                name: "pull".into(),
                deed: Deed::GetSecret
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
            secrets(&keyless),
            [Named {
                field: "spec.signing.keyless",
                name: "default".into(),
                deed: Deed::CreateToken
            }]
        );
        assert_eq!(secrets(&signing(json!({"mode": "Platform"}))), []);
        // Asked again when it is sent elsewhere.
        let mut elsewhere = keyless.clone();
        elsewhere.signing = signing(
            json!({"mode": "Namespace", "keyless": {}, "signingConfigRef": {"name": "other"}}),
        )
        .signing;
        assert!(!same_but_for_schedule(&keyless, &elsewhere));
    }

    #[test]
    fn secrets_are_asked_about_again_when_their_use_changes() {
        let old = spec(json!({
            "source": {"configMapRef": {"name": "a"}},
            "destination": {"repository": "r.example.com/b", "secretRef": {"name": "push"}},
        }));
        let mut new = old.clone();
        (new.suspend, new.interval, new.history.failed) = (true, "2h".into(), 1);
        assert!(same_but_for_schedule(&old, &new));
        new.destination.as_mut().expect("a destination").tag = Some("v2".into());
        assert!(!same_but_for_schedule(&old, &new));
    }

    #[test]
    fn what_is_taken_over_as_it_is_must_be_verified() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let validated =
            |value: Value| ValidatedPackedBundle::try_from(&spec(value)).expect("valid");
        let adopts = validated(
            json!({"source": {"bundle": {"reference": format!("r.example.com/b@{digest}")}}}),
        );
        let found = adopted(&adopts, NoMatchAction::Warn).expect("adopted");
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
                adopted(&context, NoMatchAction::Allow).map(|adopted| adopted.no_match),
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
            let Work::Pack(packing) = ValidatedPackedBundle::try_from(&spec).expect("valid").work
            else {
                panic!("it packs")
            };
            lock_of(&packing)
        };
        let message = |answer: Option<Answer>| match answer {
            Some(Answer::Shape { field, message }) if field == "spec.source.inline" => message,
            other => panic!("{other:?}"),
        };
        assert!(!message(packs("no lock")).is_empty(), "not a lock");
        let file = "apiVersion: packgate.dev/v1alpha1\nkind: Lockfile\nartifacts:\n- {name: a, \
            type: file, origin: a.txt, target: a.txt, checksum: \"sha256:CHECK\", size: 1}\n";
        let told = message(packs(&file.replace("CHECK", &"a".repeat(64))));
        assert!(told.contains("spec.source.ociRef"), "{told}");
    }
}
