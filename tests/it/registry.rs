//! `RemoteTarget` against a registry that fails and lies on demand. Every refusal is named by its reason.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::join_all;
use packgate::{
    core::{
        class::{Classified, Reason},
        digest::Digest,
        limits::Limits,
        media_type,
        oci::{Descriptor, Manifest},
        reference::{Selector, Tag},
    },
    http::{AddressPolicy, HttpClient, HttpOptions, PrivateAddresses, Proxy, Retries},
    oci::{
        Content, MemoryTarget, OciError, Resolved, Source, Target,
        auth::{Anonymous, CredentialStore, Credentials, HostCredentials},
        fetch,
        remote::{RemoteOptions, RemoteTarget},
    },
};

use crate::support::registry::{Auth, Fault, Registry, Settings};

const REPOSITORY: &str = "team/app";
const SECRET: &str = "hunter2-Secret";

fn options() -> HttpOptions {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let retries = Retries { first_wait: Duration::from_millis(5), ..Retries::default() };
    HttpOptions {
        proxy: Proxy::Direct,
        idle_timeout: Duration::from_secs(5),
        answer_timeout: Duration::from_secs(5),
        retries,
        ..HttpOptions::default()
    }
}

fn target_with(host: &str, http: &HttpOptions, credentials: Arc<dyn CredentialStore>) -> RemoteTarget {
    let repository = format!("{host}/{REPOSITORY}").parse().expect("a repository");
    let http = HttpClient::new(http).expect("a client");
    RemoteTarget::new(repository, &http, credentials, RemoteOptions { plain_http: true, ..RemoteOptions::default() }).expect("a target")
}

fn target(registry: &Registry) -> RemoteTarget {
    target_with(&registry.host(), &options(), Arc::new(Anonymous))
}

fn signed_in(registry: &Registry) -> RemoteTarget {
    let credentials = Credentials::Password { username: "alice".into(), password: SECRET.to_owned().into() };
    target_with(&registry.host(), &options(), Arc::new(HostCredentials { host: registry.host(), credentials }))
}

fn tag(text: &str) -> Tag {
    text.parse().expect("a tag")
}

fn by_tag(text: &str) -> Selector {
    Selector::Tag(tag(text))
}

/// A manifest over an empty config, told apart by `note`.
fn manifest(note: &str, subject: Option<&Descriptor>) -> (Descriptor, Bytes) {
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.into()),
        artifact_type: Some("application/vnd.example+json".into()),
        config: Descriptor::empty(),
        layers: vec![Descriptor::empty()],
        subject: subject.map(Descriptor::bare),
        annotations: [("note".to_owned(), note.to_owned())].into(),
    };
    let bytes = Bytes::from(serde_json::to_vec(&manifest).expect("serialisable"));
    (Descriptor::of(media_type::MANIFEST, &bytes), bytes)
}

/// A registry with a tagged manifest, and its descriptor.
async fn with_subject(settings: Settings) -> (Registry, Descriptor) {
    let registry = Registry::with(settings).await;
    let (descriptor, bytes) = manifest("subject", None);
    registry.put_manifest(REPOSITORY, Some("v1"), media_type::MANIFEST, bytes);
    (registry, descriptor)
}

fn blob_of(size: usize) -> (Descriptor, Bytes) {
    let bytes: Bytes = (0..size).map(|i| u8::try_from(i * 7 % 251).expect("small")).collect::<Vec<_>>().into();
    (Descriptor::of(media_type::OCTET_STREAM, &bytes), bytes)
}

async fn read(source: &RemoteTarget, descriptor: &Descriptor) -> Result<Bytes, OciError> {
    fetch(source, descriptor, 64 << 20).await
}

fn reason<T: std::fmt::Debug>(outcome: Result<T, OciError>) -> Reason {
    outcome.expect_err("refused").reason()
}

// --- down, denied, slowed down ---------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_registry_that_is_down_is_unavailable() {
    let registry = Registry::start().await;
    let target = target(&registry);
    drop(registry);
    tokio::task::yield_now().await;
    let error = target.resolve(&by_tag("v1"), &Limits::DEFAULT).await.expect_err("down");
    assert_eq!(error.reason(), Reason::RegistryUnavailable, "{error}");
    assert_eq!(target.requests(), 3, "three attempts");
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
        assert_eq!(reason(target.resolve(&by_tag("v1"), &Limits::DEFAULT).await), expected, "resolve {status}");
        assert_eq!(reason(target.referrers(&subject, &Limits::DEFAULT).await), expected, "referrers {status}");
        assert_eq!(reason(read(&target, &blob).await), expected, "open {status}");
        assert_eq!(reason(target.exists(&blob).await), expected, "exists {status}");
        assert_eq!(reason(target.tag(&subject, &tag("v2")).await), expected, "tag {status}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let registry = Registry::start().await;
    let target = target(&registry);
    let (blob, _) = blob_of(10);
    assert_eq!(reason(target.resolve(&by_tag("v1"), &Limits::DEFAULT).await), Reason::SourceNotFound);
    assert_eq!(reason(read(&target, &blob).await), Reason::SourceNotFound);
    assert!(!target.exists(&blob).await.expect("an answer"));
}

