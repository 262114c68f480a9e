use super::*;
use crate::core::{digest::Digest, oci::Platform};

#[test]
fn the_example_says_what_it_says() {
    let lock = parse(FULL).expect("valid");
    assert_eq!(
        (
            lock.generation,
            lock.name.as_deref(),
            lock.version.as_deref()
        ),
        (LockfileGeneration::Packgate, Some("siem"), Some("1.4.0"))
    );
    let entrypoint = lock.entrypoint.as_ref().expect("there");
    assert_eq!(
        (
            entrypoint.script.as_str(),
            entrypoint.target.as_str(),
            entrypoint.mode
        ),
        ("files/run.sh", "run.sh", BundleFileMode::Executable)
    );
    let [install, rules, pg] = lock.artifacts.as_slice() else {
        panic!("three artifacts")
    };
    assert_eq!(
        (install.mode, install.size, install.checksum),
        (BundleFileMode::Executable, 2_669, Digest::of_bytes(b""))
    );
    let unpack = rules.unpack.as_ref().expect("there");
    assert_eq!(
        (rules.mode, unpack.compression),
        (BundleFileMode::Plain, Some(ArchiveCompression::Gzip))
    );
    assert_eq!(
        unpack.path.as_ref().map(ToString::to_string).as_deref(),
        Some("opt/rules")
    );
    assert_eq!(
        pg.oci,
        Some(OciSelection::Platform(Platform::linux_amd64()))
    );
    assert_eq!(pg.platforms, [Platform::linux_amd64()]);
    assert_eq!(
        pg.oci_reference().and_then(|r| r.digest),
        Some(Digest::of_bytes(b"{}"))
    );
    assert_eq!(
        lock.layers
            .iter()
            .map(|layer| layer.artifacts)
            .collect::<Vec<_>>(),
        [1, 3]
    );
    lock.check_packable(false).expect("all of it can be packed");
}

#[test]
fn conduits_lock_is_read_as_it_is() {
    let lock = parse(CONDUIT).expect("valid");
    assert_eq!(
        (lock.generation, lock.version.as_deref()),
        (LockfileGeneration::Conduit, Some("latest"))
    );
    assert_eq!(
        lock.entrypoint.as_ref().map(|e| (e.checksum, e.mode)),
        Some((Digest::of_bytes(b""), BundleFileMode::Executable))
    );
    let artifact = lock.artifacts.first().expect("one");
    assert_eq!(
        (artifact.target.as_str(), artifact.mode),
        ("opt/a.tgz", BundleFileMode::Plain)
    );
    assert_eq!(
        artifact
            .unpack
            .as_ref()
            .and_then(|u| u.path.as_ref())
            .map(ToString::to_string)
            .as_deref(),
        Some("opt/a")
    );

    let kinds = ["ConduitLockFile", "BundleLockFile", "ManifestLock"];
    for kind in kinds {
        assert!(parse(&CONDUIT.replace("LockFile", kind)).is_ok(), "{kind}");
    }
    let older = CONDUIT
        .replace("name: siem\nversion: latest\n", "")
        .replace(
            "conduit.warrical.com/next",
            "github.com/wixregiga/conduit/next",
        );
    let older = parse(&older).expect("older locks are read");
    assert_eq!(
        (older.name, older.version),
        (None, None),
        "no title is invented"
    );
    let null = CONDUIT
        .lines()
        .map(|l| {
            if l.starts_with("entrypoint") {
                "entrypoint: null"
            } else {
                l
            }
        })
        .collect::<Vec<_>>()
        .join("\n");
    assert_eq!(parse(&null).expect("valid").entrypoint, None);
}

