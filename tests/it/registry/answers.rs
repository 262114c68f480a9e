//! Errors in place of responses, and timeouts.

use std::{sync::Arc, time::Duration};

use packgate::{
    core::{
        limits::InputLimits,
        media_type,
        reason::{ClassifiedError, Reason},
    },
    http::{AddressPolicy, HttpOptions, PrivateAddresses},
    oci::{ContentSource, ContentTarget, credentials::AnonymousCredentials},
};

use super::{
    REPOSITORY, blob_of, by_tag, manifest, options, read, reason, tag, target, target_with,
    with_subject,
};
use crate::support::registry::{Fault, Registry, Settings};

#[tokio::test]
async fn a_registry_that_is_down_is_unavailable() {
    let registry = Registry::start().await;
    let target = target(&registry);
    drop(registry);
    tokio::task::yield_now().await;
    let error = target
        .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
        .await
        .expect_err("down");
    assert_eq!(error.reason(), Reason::RegistryUnavailable, "{error}");
    assert_eq!(target.request_count(), 3, "three attempts");
}

#[tokio::test]
async fn every_status_has_its_reason_for_every_question() {
    let (registry, subject) = with_subject(Settings::default()).await;
    let target = target(&registry);
    let (blob, _) = blob_of(10);
    for (status, expected) in [
        (401, Reason::RegistryDenied),
        (403, Reason::RegistryDenied),
        (429, Reason::RateLimited),
        (400, Reason::RegistryUnavailable),
        (500, Reason::RegistryUnavailable),
        (503, Reason::RegistryUnavailable),
    ] {
        registry.heal();
        registry.fault(Fault::on("*", "/v2/").status(status));
        assert_eq!(
            reason(
                target
                    .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
                    .await
            ),
            expected,
            "resolve {status}"
        );
        assert_eq!(
            reason(target.list_referrers(&subject, &InputLimits::DEFAULT).await),
            expected,
            "referrers {status}"
        );
        assert_eq!(
            reason(read(&target, &blob).await),
            expected,
            "open {status}"
        );
        assert_eq!(
            reason(target.content_exists(&blob).await),
            expected,
            "exists {status}"
        );
        assert_eq!(
            reason(target.tag_manifest(&subject, &tag("v2")).await),
            expected,
            "tag {status}"
        );
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let registry = Registry::start().await;
    let target = target(&registry);
    let (blob, _) = blob_of(10);
    assert_eq!(
        reason(
            target
                .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
                .await
        ),
        Reason::SourceNotFound
    );
    assert_eq!(reason(read(&target, &blob).await), Reason::SourceNotFound);
    assert!(!target.content_exists(&blob).await.expect("an answer"));
}

#[tokio::test]
async fn an_error_on_the_referrers_fallback_is_never_an_empty_list() {
    let (registry, subject) = with_subject(Settings {
        referrers_api: false,
        ..Settings::default()
    })
    .await;
    let target = target(&registry);
    assert_eq!(
        target
            .list_referrers(&subject, &InputLimits::DEFAULT)
            .await
            .expect("no tag, no referrers"),
        vec![]
    );
    for (status, expected) in [
        (401, Reason::RegistryDenied),
        (403, Reason::RegistryDenied),
        (429, Reason::RateLimited),
        (500, Reason::RegistryUnavailable),
    ] {
        registry.heal();
        registry.fault(Fault::on("GET", "/manifests/sha256-").status(status));
        assert_eq!(
            reason(target.list_referrers(&subject, &InputLimits::DEFAULT).await),
            expected,
            "{status}"
        );
    }
    registry.heal();
    registry.fault(Fault::on("GET", "/manifests/sha256-").body("<html>"));
    assert_eq!(
        reason(target.list_referrers(&subject, &InputLimits::DEFAULT).await),
        Reason::MalformedManifest
    );
    registry.heal();
    registry.fault(Fault::on("GET", "/manifests/sha256-").drop_connection());
    assert_eq!(
        reason(target.list_referrers(&subject, &InputLimits::DEFAULT).await),
        Reason::RegistryUnavailable
    );
}

#[tokio::test]
async fn an_error_on_the_referrers_api_is_no_reason_to_ask_the_fallback() {
    let (registry, subject) = with_subject(Settings::default()).await;
    for (status, expected) in [
        (401, Reason::RegistryDenied),
        (403, Reason::RegistryDenied),
        (429, Reason::RateLimited),
        (502, Reason::RegistryUnavailable),
    ] {
        registry.heal();
        registry.fault(Fault::on("GET", "/referrers/").status(status));
        assert_eq!(
            reason(
                target(&registry)
                    .list_referrers(&subject, &InputLimits::DEFAULT)
                    .await
            ),
            expected,
            "{status}"
        );
    }
    assert_eq!(registry.count("GET", "/manifests/"), 0);
}

#[tokio::test]
async fn an_error_on_a_later_page_of_referrers_is_an_error() {
    let (registry, subject) = with_subject(Settings {
        page_size: 1,
        ..Settings::default()
    })
    .await;
    for note in ["a", "b", "c"] {
        registry.put_manifest(
            REPOSITORY,
            None,
            media_type::MANIFEST,
            manifest(note, Some(&subject)).1,
        );
    }
    assert_eq!(
        target(&registry)
            .list_referrers(&subject, &InputLimits::DEFAULT)
            .await
            .expect("three pages")
            .len(),
        3
    );
    for (status, expected) in [(403, Reason::RegistryDenied), (404, Reason::SourceNotFound)] {
        registry.heal();
        registry.fault(Fault::on("GET", "last=2").status(status));
        assert_eq!(
            reason(
                target(&registry)
                    .list_referrers(&subject, &InputLimits::DEFAULT)
                    .await
            ),
            expected,
            "{status}"
        );
    }
}

#[tokio::test]
async fn passing_faults_are_tried_again_and_waits_are_bounded() {
    let (registry, _) = with_subject(Settings::default()).await;
    for fault in [
        Fault::on("GET", "/manifests/")
            .status(429)
            .header("retry-after", "0")
            .times(2),
        Fault::on("GET", "/manifests/").status(503).times(1),
        Fault::on("GET", "/manifests/").drop_connection().times(1),
    ] {
        registry.heal();
        registry.fault(fault);
        target(&registry)
            .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
            .await
            .expect("answered in the end");
    }
    registry.heal();
    registry.fault(
        Fault::on("GET", "/manifests/")
            .status(429)
            .header("retry-after", "3600"),
    );
    let target = target(&registry);
    assert_eq!(
        reason(
            target
                .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
                .await
        ),
        Reason::RateLimited
    );
    assert_eq!(target.request_count(), 1, "nobody waits an hour");
}

#[tokio::test]
async fn a_registry_that_hangs_or_drips_runs_into_a_deadline() {
    let (registry, _) = with_subject(Settings::default()).await;
    let http = HttpOptions {
        idle_timeout: Duration::from_millis(100),
        response_timeout: Duration::from_millis(300),
        ..options()
    };
    let target = target_with(&registry.host(), &http, Arc::new(AnonymousCredentials));
    for fault in [
        Fault::on("GET", "/manifests/").delay(Duration::from_secs(30)),
        Fault::on("GET", "/manifests/").drip(Duration::from_millis(10)),
    ] {
        registry.heal();
        registry.fault(fault);
        let resolved = tokio::time::timeout(
            Duration::from_secs(10),
            target.resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT),
        )
        .await;
        assert_eq!(
            reason(resolved.expect("ends by itself")),
            Reason::DeadlineExceeded
        );
    }
    let (blob, bytes) = blob_of(1_000_000);
    registry.put_blob(REPOSITORY, bytes);
    for fault in [
        Fault::on("GET", "/blobs/").delay(Duration::from_secs(30)),
        Fault::on("GET", "/blobs/").drip(Duration::from_secs(30)),
    ] {
        registry.heal();
        registry.fault(fault);
        let outcome = tokio::time::timeout(Duration::from_secs(10), read(&target, &blob)).await;
        assert_eq!(
            reason(outcome.expect("ends by itself")),
            Reason::DeadlineExceeded
        );
    }
}

#[tokio::test]
async fn a_cluster_reaches_no_loopback_address_by_any_name() {
    let (registry, _) = with_subject(Settings::default()).await;
    let addresses = AddressPolicy::Cluster {
        private: PrivateAddresses::Allowed,
    };
    let guarded = HttpOptions {
        addresses,
        ..options()
    };
    let port = registry
        .host()
        .rsplit_once(':')
        .expect("a port")
        .1
        .to_owned();
    for host in [
        "127.1",
        "2130706433",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
    ] {
        let refused = format!("{host}:{port}/{REPOSITORY}")
            .parse::<packgate::core::reference::ImageReference>()
            .expect_err(host);
        assert_eq!(refused.reason(), Reason::InvalidSpec, "{host}: {refused}");
    }
    for host in ["127.0.0.1", "localhost", "[::1]", "[0:0::1]"] {
        let target = target_with(
            &format!("{host}:{port}"),
            &guarded,
            Arc::new(AnonymousCredentials),
        );
        let error = target
            .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
            .await
            .expect_err(host);
        assert_eq!(error.reason(), Reason::AddressNotAllowed, "{host}: {error}");
    }
    assert!(registry.requests().is_empty());
}
