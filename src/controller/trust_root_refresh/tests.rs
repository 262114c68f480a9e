//! What is stored of a fetched root, and what is reported about it. Fetching is tested in
//! `crate::trust`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::body::Body;
use http_body_util::BodyExt;
use jiff::{Span, ToSpan};
use kube::Client;
use sigstore_trust_root::SIGSTORE_PRODUCTION_TRUSTED_ROOT;

use super::{
    super::{testing, trust_root_refresher::TrustRootRefresher},
    stored_root::config_map_metadata,
    *,
};
use crate::{
    api::bundle_policy::{PolicyInputs, PolicyObject},
    clock::Clock,
    core::digest::Digest,
    service::trust_root::{FetchedTrustRoot, TrustSource, TufSigningMaterial},
    trust::testing::{TufRepository, TufServer},
};

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn root() -> TrustRoot {
    let metadata = json!({"name": "corp", "uid": "u", "generation": 1});
    let object = json!({
        "apiVersion": "packgate.dev/v1alpha1",
        "kind": "TrustRoot",
        "metadata": metadata,
        "spec": {"publicGood": {}},
    });
    serde_json::from_value(object).expect("a trust root")
}

fn fetched(text: &str) -> FetchedTrustRoot {
    let metadata = serde_json::from_value(json!({"timestamp.json": "{}"})).expect("metadata");
    FetchedTrustRoot {
        trusted_root: text.to_owned(),
        metadata,
        expires: at("2026-11-28T00:00:00Z"),
        refreshed: at("2026-11-21T00:00:00Z"),
    }
}

fn held() -> TrustRootConfigMapData {
    config_map_data(&root(), None, &fetched(SIGSTORE_PRODUCTION_TRUSTED_ROOT)).expect("JSON")
}

fn failure() -> JobFailure {
    JobFailure::new(Reason::TrustRootUnavailable, "no answer")
}

fn told(checked: &ReadinessResult) -> (Option<Reason>, &str) {
    (
        checked.failure.as_ref().map(|failure| failure.reason),
        checked
            .failure
            .as_ref()
            .map_or(&checked.message, |failure| &failure.message),
    )
}

#[test]
fn what_is_kept_is_read_again_and_only_of_the_same_repository() {
    let held = held();
    assert_eq!(
        read_stored_root(&root(), None, &held),
        Some(fetched(SIGSTORE_PRODUCTION_TRUSTED_ROOT))
    );
    assert_eq!(read_stored_root(&root(), Some("a first root"), &held), None);
    assert_eq!(
        read_stored_root(&root(), None, &TrustRootConfigMapData::new()),
        None
    );
    let object = config_map_metadata(&root());
    assert_eq!(object.name.as_deref(), Some("packgate-trustroot-corp"));
    let owners = object.owner_references.expect("an owner");
    assert_eq!(
        owners
            .iter()
            .map(|owner| (owner.kind.as_str(), owner.name.as_str(), owner.uid.as_str()))
            .collect::<Vec<_>>(),
        [("TrustRoot", "corp", "u")]
    );
}

#[test]
fn a_root_that_can_be_used_is_told_with_its_end() {
    let now = at("2026-11-21T12:00:00Z");
    let good = evaluate_stored_root(&root(), None, &held(), None, now);
    assert_eq!(told(&good), (None, "it is valid and ready for use"));
    assert_eq!(
        (&good.fields["source"], &good.fields["notAfter"]),
        (&json!("PublicGood"), &json!("2026-11-28T00:00:00Z"))
    );
    let digest = Digest::of_bytes(SIGSTORE_PRODUCTION_TRUSTED_ROOT.as_bytes());
    assert_eq!(good.fields["contentHash"], digest.to_string());
    let late = evaluate_stored_root(
        &root(),
        None,
        &held(),
        Some(failure()),
        at("2026-12-01T00:00:00Z"),
    );
    assert_eq!(
        told(&late),
        (
            None,
            "the last good root is used until 2026-12-05T00:00:00Z: no answer"
        )
    );
}

