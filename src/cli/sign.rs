//! `packgate sign`

use clap::Args;
use serde_json::json;

use super::{context::Context, exit::CliError, output::Done, signer::KeyArgs};
use crate::{core::reference::Location, service::sign};

const EXAMPLES: &str = "Examples:
  packgate sign registry.example.com/team-a/siem:v1.4.0 --key packgate.key
  packgate sign oci:out:v1 --key packgate.key
  packgate sign oci:out:v1 --key my-hsm://slot-1/release      asks the program sigstore-kms-my-hsm to sign";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct SignArgs {
    /// What is signed: the digest that the reference names now
    reference: Location,
    #[command(flatten)]
    key: KeyArgs,
}

pub(super) async fn run(args: SignArgs, context: &Context) -> Result<Done, CliError> {
    let signer = args.key.require().await?;
    let target = context.open(&args.reference)?;
    let subject = target.resolve(&args.reference.selector(), context.limits()).await?.descriptor;
    let referrer = sign::sign(&*target, &subject, &*signer, context.clock()).await?;
    target.finish().await?;
    let reference = args.reference.with_digest(subject.digest).to_string();
    Done::new(referrer.digest.to_string(), "SignResult", json!({"reference": reference, "digest": subject.digest, "referrer": referrer.digest}))
}
