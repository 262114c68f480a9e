//! Which credentials are sent where.

use std::sync::Arc;

use packgate::{
    core::{
        limits::InputLimits,
        reason::{ClassifiedError, Reason},
    },
    oci::{
        ContentSource, ContentTarget, PushContent,
        credentials::{HostCredentials, RegistryCredentials},
    },
};

use super::{
    REPOSITORY, SECRET, blob_of, by_tag, manifest, options, read, reason, signed_in, target,
    target_with, with_subject,
};
use crate::support::registry::{Auth, Fault, Registry, Settings};

#[tokio::test]
async fn basic_credentials_are_shown_after_a_challenge_only() {
    let (registry, _) = with_subject(Settings {
        auth: Auth::Basic("alice", SECRET),
        ..Settings::default()
    })
    .await;
    let target = signed_in(&registry);
    target
        .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
        .await
        .expect("let in");
    target
        .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
        .await
        .expect("let in");
    let shown: Vec<bool> = registry
        .requests()
        .iter()
        .map(|r| r.authorization.is_some())
        .collect();
    assert_eq!(shown, [false, true, true]);
    assert_eq!(
        reason(
            super::target(&registry)
                .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
                .await
        ),
        Reason::RegistryDenied,
        "nothing to show"
    );
    let wrong = RegistryCredentials::Password {
        username: "alice".into(),
        password: "wrong".to_owned().into(),
    };
    let wrong = target_with(
        &registry.host(),
        &options(),
        Arc::new(HostCredentials {
            host: registry.host(),
            credentials: wrong,
        }),
    );
    assert_eq!(
        reason(
            wrong
                .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
                .await
        ),
        Reason::RegistryDenied
    );
}

#[tokio::test]
async fn tokens_are_fetched_once_and_kept_as_long_as_they_last() {
    for (seconds, tokens) in [(300, 1), (0, 3)] {
        let (registry, subject) = with_subject(Settings {
            auth: Auth::Token("alice", SECRET),
            token_seconds: seconds,
            ..Settings::default()
        })
        .await;
        let target = signed_in(&registry);
        for _ in 0..2 {
            target
                .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
                .await
                .expect("let in");
        }
        target
            .list_referrers(&subject, &InputLimits::DEFAULT)
            .await
            .expect("let in");
        assert_eq!(registry.count("GET", "/token"), tokens, "{seconds} s");
        let first = registry
            .requests()
            .into_iter()
            .find(|r| r.path.starts_with("/token"))
            .expect("asked");
        assert!(
            first.path.contains("scope=repository%3Ateam%2Fapp%3Apull&")
                || first.path.ends_with("scope=repository%3Ateam%2Fapp%3Apull")
        );
        assert!(first.path.contains("service=scripted"), "{}", first.path);
    }
}

#[tokio::test]
async fn an_identity_token_is_exchanged_in_a_body() {
    let (registry, _) = with_subject(Settings {
        auth: Auth::Token("alice", SECRET),
        ..Settings::default()
    })
    .await;
    let credentials = RegistryCredentials::IdentityToken("identity".to_owned().into());
    let target = target_with(
        &registry.host(),
        &options(),
        Arc::new(HostCredentials {
            host: registry.host(),
            credentials,
        }),
    );
    target
        .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
        .await
        .expect("let in");
    assert!(
        registry
            .requests()
            .iter()
            .all(|r| !r.path.contains("identity")),
        "not in a URL"
    );
}

#[tokio::test]
async fn anonymous_tokens_are_fetched() {
    let (registry, _) = with_subject(Settings {
        auth: Auth::AnonymousToken,
        ..Settings::default()
    })
    .await;
    target(&registry)
        .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
        .await
        .expect("let in");
    assert!(
        registry
            .authorizations()
            .iter()
            .all(|a| a.starts_with("Bearer "))
    );
}

