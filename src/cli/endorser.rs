//! Puts together who signs: a key, or an identity, with or without witnesses.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;

use super::{
    certificate::CertificateArgs,
    context::Context,
    exit::CliError,
    lockfile::Input,
    signer::{FormArg, KeyArgs},
};
use crate::{
    clock::{Clock, SystemClock},
    core::{
        class::Reason,
        limits::Limits,
        sigstore::{Services, SigningConfig},
        verify::TrustRoot,
    },
    http::{HttpClient, Redacted},
    service::trust_root::{Repository, obtain_for_signing},
    signing::{
        Endorser, IdentityToken, Keyless, MAX_TOKEN, Signer, SigstoreServices, TokenError,
        TokenSource, Witnessed,
    },
    trust::TufSource,
};

/// Who signs.
#[derive(Debug, Args)]
pub(super) struct EndorserArgs {
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    services: ServiceArgs,
}

/// Who signs in the form that was asked for.
pub(super) enum Given {
    /// Makes Sigstore bundles.
    Endorser(Box<dyn Endorser>),
    /// Makes cosign's older form.
    Key(Box<dyn Signer>),
}

/// An identity in a key's place.
#[derive(Args)]
pub(super) struct IdentityArgs {
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

impl std::fmt::Debug for IdentityArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdentityArgs")
            .field("identity_token_file", &self.identity_token_file)
            .finish_non_exhaustive()
    }
}

/// Who vouches for the signature.
#[derive(Debug, Args)]
pub(super) struct ServiceArgs {
    /// signing_config.json: certificate authority, transparency logs and timestamp authorities to
    /// use
    #[arg(long, value_name = "FILE", requires = "trusted_root")]
    signing_config: Option<PathBuf>,
    /// trusted_root.json that everything these services say is verified with, before anything is
    /// stored
    #[arg(long, value_name = "FILE", requires = "signing_config")]
    trusted_root: Option<PathBuf>,
}

impl EndorserArgs {
    /// Whoever was given, if anybody was.
    pub(super) async fn load(
        &self,
        certificate: &CertificateArgs,
        context: &Context,
    ) -> Result<Option<Box<dyn Endorser>>, CliError> {
        let services = self.services.load(|| context.http())?;
        let signer = self
            .key
            .load()
            .await?
            .map(|signer| certificate.with(signer))
            .transpose()?;
        if certificate.is_given() && services.is_some() {
            return Err(CliError::invalid(WITNESSED));
        }
        match (signer, self.identity.source(services.is_some())?, services) {
            (Some(signer), _, None) => Ok(Some(Box::new(signer))),
            (Some(signer), _, Some(services)) => {
                Ok(Some(Box::new(Witnessed::new(signer, services)?)))
            }
            (None, Some(token), Some(services)) => Ok(Some(Box::new(keyless(services, token)?))),
            (None, Some(_), None) => Err(CliError::new(Reason::NoSigner, NO_SERVICES)),
            (None, None, Some(_)) => Err(CliError::new(Reason::NoSigner, NOBODY)),
            (None, None, None) => Ok(None),
        }
    }

    /// Whoever was given, who must have been.
    async fn require(
        &self,
        certificate: &CertificateArgs,
        context: &Context,
    ) -> Result<Box<dyn Endorser>, CliError> {
        self.load(certificate, context)
            .await?
            .ok_or_else(|| CliError::new(Reason::NoSigner, NOBODY))
    }

    /// Whoever makes this form, who must have been given.
    pub(super) async fn given(
        &self,
        form: FormArg,
        certificate: &CertificateArgs,
        context: &Context,
    ) -> Result<Given, CliError> {
        Ok(match form {
            FormArg::Bundle => Given::Endorser(self.require(certificate, context).await?),
            FormArg::Legacy => Given::Key(self.require_key(certificate).await?),
        })
    }

    /// The key, which must have been given, and nothing else: cosign's older form is made with a
    /// key alone.
    async fn require_key(
        &self,
        certificate: &CertificateArgs,
    ) -> Result<Box<dyn Signer>, CliError> {
        if certificate.is_given()
            || self.services.signing_config.is_some()
            || self.identity.source(false)?.is_some()
        {
            return Err(CliError::invalid(
                "--signature-format Legacy is made with --key alone, leave out certificates, \
                    tokens and --signing-config",
            ));
        }
        self.key.require().await
    }
}

