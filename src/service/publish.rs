//! Makes a packed bundle public in one order only: sign, attest, then tag. Nobody can pull an unsigned bundle by name.

use super::sign::{self, Claim, SignError};
use crate::{
    clock::Clock,
    core::{
        class::{Classified, Reason},
        digest::Digest,
        oci::Descriptor,
        reference::Tag,
    },
    oci::{OciError, Target},
    signing::Signer,
};

/// Who signs, and what is claimed.
pub struct Vouch<'a> {
    /// Signs the bundle and the claim.
    pub signer: &'a dyn Signer,
    /// How the bundle came to be.
    pub provenance: Claim<'a>,
}

/// What became public.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// Signed and attested.
    Signed {
        /// The referrer with the signature.
        signature: Digest,
        /// The referrer with the provenance.
        provenance: Digest,
    },
    /// Nobody was to sign.
    Unsigned,
}

/// Why nothing was tagged.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Signing failed. Never taken for "unsigned".
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The target failed.
    #[error(transparent)]
    Oci(#[from] OciError),
}

impl Classified for PublishError {
    fn reason(&self) -> Reason {
        match self {
            Self::Sign(error) => error.reason(),
            Self::Oci(error) => error.reason(),
        }
    }
}

/// Signs and attests `root` if somebody is to vouch for it, and tags it last.
pub async fn publish(
    target: &dyn Target,
    root: &Descriptor,
    vouch: Option<Vouch<'_>>,
    tag: Option<&Tag>,
    clock: &dyn Clock,
) -> Result<Published, PublishError> {
    let published = match vouch {
        None => Published::Unsigned,
        Some(Vouch { signer, provenance }) => Published::Signed {
            signature: sign::sign(target, root, signer, clock).await?.digest,
            provenance: sign::attest(target, root, provenance, signer, clock).await?.digest,
        },
    };
    if let Some(tag) = tag {
        target.tag(root, tag).await?;
    }
    target.finish().await?;
    Ok(published)
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::{
        clock::SystemClock,
        core::{limits::Limits, media_type, reference::Selector, slsa::PROVENANCE_V1},
        oci::{Content, MemoryTarget, Source},
        signing::{KeySigner, Signature, SigningError},
    };

    const KEY: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/keys/p256-pkcs8.pem"));

    /// Signs so many times, and then no more.
    struct Tired {
        signer: KeySigner,
        left: std::sync::atomic::AtomicUsize,
    }

    #[async_trait]
    impl Signer for Tired {
        async fn sign(&self, pae: &[u8]) -> Result<Signature, SigningError> {
            use std::sync::atomic::Ordering::Relaxed;
            if self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_err() {
                return Err(SigningError::NoPrivateKey);
            }
            self.signer.sign(pae).await
        }

        fn public_key_pem(&self) -> &str {
            self.signer.public_key_pem()
        }

        fn hint(&self) -> &str {
            self.signer.hint()
        }
    }

    async fn target() -> (MemoryTarget, Descriptor) {
        let bytes = Bytes::from_static(br#"{"schemaVersion":2,"manifests":[]}"#);
        let (target, root) = (MemoryTarget::new(), Descriptor::of(media_type::INDEX, &bytes));
        target.push(&root, Content::Bytes(&bytes)).await.expect("pushed");
        (target, root)
    }

    async fn run(signatures: Option<usize>) -> (Result<Published, Reason>, bool, usize) {
        let (target, root) = target().await;
        let tag: Tag = "v1".parse().expect("a tag");
        let signer = Tired { signer: KeySigner::from_pem(KEY, None).expect("a key"), left: signatures.unwrap_or_default().into() };
        let vouch = signatures
            .map(|_| Vouch { signer: &signer, provenance: Claim { subject_name: "", predicate_type: PROVENANCE_V1, predicate: json!({}) } });
        let published = publish(&target, &root, vouch, Some(&tag), &SystemClock).await.map_err(|e| e.reason());
        let tagged = target.resolve(&Selector::Tag(tag), &Limits::DEFAULT).await.is_ok();
        (published, tagged, target.referrers(&root, &Limits::DEFAULT).await.expect("listed").len())
    }

    #[tokio::test]
    async fn what_is_signed_and_attested_is_tagged() {
        let (published, tagged, referrers) = run(Some(2)).await;
        assert!(matches!(published, Ok(Published::Signed { .. })) && tagged && referrers == 2);
        assert_eq!(run(None).await, (Ok(Published::Unsigned), true, 0));
    }

    #[tokio::test]
    async fn a_signer_that_fails_is_an_error_and_nothing_is_tagged() {
        assert_eq!(run(Some(0)).await, (Err(Reason::NoSigner), false, 0));
        assert_eq!(run(Some(1)).await, (Err(Reason::NoSigner), false, 1));
    }
}
