//! `packgate policy`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    cluster,
    context::CliContext,
    error::CliError,
    output::CommandResult,
    policy_files::PolicyFiles,
    verify::{TrustArgs, UseArg, verify_and_report},
};
use crate::core::{
    policy::{Policy, PolicyApplicability, PolicyOrigin, ReferenceUse},
    reference::{BundleLocation, ImageReference},
};

const EXAMPLES: &str = "Examples:
  packgate policy check policy.yaml
  kubectl get cbpol -o yaml | packgate policy check -
  packgate policy test policy.yaml --reference registry.example.com/team-a/siem@sha256:… --use \
  ImageVolume
  packgate policy explain registry.example.com/team-a/siem --use ImageVolume --namespace team-a \
  --cluster";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Validate policies by compiling them as the webhook does
    Check {
        /// YAML files with policies and the ConfigMaps and TrustRoots that they name; - for stdin
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Evaluate policies from files on a reference, as admission would
    Test {
        /// YAML files with policies and the ConfigMaps and TrustRoots that they name; - for stdin
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The bundle or image
        #[arg(long)]
        reference: BundleLocation,
        #[command(flatten)]
        scope: ScopeArgs,
    },
    /// Explain which policies govern a reference, why the others do not, and what they require; no registry
    /// is contacted
    Explain {
        /// The bundle or image; neither tag nor digest matters
        reference: ImageReference,
        #[command(flatten)]
        scope: ScopeArgs,
        /// Policies, and the ConfigMaps they name, in one or more YAML files; - for stdin
        #[arg(
            long = "policy",
            value_name = "FILE",
            required_unless_present = "cluster"
        )]
        policies: Vec<PathBuf>,
        /// Use the policies of the current kubeconfig's cluster
        #[arg(long, conflicts_with = "policies")]
        cluster: bool,
    },
}

/// What a reference is used as, and where.
#[derive(Debug, Args)]
struct ScopeArgs {
    /// What the bundle is used as
    #[arg(long = "use", value_enum, ignore_case = true, default_value_t = UseArg::PackedBundle)]
    used_as: UseArg,
    /// The namespace that it is used in
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<String>,
}

pub(super) async fn run_policy(
    args: PolicyArgs,
    context: &CliContext,
) -> Result<CommandResult, CliError> {
    match args.command {
        PolicyCommand::Check { files } => check_policy_files(&files, context).await,
        PolicyCommand::Test {
            files,
            reference,
            scope,
        } => {
            let trust = TrustArgs::from_policy_files(files, scope.used_as, scope.namespace);
            verify_and_report(&trust, &reference, context).await
        }
        PolicyCommand::Explain {
            reference,
            scope,
            policies,
            cluster,
        } => {
            let policies = if cluster {
                cluster::load_policies(scope.namespace.as_deref(), context.clock().now()).await?
            } else {
                PolicyFiles::read_files(&policies)?
                    .compile_offline(context)
                    .await?
            };
            explain_policies(&reference, &scope, &policies)
        }
    }
}

async fn check_policy_files(
    files: &[PathBuf],
    context: &CliContext,
) -> Result<CommandResult, CliError> {
    let policies = PolicyFiles::read_files(files)?;
    let compiled = policies.check_policies(context).await?;
    let warnings: Vec<String> = compiled.iter().flat_map(Policy::unsafe_settings).collect();
    let names: Vec<&str> = policies.policy_names().collect();
    let mut lines: Vec<String> = names.iter().map(|name| format!("{name}: valid")).collect();
    lines.extend(warnings.iter().map(|warning| format!("unsafe: {warning}")));
    CommandResult::new(
        lines.join("\n"),
        "PolicyCheck",
        json!({"policies": names, "unsafe": warnings}),
    )
}