#[tokio::test]
async fn an_error_on_the_referrers_fallback_is_never_an_empty_list() {
    let (registry, subject) = with_subject(Settings { referrers_api: false, ..Settings::default() }).await;
    let target = target(&registry);
    assert_eq!(target.referrers(&subject, &Limits::DEFAULT).await.expect("no tag, no referrers"), vec![]);
    for (status, expected) in
        [(401, Reason::RegistryDenied), (403, Reason::RegistryDenied), (429, Reason::RateLimited), (500, Reason::RegistryUnavailable)]
    {
        registry.heal();
        registry.fault(Fault::on("GET", "/manifests/sha256-").status(status));
        assert_eq!(reason(target.referrers(&subject, &Limits::DEFAULT).await), expected, "{status}");
    }
    registry.heal();
    registry.fault(Fault::on("GET", "/manifests/sha256-").body("<html>"));
    assert_eq!(reason(target.referrers(&subject, &Limits::DEFAULT).await), Reason::MalformedManifest);
    registry.heal();
    registry.fault(Fault::on("GET", "/manifests/sha256-").drop_connection());
    assert_eq!(reason(target.referrers(&subject, &Limits::DEFAULT).await), Reason::RegistryUnavailable);
}

#[tokio::test]
async fn an_error_on_a_later_page_of_referrers_is_an_error() {
    let (registry, subject) = with_subject(Settings { page_size: 1, ..Settings::default() }).await;
    for note in ["a", "b", "c"] {
        registry.put_manifest(REPOSITORY, None, media_type::MANIFEST, manifest(note, Some(&subject)).1);
    }
    assert_eq!(target(&registry).referrers(&subject, &Limits::DEFAULT).await.expect("three pages").len(), 3);
    for (status, expected) in [(403, Reason::RegistryDenied), (404, Reason::SourceNotFound)] {
        registry.heal();
        registry.fault(Fault::on("GET", "last=2").status(status));
        assert_eq!(reason(target(&registry).referrers(&subject, &Limits::DEFAULT).await), expected, "{status}");
    }
}

#[tokio::test]
async fn passing_faults_are_tried_again_and_waits_are_bounded() {
    let (registry, _) = with_subject(Settings::default()).await;
    for fault in [
        Fault::on("GET", "/manifests/").status(429).header("retry-after", "0").times(2),
        Fault::on("GET", "/manifests/").status(503).times(1),
        Fault::on("GET", "/manifests/").drop_connection().times(1),
    ] {
        registry.heal();
        registry.fault(fault);
        target(&registry).resolve(&by_tag("v1"), &Limits::DEFAULT).await.expect("answered in the end");
    }
    registry.heal();
    registry.fault(Fault::on("GET", "/manifests/").status(429).header("retry-after", "3600"));
    let target = target(&registry);
    assert_eq!(reason(target.resolve(&by_tag("v1"), &Limits::DEFAULT).await), Reason::RateLimited);
    assert_eq!(target.requests(), 1, "nobody waits an hour");
}

#[tokio::test]
async fn a_registry_that_hangs_or_drips_runs_into_a_deadline() {
    let (registry, _) = with_subject(Settings::default()).await;
    let http = HttpOptions { idle_timeout: Duration::from_millis(100), answer_timeout: Duration::from_millis(300), ..options() };
    let target = target_with(&registry.host(), &http, Arc::new(Anonymous));
    for fault in [Fault::on("GET", "/manifests/").delay(Duration::from_secs(30)), Fault::on("GET", "/manifests/").drip(Duration::from_millis(10))] {
        registry.heal();
        registry.fault(fault);
        assert_eq!(reason(target.resolve(&by_tag("v1"), &Limits::DEFAULT).await), Reason::DeadlineExceeded);
    }
    let (blob, bytes) = blob_of(1_000_000);
    registry.put_blob(REPOSITORY, bytes);
    registry.fault(Fault::on("GET", "/blobs/").cut(10).delay(Duration::from_secs(30)));
    assert_eq!(reason(read(&target, &blob).await), Reason::DeadlineExceeded);
}

