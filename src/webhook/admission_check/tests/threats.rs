//! Threats 2, 42 and 46 of docs/threat-model.md: a cached admission admits nothing else. Registries
//! speak HTTP here, and count requests.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{PolicyObject, ask, review_credentials};
use crate::{
    api::bundle_policy::PolicyInputs,
    clock::{Clock, SystemClock},
    core::{
        digest::Digest,
        media_type,
        oci::Descriptor,
        reason::Reason,
        reference::ImageRepository,
        report::{AdmissionReport, ReportOutcome},
    },
    http::{HttpClient, HttpOptions, HttpProxy},
    oci::{
        credentials::{AnonymousCredentials, CredentialStore},
        remote::{RegistryOptions, RegistryTarget},
    },
    service::{
        registries::{
            OpenedRepository, RepositoryOpenError, RepositoryRequester, TenantRepositoryOpener,
            credentials_digest, named_credentials,
        },
        renewable_lookup::CredentialRenewal,
        sign,
    },
    signing::{KeySigner, Password, generate_default_key},
    webhook::{
        WebhookMetrics,
        admission_check::{AdmissionChecker, Arc, Duration, ImageCheckRequest, Instant},
    },
};

#[path = "../../../../tests/it/support/registry/mod.rs"]
pub(super) mod registry;
#[path = "../../../../tests/tools/threats.rs"]
mod table;

use registry::{Auth, Registry, Settings};
use table::{ADMITTED, threat};

const TEAM: &str = "team/app";
const SIGNED: &str = r#"{"schemaVersion":2,"manifests":[]}"#;
const UNSIGNED: &str = r#"{"schemaVersion":2,"manifests":[] }"#;

/// Opens repositories over plain HTTP, with the credentials of the request.
pub(super) struct Http(HttpClient);

impl Http {
    pub(super) fn new() -> Self {
        crate::install_crypto_provider();
        Self(
            HttpClient::new(&HttpOptions {
                proxy: HttpProxy::Direct,
                ..HttpOptions::default()
            })
            .expect("a client"),
        )
    }

    pub(super) fn target(
        &self,
        repository: &ImageRepository,
        credentials: Arc<dyn CredentialStore>,
    ) -> RegistryTarget {
        let options = RegistryOptions {
            plain_http: true,
            ..RegistryOptions::default()
        };
        RegistryTarget::new(repository.clone(), &self.0, credentials, options).expect("a target")
    }
}

#[async_trait]
impl TenantRepositoryOpener for Http {
    async fn open_repository(
        &self,
        repository: &ImageRepository,
        requester: &RepositoryRequester<'_>,
    ) -> Result<OpenedRepository, RepositoryOpenError> {
        let credentials = named_credentials(requester.configs);
        let lookup = credentials.credentials_for_repository(repository).await;
        Ok(OpenedRepository {
            source: Arc::new(self.target(repository, Arc::new(credentials))),
            credentials: credentials_digest(&lookup),
            renewal: CredentialRenewal::default(),
        })
    }
}

/// A registry with a signed image under a tag and an unsigned one, and the checker.
pub(super) struct Scene {
    checker: AdmissionChecker,
    pub(super) registry: Registry,
    pub(super) signed: Digest,
    key: String,
}

impl Scene {
    async fn new() -> Self {
        Self::opened_by(Arc::new(Http::new())).await
    }

    pub(super) async fn opened_by(opener: Arc<dyn TenantRepositoryOpener>) -> Self {
        let registry = Registry::start().await;
        let signed = registry.put_manifest(TEAM, Some("v1"), media_type::INDEX, SIGNED);
        registry.put_manifest(TEAM, None, media_type::INDEX, UNSIGNED);
        let (password, clock) = (Password::new(""), SystemClock);
        let key = generate_default_key(&password).expect("a key");
        let holder =
            KeySigner::from_pem(key.private_pem.as_bytes(), Some(&password)).expect("a signer");
        let repository: ImageRepository = format!("{}/{TEAM}", registry.host())
            .parse()
            .expect("a repository");
        let http = Http::new();
        let target = http.target(&repository, Arc::new(AnonymousCredentials));
        sign::sign_subject(
            &target,
            &Descriptor::of_bytes(media_type::INDEX, SIGNED.as_bytes()),
            "",
            &holder,
            &clock,
        )
        .await
        .expect("signed");
        let metrics = WebhookMetrics::new(&mut prometheus_client::registry::Registry::default());
        let checker = AdmissionChecker::new(
            opener,
            Arc::new(clock),
            Duration::from_mins(1),
            metrics,
            "packgate-system",
        );
        Self {
            checker,
            registry,
            signed,
            key: key.public_pem,
        }
    }

