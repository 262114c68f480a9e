//! A lock as YAML, in one stable order, for people to read and review.

use std::fmt::Write as _;

use super::{
    canonical::PACK_FORMAT,
    kind::{API_VERSION, KIND},
    model::{Artifact, Entrypoint, Lockfile, OciSelection, RecordedLayer},
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
        let mut writer = Writer::default();
        writer.text("apiVersion", API_VERSION);
        writer.text("kind", KIND);
        writer.optional("name", name.as_deref());
        writer.optional("version", version.as_deref());
        writer.text("packFormat", PACK_FORMAT);
        if let Some(entrypoint) = entrypoint {
            writer.open("entrypoint");
            writer.entrypoint(entrypoint);
        }
        writer.open("artifacts");
        for artifact in artifacts {
            writer.artifact(artifact);
        }
        if !layers.is_empty() {
            writer.open("layers");
            for layer in layers {
                writer.layer(layer);
            }
        }
        writer.text
    }
}

/// Lines of YAML. `next` is what stands before the next key: the indentation, or the dash of a new
/// list item.
#[derive(Default)]
struct Writer {
    text: String,
    next: &'static str,
    after: &'static str,
}

impl Writer {
    fn raw(&mut self, key: &str, value: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{}{key}: {value}", self.next);
        self.next = self.after;
    }

    fn text(&mut self, key: &str, value: &str) {
        self.raw(key, &scalar(value));
    }

    fn optional(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    /// A key at the left edge with something below it.
    fn open(&mut self, key: &str) {
        let _ = writeln!(self.text, "{key}:");
        (self.next, self.after) = ("  ", "  ");
    }

    const fn item(&mut self) {
        (self.next, self.after) = ("- ", "  ");
    }

    fn entrypoint(&mut self, entrypoint: &Entrypoint) {
        let Entrypoint {
            script,
            target: _,
            mode,
            checksum,
            size,
        } = entrypoint;
        self.text("script", script);
        self.text("mode", mode.as_str());
        self.text("checksum", &checksum.to_string());
        self.raw("size", &size.to_string());
    }

    fn artifact(&mut self, artifact: &Artifact) {
        let Artifact {
            name,
            origin_type,
            origin,
            target,
            checksum,
            size,
            mode,
            unpack,
            oci,
            platforms,
        } = artifact;
        self.item();
        self.text("name", name);
        self.text("type", origin_type.as_str());
        self.text("origin", origin);
        self.text("target", target.as_str());
        self.text("checksum", &checksum.to_string());
        self.raw("size", &size.to_string());
        self.text("mode", mode.as_str());
        if let Some(unpack) = unpack {
            self.raw("unpack", "true");
            self.optional(
                "compression",
                unpack.compression.map(super::Compression::as_str),
            );
            self.optional(
                "unpackedPath",
                unpack
                    .path
                    .as_ref()
                    .map(super::super::path::BundlePath::as_str),
            );
        }
        match oci {
            Some(OciSelection::Platform(platform)) => self.raw(
                "oci",
                &format!("{{platform: {}}}", scalar(&platform.to_string())),
            ),
            Some(OciSelection::Blob(digest)) => {
                self.raw("oci", &format!("{{blob: {}}}", scalar(&digest.to_string())))
            }
            None => {}
        }
        if !platforms.is_empty() {
            let list: Vec<String> = platforms
                .iter()
                .map(|platform| scalar(&platform.to_string()))
                .collect();
            self.raw("platforms", &format!("[{}]", list.join(", ")));
        }
    }

    fn layer(&mut self, layer: &RecordedLayer) {
        let RecordedLayer {
            artifacts,
            diff_id,
            size,
            platform,
        } = layer;
        self.item();
        self.raw("artifacts", &artifacts.to_string());
        self.text("diffID", &diff_id.to_string());
        self.raw("size", &size.to_string());
        self.optional(
            "platform",
            platform.as_ref().map(ToString::to_string).as_deref(),
        );
    }
}

/// Bare only if every YAML reader, old or new, takes it for exactly this string.
fn scalar(text: &str) -> String {
    if is_bare(text) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

fn is_bare(text: &str) -> bool {
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
fn quoted(text: &str) -> String {
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
