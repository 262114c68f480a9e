//! The two Jobs: pack pushes by digest, sign rebuilds, signs and tags. The services with a registry
//! on this machine; the real subcommands where this machine has an address that they may reach, and
//! everywhere for their refusals.

use std::{
    collections::BTreeMap,
    net::{IpAddr, UdpSocket},
    path::Path,
    process::{Child, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use packgate::{
    clock::SystemClock,
    core::{
        digest::Digest,
        job::{
            INPUTS_VERSION, JobDestination, JobInputs, JobLockSource,
            JobRegistry as RegistrySettings, JobReport, JobRunKey, JobSigning, JobSigningMode,
            JobStep, JobSuccess, JobTagPolicy, PackedBundleIdentity,
        },
        limits::InputLimits,
        lockfile::Lockfile,
        media_type,
        oci::Descriptor,
        pack::PackOptions,
        reason::{ClassifiedError, Reason},
        reference::PinnedReference,
    },
    fetch::{
        ContextArtifactOrigin, HttpOrigin, OriginDispatcher, RegistryOrigin, RepositoryOpener,
    },
    http::{AddressPolicy, HttpClient, HttpOptions, HttpProxy, PrivateAddresses},
    oci::{
        ContentSource, OciError, OciLayoutTarget,
        credentials::AnonymousCredentials,
        remote::{RegistryOptions, RegistryTarget},
    },
    service::{
        pack::{PackService, push_bundle},
        progress::SilentProgress,
        rebuild_and_sign::rebuild_and_sign,
        release_context::ReleaseContext,
    },
    signing::KeySigner,
};
use serde_json::json;

use crate::support::{
    cli::{BINARY, HELLO, Workspace},
    registry::{Fault, Registry, Settings},
};

const RULES: &str = "rules\n";
const KEY: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/data/keys/p256-pkcs8.pem"
);
const BUILDER: &str = "https://packgate.dev/builder/c-1/platform";

/// A lock with a file of the context artifact and a download, and its inputs. The server has all of
/// it.
pub(crate) fn freeze(server: &Registry) -> (Vec<u8>, JobInputs) {
    let artifact = |name: &str, kind: &str, origin: &str, content: &str| {
        json!({
            "name": name,
            "type": kind,
            "origin": origin,
            "target": format!("opt/{name}"),
            "checksum": Digest::of_bytes(content.as_bytes()),
            "size": content.len(),
        })
    };
    let download = format!("{}/files/rules.txt", server.origin());
    server.fault(Fault::on("GET", "/files/rules.txt").status(200).body(RULES));
    let document = json!({"apiVersion": "packgate.dev/v1alpha1", "kind": "Lockfile", "name": "siem",
    "artifacts": [
        artifact("hello", "file", "files/hello.sh", HELLO),
        artifact("rules", "http", &download, RULES),
    ]});
    let lock = Lockfile::parse(document.to_string().as_bytes(), &InputLimits::DEFAULT)
        .expect("a lock")
        .to_canonical();
    let bundle = PackedBundleIdentity {
        namespace: "team-a".into(),
        name: "siem".into(),
        uid: "u-1".into(),
        generation: 1,
    };
    let context = context(server);
    let inputs = JobInputs {
        v: INPUTS_VERSION,
        run: JobRunKey::new(&bundle.uid, bundle.generation, &lock.digest),
        bundle,
        cluster: "c-1".into(),
        started_on: "2026-11-21T10:00:00Z".parse().expect("a time"),
        source: JobLockSource {
            uri: format!("oci://{context}"),
            context: Some(context.to_string()),
            lock_path: Some("siem/lock.yaml".into()),
        },
        lock_digest: lock.digest,
        layers: Vec::new(),
        signed_origins: BTreeMap::new(),
        output: PackOptions::default(),
        destination: JobDestination {
            repository: format!("{}/team-a/siem", server.host()),
            tag: Some("v1".into()),
            tag_policy: JobTagPolicy::Immutable,
        },
        registries: vec![RegistrySettings {
            host: server.host(),
            plain_http: true,
            ca: None,
            token_services: Vec::new(),
            mirrors: Vec::new(),
        }],
        private_networks: vec!["0.0.0.0/0".into()],
        registry_networks: Vec::new(),
        fetch_ca: None,
        fetch: packgate::core::job::JobFetch::default(),
        signing: JobSigning {
            mode: JobSigningMode::Platform,
            builder_id: BUILDER.into(),
        },
        sbom: None,
        packer: None,
    };
    (lock.bytes, inputs)
}

/// Pushes a context artifact as `oras push` makes it.
fn context(server: &Registry) -> PinnedReference {
    let repository = "team-a/ctx";
    server.put_blob(repository, "{}");
    server.put_blob(repository, HELLO);
    let layer = Descriptor {
        annotations: [(
            "org.opencontainers.image.title".to_owned(),
            "siem/files/hello.sh".to_owned(),
        )]
        .into(),
        ..Descriptor::of_bytes(media_type::OCTET_STREAM, HELLO.as_bytes())
    };
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type::MANIFEST,
        "artifactType": media_type::CONTEXT,
        "config": Descriptor::empty(), "layers": [layer]});
    let digest = server.put_manifest(repository, None, media_type::MANIFEST, manifest.to_string());
    let repository: packgate::core::reference::ImageRepository =
        format!("{}/{repository}", server.host())
            .parse()
            .expect("a repository");
    repository.pin_to_digest(digest)
}