#[test]
fn a_root_that_cannot_be_used_says_why() {
    let now = at("2026-11-21T12:00:00Z");
    let over = evaluate_stored_root(
        &root(),
        None,
        &held(),
        Some(failure()),
        at("2026-12-05T00:00:00Z"),
    );
    assert_eq!(told(&over).0, Some(Reason::TrustRootExpired));
    assert_eq!(
        over.fields["notAfter"], "2026-11-28T00:00:00Z",
        "the metric goes on"
    );
    assert_eq!(
        told(&evaluate_stored_root(
            &root(),
            None,
            &TrustRootConfigMapData::new(),
            Some(failure()),
            now
        )),
        (Some(Reason::TrustRootUnavailable), "no answer")
    );
    assert_eq!(
        told(&evaluate_stored_root(
            &root(),
            None,
            &TrustRootConfigMapData::new(),
            None,
            now
        ))
        .0,
        Some(Reason::TrustRootUnavailable)
    );
    let broken = config_map_data(&root(), None, &fetched("{}")).expect("JSON");
    assert_eq!(
        told(&evaluate_stored_root(&root(), None, &broken, None, now)).0,
        Some(Reason::InvalidSpec)
    );
}

struct Nobody;

#[async_trait::async_trait]
impl TrustSource for Nobody {
    async fn refresh_trust_root(
        &self,
        repository: &TufRepositoryConfig,
        _: Option<&FetchedTrustRoot>,
        _: &mut TufRootChain,
        _: Timestamp,
    ) -> Result<FetchedTrustRoot, TrustError> {
        Err(TrustError::NothingKept {
            url: repository.url().to_owned(),
        })
    }

    async fn refresh_signing_material(
        &self,
        repository: &TufRepositoryConfig,
        _: Option<&FetchedTrustRoot>,
        _: &mut TufRootChain,
        _: Timestamp,
    ) -> Result<TufSigningMaterial, TrustError> {
        Err(TrustError::NothingKept {
            url: repository.url().to_owned(),
        })
    }

    async fn reverify_cached(
        &self,
        _: &TufRepositoryConfig,
        kept: &FetchedTrustRoot,
        _: &TufRootChain,
        _: Timestamp,
    ) -> Result<FetchedTrustRoot, TrustError> {
        Ok(kept.clone())
    }
}

#[test]
fn who_failed_is_left_alone_for_a_while_unless_the_object_changes() {
    let trust = TrustRootRefresher::new(Arc::new(Nobody));
    let now = at("2026-11-21T12:00:00Z");
    let later = |by: Span| now.checked_add(by).expect("a time");
    let hour = Duration::from_hours(1);
    assert!(trust.recent_failure(&root(), hour, now).is_none());
    trust.record_refresh(&root(), Some(&failure()), now);
    assert_eq!(
        trust.recent_failure(&root(), hour, later(4.minutes())),
        Some(failure())
    );
    assert!(
        trust
            .recent_failure(&root(), hour, later(5.minutes()))
            .is_none()
    );
    assert!(
        trust
            .recent_failure(&root(), Duration::from_secs(10), later(10.seconds()))
            .is_none()
    );
    let mut changed = root();
    changed.metadata.generation = Some(2);
    assert!(
        trust
            .recent_failure(&changed, hour, later(1.minutes()))
            .is_none()
    );
    trust.record_refresh(&root(), None, now);
    assert!(trust.recent_failure(&root(), hour, now).is_none());
}

/// `ConfigMap`s of an API server that is a function, and the events that it received.
#[derive(Clone, Default)]
struct ApiServer {
    maps: Arc<Mutex<BTreeMap<String, Value>>>,
    events: Arc<Mutex<Vec<Value>>>,
}

