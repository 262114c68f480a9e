//! The policies that a verdict is made with: those of files or of a cluster, or one of the keys and
//! identities on the command line.

use std::{path::Path, sync::Arc, time::Duration};

use super::trust_args::TrustArgs;
use crate::{
    cli::{
        cluster::{self, ClusterAdmissionSettings},
        context::CliContext,
        error::CliError,
        input_file::InputFile,
        policy_files::PolicyFiles,
        registry_clients::RegistryClients,
        signer::load_kms_signer,
    },
    cluster_reader::PullCredentials,
    core::{
        limits::InputLimits,
        lockfile::Lockfile,
        policy::{
            AdHocPolicyOptions, AuthorityKind, ClaimsRule, Policy, PolicyAuthority, SubjectMatcher,
        },
        reason::Reason,
        verify::{CertificateAuthority, StoredSignatureFormat, TrustRoot, VerificationKey},
    },
    oci::credentials::CredentialStore,
};

/// The size of a public key file that is read.
const MAX_KEY: usize = 64 << 10;
/// The size of a file with certificates or revocation lists that is read.
const MAX_AUTHORITY: usize = 4 << 20;

/// The policies, and the settings of reading evidence as at admission.
pub(super) struct VerificationTerms {
    pub(super) policies: Vec<Policy>,
    pub(super) admission: Option<AdmissionTerms>,
}

/// How admission reads evidence.
pub(super) struct AdmissionTerms {
    pub(super) registries: Arc<RegistryClients>,
    pub(super) credentials: Arc<dyn CredentialStore>,
    /// Those of the Secrets that the image is pulled with.
    pub(super) pulled: PullCredentials,
    pub(super) deadline: Duration,
}

impl TrustArgs {
    /// The terms from the arguments. Errors: no authority, an invalid file, a cluster that is
    /// unavailable.
    pub(super) async fn load_terms(
        &self,
        context: &CliContext,
    ) -> Result<VerificationTerms, CliError> {
        if self.cluster {
            let ClusterAdmissionSettings {
                policies,
                registries,
                credentials,
                pulled,
                deadline,
            } = cluster::load_admission_settings(
                self.namespace.as_deref(),
                &self.pull_secrets,
                context.explicit_credentials()?,
                context.clock().now(),
            )
            .await?;
            return Ok(VerificationTerms {
                policies,
                admission: Some(AdmissionTerms {
                    registries,
                    credentials,
                    pulled,
                    deadline,
                }),
            });
        }
        Ok(VerificationTerms {
            policies: self.load_policies(context).await?,
            admission: None,
        })
    }

    async fn load_policies(&self, context: &CliContext) -> Result<Vec<Policy>, CliError> {
        if !self.policies.is_empty() {
            return PolicyFiles::read_files(&self.policies)?
                .compile_policies(!self.root.offline, context)
                .await;
        }
        if !self.is_given() {
            return Err(CliError::invalid(
                "no trusted key, identity or policy is given: give --key FILE, --policy FILE or --cluster, or \
                    --certificate-identity with its issuer or its certificate authority",
            ));
        }
        let lock = self
            .lock
            .as_ref()
            .map(|path| InputFile::read_lockfile(path)?.parse_lockfile())
            .transpose()?;
        let wish = AdHocPolicyOptions {
            authorities: self.load_authorities(context).await?,
            builder_id: self.builder_id.clone(),
            lock: lock
                .as_ref()
                .map(|lock: &Lockfile| lock.to_canonical().digest),
            transparency: self.transparency.into(),
            ..AdHocPolicyOptions::default()
        };
        let formats: Vec<StoredSignatureFormat> = self
            .formats
            .iter()
            .copied()
            .map(StoredSignatureFormat::from)
            .collect();
        let wish = if formats.is_empty() {
            wish
        } else {
            AdHocPolicyOptions { formats, ..wish }
        };
        Ok(vec![Policy::ad_hoc(wish)?])
    }

    async fn load_authorities(
        &self,
        context: &CliContext,
    ) -> Result<Vec<PolicyAuthority>, CliError> {
        let own = self.load_certificate_authority()?;
        let root = self
            .root
            .load_trust_root(self.identity_is_given() && own.is_none(), context)
            .await?;
        let mut authorities = Vec::new();
        for key in &self.keys {
            authorities.push(key_authority(key, root.clone()).await?);
        }
        let Some(subject) = self.identity_match()? else {
            return Ok(authorities);
        };
        let name = subject.as_str().to_owned();
        let kind = match (own, &self.certificate_oidc_issuer, root) {
            (Some(authority), _, root) => AuthorityKind::Certificate {
                subject,
                authority: Arc::new(authority),
                root,
            },
            (None, Some(issuer), Some(root)) => AuthorityKind::Keyless {
                subject,
                issuer: issuer.clone(),
                claims: ClaimsRule::default(),
                root,
            },
            _ => {
                return Err(CliError::invalid(
                    "--certificate-identity needs --certificate-oidc-issuer, or \
                        --certificate-authority",
                ));
            }
        };
        authorities.push(PolicyAuthority { name, kind });
        Ok(authorities)
    }

    fn load_certificate_authority(&self) -> Result<Option<CertificateAuthority>, CliError> {
        let Some(path) = &self.certificate_authority else {
            return Ok(None);
        };
        let certificates = InputFile::read_limited(path, MAX_AUTHORITY, Reason::InvalidSpec)?;
        let lists = self
            .certificate_revocation_list
            .as_ref()
            .map(|path| InputFile::read_limited(path, MAX_AUTHORITY, Reason::InvalidSpec))
            .transpose()?;
        let lists = lists.as_ref().map(|lists| lists.bytes.as_slice());
        let authority =
            CertificateAuthority::parse(&certificates.bytes, lists, &InputLimits::DEFAULT);
        authority
            .map(Some)
            .map_err(|error| certificates.prefix_file_name(error.into()))
    }

    const fn identity_is_given(&self) -> bool {
        self.certificate_identity.is_some() || self.certificate_identity_regexp.is_some()
    }

    fn identity_match(&self) -> Result<Option<SubjectMatcher>, CliError> {
        let wrong = |flag: &'static str| {
            move |problem: String| CliError::invalid(format!("{flag} {problem}"))
        };
        match (
            &self.certificate_identity,
            &self.certificate_identity_regexp,
        ) {
            (Some(exact), _) => SubjectMatcher::exact(exact)
                .map(Some)
                .map_err(wrong("--certificate-identity")),
            (None, Some(regexp)) => SubjectMatcher::regexp(regexp)
                .map(Some)
                .map_err(wrong("--certificate-identity-regexp")),
            (None, None) => Ok(None),
        }
    }
}

async fn key_authority(
    path: &Path,
    root: Option<Arc<TrustRoot>>,
) -> Result<PolicyAuthority, CliError> {
    let key = match load_kms_signer(path).await? {
        Some(signer) => signer.key().clone(),
        None => read_key(path)?,
    };
    Ok(PolicyAuthority {
        name: path.display().to_string(),
        kind: AuthorityKind::Key { key, root },
    })
}

fn read_key(path: &Path) -> Result<VerificationKey, CliError> {
    let input = InputFile::read_limited(path, MAX_KEY, Reason::InvalidSpec)?;
    let pem = String::from_utf8_lossy(&input.bytes);
    VerificationKey::from_pem(&pem).map_err(|error| input.prefix_file_name(error.into()))
}
