//! `packgate sign`

use clap::Args;
use serde_json::json;

use super::{
    certificate::CertificateArgs,
    context::Context,
    endorser::{EndorserArgs, Given},
    exit::CliError,
    output::Done,
    pack::subject_name,
    signer::FormArg,
};
use crate::{
    core::reference::Location,
    service::{sign, sign_beside},
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
    reference: Location,
    /// How it is stored: as a Sigstore bundle that refers to it, or, for tools that know nothing
    /// newer, under cosign's older tag beside it
    #[arg(long = "signature-format", value_enum, ignore_case = true, value_name = "Bundle|Legacy", default_value_t = FormArg::Bundle, hide_possible_values = true)]
    form: FormArg,
    #[command(flatten)]
    signer: EndorserArgs,
    #[command(flatten)]
    certificate: CertificateArgs,
}

pub(super) async fn run(args: SignArgs, context: &Context) -> Result<Done, CliError> {
    let given = args
        .signer
        .given(args.form, &args.certificate, context)
        .await?;
    let target = context.open(&args.reference)?;
    let subject = target
        .resolve(&args.reference.selector(), context.limits())
        .await?
        .descriptor;
    let name = subject_name(&args.reference, None);
    let referrer = match given {
        Given::Endorser(signer) => {
            sign::sign(&*target, &subject, &name, &*signer, context.clock())
                .await?
                .digest
        }
        Given::Key(signer) => sign_beside::sign(&*target, &subject, &name, &*signer).await?,
    };
    target.finish().await?;
    let reference = args.reference.with_digest(subject.digest).to_string();
    Done::new(
        referrer.to_string(),
        "SignResult",
        json!({"reference": reference, "digest": subject.digest, "referrer": referrer}),
    )
}