fn explain_policies(
    reference: &ImageReference,
    scope: &ScopeArgs,
    policies: &[Policy],
) -> Result<CommandResult, CliError> {
    let (used_as, namespace) = (
        ReferenceUse::from(scope.used_as),
        scope.namespace.as_deref(),
    );
    let stances: Vec<(&Policy, PolicyApplicability)> = policies
        .iter()
        .map(|policy| {
            (
                policy,
                policy.applicability_to(&reference.repository, used_as, namespace),
            )
        })
        .collect();
    let place = namespace
        .map(|namespace| format!(" in {namespace}"))
        .unwrap_or_default();
    let mut lines = vec![format!("{} as {used_as}{place}", reference.repository)];
    for (policy, stance) in &stances {
        lines.push(format!("  {}", policy_line(policy, stance)));
        if matches!(stance, PolicyApplicability::Governs(_)) {
            lines.extend(
                describe_requirements(policy)
                    .into_iter()
                    .map(|requirements| format!("    requires {requirements}")),
            );
        }
    }
    let is_governed = stances
        .iter()
        .any(|(_, stance)| matches!(stance, PolicyApplicability::Governs(_)));
    if !is_governed {
        lines.push("  no policy governs it: the installation's noMatch setting decides".to_owned());
    }
    let explained: Vec<Value> = stances
        .iter()
        .map(|(policy, stance)| policy_json(policy, stance))
        .collect();
    let fields = json!({
        "repository": reference.repository.to_string(), "use": used_as, "namespace": namespace,
        "governed": is_governed, "policies": explained,
    });
    CommandResult::new(lines.join("\n"), "PolicyExplanation", fields)
}

fn policy_line(policy: &Policy, stance: &PolicyApplicability) -> String {
    let rules = policy.rules();
    format!(
        "{} (generation {}, {}): {}",
        policy.identity(),
        rules.generation,
        policy.mode().as_str(),
        describe_stance(stance)
    )
}

fn describe_stance(stance: &PolicyApplicability) -> String {
    match stance {
        PolicyApplicability::Governs(Some(pattern)) => format!("governs it, by {pattern}"),
        PolicyApplicability::Governs(None) => "governs it, and everything else".to_owned(),
        PolicyApplicability::OtherNamespace(namespace) => {
            format!("is for the namespace {namespace}")
        }
        PolicyApplicability::OtherUse => "is not about this use".to_owned(),
        PolicyApplicability::NoPattern => "none of its references matches".to_owned(),
        PolicyApplicability::Excepted(pattern) => format!("leaves it out, by except {pattern}"),
    }
}

/// What the policy requires.
fn describe_requirements(policy: &Policy) -> Vec<String> {
    if let Some(fault) = policy.fault_message() {
        return vec![format!(
            "inputs that are unavailable, so it denies: {fault}"
        )];
    }
    let rules = policy.rules();
    let names: Vec<&str> = rules
        .authorities
        .iter()
        .map(|authority| authority.name.as_str())
        .collect();
    let mut requirements = Vec::new();
    if rules.require_digest {
        requirements.push("a reference with a digest".to_owned());
    }
    requirements.push(format!(
        "signatures of {} of: {}",
        rules.threshold,
        names.join(", ")
    ));
    if let Some(slsa) = &rules.slsa {
        let builders: Vec<String> = slsa
            .builders
            .iter()
            .map(|builder| {
                format!(
                    "{} (signed by {}, level {})",
                    builder.id, builder.authority, builder.level
                )
            })
            .collect();
        requirements.push(format!(
            "provenance of SLSA Build level {} by: {}",
            slsa.minimum_level,
            builders.join(", ")
        ));
    }
    if rules.bind_repository.is_some() {
        requirements.push(
            "a signature or provenance that names this repository, or one that it mirrors"
                .to_owned(),
        );
    }
    requirements.extend(
        rules
            .attestations
            .iter()
            .map(|rule| format!("an attestation of type {}", rule.predicate_type)),
    );
    requirements
}

fn policy_json(policy: &Policy, stance: &PolicyApplicability) -> Value {
    let (kind, namespace) = match &policy.rules().kind {
        PolicyOrigin::Cluster => (Some("ClusterBundlePolicy"), None),
        PolicyOrigin::Namespaced(namespace) => (Some("BundlePolicy"), Some(namespace)),
        PolicyOrigin::AdHoc => (None, None),
    };
    json!({
        "name": policy.name(),
        "kind": kind,
        "namespace": namespace,
        "generation": policy.rules().generation,
        "mode": policy.mode(),
        "governs": matches!(stance, PolicyApplicability::Governs(_)),
        "because": describe_stance(stance),
        "asks": if matches!(stance, PolicyApplicability::Governs(_)) { describe_requirements(policy) } else { Vec::new() },
    })
}