// --- bytes that contradict their names -------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_changed_byte_is_a_digest_mismatch() {
    let (registry, subject) = with_subject(Settings::default()).await;
    let (blob, bytes) = blob_of(100_000);
    registry.put_blob(REPOSITORY, bytes);
    registry.fault(Fault::on("GET", "/blobs/").flip(99_999));
    registry.fault(Fault::on("GET", "/manifests/").flip(20));
    let target = target(&registry);
    assert_eq!(reason(read(&target, &blob).await), Reason::DigestMismatch);
    assert_eq!(reason(target.resolve(&Selector::Digest(subject.digest), &Limits::DEFAULT).await), Reason::DigestMismatch);
    assert_eq!(reason(read(&target, &subject).await), Reason::DigestMismatch);
}

#[tokio::test]
async fn the_digest_header_is_not_believed() {
    let (registry, subject) = with_subject(Settings::default()).await;
    registry.fault(Fault::on("GET", "/manifests/").lying_digest());
    let found = target(&registry).resolve(&by_tag("v1"), &Limits::DEFAULT).await.expect("resolved");
    assert_eq!(found.descriptor, subject);
}

#[tokio::test]
async fn sizes_are_checked_before_and_while_reading() {
    let registry = Registry::start().await;
    let (blob, bytes) = blob_of(1_000);
    registry.put_blob(REPOSITORY, bytes);
    let target = target(&registry);
    for size in [10, 999, 1_001] {
        let wrong = Descriptor { size, ..blob.clone() };
        assert_eq!(target.open(&wrong).await.err().map(|e| e.reason()), Some(Reason::SizeMismatch), "{size}");
    }
    registry.fault(Fault::on("GET", "/blobs/").endless());
    assert_eq!(reason(read(&target, &blob).await), Reason::SizeMismatch);
    assert!(registry.endless_bytes() < 16 << 20, "{} bytes left the registry", registry.endless_bytes());
}

#[tokio::test]
async fn endless_documents_are_cut_off() {
    let (registry, subject) = with_subject(Settings { auth: Auth::AnonymousToken, ..Settings::default() }).await;
    for part in ["/manifests/v1", "/referrers/", "/token"] {
        registry.heal();
        registry.fault(Fault::on("GET", part).endless());
        let before = registry.endless_bytes();
        let target = target(&registry);
        let outcome = match part {
            "/referrers/" => target.referrers(&subject, &Limits::DEFAULT).await.map(|_| ()),
            _ => target.resolve(&by_tag("v1"), &Limits::DEFAULT).await.map(|_| ()),
        };
        assert_eq!(reason(outcome), Reason::LimitExceeded, "{part}");
        let taken = registry.endless_bytes() - before;
        assert!(taken < 24 << 20, "{part}: {taken} bytes left the registry");
    }
}

#[tokio::test]
async fn a_declared_size_over_the_cap_is_refused_unread() {
    let (registry, _) = with_subject(Settings::default()).await;
    let limits = Limits { manifest_bytes: 100, ..Limits::DEFAULT };
    assert_eq!(reason(target(&registry).resolve(&by_tag("v1"), &limits).await), Reason::LimitExceeded);
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_broke_or_fails() {
    let registry = Registry::start().await;
    let (blob, bytes) = blob_of(200_000);
    registry.put_blob(REPOSITORY, bytes.clone());
    registry.fault(Fault::on("GET", "/blobs/").cut(70_000).times(1));
    let rest = Fault::on("GET", "/blobs/").status(206).header("content-range", "bytes 70000-199999/200000");
    registry.fault(rest.body(bytes.slice(70_000..)).times(1));
    assert_eq!(read(&target(&registry), &blob).await.expect("resumed"), bytes);
    assert_eq!(registry.requests().last().expect("some").headers["range"], "bytes=70000-");

    registry.heal();
    registry.fault(Fault::on("GET", "/blobs/").cut(70_000).times(1));
    assert_eq!(reason(read(&target(&registry), &blob).await), Reason::RegistryUnavailable, "the registry ignores ranges");
}

#[tokio::test]
async fn the_media_type_is_the_registrys_or_the_documents_own() {
    let (registry, subject) = with_subject(Settings::default()).await;
    registry.fault(Fault::on("GET", "/manifests/").header("content-type", format!("{}; charset=utf-8", media_type::MANIFEST)));
    let found = target(&registry).resolve(&by_tag("v1"), &Limits::DEFAULT).await.expect("resolved");
    assert_eq!(found.descriptor, subject);
    registry.heal();
    registry.fault(Fault::on("GET", "/manifests/").header("content-type", media_type::INDEX));
    let found = target(&registry).resolve(&by_tag("v1"), &Limits::DEFAULT).await.expect("resolved");
    assert_eq!(reason(found.document(&Limits::DEFAULT)), Reason::MalformedManifest, "two media types");
}

// --- referrers ---------------------------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn lists_of_referrers_end_at_the_limit() {
    let (registry, subject) = with_subject(Settings { page_size: 7, ..Settings::default() }).await;
    for n in 0..20 {
        registry.put_manifest(REPOSITORY, None, media_type::MANIFEST, manifest(&n.to_string(), Some(&subject)).1);
    }
    let target = target(&registry);
    assert_eq!(target.referrers(&subject, &Limits { referrers_listed: 20, ..Limits::DEFAULT }).await.expect("within").len(), 20);
    let outcome = target.referrers(&subject, &Limits { referrers_listed: 19, ..Limits::DEFAULT }).await;
    assert_eq!(reason(outcome), Reason::TooManyReferrers);
}

