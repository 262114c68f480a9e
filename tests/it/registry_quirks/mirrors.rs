//! Mirrors of a registry, on the command line: what they are asked for, and what with.

use super::{REPOSITORY, Scene};
use crate::support::registry::{Auth, Fault, Registry, Settings};

/// A registry with a signed bundle, and mirrors with copies of it below `hub/`.
struct MirroredScene {
    scene: Scene,
    mirrors: Vec<Registry>,
    reference: String,
}

impl MirroredScene {
    async fn start(number: usize) -> Self {
        let scene = Scene::start(Settings::default()).await;
        let reference = scene.pack_signed().ok().to_owned();
        let mut mirrors = Vec::new();
        for _ in 0..number {
            let mirror = Registry::start().await;
            let to = format!("{}/hub/{REPOSITORY}:v1", mirror.host());
            let hosts = format!("{},{}", mirror.host(), scene.registry.host());
            scene
                .workspace
                .run(&format!("copy {reference} {to} --plain-http={hosts}"))
                .ok();
            mirrors.push(mirror);
        }
        Self {
            scene,
            mirrors,
            reference,
        }
    }

    fn options(&self) -> String {
        let host = self.scene.registry.host();
        let mirrors = self.mirrors.iter();
        let options =
            mirrors.map(|mirror| format!(" --registry-mirror {host}={}/hub", mirror.origin()));
        options.collect::<Vec<_>>().concat()
    }

    /// The numbers of requests to the registry and to each mirror.
    fn counts(&self) -> Vec<usize> {
        std::iter::once(&self.scene.registry)
            .chain(&self.mirrors)
            .map(|registry| registry.requests().len())
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_comes_from_a_mirror_and_its_signatures_from_the_registry() {
    let MirroredScene {
        scene,
        mirrors,
        reference,
    } = &MirroredScene::start(1).await;
    let options = format!(
        " --registry-mirror {}={}/hub",
        scene.registry.host(),
        mirrors[0].origin()
    );
    for path in ["/manifests/sha256:", "/blobs/"] {
        scene
            .registry
            .fault(Fault::on("GET", path.to_owned()).status(500));
    }
    scene.verify(&format!("{reference}{options}")).ok();
    scene
        .run(&format!(
            "unpack {reference} --to got --key packgate.pub{options}"
        ))
        .ok();
    scene
        .run(&format!("copy {reference} oci:copied{options}"))
        .ok();
    assert!(scene.registry.count("GET", "/referrers/") > 0);
    assert_eq!(mirrors[0].count("GET", "/referrers/"), 0);
    // A tag is the registry's own.
    scene.verify(&format!("{}{options}", scene.tagged())).ok();
    assert!(scene.registry.count("GET", "/manifests/v1") > 0);
    assert_eq!(mirrors[0].count("GET", "/manifests/v1"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_does_not_have_it_is_passed_over() {
    for fault in [
        Fault::on("GET", "/hub/").status(404),
        Fault::on("GET", "/hub/").status(401),
        Fault::on("GET", "/hub/").status(403),
        Fault::on("GET", "/hub/").status(500),
        Fault::on("GET", "/hub/").flip(3),
        Fault::on("GET", "/hub/").cut(3),
        Fault::on("GET", "/hub/").body("<html>"),
    ] {
        let given = MirroredScene::start(2).await;
        given.mirrors[0].fault(fault.clone());
        let before = given.counts();
        let line = format!("{}{}", given.reference, given.options());
        given.scene.verify(&line).ok();
        let after = given.counts();
        for (place, (before, after)) in before.iter().zip(&after).enumerate() {
            assert!(after > before, "{place} was asked: {fault:?}");
        }
        given.mirrors[1].fault(fault.clone());
        given.scene.verify(&line).ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_hides_no_signature_and_counts_while_the_registry_is_away() {
    let given = MirroredScene::start(1).await;
    let (scene, mirror) = (&given.scene, &given.mirrors[0]);
    let line = format!("{}{}", given.reference, given.options());
    let empty = || Fault::on("GET", "/hub/team/hello/referrers/").body(super::EMPTY_INDEX);
    mirror.fault(empty());
    scene.verify(&line).ok();
    scene
        .registry
        .fault(Fault::on("GET", format!("/v2/{REPOSITORY}/")).status(503));
    // Both have none to show, and that is no answer.
    let run = scene.verify(&line);
    run.refused(3, "RegistryUnavailable");
    assert!(!run.stdout.contains("NoSignatures"), "{run:?}");
    mirror.heal();
    scene.verify(&line).ok();
    let tag = format!("{}{}", scene.tagged(), given.options());
    let run = scene.verify(&tag);
    run.refused(3, "RegistryUnavailable");
    let told = format!("{}{}", run.stdout, run.stderr);
    assert!(told.contains("write NAME@DIGEST"), "{run:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_host_gets_its_own_credentials_and_nothing_is_written_to_a_mirror() {
    let given = MirroredScene::start(1).await;
    let (scene, mirror) = (&given.scene, &given.mirrors[0]);
    scene
        .registry
        .set(|settings| settings.auth = Auth::Basic("alice", "registry"));
    mirror.set(|settings| settings.auth = Auth::Basic("bob", "mirror"));
    let auth =
        |user: &str, password: &str| serde_json::json!({"username": user, "password": password});
    let of_registry = auth("alice", "registry");
    for of_mirror in [Some(auth("bob", "mirror")), None] {
        let mut auths = serde_json::json!({ (scene.registry.host()): of_registry });
        if let Some(of_mirror) = &of_mirror {
            auths[mirror.host()] = of_mirror.clone();
        }
        let config = serde_json::json!({ "auths": auths });
        scene.workspace.write("auth.json", config.to_string());
        let shown = mirror.authorizations().len();
        let options = format!("{} --registry-config auth.json", given.options());
        scene.verify(&format!("{}{options}", given.reference)).ok();
        scene
            .sign(&format!("{}{options} --force", given.reference))
            .ok();
        let shown = &mirror.authorizations()[shown..];
        assert_eq!(!shown.is_empty(), of_mirror.is_some());
        // "bob:mirror"
        assert!(
            shown.iter().all(|value| value == "Basic Ym9iOm1pcnJvcg=="),
            "{shown:?}"
        );
    }
    let writes = mirror.requests();
    let signed = writes
        .iter()
        .filter(|sent| sent.method != "GET" && sent.method != "HEAD");
    // Only those of the copy that the scene began with.
    let unauthorized = signed.filter(|sent| sent.authorization.is_some()).count();
    assert_eq!(unauthorized, 0);
}