/// Repositories on this machine.
struct Local(HttpClient);

impl Local {
    fn new() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Self(
            HttpClient::new(&HttpOptions {
                proxy: HttpProxy::Direct,
                ..HttpOptions::default()
            })
            .expect("a client"),
        )
    }

    fn target(&self, repository: &packgate::core::reference::ImageRepository) -> RegistryTarget {
        let options = RegistryOptions {
            plain_http: true,
            ..RegistryOptions::default()
        };
        RegistryTarget::new(
            repository.clone(),
            &self.0,
            Arc::new(AnonymousCredentials),
            options,
        )
        .expect("a target")
    }
}

impl RepositoryOpener for Local {
    fn open_repository(
        &self,
        repository: &packgate::core::reference::ImageRepository,
    ) -> Result<Arc<dyn ContentSource>, OciError> {
        Ok(Arc::new(self.target(repository)))
    }
}

/// The same as `job pack`.
async fn pack(lock: &[u8], inputs: &JobInputs) -> Digest {
    let local = Local::new();
    let artifact = inputs.context_reference().expect("valid").expect("named");
    let context = Arc::new(local.target(artifact.repository()));
    let file = ContextArtifactOrigin::load_artifact(
        context,
        &artifact.digest(),
        "siem/lock.yaml",
        &InputLimits::DEFAULT,
    )
    .await
    .expect("a context");
    let http = Arc::new(HttpOrigin::new(local.0.clone()));
    let target = local.target(&inputs.destination_repository().expect("valid"));
    let origins = OriginDispatcher {
        file: Arc::new(file),
        http,
        registry: Arc::new(RegistryOrigin::new(Arc::new(local))),
    };
    let folder = tempfile::tempdir().expect("a folder");
    let layout = Arc::new(
        OciLayoutTarget::open_or_create(&folder.path().join("layout").to_string_lossy())
            .expect("a layout"),
    );
    let service = PackService::new(
        Arc::<OciLayoutTarget>::clone(&layout),
        Arc::new(origins),
        Arc::new(SilentProgress),
    );
    let packed = service
        .pack_lock(
            &inputs.parse_lock(lock).expect("the lock"),
            inputs.output.clone(),
            false,
        )
        .await
        .expect("packed");
    push_bundle(
        &*layout,
        &target,
        &packed.root,
        &InputLimits::DEFAULT,
        &SilentProgress,
    )
    .await
    .expect("pushed");
    packed.root.digest
}