    pub(super) fn policy(&self, more: &Value) -> PolicyObject {
        let key = json!([{"name": "team", "key": {"pem": self.key}}]);
        let mut spec = json!({
            "match": {"references": [format!("{}/**", self.registry.host())]},
            "authorities": key,
        });
        for (field, value) in more.as_object().expect("fields") {
            spec[field] = value.clone();
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

    /// The reason of one check, and the number of its requests.
    pub(super) async fn judge(
        &self,
        ask: ImageCheckRequest,
        policy: PolicyObject,
    ) -> (String, usize) {
        let before = self.registry.requests().len();
        let snapshot = PolicyInputs {
            policies: vec![policy],
            ..PolicyInputs::default()
        }
        .compile_snapshot("packgate-system", SystemClock.now());
        let report = self
            .checker
            .check_image(&ask, &snapshot, Instant::now())
            .await
            .report;
        (reason(&report), self.registry.requests().len() - before)
    }

    pub(super) fn reference(&self, rest: &str) -> String {
        format!("{}/{TEAM}{rest}", self.registry.host())
    }
}

fn reason(report: &AdmissionReport) -> String {
    match report.outcome() {
        ReportOutcome::Admitted => ADMITTED.to_owned(),
        ReportOutcome::Ungoverned => Reason::Ungoverned.to_string(),
        _ => report
            .denials()
            .first()
            .expect("a denial")
            .reason
            .to_string(),
    }
}

#[track_caller]
fn expect(attempts: &[(&str, (String, usize), &str)]) -> (Vec<String>, Vec<usize>) {
    for (what, (reason, asked), expected) in attempts {
        println!("{what}: {reason}, {asked} requests");
        assert_eq!(reason, expected, "{what}");
    }
    attempts
        .iter()
        .map(|(_, outcome, _)| outcome.clone())
        .unzip()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_that_moved_is_judged_afresh() {
    let scene = Scene::new().await;
    let lax = || scene.policy(&json!({"requireDigest": false}));
    let tagged = || ask(&scene.reference(":v1"));
    let first = scene.judge(tagged(), lax()).await;
    let again = scene.judge(tagged(), lax()).await;
    scene
        .registry
        .put_manifest(TEAM, Some("v1"), media_type::INDEX, UNSIGNED);
    let moved = scene.judge(tagged(), lax()).await;
    let (reasons, requests) = expect(&[
        ("a tag", first, ADMITTED),
        (
            "remembered for its digest, and the tag is asked for again",
            again,
            ADMITTED,
        ),
        ("the tag has moved", moved, Reason::NoSignatures.as_str()),
    ]);
    threat(2).reasons(reasons).requests(requests);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_verified_with_one_namespaces_credentials_opens_nothing_for_another() {
    let scene = Scene::new().await;
    scene
        .registry
        .set(|settings: &mut Settings| settings.auth = Auth::Basic("alice", "hunter2"));
    let config = |user: &str| {
        json!({"auths": {scene.registry.host(): {"username": user, "password": "hunter2"}}})
            .to_string()
    };
    let with = |namespace: &str, user: Option<&str>| ImageCheckRequest {
        namespace: namespace.into(),
        credentials: review_credentials(user.map(config)),
        ..ask(&scene.reference(&format!("@{}", scene.signed)))
    };
    let shown = || scene.registry.authorizations().len();
    let mut all = Vec::new();
    let mut seen = Vec::new();
    for (what, namespace, user, expected) in [
        ("its own credential", "team-a", Some("alice"), ADMITTED),
        ("remembered for it", "team-a", Some("alice"), ADMITTED),
        (
            "another namespace without one",
            "team-b",
            None,
            Reason::RegistryDenied.as_str(),
        ),
        (
            "another namespace with its own",
            "team-b",
            Some("bob"),
            Reason::RegistryDenied.as_str(),
        ),
    ] {
        let before = shown();
        all.push((
            what,
            scene
                .judge(with(namespace, user), scene.policy(&json!({})))
                .await,
            expected,
        ));
        let headers = scene.registry.authorizations().split_off(before);
        if user != Some("alice") {
            assert!(
                !headers
                    .iter()
                    .any(|header| header == "Basic YWxpY2U6aHVudGVyMg=="),
                "alice's password for {namespace}"
            );
        }
        seen.push(headers);
    }
    let (reasons, requests) = expect(&all);
    let of = |index: usize| seen[index].clone();
    threat(42)
        .reasons(reasons)
        .requests(requests)
        .authorizations(&[
            ("A", of(0)),
            ("A, remembered", of(1)),
            ("B", of(2)),
            ("B with its own", of(3)),
        ]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_read_as_a_runtime_reads_it_or_not_at_all() {
    let scene = Scene::new().await;
    let host = scene.registry.host();
    let policy = || scene.policy(&json!({"match": {"references": [format!("{host}/team/*")]}}));
    let unreadable = Reason::InvalidSpec.as_str();
    let digest = scene.signed;
    let mut attempts = Vec::new();
    for (what, reference, expected) in [
        (
            "the name itself",
            format!("{host}/{TEAM}@{digest}"),
            ADMITTED,
        ),
        (
            "deeper than the star",
            format!("{host}/team/app/nested@{digest}"),
            "Ungoverned",
        ),
        (
            "upper case",
            format!("{host}/Team/app@{digest}"),
            unreadable,
        ),
        (
            "a letter that looks like another",
            format!("{host}/team/\u{430}pp@{digest}"),
            unreadable,
        ),
        (
            "10,000 characters",
            format!("{host}/{}app@{digest}", "a/".repeat(5_000)),
            unreadable,
        ),
        (
            "sha512",
            format!("{host}/{TEAM}@sha512:{}", "0".repeat(128)),
            unreadable,
        ),
        (
            "a short digest",
            format!("{host}/{TEAM}@sha256:abc"),
            unreadable,
        ),
        (
            "an upper-case digest",
            format!(
                "{host}/{TEAM}@sha256:{}",
                digest.hex_digits().to_uppercase()
            ),
            unreadable,
        ),
        (
            "a port that is none",
            format!("127.0.0.1:99999/{TEAM}@{digest}"),
            unreadable,
        ),
        (
            "a scheme",
            format!("http://{host}/{TEAM}@{digest}"),
            unreadable,
        ),
        ("blanks", format!(" {host}/{TEAM}@{digest}"), unreadable),
    ] {
        attempts.push((what, scene.judge(ask(&reference), policy()).await, expected));
    }
    let (reasons, requests) = expect(&attempts);
    threat(44).reasons(reasons).requests(requests);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_was_tightened_ends_what_was_admitted_before() {
    let scene = Scene::new().await;
    let pinned = || ask(&scene.reference(&format!("@{}", scene.signed)));
    let other = generate_default_key(&Password::new(""))
        .expect("a key")
        .public_pem;
    let first = scene.judge(pinned(), scene.policy(&json!({}))).await;
    let again = scene.judge(pinned(), scene.policy(&json!({}))).await;
    let removed = scene
        .judge(
            pinned(),
            scene.policy(&json!({"authorities": [{"name": "team", "key": {"pem": other}}]})),
        )
        .await;
    let revoked = scene
        .judge(
            pinned(),
            scene.policy(&json!({"revocations": [{"digest": scene.signed, "reason": "leak"}]})),
        )
        .await;
    let back = scene.judge(pinned(), scene.policy(&json!({}))).await;
    let (reasons, requests) = expect(&[
        ("a signed image", first, ADMITTED),
        ("remembered", again, ADMITTED),
        (
            "its key is no longer trusted",
            removed,
            Reason::NoMatchingAuthority.as_str(),
        ),
        ("it is revoked", revoked, Reason::Revoked.as_str()),
        ("the old policy again", back, ADMITTED),
    ]);
    threat(46).reasons(reasons).requests(requests);
}
