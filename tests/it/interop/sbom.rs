//! SBOMs: valid by the schemas of SPDX and `CycloneDX`, and found by other tools.

use std::fs;

use packgate::core::{
    limits::InputLimits,
    lockfile::Lockfile,
    sbom::{REFERENCE_PREDICATE_TYPE, SbomDocument, SbomFormat},
};
use serde_json::Value;

use super::{each, pinned};
use crate::support::tools;

/// The documents of SPDX 2.3 and of `CycloneDX` 1.6 are described by these.
fn schema(format: SbomFormat) -> Value {
    let (folder, file) = match format {
        SbomFormat::Spdx => ("spdx-", "spdx-schema-v2.3.json"),
        SbomFormat::CycloneDX => ("cyclonedx-", "bom-1.6.schema.json"),
    };
    read(folder, file)
}

fn read(folder: &str, file: &str) -> Value {
    let entries = fs::read_dir(tools::schemas()).expect("schemas; make tools gets them");
    let folder = entries
        .map(|entry| entry.expect("an entry").path())
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(folder))
        });
    let path = folder
        .unwrap_or_else(|| panic!("no schemas of {file}; make tools gets them"))
        .join(file);
    serde_json::from_slice(&fs::read(path).expect("a schema")).expect("JSON")
}

fn validator(format: SbomFormat) -> jsonschema::Validator {
    let mut registry = jsonschema::Registry::new();
    if format == SbomFormat::CycloneDX {
        for (file, uri) in [
            (
                "spdx.schema.json",
                "http://cyclonedx.org/schema/spdx.schema.json",
            ),
            (
                "jsf-0.82.schemax.json",
                "http://cyclonedx.org/schema/jsf-0.82.schema.json",
            ),
        ] {
            registry = registry
                .add(
                    uri,
                    jsonschema::Draft::Draft7.create_resource(read("cyclonedx-", file)),
                )
                .expect("a resource");
        }
    }
    let registry = registry.prepare().expect("a registry");
    jsonschema::options()
        .with_draft(jsonschema::Draft::Draft7)
        .should_validate_formats(true)
        .with_registry(&registry)
        .build(&schema(format))
        .expect("a schema")
}

const LOCK: &str = r#"
apiVersion: packgate.dev/v1alpha1
kind: Lockfile
name: siem
version: 1.4.0
entrypoint: {script: files/run.sh, mode: "0755", checksum: "sha256:0000000000000000000000000000000000000000000000000000000000000001", size: 9}
artifacts:
- {name: install, type: file, origin: "files/in stall \"x\".sh", target: "opt/siem/in stall.sh", mode: "0755",
   checksum: "sha256:0000000000000000000000000000000000000000000000000000000000000002", size: 2669}
- {name: rules, type: http, origin: "https://f.example.com/rules%20ü.tgz?x=[1]&y={}", target: opt/rules.tgz,
   checksum: "sha256:0000000000000000000000000000000000000000000000000000000000000003", size: 1099511627776}
- {name: pg, type: oci, origin: "oci://r.example.com:5000/pg:17@sha256:0000000000000000000000000000000000000000000000000000000000000004",
   target: images/pg.tar, checksum: "sha256:0000000000000000000000000000000000000000000000000000000000000005", size: 0,
   oci: {platform: linux/amd64}, platforms: [linux/amd64, linux/arm64]}
"#;

#[test]
fn bills_pass_the_schemas_of_spdx_and_cyclonedx() {
    if !tools::wanted("bills_pass_the_schemas_of_spdx_and_cyclonedx") {
        return;
    }
    let named = Lockfile::parse(LOCK.as_bytes(), &InputLimits::DEFAULT).expect("a lock");
    let nameless = Lockfile {
        name: None,
        version: None,
        entrypoint: None,
        ..named.clone()
    };
    for format in SbomFormat::ALL {
        let validator = validator(format);
        for (lock, epoch) in [
            (&named, None),
            (&nameless, Some(0)),
            (&named, Some(1_700_000_000)),
        ] {
            let sbom = SbomDocument::new(format, lock, epoch).expect("a bill");
            let document: Value = serde_json::from_slice(sbom.bytes()).expect("JSON");
            let errors: Vec<String> = validator
                .iter_errors(&document)
                .map(|e| format!("{}: {e}", e.instance_path()))
                .collect();
            assert!(errors.is_empty(), "{format:?}: {errors:#?}\n{document:#}");
            // The schema is at work.
            for field in ["files", "components"] {
                let mut broken = document.clone();
                if broken.get(field).is_some() {
                    broken[field][0] = serde_json::json!({"SPDXID": 7, "type": "nothing"});
                    assert!(!validator.is_valid(&broken), "{format:?} {field}");
                }
            }
        }
    }
}

