//! A cache of repositories' content in a folder: for each one file with the last good state and one
//! with its roots, replaced atomically.

use std::{
    fs,
    io::{Read, Write},
    path::PathBuf,
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    FetchedTrustRoot, MAX_KEPT, TrustCache, TrustError, TufRepositoryConfig, TufRootChain,
};

/// A file is JSON, which escapes some characters.
const MAX_FILE: u64 = 4 * MAX_KEPT as u64;
/// The suffix of file names.
const FETCHED: &str = "json";
const ROOTS: &str = "roots.json";

/// A folder with two files for each repository.
#[derive(Clone, Debug)]
pub struct FileTrustCache {
    folder: PathBuf,
}

impl FileTrustCache {
    /// A cache in this folder, which is created when something is stored.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    fn cache_path(&self, repository: &TufRepositoryConfig, kind: &str) -> PathBuf {
        self.folder.join(format!(
            "{}.{kind}",
            hex::encode(repository.id().as_bytes())
        ))
    }

    fn read_json<T: DeserializeOwned>(
        &self,
        repository: &TufRepositoryConfig,
        kind: &str,
    ) -> std::io::Result<T> {
        let mut bytes = Vec::new();
        fs::File::open(self.cache_path(repository, kind))?
            .take(MAX_FILE)
            .read_to_end(&mut bytes)?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    fn write_json(
        &self,
        repository: &TufRepositoryConfig,
        kind: &str,
        content: &impl Serialize,
    ) -> Result<(), TrustError> {
        let path = self.cache_path(repository, kind);
        let written = || {
            fs::create_dir_all(&self.folder)?;
            let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
            file.write_all(&serde_json::to_vec(content)?)?;
            file.persist(&path).map_err(|error| error.error).map(drop)
        };
        written().map_err(|cause| TrustError::Cache {
            path: path.display().to_string(),
            cause,
        })
    }
}

impl TrustCache for FileTrustCache {
    fn load_fetched(&self, repository: &TufRepositoryConfig) -> Option<FetchedTrustRoot> {
        self.read_json(repository, FETCHED).ok()
    }

    fn save_fetched(
        &self,
        repository: &TufRepositoryConfig,
        fetched: &FetchedTrustRoot,
    ) -> Result<(), TrustError> {
        self.write_json(repository, FETCHED, fetched)
    }

    fn load_roots(&self, repository: &TufRepositoryConfig) -> TufRootChain {
        self.read_json(repository, ROOTS).unwrap_or_default()
    }

    fn save_roots(
        &self,
        repository: &TufRepositoryConfig,
        roots: &TufRootChain,
    ) -> Result<(), TrustError> {
        if roots.byte_size() > MAX_KEPT {
            return Err(TrustError::TooLarge {
                url: repository.url().to_owned(),
                size: roots.byte_size(),
            });
        }
        self.write_json(repository, ROOTS, roots)
    }
}
