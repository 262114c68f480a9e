//! Several credentials for one repository: tried in order, as kubelet does.

use std::sync::Arc;

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use packgate::{
    core::{
        limits::InputLimits,
        reason::{ClassifiedError, Reason},
        reference::ImageRepository,
    },
    oci::{
        ContentSource, ContentTarget, OciError, PushContent,
        credentials::{
            CredentialLookup, CredentialStore, DockerConfig, FoundCredentials,
            RegistryCredentialError, RegistryCredentials,
        },
        remote::RegistryTarget,
    },
};

use super::{SECRET, by_tag, manifest, options, reason, signed_in, target_with, with_subject};
use crate::support::registry::{Auth, Fault, Registry, Settings};

/// These credentials for every repository, the first named `Secret team/0`.
#[derive(Clone, Default)]
struct Several(Vec<RegistryCredentials>, Vec<RegistryCredentialError>);

#[async_trait]
impl CredentialStore for Several {
    async fn credentials_for_repository(&self, _: &ImageRepository) -> CredentialLookup {
        let named = self.0.iter().enumerate();
        CredentialLookup {
            found: named
                .map(|(number, credentials)| FoundCredentials {
                    credentials: credentials.clone(),
                    source: format!("Secret team/{number}"),
                })
                .collect(),
            failures: self.1.clone(),
        }
    }
}

fn password(username: &str, password: &str) -> RegistryCredentials {
    RegistryCredentials::Password {
        username: username.into(),
        password: password.to_owned().into(),
    }
}

fn basic(username: &str, password: &str) -> String {
    format!(
        "Basic {}",
        STANDARD.encode(format!("{username}:{password}"))
    )
}

fn with_several(registry: &Registry, credentials: &[RegistryCredentials]) -> RegistryTarget {
    target_with(
        &registry.host(),
        &options(),
        Arc::new(Several(credentials.to_vec(), Vec::new())),
    )
}

async fn ask(target: &RegistryTarget) -> Result<(), OciError> {
    target
        .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
        .await
        .map(|_| ())
}

fn shown(registry: &Registry) -> Vec<Option<String>> {
    let requests = registry.requests().into_iter();
    requests.map(|r| r.authorization).collect()
}

#[tokio::test]
async fn passwords_are_tried_until_one_is_taken_which_is_remembered() {
    let (registry, _) = with_subject(Settings {
        auth: Auth::Basic("alice", SECRET),
        ..Settings::default()
    })
    .await;
    let wrong = password("alice", "old-Secret");
    let target = with_several(
        &registry,
        &[
            wrong,
            password("bob", "b"),
            password("alice", SECRET),
            password("eve", "e"),
        ],
    );
    ask(&target).await.expect("let in");
    ask(&target).await.expect("let in");
    let alice = Some(basic("alice", SECRET));
    assert_eq!(
        shown(&registry),
        [
            None,
            Some(basic("alice", "old-Secret")),
            Some(basic("bob", "b")),
            alice.clone(),
            alice.clone(),
        ]
    );
    let (pushed, bytes) = manifest("pushed", None);
    target
        .push_content(&pushed, PushContent::Bytes(&bytes))
        .await
        .expect("writing tries them on its own");
    assert_eq!(shown(&registry).pop(), Some(alice));
}

#[tokio::test]
async fn a_refusal_by_the_token_service_or_with_403_is_followed_by_the_next() {
    let (registry, _) = with_subject(Settings {
        auth: Auth::Token("alice", SECRET),
        ..Settings::default()
    })
    .await;
    let all = [password("bob", "b"), password("alice", SECRET)];
    ask(&with_several(&registry, &all)).await.expect("let in");
    assert_eq!(registry.count("GET", "/token"), 2);
    for status in [400, 403] {
        registry.heal();
        registry.fault(
            Fault::on("GET", "/token")
                .when_shown(basic("bob", "b"))
                .status(status),
        );
        ask(&with_several(&registry, &all)).await.expect("let in");
    }
    // The token service knows bob, and the registry does not let bob in.
    let (registry, _) = with_subject(Settings {
        auth: Auth::Basic("alice", SECRET),
        ..Settings::default()
    })
    .await;
    for refusal in [401, 403] {
        registry.heal();
        registry.fault(
            Fault::on("GET", "/manifests/")
                .when_shown(basic("bob", "b"))
                .status(refusal),
        );
        ask(&with_several(&registry, &all)).await.expect("let in");
    }
}

