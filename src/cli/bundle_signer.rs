//! Builds the signer: a key, or an identity, with or without a transparency log and timestamps.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;

use super::{
    certificate::CertificateArgs,
    context::CliContext,
    error::CliError,
    input_file::InputFile,
    signer::{KeyArgs, SignatureFormatArg},
};
use crate::{
    clock::{Clock, SystemClock},
    core::{
        digest::Digest,
        intoto::Statement,
        limits::InputLimits,
        reason::Reason,
        sigstore::{SelectedServices, SigstoreSigningConfig},
        verify::{StoredSignatureFormat, TrustRoot},
    },
    http::{HttpClient, Redacted},
    oci::{ContentSource, ResolvedManifest},
    service::{
        signed_statement::{self, StatementSearch},
        trust_root::{TufRepositoryConfig, refresh_for_signing},
    },
    signing::{
        BundleSigner, BundleSignerIdentity, IdentityToken, KeylessSigner, LoggedKeySigner,
        MAX_TOKEN, Signer, SigstoreServices, TokenError, TokenSource,
    },
    trust::TufSource,
};

/// Who signs.
#[derive(Debug, Args)]
pub(super) struct BundleSignerArgs {
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    identity: IdentityTokenArgs,
    #[command(flatten)]
    services: SigstoreServiceArgs,
}

/// The signer for the requested format.
pub(super) enum SelectedSigner {
    /// Makes Sigstore bundles.
    Bundle(Box<dyn BundleSigner>),
    /// Makes signatures in cosign's older format.
    Legacy(Box<dyn Signer>),
}

impl SelectedSigner {
    /// The digest of the manifest with this statement about `subject`, if this signer has signed it
    /// before. If that cannot be read, it counts as not signed.
    pub(super) async fn find_signed_statement(
        &self,
        source: &dyn ContentSource,
        subject: &ResolvedManifest,
        statement: &Statement,
        context: &CliContext,
    ) -> Result<Option<Digest>, CliError> {
        let (identity, format) = match self {
            Self::Bundle(signer) => (
                signer.signer_identity().await?,
                StoredSignatureFormat::Bundle,
            ),
            Self::Legacy(signer) => (
                BundleSignerIdentity::Key {
                    pem: signer.public_key_pem().to_owned(),
                    root: None,
                },
                StoredSignatureFormat::Legacy,
            ),
        };
        let search = StatementSearch {
            source,
            subject,
            format,
            clock: context.clock(),
            limits: context.limits(),
        };
        let found = signed_statement::find_signed_statement(search, statement, identity).await;
        Ok(found.unwrap_or_else(|error| {
            tracing::debug!(%error, "cannot tell whether it is signed already");
            None
        }))
    }
}

/// An identity in a key's place.
#[derive(Args)]
pub(super) struct IdentityTokenArgs {
    /// OpenID Connect token to sign with instead of a key, or - for stdin; needs --signing-config
    /// [env: SIGSTORE_ID_TOKEN]
    #[arg(long, value_name = "TOKEN", conflicts_with_all = ["key", "identity_token_file"])]
    identity_token: Option<String>,
    /// File with such a token; read again for every certificate
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    identity_token_file: Option<PathBuf>,
    /// The token of the environment, used if neither a key nor another token is given and there is
    /// a signing configuration
    #[arg(
        long = "identity-token-env",
        hide = true,
        env = "SIGSTORE_ID_TOKEN",
        hide_env_values = true
    )]
    ambient: Option<String>,
}

impl std::fmt::Debug for IdentityTokenArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdentityTokenArgs")
            .field("identity_token_file", &self.identity_token_file)
            .finish_non_exhaustive()
    }
}

/// Who vouches for the signature.
#[derive(Debug, Args)]
pub(super) struct SigstoreServiceArgs {
    /// signing_config.json: certificate authority, transparency logs and timestamp authorities to
    /// use
    #[arg(long, value_name = "FILE", requires = "trusted_root")]
    signing_config: Option<PathBuf>,
    /// trusted_root.json that the responses of these services are verified with, before anything is
    /// stored
    #[arg(long, value_name = "FILE", requires = "signing_config")]
    trusted_root: Option<PathBuf>,
}

