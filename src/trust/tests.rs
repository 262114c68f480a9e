//! Threats 20–25 and 45 of docs/threat-model.md, as far as they concern TUF: each with a properly
//! signed repository, over real HTTP.

use std::{sync::atomic::Ordering, time::Duration};

use super::{
    testing::{Files, TufRepository, TufServer},
    *,
};
use crate::{
    core::reason::ClassifiedError,
    http::{AddressPolicy, HttpClient, HttpOptions, HttpProxy, HttpRetryPolicy, PrivateAddresses},
    service::trust_root::{
        TrustRefreshPolicy, TrustRootRenewal, refresh_for_signing, renew_trust_root,
        renew_with_cache,
    },
};
use sigstore_trust_root::{SIGSTORE_PRODUCTION_TRUSTED_ROOT, SIGSTORE_STAGING_SIGNING_CONFIG};

const SOON: &str = "2026-11-28T00:00:00Z";
const LATER: &str = "2026-12-28T00:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn now() -> Timestamp {
    at("2026-11-21T12:00:00Z")
}

/// Another valid trust root.
fn content(number: usize) -> String {
    format!(
        "{}{}",
        SIGSTORE_PRODUCTION_TRUSTED_ROOT.trim_end(),
        "\n".repeat(number)
    )
}

fn client(addresses: AddressPolicy) -> HttpClient {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let retries = HttpRetryPolicy {
        attempts: 1,
        ..HttpRetryPolicy::default()
    };
    HttpClient::new(&HttpOptions {
        addresses,
        proxy: HttpProxy::Direct,
        retries,
        ..HttpOptions::default()
    })
    .expect("a client")
}

/// A repository, its server, and a client with the first root.
struct Scene {
    there: TufRepository,
    server: TufServer,
    known: TufRepositoryConfig,
    source: TufSource,
}

impl Scene {
    fn new() -> Self {
        let there = TufRepository::new(&content(1), SOON);
        let server = TufServer::start(&there.files);
        let known = TufRepositoryConfig::new(&server.url(), &there.root(1)).expect("a repository");
        Self {
            there,
            server,
            known,
            source: TufSource::new(client(AddressPolicy::Any)),
        }
    }

    async fn refresh(
        &self,
        last: Option<&FetchedTrustRoot>,
    ) -> Result<FetchedTrustRoot, TrustError> {
        self.source
            .refresh_trust_root(&self.known, last, &mut TufRootChain::default(), now())
            .await
    }

    async fn renew(
        &self,
        kept: Option<&FetchedTrustRoot>,
        now: Timestamp,
    ) -> Result<TrustRootRenewal, TrustError> {
        renew_trust_root(
            &self.source,
            &self.known,
            kept.cloned(),
            &mut TufRootChain::default(),
            TrustRefreshPolicy::default(),
            now,
        )
        .await
    }
}

fn reason<T: std::fmt::Debug>(outcome: Result<T, TrustError>) -> (Reason, String) {
    let error = outcome.expect_err("refused");
    (error.reason(), error.to_string())
}

#[tokio::test]
async fn what_a_repository_signs_is_believed_and_kept() {
    let mut scene = Scene::new();
    let first = scene.refresh(None).await.expect("good");
    assert_eq!(
        (first.trusted_root.as_str(), first.expires, first.refreshed),
        (content(1).as_str(), at(SOON), now())
    );
    scene.there.publish(&content(2), LATER);
    let second = scene.refresh(Some(&first)).await.expect("good");
    assert_eq!(
        (second.trusted_root.as_str(), second.expires),
        (content(2).as_str(), at(LATER))
    );
    let again = scene.refresh(Some(&second)).await.expect("nothing changed");
    assert_eq!(again.trusted_root, second.trusted_root);
    assert_eq!(
        scene
            .source
            .reverify_cached(
                &scene.known,
                &second,
                &TufRootChain::default(),
                at("2027-06-01T00:00:00Z")
            )
            .await
            .expect("it was good")
            .trusted_root,
        content(2)
    );
}