#[tokio::test]
async fn endless_pages_of_referrers_end() {
    let (registry, subject) = with_subject(Settings::default()).await;
    let empty = r#"{"schemaVersion":2,"manifests":[]}"#;
    let link = format!("</v2/{REPOSITORY}/referrers/{}?again>; rel=\"next\"", subject.digest);
    registry.fault(Fault::on("GET", "/referrers/").body(empty).header("link", link));
    let target = target(&registry);
    assert_eq!(reason(target.referrers(&subject, &Limits::DEFAULT).await), Reason::TooManyReferrers);
    assert!(target.requests() <= 100, "{} requests", target.requests());
}

#[tokio::test]
async fn pages_of_referrers_stay_with_the_registry() {
    let (registry, subject) = with_subject(Settings::default()).await;
    let other = Registry::start().await;
    let link = format!("<{}/v2/x>; rel=\"next\"", other.origin());
    registry.fault(Fault::on("GET", "/referrers/").body(r#"{"schemaVersion":2,"manifests":[]}"#).header("link", link));
    assert_eq!(reason(target(&registry).referrers(&subject, &Limits::DEFAULT).await), Reason::RegistryUnavailable);
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn a_descriptor_that_cannot_be_read_hides_no_other() {
    let (registry, subject) = with_subject(Settings::default()).await;
    let (good, _) = manifest("good", Some(&subject));
    let list = serde_json::json!({"schemaVersion": 2, "manifests": [
        {"mediaType": "x", "digest": "sha512:00", "size": 1}, 7, good, {"size": -1}]});
    registry.fault(Fault::on("GET", "/referrers/").body(list.to_string()));
    assert_eq!(target(&registry).referrers(&subject, &Limits::DEFAULT).await.expect("listed"), vec![good]);
}

#[tokio::test]
async fn referrers_are_found_with_and_without_the_api() {
    for referrers_api in [true, false] {
        let (registry, subject) = with_subject(Settings { referrers_api, ..Settings::default() }).await;
        let target = target(&registry);
        let (first, bytes) = manifest("first", Some(&subject));
        target.push(&first, Content::Bytes(&bytes)).await.expect("pushed");
        target.push(&first, Content::Bytes(&bytes)).await.expect("pushed again");
        let (second, bytes) = manifest("second", Some(&subject));
        target.push(&second, Content::Bytes(&bytes)).await.expect("pushed");
        let listed = target.referrers(&subject, &Limits::DEFAULT).await.expect("listed");
        let mut found: Vec<_> = listed.iter().map(|d| (d.digest, d.artifact_type.clone(), d.annotations["note"].clone())).collect();
        found.sort_by(|a, b| a.2.cmp(&b.2));
        let typed = Some("application/vnd.example+json".to_owned());
        assert_eq!(found, vec![(first.digest, typed.clone(), "first".into()), (second.digest, typed, "second".into())], "api {referrers_api}");
        let fallback = registry.tag(REPOSITORY, &subject.digest.fallback_tag());
        assert_eq!(fallback.is_some(), !referrers_api, "the tag is for registries without the API");
    }
}

#[tokio::test]
async fn parallel_writers_of_the_fallback_tag_lose_nothing() {
    let (registry, subject) = with_subject(Settings { referrers_api: false, ..Settings::default() }).await;
    let writers = (0..20).map(|n| {
        // Each with a target of its own, as parallel `sign` and `attest` calls have.
        let (target, (descriptor, bytes)) = (target(&registry), manifest(&n.to_string(), Some(&subject)));
        tokio::spawn(async move { target.push(&descriptor, Content::Bytes(&bytes)).await.map(|()| descriptor.digest) })
    });
    let pushed: Vec<Digest> = join_all(writers).await.into_iter().map(|push| push.expect("no panic").expect("pushed")).collect();
    let listed = target(&registry).referrers(&subject, &Limits::DEFAULT).await.expect("listed");
    assert_eq!(listed.len(), 20, "no duplicates");
    assert!(pushed.iter().all(|digest| listed.iter().any(|d| d.digest == *digest)));
}

#[tokio::test]
async fn an_entry_that_another_process_overwrote_is_written_again() {
    let (registry, subject) = with_subject(Settings { referrers_api: false, ..Settings::default() }).await;
    // The first write of the list is answered with success and lost.
    registry.fault(Fault::on("PUT", "/manifests/sha256-").status(201).times(2));
    let (descriptor, bytes) = manifest("x", Some(&subject));
    target(&registry).push(&descriptor, Content::Bytes(&bytes)).await.expect("pushed");
    assert_eq!(target(&registry).referrers(&subject, &Limits::DEFAULT).await.expect("listed").len(), 1);
    registry.fault(Fault::on("PUT", "/manifests/sha256-").status(201));
    let (descriptor, bytes) = manifest("y", Some(&subject));
    assert_eq!(reason(target(&registry).push(&descriptor, Content::Bytes(&bytes)).await), Reason::RegistryUnavailable, "lost every time");
}

#[tokio::test]
async fn a_fallback_list_that_cannot_be_read_is_not_overwritten() {
    let (registry, subject) = with_subject(Settings { referrers_api: false, ..Settings::default() }).await;
    registry.fault(Fault::on("GET", "/manifests/sha256-").status(403));
    let (descriptor, bytes) = manifest("x", Some(&subject));
    assert_eq!(reason(target(&registry).push(&descriptor, Content::Bytes(&bytes)).await), Reason::RegistryDenied);
    assert_eq!(registry.count("PUT", "/manifests/sha256-"), 0);
}

// --- pushing ---------------------------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn what_is_pushed_comes_back() {
    for upload_origin in [None, Some(String::new())] {
        let registry = Registry::with(Settings { auth: Auth::Token("alice", SECRET), ..Settings::default() }).await;
        registry.set(|s| s.upload_origin = upload_origin.map(|_| registry.origin()));
        let target = signed_in(&registry);
        let (blob, bytes) = blob_of(1_000_000);
        let memory = MemoryTarget::new();
        memory.push(&blob, Content::Bytes(&bytes)).await.expect("in memory");
        target.push(&blob, Content::From(&memory)).await.expect("pushed");
        target.push(&blob, Content::From(&memory)).await.expect("there already");
        assert_eq!(registry.count("PUT", "/blobs/"), 1);
        assert_eq!(read(&target, &blob).await.expect("read"), bytes);
        let (document, bytes) = manifest("x", None);
        target.push(&document, Content::Bytes(&bytes)).await.expect("pushed");
        assert_eq!(registry.tag(REPOSITORY, "v9"), None, "pushed by digest");
        target.tag(&document, &tag("v9")).await.expect("tagged");
        assert_eq!(registry.count("GET", "/manifests/"), 0, "the bytes were remembered");
        let resolved: Resolved = target.resolve(&by_tag("v9"), &Limits::DEFAULT).await.expect("resolved");
        assert_eq!((resolved.descriptor, resolved.bytes), (document.clone(), bytes));
        signed_in(&registry).tag(&document, &tag("v10")).await.expect("read, then tagged");
        assert_eq!(registry.tag(REPOSITORY, "v10"), Some(document.digest.to_string()));
    }
}

#[tokio::test]
async fn empty_blobs_are_pushed() {
    let registry = Registry::start().await;
    let (blob, bytes) = blob_of(0);
    target(&registry).push(&blob, Content::Bytes(&bytes)).await.expect("pushed");
    assert_eq!(read(&target(&registry), &blob).await.expect("read"), bytes);
}

#[tokio::test]
async fn wrong_content_is_never_sent_in_full() {
    let registry = Registry::start().await;
    let (_, bytes) = blob_of(500_000);
    let lie = Descriptor { digest: Digest::of(b"else"), ..Descriptor::of(media_type::OCTET_STREAM, &bytes) };
    for max_body in [usize::MAX, 1_000] {
        registry.set(|s| s.max_body = max_body);
        assert_eq!(reason(target(&registry).push(&lie, Content::Bytes(&bytes)).await), Reason::DigestMismatch);
    }
    assert!(registry.requests().iter().all(|r| r.body.len() < bytes.len()), "the last piece was held back");
}

#[tokio::test]
async fn a_body_that_is_too_large_goes_in_chunks() {
    let registry = Registry::with(Settings { max_body: 5 << 20, ..Settings::default() }).await;
    let (blob, bytes) = blob_of(9 << 20);
    target(&registry).push(&blob, Content::Bytes(&bytes)).await.expect("pushed");
    assert_eq!(registry.count("PATCH", "/blobs/uploads/"), 3);
    let ranges: Vec<_> = registry.requests().iter().filter_map(|r| r.headers.get("content-range").cloned()).collect();
    assert_eq!(ranges, ["0-4194303", "4194304-8388607", "8388608-9437183"]);
    assert_eq!(registry.blob(REPOSITORY, &blob.digest), Some(bytes));
}

#[tokio::test]
async fn a_broken_upload_is_tried_again() {
    let registry = Registry::start().await;
    let (blob, bytes) = blob_of(300_000);
    registry.fault(Fault::on("PUT", "/blobs/uploads/").drop_connection().times(1));
    registry.fault(Fault::on("PUT", "/blobs/uploads/").status(503).times(1));
    target(&registry).push(&blob, Content::Bytes(&bytes)).await.expect("pushed");
    assert_eq!(registry.blob(REPOSITORY, &blob.digest), Some(bytes));
}

#[tokio::test]
async fn a_refused_upload_says_so() {
    let registry = Registry::start().await;
    let (blob, bytes) = blob_of(1_000);
    for (method, status, expected) in [
        ("POST", 403, Reason::RegistryDenied),
        ("PUT", 403, Reason::RegistryDenied),
        ("PUT", 400, Reason::RegistryUnavailable),
        ("POST", 429, Reason::RateLimited),
    ] {
        registry.heal();
        registry.fault(Fault::on(method, "/blobs/uploads/").status(status));
        assert_eq!(reason(target(&registry).push(&blob, Content::Bytes(&bytes)).await), expected, "{method} {status}");
    }
    registry.heal();
    registry.fault(Fault::on("POST", "/blobs/uploads/").status(202));
    assert_eq!(reason(target(&registry).push(&blob, Content::Bytes(&bytes)).await), Reason::RegistryUnavailable, "no Location");
}

#[tokio::test]
async fn blobs_are_mounted_from_a_neighbour() {
    let registry = Registry::with(Settings { auth: Auth::Token("alice", SECRET), ..Settings::default() }).await;
    let (blob, bytes) = blob_of(1_000);
    registry.put_blob("other/repo", bytes.clone());
    let from = format!("{}/other/repo", registry.host()).parse().expect("a repository");
    let target = signed_in(&registry);
    assert!(target.mount(&blob, &from).await.expect("answered"));
    assert_eq!(registry.blob(REPOSITORY, &blob.digest), Some(bytes));
    let (missing, _) = blob_of(1_001);
    assert!(!target.mount(&missing, &from).await.expect("answered"));
    assert!(!target.mount(&blob, &"r.example.com/x".parse().expect("a repository")).await.expect("another registry"));
}

// --- authentication ---------------------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn basic_credentials_are_shown_after_a_challenge_only() {
    let (registry, _) = with_subject(Settings { auth: Auth::Basic("alice", SECRET), ..Settings::default() }).await;
    let target = signed_in(&registry);
    target.resolve(&by_tag("v1"), &Limits::DEFAULT).await.expect("let in");
    target.resolve(&by_tag("v1"), &Limits::DEFAULT).await.expect("let in");
    let shown: Vec<bool> = registry.requests().iter().map(|r| r.authorization.is_some()).collect();
    assert_eq!(shown, [false, true, true]);
    assert_eq!(reason(self::target(&registry).resolve(&by_tag("v1"), &Limits::DEFAULT).await), Reason::RegistryDenied, "nothing to show");
    let wrong = Credentials::Password { username: "alice".into(), password: "wrong".to_owned().into() };
    let wrong = target_with(&registry.host(), &options(), Arc::new(HostCredentials { host: registry.host(), credentials: wrong }));
    assert_eq!(reason(wrong.resolve(&by_tag("v1"), &Limits::DEFAULT).await), Reason::RegistryDenied);
}

#[tokio::test]
async fn tokens_are_fetched_once_and_kept_as_long_as_they_last() {
    for (seconds, tokens) in [(300, 1), (0, 3)] {
        let (registry, subject) = with_subject(Settings { auth: Auth::Token("alice", SECRET), token_seconds: seconds, ..Settings::default() }).await;
        let target = signed_in(&registry);
        for _ in 0..2 {
            target.resolve(&by_tag("v1"), &Limits::DEFAULT).await.expect("let in");
        }
        target.referrers(&subject, &Limits::DEFAULT).await.expect("let in");
        assert_eq!(registry.count("GET", "/token"), tokens, "{seconds} s");
        let first = registry.requests().into_iter().find(|r| r.path.starts_with("/token")).expect("asked");
        assert!(first.path.contains("scope=repository%3Ateam%2Fapp%3Apull&") || first.path.ends_with("scope=repository%3Ateam%2Fapp%3Apull"));
        assert!(first.path.contains("service=scripted"), "{}", first.path);
    }
}

#[tokio::test]
async fn an_identity_token_is_exchanged_in_a_body() {
    let (registry, _) = with_subject(Settings { auth: Auth::Token("alice", SECRET), ..Settings::default() }).await;
    let credentials = Credentials::IdentityToken("identity".to_owned().into());
    let target = target_with(&registry.host(), &options(), Arc::new(HostCredentials { host: registry.host(), credentials }));
    target.resolve(&by_tag("v1"), &Limits::DEFAULT).await.expect("let in");
    assert!(registry.requests().iter().all(|r| !r.path.contains("identity")), "not in a URL");
}

#[tokio::test]
async fn anonymous_tokens_are_fetched() {
    let (registry, _) = with_subject(Settings { auth: Auth::AnonymousToken, ..Settings::default() }).await;
    target(&registry).resolve(&by_tag("v1"), &Limits::DEFAULT).await.expect("let in");
    assert!(registry.authorizations().iter().all(|a| a.starts_with("Bearer ")));
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
        let (registry, _) = with_subject(Settings { auth: Auth::Token("alice", SECRET), ..Settings::default() }).await;
        registry.fault(Fault::on("GET", "/token").status(status));
        assert_eq!(reason(signed_in(&registry).resolve(&by_tag("v1"), &Limits::DEFAULT).await), expected, "{status}");
        assert_eq!(registry.count("GET", "/manifests/"), 1, "nothing is asked again without a token");
    }
    let (registry, _) = with_subject(Settings { auth: Auth::Token("alice", SECRET), ..Settings::default() }).await;
    registry.fault(Fault::on("GET", "/token").body("{}"));
    assert_eq!(reason(signed_in(&registry).resolve(&by_tag("v1"), &Limits::DEFAULT).await), Reason::RegistryDenied);
}

