use super::*;
use crate::core::digest::Digest;

/// A change of one text, and a part of the message it must lead to.
fn check(table: &[(&str, &str, &str)], base: &str) {
    for (from, to, part) in table {
        assert!(base.contains(from), "{from:?} is in the base");
        expect_invalid(to, parse(&base.replacen(from, to, 1)), part);
    }
}

#[test]
fn what_is_no_single_plain_document_is_refused() {
    for (text, part) in [
        ("", "empty document"),
        ("# only a comment\n", "empty document"),
        ("---\n", "must be a map"),
        ("[]", "must be a map"),
        ("just text", "must be a map"),
        ("a: [", "line 1, column"),
        ("a: b\n  c: d\n", "line 2, column"),
        ("a: b\n---\nc: d\n", "line 2, column 1: a second document"),
        ("a: &x b\n", "line 1, column 7: anchors"),
        ("a: &x b\nc: *x\n", "anchors and aliases"),
        ("a: *x\n", "line 1"),
        ("a: !!str b\n", "tags are not allowed"),
        ("a: !mine b\n", "tags are not allowed"),
        ("a: !mine [b]\n", "tags are not allowed"),
        ("!mine {a: b}\n", "tags are not allowed"),
        ("<<: {a: b}\n", "keys must be plain text"),
        ("? [a]\n: b\n", "keys must be plain text"),
        ("{{variables.x}}: b\n", "keys must be plain text"),
        (
            "a: b\nc: d\na: e\n",
            "line 3, column 1: duplicate key \"a\"",
        ),
        (
            "x:\n- {a: 1, b: 2, \"a\": 3}\n",
            "line 2, column 16: duplicate key \"a\"",
        ),
        (
            "{\"a\":1,\"\\u0061\":2}",
            "line 1, column 15: duplicate key \"a\"",
        ),
        ("{\"a\":1} {}", "line 1"),
        ("{\"a\":\"\\ud800\"}", "line 1"),
        ("a: \"\\ud800\"", "line 1"),
        ("a: \"\\x01\"", "a: must not contain control"),
        (
            "a:\n- b: \"\\x7f\"",
            "line 2, column 3, a[0].b: must not contain control",
        ),
        ("{\"a\":\"\\u0000\"}", "a: must not contain control"),
        ("\"a\\nb\": c", "must not contain control"),
        ("a: |\n  b\n  c\n", "a: must not contain control"),
    ] {
        expect_invalid(text, parse(text), part);
    }
    expect_invalid(
        "latin",
        Lockfile::parse(b"a: b\nc: \xe4\n", &InputLimits::DEFAULT),
        "line 2, column 4: not UTF-8",
    );
    expect_invalid(
        "long",
        parse(&format!("a: {}", "x".repeat(4_097))),
        "a: must have at most 4096 bytes",
    );
}

#[test]
fn what_is_too_much_is_refused() {
    let limits = InputLimits {
        lock_bytes: 100,
        ..InputLimits::DEFAULT
    };
    expect_invalid(
        "bytes",
        Lockfile::parse(&[b'['; 101], &limits),
        "lock of 101 bytes is over the limit of 100",
    );
    expect_invalid(
        "depth",
        parse(&format!("{}{}", "[".repeat(33), "]".repeat(33))),
        "nested deeper than 32",
    );
    let stairs: Vec<String> = (0..40).map(|n| format!("{}a:", " ".repeat(n))).collect();
    expect_invalid(
        "block depth",
        parse(&stairs.join("\n")),
        "nested deeper than 32",
    );
    expect_invalid(
        "json depth",
        parse(&format!("{{\"a\":{}{}}}", "[".repeat(32), "]".repeat(32))),
        "nested too deep",
    );
    let small = InputLimits {
        artifacts: 2,
        ..InputLimits::DEFAULT
    };
    let three = with_artifacts(&[line("a", "a"), line("b", "b"), line("c", "c")]);
    expect_invalid(
        "artifacts",
        Lockfile::parse(three.as_bytes(), &small),
        "line 3, column 1, artifacts: 3 is over the limit of 2",
    );
    let values = format!("[{}1]", "1,".repeat(2_000));
    expect_invalid(
        "values",
        Lockfile::parse(values.as_bytes(), &small),
        "more than 1080 values",
    );
    let head = SMALL.split("artifacts").next().unwrap_or_default();
    let compact = format!(
        "{head}artifacts: [{}]",
        line("a", "a").replacen("- ", "", 1)
    );
    let limits = InputLimits {
        lock_bytes: compact.len(),
        ..InputLimits::DEFAULT
    };
    let canonical = parse(&compact).expect("valid").to_canonical().bytes.len();
    assert!(canonical > compact.len(), "the canonical form says more");
    expect_invalid(
        "canonical form",
        Lockfile::parse(compact.as_bytes(), &limits),
        &format!("lock of {canonical} bytes is over the limit"),
    );
}