#[tokio::test]
async fn nothing_goes_back_to_an_older_version() {
    let mut scene = Scene::new();
    let old = scene.there.files.lock().expect("no panic").clone();
    scene.there.publish(&content(2), LATER);
    let newest = scene.refresh(None).await.expect("good");
    *scene.there.files.lock().expect("no panic") = old;
    let (reason, message) = reason(scene.refresh(Some(&newest)).await);
    assert_eq!(reason, Reason::TrustRootUnavailable, "{message}");
    assert!(message.contains("rollback"), "{message}");
    let kept = scene
        .renew(Some(&newest), at("2026-11-23T00:00:00Z"))
        .await
        .expect("the last good one");
    assert_eq!(
        (
            kept.root.trusted_root.as_str(),
            kept.is_new,
            kept.renewal_error.is_some()
        ),
        (content(2).as_str(), false, true)
    );
}

#[tokio::test]
async fn the_last_good_root_is_used_until_its_grace_is_over() {
    let scene = Scene::new();
    let kept = scene.refresh(None).await.expect("good");
    for (moment, asked) in [
        ("2026-11-22T11:00:00Z", false),
        ("2026-11-22T13:00:00Z", true),
        ("2026-11-28T01:00:00Z", true),
        ("2026-12-04T23:00:00Z", true),
    ] {
        let before = scene.server.requests();
        let renewal = scene.renew(Some(&kept), at(moment)).await.expect(moment);
        assert_eq!(renewal.root.trusted_root, content(1), "{moment}");
        assert_eq!(scene.server.requests() > before, asked, "{moment}");
    }
    // The same timestamp forever: a frozen mirror.
    let frozen = scene
        .renew(Some(&kept), at("2026-11-28T01:00:00Z"))
        .await
        .expect("grace");
    assert_eq!(
        frozen.renewal_error.map(|error| error.reason()),
        Some(Reason::TrustRootExpired)
    );
    let (reason, message) = reason(scene.renew(Some(&kept), at("2026-12-05T00:00:00Z")).await);
    assert_eq!(reason, Reason::TrustRootExpired, "{message}");
    assert!(message.contains("2026-11-28T00:00:00Z"), "{message}");
}

#[tokio::test]
async fn expired_metadata_is_no_beginning() {
    let scene = Scene::new();
    let (reason, message) = reason(scene.renew(None, at("2026-11-29T00:00:00Z")).await);
    assert_eq!(reason, Reason::TrustRootExpired, "{message}");
}

#[tokio::test]
async fn a_repository_that_is_down_changes_nothing() {
    let scene = Scene::new();
    let kept = scene.refresh(None).await.expect("good");
    scene.server.behaviour.fails.store(true, Ordering::SeqCst);
    let (reported, message) = reason(scene.refresh(None).await);
    assert_eq!(reported, Reason::TrustRootUnavailable, "{message}");
    let renewal = scene
        .renew(Some(&kept), at("2026-11-24T00:00:00Z"))
        .await
        .expect("the last good one");
    assert_eq!(
        (
            renewal.root.trusted_root,
            renewal.renewal_error.map(|error| error.reason())
        ),
        (content(1), Some(Reason::TrustRootUnavailable))
    );
    let (reported, message) = reason(scene.renew(Some(&kept), at("2026-12-06T00:00:00Z")).await);
    assert_eq!(reported, Reason::TrustRootExpired, "{message}");
    assert!(
        message.contains("500"),
        "it says why there is nothing newer: {message}"
    );
}

#[tokio::test]
async fn keys_are_rotated_by_whoever_had_them() {
    let mut scene = Scene::new();
    let first = scene.refresh(None).await.expect("good");
    scene.there.rotate();
    let (reported, message) = reason(scene.refresh(Some(&first)).await);
    assert_eq!(
        reported,
        Reason::TrustRootUnavailable,
        "metadata of the old keys under the new root: {message}"
    );
    scene.there.publish(&content(2), LATER);
    let second = scene.refresh(Some(&first)).await.expect("rotated");
    assert_eq!(second.trusted_root, content(2));
    // From the first root on, with and without the network.
    assert_eq!(
        scene.refresh(None).await.expect("rotated").trusted_root,
        content(2)
    );
    assert_eq!(
        scene
            .source
            .reverify_cached(&scene.known, &second, &TufRootChain::default(), now())
            .await
            .expect("kept")
            .trusted_root,
        content(2)
    );
    scene.there.rotate();
    scene.there.publish(&content(3), LATER);
    assert_eq!(
        scene
            .refresh(Some(&second))
            .await
            .expect("rotated twice")
            .trusted_root,
        content(3)
    );
    scene.there.usurp();
    scene.there.publish(&content(4), LATER);
    let (reported, message) = reason(scene.refresh(Some(&second)).await);
    assert_eq!(reported, Reason::TrustRootUnavailable, "{message}");
    assert!(message.contains("threshold"), "{message}");
}