/// The same as `job sign`.
async fn sign(digest: &Digest, inputs: &JobInputs) -> Result<JobSuccess, Reason> {
    let signer = KeySigner::from_pem(&std::fs::read(KEY).expect("a key"), None).expect("a key");
    let target = Local::new().target(&inputs.destination_repository().expect("valid"));
    let context = ReleaseContext {
        target: &target,
        clock: &SystemClock,
        limits: &InputLimits::DEFAULT,
        progress: Arc::new(SilentProgress),
    };
    rebuild_and_sign(&context, digest, inputs, Some(&signer))
        .await
        .map_err(|e| e.reason())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_job_packs_the_other_signs_and_tags() {
    for referrers_api in [true, false] {
        let server = Registry::with(Settings {
            referrers_api,
            ..Settings::default()
        })
        .await;
        let (lock, inputs) = freeze(&server);
        let digest = pack(&lock, &inputs).await;
        assert!(
            server.tag("team-a/siem", "v1").is_none(),
            "the pack Job tags nothing"
        );
        let done = sign(&digest, &inputs).await.expect("endorsed");
        assert_eq!(
            (
                done.digest,
                done.artifacts,
                done.layers,
                done.evidence.len()
            ),
            (digest, 2, 3, 2)
        );
        assert_eq!(server.tag("team-a/siem", "v1"), Some(digest.to_string()));
        let puts: Vec<String> = server
            .requests()
            .into_iter()
            .filter(|request| request.method == "PUT")
            .map(|request| request.path)
            .collect();
        assert!(
            puts.last()
                .expect("something was pushed")
                .ends_with("/manifests/v1"),
            "{puts:?}"
        );
        let again = sign(&digest, &inputs).await.expect("endorsed");
        assert_eq!(again, done, "a second run adds nothing");
        let workspace = Workspace::new();
        workspace.write("key.pem", std::fs::read(KEY).expect("a key"));
        workspace.write("key.pub", workspace.run("keys public key.pem").ok());
        let reference = format!("{}/team-a/siem:v1", server.host());
        workspace
            .run(&format!(
                "verify {reference} --plain-http --key key.pub --builder-id {BUILDER}"
            ))
            .ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_or_lost_byte_in_the_registry_is_never_signed() {
    let server = Registry::start().await;
    let (lock, inputs) = freeze(&server);
    let digest = pack(&lock, &inputs).await;
    let manifest: serde_json::Value = serde_json::from_slice(
        &server
            .manifest("team-a/siem", &digest.to_string())
            .expect("there"),
    )
    .expect("JSON");
    let layer = manifest["layers"][1]["digest"]
        .as_str()
        .expect("a digest")
        .to_owned();
    for (fault, reason) in [
        (Fault::on("GET", &layer).flip(600), Reason::DigestMismatch),
        (Fault::on("GET", &layer).status(404), Reason::SourceNotFound),
        (
            Fault::on("GET", "/manifests/v1").status(403),
            Reason::RegistryDenied,
        ),
        (
            Fault::on("GET", "/manifests/v1").status(401),
            Reason::RegistryDenied,
        ),
        (
            Fault::on("GET", "/referrers/").status(403),
            Reason::RegistryDenied,
        ),
    ] {
        server.heal();
        server.fault(fault);
        assert_eq!(sign(&digest, &inputs).await, Err(reason));
        assert!(server.tag("team-a/siem", "v1").is_none());
    }
    let added = server
        .requests()
        .iter()
        .filter(|request| request.method == "PUT" && request.path.contains("/manifests/"))
        .count();
    assert_eq!(added, 1, "the bundle's own manifest");
}

/// Writes `inputs.json` and `lock.json`.
pub(crate) fn snapshot(workspace: &Workspace, lock: &[u8], inputs: &JobInputs) {
    workspace.write("in/lock.json", lock);
    workspace.write("in/inputs.json", serde_json::to_vec(inputs).expect("JSON"));
    std::fs::create_dir_all(workspace.file("work")).expect("a folder");
}

fn report(workspace: &Workspace) -> JobReport {
    JobReport::parse(&workspace.read("report")).expect("a report")
}

#[track_caller]
pub(crate) fn failed(workspace: &Workspace, line: &str, code: i32, reason: Reason) -> String {
    let run = workspace.run(line);
    run.refused(code, reason.as_str());
    let failure = report(workspace).result.expect_err("it failed");
    assert_eq!(
        (failure.reason, i32::from(failure.class().exit_code())),
        (reason, code)
    );
    assert!(
        run.stderr.contains(&workspace.read("report")),
        "the log has the report, too: {run:?}"
    );
    failure.message
}

pub(crate) const PACK: &str = "job pack --inputs in --work work --report report";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_verbs_never_reach_the_machine_itself() {
    let server = Registry::start().await;
    let (lock, inputs) = freeze(&server);
    let workspace = Workspace::new();
    snapshot(&workspace, &lock, &inputs);
    let asked = server.requests().len();
    failed(&workspace, PACK, 1, Reason::AddressNotAllowed);
    let sign = format!(
        "job sign --inputs in --digest {} --key {KEY} --report report",
        Digest::of_bytes(b"x")
    );
    failed(&workspace, &sign, 1, Reason::AddressNotAllowed);
    assert_eq!(server.requests().len(), asked, "nothing was sent");
    // Only the download is left: it is refused by its own rule.
    let text = String::from_utf8(lock)
        .expect("JSON")
        .replace(r#""type":"file""#, r#""type":"http""#)
        .replace("files/hello.sh", &server.origin());
    let lock = Lockfile::parse(text.as_bytes(), &InputLimits::DEFAULT)
        .expect("a lock")
        .to_canonical();
    let source = JobLockSource {
        context: None,
        ..inputs.source.clone()
    };
    snapshot(
        &workspace,
        &lock.bytes,
        &JobInputs {
            lock_digest: lock.digest,
            source,
            ..inputs
        },
    );
    failed(&workspace, PACK, 1, Reason::AddressNotAllowed);
    assert_eq!(server.requests().len(), asked, "nothing was sent");
}

/// An address of this machine that Jobs may reach, if there is one. Nothing is sent to find it out.
pub(crate) fn own_address(test: &str) -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0")
        .and_then(|socket| socket.connect("192.0.2.1:9").map(|()| socket));
    let address = socket
        .and_then(|socket| socket.local_addr())
        .ok()
        .map(|address| address.ip());
    let policy = AddressPolicy::Cluster {
        private: PrivateAddresses::Allowed,
    };
    let address = address.filter(|address| policy.check_address(*address).is_ok());
    if address.is_none() {
        println!("{test}: not run, this machine has no address but loopback");
    }
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_verbs_pack_sign_and_report() {
    let Some(address) = own_address("the_real_verbs_pack_sign_and_report") else {
        return;
    };
    let server = Registry::listening(address, Settings::default()).await;
    let (lock, inputs) = freeze(&server);
    let workspace = Workspace::new();
    snapshot(&workspace, &lock, &inputs);
    workspace.keys();
    let digest = workspace.run(PACK).ok().to_owned();
    let packed = report(&workspace);
    let success = packed.result.clone().expect("packed");
    assert_eq!(
        (
            packed.step,
            success.digest.to_string(),
            success.artifacts,
            success.layers
        ),
        (JobStep::Pack, digest.clone(), 2, 3)
    );
    assert!(
        server.tag("team-a/siem", "v1").is_none(),
        "the pack Job tags nothing"
    );
    assert_eq!(
        std::fs::read_dir(workspace.file("work"))
            .expect("a folder")
            .count(),
        0,
        "nothing stays behind"
    );

    let sign = format!("job sign --inputs in --digest {digest} --report report");
    failed(&workspace, &sign, 2, Reason::NoSigner);
    workspace.write("wrong", "not it");
    failed(
        &workspace,
        &format!("{sign} --key packgate.key"),
        2,
        Reason::NoSigner,
    );
    failed(
        &workspace,
        &format!("{sign} --key packgate.key --key-password-file wrong"),
        2,
        Reason::NoSigner,
    );
    failed(
        &workspace,
        &format!("{sign} --key nothing"),
        2,
        Reason::NoSigner,
    );
    assert_eq!(
        (
            server.tag("team-a/siem", "v1"),
            server.count("PUT", "/manifests/")
        ),
        (None, 1)
    );
    workspace.write("password", "test");
    let run = workspace.run(&format!(
        "{sign} --key packgate.key --key-password-file password -o json"
    ));
    assert_eq!(
        (run.json()["kind"].as_str(), run.json()["step"].as_str()),
        (Some("JobReport"), Some("sign"))
    );
    let signed = report(&workspace).result.expect("signed");
    assert_eq!(
        (signed.digest, signed.size, signed.evidence.len()),
        (success.digest, success.size, 2)
    );
    assert_eq!(server.tag("team-a/siem", "v1"), Some(digest));
    workspace
        .run(&format!(
            "verify {}/team-a/siem:v1 --plain-http --key packgate.pub --builder-id {BUILDER}",
            server.host()
        ))
        .ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_of_a_job_come_from_its_files_alone() {
    let Some(address) = own_address("credentials_of_a_job_come_from_its_files_alone") else {
        return;
    };
    let auth = crate::support::registry::Auth::Basic("alice", "hunter2");
    let server = Registry::listening(
        address,
        Settings {
            auth,
            ..Settings::default()
        },
    )
    .await;
    let (lock, inputs) = freeze(&server);
    let workspace = Workspace::new();
    snapshot(&workspace, &lock, &inputs);
    let config =
        json!({"auths": {server.host(): {"username": "alice", "password": "hunter2"}}}).to_string();
    // A user's logins have no effect on a Job.
    workspace.write(".docker/config.json", &config);
    workspace.write("config.json", &config);
    failed(&workspace, PACK, 3, Reason::RegistryDenied);
    failed(
        &workspace,
        &format!("{PACK} --context-config config.json"),
        3,
        Reason::RegistryDenied,
    );
    let message = failed(
        &workspace,
        &format!("{PACK} --registry-config config.json"),
        3,
        Reason::RegistryDenied,
    );
    assert!(message.contains("team-a/ctx"), "{message}");
    workspace
        .run(&format!(
            "{PACK} --context-config config.json --registry-config config.json"
        ))
        .ok();
    workspace.write(
        "config.json",
        json!({"credHelpers": {server.host(): "evil"}}).to_string(),
    );
    let message = failed(
        &workspace,
        &format!("{PACK} --context-config config.json"),
        2,
        Reason::InvalidSpec,
    );
    assert!(message.contains("not run here"), "{message}");
    workspace.write("config.json", " ".repeat((1 << 20) + 1));
    failed(
        &workspace,
        &format!("{PACK} --context-config config.json"),
        2,
        Reason::InvalidSpec,
    );
}

#[tokio::test]
async fn inputs_that_cannot_be_used_are_reported() {
    let server = Registry::start().await;
    let (lock, inputs) = freeze(&server);
    let workspace = Workspace::new();
    failed(&workspace, PACK, 3, Reason::SourceNotFound);
    snapshot(&workspace, &lock, &inputs);
    workspace.write("in/lock.json", [&lock[..], b"\n"].concat());
    failed(&workspace, PACK, 1, Reason::LockMismatch);
    snapshot(
        &workspace,
        &lock,
        &JobInputs {
            v: 2,
            ..inputs.clone()
        },
    );
    let message = failed(&workspace, PACK, 2, Reason::InvalidSpec);
    assert!(message.contains("one release"), "{message}");
    workspace.write("in/inputs.json", " ".repeat(1_000_001));
    failed(&workspace, PACK, 2, Reason::InvalidSpec);
    for (inputs, part) in [
        (
            JobInputs {
                private_networks: vec!["10.0.0.0".into()],
                source: JobLockSource {
                    context: None,
                    ..inputs.source.clone()
                },
                ..inputs.clone()
            },
            "ociRef",
        ),
        (
            JobInputs {
                registries: vec![RegistrySettings {
                    host: "http://x".into(),
                    plain_http: true,
                    ca: None,
                    token_services: Vec::new(),
                    mirrors: Vec::new(),
                }],
                ..inputs.clone()
            },
            "HOST",
        ),
        (
            JobInputs {
                destination: JobDestination {
                    repository: "https://x".into(),
                    ..inputs.destination.clone()
                },
                ..inputs.clone()
            },
            "scheme",
        ),
    ] {
        snapshot(&workspace, &lock, &inputs);
        let reason = if part == "ociRef" {
            Reason::InvalidLock
        } else {
            Reason::InvalidSpec
        };
        let message = failed(&workspace, PACK, 2, reason);
        assert!(message.contains(part), "{message}");
    }
    snapshot(&workspace, &lock, &inputs);
    for option in [
        "--plain-http",
        "--ca-file ca.pem",
        "--token-service r.example.com=auth.example.org",
        "--registry-mirror r.example.com=https://mirror.example.com",
    ] {
        failed(
            &workspace,
            &format!("{PACK} {option}"),
            2,
            Reason::InvalidSpec,
        );
    }
}

#[test]
fn a_report_that_cannot_be_written_does_not_hide_why() {
    let workspace = Workspace::new();
    let run = workspace.run("job pack --inputs in --work work --report none/report");
    let run = run.refused(3, "SourceNotFound");
    assert!(
        run.stderr
            .contains("the report could not be written: none/report"),
        "{run:?}"
    );
}

/// Waits until the path exists. There is no other way to wait for another process's actions.
fn wait_for(child: &mut Child, started: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !started() {
        assert!(
            child.try_wait().expect("a child").is_none(),
            "it ended by itself"
        );
        assert!(Instant::now() < deadline, "it did not start");
        std::thread::yield_now();
    }
}

/// True if the process catches SIGTERM (signal 15). See proc(5), `SigCgt`.
fn catches_sigterm(status: &Path) -> bool {
    let status = std::fs::read_to_string(status).unwrap_or_default();
    let caught = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask & (1 << 14) != 0)
}

#[test]
fn a_job_that_is_told_to_stop_reports_and_ends() {
    let workspace = Workspace::new();
    std::fs::create_dir_all(workspace.file("in")).expect("a folder");
    // The FIFO never has a writer, so a reader blocks.
    workspace.tool("mkfifo", ["in/inputs.json"]).ok();
    let mut command = workspace.command(BINARY);
    let mut child = command
        .args(PACK.split(' '))
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the binary runs");
    let status = Path::new("/proc")
        .join(child.id().to_string())
        .join("status");
    wait_for(&mut child, || catches_sigterm(&status));
    workspace
        .tool("kill", ["-TERM", &child.id().to_string()])
        .ok();
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let failure = report(&workspace).result.expect_err("it was stopped");
    assert_eq!(failure.reason, Reason::DeadlineExceeded);
    assert!(
        failure.message.starts_with("stopped before it was done"),
        "{}",
        failure.message
    );
}