impl ApiServer {
    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let bytes = body.collect().await.expect("a body").to_bytes();
                let sent = serde_json::from_slice(&bytes).unwrap_or_default();
                let (status, answer) = server.answer(&head.method, head.uri.path(), sent);
                let answer = http::Response::builder()
                    .status(status)
                    .body(Body::from(answer.to_string()));
                Ok::<_, std::convert::Infallible>(answer.expect("an answer"))
            }
        });
        Client::new(service, "default")
    }

    fn answer(&self, method: &http::Method, path: &str, sent: Value) -> (u16, Value) {
        let mut maps = self.maps.lock().expect("no panic");
        match (
            method.as_str(),
            path.strip_prefix("/api/v1/namespaces/packgate-system/configmaps/"),
        ) {
            ("GET", Some(name)) => maps.get(name).map_or_else(
                || {
                    (
                        404,
                        json!({
                            "apiVersion": "v1",
                            "kind": "Status",
                            "status": "Failure",
                            "reason": "NotFound",
                            "message": "",
                            "code": 404,
                        }),
                    )
                },
                |map| (200, map.clone()),
            ),
            ("PATCH", Some(name)) => {
                maps.insert(name.to_owned(), sent.clone());
                (200, sent)
            }
            _ => {
                self.events.lock().expect("no panic").push(sent.clone());
                (201, sent)
            }
        }
    }

    fn put(&self, name: &str, key: &str, text: &str) {
        let map = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name},
            "data": {key: text},
        });
        self.maps
            .lock()
            .expect("no panic")
            .insert(name.to_owned(), map);
    }

    fn kept(&self) -> Option<Value> {
        self.maps
            .lock()
            .expect("no panic")
            .get("packgate-trustroot-corp")
            .cloned()
    }

    fn told(&self) -> Vec<String> {
        self.events
            .lock()
            .expect("no panic")
            .iter()
            .filter_map(|event| Some(event["reason"].as_str()?.to_owned()))
            .collect()
    }

    /// A newly started controller.
    fn context(&self, clock: &Arc<TestClock>) -> ReconcileContext {
        testing::context(self.client(), Arc::<TestClock>::clone(clock))
    }
}

struct TestClock(Mutex<Timestamp>);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().expect("no panic")
    }
}

/// A cluster with a `TrustRoot`, its repository, and the time.
struct Scene {
    api: ApiServer,
    clock: Arc<TestClock>,
    there: TufRepository,
    server: TufServer,
}

impl Scene {
    fn new() -> Self {
        let there = TufRepository::new(SIGSTORE_PRODUCTION_TRUSTED_ROOT, "2026-11-28T00:00:00Z");
        let server = TufServer::start(&there.files);
        let api = ApiServer::default();
        api.put(
            "first",
            "root.json",
            &String::from_utf8(there.root(1)).expect("text"),
        );
        Self {
            api,
            clock: Arc::new(TestClock(Mutex::new(at("2026-11-21T12:00:00Z")))),
            there,
            server,
        }
    }

    fn root(&self) -> TrustRoot {
        let tuf = json!({
            "url": self.server.url(),
            "root": {"configMapRef": {"name": "first"}},
            "interval": "24h",
            "maxStaleness": "48h",
        });
        let mut root = root();
        root.spec = serde_json::from_value(json!({"tuf": tuf})).expect("a specification");
        root
    }

    fn at(&self, now: &str) -> &Self {
        *self.clock.0.lock().expect("no panic") = at(now);
        self
    }

    async fn check(&self, context: &ReconcileContext) -> ReadinessResult {
        check_trust_root(&self.root(), context)
            .await
            .unwrap_or_else(|error| match error {
                ReconcileError::StatusFailure(failure) => {
                    ReadinessResult::with_failure(json!({}), failure)
                }
                ReconcileError::Api(error) => panic!("{error}"),
            })
    }

    /// The reason for which policies that refer to it would deny.
    fn refused(&self) -> Option<Reason> {
        let keyless = json!({
            "trustRootRef": {"name": "corp"},
            "issuer": "https://i.example.com",
            "subject": {"exact": "a@example.com"},
        });
        let policy = json!({
            "apiVersion": "packgate.dev/v1alpha1", "kind": "ClusterBundlePolicy",
            "metadata": {"name": "p"},
            "spec": {
                "match": {"references": ["**"]},
                "authorities": [{"name": "ci", "keyless": keyless}],
            },
        });
        let policies = vec![PolicyObject::from_json(policy).expect("a policy")];
        let mut gathered = PolicyInputs {
            policies,
            trust_roots: vec![self.root()],
            ..PolicyInputs::default()
        };
        let maps = self.api.maps.lock().expect("no panic").clone();
        let data = |name: &str| serde_json::from_value(maps.get(name)?["data"].clone()).ok();
        gathered.config_maps = gathered
            .needed_config_maps("packgate-system")
            .into_iter()
            .map(|name| (name.clone(), data(&name.1)))
            .collect();
        let snapshot = gathered.compile_snapshot("packgate-system", self.clock.now());
        snapshot.policies()[0]
            .fault_message()
            .map(|_| snapshot.policies()[0].fault_reason())
    }
}

