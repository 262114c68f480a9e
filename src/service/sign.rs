//! Signing and attesting: a statement about a digest is stored as a referrer of it.
//!
//! What is *not* checked here: whether the subject may be signed. The caller decides that.

use serde_json::{Value, json};

use super::push_referrers::{push_referrers, require_listed};
use crate::{
    clock::Clock,
    core::{
        digest::Digest,
        display_text::truncate_text,
        intoto::{COSIGN_SIGN, Statement},
        limits::InputLimits,
        oci::Descriptor,
        reason::{ClassifiedError, Reason},
        referrer::{self, ReferrerArtifact},
    },
    oci::{ContentTarget, OciError},
    signing::{BundleSigner, SigningContent as Signable, SigningError},
};

/// Why nothing was signed, or the signature could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// There is no valid key, or signing failed.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// The target did not accept it.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// Only manifests and indexes have referrers.
    #[error("{0:?} cannot be signed, only manifests and indexes can")]
    NoDocument(String),
    /// Only keys sign in cosign's older format.
    #[error(
        "signatures in the form Legacy are made with a key; sign with --key, or in the form Bundle"
    )]
    NotByKey,
    /// The Sigstore bundle exceeds the limit of verifiers.
    #[error(
        "Sigstore bundle has {size} bytes, the limit is {limit}; attach a big predicate as a \
            referrer of its own and attest its digest"
    )]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A document of ours cannot be serialised, which is a bug.
    #[error("cannot serialise: {0}")]
    Serialise(#[from] serde_json::Error),
}

impl ClassifiedError for SignError {
    fn reason(&self) -> Reason {
        match self {
            Self::Signing(error) => error.reason(),
            Self::Oci(error) => error.reason(),
            Self::NoDocument(_) | Self::NotByKey => Reason::InvalidSpec,
            Self::TooLarge { .. } => Reason::LimitExceeded,
            Self::Serialise(_) => Reason::Internal,
        }
    }
}

/// The content of an attestation.
#[derive(Clone, Debug)]
pub struct AttestationClaim<'a> {
    /// The subject's name: `registry/repository` without a tag. Empty where there is none.
    pub subject_name: &'a str,
    /// The URI of the predicate type.
    pub predicate_type: &'a str,
    /// The predicate.
    pub predicate: Value,
}

/// Signs `subject` as `cosign sign` does and returns the referrer's descriptor.
pub async fn sign_subject(
    target: &dyn ContentTarget,
    subject: &Descriptor,
    subject_name: &str,
    signer: &dyn BundleSigner,
    clock: &dyn Clock,
) -> Result<Descriptor, SignError> {
    attest_subject(
        target,
        subject,
        signature_claim(subject_name),
        signer,
        clock,
    )
    .await
}

/// The claim of a signature. cosign gives its subject no name; a name, `registry/repository`, is
/// what policies with `bindRepository` compare.
pub fn signature_claim(subject_name: &str) -> AttestationClaim<'_> {
    AttestationClaim {
        subject_name,
        predicate_type: COSIGN_SIGN,
        predicate: json!({}),
    }
}

/// Attests `subject` and returns the referrer's descriptor. Nothing is pushed if any part fails.
pub async fn attest_subject(
    target: &dyn ContentTarget,
    subject: &Descriptor,
    claim: AttestationClaim<'_>,
    signer: &dyn BundleSigner,
    clock: &dyn Clock,
) -> Result<Descriptor, SignError> {
    let artifact = create_attestation(subject, claim, signer, clock).await?;
    let descriptor = artifact.manifest.descriptor.clone();
    push_referrers(target, &[artifact]).await?;
    require_listed(target, subject, &descriptor.digest).await?;
    Ok(descriptor)
}

/// Signs a claim about `subject`. Nothing is pushed.
pub async fn create_attestation(
    subject: &Descriptor,
    claim: AttestationClaim<'_>,
    signer: &dyn BundleSigner,
    clock: &dyn Clock,
) -> Result<ReferrerArtifact, SignError> {
    check_signable(subject)?;
    let predicate_type = claim.predicate_type;
    let statement = serde_json::to_vec(&claim.into_statement(&subject.digest))?;
    let bundle = signer
        .create_sigstore_bundle(Signable::Statement(&statement))
        .await?;
    check_bundle_size(bundle.len())?;
    Ok(referrer::bundle_referrer(
        bundle,
        predicate_type,
        subject,
        clock.now(),
    )?)
}

impl AttestationClaim<'_> {
    /// The statement about this digest.
    pub fn into_statement(self, digest: &Digest) -> Statement {
        Statement::for_digest(
            self.subject_name,
            digest,
            self.predicate_type,
            self.predicate,
        )
    }
}

/// Checks that the subject is of a kind that can be signed.
pub(super) fn check_signable(subject: &Descriptor) -> Result<(), SignError> {
    if subject.is_manifest_or_index() {
        Ok(())
    } else {
        Err(SignError::NoDocument(truncate_text(
            &subject.media_type,
            120,
        )))
    }
}

