//! A private Sigstore run by `serve.sh`. For `tests/it` and `tests/cluster`.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

/// The transparency log for signers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rekor {
    V1,
    V2,
}

pub(crate) const REKORS: [Rekor; 2] = [Rekor::V2, Rekor::V1];

/// A running Sigstore.
#[derive(Debug)]
pub(crate) struct Sigstore {
    folder: PathBuf,
    urls: BTreeMap<String, String>,
}

impl Sigstore {
    /// The Sigstore with its files in this folder. `None`: it is not ready.
    pub(crate) fn open(folder: impl Into<PathBuf>) -> Option<Self> {
        let folder = folder.into();
        if !folder.join("ready").exists() {
            return None;
        }
        let urls = fs::read_to_string(folder.join("urls")).expect("a list");
        let urls = urls
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(name, url)| (name.to_owned(), url.to_owned()))
            .collect();
        Some(Self { folder, urls })
    }

    /// The path of one of its files: `trusted_root.json`, `fulcio.pem`, `ct.pub` …
    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// The trust root for verifiers.
    pub(crate) fn trusted_root(&self) -> String {
        self.file("trusted_root.json")
    }

    /// The signing configuration for signers.
    pub(crate) fn signing_config(&self, rekor: Rekor) -> String {
        self.file(match rekor {
            Rekor::V1 => "signing_config.v1.json",
            Rekor::V2 => "signing_config.json",
        })
    }

    /// The URL of one of its servers: `issuers`, `ct-log`, `fulcio`, `rekor`, `rekor-v1` or
    /// `timestamps`.
    pub(crate) fn url(&self, server: &str) -> &str {
        self.urls
            .get(server)
            .unwrap_or_else(|| panic!("a private Sigstore has no {server}"))
    }

    /// The URL of an issuer that it trusts: `email`, `uri`, `username`, `spiffe` or
    /// `github-workflow`.
    pub(crate) fn issuer(&self, kind: &str) -> String {
        format!("{}/{kind}", self.url("issuers"))
    }

    /// A token of an issuer with these claims, valid for ten minutes and for Fulcio.
    pub(crate) fn token(&self, issuer: &str, claims: &[(&str, &str)]) -> String {
        let mut curl = Command::new("curl");
        curl.args([
            "-sSfG",
            "--noproxy",
            "*",
            &format!("{}/token", self.issuer(issuer)),
        ]);
        for (claim, value) in claims {
            curl.args(["--data-urlencode", &format!("{claim}={value}")]);
        }
        let output = curl.output().unwrap_or_else(|e| panic!("curl: {e}"));
        assert!(
            output.status.success(),
            "no token: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("a token")
    }
}
