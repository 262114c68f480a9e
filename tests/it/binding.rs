//! `bindRepository`, through the real binary and a registry: what was signed for one repository
//! does not count in another.

use serde_json::{Value, json};

use crate::support::{
    cli::{Run, Workspace},
    registry::{Registry, Settings},
};

const BUILDER: &str = "https://packgate.dev/builder/cli";

async fn registry() -> (Workspace, Registry) {
    let workspace = Workspace::with_lock();
    workspace.keys();
    (workspace, Registry::with(Settings::default()).await)
}

fn policy(workspace: &Workspace, more: &Value) {
    let mut spec = json!({
        "match": {"references": ["**"]}, "authorities": [
            {"name": "a", "key": {"pem": workspace.read("packgate.pub")}},
        ], "bindRepository": true,
    });
    more.as_object()
        .expect("fields")
        .iter()
        .for_each(|(field, value)| spec[field] = value.clone());
    let policy = json!({
        "apiVersion": "packgate.dev/v1alpha1",
        "kind": "ClusterBundlePolicy",
        "metadata": {"name": "p"},
        "spec": spec,
    });
    workspace.write("policy.yaml", policy.to_string());
}

fn verify(workspace: &Workspace, reference: &str) -> Run {
    workspace.run(&format!(
        "verify --plain-http {reference} --policy policy.yaml"
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_signed_for_one_repository_does_not_count_in_another() {
    let (workspace, registry) = registry().await;
    let host = registry.host();
    let packed = workspace
        .run(&format!(
            "pack lock.yaml --plain-http --to {host}/team-b/orc:v1 --key packgate.key"
        ))
        .ok()
        .to_owned();
    let copied = workspace
        .run(&format!("copy --plain-http {packed} {host}/team-a/siem:v1"))
        .ok()
        .to_owned();
    policy(&workspace, &json!({}));
    verify(&workspace, &packed).ok();
    assert!(
        verify(&workspace, &copied)
            .refused(1, "RepositoryMismatch")
            .stdout
            .contains("team-b/orc"),
        "the name that was signed is told"
    );
    policy(
        &workspace,
        &json!({
            "slsa": {
                "minimumLevel": 1,
                "builders": [{"id": BUILDER, "authority": "a", "level": 1}],
            },
        }),
    );
    verify(&workspace, &packed).ok();
    verify(&workspace, &copied).refused(1, "RepositoryMismatch");
    policy(
        &workspace,
        &json!({
            "mirrors": [
                {"from": format!("{host}/team-b/orc"), "to": format!("{host}/team-a/siem")},
            ],
        }),
    );
    verify(&workspace, &copied).ok();
    policy(
        &workspace,
        &json!({"mirrors": [{"from": format!("{host}/team-a"), "to": format!("{host}/team-b")}]}),
    );
    verify(&workspace, &copied).refused(1, "RepositoryMismatch");
    // An authority attests that it belongs to that repository, too.
    policy(&workspace, &json!({}));
    workspace
        .run(&format!("sign --plain-http {copied} --key packgate.key"))
        .ok();
    verify(&workspace, &copied).ok();
    policy(&workspace, &json!({"bindRepository": false}));
    verify(&workspace, &packed).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_without_a_name_needs_provenance_that_has_one() {
    let (workspace, registry) = registry().await;
    workspace.run("pack lock.yaml --to oci:out:v1").ok();
    // As cosign signs: nothing on this machine has a repository.
    workspace.run("sign oci:out:v1 --key packgate.key").ok();
    let copied = workspace
        .run(&format!(
            "copy --plain-http oci:out:v1 {}/team-a/siem:v1",
            registry.host()
        ))
        .ok()
        .to_owned();
    policy(&workspace, &json!({}));
    verify(&workspace, &copied).refused(1, "RepositoryMismatch");
    workspace
        .run("verify oci:out:v1 --policy policy.yaml")
        .refused(1, "DigestRequired");
    policy(&workspace, &json!({"requireDigest": false}));
    workspace
        .run("verify oci:out:v1 --policy policy.yaml")
        .refused(1, "RepositoryMismatch");
    let provenance = json!({
        "buildDefinition": {"buildType": "https://example.com/t", "externalParameters": {}},
        "runDetails": {"builder": {"id": BUILDER}},
    });
    workspace.write("predicate.json", provenance.to_string());
    workspace
        .run(&format!(
            "attest --plain-http {copied} --predicate predicate.json --type \
        slsaprovenance1 --key packgate.key"
        ))
        .ok();
    verify(&workspace, &copied).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn cosigns_older_form_has_a_name() {
    let (workspace, registry) = registry().await;
    let host = registry.host();
    let packed = workspace
        .run(&format!(
            "pack lock.yaml --plain-http --to {host}/team-b/orc:v1"
        ))
        .ok()
        .to_owned();
    workspace
        .run(&format!(
            "sign --plain-http {packed} --key packgate.key --signature-format Legacy"
        ))
        .ok();
    let copied = workspace
        .run(&format!("copy --plain-http {packed} {host}/team-a/siem:v1"))
        .ok()
        .to_owned();
    policy(
        &workspace,
        &json!({"signatureFormats": ["Bundle", "Legacy"]}),
    );
    verify(&workspace, &packed).ok();
    verify(&workspace, &copied).refused(1, "RepositoryMismatch");
}

#[test]
fn mirrors_that_cannot_be_names_are_refused() {
    let workspace = Workspace::with_lock();
    workspace.keys();
    for (from, to) in [
        ("team-b", "r.example.com"),
        ("r.example.com", "*"),
        ("", "r.example.com"),
        ("r.example.com", "https://m.example.com"),
    ] {
        policy(&workspace, &json!({"mirrors": [{"from": from, "to": to}]}));
        workspace
            .run("policy check policy.yaml")
            .refused(2, "InvalidSpec");
    }
}
