//! Origins: what their text may be, by type. Nothing is fetched and no path is looked up here.

use url::Url;

use super::{
    error::LockfileFieldError,
    model::{ArtifactEntry, LockedArtifact, OriginType},
    signed_origin::SignedOrigin,
};
use crate::core::{digest::Digest, reference::ImageReference};

const OCI: &str = "oci://";

/// The type of an origin, from its scheme; a text without scheme is a path.
pub(super) fn infer_origin_type(origin: &str) -> Result<OriginType, LockfileFieldError> {
    match origin
        .split_once("://")
        .map(|(scheme, _)| scheme.to_ascii_lowercase())
        .as_deref()
    {
        None => Ok(OriginType::File),
        Some("http" | "https") => Ok(OriginType::Http),
        Some("oci") => Ok(OriginType::Oci),
        Some(_) => Err(LockfileFieldError::Origin(
            "must be a path or start with http://, https:// or oci://",
        )),
    }
}

/// Checks an origin against its type.
pub(super) fn check_origin(kind: OriginType, origin: &str) -> Result<(), LockfileFieldError> {
    match kind {
        OriginType::File => check_file_origin(origin),
        OriginType::Http => check_http_origin(origin),
        OriginType::Oci => parse_oci_origin(origin).map(drop),
    }
}

fn check_file_origin(origin: &str) -> Result<(), LockfileFieldError> {
    if origin.is_empty() {
        return Err(LockfileFieldError::EmptyText);
    }
    if origin.contains("://") {
        Err(LockfileFieldError::Origin(
            "must be a path, because the type is file",
        ))
    } else {
        Ok(())
    }
}

/// Parsed with the HTTP client's parser, so that both see the same host. Errors never contain the
/// URL, which may contain a password.
fn check_http_origin(origin: &str) -> Result<(), LockfileFieldError> {
    const WRONG: LockfileFieldError = LockfileFieldError::Origin(
        "must be a valid http:// or https:// URL without white space, because the type is http",
    );
    if origin.contains(char::is_whitespace) || infer_origin_type(origin) != Ok(OriginType::Http) {
        return Err(WRONG);
    }
    let url = Url::parse(origin).map_err(|_| WRONG)?;
    let authority = origin
        .split_once("://")
        .and_then(|(_, rest)| rest.split(['/', '\\', '?', '#']).next());
    if !url.username().is_empty()
        || url.password().is_some()
        || authority.is_some_and(|a| a.contains('@'))
    {
        return Err(LockfileFieldError::UserInfo);
    }
    if url.has_host() { Ok(()) } else { Err(WRONG) }
}

/// `oci://REGISTRY/REPO[:TAG][@DIGEST]`. The registry is required: the meaning of a bare name
/// differs between tools.
fn parse_oci_origin(origin: &str) -> Result<ImageReference, LockfileFieldError> {
    const WRONG: LockfileFieldError = LockfileFieldError::Origin(
        "must be oci://REGISTRY/REPOSITORY[:TAG][@sha256:…], because the type is oci",
    );
    let rest = origin.strip_prefix(OCI).ok_or(WRONG)?;
    let (registry, _) = rest.split_once('/').ok_or(WRONG)?;
    if registry.contains('@') {
        return Err(LockfileFieldError::UserInfo);
    }
    if registry != "localhost" && !registry.contains(['.', ':']) {
        return Err(LockfileFieldError::Origin(
            "must name its registry, such as oci://docker.io/library/nginx",
        ));
    }
    rest.parse().map_err(|_| WRONG)
}

/// The image that an `oci://` origin names; `None` for other origins.
pub fn oci_reference(origin: &str) -> Option<ImageReference> {
    parse_oci_origin(origin).ok()
}

/// The same image, by this digest; a digest that was there is replaced.
#[must_use]
pub fn pin_origin(origin: &str, digest: &Digest) -> String {
    format!("{}@{digest}", strip_digest(origin))
}

/// An image's origin without its digest, if it has a tag, so that the tag is resolved again.
pub(super) fn unpin_origin(origin: &str) -> String {
    match oci_reference(origin) {
        Some(reference) if reference.tag.is_some() => strip_digest(origin).to_owned(),
        _ => origin.to_owned(),
    }
}

fn strip_digest(origin: &str) -> &str {
    origin.split_once('@').map_or(origin, |(name, _)| name)
}

/// True if a `file` origin is outside of its base folder, by its text alone: it is absolute, or has
/// too many `..`.
///
/// Symbolic links are not resolved here; the code that opens the file checks them.
pub fn origin_leaves_folder(origin: &str) -> bool {
    if origin.starts_with('/') {
        return true;
    }
    let mut depth = 0_usize;
    for segment in origin.split('/') {
        match segment {
            "" | "." => {}
            ".." => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return true,
            },
            _ => depth += 1,
        }
    }
    false
}

impl<C, S> ArtifactEntry<C, S> {
    /// The origin for a request, with the credential in it if it has one.
    pub fn fetch_origin(&self) -> &str {
        self.signed_origin
            .as_ref()
            .map_or(&self.origin, SignedOrigin::expose)
    }

    /// The same artifact with the credential of its origin kept apart.
    pub(super) fn with_separate_credential(self) -> Self {
        let signed = (self.origin_type == OriginType::Http)
            .then(|| SignedOrigin::separate(&self.origin))
            .flatten();
        match signed {
            Some((origin, signed)) => Self {
                origin,
                signed_origin: Some(signed),
                ..self
            },
            None => self,
        }
    }
}

