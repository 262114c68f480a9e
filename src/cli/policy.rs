//! `packgate policy`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    cluster,
    context::Context,
    exit::CliError,
    output::Done,
    policies::Policies,
    verify::{TrustArgs, UseArg, report_on},
};
use crate::core::{
    policy::{Kind, Policy, Stance, Use},
    reference::{Location, Reference},
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
    /// Say whether policies can mean what they say, with the code that evaluates them
    Check {
        /// YAML files with policies and the ConfigMaps and TrustRoots that they name; - for stdin
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Give the verdict of policies in files on a reference, as admission would
    Test {
        /// YAML files with policies and the ConfigMaps and TrustRoots that they name; - for stdin
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The bundle or image
        #[arg(long)]
        reference: Location,
        #[command(flatten)]
        scope: ScopeArgs,
    },
    /// Say which policies govern a reference, why the others do not, and what is asked; no registry
    /// is asked
    Explain {
        /// The bundle or image; neither tag nor digest matters
        reference: Reference,
        #[command(flatten)]
        scope: ScopeArgs,
        /// Policies, and the ConfigMaps they name, in one or more YAML files; - for stdin
        #[arg(
            long = "policy",
            value_name = "FILE",
            required_unless_present = "cluster"
        )]
        policies: Vec<PathBuf>,
        /// The policies of the cluster that kubectl speaks to
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

pub(super) async fn run(args: PolicyArgs, context: &Context) -> Result<Done, CliError> {
    match args.command {
        PolicyCommand::Check { files } => check(&files, context).await,
        PolicyCommand::Test {
            files,
            reference,
            scope,
        } => {
            let trust = TrustArgs::policies_in(files, scope.used_as, scope.namespace);
            report_on(&trust, &reference, context).await
        }
        PolicyCommand::Explain {
            reference,
            scope,
            policies,
            cluster,
        } => {
            let policies = if cluster {
                cluster::in_force(scope.namespace.as_deref(), context.clock().now())
                    .await?
                    .policies
            } else {
                Policies::read(&policies)?.known(context).await?
            };
            explain(&reference, &scope, &policies)
        }
    }
}

async fn check(files: &[PathBuf], context: &Context) -> Result<Done, CliError> {
    let policies = Policies::read(files)?;
    let compiled = policies.check(context).await?;
    let warnings: Vec<String> = compiled.iter().flat_map(Policy::unsafe_settings).collect();
    let names: Vec<&str> = policies.names().collect();
    let mut lines: Vec<String> = names.iter().map(|name| format!("{name}: valid")).collect();
    lines.extend(warnings.iter().map(|warning| format!("unsafe: {warning}")));
    Done::new(
        lines.join("\n"),
        "PolicyCheck",
        json!({"policies": names, "unsafe": warnings}),
    )
}

fn explain(
    reference: &Reference,
    scope: &ScopeArgs,
    policies: &[Policy],
) -> Result<Done, CliError> {
    let (used_as, namespace) = (Use::from(scope.used_as), scope.namespace.as_deref());
    let stances: Vec<(&Policy, Stance)> = policies
        .iter()
        .map(|policy| {
            (
                policy,
                policy.stance(&reference.repository, used_as, namespace),
            )
        })
        .collect();
    let place = namespace
        .map(|namespace| format!(" in {namespace}"))
        .unwrap_or_default();
    let mut lines = vec![format!("{} as {used_as}{place}", reference.repository)];
    for (policy, stance) in &stances {
        lines.push(format!("  {}", line(policy, stance)));
        if matches!(stance, Stance::Governs(_)) {
            lines.extend(
                asks(policy)
                    .into_iter()
                    .map(|asked| format!("    asks for {asked}")),
            );
        }
    }
    let is_governed = stances
        .iter()
        .any(|(_, stance)| matches!(stance, Stance::Governs(_)));
    if !is_governed {
        lines.push(
            "  no policy governs it: the installation's noMatch says what becomes of it".to_owned(),
        );
    }
    let explained: Vec<Value> = stances
        .iter()
        .map(|(policy, stance)| json_of(policy, stance))
        .collect();
    let fields = json!({
        "repository": reference.repository.to_string(), "use": used_as, "namespace": namespace,
        "governed": is_governed, "policies": explained,
    });
    Done::new(lines.join("\n"), "PolicyExplanation", fields)
}

fn line(policy: &Policy, stance: &Stance) -> String {
    let rules = policy.rules();
    format!(
        "{} (generation {}, {}): {}",
        policy.identity(),
        rules.generation,
        policy.mode().as_str(),
        words(stance)
    )
}

fn words(stance: &Stance) -> String {
    match stance {
        Stance::Governs(Some(pattern)) => format!("governs it, by {pattern}"),
        Stance::Governs(None) => "governs it, and everything else".to_owned(),
        Stance::OtherNamespace(namespace) => format!("is for the namespace {namespace}"),
        Stance::OtherUse => "is not about this use".to_owned(),
        Stance::NoPattern => "none of its references matches".to_owned(),
        Stance::Excepted(pattern) => format!("leaves it out, by except {pattern}"),
    }
}

/// What must be proved.
fn asks(policy: &Policy) -> Vec<String> {
    if let Some(fault) = policy.fault() {
        return vec![format!("what nobody knows, so it refuses: {fault}")];
    }
    let rules = policy.rules();
    let names: Vec<&str> = rules
        .authorities
        .iter()
        .map(|authority| authority.name.as_str())
        .collect();
    let mut asked = Vec::new();
    if rules.require_digest {
        asked.push("a reference with a digest".to_owned());
    }
    asked.push(format!(
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
        asked.push(format!(
            "provenance of SLSA Build level {} by: {}",
            slsa.minimum_level,
            builders.join(", ")
        ));
    }
    if rules.bind_repository.is_some() {
        asked.push(
            "a signature or provenance that names this repository, or one that it mirrors"
                .to_owned(),
        );
    }
    asked.extend(
        rules
            .attestations
            .iter()
            .map(|rule| format!("an attestation of type {}", rule.predicate_type)),
    );
    asked
}

fn json_of(policy: &Policy, stance: &Stance) -> Value {
    let (kind, namespace) = match &policy.rules().kind {
        Kind::Cluster => (Some("ClusterBundlePolicy"), None),
        Kind::Namespaced(namespace) => (Some("BundlePolicy"), Some(namespace)),
        Kind::AdHoc => (None, None),
    };
    json!({
        "name": policy.name(),
        "kind": kind,
        "namespace": namespace,
        "generation": policy.rules().generation,
        "mode": policy.mode(),
        "governs": matches!(stance, Stance::Governs(_)),
        "because": words(stance),
        "asks": if matches!(stance, Stance::Governs(_)) { asks(policy) } else { Vec::new() },
    })
}