#[test]
fn documents_of_another_kind_are_refused() {
    check(
        &[
            (
                "packgate.dev/v1alpha1",
                "packgate.dev/v1",
                "line 1, column 1, apiVersion: must be one of packgate.dev/v1alpha1",
            ),
            ("packgate.dev/v1alpha1", "v1", "apiVersion: must be one of"),
            (
                "packgate.dev/v1alpha1",
                "conduit.warrical.com/next",
                "kind: must be one of LockFile",
            ),
            (
                "kind: Lockfile",
                "kind: LockFile",
                "line 2, column 1, kind: must be one of Lockfile LockManifest, not \"LockFile\"",
            ),
            (
                "kind: Lockfile",
                "kind: LockManifest",
                "create a lock from it with `packgate lock`",
            ),
            ("kind: Lockfile", "x: y", "kind: is required"),
            (
                "apiVersion: packgate.dev/v1alpha1\n",
                "",
                "apiVersion: is required",
            ),
            (
                "apiVersion: packgate.dev/v1alpha1",
                "apiVersion: [a]",
                "apiVersion: must be a string",
            ),
        ],
        SMALL,
    );
    check(
        &[("kind: LockFile", "kind: Manifest", "create a lock from it")],
        CONDUIT,
    );
}

#[test]
fn every_field_of_ours_is_checked() {
    check(
        &[
            (
                "kind: Lockfile",
                "kind: Lockfile\nextra: 1",
                "line 3, column 1, extra: unknown field \"extra\", expected one of apiVersion kind \
                    name",
            ),
            (
                "kind: Lockfile",
                "kind: Lockfile\nmanifestHash: x",
                "unknown field \"manifestHash\"",
            ),
            (
                "kind: Lockfile",
                "kind: Lockfile\nname: a b",
                "line 3, column 1, name: must have 1 to 128 characters",
            ),
            (
                "kind: Lockfile",
                "kind: Lockfile\nname: ''",
                "name: must have 1 to 128",
            ),
            (
                "kind: Lockfile",
                "kind: Lockfile\nname: ä",
                "name: must have 1 to 128",
            ),
            (
                "kind: Lockfile",
                "kind: Lockfile\nname: null",
                "name: must be a string",
            ),
            (
                "kind: Lockfile",
                "kind: Lockfile\nname:",
                "name: must be a string",
            ),
            (
                "kind: Lockfile",
                "kind: Lockfile\nversion: ''",
                "version: must not be empty",
            ),
            (
                "kind: Lockfile",
                "kind: Lockfile\nversion: {a: b}",
                "version: must be a string",
            ),
            (
                "kind: Lockfile",
                "kind: Lockfile\npackFormat: \"2\"",
                "packFormat: must be one of 1, not \"2\"",
            ),
            (
                "kind: Lockfile",
                "kind: Lockfile\nentrypoint: run.sh",
                "entrypoint: must be a map",
            ),
            (
                "kind: Lockfile",
                "kind: Lockfile\nentrypoint: null",
                "entrypoint: must be a map",
            ),
            (
                "kind: Lockfile",
                "kind: Lockfile\nlayers: {}",
                "layers: must be a list",
            ),
            (
                "- name: a",
                "- name: a/b",
                "line 4, column 3, artifacts[0].name: must have",
            ),
            (
                "- name: a\n ",
                "-",
                "line 4, column 3, artifacts[0].name: is required",
            ),
            (
                "type: file",
                "type: ftp",
                "line 5, column 3, artifacts[0].type: must be one of file http oci, not \"ftp\"",
            ),
            (
                "type: file",
                "type: http",
                "artifacts[0].origin: must be a valid http",
            ),
            (
                "type: file",
                "type: oci",
                "artifacts[0].origin: must be oci://",
            ),
            (
                "type: file",
                "type: file\n  action: copy_local",
                "artifacts[0].action: unknown field",
            ),
            (
                "origin: files/a",
                "origin: ''",
                "artifacts[0].origin: must not be empty",
            ),
            (
                "origin: files/a",
                "origin: https://f.example.com/a",
                "artifacts[0].origin: must be a path",
            ),
            (
                "origin: files/a",
                "origin: \"a\\tb\"",
                "line 6, column 3, artifacts[0].origin: must not contain control",
            ),
            (
                "target: a",
                "target: ../a",
                "line 7, column 3, artifacts[0].target: must not contain \"..\"",
            ),
            (
                "target: a",
                "target: .packgate/lock.json",
                "artifacts[0].target: must not start with .packgate",
            ),
            (
                "target: a",
                "target: a/",
                "artifacts[0].target: must name a file",
            ),
            (
                "target: a",
                "target: 'a\\b'",
                "artifacts[0].target: must not contain a backslash",
            ),
            (
                "target: a",
                "target: oci://r/x",
                "artifacts[0].target: must be a path, not a URL",
            ),
            (
                "target: a",
                "target: /",
                "artifacts[0].target: must not be empty",
            ),
            (
                "checksum: sha256:e3",
                "checksum: sha256:",
                "line 8, column 3, artifacts[0].checksum: must be \"sha256:\" and 64",
            ),
            (
                "checksum: sha256:e3",
                "checksum: SHA256:e3",
                "artifacts[0].checksum: must be",
            ),
            (
                "checksum: sha256:e3",
                "checksum: sha256:ß3",
                "artifacts[0].checksum: must be",
            ),
            (
                "checksum: sha256:",
                "checksum: ",
                "artifacts[0].checksum: must be",
            ),
            (
                "size: 0",
                "size: -1",
                "line 9, column 3, artifacts[0].size: must be a whole number",
            ),
            (
                "size: 0",
                "size: '0'",
                "artifacts[0].size: must be a whole number",
            ),
            (
                "size: 0",
                "size: 1.0",
                "artifacts[0].size: must be a whole number",
            ),
            (
                "size: 0",
                "size: 010",
                "artifacts[0].size: must be a whole number",
            ),
            (
                "size: 0",
                "size: 1_000",
                "artifacts[0].size: must be a whole number",
            ),
            (
                "size: 0",
                "size: 0x10",
                "artifacts[0].size: must be a whole number",
            ),
            (
                "size: 0",
                "size: 99999999999999999999",
                "artifacts[0].size: must be a whole number",
            ),
            (
                "size: 0",
                "size: 1099511627777",
                "artifacts[0].size: 1099511627777 is over the limit of 1099511627776",
            ),
            (
                "size: 0",
                "size: 0\n  mode: 0755",
                "artifacts[0].mode: must be \"0644\" or \"0755\", in quotes",
            ),
            (
                "size: 0",
                "size: 0\n  mode: '0777'",
                "artifacts[0].mode: must be",
            ),
            (
                "size: 0",
                "size: 0\n  unpack: yes",
                "artifacts[0].unpack: must be true or false",
            ),
            (
                "size: 0",
                "size: 0\n  unpack: 'true'",
                "artifacts[0].unpack: must be true or false",
            ),
            (
                "size: 0",
                "size: 0\n  compression: gzip",
                "artifacts[0].compression: is only allowed together with unpack: true",
            ),
            (
                "size: 0",
                "size: 0\n  unpack: false\n  compression: gzip",
                "artifacts[0].compression: is only allowed",
            ),
            (
                "size: 0",
                "size: 0\n  unpackedPath: x",
                "artifacts[0].unpackedPath: is only allowed together with unpack",
            ),
            (
                "size: 0",
                "size: 0\n  unpack: true\n  compression: xz",
                "artifacts[0].compression: must be one of gzip bzip2 zip",
            ),
            (
                "size: 0",
                "size: 0\n  unpack: true\n  unpackedPath: ../x",
                "artifacts[0].unpackedPath: must not contain \"..\"",
            ),
            (
                "size: 0",
                "size: 0\n  oci: {platform: linux/amd64}",
                "artifacts[0].oci: is only allowed together with type oci",
            ),
            (
                "size: 0",
                "size: 0\n  platforms: []",
                "artifacts[0].platforms: must have at least one",
            ),
            (
                "size: 0",
                "size: 0\n  platforms: linux/amd64",
                "artifacts[0].platforms: must be a list",
            ),
            (
                "size: 0",
                "size: 0\n  platforms: [linux]",
                "artifacts[0].platforms[0]: platform \"linux\" must be os/architecture",
            ),
            (
                "size: 0",
                "size: 0\n  platforms: [linux/amd64, linux/amd64]",
                "artifacts[0].platforms: \"linux/amd64\" is listed twice",
            ),
            ("artifacts:", "artifacts: []\nx:", "unknown field \"x\""),
        ],
        SMALL,
    );
    let none = SMALL.split("artifacts:").next().unwrap_or_default();
    expect_invalid("none", parse(none), "artifacts: is required");
    expect_invalid(
        "empty",
        parse(&format!("{none}artifacts: []\n")),
        "artifacts: must have at least one entry",
    );
    expect_invalid(
        "map",
        parse(&format!("{none}artifacts: {{}}\n")),
        "artifacts: must be a list",
    );
}