#[test]
fn cosign_finds_our_bills() {
    each("cosign_finds_our_bills", |_, workspace, server| {
        workspace.keys();
        for (format, kind) in [("SPDX", "spdxjson"), ("CycloneDX", "cyclonedx")] {
            let line = format!(
                "pack lock.yaml --plain-http --to {}/team/{kind}:v1 --key packgate.key --sbom \
                    {format}",
                server.host
            );
            let image = pinned(workspace.run(&line).ok());
            let verify = |kind: &str| {
                workspace.tool(
                    "cosign",
                    [
                        "verify-attestation",
                        "--key",
                        "packgate.pub",
                        "--insecure-ignore-tlog",
                        "--type",
                        kind,
                        &image,
                    ],
                )
            };
            assert!(verify(kind).ok().contains("payload"));
            verify("slsaprovenance1").ok();
            let other = if kind == "spdxjson" {
                "cyclonedx"
            } else {
                "spdxjson"
            };
            assert_ne!(verify(other).code, 0, "{other}");
        }
    });
}

/// Over 1 MiB: the document can be pulled, and its digest is signed.
#[test]
fn large_bills_are_pulled_by_what_is_signed() {
    each(
        "large_bills_are_pulled_by_what_is_signed",
        |_, workspace, server| {
            workspace.keys();
            workspace.write("files/one", "x");
            let artifacts = (0..2_600)
            .map(|n| {
                format!("- {{name: a{n}, type: file, origin: files/one, target: \
                    opt/a/long/name/of/a/file/{n:0>30}, \
                    checksum: \"sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881\", size: 1}}\n")
            })
            .collect::<Vec<_>>()
            .concat();
            workspace.write(
                "many.yaml",
                format!(
                    "apiVersion: packgate.dev/v1alpha1\nkind: \
                Lockfile\nname: many\nartifacts:\n{artifacts}"
                ),
            );
            let line = format!(
                "pack many.yaml --plain-http --to {}/team/many:v1 --key packgate.key --sbom SPDX",
                server.host
            );
            let image = pinned(workspace.run(&line).ok());
            workspace
                .run(&format!(
                    "verify --plain-http {image} --key packgate.pub --builder-id \
                https://packgate.dev/builder/cli"
                ))
                .ok();
            let attested = workspace.tool(
                "cosign",
                [
                    "verify-attestation",
                    "--key",
                    "packgate.pub",
                    "--insecure-ignore-tlog",
                    "--type",
                    REFERENCE_PREDICATE_TYPE,
                    &image,
                ],
            );
            let reference = reference(attested.ok());
            let place = reference["downloadLocation"]
                .as_str()
                .expect("a place")
                .strip_prefix("oci://")
                .expect("a repository")
                .to_owned();
            fs::create_dir(workspace.file("pulled")).expect("a folder");
            workspace
                .tool("oras", ["pull", "--plain-http", "-o", "pulled", &place])
                .ok();
            let pulled = fs::read(workspace.file("pulled/sbom.spdx.json")).expect("the document");
            assert_eq!(
                reference["digest"]["sha256"],
                packgate::core::digest::Digest::of_bytes(&pulled).hex_digits()
            );
            assert!(pulled.len() > 1 << 20, "{} bytes", pulled.len());
            let shown = workspace.run(&format!("inspect --plain-http {image}"));
            assert!(shown.ok().contains("SPDX"), "{shown:?}");
        },
    );
}

/// The reference in what `cosign verify-attestation` prints.
fn reference(printed: &str) -> Value {
    let envelope: Value = printed
        .lines()
        .find_map(|line| serde_json::from_str(line).ok())
        .expect("an envelope");
    let payload = base64::Engine::decode(
        &base64::engine::general_purpose::STANDARD,
        envelope["payload"].as_str().expect("a payload"),
    )
    .expect("base64");
    let statement: Value = serde_json::from_slice(&payload).expect("a statement");
    statement["predicate"]["references"][0].clone()
}