#[test]
fn bare_words_stay_the_text_that_was_written() {
    for (written, read) in [
        ("1.40", "1.40"),
        ("0x10", "0x10"),
        ("yes", "yes"),
        ("true", "true"),
        ("1e3", "1e3"),
        ("'null'", "null"),
        ("\"\\u00e4\"", "ä"),
    ] {
        let text = SMALL.replace(
            "kind: Lockfile",
            &format!("kind: Lockfile\nversion: {written}"),
        );
        assert_eq!(
            parse(&text).expect(written).version.as_deref(),
            Some(read),
            "{written}"
        );
    }
}

#[test]
fn spellings_that_mean_the_same_are_read_alike() {
    let plain = parse(SMALL).expect("valid");
    for (label, text) in [
        ("document start", format!("---\n{SMALL}")),
        ("document end", format!("{SMALL}...\n")),
        ("comments", SMALL.replace('\n', " # x\n")),
        ("line ends", SMALL.replace('\n', "\r\n")),
        ("byte order mark", format!("\u{feff}{SMALL}")),
        (
            "upper-case digest",
            SMALL.replace("e3b0c44298fc", "E3B0C44298FC"),
        ),
        (
            "quoted keys",
            SMALL.replace("target: a", "\"target\": \"a\""),
        ),
        (
            "uncleaned target",
            SMALL.replace("target: a", "target: /.//a"),
        ),
        (
            "default mode",
            SMALL.replace("size: 0", "size: 0\n  mode: \"0644\""),
        ),
        (
            "no unpack",
            SMALL.replace("size: 0", "size: 0\n  unpack: false"),
        ),
        (
            "pack format",
            SMALL.replace("kind: Lockfile", "kind: Lockfile\npackFormat: \"1\""),
        ),
        ("no layers", format!("{SMALL}layers: []\n")),
        (
            "block text",
            SMALL.replace("target: a", "target: >-\n    a"),
        ),
    ] {
        assert_eq!(parse(&text).as_ref(), Ok(&plain), "{label}");
    }
}

#[test]
fn json_is_read_as_json() {
    let canonical =
        String::from_utf8(parse(FULL).expect("valid").to_canonical().bytes).expect("text");
    let mut expected = parse(FULL).expect("valid");
    expected.layers.clear();
    for (label, text) in [
        ("compact", canonical.clone()),
        ("spaced", canonical.replace(',', ",\n\t")),
        ("escaped key", canonical.replace("kind", "\\u006bind")),
    ] {
        assert_eq!(parse(&text).as_ref(), Ok(&expected), "{label}");
    }
    let pair = canonical.replace("1.4.0", "\\ud83d\\ude00");
    assert_eq!(
        parse(&pair)
            .expect("a surrogate pair is one character")
            .version
            .as_deref(),
        Some("😀")
    );
    let flow = SMALL.lines().take(2).collect::<Vec<_>>().join(", ");
    let entry = line("a", "a").replacen("- ", "", 1);
    assert!(
        parse(&format!("{{{flow}, artifacts: [{entry}]}}")).is_ok(),
        "a YAML map in braces is YAML"
    );
}

#[test]
fn a_lock_as_large_as_the_limits_is_read_quickly() {
    let lines: Vec<String> = (0..10_000)
        .map(|n| line(&format!("n{n}"), &format!("d/{n}")))
        .collect();
    let limits = InputLimits::DEFAULT;
    let lock = Lockfile::parse(with_artifacts(&lines).as_bytes(), &limits).expect("at the limit");
    assert_eq!(lock.artifacts.len(), 10_000);
}

/// As many artifacts as a lock may have fit into the bytes that it may have, with names of ordinary
/// lengths, as a file and in the canonical form.
#[test]
fn the_limits_of_a_lock_agree() {
    let limits = InputLimits::DEFAULT;
    let origin = |n: usize| format!("https://files.example.com/releases/v1.4.0/rules-{n:05}.yaml");
    let lines: Vec<String> = (0..limits.artifacts)
        .map(|n| {
            line(
                &format!("rules-{n:05}"),
                &format!("opt/siem/rules-{n:05}.yaml"),
            )
            .replace(
                "type: file, origin: x",
                &format!("type: http, origin: \"{}\"", origin(n)),
            )
        })
        .collect();
    let lock = Lockfile::parse(with_artifacts(&lines).as_bytes(), &limits).expect("it fits");
    assert_eq!(lock.artifacts.len(), limits.artifacts);
    let written = Lockfile::parse(lock.to_yaml().as_bytes(), &limits).expect("it fits as written");
    let canonical = written.to_canonical();
    Lockfile::from_canonical(&canonical.bytes, &limits).expect("it fits into a bundle");
}

