//! `packgate attest`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{
    certificate::CertificateArgs,
    context::Context,
    endorser::{EndorserArgs, Given},
    exit::CliError,
    lockfile::Input,
    output::Done,
    pack::subject_name,
    signer::FormArg,
};
use crate::{
    core::{class::Reason, predicate, reference::Location},
    service::{
        sign::{self, Claim},
        sign_beside,
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
    reference: Location,
    /// The predicate, a JSON document, or - for stdin
    #[arg(long, value_name = "FILE")]
    predicate: PathBuf,
    /// The predicate's type: a URI, or slsaprovenance1, spdxjson, cyclonedx, custom …
    #[arg(long = "type", value_name = "URI")]
    predicate_type: String,
    /// How it is stored: as a Sigstore bundle that refers to it, or, for tools that know nothing
    /// newer, under cosign's older tag beside it
    #[arg(long = "signature-format", value_enum, ignore_case = true, value_name = "Bundle|Legacy", default_value_t = FormArg::Bundle, hide_possible_values = true)]
    form: FormArg,
    #[command(flatten)]
    signer: EndorserArgs,
    #[command(flatten)]
    certificate: CertificateArgs,
}

pub(super) async fn run(args: AttestArgs, context: &Context) -> Result<Done, CliError> {
    let given = args
        .signer
        .given(args.form, &args.certificate, context)
        .await?;
    let limits = context.limits();
    let input = Input::read(
        &args.predicate,
        limits.sigstore_bundle_bytes,
        Reason::LimitExceeded,
    )?;
    let predicate =
        predicate::parse(&input.bytes, limits).map_err(|error| input.blame(error.into()))?;
    let predicate_type = predicate::type_uri(&args.predicate_type)?;
    let target = context.open(&args.reference)?;
    let subject = target
        .resolve(&args.reference.selector(), limits)
        .await?
        .descriptor;
    let name = subject_name(&args.reference, None);
    let claim = Claim {
        subject_name: &name,
        predicate_type: &predicate_type,
        predicate,
    };
    let referrer = match given {
        Given::Endorser(signer) => {
            sign::attest(&*target, &subject, claim, &*signer, context.clock())
                .await?
                .digest
        }
        Given::Key(signer) => sign_beside::attest(&*target, &subject, claim, &*signer).await?,
    };
    target.finish().await?;
    let reference = args.reference.with_digest(subject.digest).to_string();
    let fields = json!({
        "reference": reference,
        "digest": subject.digest,
        "predicateType": predicate_type,
        "referrer": referrer,
    });
    Done::new(referrer.to_string(), "AttestResult", fields)
}