#[tokio::test]
async fn a_token_service_that_refuses_is_a_refusal() {
    for (status, expected) in [
        (400, Reason::RegistryDenied),
        (401, Reason::RegistryDenied),
        (403, Reason::RegistryDenied),
        (429, Reason::RateLimited),
        (500, Reason::RegistryUnavailable),
    ] {
        let (registry, _) = with_subject(Settings {
            auth: Auth::Token("alice", SECRET),
            ..Settings::default()
        })
        .await;
        registry.fault(Fault::on("GET", "/token").status(status));
        assert_eq!(
            reason(
                signed_in(&registry)
                    .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
                    .await
            ),
            expected,
            "{status}"
        );
        assert_eq!(
            registry.count("GET", "/manifests/"),
            1,
            "nothing is asked again without a token"
        );
    }
    let (registry, _) = with_subject(Settings {
        auth: Auth::Token("alice", SECRET),
        ..Settings::default()
    })
    .await;
    registry.fault(Fault::on("GET", "/token").body("{}"));
    assert_eq!(
        reason(
            signed_in(&registry)
                .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
                .await
        ),
        Reason::RegistryDenied
    );
}

#[tokio::test]
async fn a_token_that_ended_is_replaced_once() {
    let (registry, _) = with_subject(Settings {
        auth: Auth::Token("alice", SECRET),
        ..Settings::default()
    })
    .await;
    let target = signed_in(&registry);
    target
        .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
        .await
        .expect("let in");
    let challenge = format!("Bearer realm=\"{}/token\"", registry.origin());
    registry.fault(
        Fault::on("GET", "/manifests/")
            .status(401)
            .header("www-authenticate", challenge.clone())
            .times(1),
    );
    target
        .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
        .await
        .expect("let in with a new token");
    registry.fault(
        Fault::on("GET", "/manifests/")
            .status(401)
            .header("www-authenticate", challenge),
    );
    let before = registry.requests().len();
    assert_eq!(
        reason(
            target
                .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
                .await
        ),
        Reason::RegistryDenied
    );
    assert_eq!(
        registry.requests().len() - before,
        3,
        "asked, token, asked: no loop"
    );
}

fn assert_nothing_leaked(other: &Registry) {
    for request in other.requests() {
        assert_eq!(
            request.authorization, None,
            "{} {}",
            request.method, request.path
        );
        assert!(!format!("{request:?}").contains(SECRET), "{request:?}");
    }
}

#[tokio::test]
async fn credentials_do_not_follow_redirects() {
    for auth in [Auth::Basic("alice", SECRET), Auth::Token("alice", SECRET)] {
        let (registry, _) = with_subject(Settings {
            auth,
            ..Settings::default()
        })
        .await;
        let store = Registry::start().await;
        let (blob, bytes) = blob_of(1_000);
        store.put_blob(REPOSITORY, bytes.clone());
        let target = signed_in(&registry);
        target
            .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
            .await
            .expect("signed in");
        registry.fault(Fault::on("GET", "/blobs/").redirect(
            307,
            format!("{}/v2/{REPOSITORY}/blobs/{}", store.origin(), blob.digest),
        ));
        assert_eq!(read(&target, &blob).await.expect("redirected"), bytes);
        assert_eq!(store.requests().len(), 1);
        assert_nothing_leaked(&store);
        // A blob store that requires credentials gets none either, and does not change what the
        // registry gets.
        store.set(|s| s.auth = Auth::Basic("alice", SECRET));
        let before: Vec<String> = registry
            .requests()
            .into_iter()
            .filter(|r| r.path.starts_with("/v2/"))
            .filter_map(|r| r.authorization)
            .collect();
        assert_eq!(reason(read(&target, &blob).await), Reason::RegistryDenied);
        assert_nothing_leaked(&store);
        let after: Vec<String> = registry
            .requests()
            .into_iter()
            .filter(|r| r.path.starts_with("/v2/"))
            .filter_map(|r| r.authorization)
            .collect();
        assert_eq!(after.len(), before.len() + 1, "asked once");
        assert_eq!(after.last(), before.last());
    }
}

#[tokio::test]
async fn redirects_end() {
    let (registry, _) = with_subject(Settings::default()).await;
    registry.fault(
        Fault::on("GET", "/manifests/").redirect(302, format!("/v2/{REPOSITORY}/manifests/v1")),
    );
    let target = target(&registry);
    assert_eq!(
        reason(
            target
                .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
                .await
        ),
        Reason::RegistryUnavailable
    );
    assert_eq!(target.request_count(), 6);
}

