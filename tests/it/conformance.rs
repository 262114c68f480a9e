//! Sigstore's public conformance suite: every bundle, by path and by digest, through the real
//! binary.

use std::{collections::BTreeMap, fs, path::Path};

use crate::support::{cli::Workspace, data::shared};

/// Case, and the reason for which it is refused; `-` for one that is accepted.
const EXPECTED: &str = include_str!("../data/sigstore-conformance.tsv");

const IDENTITY: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main";
const ISSUER: &str = "https://token.actions.githubusercontent.com";

#[test]
fn every_case_ends_as_the_suite_says_and_for_the_reason_that_is_pinned() {
    let Some(data) = shared("every_case_ends_as_the_suite_says_and_for_the_reason_that_is_pinned")
    else {
        return;
    };
    let expected: BTreeMap<&str, &str> = EXPECTED
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .collect();
    let (mut found, mut wrong) = (BTreeMap::new(), Vec::new());
    let (mut accepted, mut refused) = (0, 0);
    let workspace = Workspace::new();
    for case in cases(&data) {
        let name = case
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let artifact = Some(case.join("artifact"))
            .filter(|path| path.exists())
            .unwrap_or_else(|| data.join("sigstore-conformance/a.txt"));
        let digest =
            packgate::core::digest::Digest::of_bytes(&fs::read(&artifact).expect("an artifact"))
                .to_string();
        for artifact in [artifact.display().to_string(), digest] {
            let reason = run(&workspace, &data, &case, &artifact);
            let is_refused = reason != "-";
            *(if is_refused {
                &mut refused
            } else {
                &mut accepted
            }) += 1;
            if is_refused != name.ends_with("_fail") {
                wrong.push(format!("{name} {artifact}: {reason}"));
            }
            if let Some(before) = found.insert(name.clone(), reason.clone()) {
                assert_eq!(before, reason, "{name}: by path and by digest");
            }
        }
    }
    println!(
        "{accepted} accepted, {refused} refused, of {}",
        accepted + refused
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
    let found: BTreeMap<&str, &str> = found
        .iter()
        .map(|(name, reason)| (name.as_str(), reason.as_str()))
        .collect();
    let table = found
        .iter()
        .map(|(name, reason)| format!("{name}\t{reason}\n"))
        .collect::<Vec<_>>()
        .concat();
    assert_eq!(found, expected, "the table is now:\n{table}");
    assert_eq!((accepted, refused), (42, 98));
}

fn cases(data: &Path) -> Vec<std::path::PathBuf> {
    let folder = data.join("sigstore-conformance");
    let mut cases: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir())
        .collect();
    cases.sort();
    cases
}

/// The reason for which it is refused, or `-`.
fn run(workspace: &Workspace, data: &Path, case: &Path, artifact: &str) -> String {
    let text = |name: &str, otherwise: &str| {
        fs::read_to_string(case.join(name))
            .map_or_else(|_| otherwise.to_owned(), |text| text.trim().to_owned())
    };
    let mut arguments = vec![
        "sigstore".to_owned(),
        "verify-bundle".into(),
        "--bundle".into(),
        case.join("bundle.sigstore.json").display().to_string(),
    ];
    let key = case.join("key.pub");
    if key.exists() {
        arguments.extend(["--key".into(), key.display().to_string()]);
    } else {
        arguments.extend(["--certificate-identity".into(), text("identity", IDENTITY)]);
        arguments.extend(["--certificate-oidc-issuer".into(), text("issuer", ISSUER)]);
    }
    let root = Some(case.join("trusted_root.json"))
        .filter(|path| path.exists())
        .unwrap_or_else(|| data.join("trust/prod_trusted_root.json"));
    arguments.extend([
        "--trusted-root".into(),
        root.display().to_string(),
        "-o".into(),
        "json".into(),
        artifact.into(),
    ]);
    let run = workspace.packgate(&arguments);
    if run.code == 0 {
        return "-".into();
    }
    assert!(
        [1, 2, 4].contains(&run.code),
        "{}: {}",
        case.display(),
        run.stderr
    );
    serde_json::from_str::<serde_json::Value>(&run.stdout).expect("JSON")["reason"]
        .as_str()
        .expect("a reason")
        .to_owned()
}
