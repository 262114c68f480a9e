//! Verdicts at admission: what is cached, for how long, and the result of every failure. Signatures
//! are real, registries are in memory.

mod chains;
mod renewal;
mod threats;

use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use futures::FutureExt;
use jiff::ToSpan;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::bundle_policy::{PolicyInputs, PolicyObject},
    cluster_reader::PullCredentials,
    core::{
        limits::InputLimits,
        media_type,
        oci::Descriptor,
        pull_secret_names::PullSecretNames,
        reference::ImageRepository,
        report::{AdmissionReport, ReportOutcome},
    },
    oci::{
        ContentReader, ContentSource, ContentTarget, MemoryTarget, OciError, PushContent,
        ResolvedManifest, credentials::CredentialStore,
    },
    service::{
        registries::{
            NamedDockerConfig, RepositoryOpenError, credentials_digest, named_credentials,
        },
        renewable_lookup::CredentialRenewal,
        sign,
    },
    signing::{KeySigner, Password, generate_default_key},
    webhook::pull_credentials::ReviewCredentials,
};

/// The credentials of a review whose object names a Secret with this docker configuration.
fn review_credentials(docker_config: Option<String>) -> ReviewCredentials {
    docker_config.map_or_else(ReviewCredentials::default, |text| {
        let config = NamedDockerConfig::parse("Secret team-a/pull", text.as_bytes());
        ReviewCredentials::known(
            PullSecretNames::default(),
            PullCredentials {
                configs: vec![config.expect("valid")],
                unusable: Vec::new(),
            },
        )
    })
}

const REPOSITORY: &str = "r.example.com/team-a/siem";

struct TestClock(Mutex<Timestamp>);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().expect("no panic")
    }
}

/// A registry in memory that counts requests, and can hang or refuse.
#[derive(Default)]
struct TestRegistry {
    content: MemoryTarget,
    resolved: AtomicUsize,
    silent: AtomicBool,
    refuses: AtomicBool,
}

/// A repository in the registry. Hosts called "slow" never respond.
struct Place(Arc<TestRegistry>, bool);

#[async_trait]
impl ContentSource for Place {
    fn location(&self) -> String {
        REPOSITORY.into()
    }

    async fn resolve_manifest(
        &self,
        selector: &crate::core::reference::TagOrDigest,
        limits: &InputLimits,
    ) -> Result<ResolvedManifest, OciError> {
        self.0.resolved.fetch_add(1, Ordering::SeqCst);
        if self.1 || self.0.silent.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.0.refuses.load(Ordering::SeqCst) {
            return Err(OciError::RateLimited {
                retry_after: None,
                location: REPOSITORY.into(),
            });
        }
        tokio::task::yield_now().await;
        self.0.content.resolve_manifest(selector, limits).await
    }

    async fn open_content(&self, descriptor: &Descriptor) -> Result<ContentReader, OciError> {
        self.0.content.open_content(descriptor).await
    }

    async fn list_referrers(
        &self,
        subject: &Descriptor,
        limits: &InputLimits,
    ) -> Result<Vec<Descriptor>, OciError> {
        self.0.content.list_referrers(subject, limits).await
    }
}

struct One(Arc<TestRegistry>);

#[async_trait]
impl TenantRepositoryOpener for One {
    async fn open_repository(
        &self,
        repository: &ImageRepository,
        requester: &RepositoryRequester<'_>,
    ) -> Result<OpenedRepository, RepositoryOpenError> {
        let lookup = named_credentials(requester.configs)
            .credentials_for_repository(repository)
            .await;
        Ok(OpenedRepository {
            source: Arc::new(Place(
                Arc::clone(&self.0),
                repository.host().starts_with("slow"),
            )),
            credentials: credentials_digest(&lookup),
            renewal: CredentialRenewal::default(),
        })
    }
}

/// A checker, its registry with a signed and an unsigned bundle, and the signer's key.
struct Scene {
    checker: AdmissionChecker,
    clock: Arc<TestClock>,
    registry: Arc<TestRegistry>,
    signed: Digest,
    unsigned: Digest,
    key: String,
}