impl LockedArtifact {
    /// The image that the origin names, for [`OriginType::Oci`].
    pub fn oci_reference(&self) -> Option<ImageReference> {
        if self.origin_type == OriginType::Oci {
            oci_reference(&self.origin)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_of_every_type_pass() {
        let pinned = format!("oci://r.example.com/a/b:1@{}", Digest::of_bytes(b""));
        for (origin, kind) in [
            ("files/x", OriginType::File),
            ("./files/dir/", OriginType::File),
            ("/abs/x", OriginType::File),
            ("../up", OriginType::File),
            ("https://f.example.com/x?token=a@b#c", OriginType::Http),
            ("HTTP://f.example.com:8080/x", OriginType::Http),
            ("oci://docker.io/hello-world:latest", OriginType::Oci),
            ("oci://localhost/x", OriginType::Oci),
            ("oci://localhost:5000/x", OriginType::Oci),
            (&pinned, OriginType::Oci),
        ] {
            assert_eq!(infer_origin_type(origin), Ok(kind), "{origin}");
            assert_eq!(check_origin(kind, origin), Ok(()), "{origin}");
        }
    }

    #[test]
    fn origins_that_do_not_fit_their_type_are_refused() {
        for (kind, origin, part) in [
            (OriginType::File, "", "empty"),
            (
                OriginType::File,
                "https://f.example.com/x",
                "must be a path",
            ),
            (OriginType::File, "file:///etc/passwd", "must be a path"),
            (OriginType::Http, "files/x", "valid http"),
            (OriginType::Http, "https:f.example.com/x", "valid http"),
            (OriginType::Http, "ftp://f.example.com/x", "valid http"),
            (OriginType::Http, "https://", "valid http"),
            (OriginType::Http, "https://f.example.com/a b", "white space"),
            (OriginType::Http, " https://f.example.com/a", "white space"),
            (OriginType::Oci, "r.example.com/x", "oci://REGISTRY"),
            (OriginType::Oci, "oci://nginx", "oci://REGISTRY"),
            (OriginType::Oci, "oci://library/nginx", "name its registry"),
            (OriginType::Oci, "oci://r.example.com/UP", "oci://REGISTRY"),
            (
                OriginType::Oci,
                "oci://r.example.com/x@sha256:00",
                "oci://REGISTRY",
            ),
            (
                OriginType::Oci,
                "oci://r.example.com/x:a b",
                "oci://REGISTRY",
            ),
        ] {
            let fault = check_origin(kind, origin).expect_err(origin).to_string();
            assert!(fault.contains(part), "{origin}: {fault}");
        }
        for origin in ["s3://bucket/x", "file:///x", "://x"] {
            assert!(
                matches!(
                    infer_origin_type(origin),
                    Err(LockfileFieldError::Origin(_))
                ),
                "{origin}"
            );
        }
    }

    #[test]
    fn user_info_is_refused_and_not_repeated() {
        for origin in [
            "https://user:hunter2@f.example.com/x",
            "https://hunter2@f.example.com/x",
            "https://:hunter2@f.example.com/x",
            "https://@f.example.com/hunter2",
            "https:///user:hunter2@f.example.com/x",
            "https://user:hunter2@evil.example.com@f.example.com/x",
            "https://user:hun%40ter2@f.example.com\\x",
            "oci://user:hunter2@r.example.com/x:1",
            "oci://hunter2@r.example.com/x:1",
        ] {
            let kind = infer_origin_type(origin).expect(origin);
            let fault = check_origin(kind, origin).expect_err(origin);
            assert_eq!(fault, LockfileFieldError::UserInfo, "{origin}");
            assert!(!fault.to_string().contains("hunter2"), "{origin}");
        }
    }

    #[test]
    fn folders_are_left_by_dots_and_slashes() {
        for origin in [
            "../x",
            "/x",
            "a/../../x",
            "./../x",
            "a//../../x",
            "..",
            "a/b/../../../c/d",
        ] {
            assert!(origin_leaves_folder(origin), "{origin}");
        }
        for origin in [
            "x",
            "./x",
            "a/../x",
            "a/b/../../x",
            "..x/..y",
            "a/./../b",
            "",
            "dir/",
        ] {
            assert!(!origin_leaves_folder(origin), "{origin}");
        }
    }

    #[test]
    fn digests_are_pinned_and_unpinned() {
        let (digest, other) = (Digest::of_bytes(b"a"), Digest::of_bytes(b"b"));
        let pinned = pin_origin("oci://r.example.com:5000/x:1", &digest);
        assert_eq!(pinned, format!("oci://r.example.com:5000/x:1@{digest}"));
        assert_eq!(
            pin_origin(&pinned, &other),
            format!("oci://r.example.com:5000/x:1@{other}")
        );
        assert_eq!(unpin_origin(&pinned), "oci://r.example.com:5000/x:1");
        let bare = format!("oci://r.example.com:5000/x@{digest}");
        assert_eq!(
            unpin_origin(&bare),
            bare,
            "without a tag the digest is all there is"
        );
        assert_eq!(
            unpin_origin("https://f.example.com/a@b"),
            "https://f.example.com/a@b"
        );
    }
}
