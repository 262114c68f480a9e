use super::*;

/// Frozen: a change of one byte renames every lock that exists.
const GOLDEN: &str = concat!(
    r#"{"apiVersion":"packgate.dev/v1alpha1","artifacts":[{"checksum":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","#,
    r#""mode":"0755","name":"install","origin":"files/install.sh","size":2669,"target":"opt/siem/install.sh","type":"file"},"#,
    r#"{"checksum":"sha256:fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9","compression":"gzip","mode":"0644","name":"rules","#,
    r#""origin":"https://f.example.com/rules.tgz","size":9120,"target":"opt/rules.tgz","type":"http","unpack":true,"unpackedPath":"opt/rules"},"#,
    r#"{"checksum":"sha256:baa5a0964d3320fbc0c6a922140453c8513ea24ab8fd0577034804a967248096","mode":"0644","name":"pg","#,
    r#""oci":{"platform":"linux/amd64"},"origin":"oci://r.example.com/pg:17@sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","#,
    r#""platforms":["linux/amd64"],"size":15360,"target":"images/pg.tar","type":"oci"}],"#,
    r#""entrypoint":{"checksum":"sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae","mode":"0755","script":"files/run.sh","size":2669},"#,
    r#""kind":"Lockfile","name":"siem","packFormat":"1","version":"1.4.0"}"#
);
const GOLDEN_DIGEST: &str =
    "sha256:75e3eb6041165dc7ce60044760f7434c6307be6a2b2e6da9a67cb4c2443439a9";

#[test]
fn the_canonical_form_is_frozen() {
    let canonical = parse(FULL).expect("valid").to_canonical();
    assert_eq!(String::from_utf8_lossy(&canonical.bytes), GOLDEN);
    assert_eq!(canonical.digest.to_string(), GOLDEN_DIGEST);
}

