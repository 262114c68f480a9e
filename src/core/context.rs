//! Context artifacts: a lock and the files that it names, one raw layer each, as `oras push` makes
//! them (formats page, "Bundle bytes").
//!
//! What is *not* checked here: what the layers hold. Who opens one checks its digest, and the
//! lock's checksum after that.

use std::collections::BTreeMap;

use super::{
    class::{Classified, Reason},
    media_type,
    oci::{Descriptor, Document},
    pack::{MODE_ANNOTATION, TITLE_ANNOTATION},
    path::{BundlePath, PathError},
};

/// Where the lock lies if nobody says otherwise.
pub const DEFAULT_LOCK_PATH: &str = "lock.yaml";

/// The files of a context artifact, by path.
#[derive(Clone, Debug)]
pub struct ContextFiles(BTreeMap<String, ContextFile>);

/// One file of a context artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextFile {
    /// Its content.
    pub blob: Descriptor,
    /// Permission bits: 0755 if the annotation `dev.packgate.file.mode` says so, else 0644.
    pub mode: u32,
}

/// Why something is no context artifact.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// Another artifact type, or an index.
    #[error("artifact type is {0:?}, not a context artifact's; make one with oras push \
        --artifact-type {type}", type = media_type::CONTEXT)]
    Type(String),
    /// A title that cannot be a path, or leads out of the artifact.
    #[error("context artifact: title {title:?} {cause}")]
    Title {
        /// The title, shortened.
        title: String,
        /// What is wrong with it.
        cause: PathError,
    },
    /// A title that starts at the root of a file system.
    #[error("context artifact: title {0:?} is absolute")]
    Absolute(String),
    /// Two layers with one title.
    #[error("context artifact: two layers have the title {0:?}")]
    Twice(String),
    /// A file where another one needs a folder.
    #[error("context artifact: {file:?} is a file, and {inside:?} lies in it")]
    Inside {
        /// The file.
        file: String,
        /// What would be in it.
        inside: String,
    },
}

impl Classified for ContextError {
    fn reason(&self) -> Reason {
        match self {
            Self::Type(_) => Reason::InvalidSpec,
            Self::Title { .. } | Self::Absolute(_) | Self::Twice(_) | Self::Inside { .. } => {
                Reason::MalformedManifest
            }
        }
    }
}

impl ContextFiles {
    /// The files that `document` names. Layers without a title are no files.
    pub fn of(document: &Document) -> Result<Self, ContextError> {
        let manifest = match document {
            Document::Manifest(manifest)
                if document.artifact_type() == Some(media_type::CONTEXT) =>
            {
                manifest
            }
            _ => {
                return Err(ContextError::Type(shorten(
                    document.artifact_type().unwrap_or_default(),
                )));
            }
        };
        let mut files = BTreeMap::new();
        for layer in &manifest.layers {
            let Some(title) = layer.annotations.get(TITLE_ANNOTATION) else {
                continue;
            };
            let path = path_of(title)?;
            if files
                .insert(path.as_str().to_owned(), file_of(layer))
                .is_some()
            {
                return Err(ContextError::Twice(path.as_str().to_owned()));
            }
        }
        check_folders(&files)?;
        Ok(Self(files))
    }

    /// The file with this path.
    pub fn file(&self, path: &str) -> Option<&ContextFile> {
        self.0.get(path)
    }

    /// The files below a folder, with their paths in it. The empty path is the whole artifact.
    pub fn below(&self, folder: &str) -> impl Iterator<Item = (&str, &ContextFile)> {
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

fn path_of(title: &str) -> Result<BundlePath, ContextError> {
    if title.starts_with('/') {
        return Err(ContextError::Absolute(shorten(title)));
    }
    title.parse().map_err(|cause| ContextError::Title {
        title: shorten(title),
        cause,
    })
}

fn file_of(layer: &Descriptor) -> ContextFile {
    let executable = layer
        .annotations
        .get(MODE_ANNOTATION)
        .is_some_and(|mode| mode == "0755");
    ContextFile {
        blob: layer.clone(),
        mode: if executable { 0o755 } else { 0o644 },
    }
}

fn check_folders(files: &BTreeMap<String, ContextFile>) -> Result<(), ContextError> {
    for path in files.keys() {
        let file = path
            .match_indices('/')
            .filter_map(|(at, _)| path.get(..at))
            .find(|folder| files.contains_key(*folder));
        if let Some(file) = file {
            return Err(ContextError::Inside {
                file: file.to_owned(),
                inside: path.clone(),
            });
        }
    }
    Ok(())
}

/// The folder that a lock at `lock_path` lies in, relative to the artifact; empty for its top.
pub fn folder_of(lock_path: &str) -> &str {
    lock_path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The path of `origin`, which is relative to `folder`, in the artifact. None if it leads out of
/// the artifact.
pub fn locate(folder: &str, origin: &str) -> Option<String> {
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

fn shorten(text: &str) -> String {
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{
        limits::Limits,
        oci::{Annotations, Manifest},
    };

    fn document(artifact_type: &str, titles: &[(&str, Option<&str>)]) -> Document {
        let layer = |(title, mode): &(&str, Option<&str>)| {
            let mut annotations =
                Annotations::from([(TITLE_ANNOTATION.to_owned(), (*title).to_owned())]);
            annotations.extend(mode.map(|mode| (MODE_ANNOTATION.to_owned(), mode.to_owned())));
            Descriptor {
                annotations,
                ..Descriptor::of(media_type::OCTET_STREAM, title.as_bytes())
            }
        };
        Document::Manifest(Manifest {
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
        ContextFiles::of(&document(artifact_type, &titles))
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
        let files = ContextFiles::of(&document(media_type::CONTEXT, &titles)).expect("a context");
        let below: Vec<_> = files
            .below("siem/files")
            .map(|(path, file)| (path, file.mode))
            .collect();
        assert_eq!(below, [("a", 0o644), ("run.sh", 0o755)]);
        assert_eq!(files.below("").count(), 4);
        assert_eq!(
            files.file("siem/lock.yaml").expect("there").blob.digest,
            Descriptor::of("x", b"siem/lock.yaml").digest
        );
        assert!(files.file("siem/files").is_none());
    }

    #[test]
    fn what_is_no_context_is_refused() {
        assert_eq!(refusal(media_type::ARTIFACT, &[]), Reason::InvalidSpec);
        let index = Document::parse(
            media_type::INDEX,
            br#"{"schemaVersion":2,"manifests":[]}"#,
            &Limits::DEFAULT,
        )
        .expect("an index");
        assert_eq!(
            ContextFiles::of(&index).expect_err("refused").reason(),
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
                locate(folder_of(lock_path), origin).as_deref(),
                path,
                "{lock_path} {origin}"
            );
        }
    }
}