#[test]
fn entrypoint_images_and_layers_are_checked() {
    check(
        &[
            (
                "files/run.sh",
                "files/",
                "entrypoint.script: must not be empty",
            ),
            (
                "files/run.sh",
                "files/..",
                "entrypoint.script: must not contain \"..\"",
            ),
            (
                "files/run.sh",
                "https://f.example.com/run.sh",
                "entrypoint.script: must be a path",
            ),
            (
                "files/run.sh",
                "x/.packgate",
                "entrypoint.script: must not start with .packgate",
            ),
            (
                "size: 2669}",
                "size: 2669, uid: '1'}",
                "entrypoint.uid: unknown field",
            ),
            (
                "size: 2669}",
                "size: 1099511627777}",
                "entrypoint.size: 1099511627777 is over the limit",
            ),
            ("mode: \"0755\"", "mode: 0755", "entrypoint.mode: must be"),
            (
                "{platform: linux/amd64}",
                "{}",
                "artifacts[2].oci: must be exactly one of platform and blob",
            ),
            (
                "{platform: linux/amd64}",
                "{platform: linux/amd64, blob: sha256:0}",
                "artifacts[2].oci.blob: must be \"sha256:\"",
            ),
            (
                "{platform: linux/amd64}",
                "{tag: x}",
                "artifacts[2].oci.tag: unknown field",
            ),
            (
                "artifacts: 1,",
                "artifacts: 2,",
                "layers: counts 5 artifacts of linux/amd64, but the lock has 4",
            ),
            (
                "artifacts: 1,",
                "artifacts: 0,",
                "layers[0].artifacts: must be at least 1",
            ),
            (
                "artifacts: 1,",
                "artifacts: 18446744073709551615,",
                "layers: counts",
            ),
            (
                "size: 4608, platform: linux/amd64",
                "size: 4608",
                "layers[0].platform: is required",
            ),
            (
                "size: 4608, platform",
                "size: 4608, mediaType: x, platform",
                "layers[0].mediaType: unknown field",
            ),
            ("diffID", "diffId", "layers[0].diffId: unknown field"),
            (
                "https://f.example.com",
                "https://user:hunter2@f.example.com",
                "artifacts[1].origin: must not carry a user name or password",
            ),
            (
                "oci://r.example.com",
                "oci://user:hunter2@r.example.com",
                "artifacts[2].origin: must not carry a user name or password",
            ),
        ],
        FULL,
    );
    let error = parse(&FULL.replace("https://f", "https://user:hunter2@f")).expect_err("user info");
    assert!(
        !format!("{error} {error:?}").contains("hunter2"),
        "{error:?}"
    );
    let layers: String = (0..64)
        .map(|_| {
            "- {artifacts: 1, diffID: \
            sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855, size: 1}\n"
        })
        .collect();
    let lines: Vec<String> = (0..64)
        .map(|n| line(&format!("n{n}"), &format!("n{n}")))
        .collect();
    expect_invalid(
        "many",
        parse(&format!("{}layers:\n{layers}", with_artifacts(&lines))),
        "layers: has more than 63 layers",
    );
    let platforms: Vec<String> = (0..65).map(|n| format!("linux/a{n}")).collect();
    let many = SMALL.replace(
        "size: 0",
        &format!("size: 0\n  platforms: [{}]", platforms.join(", ")),
    );
    expect_invalid(
        "platforms",
        parse(&many),
        "artifacts[0].platforms: 65 is over the limit of 64",
    );
}