#[tokio::test]
async fn other_bytes_and_other_signatures_are_refused() {
    let change = |files: &mut Files, name: &str, from: &str, to: &str| {
        let text = String::from_utf8(files[name].clone()).expect("text");
        assert!(text.contains(from), "{name}");
        files.insert(name.to_owned(), text.replace(from, to).into_bytes());
    };
    for name in ["timestamp.json", "1.snapshot.json", "1.targets.json"] {
        let scene = Scene::new();
        change(
            &mut scene.there.files.lock().expect("no panic"),
            name,
            SOON,
            LATER,
        );
        let (reported, message) = reason(scene.refresh(None).await);
        assert_eq!(reported, Reason::TrustRootUnavailable, "{name}: {message}");
        assert!(message.contains("failed verification"), "{name}: {message}");
    }
    let scene = Scene::new();
    let target = scene
        .there
        .files
        .lock()
        .expect("no panic")
        .keys()
        .find(|name| name.starts_with("targets/"))
        .expect("a target")
        .clone();
    change(
        &mut scene.there.files.lock().expect("no panic"),
        &target,
        "fulcio",
        "fulcjo",
    );
    assert!(reason(scene.refresh(None).await).1.contains("mismatch"));
}

#[tokio::test]
async fn what_is_signed_and_no_trust_root_is_refused() {
    let mut scene = Scene::new();
    scene.there.publish("{}", SOON);
    let (reported, message) = reason(scene.refresh(None).await);
    assert_eq!(reported, Reason::TrustRootUnavailable, "{message}");
}

#[tokio::test]
async fn an_answer_without_an_end_is_cut_off() {
    let scene = Scene::new();
    scene.server.behaviour.endless.store(true, Ordering::SeqCst);
    let begun = std::time::Instant::now();
    let (reported, message) = reason(scene.refresh(None).await);
    assert_eq!(reported, Reason::TrustRootUnavailable, "{message}");
    assert!(
        message.contains("larger than") && begun.elapsed() < Duration::from_secs(20),
        "{message}"
    );
}

#[tokio::test]
async fn addresses_that_may_not_be_reached_are_not() {
    let scene = Scene::new();
    let guarded = TufSource::new(client(AddressPolicy::Cluster {
        private: PrivateAddresses::Allowed,
    }));
    let (reported, message) = reason(
        guarded
            .refresh_trust_root(&scene.known, None, &mut TufRootChain::default(), now())
            .await,
    );
    assert_eq!(
        (reported, scene.server.requests()),
        (Reason::TrustRootUnavailable, 0),
        "{message}"
    );
}

#[tokio::test]
async fn what_was_kept_is_checked_again() {
    let scene = Scene::new();
    let good = scene.refresh(None).await.expect("good");
    let other = FetchedTrustRoot {
        trusted_root: content(7),
        ..good.clone()
    };
    assert_eq!(
        reason(
            scene
                .source
                .reverify_cached(&scene.known, &other, &TufRootChain::default(), now())
                .await
        )
        .0,
        Reason::TrustRootUnavailable
    );
    let mut later = good.clone();
    later
        .metadata
        .0
        .values_mut()
        .for_each(|text| *text = text.replace(SOON, LATER));
    assert_eq!(
        reason(
            scene
                .source
                .reverify_cached(&scene.known, &later, &TufRootChain::default(), now())
                .await
        )
        .0,
        Reason::TrustRootUnavailable
    );
    let elsewhere = Scene::new();
    assert_eq!(
        reason(
            scene
                .source
                .reverify_cached(&elsewhere.known, &good, &TufRootChain::default(), now())
                .await
        )
        .0,
        Reason::TrustRootUnavailable
    );
    // Then it is dropped, and the repository is contacted.
    let renewal = scene.renew(Some(&other), now()).await.expect("fetched");
    assert_eq!(
        (renewal.root.trusted_root, renewal.is_new),
        (content(1), true)
    );
}

