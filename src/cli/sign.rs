//! `packgate sign`

use clap::Args;
use serde_json::json;

use super::{certificate::CertificateArgs, context::Context, endorser::EndorserArgs, exit::CliError, output::Done};
use crate::{core::reference::Location, service::sign};

const EXAMPLES: &str = "Examples:
  packgate sign registry.example.com/team-a/siem:v1.4.0 --key packgate.key
  packgate sign oci:out:v1 --key packgate.key
  packgate sign oci:out:v1 --key my-hsm://slot-1/release      asks the program sigstore-kms-my-hsm to sign
  packgate sign oci:out:v1 --key release.key --certificate release.crt
  packgate sign registry.example.com/team-a/siem:v1.4.0 --identity-token-file token \
    --signing-config signing_config.json --trusted-root trusted_root.json";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct SignArgs {
    /// What is signed: the digest that the reference names now
    reference: Location,
    #[command(flatten)]
    signer: EndorserArgs,
    #[command(flatten)]
    certificate: CertificateArgs,
}

pub(super) async fn run(args: SignArgs, context: &Context) -> Result<Done, CliError> {
    let signer = args.signer.require(&args.certificate, context).await?;
    let target = context.open(&args.reference)?;
    let subject = target.resolve(&args.reference.selector(), context.limits()).await?.descriptor;
    let referrer = sign::sign(&*target, &subject, &*signer, context.clock()).await?;
    target.finish().await?;
    let reference = args.reference.with_digest(subject.digest).to_string();
    Done::new(referrer.digest.to_string(), "SignResult", json!({"reference": reference, "digest": subject.digest, "referrer": referrer.digest}))
}