#[test]
fn names_and_targets_are_unique() {
    for (targets, part) in [
        (
            &["a", "/a"][..],
            "line 5, column 37, artifacts[1].target: \"a\" is the target of artifacts[0] already",
        ),
        (
            &["a", "a/b"],
            "artifacts[1].target: \"a/b\" and \"a\" of artifacts[0] cannot both exist",
        ),
        (
            &["a/b/c/d", "a/b"],
            "artifacts[1].target: \"a/b\" and \"a/b/c/d\" of artifacts[0] cannot both exist",
        ),
        (
            &["a", "a-b", "a.b", "a/b"],
            "artifacts[3].target: \"a/b\" and \"a\" of artifacts[0]",
        ),
        (
            &["a/b", "a-b", "a"],
            "artifacts[2].target: \"a\" and \"a/b\" of artifacts[0]",
        ),
        (&["d/a", "d/a!/x", "d/a/c"], "artifacts[2].target"),
    ] {
        let lines: Vec<String> = targets
            .iter()
            .enumerate()
            .map(|(n, target)| line(&format!("n{n}"), target))
            .collect();
        expect_invalid(&targets.join(" "), parse(&with_artifacts(&lines)), part);
    }
    for targets in [
        &["a", "ab", "a.b", "b/a"][..],
        &["a/b", "a/bc", "a/b.c", "A/b/c"],
    ] {
        let lines: Vec<String> = targets
            .iter()
            .enumerate()
            .map(|(n, target)| line(&format!("n{n}"), target))
            .collect();
        assert!(parse(&with_artifacts(&lines)).is_ok(), "{targets:?}");
    }
    let twins = with_artifacts(&[line("a", "x"), line("b", "y"), line("a", "z")]);
    expect_invalid(
        "names",
        parse(&twins),
        "line 6, column 4, artifacts[2].name: \"a\" is the name of artifacts[0] already",
    );
    check(
        &[
            (
                "opt/siem/install.sh",
                "run.sh",
                "line 6, column 14, entrypoint.script: \"run.sh\" is the target of artifacts[0] \
                    already",
            ),
            (
                "opt/siem/install.sh",
                "run.sh/x",
                "entrypoint.script: \"run.sh\" and \"run.sh/x\" of artifacts[0] cannot both exist",
            ),
        ],
        FULL,
    );
}