#[tokio::test]
async fn a_file_starts_without_the_network() {
    let scene = Scene::new();
    let folder = tempfile::tempdir().expect("a folder");
    let cache = FileTrustCache::new(folder.path().join("tuf"));
    let offline = TrustRefreshPolicy {
        may_ask: false,
        ..TrustRefreshPolicy::default()
    };
    let obtain = async |terms, moment| {
        renew_with_cache(&scene.source, &cache, &scene.known, terms, moment).await
    };
    let (reported, message) = reason(obtain(offline, now()).await);
    assert_eq!(
        (reported, scene.server.requests()),
        (Reason::TrustRootUnavailable, 0),
        "{message}"
    );
    assert_eq!(
        obtain(TrustRefreshPolicy::default(), now())
            .await
            .expect("fetched"),
        content(1)
    );
    let asked = scene.server.requests();
    for terms in [offline, TrustRefreshPolicy::default()] {
        assert_eq!(obtain(terms, now()).await.expect("kept"), content(1));
    }
    assert_eq!(
        obtain(offline, at("2026-12-04T00:00:00Z"))
            .await
            .expect("grace"),
        content(1)
    );
    assert_eq!(
        reason(obtain(offline, at("2026-12-05T00:00:00Z")).await).0,
        Reason::TrustRootExpired
    );
    assert_eq!(scene.server.requests(), asked, "nobody was asked");
    for file in std::fs::read_dir(folder.path().join("tuf")).expect("a folder") {
        std::fs::write(file.expect("a file").path(), "{").expect("written");
    }
    assert!(cache.load_fetched(&scene.known).is_none());
    assert_eq!(
        obtain(TrustRefreshPolicy::default(), now())
            .await
            .expect("fetched anew"),
        content(1)
    );
}

/// TUF 5.3.8: each new root is kept immediately. What it revoked is not trusted again, although the
/// rest of that refresh failed.
#[tokio::test]
async fn a_newer_root_is_kept_although_the_rest_of_its_refresh_fails() {
    let mut scene = Scene::new();
    let folder = tempfile::tempdir().expect("a folder");
    let cache = FileTrustCache::new(folder.path());
    let obtain = async |scene: &Scene, moment| {
        renew_with_cache(
            &scene.source,
            &cache,
            &scene.known,
            TrustRefreshPolicy::default(),
            at(moment),
        )
        .await
    };
    assert_eq!(
        obtain(&scene, "2026-11-21T12:00:00Z")
            .await
            .expect("fetched"),
        content(1)
    );
    let old = scene.there.files.lock().expect("no panic").clone();
    // The new root exists; everything else is signed by the keys that it revoked.
    scene.there.rotate();
    let (reported, message) = reason(obtain(&scene, "2026-11-22T13:00:00Z").await);
    assert_eq!(reported, Reason::TrustRootUnavailable, "{message}");
    // The next process, and a mirror that hides the new root: neither the stored state nor the
    // mirror's content is trusted.
    let new = std::mem::replace(&mut *scene.there.files.lock().expect("no panic"), old);
    let offline = TrustRefreshPolicy {
        may_ask: false,
        ..TrustRefreshPolicy::default()
    };
    let (reported, message) =
        reason(renew_with_cache(&scene.source, &cache, &scene.known, offline, now()).await);
    assert_eq!(reported, Reason::TrustRootUnavailable, "{message}");
    let (reported, message) = reason(obtain(&scene, "2026-11-22T14:00:00Z").await);
    assert_eq!(reported, Reason::TrustRootUnavailable, "{message}");
    let (reported, message) =
        reason(refresh_for_signing(&scene.source, &cache, &scene.known, now()).await);
    assert_eq!(reported, Reason::TrustRootUnavailable, "{message}");
    *scene.there.files.lock().expect("no panic") = new;
    scene.there.publish(&content(2), LATER);
    assert_eq!(
        obtain(&scene, "2026-11-22T15:00:00Z")
            .await
            .expect("fetched"),
        content(2)
    );
}

