//! A registry whose manifest under a tag is not what its own `Docker-Content-Digest` says: every
//! subcommand with a tag refuses it, and accepts it if a retry succeeds.

use serde_json::json;

use crate::support::{
    cli::Workspace,
    registry::{Fault, Registry},
};

const PROVENANCE: &str = "slsaprovenance1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_contradicts_the_registry_is_refused_by_every_verb() {
    let registry = Registry::start().await;
    let workspace = Workspace::with_lock();
    let app = format!("{}/team/app:v1", registry.host());
    workspace
        .keys()
        .run(&format!(
            "pack lock.yaml --plain-http --to {app} --key packgate.key"
        ))
        .ok();
    let predicate = json!({
        "buildDefinition": {"buildType": "https://example.com/t", "externalParameters": {}},
        "runDetails": {"builder": {"id": "https://example.com/b"}},
    });
    workspace.write("predicate.json", predicate.to_string());
    let artifact =
        json!({"name": "image", "origin": format!("oci://{app}"), "target": "image.tar"});
    let manifest = json!({
        "apiVersion": "packgate.dev/v1alpha1",
        "kind": "LockManifest",
        "name": "test",
        "artifacts": [artifact],
    });
    workspace.write("manifest.yaml", manifest.to_string());
    let lines = [
        format!("verify {app} --key packgate.pub"),
        format!("unpack {app} --to got --key packgate.pub"),
        format!("inspect {app}"),
        format!("sign {app} --key packgate.key"),
        format!("attest {app} --key packgate.key --type {PROVENANCE} --predicate predicate.json"),
        format!("copy {app} oci:copied:v1"),
        format!("copy {app} {}/team/other:v1", registry.host()),
        String::from("lock manifest.yaml"),
    ];
    for line in &lines {
        registry.heal();
        let stored = || {
            registry
                .requests()
                .iter()
                .filter(|request| request.method == "PUT")
                .count()
        };
        let before = stored();
        // A blank becomes another character: the document may stay valid or not, and is refused
        // before it is parsed.
        registry.fault(Fault::on("GET", "/team/app/manifests/v1").flip(20));
        workspace
            .run(&format!("{line} --plain-http"))
            .refused(4, "DigestMismatch");
        assert_eq!(stored(), before, "{line}: nothing is written");
        assert!(
            !workspace.file("got").exists()
                && !workspace.file("copied").exists()
                && !workspace.file("test.lock.yaml").exists(),
            "{line}"
        );
    }
    for line in &lines {
        registry.heal();
        registry.fault(Fault::on("GET", "/team/app/manifests/v1").flip(20).times(1));
        workspace.run(&format!("{line} --plain-http")).ok();
    }
}
