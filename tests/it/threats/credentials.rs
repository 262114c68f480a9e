//! Threats 40 and 41: where no request is sent, and where credentials are never sent.

use std::{sync::Arc, time::Duration};

use packgate::{
    core::{
        limits::InputLimits,
        media_type,
        reason::ClassifiedError,
        reference::{ImageRepository, TagOrDigest},
    },
    http::{AddressPolicy, HttpClient, HttpOptions, HttpProxy, PrivateAddresses},
    oci::{
        ContentSource,
        credentials::{HostCredentials, RegistryCredentials},
        remote::{RegistryOptions, RegistryTarget},
    },
};
use serde_json::json;

use super::{Outcome, Scene, TEAM, expect, index, reasons, requests};
use crate::support::{
    registry::{Auth, Fault, Registry, Settings},
    threats::threat,
};

const SECRET: &str = "hunter2-Secret";

/// Requests a tag like the webhook, with a password for this host.
async fn asked(host: &str) -> String {
    packgate::install_crypto_provider();
    let addresses = AddressPolicy::Cluster {
        private: PrivateAddresses::Allowed,
    };
    let options = HttpOptions {
        proxy: HttpProxy::Direct,
        addresses,
        response_timeout: Duration::from_secs(20),
        ..HttpOptions::default()
    };
    let credentials = RegistryCredentials::Password {
        username: "alice".into(),
        password: SECRET.to_owned().into(),
    };
    let known = Arc::new(HostCredentials {
        host: host.into(),
        credentials,
    });
    let http = HttpClient::new(&options).expect("a client");
    let repository = match format!("{host}/{TEAM}").parse::<ImageRepository>() {
        Ok(repository) => repository,
        Err(error) => return error.reason().to_string(),
    };
    let target = RegistryTarget::new(
        repository,
        &http,
        known,
        RegistryOptions {
            plain_http: true,
            ..RegistryOptions::default()
        },
    )
    .expect("a target");
    let error = target
        .resolve_manifest(
            &TagOrDigest::Tag("v1".parse().expect("a tag")),
            &InputLimits::DEFAULT,
        )
        .await
        .expect_err(host);
    error.reason().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_inside_is_never_connected_to() {
    let inside = Registry::with(Settings {
        auth: Auth::Basic("alice", SECRET),
        ..Settings::default()
    })
    .await;
    inside.put_manifest(TEAM, Some("v1"), media_type::INDEX, index(&[]));
    let port = inside.host().rsplit_once(':').expect("a port").1.to_owned();
    let mut outcomes = Vec::new();
    let addresses = ["127.0.0.1", "localhost", "[::1]", "169.254.169.254"]
        .map(|name| (name, "AddressNotAllowed"));
    // Some programs would parse these as addresses, and no registry is written so.
    let others = [
        "127.1",
        "2130706433",
        "0177.0.0.1",
        "0x7f000001",
        "0.0.0.0",
        "[::ffff:127.0.0.1]",
    ]
    .map(|name| (name, "InvalidSpec"));
    for (name, expected) in addresses.into_iter().chain(others) {
        let reason = asked(&format!("{name}:{port}")).await;
        assert_eq!(reason, expected, "{name}");
        outcomes.push(Outcome {
            reason,
            requests: inside.requests().len(),
            report: json!(null),
        });
    }
    if let Some(address) =
        crate::jobs::own_address("an_address_inside_is_never_connected_to: the redirect")
    {
        let outside = Registry::listening(address, Settings::default()).await;
        outside.fault(
            Fault::on("GET", "/manifests/")
                .redirect(307, format!("{}/v2/{TEAM}/manifests/v1", inside.origin())),
        );
        let reason = asked(&outside.host()).await;
        assert_eq!(
            (reason.as_str(), outside.requests().len()),
            ("AddressNotAllowed", 1),
            "a redirect"
        );
        outcomes.push(Outcome {
            reason,
            requests: inside.requests().len(),
            report: json!(null),
        });
    }
    threat(40)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes))
        .authorizations(&[("the address inside", inside.authorizations())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_are_shown_to_their_own_registry_only() {
    let basic = || Settings {
        auth: Auth::Basic("alice", SECRET),
        ..Settings::default()
    };
    let (scene, other, thief) = (
        Scene::with(basic()).await,
        Registry::with(basic()).await,
        Registry::start().await,
    );
    scene.sign();
    let config =
        json!({"auths": {scene.registry.host(): {"username": "alice", "password": SECRET}}})
            .to_string();
    scene.workspace.write(".docker/config.json", config);
    let own = scene.judge();
    let shown = scene.registry.authorizations();
    scene
        .registry
        .fault(Fault::on("GET", "/manifests/").redirect(
            307,
            format!("{}/v2/{TEAM}/manifests/{}", other.origin(), scene.image),
        ));
    let redirected = scene.judge();
    scene.registry.heal();
    scene.registry.set(|settings| {
        settings.auth = Auth::Token("alice", SECRET);
        settings.realm = Some(format!("{}/token", thief.origin()));
    });
    let realm = scene.judge();
    assert!(
        thief.requests().is_empty(),
        "the realm is named, and not asked"
    );
    // Another port of the same address is another registry.
    let before = other.requests().len();
    let reference = format!("{}/{TEAM}@{}", other.host(), scene.image);
    let policy = scene.policy(&json!({"match": {"references": [format!("{}/**", other.host())]}}));
    let mut look_alike = scene.judge_by(&reference, &[policy], "");
    look_alike.requests = other.requests().len() - before;
    let outcomes = expect([
        ("the registry itself", own, "Admitted"),
        ("a redirect to another host", redirected, "RegistryDenied"),
        ("a token service elsewhere", realm, "RegistryDenied"),
        (
            "a registry that looks like it",
            look_alike,
            "RegistryDenied",
        ),
    ]);
    for outcome in &outcomes {
        assert!(
            !outcome.report.to_string().contains(SECRET),
            "{:#}",
            outcome.report
        );
    }
    threat(41)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes))
        .authorizations(&[
            ("the registry", shown),
            (
                "the redirect's target and the look-alike",
                other.authorizations(),
            ),
            ("the token service", thief.authorizations()),
        ]);
}
