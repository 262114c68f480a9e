//! Conduit's real files. They are not part of this repository: `PACKGATE_SHARED_DATA` names the
//! folder with `conduit/`.

use std::path::PathBuf;

use super::*;

fn folder() -> Option<PathBuf> {
    crate::core::verify::testing::shared_data("conduit_files").map(|root| root.join("conduit"))
}

#[test]
fn real_locks_are_judged_as_listed() {
    let Some(folder) = folder() else { return };
    let verdicts = std::fs::read_to_string(folder.join("VERDICTS.tsv")).expect("VERDICTS.tsv");
    let rows: Vec<Vec<&str>> = verdicts
        .lines()
        .skip(1)
        .map(|row| row.split('\t').collect())
        .collect();
    assert!(rows.len() >= 14, "{} rows", rows.len());
    for row in rows {
        let [file, kind, inspect, pack, reason, _] = row[..] else {
            panic!("six columns: {row:?}")
        };
        let bytes = std::fs::read(folder.join(file)).expect(file);
        match (kind, inspect) {
            ("Manifest", _) => {
                expect_invalid(file, LockManifest::parse(&bytes, &InputLimits::DEFAULT), "");
            }
            (_, "0") => check_packable(file, &bytes, pack, reason),
            _ => expect_invalid(
                file,
                Lockfile::parse(&bytes, &InputLimits::DEFAULT),
                if file.contains("empty") {
                    "empty document"
                } else {
                    "line "
                },
            ),
        }
    }
}

fn check_packable(file: &str, bytes: &[u8], pack: &str, reason: &str) {
    let lock = Lockfile::parse(bytes, &InputLimits::DEFAULT).expect(file);
    assert_eq!(lock.generation, LockfileGeneration::Conduit);
    match lock.check_packable(false) {
        Ok(()) => assert_eq!(pack, "3", "{file}: what is missing shows while fetching"),
        Err(error) => assert_eq!(
            (error.reason().as_str(), pack),
            (reason, "2"),
            "{file}: {error}"
        ),
    }
    let rewritten = parse(&lock.to_yaml()).expect(file);
    assert_eq!(rewritten.to_canonical(), lock.to_canonical(), "{file}");
}

#[test]
fn the_other_real_manifests_are_read() {
    let Some(folder) = folder() else { return };
    let files = [
        ("simple-oci-manifest.yaml", "images/hello-world.tar"),
        ("simple_oci_manifest.yaml", "hello-world.tar"),
        ("test-manifest.yaml", "app/README.md"),
        ("test_http_manifest.yaml", "output/downloaded_test.txt"),
        (
            "test_manifest_with_variables.yaml",
            "output/my-project-1.0.0-dev.txt",
        ),
        ("test_oci_manifest.yaml", "images/nginx-alpine.tar"),
        (
            "test_self_referencing_variables.yaml",
            "output/my-project-v1.0.0-dev.yaml",
        ),
        ("manifests/keycloak.yml", "keycloak-image-26.2.5.tar"),
        (
            "manifests/soc-nids-suite.yml",
            "opt/soc-nids-suite_artifacts_v2.5.0/downloads/suricata-7.0.5.tar.gz",
        ),
        (
            "manifests/soc-siem-core.yml",
            "opt/soc-siem-core-v1.2.3/scripts/install.sh",
        ),
        (
            "manifests/soc-threat-intel.yml",
            "opt/soc-threat-intel_artifacts_v0.8.1/downloads/yara-v4.5.1.tar.gz",
        ),
        (
            "manifests/soc-training-lab.yml",
            "opt/soc-training-lab_artifacts_v1.0.1/downloads/juice-shop-16.0.0.tgz",
        ),
    ];
    for (file, first) in files {
        let bytes = std::fs::read(folder.join(file)).expect(file);
        let manifest = LockManifest::parse(&bytes, &InputLimits::DEFAULT)
            .unwrap_or_else(|e| panic!("{file}: {e}"));
        assert_eq!(
            manifest.artifacts.first().map(|a| a.target.as_str()),
            Some(first),
            "{file}"
        );
        expect_invalid(
            file,
            Lockfile::parse(&bytes, &InputLimits::DEFAULT),
            "create a lock from it with `packgate lock`",
        );
        assert!(
            matches!(
                LockInput::parse(&bytes, &InputLimits::DEFAULT),
                Ok(LockInput::Manifest(_))
            ),
            "{file}"
        );
    }
}