/// Signing refreshes each time, and keeps the roots as well.
#[tokio::test]
async fn who_signs_keeps_a_newer_root_too() {
    let mut scene = Scene::new();
    let folder = tempfile::tempdir().expect("a folder");
    let cache = FileTrustCache::new(folder.path());
    scene.there.rotate_root();
    let files = &scene.there.files;
    files.lock().expect("no panic").remove("timestamp.json");
    reason(refresh_for_signing(&scene.source, &cache, &scene.known, now()).await);
    let roots = cache.load_roots(&scene.known);
    assert!(
        roots.0.contains_key("root_history/2.root.json"),
        "{:?}",
        roots.0.keys()
    );
    // The stored last good state is kept if the newer root revokes nothing of it.
    let mut scene = Scene::new();
    let kept = scene.refresh(None).await.expect("good");
    scene.there.rotate_root();
    scene
        .there
        .files
        .lock()
        .expect("no panic")
        .remove("timestamp.json");
    let mut roots = TufRootChain::default();
    let renewal = renew_trust_root(
        &scene.source,
        &scene.known,
        Some(kept),
        &mut roots,
        TrustRefreshPolicy::default(),
        at("2026-11-23T00:00:00Z"),
    )
    .await
    .expect("good");
    assert_eq!(
        (
            renewal.is_new,
            renewal.renewal_error.is_some(),
            roots.0.contains_key("root_history/2.root.json")
        ),
        (false, true, true)
    );
}

#[tokio::test]
async fn who_signs_is_told_the_services_and_never_older_ones() {
    let mut scene = Scene::new();
    let folder = tempfile::tempdir().expect("a folder");
    let cache = FileTrustCache::new(folder.path());
    let (reported, message) =
        reason(refresh_for_signing(&scene.source, &cache, &scene.known, now()).await);
    assert_eq!(reported, Reason::TrustRootUnavailable, "{message}");
    assert!(message.contains("signing_config.v0.2.json"), "{message}");

    let old = scene.there.files.lock().expect("no panic").clone();
    let root = content(2);
    scene.there.publish_all(
        &[
            ("trusted_root.json", &root),
            ("signing_config.v0.2.json", SIGSTORE_STAGING_SIGNING_CONFIG),
        ],
        LATER,
    );
    let found = refresh_for_signing(&scene.source, &cache, &scene.known, now())
        .await
        .expect("both");
    assert_eq!(
        (
            found.fetched.trusted_root.as_str(),
            found.signing_config.as_str()
        ),
        (root.as_str(), SIGSTORE_STAGING_SIGNING_CONFIG)
    );
    // Verifiers use the state that was stored for signers.
    let asked = scene.server.requests();
    assert_eq!(
        renew_with_cache(
            &scene.source,
            &cache,
            &scene.known,
            TrustRefreshPolicy::default(),
            now()
        )
        .await
        .expect("kept"),
        root
    );
    assert_eq!(scene.server.requests(), asked);

    *scene.there.files.lock().expect("no panic") = old;
    let (reported, message) =
        reason(refresh_for_signing(&scene.source, &cache, &scene.known, now()).await);
    assert_eq!(reported, Reason::TrustRootUnavailable, "{message}");
    assert!(message.contains("rollback"), "{message}");
}

#[test]
fn addresses_and_first_roots_are_what_they_should_be() {
    let there = TufRepository::new(&content(1), SOON);
    let root = there.root(1);
    for url in [
        "https://tuf.example.com",
        "http://tuf.example.com:8080/a/b/",
    ] {
        assert!(
            TufRepositoryConfig::new(url, &root)
                .expect(url)
                .url()
                .ends_with('/'),
            "{url}"
        );
    }
    for url in [
        "",
        "tuf.example.com",
        "ftp://tuf.example.com",
        "https://u:p@tuf.example.com",
        "https://tuf.example.com/?a=b",
        "https://tuf.example.com/#a",
    ] {
        assert_eq!(
            reason(TufRepositoryConfig::new(url, &root)).0,
            Reason::InvalidSpec,
            "{url}"
        );
    }
    let forged = String::from_utf8(root)
        .expect("text")
        .replace("2030", "2040");
    for root in [
        &b"{}"[..],
        b"",
        forged.as_bytes(),
        &vec![b' '; MAX_ROOT + 1],
    ] {
        assert_eq!(
            reason(TufRepositoryConfig::new("https://tuf.example.com", root)).0,
            Reason::InvalidSpec
        );
    }
    assert!(
        TufRepositoryConfig::public_good()
            .expect("this build's")
            .url()
            .starts_with("https://tuf-repo-cdn.sigstore.dev")
    );
    assert!(
        TufRepositoryConfig::staging()
            .expect("this build's")
            .url()
            .starts_with("https://tuf-repo-cdn.sigstage.dev")
    );
}