const NOBODY: &str = "no key was given, name one with --key (packgate keys generate makes one), or \
    an identity with --identity-token";
const WITNESSED: &str = "a --certificate of a company's own authority is not recorded in logs, \
    leave out --signing-config";
const NO_SERVICES: &str = "an identity token alone signs nothing, give --signing-config and \
    --trusted-root: who certifies it, who records it, \
                           and what their answers are verified with";

impl ServiceArgs {
    /// The services that were named, to be asked over `http`.
    pub(super) fn load(
        &self,
        http: impl FnOnce() -> Result<HttpClient, CliError>,
    ) -> Result<Option<SigstoreServices>, CliError> {
        match (&self.signing_config, &self.trusted_root) {
            (Some(config), Some(root)) => Ok(Some(services(config, root, http()?)?)),
            _ => Ok(None),
        }
    }
}

/// The services of a file, as they are now.
pub(super) fn services(
    config: &Path,
    root: &Path,
    http: HttpClient,
) -> Result<SigstoreServices, CliError> {
    let limit = Limits::DEFAULT.manifest_bytes;
    let input = Input::read(config, limit, Reason::InvalidSpec)?;
    let chosen = chosen(&input.bytes).map_err(|error| input.blame(error))?;
    let input = Input::read(root, limit, Reason::InvalidSpec)?;
    let root = TrustRoot::parse(&input.bytes, &Limits::DEFAULT)
        .map_err(|error| input.blame(error.into()))?;
    Ok(SigstoreServices::new(http, chosen, Arc::new(root)))
}

/// The services that a TUF repository names, as they are now.
pub(super) async fn services_of(
    repository: &Repository,
    context: &Context,
) -> Result<SigstoreServices, CliError> {
    let http = context.http()?;
    let source = TufSource::new(http.counted());
    let found = obtain_for_signing(
        &source,
        &context.trust_cache()?,
        repository,
        context.clock().now(),
    )
    .await?;
    let chosen = chosen(found.signing_config.as_bytes()).map_err(|error| {
        CliError::new(
            error.reason,
            format!("TUF repository {}: {}", repository.url(), error.message),
        )
    })?;
    let root = TrustRoot::parse(found.fetched.trusted_root.as_bytes(), &Limits::DEFAULT)?;
    Ok(SigstoreServices::new(http, chosen, Arc::new(root)))
}

fn chosen(signing_config: &[u8]) -> Result<Services, CliError> {
    Ok(SigningConfig::parse(signing_config, &Limits::DEFAULT)?.services(SystemClock.now())?)
}

/// Signs with what `token` gives. A token that is of no use now is told at once, before any work is
/// done.
pub(super) fn keyless(services: SigstoreServices, token: TokenSource) -> Result<Keyless, CliError> {
    token()?;
    Ok(Keyless::new(services, token)?)
}

impl IdentityArgs {
    fn source(&self, ambient: bool) -> Result<Option<TokenSource>, CliError> {
        match (
            &self.identity_token,
            &self.identity_token_file,
            &self.ambient,
        ) {
            (Some(text), ..) => Ok(Some(given(text)?)),
            (None, Some(path), _) => Ok(Some(token_file(path.clone()))),
            (None, None, Some(text)) if ambient && !text.is_empty() => {
                Ok(Some(fixed(text.clone())))
            }
            _ => Ok(None),
        }
    }
}

/// A token from the command line, or with `-` from stdin.
pub(super) fn given(text: &str) -> Result<TokenSource, CliError> {
    if text != "-" {
        return Ok(fixed(text.to_owned()));
    }
    let bytes = Input::read(Path::new("-"), MAX_TOKEN, Reason::NoSigner)?.bytes;
    Ok(fixed(String::from_utf8_lossy(&bytes).into_owned()))
}

fn fixed(text: String) -> TokenSource {
    let text = Redacted::new(text);
    Box::new(move || IdentityToken::parse(text.expose(), SystemClock.now()))
}

/// A token from a file that somebody keeps fresh.
pub(super) fn token_file(path: PathBuf) -> TokenSource {
    Box::new(move || {
        let input = Input::read(&path, MAX_TOKEN, Reason::NoSigner)
            .map_err(|error| TokenError::Missing(error.message))?;
        IdentityToken::parse(&String::from_utf8_lossy(&input.bytes), SystemClock.now())
    })
}
