//! `packgate sigstore verify-bundle`

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use clap::{ArgGroup, Args};
use serde_json::json;

use super::super::{
    context::CliContext, error::CliError, input_file::InputFile, output::CommandResult,
    trust_root::TrustRootArgs,
};
use crate::{
    core::{
        blob_verification::{BlobArtifact, BlobTrustedMaterial, verify_blob},
        digest::{Digest, DigestHasher},
        limits::InputLimits,
        policy::{AuthorityKind, ClaimsRule, PolicyAuthority, SubjectMatcher},
        reason::Reason,
        verify::{TrustRoot, VerificationKey, Verified},
    },
    service::trust_root::TufRepositoryConfig,
};

/// The size of a public key file that is read.
const MAX_KEY: usize = 64 << 10;

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("signer").args(["certificate_identity", "key"]).required(true))]
pub(super) struct VerifyBundleArgs {
    /// The Sigstore bundle
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,
    /// Identity in the certificate, exactly as it stands there
    #[arg(long, value_name = "IDENTITY", requires = "certificate_oidc_issuer")]
    certificate_identity: Option<String>,
    /// Issuer of that identity
    #[arg(long, value_name = "URL", requires = "certificate_identity")]
    certificate_oidc_issuer: Option<String>,
    /// Public key that signed
    #[arg(long, value_name = "PEM")]
    key: Option<PathBuf>,
    /// Trust Sigstore's staging instance instead of the public one, where neither --trusted-root
    /// nor --tuf-url is given
    #[arg(long)]
    staging: bool,
    #[command(flatten)]
    root: TrustRootArgs,
    /// The file that was signed, or its digest, sha256:HEX
    #[arg(value_name = "FILE|DIGEST")]
    artifact: FileOrDigest,
}

/// A file, or its digest.
#[derive(Clone, Debug)]
enum FileOrDigest {
    File(PathBuf),
    Digest(Digest),
}

impl FromStr for FileOrDigest {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text
            .parse()
            .map_or_else(|_| Self::File(text.into()), Self::Digest))
    }
}

pub(super) async fn run_verify_bundle(
    args: VerifyBundleArgs,
    context: &CliContext,
) -> Result<CommandResult, CliError> {
    let default = if args.staging {
        TufRepositoryConfig::staging()
    } else {
        TufRepositoryConfig::public_good()
    };
    let root = args.root.load_trust_root_or(default, context).await?;
    let done = tokio::task::spawn_blocking(move || verify_artifact(&args, root)).await;
    done.map_err(|error| CliError::internal(error.to_string()))?
}

fn verify_artifact(
    args: &VerifyBundleArgs,
    root: Arc<TrustRoot>,
) -> Result<CommandResult, CliError> {
    let limits = &InputLimits::DEFAULT;
    let key = args.key.as_deref().map(read_key).transpose()?;
    let bundle = InputFile::read_limited(
        &args.bundle,
        limits.sigstore_bundle_bytes,
        Reason::MalformedEvidence,
    )?;
    let trust = BlobTrustedMaterial {
        root: root.clone(),
        key: key.clone(),
    };
    let verified = args.artifact.verify_bundle(&bundle, &trust)?;
    let authority = args.expected_authority(root, key)?;
    if !authority.accepts_statement(&verified) {
        let message = format!(
            "{}: it was signed by {}, not by {}",
            args.bundle.display(),
            verified.signer(),
            authority.name
        );
        return Err(CliError::new(Reason::IdentityMismatch, message));
    }
    verification_result(&verified)
}

impl FileOrDigest {
    /// Verifies the Sigstore bundle of this artifact.
    fn verify_bundle(
        &self,
        bundle: &InputFile,
        trust: &BlobTrustedMaterial,
    ) -> Result<Verified<()>, CliError> {
        let verify = |digest: Digest, content: Option<&mut dyn Read>| {
            let artifact = BlobArtifact { digest, content };
            verify_blob(&bundle.bytes, artifact, trust, &InputLimits::DEFAULT)
                .map_err(|error| bundle.prefix_file_name(error.into()))
        };
        let path = match self {
            Self::Digest(digest) => return verify(*digest, None),
            Self::File(path) => path,
        };
        let unreadable = |error: io::Error| {
            CliError::new(
                Reason::SourceNotFound,
                format!("{}: {error}", path.display()),
            )
        };
        let mut file = File::open(path).map_err(unreadable)?;
        let digest = hash_file(&mut file)
            .and_then(|digest| file.rewind().map(|()| digest))
            .map_err(unreadable)?;
        verify(digest, Some(&mut BufReader::new(file)))
    }
}

impl VerifyBundleArgs {
    /// The authority in the arguments.
    fn expected_authority(
        &self,
        root: Arc<TrustRoot>,
        key: Option<VerificationKey>,
    ) -> Result<PolicyAuthority, CliError> {
        let kind = match (
            key,
            &self.certificate_identity,
            &self.certificate_oidc_issuer,
        ) {
            (Some(key), ..) => AuthorityKind::Key {
                key,
                root: Some(root),
            },
            (None, Some(identity), Some(issuer)) => AuthorityKind::Keyless {
                subject: SubjectMatcher::exact(identity).map_err(|problem| {
                    CliError::invalid(format!("--certificate-identity {problem}"))
                })?,
                issuer: issuer.clone(),
                claims: ClaimsRule::default(),
                root,
            },
            _ => {
                return Err(CliError::invalid(
                    "give --key, or --certificate-identity with --certificate-oidc-issuer",
                ));
            }
        };
        let name = match (&self.certificate_identity, &self.certificate_oidc_issuer) {
            (Some(identity), Some(issuer)) => format!("{identity} ({issuer})"),
            _ => "the key".to_owned(),
        };
        Ok(PolicyAuthority { name, kind })
    }
}

fn verification_result(verified: &Verified<()>) -> Result<CommandResult, CliError> {
    let time = verified
        .signing_time()
        .timestamp()
        .map(|time| time.to_string());
    let signer = verified.signer().to_string();
    let line = format!(
        "verified    {}   signed by {signer}{}",
        verified.subject(),
        time.as_ref()
            .map(|time| format!(" at {time}"))
            .unwrap_or_default()
    );
    let fields = json!({
        "digest": verified.subject(),
        "signer": signer,
        "time": time,
        "transparency": verified.is_logged(),
    });
    CommandResult::new(line, "BundleVerification", fields)
}

fn read_key(path: &Path) -> Result<VerificationKey, CliError> {
    let input = InputFile::read_limited(path, MAX_KEY, Reason::InvalidSpec)?;
    VerificationKey::from_pem(&String::from_utf8_lossy(&input.bytes))
        .map_err(|error| input.prefix_file_name(error.into()))
}

fn hash_file(file: &mut File) -> io::Result<Digest> {
    let mut hasher = DigestHasher::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(&buffer[..read]),
        }
    }
}
