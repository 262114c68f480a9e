//! Origins with a credential in their URL: warned of, fetched, and never published.

use base64::{Engine, prelude::BASE64_STANDARD};

use super::workspace;
use crate::support::{
    cli::Workspace,
    origin::{Demand, Origin, Pki},
};

/// Everything that is published, as text.
fn published(workspace: &Workspace) -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir(workspace.file("out/blobs/sha256")).expect("blobs") {
        let bytes = std::fs::read(entry.expect("a blob").path()).expect("bytes");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        for payload in text.split('"').filter(|part| part.len() > 200) {
            if let Ok(bytes) = BASE64_STANDARD.decode(payload) {
                all.push_str(&String::from_utf8_lossy(&bytes));
            }
        }
        all.push_str(&text);
    }
    all
}

#[test]
fn credentials_in_urls_are_warned_of_and_never_published() {
    let pki = Pki::new();
    let origin = Origin::start(Some(&pki), Demand::Nothing);
    let url = origin.url("/rules.txt");
    let workspace = workspace(
        &pki,
        &format!("{url}?X-Amz-Signature=hunter2#token=hunter2"),
    );
    workspace.keys();
    let warning = "warning: artifacts[0].origin has a credential in its URL (X-Amz-Signature)";
    let run = workspace.run("lock manifest.yaml --ca-file ca.pem");
    run.ok();
    assert!(run.stderr.contains(warning), "{run:#?}");
    let run = workspace.run("lock test.lock.yaml --check --ca-file ca.pem");
    run.ok();
    assert!(run.stderr.contains(warning), "{run:#?}");
    assert!(
        workspace.read("test.lock.yaml").contains("hunter2"),
        "it is needed"
    );
    for sbom in ["SPDX", "CycloneDX"] {
        workspace
            .run(&format!(
                "pack test.lock.yaml --to oci:out:v1 --key packgate.key --sbom {sbom} --ca-file ca.pem"
            ))
            .ok();
    }
    for head in origin.heads() {
        assert!(
            head.contains("X-Amz-Signature=hunter2"),
            "it was not fetched with it"
        );
    }
    let all = published(&workspace);
    assert!(all.contains(&url), "the origin itself is told");
    assert!(!all.contains("hunter2") && !all.contains("X-Amz"), "{all}");
    // The lock with and without it is one lock.
    workspace
        .run("verify oci:out:v1 --key packgate.pub --lock test.lock.yaml")
        .ok();
    let lock = workspace.read("test.lock.yaml");
    let start = lock.find("?X-Amz").expect("a query");
    let end = start + lock[start..].find(['"', '\n']).expect("the end");
    workspace.write(
        "plain.lock.yaml",
        format!("{}{}", &lock[..start], &lock[end..]),
    );
    assert_eq!(
        workspace.run("plan plain.lock.yaml").ok(),
        workspace.run("plan test.lock.yaml").ok()
    );
    let run = workspace.run("lock plain.lock.yaml --check --ca-file ca.pem");
    run.ok();
    assert!(!run.stderr.contains("warning:"), "{run:#?}");
}