#[test]
fn spelling_and_order_of_keys_do_not_matter() {
    let shuffled = r#"
layers: []
artifacts:
- {mode: '0755', size: 2669, checksum: "sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855", target: /opt//siem/./install.sh, origin: files/install.sh, type: file, name: install}
- unpackedPath: ./opt/rules/
  compression: gzip
  unpack: true
  size: 9120
  checksum: sha256:fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9
  target: opt/rules.tgz
  origin: https://f.example.com/rules.tgz
  mode: "0644"
  type: http
  name: rules
- platforms: [linux/amd64]
  oci: {platform: linux/amd64}
  size: 15360
  name: pg
  type: oci
  origin: oci://r.example.com/pg:17@sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a
  target: images/pg.tar
  checksum: sha256:baa5a0964d3320fbc0c6a922140453c8513ea24ab8fd0577034804a967248096
version: "1.4.0"
name: siem
kind: Lockfile
entrypoint:
  size: 2669
  mode: '0755'
  checksum: sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
  script: files/run.sh
apiVersion: packgate.dev/v1alpha1
"#;
    assert_eq!(
        parse(shuffled)
            .expect("valid")
            .to_canonical()
            .digest
            .to_string(),
        GOLDEN_DIGEST
    );
}

#[test]
fn conduits_lock_takes_our_canonical_form() {
    let canonical = parse(CONDUIT).expect("valid").to_canonical();
    let text = String::from_utf8_lossy(&canonical.bytes).into_owned();
    assert!(
        text.starts_with(r#"{"apiVersion":"packgate.dev/v1alpha1","#),
        "{text}"
    );
    for dropped in [
        "retrievedFrom",
        "manifestHash",
        "action",
        "annotations",
        "uid",
        "targetPath",
        "conduit",
    ] {
        assert!(!text.contains(dropped), "{dropped}: {text}");
    }
    let elsewhere = CONDUIT
        .replace("m.example.com", "elsewhere.example.com")
        .replace("team: {name: soc}", "team: {name: noc}");
    assert_eq!(
        parse(&elsewhere).expect("valid").to_canonical(),
        canonical,
        "volatile fields are no part of it"
    );
}

#[test]
fn order_and_origins_are_part_of_the_identity() {
    let lock = parse(FULL).expect("valid");
    let mut swapped = lock.clone();
    swapped.artifacts.swap(0, 1);
    assert_ne!(swapped.to_canonical().digest, lock.to_canonical().digest);
    let mut moved = lock.clone();
    moved
        .artifacts
        .iter_mut()
        .for_each(|a| a.origin = format!("./{}", a.origin));
    assert_ne!(
        moved.to_canonical().digest,
        lock.to_canonical().digest,
        "origins count as they are written"
    );
    let mut unlayered = lock.clone();
    unlayered.layers.clear();
    assert_eq!(
        unlayered.to_canonical(),
        lock.to_canonical(),
        "recorded layers do not count"
    );
}

#[test]
fn only_exactly_canonical_bytes_are_read_back() {
    let lock =
        Lockfile::from_canonical(GOLDEN.as_bytes(), &InputLimits::DEFAULT).expect("canonical");
    assert_eq!(lock.to_canonical().bytes, GOLDEN.as_bytes());
    for (label, text) in [
        ("newline", format!("{GOLDEN}\n")),
        ("space", GOLDEN.replacen(':', ": ", 1)),
        ("escape", GOLDEN.replacen("siem", "\\u0073iem", 1)),
        (
            "uncleaned target",
            GOLDEN.replacen("images/pg.tar", "/images/pg.tar", 1),
        ),
        (
            "upper-case digest",
            GOLDEN.replacen("e3b0c44298fc", "E3B0C44298FC", 1),
        ),
        ("no mode", GOLDEN.replacen(r#""mode":"0644","#, "", 1)),
        (
            "false",
            GOLDEN.replacen(r#""type":"file""#, r#""type":"file","unpack":false"#, 1),
        ),
        (
            "order",
            GOLDEN.replacen(
                r#""size":2669,"target":"opt/siem/install.sh""#,
                r#""target":"opt/siem/install.sh","size":2669"#,
                1,
            ),
        ),
        (
            "layers",
            GOLDEN.replacen(
                r#""kind":"Lockfile","#,
                r#""kind":"Lockfile","layers":[],"#,
                1,
            ),
        ),
        ("YAML", FULL.to_owned()),
    ] {
        assert_ne!(text, GOLDEN, "{label}");
        let error =
            Lockfile::from_canonical(text.as_bytes(), &InputLimits::DEFAULT).expect_err(label);
        assert_eq!(error, LockfileError::NotCanonical, "{label}");
        assert_eq!(error.reason(), Reason::InvalidLock);
    }
    let conduit = Lockfile::from_canonical(CONDUIT.as_bytes(), &InputLimits::DEFAULT);
    assert_eq!(conduit, Err(LockfileError::NotCanonical));
}

#[test]
fn credentials_in_origins_are_not_part_of_it() {
    let with = |query: &str| FULL.replace("com/rules.tgz\"", &format!("com/rules.tgz{query}\""));
    let signed = with("?X-Amz-Expires=1&X-Amz-Signature=hunter2");
    assert_ne!(signed, FULL, "the example has no such origin any more");
    let (lock, plain) = (parse(&signed).expect("valid"), parse(FULL).expect("valid"));
    assert_eq!(lock.to_canonical(), plain.to_canonical());
    let told: Vec<_> = lock
        .signed_origins()
        .map(|(index, artifact, signed)| (index, artifact.name.as_str(), signed.parameter()))
        .collect();
    assert_eq!(told, [(1, "rules", "X-Amz-Expires".to_owned())]);
    assert!(!format!("{lock:?}").contains("hunter2"), "it prints");
    assert!(
        lock.artifacts[1].fetch_origin().ends_with("hunter2"),
        "whoever packs needs it"
    );
    assert_eq!(
        Lockfile::parse(lock.to_yaml().as_bytes(), &InputLimits::DEFAULT),
        Ok(lock),
        "the lockfile keeps it"
    );
    // A query that is no credential selects content, and is part of what was locked.
    assert_ne!(
        parse(&with("?version=2")).expect("valid").to_canonical(),
        plain.to_canonical()
    );
}

/// Bundles of releases that published them are still read, byte for byte.
#[test]
fn a_published_credential_stays_in_the_bytes_of_its_bundle() {
    let old = GOLDEN.replace(
        "example.com/rules.tgz\"",
        "example.com/rules.tgz?sig=published\"",
    );
    assert_ne!(old, GOLDEN, "the golden lock has no such origin any more");
    let lock = Lockfile::from_canonical(old.as_bytes(), &InputLimits::DEFAULT).expect("canonical");
    assert_eq!(lock.to_canonical().bytes, old.as_bytes());
}
