//! Layouts and archives as other tools write them.

use serde_json::{Value, json};

use crate::support::cli::Workspace;

fn packed() -> Workspace {
    let workspace = Workspace::with_lock();
    workspace.keys().run("pack lock.yaml --to oci:out:v1").ok();
    workspace
}

fn edit_index(workspace: &Workspace, edit: impl FnOnce(&mut Vec<Value>)) {
    let mut index: Value = serde_json::from_str(&workspace.read("out/index.json")).expect("JSON");
    edit(index["manifests"].as_array_mut().expect("entries"));
    workspace.write("out/index.json", index.to_string());
}

#[test]
fn an_image_is_found_by_the_names_that_tools_give_it() {
    for annotations in [
        json!(null),
        json!({"org.opencontainers.image.ref.name": "docker.io/x/y:v1"}),
        json!({"org.opencontainers.image.ref.name": "v1"}),
        json!({"io.containerd.image.name": "docker.io/x/y:v1"}),
        json!({"io.containerd.image.name": "localhost:5000/x:v1", "org.opencontainers.image.ref.name": "other"}),
    ] {
        println!("{annotations}");
        let workspace = packed();
        edit_index(&workspace, |entries| {
            let entry = entries[0].as_object_mut().expect("a descriptor");
            entry.remove("annotations");
            if !annotations.is_null() {
                entry.insert("annotations".into(), annotations.clone());
            }
        });
        workspace.run("inspect oci:out").ok();
        let named = workspace.run("inspect oci:out:v1");
        if annotations.is_null() {
            named.refused(3, "SourceNotFound");
            assert!(named.stderr.contains("which has sha256:"), "{named:?}");
        } else {
            named.ok();
        }
        let missing = workspace.run("inspect oci:out:v2");
        missing.refused(3, "SourceNotFound");
        assert!(missing.stderr.contains("tag v2"), "{missing:?}");
    }
}

#[test]
fn a_signed_image_without_a_tag_is_the_only_one() {
    let workspace = packed();
    workspace.run("sign oci:out:v1 --key packgate.key").ok();
    workspace.run("verify oci:out --key packgate.pub").ok();
    workspace
        .run("pack lock.yaml --to oci:out:v2 --format Artifact")
        .ok();
    let run = workspace.run("inspect oci:out");
    run.refused(3, "SourceNotFound");
    assert!(
        run.stderr.contains("v1 (sha256:") && run.stderr.contains("v2 (sha256:"),
        "{run:?}"
    );
}

#[test]
fn what_cosign_saves_keeps_its_signatures() {
    let workspace = packed();
    workspace
        .run("sign oci:out:v1 --key packgate.key --signature-format Legacy")
        .ok();
    // `cosign save` names the kinds of entries, and no tags.
    edit_index(&workspace, |entries| {
        for entry in entries {
            let name = entry["annotations"]["org.opencontainers.image.ref.name"].as_str();
            let kind = match name {
                Some(name) if name.rsplit('.').next() == Some("sig") => "sigs",
                _ => "image",
            };
            entry["annotations"] = json!({"kind": format!("dev.cosignproject.cosign/{kind}")});
        }
    });
    let verify = "--key packgate.pub --signature-format Legacy";
    workspace.run(&format!("verify oci:out {verify}")).ok();
    workspace.run("copy oci:out oci:copied:v1").ok();
    workspace
        .run(&format!("verify oci:copied:v1 {verify}"))
        .ok();
}

#[test]
fn a_compressed_archive_is_called_one() {
    let workspace = packed();
    workspace.run("copy oci:out:v1 oci-archive:a.tar:v1").ok();
    workspace.tool("gzip", ["-k", "a.tar"]).ok();
    let run = workspace.run("inspect oci-archive:a.tar.gz:v1");
    run.refused(4, "MalformedManifest");
    assert!(
        run.stderr.contains("gzip") && run.stderr.contains("gunzip"),
        "{run:?}"
    );
}