#[tokio::test]
async fn a_root_is_fetched_kept_and_renewed_and_outlives_a_restart() {
    let mut scene = Scene::new();
    assert_eq!(scene.refused(), Some(Reason::TrustRootUnavailable));
    let context = scene.api.context(&scene.clock);
    let first = scene.check(&context).await;
    assert_eq!(
        (told(&first), scene.refused()),
        ((None, "it is valid and ready for use"), None)
    );
    assert_eq!(
        (first.fields["source"].clone(), first.again),
        (json!("Tuf"), MAX_RETRY_DELAY)
    );
    let kept = scene.api.kept().expect("kept");
    assert_eq!(kept["metadata"]["ownerReferences"][0]["kind"], "TrustRoot");
    let asked = scene.server.requests();
    scene.check(&context).await;
    assert_eq!(
        (scene.server.requests(), scene.api.kept()),
        (asked, Some(kept)),
        "not asked and not written before it is time"
    );
    let old = scene.there.files.lock().expect("no panic").clone();
    let newer = format!("{SIGSTORE_PRODUCTION_TRUSTED_ROOT}\n");
    scene.there.publish(&newer, "2026-12-28T00:00:00Z");
    let second = scene.at("2026-11-22T13:00:00Z").check(&context).await;
    assert_ne!(second.fields["contentHash"], first.fields["contentHash"]);
    // Another process, and a mirror with an older state.
    *scene.there.files.lock().expect("no panic") = old;
    let restarted = scene.api.context(&scene.clock);
    let third = scene.at("2026-11-24T00:00:00Z").check(&restarted).await;
    assert_eq!(
        (third.fields["contentHash"].clone(), third.failure.is_none()),
        (second.fields["contentHash"].clone(), true)
    );
    assert!(third.message.contains("rollback"), "{}", third.message);
    assert_eq!(
        scene.api.told(),
        ["Fetched", "Fetched", "TrustRootUnavailable"]
    );
}

#[tokio::test]
async fn a_root_that_is_not_renewed_ends_with_its_grace() {
    let scene = Scene::new();
    let context = scene.api.context(&scene.clock);
    assert!(scene.check(&context).await.failure.is_none());
    scene
        .server
        .behaviour
        .fails
        .store(true, std::sync::atomic::Ordering::SeqCst);
    for (now, reason) in [
        ("2026-11-23T00:00:00Z", None),
        ("2026-11-29T23:00:00Z", None),
        ("2026-11-30T00:00:00Z", Some(Reason::TrustRootExpired)),
    ] {
        let checked = scene.at(now).check(&context).await;
        assert_eq!(
            (told(&checked).0, scene.refused()),
            (reason, reason),
            "{now}"
        );
        assert_eq!(checked.fields["notAfter"], "2026-11-28T00:00:00Z", "{now}");
        assert!(
            reason.is_some() || checked.message.contains("500"),
            "{}",
            checked.message
        );
    }
    let asked = scene.server.requests();
    scene.at("2026-11-30T00:04:00Z").check(&context).await;
    assert_eq!(
        scene.server.requests(),
        asked,
        "it is left alone for a while"
    );
    scene
        .server
        .behaviour
        .fails
        .store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(
        told(&scene.at("2026-11-30T00:05:00Z").check(&context).await).0,
        Some(Reason::TrustRootExpired),
        "what it has is over"
    );
}

