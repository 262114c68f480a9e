//! Images that policies govern, as a CEL condition on a Pod's specification `p`.

use std::collections::BTreeSet;

use crate::core::policy::{Policy, PolicyMatcher, ReferenceUse};

/// The maximum number of hosts in a condition, for each use. With more, every image of the use is
/// sent.
const MAX_HOSTS: usize = 32;

/// True for a Pod with an image that one of these policies may govern; with any image volume or
/// container if `all_volumes` or `all_containers` is set. `None`: it matches no Pod.
pub(super) fn image_condition(
    policies: &[&Policy],
    all_volumes: bool,
    all_containers: bool,
) -> Option<String> {
    let volumes = volume_condition(&select_images(
        policies,
        ReferenceUse::ImageVolume,
        all_volumes,
    ));
    let containers = container_condition(&select_images(
        policies,
        ReferenceUse::Container,
        all_containers,
    ));
    let conditions: Vec<String> = [volumes, containers].into_iter().flatten().collect();
    (!conditions.is_empty()).then(|| conditions.join(" || "))
}

/// The images of one use that are matched.
enum MatchedImages {
    None,
    All,
    /// Those whose names begin with one of these hosts. May match too many images, never too few:
    /// the webhook evaluates each.
    Hosts(BTreeSet<String>),
}

fn select_images(policies: &[&Policy], used_as: ReferenceUse, all: bool) -> MatchedImages {
    let mut hosts = BTreeSet::new();
    let governing = || {
        policies
            .iter()
            .filter(|policy| governs_use(policy, used_as))
    };
    if governing().next().is_none() && !all {
        return MatchedImages::None;
    }
    for policy in governing() {
        let PolicyMatcher::Names { references, .. } = &policy.rules().matcher else {
            return MatchedImages::All;
        };
        for pattern in references {
            // A pattern without a host may match any.
            let Some(beginnings) = pattern.reference_prefixes() else {
                return MatchedImages::All;
            };
            hosts.extend(beginnings.into_iter().map(str::to_owned));
        }
    }
    if all || hosts.len() > MAX_HOSTS {
        MatchedImages::All
    } else {
        MatchedImages::Hosts(hosts)
    }
}

fn governs_use(policy: &Policy, used_as: ReferenceUse) -> bool {
    match &policy.rules().matcher {
        PolicyMatcher::Everything => true,
        PolicyMatcher::Names { uses, .. } => uses.contains(&used_as),
    }
}

fn volume_condition(images: &MatchedImages) -> Option<String> {
    let judged = match images {
        MatchedImages::None => return None,
        MatchedImages::All => "has(v.image)".to_owned(),
        MatchedImages::Hosts(hosts) => format!(
            "has(v.image) && has(v.image.reference) && ({})",
            host_prefix_condition("v.image.reference", hosts)
        ),
    };
    Some(format!("(has(p.volumes) && p.volumes.exists(v, {judged}))"))
}

fn container_condition(images: &MatchedImages) -> Option<String> {
    let judged = match images {
        MatchedImages::None => return None,
        MatchedImages::All => "has(c.image)".to_owned(),
        MatchedImages::Hosts(hosts) => format!(
            "has(c.image) && ({})",
            host_prefix_condition("c.image", hosts)
        ),
    };
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    Some(
        lists
            .map(|list| format!("(has(p.{list}) && p.{list}.exists(c, {judged}))"))
            .join(" || "),
    )
}

/// A host may be written in upper case, with a final dot and with any port.
fn host_prefix_condition(reference: &str, hosts: &BTreeSet<String>) -> String {
    let each: Vec<String> = hosts
        .iter()
        .map(|host| format!("{reference}.lowerAscii().startsWith({})", cel_string(host)))
        .collect();
    each.join(" || ")
}

/// A CEL string literal. Hosts and namespaces consist of letters, digits, `.`, `-`, `:`, `[` and
/// `]`.
pub(super) fn cel_string(host: &str) -> String {
    let plain: String = host
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || ".-:[]".contains(*c))
        .collect();
    format!("'{plain}'")
}