#[test]
fn every_field_of_conduits_is_checked() {
    check(
        &[
            (
                "name: siem",
                "name: siem\nsha256:",
                "line 4, column 1, sha256: unknown field \"sha256\"",
            ),
            (
                "name: siem",
                "name: siem\nlayers: []",
                "layers: unknown field",
            ),
            ("name: siem", "name: a b", "name: must have 1 to 128"),
            (
                "manifestHash: sha256:e3",
                "manifestHash: sha256:",
                "manifestHash: must be \"sha256:\"",
            ),
            ("manifestHash", "#", "manifestHash: is required"),
            (
                "action: pull",
                "action: download",
                "artifacts[0].action: must be one of pull push copy_local, not \"download\"",
            ),
            ("  action: pull\n", "", "artifacts[0].action: is required"),
            (
                "type: http",
                "type: s3",
                "artifacts[0].type: must be one of",
            ),
            (
                "target: /opt/a.tgz",
                "target: /opt/../a",
                "artifacts[0].target: must not contain \"..\"",
            ),
            (
                "  compression: gzip",
                "  compression: xz",
                "artifacts[0].compression: must be one of",
            ),
            (
                "  unpack: true\n",
                "",
                "artifacts[0].compression: is only allowed together with unpack",
            ),
            (
                "annotations: {team: {name: soc}, n: 1}",
                "annotations: [1]",
                "artifacts[0].annotations: must be a map",
            ),
            (
                "annotations: {team: {name: soc}, n: 1}",
                "annotations: {a: \"\\e\"}",
                "artifacts[0].annotations.a: must not contain control",
            ),
            (
                "retrievedFrom: https://m.example.com/a.tgz",
                "retrievedFrom: [a]",
                "artifacts[0].retrievedFrom: must be a string",
            ),
            (
                "originType: http",
                "originType: x",
                "artifacts[0].originType: must be one of",
            ),
            (
                "targetType: file",
                "targetType: http",
                "artifacts[0].targetType: must be one of file oci",
            ),
            (
                "targetPath: /opt/a.tgz",
                "targetPath: {}",
                "artifacts[0].targetPath: must be a string",
            ),
            (
                "targetRegistry: r.example.com",
                "targetRegistry: []",
                "artifacts[0].targetRegistry: must be a string",
            ),
            (
                "targetReference: x:1",
                "targetReference:",
                "artifacts[0].targetReference: must be a string",
            ),
            (
                "targetMediaType: application/x-tar",
                "mode: '0755'",
                "artifacts[0].mode: unknown field",
            ),
            ("mode: '0755'", "mode: '755'", "entrypoint.mode: must be"),
            ("mode: '0755', ", "", "entrypoint.mode: is required"),
            ("uid: ''", "uid: [0]", "entrypoint.uid: must be a string"),
            ("gid: ''", "group: ''", "entrypoint.group: unknown field"),
        ],
        CONDUIT,
    );
}

