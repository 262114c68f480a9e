//! The subcommands: their arguments and what runs each of them. No other file knows all of them.

use clap::{CommandFactory, Parser, Subcommand};

use super::{
    attest, completion, context::CliContext, controller, copy, crds, error::CliError,
    global_args::GlobalArgs, inspect, job, keys, lock, output::CommandResult, pack, plan, policy,
    rbac, sign, sigstore, unpack, verify, version, webhook,
};

/// Packs what a lockfile names into a signed, attested OCI bundle, and verifies it again.
#[derive(Debug, Parser)]
#[command(name = "packgate", version, propagate_version = true, after_help = EXAMPLES, max_term_width = 120)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: GlobalArgs,
    #[command(subcommand)]
    pub(super) command: CliCommand,
}

const EXAMPLES: &str = "Examples:
  packgate keys generate
  packgate pack examples/hello/lock.yaml --to oci:out:v1 --key packgate.key
  packgate verify oci:out:v1 --key packgate.pub

References: REGISTRY/REPOSITORY[:TAG][@DIGEST], oci:DIR[:TAG] (an OCI layout), \
oci-archive:FILE[:TAG] (a tar of one).
Exit codes: 0 done or admitted, 1 denied, 2 invalid input, 3 a dependency did not answer or refused, \
4 bytes contradict a digest or format, 70 our bug.";

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum CliCommand {
    /// Fetch what a lock names and pack it into a bundle; sign and attest it when a key is given
    Pack(pack::PackArgs),
    /// Predict the digest that packing will give, without fetching anything
    Plan(plan::PlanArgs),
    /// Make, check or refresh a lockfile: digests, sizes, and what the layers will be
    Lock(lock::LockArgs),
    /// Show what a bundle or a lockfile holds
    Inspect(inspect::InspectArgs),
    /// Verify a bundle, then write its files into a new folder
    Unpack(unpack::UnpackArgs),
    /// Sign a bundle or image, as cosign does
    Sign(sign::SignArgs),
    /// Attach a signed attestation
    Attest(attest::AttestArgs),
    /// Verify a bundle against keys or policies as admission would, and report why
    Verify(verify::VerifyArgs),
    /// Copy a bundle with its signatures and attestations
    Copy(copy::CopyArgs),
    /// Make detached Sigstore bundles of files as the Sigstore conformance suite does, and verify
    /// them
    Sigstore(sigstore::SigstoreArgs),
    /// Make and show signing keys
    Keys(keys::KeysArgs),
    /// Validate policies off-line
    Policy(policy::PolicyArgs),
    /// Run the operator: reconcile PackedBundles in a cluster
    Controller(controller::ControllerArgs),
    /// Run the admission webhook: deny what the policies of the cluster do not allow
    Webhook(webhook::WebhookArgs),
    /// Run one step of a PackedBundle, as the controller's Jobs do
    Job(job::JobArgs),
    /// Print the Kubernetes custom resource definitions
    Crds(crds::CrdsArgs),
    /// Print the Kubernetes roles and bindings
    Rbac(rbac::RbacArgs),
    /// Print a completion script for a shell
    Completion(completion::CompletionArgs),
    /// Print the version
    Version,
}

impl CliCommand {
    /// True if it serves until it is stopped: its log is for machines.
    pub(super) const fn is_server(&self) -> bool {
        matches!(self, Self::Controller(_) | Self::Webhook(_))
    }

    /// Runs the subcommand.
    pub(super) async fn run_command(self, context: &CliContext) -> Result<CommandResult, CliError> {
        match self {
            Self::Pack(args) => pack::run_pack(args, context).await,
            Self::Plan(args) => plan::run_plan(&args, context),
            Self::Lock(args) => lock::run_lock(args, context).await,
            Self::Inspect(args) => inspect::run_inspect(args, context).await,
            Self::Unpack(args) => unpack::run_unpack(args, context).await,
            Self::Sign(args) => sign::run_sign(args, context).await,
            Self::Attest(args) => attest::run_attest(args, context).await,
            Self::Sigstore(args) => sigstore::run_sigstore(args, context).await,
            Self::Verify(args) => verify::run_verify(args, context).await,
            Self::Copy(args) => copy::run_copy(args, context).await,
            Self::Keys(args) => keys::run_keys(args).await,
            Self::Policy(args) => policy::run_policy(args, context).await,
            Self::Job(args) => Box::pin(job::run_job(args, context)).await,
            Self::Controller(args) => Box::pin(controller::run_controller(args)).await,
            Self::Webhook(args) => Box::pin(webhook::run_webhook(args)).await,
            Self::Crds(args) => crds::run_crds(&args),
            Self::Rbac(args) => rbac::run_rbac(&args),
            Self::Completion(args) => completion::run_completion(&args, &mut Cli::command()),
            Self::Version => Ok(version::run_version()),
        }
    }
}