#[tokio::test]
async fn a_token_that_ended_is_replaced_once() {
    let (registry, _) = with_subject(Settings { auth: Auth::Token("alice", SECRET), ..Settings::default() }).await;
    let target = signed_in(&registry);
    target.resolve(&by_tag("v1"), &Limits::DEFAULT).await.expect("let in");
    let challenge = format!("Bearer realm=\"{}/token\"", registry.origin());
    registry.fault(Fault::on("GET", "/manifests/").status(401).header("www-authenticate", challenge.clone()).times(1));
    target.resolve(&by_tag("v1"), &Limits::DEFAULT).await.expect("let in with a new token");
    registry.fault(Fault::on("GET", "/manifests/").status(401).header("www-authenticate", challenge));
    let before = registry.requests().len();
    assert_eq!(reason(target.resolve(&by_tag("v1"), &Limits::DEFAULT).await), Reason::RegistryDenied);
    assert_eq!(registry.requests().len() - before, 3, "asked, token, asked: no loop");
}

// --- credentials stay where they belong --------------------------------------------------------------------------------------------------

fn assert_nothing_leaked(other: &Registry) {
    for request in other.requests() {
        assert_eq!(request.authorization, None, "{} {}", request.method, request.path);
        assert!(!format!("{request:?}").contains(SECRET), "{request:?}");
    }
}

