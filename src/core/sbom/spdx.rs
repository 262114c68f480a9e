//! SPDX 2.3 in JSON (spdx-spec 2.3, schemas/spdx-schema.json): a package for the bundle, and a file
//! for each artifact.
//!
//! A lock knows SHA-256 only, so there are no SHA-1 checksums, and without them no package
//! verification code (clause 7.9).

use serde_json::{Value, json};

use super::{Bill, File};

const BUNDLE: &str = "SPDXRef-Bundle";
const DOCUMENT: &str = "SPDXRef-DOCUMENT";
const NOBODY_SAYS: &str = "NOASSERTION";

pub(super) fn document(bill: &Bill<'_>) -> Value {
    let files = bill.files();
    let contains = (1..=files.len()).map(|number| relationship(BUNDLE, "CONTAINS", &id(number)));
    let relationships: Vec<Value> = std::iter::once(relationship(DOCUMENT, "DESCRIBES", BUNDLE))
        .chain(contains)
        .collect();
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": DOCUMENT,
        "name": bill.name(),
        "documentNamespace": namespace(bill),
        "creationInfo": {"created": bill.created, "creators": ["Tool: packgate"]},
        "packages": [package(bill)],
        "files": files.iter().zip(1..).map(|(entry, number)| file(entry,
            number)).collect::<Vec<_>>(),
        "relationships": relationships,
    })
}

/// Two documents that differ have two namespaces (clause 6.5).
fn namespace(bill: &Bill<'_>) -> String {
    let epoch = bill
        .epoch
        .map(|seconds| format!("/{seconds}"))
        .unwrap_or_default();
    format!("https://packgate.dev/spdx/{}{epoch}", bill.digest.hex())
}

fn package(bill: &Bill<'_>) -> Value {
    let mut package = json!({
        "SPDXID": BUNDLE,
        "name": bill.name(),
        "downloadLocation": NOBODY_SAYS,
        "filesAnalyzed": false,
        "licenseConcluded": NOBODY_SAYS,
        "licenseDeclared": NOBODY_SAYS,
        "copyrightText": NOBODY_SAYS,
        "supplier": NOBODY_SAYS,
        "primaryPackagePurpose": "ARCHIVE",
        "comment": format!("lock: {}", bill.digest),
    });
    if let Some(version) = &bill.lock.version {
        package["versionInfo"] = version.as_str().into();
    }
    package
}

fn file(file: &File<'_>, number: usize) -> Value {
    let comment: Vec<String> = file
        .facts()
        .into_iter()
        .map(|(key, value)| format!("{key}: {value}"))
        .collect();
    json!({
        "SPDXID": id(number),
        "fileName": format!("./{}", file.target),
        "checksums": [{"algorithm": "SHA256", "checksumValue": file.checksum.hex()}],
        "licenseConcluded": NOBODY_SAYS,
        "copyrightText": NOBODY_SAYS,
        "comment": comment.join("\n"),
    })
}

fn id(number: usize) -> String {
    format!("SPDXRef-File-{number}")
}

fn relationship(from: &str, kind: &str, to: &str) -> Value {
    json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to})
}