const fn check_bundle_size(size: usize) -> Result<(), SignError> {
    let limit = InputLimits::DEFAULT.sigstore_bundle_bytes;
    if size > limit {
        Err(SignError::TooLarge { size, limit })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sigstore_types::{Bundle as SigstoreBundle, SignatureContent};

    use super::*;
    use crate::{
        clock::FixedClock,
        core::media_type,
        oci::{ContentSource, MemoryTarget, PushContent, fetch_content, fetch_document},
        signing::{KeySigner, Signer as _},
    };

    const KEY: &[u8] = include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/keys/p256-pkcs8.pem"
    ));
    const SUBJECT: &[u8] = br#"{"schemaVersion":2,"config":{"mediaType":"x","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0},"layers":[]}"#;

    struct Bench {
        target: MemoryTarget,
        subject: Descriptor,
        signer: KeySigner,
        clock: FixedClock,
    }

    async fn bench() -> Bench {
        let (target, subject) = (
            MemoryTarget::new(),
            Descriptor::of_bytes(media_type::MANIFEST, SUBJECT),
        );
        target
            .push_content(&subject, PushContent::Bytes(&Bytes::from_static(SUBJECT)))
            .await
            .expect("pushed");
        let signer = KeySigner::from_pem(KEY, None).expect("a key");
        Bench {
            target,
            subject,
            signer,
            clock: FixedClock("2026-11-21T10:00:00Z".parse().expect("a time")),
        }
    }

    impl Bench {
        async fn attest(&self, claim: AttestationClaim<'_>) -> Result<Descriptor, SignError> {
            attest_subject(
                &self.target,
                &self.subject,
                claim,
                &self.signer,
                &self.clock,
            )
            .await
        }

        /// The statement in a referrer, its signature verified by an independent implementation.
        async fn statement(&self, referrer: &Descriptor) -> Value {
            let (_, document) = fetch_document(&self.target, referrer, &InputLimits::DEFAULT)
                .await
                .expect("a manifest");
            assert_eq!(document.subject(), Some(&self.subject));
            let mut children = Vec::new();
            for child in document.children() {
                children.push(
                    fetch_content(&self.target, child, 1 << 20)
                        .await
                        .expect("complete"),
                );
            }
            assert_eq!(children[0], b"{}".as_slice());
            let bundle =
                SigstoreBundle::from_json(std::str::from_utf8(&children[1]).expect("text"))
                    .expect("a bundle");
            let SignatureContent::DsseEnvelope(envelope) = &bundle.content else {
                panic!("no envelope")
            };
            let key = sigstore_types::DerPublicKey::from_pem(self.signer.public_key_pem())
                .expect("a key");
            let scheme = sigstore_crypto::SigningScheme::EcdsaP256Sha256;
            sigstore_crypto::verify_signature(
                &key,
                &envelope.pae(),
                &envelope.signature.sig,
                scheme,
            )
            .expect("a valid signature");
            serde_json::from_slice(envelope.payload.as_bytes()).expect("a statement")
        }
    }

    #[tokio::test]
    async fn a_signature_is_what_cosign_signs() {
        let bench = bench().await;
        let referrer = sign_subject(
            &bench.target,
            &bench.subject,
            "",
            &bench.signer,
            &bench.clock,
        )
        .await
        .expect("signed");
        let expected = json!({"_type": "https://in-toto.io/Statement/v1", "subject": [{
            "digest": {"sha256": bench.subject.digest.hex_digits()},
        }],
            "predicateType": "https://sigstore.dev/cosign/sign/v1", "predicate": {}});
        assert_eq!(bench.statement(&referrer).await, expected);
        let found = bench
            .target
            .list_referrers(&bench.subject, &InputLimits::DEFAULT)
            .await
            .expect("listed");
        assert_eq!(found, [referrer]);
    }

    #[tokio::test]
    async fn a_signature_carries_the_name_of_its_repository() {
        let bench = bench().await;
        let referrer = sign_subject(
            &bench.target,
            &bench.subject,
            "r.example.com/a",
            &bench.signer,
            &bench.clock,
        )
        .await
        .expect("signed");
        assert_eq!(
            bench.statement(&referrer).await["subject"][0]["name"],
            "r.example.com/a"
        );
    }

    #[tokio::test]
    async fn an_attestation_carries_its_claim() {
        let bench = bench().await;
        let claim = AttestationClaim {
            subject_name: "r.example.com/a",
            predicate_type: "https://p/v1",
            predicate: json!({"n": 9_007_199_254_740_993_u64}),
        };
        let referrer = bench.attest(claim).await.expect("attested");
        let expected = json!({"_type": "https://in-toto.io/Statement/v1",
            "subject": [
                {"name": "r.example.com/a", "digest": {"sha256": bench.subject.digest.hex_digits()}},
            ],
            "predicateType": "https://p/v1", "predicate": {"n": 9_007_199_254_740_993_u64}});
        assert_eq!(bench.statement(&referrer).await, expected);
    }

    #[tokio::test]
    async fn what_no_verifier_would_read_is_not_pushed() {
        let bench = bench().await;
        let predicate =
            json!({"x": "x".repeat(InputLimits::DEFAULT.sigstore_bundle_bytes * 3 / 4)});
        let claim = AttestationClaim {
            subject_name: "",
            predicate_type: "https://p/v1",
            predicate,
        };
        assert_eq!(
            bench.attest(claim).await.expect_err("too large").reason(),
            Reason::LimitExceeded
        );
        assert_eq!(
            bench
                .target
                .list_referrers(&bench.subject, &InputLimits::DEFAULT)
                .await
                .expect("listed"),
            []
        );
    }

    #[tokio::test]
    async fn only_manifests_are_signed() {
        let bench = bench().await;
        let blob = Descriptor::of_bytes(media_type::OCTET_STREAM, b"blob");
        let error = sign_subject(&bench.target, &blob, "", &bench.signer, &bench.clock)
            .await
            .expect_err("a blob");
        assert_eq!(error.reason(), Reason::InvalidSpec);
    }
}
