//! The URLs of a repository.

use url::Url;

use crate::{
    core::{
        digest::Digest,
        reference::{ImageRepository, TagOrDigest},
    },
    oci::OciError,
};

/// The URLs of one repository.
#[derive(Clone, Debug)]
pub(super) struct RepositoryEndpoint {
    repository: ImageRepository,
    base: Url,
}

impl RepositoryEndpoint {
    pub(super) fn new(repository: ImageRepository, plain_http: bool) -> Result<Self, OciError> {
        let scheme = if plain_http { "http" } else { "https" };
        let host = match repository.host() {
            "docker.io" => "registry-1.docker.io",
            host => host,
        };
        let base = Url::parse(&format!("{scheme}://{host}/v2/{}/", repository.path()));
        let base = base
            .map_err(|e| OciError::Invalid(format!("{repository} has no usable address: {e}")))?;
        Ok(Self { repository, base })
    }

    /// The repository.
    pub(super) const fn repository(&self) -> &ImageRepository {
        &self.repository
    }

    /// Any URL of the repository, for its origin.
    pub(super) const fn base_url(&self) -> &Url {
        &self.base
    }

    /// True if the registry's credentials may be sent to this URL.
    pub(super) fn is_same_origin(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    pub(super) fn manifest_url(&self, selector: &TagOrDigest) -> Url {
        self.url_at(&format!("manifests/{selector}"))
    }

    pub(super) fn blob_url(&self, digest: &Digest) -> Url {
        self.url_at(&format!("blobs/{digest}"))
    }

    pub(super) fn referrers_url(&self, digest: &Digest) -> Url {
        self.url_at(&format!("referrers/{digest}"))
    }

    pub(super) fn uploads_url(&self) -> Url {
        self.url_at("blobs/uploads/")
    }

    fn url_at(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path()));
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_follow_the_specification() {
        let digest = Digest::of_bytes(b"");
        for (repository, plain, base) in [
            ("r.example.com/a/b", false, "https://r.example.com/v2/a/b/"),
            (
                "docker.io/library/nginx",
                false,
                "https://registry-1.docker.io/v2/library/nginx/",
            ),
            ("localhost:5000/a", false, "https://localhost:5000/v2/a/"),
            ("localhost:5000/a", true, "http://localhost:5000/v2/a/"),
            ("[::1]:5000/a", true, "http://[::1]:5000/v2/a/"),
        ] {
            let endpoint = RepositoryEndpoint::new(repository.parse().expect(repository), plain)
                .expect(repository);
            assert_eq!(
                endpoint.manifest_url(&TagOrDigest::Digest(digest)).as_str(),
                format!("{base}manifests/{digest}")
            );
            assert_eq!(
                endpoint.blob_url(&digest).as_str(),
                format!("{base}blobs/{digest}")
            );
            assert_eq!(
                endpoint.uploads_url().as_str(),
                format!("{base}blobs/uploads/")
            );
        }
    }

    #[test]
    fn credentials_belong_to_one_origin() {
        let endpoint = RepositoryEndpoint::new("r.example.com/a".parse().expect("valid"), false)
            .expect("valid");
        for (url, owned) in [
            ("https://r.example.com/anything", true),
            ("https://r.example.com:443/", true),
            ("http://r.example.com/", false),
            ("https://r.example.com:8443/", false),
            ("https://s.r.example.com/", false),
            ("https://r.example.com.evil.example/", false),
        ] {
            assert_eq!(
                endpoint.is_same_origin(&url.parse().expect(url)),
                owned,
                "{url}"
            );
        }
    }
}
