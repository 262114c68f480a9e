use super::*;
use crate::core::{digest::Digest, oci::Platform};

const OURS: &str = r#"apiVersion: packgate.dev/v1alpha1
kind: LockManifest
name: siem
version: 1.4.0
entrypoint: {script: files/run.sh}
artifacts:
- {name: install, origin: files/install.sh, target: opt/install.sh, mode: "0755", size: 3}
- {name: rules, origin: "https://f.example.com/rules.tgz", target: opt/rules.tgz, unpack: true, checksum: sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855}
- {name: pg, type: oci, origin: "oci://r.example.com/pg:17", target: images/pg.tar, oci: {platform: linux/amd64}, platforms: [linux/amd64]}
"#;

const THEIRS: &str = r#"apiVersion: conduit.warrical.com/next
kind: Manifest
metadata:
  name: "siem-{{variables.stage}}"
  version: 1.0
  description: |
    Two lines,
    	and {{ no template.
  maintainers: [a, b]
variables:
  stage: dev
  dir: "/opt/{{metadata.name}}"
  pg: 17
entrypoint:
  script: "./files/{{metadata.name}}/run.sh"
  mode: "0755"
  uid: ''
artifacts:
- name: "pg-{{variables.pg}}"
  origin: "oci://r.example.com/pg:{{.pg}}"
  target: "{{variables.dir}}/pg.tar"
  platform: linux/arm64/v8
  annotations: {note: "{{.stage}}"}
  strip_components: 0
  insecure_skip_verify: false
  headers: {}
- name: conf
  type: file
  origin: files/conf.zip
  target: conf.zip
  unpack: true
  compression: zip
  checksum: sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
"#;

fn manifest(text: &str) -> Result<LockManifest, LockfileError> {
    LockManifest::parse(text.as_bytes(), &InputLimits::DEFAULT)
}

fn check(table: &[(&str, &str, &str)], base: &str) {
    for (from, to, part) in table {
        assert!(base.contains(from), "{from:?} is in the base");
        expect_invalid(to, manifest(&base.replacen(from, to, 1)), part);
    }
}

#[test]
fn our_manifest_needs_name_origin_and_target() {
    let manifest = manifest(OURS).expect("valid");
    assert_eq!(
        (manifest.name.as_deref(), manifest.version.as_deref()),
        (Some("siem"), Some("1.4.0"))
    );
    assert_eq!(
        manifest
            .entrypoint
            .as_ref()
            .map(|e| (e.target.as_str(), e.mode)),
        Some(("run.sh", BundleFileMode::Plain))
    );
    let [install, rules, pg] = manifest.artifacts.as_slice() else {
        panic!("three artifacts")
    };
    assert_eq!(
        (install.origin_type, install.mode, install.size),
        (OriginType::File, BundleFileMode::Executable, Some(3))
    );
    assert_eq!(
        (rules.origin_type, rules.checksum),
        (OriginType::Http, Some(Digest::of_bytes(b"")))
    );
    assert_eq!((pg.origin_type, pg.platforms.len()), (OriginType::Oci, 1));
}

#[test]
fn conduits_manifest_is_filled_in() {
    let manifest = manifest(THEIRS).expect("valid");
    assert_eq!(
        (manifest.name.as_deref(), manifest.version.as_deref()),
        (Some("siem-dev"), Some("1.0"))
    );
    let entrypoint = manifest.entrypoint.expect("there");
    assert_eq!(
        (entrypoint.script.as_str(), entrypoint.mode),
        ("./files/siem-dev/run.sh", BundleFileMode::Executable)
    );
    let [pg, conf] = manifest.artifacts.as_slice() else {
        panic!("two artifacts")
    };
    assert_eq!(
        (pg.name.as_str(), pg.origin.as_str(), pg.target.as_str()),
        ("pg-17", "oci://r.example.com/pg:17", "opt/siem-dev/pg.tar")
    );
    assert_eq!(
        pg.oci,
        "linux/arm64/v8"
            .parse::<Platform>()
            .ok()
            .map(OciSelection::Platform)
    );
    assert_eq!(
        (
            conf.checksum,
            conf.unpack.as_ref().and_then(|u| u.compression)
        ),
        (Some(Digest::of_bytes(b"")), Some(ArchiveCompression::Zip))
    );

    let short = LockManifest::parse(
        THEIRS
            .replace(
                "entrypoint:\n  script: \"./files/{{metadata.name}}/run.sh\"\n  \
            mode: \"0755\"\n  uid: ''",
                "entrypoint: run.sh",
            )
            .as_bytes(),
        &InputLimits::DEFAULT,
    );
    assert_eq!(
        short
            .expect("valid")
            .entrypoint
            .map(|e| (e.target.to_string(), e.mode)),
        Some(("run.sh".into(), BundleFileMode::Executable))
    );
}

#[test]
fn faults_of_our_manifest_are_named() {
    check(
        &[
            (
                "kind: LockManifest",
                "kind: Lockfile",
                "a manifest is needed here",
            ),
            (
                "kind: LockManifest",
                "kind: Manifest",
                "kind: must be one of",
            ),
            (
                "name: siem",
                "name: a b",
                "line 3, column 1, name: must have",
            ),
            (
                "name: siem",
                "name: siem\nlayers: []",
                "layers: unknown field",
            ),
            (
                "name: siem",
                "name: siem\npackFormat: '2'",
                "packFormat: must be one of 1",
            ),
            (
                "name: siem",
                "name: siem\nvariables: {}",
                "variables: unknown field",
            ),
            ("name: install, ", "", "artifacts[0].name: is required"),
            (
                "origin: files/install.sh, ",
                "",
                "artifacts[0].origin: is required",
            ),
            (
                "target: opt/install.sh, ",
                "",
                "artifacts[0].target: is required",
            ),
            (
                "origin: files/install.sh",
                "origin: \"s3://b/x\"",
                "artifacts[0].origin: must be a path or start with",
            ),
            (
                "origin: files/install.sh",
                "type: http, origin: files/install.sh",
                "artifacts[0].origin: must be a valid http",
            ),
            (
                "origin: files/install.sh",
                "origin: \"https://u:p@f.example.com/x\"",
                "artifacts[0].origin: must not carry a user name",
            ),
            (
                "target: opt/install.sh",
                "target: ../x",
                "artifacts[0].target: must not contain \"..\"",
            ),
            (
                "target: opt/install.sh",
                "target: run.sh",
                "entrypoint.script: \"run.sh\" is the target of artifacts[0]",
            ),
            (
                "target: opt/install.sh",
                "target: opt/rules.tgz/x",
                "artifacts[1].target: \"opt/rules.tgz\" and",
            ),
            (
                "name: install",
                "name: pg",
                "artifacts[2].name: \"pg\" is the name of artifacts[0]",
            ),
            (
                "size: 3",
                "size: 1099511627777",
                "artifacts[0].size: 1099511627777 is over",
            ),
            (
                "size: 3",
                "oci: {platform: linux/amd64}",
                "artifacts[0].oci: is only allowed together with type oci",
            ),
            (
                "size: 3",
                "compression: zip",
                "artifacts[0].compression: is only allowed together",
            ),
            ("artifacts:", "artifacts: &x", "anchors"),
        ],
        OURS,
    );
}

#[test]
fn faults_of_conduits_manifest_are_named() {
    check(
        &[
            (
                "conduit.warrical.com/next",
                "invalid/version",
                "apiVersion: must be one of",
            ),
            ("artifacts:", "things:", "things: unknown field"),
            ("metadata:\n", "x:\n", "x: unknown field"),
            (
                "name: \"siem-{{variables.stage}}\"",
                "title: x",
                "metadata.name",
            ),
            (
                "stage: dev",
                "stage: \"{{.dir}}\"",
                "line 11, column 3, variables.stage: variables refer to each other",
            ),
            (
                "stage: dev",
                "stage: \"{{.nobody}}\"",
                "variables.stage: unknown variable \"variables.nobody\"",
            ),
            (
                "stage: dev",
                "stage: dev\n  unused: \"{{.unused}}\"",
                "variables.unused: variables refer to each other: variables.unused -> \
                    variables.unused",
            ),
            (
                "stage: dev",
                "stage: [dev]",
                "variables.stage: must be a string",
            ),
            ("stage: dev", "stage:", "variables.stage: must be a string"),
            ("stage: dev", "stage: a b", "metadata.name: must have"),
            (
                "{{variables.dir}}/pg.tar",
                "{{variables.dri}}/pg.tar",
                "line 21, column 3, artifacts[0].target: unknown variable \"variables.dri\"",
            ),
            (
                "{{variables.dir}}/pg.tar",
                "{{variables.dir/pg.tar",
                "artifacts[0].target: has {{ without }}",
            ),
            (
                "\"{{variables.dir}}/pg.tar\"",
                "{{variables.dir}}",
                "keys must be plain text (quote a value that starts with {{)",
            ),
            (
                "/opt/{{metadata.name}}",
                "/opt/../{{metadata.name}}",
                "artifacts[0].target: must not contain \"..\"",
            ),
            (
                "dir: \"/opt/",
                "dir: \"\\x01",
                "variables.dir: must not contain control",
            ),
            (
                "strip_components: 0",
                "strip_components: 1",
                "artifacts[0].strip_components: is not supported",
            ),
            (
                "insecure_skip_verify: false",
                "insecure_skip_verify: true",
                "artifacts[0].insecure_skip_verify: is not supported: certificates are always \
                    verified",
            ),
            (
                "headers: {}",
                "headers: {Authorization: hunter2}",
                "artifacts[0].headers: is not supported",
            ),
            (
                "platform: linux/arm64/v8",
                "platform: arm",
                "artifacts[0].platform: platform \"arm\"",
            ),
            (
                "type: file",
                "platform: linux/amd64",
                "artifacts[1].oci: is only allowed together with type oci",
            ),
            (
                "type: file",
                "mode: '0755'",
                "artifacts[1].mode: unknown field",
            ),
            (
                "annotations: {note: \"{{.stage}}\"}",
                "annotations: x",
                "artifacts[0].annotations: must be a map",
            ),
            ("uid: ''", "user: ''", "entrypoint.user: unknown field"),
        ],
        THEIRS,
    );
    let lines = THEIRS.replacen("stage: dev", "stage: \"de\\nv\"", 1);
    expect_invalid(
        "a line break that gets into a target",
        manifest(&lines),
        "artifacts[0].target: must not contain control",
    );
    let origin =
        THEIRS
            .replacen("pg: 17", "pg: \"1\\n7\"", 1)
            .replacen("pg-{{variables.pg}}", "pg", 1);
    expect_invalid(
        "a line break that gets into an origin",
        manifest(&origin),
        "artifacts[0].origin: must not contain control",
    );
    let none = THEIRS.split("artifacts:").next().unwrap_or_default();
    expect_invalid("none", manifest(none), "artifacts: is required");
}

#[test]
fn variables_cannot_blow_up_a_manifest() {
    use std::fmt::Write as _;
    let mut text = String::from(
        "apiVersion: conduit.warrical.com/next\nkind: Manifest\nmetadata: {name: \
            bomb}\nvariables:\n  v0: aaaaaaaaaa\n",
    );
    for n in 1..40 {
        writeln!(
            text,
            "  v{n}: \"{}\"",
            format!("{{{{.v{}}}}}", n - 1).repeat(10)
        )
        .expect("to a string");
    }
    text.push_str("artifacts: [{name: a, origin: \"{{.v39}}\", target: a}]\n");
    expect_invalid("doubling", manifest(&text), "must have at most 4096 bytes");
}

#[test]
fn a_completed_manifest_is_a_lock() {
    let draft = manifest(OURS).expect("valid");
    let digest = Digest::of_bytes(b"{}");
    let artifacts = draft.artifacts.into_iter().map(|artifact| {
        let (checksum, size) = (
            artifact.checksum.unwrap_or(digest),
            artifact.size.unwrap_or(2),
        );
        let pinned = (artifact.origin_type == OriginType::Oci)
            .then(|| pin_origin(&artifact.origin, &digest));
        artifact.into_locked(checksum, size, pinned)
    });
    let artifacts = artifacts
        .collect::<Result<Vec<_>, _>>()
        .expect("no pin is broken");
    let entrypoint = draft
        .entrypoint
        .map(|e| e.into_locked(digest, 2))
        .transpose()
        .expect("no pin is broken");
    let lock = Lockfile {
        generation: LockfileGeneration::Packgate,
        name: draft.name,
        version: draft.version,
        entrypoint,
        artifacts,
        layers: Vec::new(),
    };
    let lock = lock.into_checked(&InputLimits::DEFAULT).expect("valid");
    assert_eq!(lock.find_unverifiable_oci(), None);
    assert_eq!(parse(&lock.to_yaml()).as_ref(), Ok(&lock));
    assert_eq!(
        LockInput::parse(lock.to_yaml().as_bytes(), &InputLimits::DEFAULT),
        Ok(LockInput::Lock(lock))
    );
}

#[test]
fn a_lock_is_refreshed_from_its_origins() {
    let lock = parse(FULL).expect("valid");
    let draft = LockManifest::from(&lock);
    assert_eq!(
        draft
            .artifacts
            .iter()
            .filter(|a| a.checksum.is_some() || a.size.is_some())
            .count(),
        0,
        "nothing is pinned"
    );
    assert_eq!(
        draft.artifacts.get(2).map(|a| a.origin.as_str()),
        Some("oci://r.example.com/pg:17"),
        "the tag is looked up again"
    );
    assert_eq!(
        draft.artifacts.get(1).map(|a| a.unpack.is_some()),
        Some(true)
    );
    assert_eq!(
        draft.entrypoint.map(|e| (e.script, e.mode)),
        Some(("files/run.sh".into(), BundleFileMode::Executable))
    );
}