#[tokio::test]
async fn credentials_do_not_follow_redirects() {
    for auth in [Auth::Basic("alice", SECRET), Auth::Token("alice", SECRET)] {
        let (registry, _) = with_subject(Settings { auth, ..Settings::default() }).await;
        let store = Registry::start().await;
        let (blob, bytes) = blob_of(1_000);
        store.put_blob(REPOSITORY, bytes.clone());
        let target = signed_in(&registry);
        target.resolve(&by_tag("v1"), &Limits::DEFAULT).await.expect("signed in");
        registry.fault(Fault::on("GET", "/blobs/").redirect(307, format!("{}/v2/{REPOSITORY}/blobs/{}", store.origin(), blob.digest)));
        assert_eq!(read(&target, &blob).await.expect("redirected"), bytes);
        assert_eq!(store.requests().len(), 1);
        assert_nothing_leaked(&store);
        // A store that asks for credentials gets none either.
        store.set(|s| s.auth = Auth::Basic("alice", SECRET));
        assert_eq!(reason(read(&target, &blob).await), Reason::RegistryDenied);
        assert_nothing_leaked(&store);
    }
}

#[tokio::test]
async fn redirects_end() {
    let (registry, _) = with_subject(Settings::default()).await;
    registry.fault(Fault::on("GET", "/manifests/").redirect(302, format!("/v2/{REPOSITORY}/manifests/v1")));
    let target = target(&registry);
    assert_eq!(reason(target.resolve(&by_tag("v1"), &Limits::DEFAULT).await), Reason::RegistryUnavailable);
    assert_eq!(target.requests(), 6);
}

