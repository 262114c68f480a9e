//! `packgate sign`

use clap::Args;
use serde_json::json;

use super::{
    bundle_signer::{BundleSignerArgs, SelectedSigner},
    certificate::CertificateArgs,
    context::CliContext,
    destination::subject_name,
    error::CliError,
    output::CommandResult,
    signer::SignatureFormatArg,
};
use crate::{
    core::reference::{BundleLocation, ImageRepository},
    service::{cosign_tag_signing, sign},
};

const EXAMPLES: &str = "Examples:
  packgate sign registry.example.com/team-a/siem:v1.4.0 --key packgate.key
  packgate sign oci:out:v1 --key packgate.key
  packgate sign oci:out:v1 --key my-hsm://slot-1/release      asks the program sigstore-kms-my-hsm \
  to sign
  packgate sign oci:out:v1 --key release.key --certificate release.crt
  packgate sign registry.example.com/team-a/siem:v1.4.0 --identity-token-file token \
    --signing-config signing_config.json --trusted-root trusted_root.json";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct SignArgs {
    /// What is signed: the digest that the reference names now
    reference: BundleLocation,
    /// Signature format: a Sigstore bundle attached as an OCI referrer, or, for older tools,
    /// cosign's tag-based format (sha256-….sig)
    #[arg(long = "signature-format", value_enum, ignore_case = true, value_name = "Bundle|Legacy", default_value_t = SignatureFormatArg::Bundle, hide_possible_values = true)]
    form: SignatureFormatArg,
    /// Sign again what this signer has signed before; without it nothing is written then
    #[arg(long)]
    force: bool,
    /// Write the signature to this repository, and not to that of the reference
    #[arg(long, value_name = "REPOSITORY", env = "PACKGATE_SIGNATURE_REPOSITORY")]
    signature_repository: Option<ImageRepository>,
    #[command(flatten)]
    signer: BundleSignerArgs,
    #[command(flatten)]
    certificate: CertificateArgs,
}

pub(super) async fn run_sign(
    args: SignArgs,
    context: &CliContext,
) -> Result<CommandResult, CliError> {
    let given = args
        .signer
        .signer_for_format(args.form, &args.certificate, context)
        .await?;
    let bundle = context.open_signing_target(&args.reference)?;
    let signatures = args.signature_repository.as_ref();
    let target = context.signature_target(&bundle, signatures)?;
    let root = bundle
        .resolve_manifest(&args.reference.tag_or_digest(), context.limits())
        .await?;
    let subject = &root.descriptor;
    let name = subject_name(&args.reference, None);
    let statement = sign::signature_claim(&name).into_statement(&subject.digest);
    let known = if args.force {
        None
    } else {
        let signed = context.with_signature_repository(bundle, signatures)?;
        given
            .find_signed_statement(&*signed, &root, &statement, context)
            .await?
    };
    let referrer = match (known, given) {
        (Some(known), _) => known,
        (None, SelectedSigner::Bundle(signer)) => {
            sign::sign_subject(&*target, subject, &name, &*signer, context.clock())
                .await?
                .digest
        }
        (None, SelectedSigner::Legacy(signer)) => {
            cosign_tag_signing::sign_with_cosign_tag(&*target, subject, &name, &*signer).await?
        }
    };
    target.commit_changes().await?;
    let reference = args.reference.with_digest(subject.digest).to_string();
    if known.is_some() {
        tracing::warn!("{reference} is signed by this signer already; --force signs it again");
    }
    let fields = json!({
        "reference": reference,
        "digest": subject.digest,
        "referrer": referrer,
        "existed": known.is_some(),
    });
    CommandResult::new(referrer.to_string(), "SignResult", fields)
}