#[test]
fn json_errors_name_field_and_line_too() {
    let canonical = String::from_utf8(parse(SMALL).expect("valid").to_canonical().bytes)
        .expect("text")
        .replace("\",\"", "\",\n\"");
    for (from, to, part) in [
        (
            "\"type\":\"file\"",
            "\"type\":\"ftp\"",
            "line 7, column 1, artifacts[0].type: must be one of",
        ),
        (
            "\"size\":0",
            "\"size\":1e0",
            "artifacts[0].size: must be a whole number",
        ),
        (
            "\"size\":0",
            "\"size\":\"0\"",
            "artifacts[0].size: must be a whole number",
        ),
        (
            "\"size\":0",
            "\"size\":0,\"size\":0",
            "duplicate key \"size\"",
        ),
        (
            "\"size\":0",
            "\"size\":0,\"name\":1",
            "duplicate key \"name\"",
        ),
        (
            "\"kind\"",
            "\"version\":1.40,\"kind\"",
            "version: must be a string",
        ),
        (
            "\"kind\"",
            "\"name\":null,\"kind\"",
            "name: must be a string",
        ),
        (
            "\"kind\"",
            "\"layers\":null,\"kind\"",
            "layers: must be a list",
        ),
        (
            "\"mode\":\"0644\"",
            "\"mode\":644",
            "artifacts[0].mode: must be",
        ),
        (
            "\"mode\"",
            "\"unpack\":\"true\",\"mode\"",
            "artifacts[0].unpack: must be true or false",
        ),
    ] {
        assert!(canonical.contains(from), "{from}");
        expect_invalid(to, parse(&canonical.replacen(from, to, 1)), part);
    }
}