impl BundleSignerArgs {
    /// The signer in the arguments, if there is one.
    pub(super) async fn load_bundle_signer(
        &self,
        certificate: &CertificateArgs,
        context: &CliContext,
    ) -> Result<Option<Box<dyn BundleSigner>>, CliError> {
        let services = self.services.load_services(|| context.http_client())?;
        let signer = self
            .key
            .load_signer()
            .await?
            .map(|signer| certificate.attach_certificate(signer))
            .transpose()?;
        if certificate.is_given() && services.is_some() {
            return Err(CliError::invalid(CERTIFICATE_IS_NOT_LOGGED));
        }
        match (
            signer,
            self.identity.token_source(services.is_some())?,
            services,
        ) {
            (Some(signer), _, None) => Ok(Some(Box::new(signer))),
            (Some(signer), _, Some(services)) => {
                Ok(Some(Box::new(LoggedKeySigner::new(signer, services)?)))
            }
            (None, Some(token), Some(services)) => {
                Ok(Some(Box::new(keyless_signer(services, token)?)))
            }
            (None, Some(_), None) => Err(CliError::new(Reason::NoSigner, NO_SERVICES)),
            (None, None, Some(_)) => Err(CliError::new(Reason::NoSigner, NO_SIGNER_GIVEN)),
            (None, None, None) => Ok(None),
        }
    }

    /// The signer in the arguments; an error if there is none.
    async fn require_bundle_signer(
        &self,
        certificate: &CertificateArgs,
        context: &CliContext,
    ) -> Result<Box<dyn BundleSigner>, CliError> {
        self.load_bundle_signer(certificate, context)
            .await?
            .ok_or_else(|| CliError::new(Reason::NoSigner, NO_SIGNER_GIVEN))
    }

    /// The signer for this format; an error if there is none.
    pub(super) async fn signer_for_format(
        &self,
        form: SignatureFormatArg,
        certificate: &CertificateArgs,
        context: &CliContext,
    ) -> Result<SelectedSigner, CliError> {
        Ok(match form {
            SignatureFormatArg::Bundle => {
                SelectedSigner::Bundle(self.require_bundle_signer(certificate, context).await?)
            }
            SignatureFormatArg::Legacy => {
                SelectedSigner::Legacy(self.require_key_signer(certificate).await?)
            }
        })
    }

    /// The key in the arguments, and nothing else; an error if there is none. cosign's older format
    /// is made with a key only.
    async fn require_key_signer(
        &self,
        certificate: &CertificateArgs,
    ) -> Result<Box<dyn Signer>, CliError> {
        if certificate.is_given()
            || self.services.signing_config.is_some()
            || self.identity.token_source(false)?.is_some()
        {
            return Err(CliError::invalid(
                "--signature-format Legacy is made with --key alone, leave out certificates, \
                    tokens and --signing-config",
            ));
        }
        self.key.require_signer().await
    }
}

const NO_SIGNER_GIVEN: &str = "no key was given, name one with --key (packgate keys generate makes one), or \
    an identity with --identity-token";
const CERTIFICATE_IS_NOT_LOGGED: &str = "a --certificate of a company's own authority is not recorded in logs, \
    leave out --signing-config";
const NO_SERVICES: &str = "keyless signing needs Sigstore services: give --signing-config and \
    --trusted-root: the certificate authority, the transparency log, \
                           and the root that their responses are verified with";

impl SigstoreServiceArgs {
    /// The services in the arguments, with `http` as their client.
    pub(super) fn load_services(
        &self,
        http: impl FnOnce() -> Result<HttpClient, CliError>,
    ) -> Result<Option<SigstoreServices>, CliError> {
        match (&self.signing_config, &self.trusted_root) {
            (Some(config), Some(root)) => Ok(Some(services_from_files(config, root, http()?)?)),
            _ => Ok(None),
        }
    }
}

