//! `packgate attest`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{
    certificate::CertificateArgs, context::Context, endorser::EndorserArgs, exit::CliError, lockfile::Input, output::Done, pack::subject_name,
};
use crate::{
    core::{class::Reason, predicate, reference::Location},
    service::sign::{self, Claim},
};

const EXAMPLES: &str = "Examples:
  packgate attest registry.example.com/team-a/siem:v1.4.0 --predicate provenance.json --type slsaprovenance1 --key packgate.key
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
    #[command(flatten)]
    signer: EndorserArgs,
    #[command(flatten)]
    certificate: CertificateArgs,
}

pub(super) async fn run(args: AttestArgs, context: &Context) -> Result<Done, CliError> {
    let signer = args.signer.require(&args.certificate, context).await?;
    let limits = context.limits();
    let input = Input::read(&args.predicate, limits.sigstore_bundle_bytes, Reason::LimitExceeded)?;
    let predicate = predicate::parse(&input.bytes, limits).map_err(|error| input.blame(error.into()))?;
    let predicate_type = predicate::type_uri(&args.predicate_type)?;
    let target = context.open(&args.reference)?;
    let subject = target.resolve(&args.reference.selector(), limits).await?.descriptor;
    let name = subject_name(&args.reference, None);
    let claim = Claim { subject_name: &name, predicate_type: &predicate_type, predicate };
    let referrer = sign::attest(&*target, &subject, claim, &*signer, context.clock()).await?;
    target.finish().await?;
    let reference = args.reference.with_digest(subject.digest).to_string();
    let fields = json!({"reference": reference, "digest": subject.digest, "predicateType": predicate_type, "referrer": referrer.digest});
    Done::new(referrer.digest.to_string(), "AttestResult", fields)
}