#[tokio::test]
async fn a_body_is_not_redirected_to_another_origin() {
    let registry = Registry::with(Settings {
        auth: Auth::Token("alice", SECRET),
        ..Settings::default()
    })
    .await;
    let other = Registry::start().await;
    registry.fault(Fault::on("POST", "/token").redirect(307, format!("{}/token", other.origin())));
    let credentials = RegistryCredentials::IdentityToken(SECRET.to_owned().into());
    let target = target_with(
        &registry.host(),
        &options(),
        Arc::new(HostCredentials {
            host: registry.host(),
            credentials,
        }),
    );
    assert_eq!(
        reason(
            target
                .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
                .await
        ),
        Reason::RegistryUnavailable
    );
    registry.heal();
    registry.fault(Fault::on("PUT", "/manifests/").redirect(307, format!("{}/x", other.origin())));
    let (document, bytes) = manifest("x", None);
    assert_eq!(
        reason(
            signed_in(&registry)
                .push_content(&document, PushContent::Bytes(&bytes))
                .await
        ),
        Reason::RegistryUnavailable
    );
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn an_upload_elsewhere_goes_without_credentials() {
    for auth in [Auth::Basic("alice", SECRET), Auth::Token("alice", SECRET)] {
        let store = Registry::start().await;
        let registry = Registry::with(Settings {
            auth,
            upload_origin: Some(store.origin()),
            ..Settings::default()
        })
        .await;
        let (blob, bytes) = blob_of(1_000);
        signed_in(&registry)
            .push_content(&blob, PushContent::Bytes(&bytes))
            .await
            .expect("pushed");
        assert_eq!(store.blob(REPOSITORY, &blob.digest), Some(bytes));
        assert_nothing_leaked(&store);
    }
}

#[tokio::test]
async fn a_foreign_token_realm_gets_no_credentials_and_is_named() {
    let thief = Registry::start().await;
    let (registry, _) = with_subject(Settings {
        auth: Auth::Token("alice", SECRET),
        realm: Some(format!("{}/token", thief.origin())),
        ..Settings::default()
    })
    .await;
    let error = signed_in(&registry)
        .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
        .await
        .expect_err("refused");
    assert_eq!(error.reason(), Reason::RegistryDenied);
    assert!(error.to_string().contains(&thief.host()), "{error}");
    assert!(thief.requests().is_empty());
}

#[tokio::test]
async fn credentials_of_another_host_are_not_shown() {
    let (registry, _) = with_subject(Settings {
        auth: Auth::Basic("alice", SECRET),
        ..Settings::default()
    })
    .await;
    let credentials = RegistryCredentials::Password {
        username: "alice".into(),
        password: SECRET.to_owned().into(),
    };
    let elsewhere = HostCredentials {
        host: "r.example.com".into(),
        credentials,
    };
    let target = target_with(&registry.host(), &options(), Arc::new(elsewhere));
    assert_eq!(
        reason(
            target
                .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
                .await
        ),
        Reason::RegistryDenied
    );
    assert_nothing_leaked(&registry);
}

#[tokio::test]
async fn errors_carry_no_secret_even_if_the_registry_repeats_it() {
    for auth in [Auth::Basic("alice", SECRET), Auth::Token("alice", SECRET)] {
        let (registry, _) = with_subject(Settings {
            auth,
            ..Settings::default()
        })
        .await;
        let target = signed_in(&registry);
        target
            .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
            .await
            .expect("signed in");
        registry.fault(Fault::on("GET", "/manifests/").echo(403));
        let error = target
            .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
            .await
            .expect_err("refused");
        let shown = registry.authorizations().pop().expect("shown");
        let secret = shown.split(' ').next_back().expect("a value");
        let text = format!("{error} {error:?}");
        assert!(!text.contains(SECRET) && !text.contains(secret), "{text}");
        assert!(
            text.contains("you sent"),
            "the registry's words are kept: {text}"
        );
    }
}

#[tokio::test]
async fn errors_do_not_show_queries() {
    let (registry, _) = with_subject(Settings::default()).await;
    let gone = Registry::start().await;
    let origin = gone.origin();
    drop(gone);
    let (blob, _) = blob_of(10);
    registry.fault(Fault::on("GET", "/blobs/").redirect(307, format!("{origin}/x?sig={SECRET}")));
    let error = target(&registry)
        .open_content(&blob)
        .await
        .err()
        .expect("nobody there");
    assert_eq!(error.reason(), Reason::RegistryUnavailable);
    assert!(!format!("{error} {error:?}").contains(SECRET), "{error:?}");
}
