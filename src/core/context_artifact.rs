//! Context artifacts: a lock and the files that it names, one raw layer each, as `oras push` makes
//! them.
//!
//! What is *not* checked here: the content of the layers. The code that opens one checks its
//! digest, and then the lock's checksum.

use std::collections::BTreeMap;

use super::{
    bundle_path::{BundlePath, BundlePathError},
    display_text::truncate_text,
    media_type,
    oci::{Descriptor, ManifestOrIndex},
    pack::{MODE_ANNOTATION, TITLE_ANNOTATION},
    reason::{Reason, classify},
};

/// Characters of a refused text in messages.
const MAX_SHOWN: usize = 120;

pub const DEFAULT_LOCK_PATH: &str = "lock.yaml";

/// The files of a context artifact, by path.
#[derive(Clone, Debug)]
pub struct ContextArtifactFiles(BTreeMap<String, ContextArtifactFile>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextArtifactFile {
    /// The descriptor of its content.
    pub blob: Descriptor,
    /// Permission bits: 0755 if the annotation `dev.packgate.file.mode` is that, else 0644.
    pub mode: u32,
}

/// Why something is no context artifact.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContextArtifactError {
    #[error("artifact type is {0:?}, not a context artifact's; make one with oras push \
        --artifact-type {type}", type = media_type::CONTEXT)]
    Type(String),
    /// A title that cannot be a path, or leads out of the artifact.
    #[error("context artifact: title {title:?} {cause}")]
    Title {
        /// The title, shortened.
        title: String,
        cause: BundlePathError,
    },
    /// A title that starts at the root of a file system.
    #[error("context artifact: title {0:?} is absolute")]
    Absolute(String),
    #[error("context artifact: two layers have the title {0:?}")]
    DuplicateTitle(String),
    #[error("context artifact: {file:?} is a file, so it cannot contain {inside:?}")]
    FileInsideFile { file: String, inside: String },
}

classify!(ContextArtifactError, |error| match error {
    Self::Type(_) => Reason::InvalidSpec,
    Self::Title { .. }
    | Self::Absolute(_)
    | Self::DuplicateTitle(_)
    | Self::FileInsideFile { .. } => Reason::MalformedManifest,
});

impl ContextArtifactFiles {
    /// The files that `document` names. Layers without a title are no files.
    pub fn from_manifest(document: &ManifestOrIndex) -> Result<Self, ContextArtifactError> {
        let manifest = match document {
            ManifestOrIndex::Manifest(manifest)
                if document.artifact_type() == Some(media_type::CONTEXT) =>
            {
                manifest
            }
            _ => {
                return Err(ContextArtifactError::Type(truncate_text(
                    document.artifact_type().unwrap_or_default(),
                    MAX_SHOWN,
                )));
            }
        };
        let mut files = BTreeMap::new();
        for layer in &manifest.layers {
            let Some(title) = layer.annotations.get(TITLE_ANNOTATION) else {
                continue;
            };
            let path = parse_title(title)?;
            if files
                .insert(path.as_str().to_owned(), file_from_layer(layer))
                .is_some()
            {
                return Err(ContextArtifactError::DuplicateTitle(
                    path.as_str().to_owned(),
                ));
            }
        }
        check_path_conflicts(&files)?;
        Ok(Self(files))
    }

    pub fn find_file(&self, path: &str) -> Option<&ContextArtifactFile> {
        self.0.get(path)
    }

    /// The files below a folder, with their paths in it. The empty path is the whole artifact.
    pub fn files_below(&self, folder: &str) -> impl Iterator<Item = (&str, &ContextArtifactFile)> {
        let prefix = if folder.is_empty() {
            String::new()
        } else {
            format!("{folder}/")
        };
        self.0
            .iter()
            .filter_map(move |(path, file)| Some((path.strip_prefix(&prefix)?, file)))
    }
}

fn parse_title(title: &str) -> Result<BundlePath, ContextArtifactError> {
    if title.starts_with('/') {
        return Err(ContextArtifactError::Absolute(truncate_text(
            title, MAX_SHOWN,
        )));
    }
    title.parse().map_err(|cause| ContextArtifactError::Title {
        title: truncate_text(title, MAX_SHOWN),
        cause,
    })
}

fn file_from_layer(layer: &Descriptor) -> ContextArtifactFile {
    let executable = layer
        .annotations
        .get(MODE_ANNOTATION)
        .is_some_and(|mode| mode == "0755");
    ContextArtifactFile {
        blob: layer.clone(),
        mode: if executable { 0o755 } else { 0o644 },
    }
}

fn check_path_conflicts(
    files: &BTreeMap<String, ContextArtifactFile>,
) -> Result<(), ContextArtifactError> {
    for path in files.keys() {
        let file = path
            .match_indices('/')
            .filter_map(|(at, _)| path.get(..at))
            .find(|folder| files.contains_key(*folder));
        if let Some(file) = file {
            return Err(ContextArtifactError::FileInsideFile {
                file: file.to_owned(),
                inside: path.clone(),
            });
        }
    }
    Ok(())
}