#[tokio::test]
async fn another_first_root_forgets_what_was_fetched_before() {
    let scene = Scene::new();
    let context = scene.api.context(&scene.clock);
    assert!(scene.check(&context).await.failure.is_none());
    let other = TufRepository::new(SIGSTORE_PRODUCTION_TRUSTED_ROOT, "2026-11-28T00:00:00Z");
    scene.api.put(
        "first",
        "root.json",
        &String::from_utf8(other.root(1)).expect("text"),
    );
    assert_eq!(
        scene.refused(),
        Some(Reason::TrustRootUnavailable),
        "at once"
    );
    assert_eq!(
        told(&scene.check(&context).await).0,
        Some(Reason::TrustRootUnavailable),
        "its metadata is of the old keys"
    );
    scene.api.put("first", "root.json", "{}");
    assert_eq!(
        told(&scene.check(&context).await).0,
        Some(Reason::InvalidSpec)
    );
    scene.api.maps.lock().expect("no panic").remove("first");
    assert_eq!(
        told(&scene.check(&context).await).0,
        Some(Reason::SourceNotFound)
    );
}

/// TUF 5.3.8: what a newer root revoked is not trusted again, even though the rest of that refresh
/// failed, also after a restart.
#[tokio::test]
async fn a_newer_root_is_kept_although_the_rest_of_its_refresh_fails() {
    let mut scene = Scene::new();
    assert!(
        scene
            .check(&scene.api.context(&scene.clock))
            .await
            .failure
            .is_none()
    );
    let old = scene.there.files.lock().expect("no panic").clone();
    scene.there.rotate();
    // The new root exists; everything else is signed by the keys that it revoked.
    let checked = scene
        .at("2026-11-22T13:00:00Z")
        .check(&scene.api.context(&scene.clock))
        .await;
    assert_eq!(
        (told(&checked).0, scene.refused()),
        (
            Some(Reason::TrustRootUnavailable),
            Some(Reason::TrustRootUnavailable)
        )
    );
    let kept = scene.api.kept().expect("kept");
    assert_eq!(
        kept["data"]
            .as_object()
            .expect("data")
            .keys()
            .collect::<Vec<_>>(),
        ["roots.json"]
    );
    // A mirror that hides the new root, and a newly started controller.
    let new = std::mem::replace(&mut *scene.there.files.lock().expect("no panic"), old);
    let checked = scene
        .at("2026-11-22T13:30:00Z")
        .check(&scene.api.context(&scene.clock))
        .await;
    assert_eq!(
        (told(&checked).0, scene.refused()),
        (
            Some(Reason::TrustRootUnavailable),
            Some(Reason::TrustRootUnavailable)
        )
    );
    *scene.there.files.lock().expect("no panic") = new;
    scene
        .there
        .publish(SIGSTORE_PRODUCTION_TRUSTED_ROOT, "2026-12-28T00:00:00Z");
    let checked = scene
        .at("2026-11-22T14:00:00Z")
        .check(&scene.api.context(&scene.clock))
        .await;
    assert_eq!((checked.failure.is_none(), scene.refused()), (true, None));
}

/// A root that changes only its own keys revokes nothing: the last good state stays in use, and the
/// root is stored with it.
#[tokio::test]
async fn the_last_good_state_stays_where_a_newer_root_revokes_nothing_of_it() {
    let mut scene = Scene::new();
    assert!(
        scene
            .check(&scene.api.context(&scene.clock))
            .await
            .failure
            .is_none()
    );
    scene.there.rotate_root();
    scene
        .there
        .files
        .lock()
        .expect("no panic")
        .remove("timestamp.json");
    let checked = scene
        .at("2026-11-22T13:00:00Z")
        .check(&scene.api.context(&scene.clock))
        .await;
    assert_eq!(
        (checked.failure.is_none(), scene.refused()),
        (true, None),
        "{}",
        checked.message
    );
    let kept = scene.api.kept().expect("kept");
    assert!(
        kept["data"]["roots.json"]
            .as_str()
            .is_some_and(|roots| roots.contains("root_history/2.root.json")),
        "{kept}"
    );
    assert_eq!(
        kept["data"]["trusted_root.json"],
        SIGSTORE_PRODUCTION_TRUSTED_ROOT
    );
}