#[test]
fn layers_are_counted_per_platform() {
    let common = line("all", "all");
    let arm = line("arm", "arm").replace(
        "size: 1}",
        "size: 1, platforms: [linux/arm64, linux/amd64]}",
    );
    let amd = line("amd", "amd").replace("size: 1}", "size: 1, platforms: [linux/amd64]}");
    let layer = |count: u32, platform: &str| {
        format!(
            "- {{artifacts: {count}, diffID: \
                sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855, size: 1, \
                platform: {platform}}}\n"
        )
    };
    let lock = with_artifacts(&[common, arm, amd]);
    let right = format!(
        "{lock}layers:\n{}{}{}",
        layer(2, "linux/arm64"),
        layer(1, "linux/amd64"),
        layer(2, "linux/amd64")
    );
    assert_eq!(parse(&right).expect("adds up").layers.len(), 3);
    let short = format!(
        "{lock}layers:\n{}{}",
        layer(2, "linux/arm64"),
        layer(2, "linux/amd64")
    );
    expect_invalid(
        "one is missing",
        parse(&short),
        "counts 2 artifacts of linux/amd64, but the lock has 3",
    );
    let stranger = format!("{lock}layers:\n{}", layer(2, "linux/s390x"));
    expect_invalid(
        "unknown platform",
        parse(&stranger),
        "layers[0].platform: is not a platform",
    );
}

#[test]
fn images_are_packed_only_where_a_digest_ties_them_to_the_registry() {
    let ours = parse(FULL).expect("valid");
    assert_eq!(ours.find_unverifiable_oci(), None);
    let mut tag = ours.clone();
    for artifact in &mut tag.artifacts {
        artifact.origin = artifact
            .origin
            .split('@')
            .next()
            .unwrap_or_default()
            .to_owned();
    }
    let mut theirs = ours;
    theirs.generation = LockfileGeneration::Conduit;
    for (label, lock) in [("without digest", tag), ("of Conduit", theirs)] {
        assert_eq!(
            lock.find_unverifiable_oci().map(|a| a.name.as_str()),
            Some("pg"),
            "{label}"
        );
        let error = lock.check_packable(false).expect_err(label);
        assert_eq!(
            (error.reason(), error.class()),
            (Reason::UnverifiableOci, Class::Invalid),
            "{label}"
        );
        assert!(
            error.to_string().contains("packgate lock --update"),
            "{label}: {error}"
        );
    }
}

#[test]
fn files_outside_are_packed_only_when_allowed() {
    for (label, text, field) in [
        (
            "artifact",
            SMALL.replace("files/a", "../../a"),
            "artifacts[0].origin",
        ),
        (
            "absolute",
            SMALL.replace("files/a", "/etc/passwd"),
            "artifacts[0].origin",
        ),
        (
            "entrypoint",
            FULL.replace("files/run.sh", "x/../../run.sh"),
            "entrypoint.script",
        ),
    ] {
        let lock = parse(&text).expect("well-formed");
        let error = lock.check_packable(false).expect_err(label);
        assert_eq!(error.reason(), Reason::InvalidLock, "{label}");
        assert!(
            error.to_string().starts_with(field) && error.to_string().contains("--allow-outside"),
            "{label}: {error}"
        );
        assert_eq!(lock.check_packable(true), Ok(()), "{label}");
    }
}