impl Scene {
    async fn new() -> Self {
        Self::with_deadline(Duration::from_secs(30)).await
    }

    async fn with_deadline(deadline: Duration) -> Self {
        let clock = Arc::new(TestClock(Mutex::new(
            "2026-11-21T12:00:00Z".parse().expect("a time"),
        )));
        let registry = Arc::new(TestRegistry::default());
        let password = Password::new("");
        let key = generate_default_key(&password).expect("a key");
        let holder =
            KeySigner::from_pem(key.private_pem.as_bytes(), Some(&password)).expect("a signer");
        let signed = store(&registry.content, br#"{"schemaVersion":2,"manifests":[]}"#).await;
        sign::sign_subject(&registry.content, &signed, REPOSITORY, &holder, &*clock)
            .await
            .expect("signed");
        registry
            .content
            .tag_manifest(&signed, &"v1".parse().expect("a tag"))
            .await
            .expect("tagged");
        let unsigned = store(&registry.content, br#"{"schemaVersion":2,"manifests":[] }"#).await;
        let metrics = WebhookMetrics::new(&mut Registry::default());
        let checker = AdmissionChecker::new(
            Arc::new(One(Arc::clone(&registry))),
            Arc::<TestClock>::clone(&clock),
            deadline,
            metrics,
            "packgate-system",
        );
        Self {
            checker,
            clock,
            registry,
            signed: signed.digest,
            unsigned: unsigned.digest,
            key: key.public_pem,
        }
    }

    fn policy(&self, more: &Value) -> PolicyObject {
        let mut spec = json!({
            "match": {"references": ["r.example.com/team-a/**"]},
            "authorities": [{"name": "platform", "key": {"pem": self.key}}],
        });
        for (key, value) in more.as_object().expect("fields") {
            spec[key] = value.clone();
        }
        let metadata = json!({"name": "p", "uid": "u", "generation": 1});
        let object = json!({
            "apiVersion": "packgate.dev/v1alpha1",
            "kind": "ClusterBundlePolicy",
            "metadata": metadata,
            "spec": spec,
        });
        PolicyObject::from_json(object).expect("a policy")
    }

    async fn ask(&self, reference: &str, policies: Vec<PolicyObject>) -> AdmissionReport {
        let snapshot = PolicyInputs {
            policies,
            ..PolicyInputs::default()
        }
        .compile_snapshot("packgate-system", self.clock.now());
        self.checker
            .check_image(&ask(reference), &snapshot, Instant::now())
            .await
            .report
    }

    fn asked(&self) -> usize {
        self.registry.resolved.load(Ordering::SeqCst)
    }

    fn later(&self, by: jiff::Span) {
        let mut now = self.clock.0.lock().expect("no panic");
        *now = now.checked_add(by).expect("a time");
    }
}

async fn store(target: &MemoryTarget, content: &'static [u8]) -> Descriptor {
    let root = Descriptor::of_bytes(media_type::INDEX, content);
    target
        .push_content(
            &root,
            PushContent::Bytes(&bytes::Bytes::from_static(content)),
        )
        .await
        .expect("pushed");
    root
}

fn ask(reference: &str) -> ImageCheckRequest {
    ImageCheckRequest {
        field: "spec.volumes[0].image.reference".into(),
        reference: reference.into(),
        used_as: ReferenceUse::ImageVolume,
        namespace: "team-a".into(),
        credentials: ReviewCredentials::default(),
    }
}

fn reasons(report: &AdmissionReport) -> Vec<Reason> {
    report
        .denials()
        .iter()
        .map(|denial| denial.reason)
        .collect()
}

#[tokio::test]
async fn a_success_is_remembered_and_a_denial_is_not() {
    let scene = Scene::new().await;
    for (digest, outcome, asked) in [
        (scene.signed, ReportOutcome::Admitted, 1),
        (scene.signed, ReportOutcome::Admitted, 1),
        (scene.unsigned, ReportOutcome::Denied, 2),
        (scene.unsigned, ReportOutcome::Denied, 3),
    ] {
        let report = scene
            .ask(
                &format!("{REPOSITORY}@{digest}"),
                vec![scene.policy(&json!({}))],
            )
            .await;
        assert_eq!(
            (report.outcome(), scene.asked()),
            (outcome, asked),
            "{report:?}"
        );
        assert_eq!(report.field(), Some("spec.volumes[0].image.reference"));
        assert_eq!(
            report.reproduce_command(),
            format!(
                "packgate verify {REPOSITORY}@{digest} --use ImageVolume --namespace team-a \
                    --cluster"
            )
        );
    }
}

#[tokio::test]
async fn tags_are_asked_for_where_a_policy_lists_them_and_the_verdict_is_remembered_for_it_alone() {
    let scene = Scene::new().await;
    let holder = generate_default_key(&Password::new("")).expect("a key");
    let signer = KeySigner::from_pem(holder.private_pem.as_bytes(), Some(&Password::new("")))
        .expect("a signer");
    let subject =
        Descriptor::of_bytes(media_type::INDEX, br#"{"schemaVersion":2,"manifests":[] }"#);
    crate::service::cosign_tag_signing::sign_with_cosign_tag(
        &scene.registry.content,
        &subject,
        REPOSITORY,
        &signer,
    )
    .await
    .expect("signed");
    let listing = |formats: Value| {
        scene.policy(&json!({
            "authorities": [{"name": "a", "key": {"pem": holder.public_pem}}],
            "signatureFormats": formats,
        }))
    };
    let reference = format!("{REPOSITORY}@{}", subject.digest);
    for (formats, outcome, asked) in [
        (json!(["Bundle"]), ReportOutcome::Denied, 1),
        (json!(["Bundle", "Legacy"]), ReportOutcome::Admitted, 4),
        (json!(["Bundle", "Legacy"]), ReportOutcome::Admitted, 4),
        (json!(["Bundle"]), ReportOutcome::Denied, 5),
        (json!(["LegacySetOnly"]), ReportOutcome::Denied, 8),
    ] {
        let report = scene.ask(&reference, vec![listing(formats)]).await;
        assert_eq!(
            (report.outcome(), scene.asked()),
            (outcome, asked),
            "{report:?}"
        );
    }
}

#[tokio::test]
async fn what_was_admitted_under_one_policy_is_judged_anew_under_another() {
    let scene = Scene::new().await;
    let reference = format!("{REPOSITORY}@{}", scene.signed);
    assert_eq!(
        scene
            .ask(&reference, vec![scene.policy(&json!({}))])
            .await
            .outcome(),
        ReportOutcome::Admitted
    );
    let revoked =
        scene.policy(&json!({"revocations": [{"digest": scene.signed, "reason": "leak"}]}));
    assert_eq!(
        reasons(&scene.ask(&reference, vec![revoked]).await),
        [Reason::Revoked]
    );
    let other = generate_default_key(&Password::new(""))
        .expect("a key")
        .public_pem;
    let removed =
        scene.policy(&json!({"authorities": [{"name": "platform", "key": {"pem": other}}]}));
    assert_eq!(
        reasons(&scene.ask(&reference, vec![removed]).await),
        [Reason::NoMatchingAuthority]
    );
    let more = scene.policy(&json!({
        "slsa": {"minimumLevel": 1, "builders": [{"id": "b", "authority": "platform", "level": 1}]},
    }));
    assert_eq!(
        reasons(&scene.ask(&reference, vec![more]).await),
        [Reason::NoProvenance]
    );
}

/// Policies that name a trust root, and its content in the cluster.
struct Rooted<'a> {
    scene: &'a Scene,
    snapshot: PolicyInputs,
}

impl<'a> Rooted<'a> {
    /// A policy that either a key or an identity satisfies.
    fn new(scene: &'a Scene) -> Self {
        let keyless = json!({
            "trustRootRef": {"name": "corp"},
            "issuer": "https://i.example.com",
            "subject": {"exact": "a@example.com"},
        });
        let authorities = json!([
            {"name": "platform", "key": {"pem": scene.key}},
            {"name": "ci", "keyless": keyless},
        ]);
        let root = json!({
            "apiVersion": "packgate.dev/v1alpha1",
            "kind": "TrustRoot",
            "metadata": {"name": "corp"},
            "spec": {"publicGood": {}},
        });
        let policies = vec![scene.policy(&json!({"authorities": authorities}))];
        let trust_roots = vec![serde_json::from_value(root).expect("a trust root")];
        Self {
            scene,
            snapshot: PolicyInputs {
                policies,
                trust_roots,
                ..PolicyInputs::default()
            },
        }
    }

    /// The content that the controller stored, or none.
    fn hold(&mut self, content: Option<(&str, &str, &str)>) {
        let root = &self.snapshot.trust_roots[0];
        let data = content.map(|(text, refreshed, expires)| {
            let state =
                json!({"origin": root.origin_digest(None), "refreshed": refreshed, "expires": expires});
            [
                ("trusted_root.json".to_owned(), text.to_owned()),
                ("state.json".to_owned(), state.to_string()),
            ]
            .into()
        });
        let name = ("packgate-system".to_owned(), root.config_map_name());
        self.snapshot.config_maps = [(name, data)].into();
    }

    async fn ask(&self) -> AdmissionReport {
        let now = self.scene.clock.now();
        let snapshot = self.snapshot.compile_snapshot("packgate-system", now);
        self.scene
            .checker
            .check_image(
                &ask(&format!("{REPOSITORY}@{}", self.scene.signed)),
                &snapshot,
                Instant::now(),
            )
            .await
            .report
    }
}

const ROOT: &str = sigstore_trust_root::SIGSTORE_PRODUCTION_TRUSTED_ROOT;

#[tokio::test]
async fn another_trust_root_ends_what_is_remembered_under_it() {
    let scene = Scene::new().await;
    let other = format!("{ROOT}\n");
    let (today, expires) = ("2026-11-21T11:00:00Z", "2026-11-28T00:00:00Z");
    let mut rooted = Rooted::new(&scene);
    for (text, refreshed, asked) in [
        (ROOT, today, 1),
        (ROOT, today, 1),
        (ROOT, "2026-11-21T11:59:00Z", 1), // fetched again, and the same
        (&other, today, 2),
        (&other, today, 2),
    ] {
        rooted.hold(Some((text, refreshed, expires)));
        assert_eq!(
            (rooted.ask().await.outcome(), scene.asked()),
            (ReportOutcome::Admitted, asked),
            "{refreshed}"
        );
    }
}

#[tokio::test]
async fn a_policy_ends_with_the_grace_of_its_trust_root_and_others_never_wait_for_one() {
    let scene = Scene::new().await;
    let mut rooted = Rooted::new(&scene);
    let keyed = scene.policy(&json!({}));
    let reference = format!("{REPOSITORY}@{}", scene.signed);
    for (content, reason) in [
        (None, Some(Reason::TrustRootUnavailable)),
        (
            Some((ROOT, "2026-11-21T11:00:00Z", "2026-11-28T00:00:00Z")),
            None,
        ),
        (
            Some((ROOT, "2026-11-10T11:00:00Z", "2026-11-14T12:00:01Z")),
            None,
        ), // expired, within the grace period of a week
        (
            Some((ROOT, "2026-11-10T11:00:00Z", "2026-11-14T12:00:00Z")),
            Some(Reason::TrustRootExpired),
        ),
        (
            Some(("{}", "2026-11-21T11:00:00Z", "2026-11-28T00:00:00Z")),
            Some(Reason::InvalidSpec),
        ),
    ] {
        rooted.hold(content);
        let report = rooted.ask().await;
        assert_eq!(
            reasons(&report),
            reason.into_iter().collect::<Vec<_>>(),
            "{report:?}"
        );
        assert_eq!(report.is_admitted(), reason.is_none());
        assert_eq!(
            scene.ask(&reference, vec![keyed.clone()]).await.outcome(),
            ReportOutcome::Admitted,
            "keys need no trust root"
        );
    }
}

#[tokio::test]
async fn time_alone_ends_a_trust_root_that_nobody_renews() {
    let scene = Scene::new().await;
    let mut rooted = Rooted::new(&scene);
    rooted.hold(Some((ROOT, "2026-11-14T11:00:00Z", "2026-11-14T12:05:00Z")));
    assert_eq!(rooted.ask().await.outcome(), ReportOutcome::Admitted);
    let ends = rooted
        .snapshot
        .compile_snapshot("packgate-system", scene.clock.now())
        .valid_until();
    assert_eq!(ends, Some("2026-11-21T12:05:00Z".parse().expect("a time")));
    scene.later(5.minutes());
    assert_eq!(
        reasons(&rooted.ask().await),
        [Reason::TrustRootExpired],
        "although it is remembered"
    );
}

#[tokio::test]
async fn time_ends_what_is_remembered() {
    let scene = Scene::new().await;
    let exempts = json!({
        "exemptions": [
            {"digest": scene.unsigned, "reason": "INC-42", "expires": "2026-11-21T12:05:00Z"},
        ],
    });
    let reference = format!("{REPOSITORY}@{}", scene.unsigned);
    assert_eq!(
        scene
            .ask(&reference, vec![scene.policy(&exempts)])
            .await
            .outcome(),
        ReportOutcome::Exempt
    );
    scene.later(4.minutes());
    assert_eq!(
        scene
            .ask(&reference, vec![scene.policy(&exempts)])
            .await
            .outcome(),
        ReportOutcome::Exempt
    );
    assert_eq!(scene.asked(), 1, "remembered until then");
    scene.later(61.seconds());
    assert_eq!(
        reasons(&scene.ask(&reference, vec![scene.policy(&exempts)]).await),
        [Reason::NoSignatures]
    );
    let revoked = json!({
        "revocations": [
            {"digest": scene.signed, "reason": "leak", "since": "2026-11-21T12:07:00Z"},
        ],
    });
    let reference = format!("{REPOSITORY}@{}", scene.signed);
    assert_eq!(
        scene
            .ask(&reference, vec![scene.policy(&revoked)])
            .await
            .outcome(),
        ReportOutcome::Admitted
    );
    scene.later(2.minutes());
    assert_eq!(
        reasons(&scene.ask(&reference, vec![scene.policy(&revoked)]).await),
        [Reason::Revoked]
    );
}

#[tokio::test]
async fn a_tag_is_refused_with_the_digest_to_write() {
    let scene = Scene::new().await;
    let report = scene
        .ask(&format!("{REPOSITORY}:v1"), vec![scene.policy(&json!({}))])
        .await;
    assert_eq!(reasons(&report), [Reason::DigestRequired]);
    assert!(
        report.denials()[0]
            .message
            .contains(&format!("{REPOSITORY}@{}", scene.signed)),
        "{report:?}"
    );
    assert_eq!(
        report.reproduce_command(),
        format!("packgate verify {REPOSITORY}:v1 --use ImageVolume --namespace team-a --cluster")
    );
    let lax = json!({"requireDigest": false});
    for asked in [2, 3] {
        let report = scene
            .ask(&format!("{REPOSITORY}:v1"), vec![scene.policy(&lax)])
            .await;
        assert_eq!(
            (report.outcome(), scene.asked()),
            (ReportOutcome::Admitted, asked),
            "a tag is resolved each time"
        );
        assert_eq!(report.unsafe_settings().len(), 1, "{report:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_by_every_policy_of_its_use() {
    let scene = Scene::new().await;
    for reference in [
        "",
        "r.example.com/UPPER",
        "https://r.example.com/a",
        "other.example.com/a@sha256:abc",
    ] {
        assert_eq!(
            reasons(&scene.ask(reference, vec![scene.policy(&json!({}))]).await),
            [Reason::InvalidSpec],
            "{reference}"
        );
        let others = scene.policy(&json!({"match": {"references": ["**"], "uses": ["Container"]}}));
        assert_eq!(
            scene.ask(reference, vec![others]).await.outcome(),
            ReportOutcome::Ungoverned,
            "{reference}"
        );
    }
    assert_eq!(scene.asked(), 0);
}

#[tokio::test]
async fn a_policy_that_cannot_be_used_refuses_what_it_governs() {
    let scene = Scene::new().await;
    let missing = scene.policy(
        &json!({"authorities": [{"name": "platform", "key": {"configMapRef": {"name": "later"}}}]}),
    );
    let report = scene
        .ask(
            &format!("{REPOSITORY}@{}", scene.signed),
            vec![scene.policy(&json!({})), missing.clone()],
        )
        .await;
    assert_eq!(reasons(&report), [Reason::InvalidSpec]);
    let elsewhere = scene
        .ask(
            &format!("other.example.com/x@{}", scene.signed),
            vec![missing],
        )
        .await;
    assert_eq!(
        elsewhere.outcome(),
        ReportOutcome::Ungoverned,
        "and nothing else"
    );
}

#[tokio::test]
async fn nobody_is_asked_about_what_no_policy_governs() {
    let scene = Scene::new().await;
    let report = scene
        .ask(
            &format!("other.example.com/x@{}", scene.signed),
            vec![scene.policy(&json!({}))],
        )
        .await;
    assert_eq!(
        (report.outcome(), report.is_admitted(), scene.asked()),
        (ReportOutcome::Ungoverned, false, 0)
    );
}

#[tokio::test]
async fn a_registry_that_fails_is_a_denial_by_everybody() {
    let scene = Scene::new().await;
    scene.registry.refuses.store(true, Ordering::SeqCst);
    let reference = format!("{REPOSITORY}@{}", scene.signed);
    let report = scene
        .ask(
            &reference,
            vec![
                scene.policy(&json!({})),
                scene.policy(&json!({"mode": "Warn"})),
            ],
        )
        .await;
    assert_eq!(
        (reasons(&report), report.is_admitted()),
        (vec![Reason::RateLimited, Reason::RateLimited], false)
    );
    let report = scene
        .ask(&reference, vec![scene.policy(&json!({"mode": "Warn"}))])
        .await;
    assert_eq!(
        (report.outcome(), report.is_admitted()),
        (ReportOutcome::Denied, true),
        "only the mode lets it pass"
    );
    scene.registry.refuses.store(false, Ordering::SeqCst);
    assert_eq!(
        scene
            .ask(&reference, vec![scene.policy(&json!({}))])
            .await
            .outcome(),
        ReportOutcome::Admitted,
        "a failure is not remembered"
    );
}

#[tokio::test]
async fn a_silent_registry_is_a_denial_in_time() {
    let scene = Scene::with_deadline(Duration::from_millis(50)).await;
    scene.registry.silent.store(true, Ordering::SeqCst);
    let report = scene
        .ask(
            &format!("{REPOSITORY}@{}", scene.signed),
            vec![scene.policy(&json!({}))],
        )
        .await;
    assert_eq!(reasons(&report), [Reason::DeadlineExceeded]);
    assert!(
        report.denials()[0].message.contains("r.example.com"),
        "{report:?}"
    );
}

#[tokio::test]
async fn many_who_ask_the_same_at_once_cost_one_question() {
    let scene = Scene::new().await;
    let reference = format!("{REPOSITORY}@{}", scene.signed);
    let asks: Vec<_> = (0..50)
        .map(|_| scene.ask(&reference, vec![scene.policy(&json!({}))]))
        .collect();
    let reports = futures::future::join_all(asks).await;
    assert!(
        reports
            .iter()
            .all(|report| report.outcome() == ReportOutcome::Admitted)
    );
    assert_eq!(scene.asked(), 1);
}

#[tokio::test]
async fn what_one_credential_may_read_is_not_remembered_for_another() {
    let scene = Scene::new().await;
    let snapshot = PolicyInputs {
        policies: vec![scene.policy(&json!({}))],
        ..PolicyInputs::default()
    }
    .compile_snapshot("packgate-system", scene.clock.now());
    let (alice, bob) = (
        r#"{"r.example.com":{"auth":"YTpi"}}"#,
        r#"{"r.example.com":{"auth":"Yjpi"}}"#,
    );
    let elsewhere = r#"{"other.example.com":{"auth":"YTpi"}}"#;
    for (auths, asked) in [
        (None, 1),
        (Some(alice), 2),
        (Some(bob), 3),
        (Some(alice), 3),
        (Some(elsewhere), 3),
        (None, 3),
    ] {
        let asking = ImageCheckRequest {
            credentials: review_credentials(auths.map(|auths| format!(r#"{{"auths":{auths}}}"#))),
            ..ask(&format!("{REPOSITORY}@{}", scene.signed))
        };
        let report = scene
            .checker
            .check_image(&asking, &snapshot, Instant::now())
            .await
            .report;
        assert_eq!(
            (report.outcome(), scene.asked()),
            (ReportOutcome::Admitted, asked),
            "{auths:?}"
        );
    }
}

/// Many concurrent checks, by policies that govern everything.
struct Flood<'a> {
    scene: &'a Scene,
    snapshot: PolicySnapshot,
}

type Asking<'a> = std::pin::Pin<Box<dyn Future<Output = AdmissionReport> + 'a>>;

impl<'a> Flood<'a> {
    fn new(scene: &'a Scene) -> Self {
        let policy = scene.policy(&json!({"match": {"references": ["**"]}}));
        let snapshot = PolicyInputs {
            policies: vec![policy],
            ..PolicyInputs::default()
        }
        .compile_snapshot("packgate-system", scene.clock.now());
        Self { scene, snapshot }
    }

    /// The future has started: it has a slot, or waits for one.
    fn ask(&'a self, namespace: &str, reference: &str, begun: Instant) -> Asking<'a> {
        let ask = ImageCheckRequest {
            namespace: namespace.into(),
            ..ask(reference)
        };
        let mut asking: Asking<'a> = Box::pin(async move {
            self.scene
                .checker
                .check_image(&ask, &self.snapshot, begun)
                .await
                .report
        });
        // An immediate result would be lost here.
        if let Some(report) = asking.as_mut().now_or_never() {
            Box::pin(std::future::ready(report))
        } else {
            asking
        }
    }

    /// This many different images of a host that never responds.
    fn slow(
        &'a self,
        namespace: &str,
        host: impl Fn(usize) -> String,
        count: usize,
    ) -> Vec<Asking<'a>> {
        let reference = |n: usize| {
            format!(
                "{}/x@{}",
                host(n),
                Digest::of_bytes(format!("{namespace}{n}").as_bytes())
            )
        };
        (0..count)
            .map(|n| self.ask(namespace, &reference(n), Instant::now()))
            .collect()
    }

    fn good(&self) -> String {
        format!("{REPOSITORY}@{}", self.scene.signed)
    }

    fn waiting(&self) -> usize {
        self.scene.checker.slots.waiting_count()
    }
}

#[tokio::test]
async fn a_slow_registry_uses_up_its_own_slots_only() {
    let scene = Scene::new().await;
    let flood = Flood::new(&scene);
    let mut slow = flood.slow("team-a", |_| "slow.example.com".into(), 256);
    assert_eq!(
        flood.waiting(),
        256 - CHECK_SLOTS.namespace_at_host,
        "of the same namespace"
    );
    for namespace in ["team-b", "team-c", "team-d"] {
        slow.extend(flood.slow(namespace, |_| "slow.example.com".into(), 100));
    }
    assert_eq!(
        flood.waiting(),
        256 + 300 - CHECK_SLOTS.host,
        "of all namespaces"
    );
    for namespace in ["team-a", "team-e"] {
        assert_eq!(
            flood
                .ask(namespace, &flood.good(), Instant::now())
                .await
                .outcome(),
            ReportOutcome::Admitted,
            "{namespace}"
        );
    }
    drop(slow);
    assert_eq!(flood.waiting(), 0);
}

#[tokio::test]
async fn a_namespace_that_floods_waits_behind_itself() {
    let scene = Scene::new().await;
    let flood = Flood::new(&scene);
    let _slow = flood.slow("team-a", |n| format!("slow-{n}.example.com"), 300);
    assert_eq!(
        flood.waiting(),
        300 - CHECK_SLOTS.namespace,
        "however many registries it has"
    );
    let mut behind = flood.ask("team-a", &flood.good(), Instant::now());
    assert!(
        behind.as_mut().now_or_never().is_none(),
        "its own question waits"
    );
    let other = flood.ask("team-b", &flood.good(), Instant::now()).await;
    assert_eq!(
        other.outcome(),
        ReportOutcome::Admitted,
        "and nobody else's does, not even for the same image"
    );
}

#[tokio::test]
async fn too_many_at_once_are_refused() {
    let scene = Scene::new().await;
    let flood = Flood::new(&scene);
    let most = CHECK_SLOTS.namespace_at_host + CHECK_SLOTS.waiting_of_namespace;
    let slow = flood.slow("team-a", |_| "slow.example.com".into(), most);
    assert_eq!(flood.waiting(), CHECK_SLOTS.waiting_of_namespace);
    let refused = flood.ask("team-a", &flood.good(), Instant::now());
    assert_eq!(
        flood.waiting(),
        CHECK_SLOTS.waiting_of_namespace,
        "its part of another registry is free"
    );
    assert_eq!(refused.await.outcome(), ReportOutcome::Admitted);
    let report = flood
        .slow("team-a", |_| "slow.example.com".into(), most + 1)
        .pop()
        .expect("one")
        .await;
    assert_eq!(reasons(&report), [Reason::Overloaded]);
    assert!(
        report.denials()[0].message.contains("of namespace team-a"),
        "{report:?}"
    );
    assert_eq!(
        flood
            .ask("team-b", &flood.good(), Instant::now())
            .await
            .outcome(),
        ReportOutcome::Admitted
    );
    drop(slow);
    assert_eq!(flood.waiting(), 0, "nobody waits any more");
}

#[tokio::test]
async fn what_waited_in_the_queue_too_long_says_so() {
    let scene = Scene::with_deadline(Duration::from_hours(1)).await;
    let flood = Flood::new(&scene);
    let _slow = flood.slow(
        "team-a",
        |_| "slow.example.com".into(),
        CHECK_SLOTS.namespace_at_host,
    );
    let reference = format!("slow.example.com/x@{}", scene.signed);
    let almost_an_hour_ago = Instant::now()
        .checked_sub(Duration::from_hours(1) - Duration::from_millis(50))
        .expect("a time");
    for (namespace, words) in [
        ("team-a", "waited in the queue"),
        ("team-b", "slow.example.com/x answers too slowly"),
    ] {
        let report = flood.ask(namespace, &reference, almost_an_hour_ago).await;
        assert_eq!(reasons(&report), [Reason::DeadlineExceeded]);
        assert!(report.denials()[0].message.contains(words), "{report:?}");
    }
}

#[tokio::test]
async fn what_was_signed_for_one_repository_is_refused_in_another() {
    let scene = Scene::new().await;
    let copied = format!("r.example.com/team-a/copied@{}", scene.signed);
    let bound =
        |mirrors: Value| vec![scene.policy(&json!({"bindRepository": true, "mirrors": mirrors}))];
    assert_eq!(
        scene
            .ask(&format!("{REPOSITORY}@{}", scene.signed), bound(json!([])))
            .await
            .outcome(),
        ReportOutcome::Admitted
    );
    assert_eq!(
        scene
            .ask(&copied, vec![scene.policy(&json!({}))])
            .await
            .outcome(),
        ReportOutcome::Admitted,
        "nobody asks for the name"
    );
    let report = scene.ask(&copied, bound(json!([]))).await;
    assert_eq!(
        reasons(&report),
        [Reason::RepositoryMismatch],
        "although it is remembered for its own"
    );
    assert!(
        report.denials()[0].message.contains(REPOSITORY),
        "{report:?}"
    );
    let mirrored = json!([{"from": REPOSITORY, "to": "r.example.com/team-a/copied"}]);
    assert_eq!(
        scene.ask(&copied, bound(mirrored)).await.outcome(),
        ReportOutcome::Admitted
    );
}
