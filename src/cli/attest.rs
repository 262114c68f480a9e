//! `packgate attest`

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::{
    bundle_signer::{BundleSignerArgs, SelectedSigner},
    certificate::CertificateArgs,
    context::CliContext,
    destination::subject_name,
    error::CliError,
    input_file::InputFile,
    output::CommandResult,
    signer::SignatureFormatArg,
};
use crate::{
    core::{
        limits::InputLimits,
        predicate,
        reason::Reason,
        reference::{BundleLocation, ImageRepository},
    },
    service::{
        cosign_tag_signing,
        sign::{self, AttestationClaim},
    },
};

const EXAMPLES: &str = "Examples:
  packgate attest registry.example.com/team-a/siem:v1.4.0 --predicate provenance.json --type \
  slsaprovenance1 --key packgate.key
  packgate attest oci:out:v1 --predicate sbom.spdx.json --type spdxjson --key packgate.key";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct AttestArgs {
    /// What the attestation is about: the digest that the reference names now
    reference: BundleLocation,
    /// The predicate, a JSON document, or - for stdin
    #[arg(long, value_name = "FILE")]
    predicate: PathBuf,
    /// The predicate's type: a URI, or slsaprovenance1, spdxjson, cyclonedx, custom …
    #[arg(long = "type", value_name = "URI")]
    predicate_type: String,
    /// Signature format: a Sigstore bundle attached as an OCI referrer, or, for older tools,
    /// cosign's tag-based format (sha256-….att)
    #[arg(long = "signature-format", value_enum, ignore_case = true, value_name = "Bundle|Legacy", default_value_t = SignatureFormatArg::Bundle, hide_possible_values = true)]
    form: SignatureFormatArg,
    /// Sign again what this signer has attested before; without it nothing is written then
    #[arg(long)]
    force: bool,
    /// Write the attestation to this repository, and not to that of the reference
    #[arg(long, value_name = "REPOSITORY", env = "PACKGATE_SIGNATURE_REPOSITORY")]
    signature_repository: Option<ImageRepository>,
    #[command(flatten)]
    signer: BundleSignerArgs,
    #[command(flatten)]
    certificate: CertificateArgs,
}

pub(super) async fn run_attest(
    args: AttestArgs,
    context: &CliContext,
) -> Result<CommandResult, CliError> {
    let given = args
        .signer
        .signer_for_format(args.form, &args.certificate, context)
        .await?;
    let limits = context.limits();
    let predicate = read_predicate(&args.predicate, limits)?;
    let predicate_type = predicate::predicate_type_uri(&args.predicate_type)?;
    let bundle = context.open_signing_target(&args.reference)?;
    let signatures = args.signature_repository.as_ref();
    let target = context.signature_target(&bundle, signatures)?;
    let root = bundle
        .resolve_manifest(&args.reference.tag_or_digest(), limits)
        .await?;
    let subject = &root.descriptor;
    let name = subject_name(&args.reference, None);
    let claim = AttestationClaim {
        subject_name: &name,
        predicate_type: &predicate_type,
        predicate,
    };
    let known = if args.force {
        None
    } else {
        let statement = claim.clone().into_statement(&subject.digest);
        let signed = context.with_signature_repository(bundle, signatures)?;
        given
            .find_signed_statement(&*signed, &root, &statement, context)
            .await?
    };
    let referrer = match (known, given) {
        (Some(known), _) => known,
        (None, SelectedSigner::Bundle(signer)) => {
            sign::attest_subject(&*target, subject, claim, &*signer, context.clock())
                .await?
                .digest
        }
        (None, SelectedSigner::Legacy(signer)) => {
            cosign_tag_signing::attest_with_cosign_tag(&*target, subject, claim, &*signer).await?
        }
    };
    target.commit_changes().await?;
    let reference = args.reference.with_digest(subject.digest).to_string();
    if known.is_some() {
        tracing::warn!("this signer has attested that of {reference} already; --force repeats it");
    }
    let fields = json!({
        "reference": reference,
        "digest": subject.digest,
        "predicateType": predicate_type,
        "referrer": referrer,
        "existed": known.is_some(),
    });
    CommandResult::new(referrer.to_string(), "AttestResult", fields)
}

fn read_predicate(path: &Path, limits: &InputLimits) -> Result<Value, CliError> {
    let limit = limits.sigstore_bundle_bytes;
    let input = InputFile::read_limited(path, limit, Reason::LimitExceeded)?;
    predicate::parse_predicate(&input.bytes, limits)
        .map_err(|error| input.prefix_file_name(error.into()))
}
