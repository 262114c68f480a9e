//! A lock as YAML, in one stable order, for people to read and review.

use std::fmt::Write as _;

use super::{
    canonical::PACK_FORMAT,
    document_kind::{API_VERSION, LOCKFILE_KIND},
    model::{LockedArtifact, LockedEntrypoint, Lockfile, OciSelection, RecordedLayer},
};

impl Lockfile {
    /// Writes a lock of our generation. [`Lockfile::parse`] reads an equal value back.
    pub fn to_yaml(&self) -> String {
        let Self {
            generation: _,
            name,
            version,
            entrypoint,
            artifacts,
            layers,
        } = self;
        let mut writer = LockYamlWriter::default();
        writer.write_text("apiVersion", API_VERSION);
        writer.write_text("kind", LOCKFILE_KIND);
        writer.write_optional("name", name.as_deref());
        writer.write_optional("version", version.as_deref());
        writer.write_text("packFormat", PACK_FORMAT);
        if let Some(entrypoint) = entrypoint {
            writer.open_section("entrypoint");
            writer.write_entrypoint(entrypoint);
        }
        writer.open_section("artifacts");
        for artifact in artifacts {
            writer.write_artifact(artifact);
        }
        if !layers.is_empty() {
            writer.open_section("layers");
            for layer in layers {
                writer.write_layer(layer);
            }
        }
        writer.text
    }
}

/// Writes lines of YAML. `next` precedes the next key: the indentation, or the dash of a new list
/// item.
#[derive(Default)]
struct LockYamlWriter {
    text: String,
    next: &'static str,
    after: &'static str,
}

impl LockYamlWriter {
    fn write_raw(&mut self, key: &str, value: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{}{key}: {value}", self.next);
        self.next = self.after;
    }

    fn write_text(&mut self, key: &str, value: &str) {
        self.write_raw(key, &format_scalar(value));
    }

    fn write_optional(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.write_text(key, value);
        }
    }

    /// A key at the left edge with something below it.
    fn open_section(&mut self, key: &str) {
        let _ = writeln!(self.text, "{key}:");
        (self.next, self.after) = ("  ", "  ");
    }

    const fn open_item(&mut self) {
        (self.next, self.after) = ("- ", "  ");
    }

    fn write_entrypoint(&mut self, entrypoint: &LockedEntrypoint) {
        let LockedEntrypoint {
            script,
            target: _,
            mode,
            checksum,
            size,
        } = entrypoint;
        self.write_text("script", script);
        self.write_text("mode", mode.as_str());
        self.write_text("checksum", &checksum.to_string());
        self.write_raw("size", &size.to_string());
    }

    fn write_artifact(&mut self, artifact: &LockedArtifact) {
        let LockedArtifact {
            name,
            origin_type,
            origin: _,
            signed_origin: _,
            target,
            checksum,
            size,
            mode,
            unpack,
            oci,
            platforms,
        } = artifact;
        self.open_item();
        self.write_text("name", name);
        self.write_text("type", origin_type.as_str());
        self.write_text("origin", artifact.fetch_origin());
        self.write_text("target", target.as_str());
        self.write_text("checksum", &checksum.to_string());
        self.write_raw("size", &size.to_string());
        self.write_text("mode", mode.as_str());
        if let Some(unpack) = unpack {
            self.write_raw("unpack", "true");
            self.write_optional(
                "compression",
                unpack.compression.map(super::ArchiveCompression::as_str),
            );
            self.write_optional(
                "unpackedPath",
                unpack
                    .path
                    .as_ref()
                    .map(super::super::bundle_path::BundlePath::as_str),
            );
        }
        match oci {
            Some(OciSelection::Platform(platform)) => self.write_raw(
                "oci",
                &format!("{{platform: {}}}", format_scalar(&platform.to_string())),
            ),
            Some(OciSelection::Blob(digest)) => self.write_raw(
                "oci",
                &format!("{{blob: {}}}", format_scalar(&digest.to_string())),
            ),
            None => {}
        }
        if !platforms.is_empty() {
            let list: Vec<String> = platforms
                .iter()
                .map(|platform| format_scalar(&platform.to_string()))
                .collect();
            self.write_raw("platforms", &format!("[{}]", list.join(", ")));
        }
    }

    fn write_layer(&mut self, layer: &RecordedLayer) {
        let RecordedLayer {
            artifacts,
            diff_id,
            size,
            platform,
        } = layer;
        self.open_item();
        self.write_raw("artifacts", &artifacts.to_string());
        self.write_text("diffID", &diff_id.to_string());
        self.write_raw("size", &size.to_string());
        self.write_optional(
            "platform",
            platform.as_ref().map(ToString::to_string).as_deref(),
        );
    }
}

/// Bare only if every YAML reader, old or new, takes it for exactly this string.
fn format_scalar(text: &str) -> String {
    if is_plain_scalar(text) {
        text.to_owned()
    } else {
        quote_scalar(text)
    }
}

fn is_plain_scalar(text: &str) -> bool {
    let first = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'/');
    let rest = text.bytes().all(|b| {
        b.is_ascii_alphanumeric()
            || matches!(b, b'.' | b'_' | b'-' | b'/' | b':' | b'@' | b'+' | b'=')
    });
    let word = matches!(
        text.to_ascii_lowercase().as_str(),
        "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n" | "null"
    );
    first && rest && !word && !text.ends_with(':')
}

/// In double quotes. Whatever is not plainly printable is escaped.
fn quote_scalar(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            _ if c.is_alphanumeric() => quoted.push(c),
            _ => quoted.extend(format!("\\U{:08X}", u32::from(c)).chars()),
        }
    }
    quoted.push('"');
    quoted
}
