//! `packgate sigstore`: Sigstore bundles of files, with exactly the arguments that the
//! sigstore-conformance suite gives its clients.

mod sign_bundle;
mod verify_bundle;

use clap::{Args, Subcommand};

use super::{context::CliContext, error::CliError, output::CommandResult};

const EXAMPLES: &str = "Examples:
  packgate sigstore verify-bundle --bundle a.sigstore.json --certificate-identity \
  release@example.com \\
    --certificate-oidc-issuer https://oidc.example.com --trusted-root trusted_root.json a.txt
  packgate sigstore verify-bundle --bundle a.sigstore.json --key cosign.pub --trusted-root \
  trusted_root.json sha256:…
  packgate sigstore sign-bundle --identity-token TOKEN --bundle a.sigstore.json --trusted-root \
  trusted_root.json \\
    --signing-config signing_config.json a.txt";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct SigstoreArgs {
    #[command(subcommand)]
    command: SigstoreCommand,
}

#[derive(Debug, Subcommand)]
enum SigstoreCommand {
    /// Verify the Sigstore bundle of a file
    VerifyBundle(verify_bundle::VerifyBundleArgs),
    /// Sign a file, or an in-toto statement, with an identity token, and write a Sigstore bundle
    SignBundle(sign_bundle::SignBundleArgs),
}

pub(super) async fn run_sigstore(
    args: SigstoreArgs,
    context: &CliContext,
) -> Result<CommandResult, CliError> {
    match args.command {
        SigstoreCommand::VerifyBundle(args) => {
            verify_bundle::run_verify_bundle(args, context).await
        }
        SigstoreCommand::SignBundle(args) => sign_bundle::run_sign_bundle(args, context).await,
    }
}