/// The services in a file that are valid now.
pub(super) fn services_from_files(
    config: &Path,
    root: &Path,
    http: HttpClient,
) -> Result<SigstoreServices, CliError> {
    let limit = InputLimits::DEFAULT.manifest_bytes;
    let input = InputFile::read_limited(config, limit, Reason::InvalidSpec)?;
    let chosen = select_services(&input.bytes).map_err(|error| input.prefix_file_name(error))?;
    let input = InputFile::read_limited(root, limit, Reason::InvalidSpec)?;
    let root = TrustRoot::parse(&input.bytes, &InputLimits::DEFAULT)
        .map_err(|error| input.prefix_file_name(error.into()))?;
    Ok(SigstoreServices::new(http, chosen, Arc::new(root)))
}

/// The services of a TUF repository that are valid now.
pub(super) async fn services_from_tuf(
    repository: &TufRepositoryConfig,
    context: &CliContext,
) -> Result<SigstoreServices, CliError> {
    let http = context.http_client()?;
    let source = TufSource::new(http.with_own_counter());
    let found = refresh_for_signing(
        &source,
        &context.trust_cache()?,
        repository,
        context.clock().now(),
    )
    .await?;
    let chosen = select_services(found.signing_config.as_bytes()).map_err(|error| {
        CliError::new(
            error.reason,
            format!("TUF repository {}: {}", repository.url(), error.message),
        )
    })?;
    let root = TrustRoot::parse(found.fetched.trusted_root.as_bytes(), &InputLimits::DEFAULT)?;
    Ok(SigstoreServices::new(http, chosen, Arc::new(root)))
}

fn select_services(signing_config: &[u8]) -> Result<SelectedServices, CliError> {
    Ok(
        SigstoreSigningConfig::parse(signing_config, &InputLimits::DEFAULT)?
            .select_services(SystemClock.now())?,
    )
}

/// Signs with the token of `token`. An invalid token is an error immediately, before any work is
/// done.
pub(super) fn keyless_signer(
    services: SigstoreServices,
    token: TokenSource,
) -> Result<KeylessSigner, CliError> {
    token()?;
    Ok(KeylessSigner::new(services, token)?)
}

impl IdentityTokenArgs {
    fn token_source(&self, ambient: bool) -> Result<Option<TokenSource>, CliError> {
        match (
            &self.identity_token,
            &self.identity_token_file,
            &self.ambient,
        ) {
            (Some(text), ..) => Ok(Some(token_from_argument(text)?)),
            (None, Some(path), _) => Ok(Some(token_from_file(path.clone()))),
            (None, None, Some(text)) if ambient && !text.is_empty() => {
                Ok(Some(fixed_token(text.clone())))
            }
            _ => Ok(None),
        }
    }
}

/// A token from the command line, or with `-` from stdin.
pub(super) fn token_from_argument(text: &str) -> Result<TokenSource, CliError> {
    if text != "-" {
        return Ok(fixed_token(text.to_owned()));
    }
    let bytes = InputFile::read_limited(Path::new("-"), MAX_TOKEN, Reason::NoSigner)?.bytes;
    Ok(fixed_token(String::from_utf8_lossy(&bytes).into_owned()))
}

fn fixed_token(text: String) -> TokenSource {
    let text = Redacted::new(text);
    Box::new(move || IdentityToken::parse(text.expose(), SystemClock.now()))
}

/// A token from a file that another process keeps up to date.
pub(super) fn token_from_file(path: PathBuf) -> TokenSource {
    Box::new(move || {
        let input = InputFile::read_limited(&path, MAX_TOKEN, Reason::NoSigner)
            .map_err(|error| TokenError::Missing(error.message))?;
        IdentityToken::parse(&String::from_utf8_lossy(&input.bytes), SystemClock.now())
    })
}