#[tokio::test]
async fn a_refusal_of_all_names_those_that_were_tried_and_ends() {
    for auth in [Auth::Basic("alice", SECRET), Auth::Token("alice", SECRET)] {
        let (registry, _) = with_subject(Settings {
            auth,
            ..Settings::default()
        })
        .await;
        let wrong: Vec<_> = (0..40)
            .map(|n| password("bob", &format!("hunter2-{n}")))
            .collect();
        let target = with_several(&registry, &wrong[..2]);
        let error = ask(&target).await.expect_err("refused");
        let text = error.to_string();
        assert_eq!(error.reason(), Reason::RegistryDenied);
        assert!(
            text.contains("tried: Secret team/0, Secret team/1;"),
            "{text}"
        );
        assert!(text.contains("docker login"), "{text}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        let before = registry.requests().len();
        assert_eq!(reason(ask(&target).await), Reason::RegistryDenied);
        assert!(registry.requests().len() <= before + 3, "not all again");
        let before = registry.requests().len();
        assert_eq!(
            reason(ask(&with_several(&registry, &wrong)).await),
            Reason::RegistryDenied
        );
        assert_eq!(registry.requests().len() - before, 1 + 16, "bounded");
    }
}

#[tokio::test]
async fn what_was_taken_stays_after_a_request_that_all_are_refused() {
    let (registry, _) = with_subject(Settings {
        auth: Auth::Basic("alice", SECRET),
        ..Settings::default()
    })
    .await;
    let target = with_several(
        &registry,
        &[password("bob", "b"), password("alice", SECRET)],
    );
    ask(&target).await.expect("let in");
    registry.fault(Fault::on("GET", "/manifests/v2").status(403));
    for requests in [2, 1] {
        let before = registry.requests().len();
        let other = target
            .resolve_manifest(&by_tag("v2"), &InputLimits::DEFAULT)
            .await;
        assert_eq!(reason(other), Reason::RegistryDenied);
        assert_eq!(registry.requests().len() - before, requests);
    }
    let before = registry.requests().len();
    ask(&target).await.expect("let in as before");
    assert_eq!(registry.requests().len() - before, 1);
    assert_eq!(shown(&registry).pop(), Some(Some(basic("alice", SECRET))));
}

#[tokio::test]
async fn an_outage_of_the_token_service_is_none_of_the_credentials() {
    let (registry, _) = with_subject(Settings {
        auth: Auth::Token("alice", SECRET),
        ..Settings::default()
    })
    .await;
    registry.fault(
        Fault::on("GET", "/token")
            .when_shown(basic("bob", "b"))
            .status(503),
    );
    let target = with_several(
        &registry,
        &[password("bob", "b"), password("alice", SECRET)],
    );
    assert_eq!(reason(ask(&target).await), Reason::RegistryUnavailable);
}

#[tokio::test]
async fn a_registry_token_is_shown_as_it_is_and_to_no_token_service() {
    let (registry, _) = with_subject(Settings {
        auth: Auth::Token("alice", SECRET),
        ..Settings::default()
    })
    .await;
    ask(&signed_in(&registry)).await.expect("a token is issued");
    let issued = registry.authorizations().pop().expect("shown");
    let issued = issued.trim_start_matches("Bearer ").to_owned();
    let token = RegistryCredentials::RegistryToken(issued.clone().into());
    let before = registry.count("GET", "/token");
    ask(&with_several(&registry, &[token]))
        .await
        .expect("let in");
    assert_eq!(registry.count("GET", "/token"), before);
    let old = RegistryCredentials::RegistryToken("hunter2".to_owned().into());
    let error = ask(&with_several(&registry, std::slice::from_ref(&old)))
        .await
        .expect_err("refused");
    assert_eq!(error.reason(), Reason::RegistryDenied);
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    ask(&with_several(&registry, &[old, password("alice", SECRET)]))
        .await
        .expect("the next one");
}

#[tokio::test]
async fn a_place_that_fails_hides_no_other_and_is_named() {
    let (registry, _) = with_subject(Settings {
        auth: Auth::Basic("alice", SECRET),
        ..Settings::default()
    })
    .await;
    let failure = RegistryCredentialError::Source {
        source_name: "credential provider ecr".into(),
        cause: "no response within 5 s".into(),
    };
    let open = |credentials: &[RegistryCredentials]| {
        let store = Several(credentials.to_vec(), vec![failure.clone()]);
        target_with(&registry.host(), &options(), Arc::new(store))
    };
    ask(&open(&[password("alice", SECRET)]))
        .await
        .expect("let in");
    for (credentials, expected) in [
        (&[][..], Reason::InvalidSpec),
        (&[password("bob", "b")], Reason::RegistryDenied),
    ] {
        let error = ask(&open(credentials)).await.expect_err("refused");
        assert_eq!(error.reason(), expected, "{error}");
        assert!(
            error
                .to_string()
                .contains("credential provider ecr: no response within 5 s"),
            "{error}"
        );
    }
    registry.set(|s| s.auth = Auth::None);
    ask(&open(&[])).await.expect("nothing is needed");
}

#[tokio::test]
async fn keys_with_paths_and_wildcards_are_used() {
    let (registry, _) = with_subject(Settings {
        auth: Auth::Basic("alice", SECRET),
        ..Settings::default()
    })
    .await;
    let port = registry
        .host()
        .rsplit_once(':')
        .expect("a port")
        .1
        .to_owned();
    for (key, expected) in [
        (format!("{}/team", registry.host()), true),
        (format!("{}/team/app", registry.host()), true),
        (format!("127.0.*.1:{port}"), true),
        (format!("{}/te", registry.host()), false),
        (format!("{}/other", registry.host()), false),
        ("127.0.*.1".to_owned(), false),
    ] {
        let config = serde_json::json!({"auths": {&key: {
            "auth": STANDARD.encode(format!("alice:{SECRET}"))}}});
        let store = DockerConfig::parse(config.to_string().as_bytes())
            .expect("valid")
            .with_source("Secret team/pull");
        let outcome = ask(&target_with(&registry.host(), &options(), Arc::new(store))).await;
        match (outcome, expected) {
            (Ok(()), true) => {}
            (Err(error), false) => {
                assert_eq!(error.reason(), Reason::RegistryDenied);
                assert!(error.to_string().contains("no credentials for"), "{error}");
            }
            (outcome, _) => panic!("{key}: {outcome:?}"),
        }
    }
}