/// The folder of a lock at `lock_path`, relative to the artifact; empty at its root.
pub fn lock_folder(lock_path: &str) -> &str {
    lock_path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The path of `origin`, which is relative to `folder`, in the artifact. None if it leads out of
/// the artifact.
pub fn resolve_origin_path(folder: &str, origin: &str) -> Option<String> {
    if origin.starts_with('/') {
        return None;
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in folder.split('/').chain(origin.split('/')) {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()?),
            name => segments.push(name),
        }
    }
    Some(segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::reason::ClassifiedError;
    use crate::core::{
        limits::InputLimits,
        oci::{Annotations, ImageManifest},
    };

    fn document(artifact_type: &str, titles: &[(&str, Option<&str>)]) -> ManifestOrIndex {
        let layer = |(title, mode): &(&str, Option<&str>)| {
            let mut annotations =
                Annotations::from([(TITLE_ANNOTATION.to_owned(), (*title).to_owned())]);
            annotations.extend(mode.map(|mode| (MODE_ANNOTATION.to_owned(), mode.to_owned())));
            Descriptor {
                annotations,
                ..Descriptor::of_bytes(media_type::OCTET_STREAM, title.as_bytes())
            }
        };
        ManifestOrIndex::Manifest(ImageManifest {
            schema_version: 2,
            media_type: Some(media_type::MANIFEST.into()),
            artifact_type: Some(artifact_type.into()),
            config: Descriptor::empty(),
            layers: std::iter::once(Descriptor::empty())
                .chain(titles.iter().map(layer))
                .collect(),
            subject: None,
            annotations: Annotations::new(),
        })
    }

    fn refusal(artifact_type: &str, titles: &[&str]) -> Reason {
        let titles: Vec<_> = titles.iter().map(|title| (*title, None)).collect();
        ContextArtifactFiles::from_manifest(&document(artifact_type, &titles))
            .expect_err("refused")
            .reason()
    }

    #[test]
    fn files_are_found_by_their_titles() {
        let titles = [
            ("siem/lock.yaml", None),
            ("./siem/files/run.sh", Some("0755")),
            ("siem/files/a", Some("4755")),
            ("siemens", None),
        ];
        let files = ContextArtifactFiles::from_manifest(&document(media_type::CONTEXT, &titles))
            .expect("a context");
        let below: Vec<_> = files
            .files_below("siem/files")
            .map(|(path, file)| (path, file.mode))
            .collect();
        assert_eq!(below, [("a", 0o644), ("run.sh", 0o755)]);
        assert_eq!(files.files_below("").count(), 4);
        assert_eq!(
            files
                .find_file("siem/lock.yaml")
                .expect("there")
                .blob
                .digest,
            Descriptor::of_bytes("x", b"siem/lock.yaml").digest
        );
        assert!(files.find_file("siem/files").is_none());
    }

    #[test]
    fn what_is_no_context_is_refused() {
        assert_eq!(refusal(media_type::ARTIFACT, &[]), Reason::InvalidSpec);
        let index = ManifestOrIndex::parse(
            media_type::INDEX,
            br#"{"schemaVersion":2,"manifests":[]}"#,
            &InputLimits::DEFAULT,
        )
        .expect("an index");
        assert_eq!(
            ContextArtifactFiles::from_manifest(&index)
                .expect_err("refused")
                .reason(),
            Reason::InvalidSpec
        );
        for titles in [
            &["../a"][..],
            &["a/../../b"],
            &["/etc/passwd"],
            &["a", "./a"],
            &["a", "a/b"],
            &["a\\b"],
            &["dir/"],
            &[""],
        ] {
            assert_eq!(
                refusal(media_type::CONTEXT, titles),
                Reason::MalformedManifest,
                "{titles:?}"
            );
        }
    }

    #[test]
    fn origins_are_relative_to_the_locks_folder() {
        for (lock_path, origin, path) in [
            ("lock.yaml", "files/a", Some("files/a")),
            ("siem/lock.yaml", "files/a", Some("siem/files/a")),
            ("siem/lock.yaml", "./x//y/", Some("siem/x/y")),
            ("siem/lock.yaml", "./", Some("siem")),
            ("lock.yaml", "./", Some("")),
            ("siem/lock.yaml", "../shared/a", Some("shared/a")),
            ("siem/lock.yaml", "../../a", None),
            ("lock.yaml", "../a", None),
            ("lock.yaml", "a/../../b", None),
            ("lock.yaml", "/etc/passwd", None),
        ] {
            assert_eq!(
                resolve_origin_path(lock_folder(lock_path), origin).as_deref(),
                path,
                "{lock_path} {origin}"
            );
        }
    }
}
