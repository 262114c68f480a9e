//! `CycloneDX` 1.6 in JSON (ECMA-424, bom-1.6.schema.json): a component of type `file` for each
//! artifact.

use std::fmt::Write;

use serde_json::{Value, json};
use url::{Position, Url};

use super::{SbomFile, SbomInput};
use crate::core::digest::Digest;

const BUNDLE: &str = "bundle";

pub(super) fn cyclonedx_document(bill: &SbomInput<'_>) -> Value {
    let files = bill.list_files();
    let ids: Vec<String> = (1..=files.len()).map(file_ref).collect();
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": serial_number(bill),
        "version": 1,
        "metadata": {
            "timestamp": bill.created,
            "tools": {"components": [{"type": "application", "name": "packgate"}]},
            "component": bundle_component(bill),
        },
        "components": files.iter().zip(1..).map(|(file, number)| file_component(file,
            number)).collect::<Vec<_>>(),
        "dependencies": [{"ref": BUNDLE, "dependsOn": ids}],
    })
}

/// A UUID of version 8 (RFC 9562), whose bits are the lock's digest. With an epoch, of both:
/// different documents have different numbers.
fn serial_number(bill: &SbomInput<'_>) -> String {
    let digest = bill.epoch.map_or(bill.digest, |seconds| {
        Digest::of_bytes(format!("{}/{seconds}", bill.digest).as_bytes())
    });
    let hex = digest.hex_digits();
    // The two highest bits of the variant are 10.
    let variant = char::from_digit(
        hex[16..17]
            .chars()
            .next()
            .and_then(|digit| digit.to_digit(16))
            .unwrap_or_default()
            & 3
            | 8,
        16,
    );
    format!(
        "urn:uuid:{}-{}-8{}-{}{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[13..16],
        variant.unwrap_or('8'),
        &hex[17..20],
        &hex[20..32]
    )
}

fn bundle_component(bill: &SbomInput<'_>) -> Value {
    let mut component = json!({
        "type": "container",
        "bom-ref": BUNDLE,
        "name": bill.bundle_name(),
        "properties": [packgate_property("lock", &bill.digest.to_string())],
    });
    if let Some(version) = &bill.lock.version {
        component["version"] = version.as_str().into();
    }
    component
}

fn file_component(file: &SbomFile<'_>, number: usize) -> Value {
    let facts = file
        .extra_properties()
        .into_iter()
        .map(|(key, value)| packgate_property(key, &value))
        .collect::<Vec<_>>();
    let mut component = json!({
        "type": "file",
        "bom-ref": file_ref(number),
        "name": file.target,
        "hashes": [{"alg": "SHA-256", "content": file.checksum.hex_digits()}],
        "properties": facts,
    });
    // A path is meaningless to other readers, and the schema requires a URI.
    if file.kind != "file"
        && let Ok(url) = Url::parse(file.origin)
    {
        component["externalReferences"] =
            json!([{"type": "distribution", "url": escape_rfc3986(&url)}]);
    }
    component
}

/// A URL that conforms to RFC 3986. Characters that browsers accept after the host, such as `[`,
/// `|` and a single `%`, are escaped.
fn escape_rfc3986(url: &Url) -> String {
    let (host, rest) = (&url[..Position::BeforePath], &url[Position::BeforePath..]);
    let mut text = host.to_owned();
    let mut in_fragment = false;
    for (at, byte) in rest.bytes().enumerate() {
        let is_escape = || {
            rest.as_bytes()
                .get(at + 1..at + 3)
                .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        };
        let stays = match byte {
            b'%' => is_escape(),
            b'#' => !std::mem::replace(&mut in_fragment, true),
            _ => byte.is_ascii_alphanumeric() || b"-._~:/?@!$&'()*+,;=".contains(&byte),
        };
        if stays {
            text.push(char::from(byte));
        } else {
            _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

fn file_ref(number: usize) -> String {
    format!("file-{number}")
}

fn packgate_property(name: &str, value: &str) -> Value {
    json!({"name": format!("packgate:{name}"), "value": value})
}
