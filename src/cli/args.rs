//! The arguments shared by all subcommands, and the list of subcommands.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

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
Exit codes: 0 done or admitted, 1 denied, 2 invalid input, 3 a dependency did not answer, 4 bytes \
contradict a digest or format, 70 our bug.";

/// Options of every verb.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct GlobalArgs {
    /// What is printed on stdout: text for people, or one JSON document
    #[arg(short, long, global = true, value_enum, default_value_t = CliOutputFormat::Text)]
    pub(super) output: CliOutputFormat,
    /// Speak plain HTTP with these registries, for tests and closed networks; without a host, with
    /// the only one that the command uses
    #[arg(long, global = true, value_name = "HOST,…", num_args = 0..=1, require_equals = true, value_delimiter = ',', default_missing_value = "")]
    pub(super) plain_http: Vec<String>,
    /// Docker configuration with registry credentials [default: $DOCKER_CONFIG/config.json or
    /// ~/.docker/config.json]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "PACKGATE_REGISTRY_CONFIG"
    )]
    pub(super) registry_config: Option<PathBuf>,
    /// Further certificate authorities to trust, in PEM
    #[arg(long, global = true, value_name = "FILE", env = "PACKGATE_CA_FILE")]
    pub(super) ca_file: Option<PathBuf>,
    /// No progress on stderr
    #[arg(short, long, global = true)]
    pub(super) quiet: bool,
    /// Verbose log on stderr; twice for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
    #[arg(long, hide = true, env = "DOCKER_CONFIG", global = true)]
    pub(super) docker_config_dir: Option<PathBuf>,
    /// Cache directory for the trust roots of TUF repositories [default: $XDG_CACHE_HOME/packgate or
    /// ~/.cache/packgate]
    #[arg(long, global = true, value_name = "DIR", env = "PACKGATE_CACHE_DIR")]
    pub(super) cache_dir: Option<PathBuf>,
    #[arg(long, hide = true, env = "XDG_CACHE_HOME", global = true)]
    pub(super) xdg_cache_home: Option<PathBuf>,
    #[arg(long, hide = true, env = "HOME", global = true)]
    pub(super) home: Option<PathBuf>,
}

/// What a result is printed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum CliOutputFormat {
    Text,
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum CliCommand {
    /// Fetch what a lock names and pack it into a bundle; sign and attest it when a key is given
    Pack(super::pack::PackArgs),
    /// Predict the digest that packing will give, without fetching anything
    Plan(super::plan::PlanArgs),
    /// Make, check or refresh a lockfile: digests, sizes, and what the layers will be
    Lock(super::lock::LockArgs),
    /// Show what a bundle or a lockfile holds
    Inspect(super::inspect::InspectArgs),
    /// Verify a bundle, then write its files into a new folder
    Unpack(super::unpack::UnpackArgs),
    /// Sign a bundle or image, as cosign does
    Sign(super::sign::SignArgs),
    /// Attach a signed attestation
    Attest(super::attest::AttestArgs),
    /// Verify a bundle against keys or policies as admission would, and report why
    Verify(super::verify::VerifyArgs),
    /// Copy a bundle with its signatures and attestations
    Copy(super::copy::CopyArgs),
    /// Make detached Sigstore bundles of files as the Sigstore conformance suite does, and verify
    /// them
    Sigstore(super::sigstore::SigstoreArgs),
    /// Make and show signing keys
    Keys(super::keys::KeysArgs),
    /// Validate policies off-line
    Policy(super::policy::PolicyArgs),
    /// Run the operator: reconcile PackedBundles in a cluster
    Controller(super::controller::ControllerArgs),
    /// Run the admission webhook: deny what the policies of the cluster do not allow
    Webhook(super::webhook::WebhookArgs),
    /// Run one step of a PackedBundle, as the controller's Jobs do
    Job(super::job::JobArgs),
    /// Print the Kubernetes custom resource definitions
    Crds(super::crds::CrdsArgs),
    /// Print the Kubernetes roles and bindings
    Rbac(super::rbac::RbacArgs),
    /// Print a completion script for a shell
    Completion(super::completion::CompletionArgs),
    /// Print the version
    Version,
}