#[tokio::test]
async fn a_body_is_not_redirected_to_another_origin() {
    let registry = Registry::with(Settings { auth: Auth::Token("alice", SECRET), ..Settings::default() }).await;
    let other = Registry::start().await;
    registry.fault(Fault::on("POST", "/token").redirect(307, format!("{}/token", other.origin())));
    let credentials = Credentials::IdentityToken(SECRET.to_owned().into());
    let target = target_with(&registry.host(), &options(), Arc::new(HostCredentials { host: registry.host(), credentials }));
    assert_eq!(reason(target.resolve(&by_tag("v1"), &Limits::DEFAULT).await), Reason::RegistryUnavailable);
    registry.heal();
    registry.fault(Fault::on("PUT", "/manifests/").redirect(307, format!("{}/x", other.origin())));
    let (document, bytes) = manifest("x", None);
    assert_eq!(reason(signed_in(&registry).push(&document, Content::Bytes(&bytes)).await), Reason::RegistryUnavailable);
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn an_upload_elsewhere_goes_without_credentials() {
    for auth in [Auth::Basic("alice", SECRET), Auth::Token("alice", SECRET)] {
        let store = Registry::start().await;
        let registry = Registry::with(Settings { auth, upload_origin: Some(store.origin()), ..Settings::default() }).await;
        let (blob, bytes) = blob_of(1_000);
        signed_in(&registry).push(&blob, Content::Bytes(&bytes)).await.expect("pushed");
        assert_eq!(store.blob(REPOSITORY, &blob.digest), Some(bytes));
        assert_nothing_leaked(&store);
    }
}

#[tokio::test]
async fn a_foreign_token_realm_gets_no_credentials_and_is_named() {
    let thief = Registry::start().await;
    let (registry, _) =
        with_subject(Settings { auth: Auth::Token("alice", SECRET), realm: Some(format!("{}/token", thief.origin())), ..Settings::default() }).await;
    let error = signed_in(&registry).resolve(&by_tag("v1"), &Limits::DEFAULT).await.expect_err("refused");
    assert_eq!(error.reason(), Reason::RegistryDenied);
    assert!(error.to_string().contains(&thief.host()), "{error}");
    assert!(thief.requests().is_empty());
}

#[tokio::test]
async fn credentials_of_another_host_are_not_shown() {
    let (registry, _) = with_subject(Settings { auth: Auth::Basic("alice", SECRET), ..Settings::default() }).await;
    let credentials = Credentials::Password { username: "alice".into(), password: SECRET.to_owned().into() };
    let elsewhere = HostCredentials { host: "r.example.com".into(), credentials };
    let target = target_with(&registry.host(), &options(), Arc::new(elsewhere));
    assert_eq!(reason(target.resolve(&by_tag("v1"), &Limits::DEFAULT).await), Reason::RegistryDenied);
    assert_nothing_leaked(&registry);
}

#[tokio::test]
async fn errors_carry_no_secret_even_if_the_registry_repeats_it() {
    for auth in [Auth::Basic("alice", SECRET), Auth::Token("alice", SECRET)] {
        let (registry, _) = with_subject(Settings { auth, ..Settings::default() }).await;
        let target = signed_in(&registry);
        target.resolve(&by_tag("v1"), &Limits::DEFAULT).await.expect("signed in");
        registry.fault(Fault::on("GET", "/manifests/").echo(403));
        let error = target.resolve(&by_tag("v1"), &Limits::DEFAULT).await.expect_err("refused");
        let shown = registry.authorizations().pop().expect("shown");
        let secret = shown.split(' ').next_back().expect("a value");
        let text = format!("{error} {error:?}");
        assert!(!text.contains(SECRET) && !text.contains(secret), "{text}");
        assert!(text.contains("you sent"), "the registry's words are kept: {text}");
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
    let error = target(&registry).open(&blob).await.err().expect("nobody there");
    assert_eq!(error.reason(), Reason::RegistryUnavailable);
    assert!(!format!("{error} {error:?}").contains(SECRET), "{error:?}");
}

// --- addresses --------------------------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_cluster_reaches_no_loopback_address_by_any_name() {
    let (registry, _) = with_subject(Settings::default()).await;
    let addresses = AddressPolicy::Cluster { private: PrivateAddresses::Allowed };
    let guarded = HttpOptions { addresses, ..options() };
    let port = registry.host().rsplit_once(':').expect("a port").1.to_owned();
    for host in ["127.0.0.1", "localhost", "127.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]"] {
        let target = target_with(&format!("{host}:{port}"), &guarded, Arc::new(Anonymous));
        let error = target.resolve(&by_tag("v1"), &Limits::DEFAULT).await.expect_err(host);
        assert_eq!(error.reason(), Reason::AddressNotAllowed, "{host}: {error}");
    }
    assert!(registry.requests().is_empty());
}
