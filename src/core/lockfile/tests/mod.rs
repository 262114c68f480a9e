//! Tables from bytes to a checked lock, and shared helpers.

mod accepted;
mod canonical;
mod conduit_files;
mod manifests;
mod properties;
mod refused;

use super::*;
use crate::core::reason::{Class, ClassifiedError, Reason};

/// An example with every field.
pub(super) const FULL: &str = r#"apiVersion: packgate.dev/v1alpha1
kind: Lockfile
name: siem  # optional
version: 1.4.0
packFormat: "1"
entrypoint: {script: files/run.sh, mode: "0755", checksum: "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", size: 2669}
artifacts:
- name: install
  type: file
  origin: files/install.sh
  target: opt/siem/install.sh
  checksum: "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
  size: 2669
  mode: "0755"
- {name: rules, type: http, origin: "https://f.example.com/rules.tgz", target: opt/rules.tgz, checksum: "sha256:fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9", size: 9120,
   unpack: true, compression: gzip, unpackedPath: opt/rules}
- {name: pg, type: oci, origin: "oci://r.example.com/pg:17@sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", target: images/pg.tar, checksum: "sha256:baa5a0964d3320fbc0c6a922140453c8513ea24ab8fd0577034804a967248096", size: 15360,
   oci: {platform: linux/amd64}, platforms: [linux/amd64]}
layers:
- {artifacts: 1, diffID: "sha256:486ea46224d1bb4fb680f34f7c9ad96a8f24ec88be73ea8e5a6c65260e9cb8a7", size: 4608, platform: linux/amd64}
- {artifacts: 3, diffID: "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", size: 30720, platform: linux/amd64}
"#;

/// The smallest lock of packgate's format.
pub(super) const SMALL: &str = r"apiVersion: packgate.dev/v1alpha1
kind: Lockfile
artifacts:
- name: a
  type: file
  origin: files/a
  target: a
  checksum: sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
  size: 0
";

/// A lock of Conduit's with every field.
pub(super) const CONDUIT: &str = r"apiVersion: conduit.warrical.com/next
kind: LockFile
name: siem
version: latest
entrypoint: {script: files/run.sh, mode: '0755', checksum: sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855, size: 0, uid: '', gid: ''}
manifestHash: sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
artifacts:
- name: a
  type: http
  action: pull
  origin: https://f.example.com/a.tgz
  target: /opt/a.tgz
  checksum: sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
  size: 0
  unpack: true
  compression: gzip
  unpackedPath: opt/a/
  retrievedFrom: https://m.example.com/a.tgz
  annotations: {team: {name: soc}, n: 1}
  originType: http
  targetType: file
  targetPath: /opt/a.tgz
  targetRegistry: r.example.com
  targetReference: x:1
  targetMediaType: application/x-tar
";

pub(super) fn parse(text: &str) -> Result<Lockfile, LockfileError> {
    Lockfile::parse(text.as_bytes(), &InputLimits::DEFAULT)
}

/// A lock of ours with these artifact lines instead.
pub(super) fn with_artifacts(lines: &[String]) -> String {
    let head = SMALL.split("- name").next().unwrap_or_default();
    format!("{head}{}\n", lines.join("\n"))
}

/// One artifact as a line.
pub(super) fn line(name: &str, target: &str) -> String {
    let checksum = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    format!(
        "- {{name: {name}, type: file, origin: x, target: {target}, checksum: {checksum}, size: 1}}"
    )
}

pub(super) fn expect_invalid(
    label: &str,
    result: Result<impl std::fmt::Debug, LockfileError>,
    part: &str,
) {
    let error = result.expect_err(label);
    assert_eq!(
        (error.reason(), error.class()),
        (Reason::InvalidLock, Class::Invalid),
        "{label}: {error}"
    );
    assert!(
        error.to_string().contains(part),
        "{label}: {error}, expected {part:?}"
    );
}
