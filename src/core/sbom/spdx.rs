//! SPDX 2.3 in JSON (spdx-spec 2.3, schemas/spdx-schema.json): a package for the bundle, and a file
//! for each artifact.
//!
//! A lock has SHA-256 digests only, so there are no SHA-1 checksums, and without them no package
//! verification code (clause 7.9).

use serde_json::{Value, json};

use super::{SbomFile, SbomInput};

const BUNDLE: &str = "SPDXRef-Bundle";
const DOCUMENT: &str = "SPDXRef-DOCUMENT";
const NO_ASSERTION: &str = "NOASSERTION";

pub(super) fn spdx_document(bill: &SbomInput<'_>) -> Value {
    let files = bill.list_files();
    let contains = (1..=files.len())
        .map(|number| spdx_relationship(BUNDLE, "CONTAINS", &spdx_file_id(number)));
    let relationships: Vec<Value> =
        std::iter::once(spdx_relationship(DOCUMENT, "DESCRIBES", BUNDLE))
            .chain(contains)
            .collect();
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": DOCUMENT,
        "name": bill.bundle_name(),
        "documentNamespace": document_namespace(bill),
        "creationInfo": {"created": bill.created, "creators": ["Tool: packgate"]},
        "packages": [bundle_package(bill)],
        "files": files.iter().zip(1..).map(|(entry, number)| spdx_file(entry,
            number)).collect::<Vec<_>>(),
        "relationships": relationships,
    })
}

/// Different documents have different namespaces (clause 6.5).
fn document_namespace(bill: &SbomInput<'_>) -> String {
    let epoch = bill
        .epoch
        .map(|seconds| format!("/{seconds}"))
        .unwrap_or_default();
    format!(
        "https://packgate.dev/spdx/{}{epoch}",
        bill.digest.hex_digits()
    )
}

fn bundle_package(bill: &SbomInput<'_>) -> Value {
    let mut package = json!({
        "SPDXID": BUNDLE,
        "name": bill.bundle_name(),
        "downloadLocation": NO_ASSERTION,
        "filesAnalyzed": false,
        "licenseConcluded": NO_ASSERTION,
        "licenseDeclared": NO_ASSERTION,
        "copyrightText": NO_ASSERTION,
        "supplier": NO_ASSERTION,
        "primaryPackagePurpose": "ARCHIVE",
        "comment": format!("lock: {}", bill.digest),
    });
    if let Some(version) = &bill.lock.version {
        package["versionInfo"] = version.as_str().into();
    }
    package
}

fn spdx_file(file: &SbomFile<'_>, number: usize) -> Value {
    let comment: Vec<String> = file
        .extra_properties()
        .into_iter()
        .map(|(key, value)| format!("{key}: {value}"))
        .collect();
    json!({
        "SPDXID": spdx_file_id(number),
        "fileName": format!("./{}", file.target),
        "checksums": [{"algorithm": "SHA256", "checksumValue": file.checksum.hex_digits()}],
        "licenseConcluded": NO_ASSERTION,
        "copyrightText": NO_ASSERTION,
        "comment": comment.join("\n"),
    })
}

fn spdx_file_id(number: usize) -> String {
    format!("SPDXRef-File-{number}")
}

fn spdx_relationship(from: &str, kind: &str, to: &str) -> Value {
    json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to})
}