type Change = fn(&mut Lockfile);

#[test]
fn a_lock_made_in_code_is_checked_like_one_that_was_read() {
    let good = parse(FULL).expect("valid");
    assert_eq!(
        good.clone().into_checked(&InputLimits::DEFAULT).as_ref(),
        Ok(&good)
    );
    let changes: [(&str, Change); 9] = [
        ("name: must", |lock| lock.name = Some("a b".into())),
        ("version: must not contain control", |lock| {
            lock.version = Some("1\n".into());
        }),
        ("version: must have at most 128", |lock| {
            lock.version = Some("1".repeat(129));
        }),
        ("entrypoint.script: must be the base name", |lock| {
            lock.entrypoint
                .iter_mut()
                .for_each(|e| e.script = "x/y.sh".into());
        }),
        ("artifacts[0].origin: must not contain control", |lock| {
            lock.artifacts.iter_mut().for_each(|a| a.origin.push('\n'));
        }),
        ("artifacts[0].origin: must have at most", |lock| {
            lock.artifacts
                .iter_mut()
                .for_each(|a| a.origin = "x".repeat(5_000));
        }),
        ("artifacts: must have at least one", |lock| {
            lock.artifacts.clear();
        }),
        ("artifacts[1].name: \"x\" is the name", |lock| {
            lock.artifacts.iter_mut().for_each(|a| a.name = "x".into());
        }),
        ("layers: counts 1", |lock| lock.layers.truncate(1)),
    ];
    for (part, change) in changes {
        let mut lock = good.clone();
        change(&mut lock);
        expect_invalid(part, lock.into_checked(&InputLimits::DEFAULT), part);
    }
    let mut huge = good;
    huge.artifacts.iter_mut().for_each(|a| a.size = 1 << 53);
    let endless = InputLimits {
        artifact_bytes: u64::MAX,
        ..InputLimits::DEFAULT
    };
    expect_invalid(
        "inexact in JSON",
        huge.into_checked(&endless),
        "artifacts[0].size: 9007199254740992 is over the limit of 9007199254740991",
    );
}

#[test]
fn pinned_bytes_must_match() {
    let draft = DraftArtifact {
        checksum: Some(Digest::of_bytes(b"a")),
        size: Some(1),
        ..DraftArtifact::from(&parse(FULL).expect("valid").artifacts[0])
    };
    let error = draft
        .clone()
        .into_locked(Digest::of_bytes(b"b"), 1, None)
        .expect_err("other bytes");
    assert_eq!(
        (error.reason(), error.class()),
        (Reason::ChecksumMismatch, Class::Corrupt)
    );
    let error = draft
        .clone()
        .into_locked(Digest::of_bytes(b"a"), 2, None)
        .expect_err("other size");
    assert_eq!(
        (error.reason(), error.class()),
        (Reason::SizeMismatch, Class::Corrupt)
    );
    let artifact = draft
        .into_locked(Digest::of_bytes(b"a"), 1, Some("other".into()))
        .expect("as pinned");
    assert_eq!(
        (artifact.origin.as_str(), artifact.checksum, artifact.size),
        ("other", Digest::of_bytes(b"a"), 1)
    );

    let entrypoint = DraftEntrypoint {
        checksum: Some(Digest::of_bytes(b"a")),
        size: Some(1),
        ..DraftEntrypoint::from(
            parse(FULL)
                .expect("valid")
                .entrypoint
                .as_ref()
                .expect("there"),
        )
    };
    let error = entrypoint
        .clone()
        .into_locked(Digest::of_bytes(b"b"), 1)
        .expect_err("other bytes");
    assert_eq!(error.reason(), Reason::ChecksumMismatch);
    assert!(entrypoint.into_locked(Digest::of_bytes(b"a"), 1).is_ok());
}
