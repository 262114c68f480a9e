//! Images that policies govern, as a condition in CEL on a Pod's specification `p`.

use std::collections::BTreeSet;

use crate::core::policy::{Matcher, Policy, Use};

/// Hosts that are written into a condition, for each use. With more, every image of the use is
/// sent.
const MAX_HOSTS: usize = 32;

/// That a Pod has an image that one of these policies may govern; whichever, where `all_volumes` or
/// `all_containers` says so. `None`: no Pod has.
pub(super) fn images(
    policies: &[&Policy],
    all_volumes: bool,
    all_containers: bool,
) -> Option<String> {
    let volumes = volumes(&images_of(policies, Use::ImageVolume, all_volumes));
    let containers = containers(&images_of(policies, Use::Container, all_containers));
    let conditions: Vec<String> = [volumes, containers].into_iter().flatten().collect();
    (!conditions.is_empty()).then(|| conditions.join(" || "))
}

/// Images of one use.
enum Images {
    None,
    All,
    /// Those whose names begin with one of these hosts. Too many rather than too few: the webhook
    /// looks again.
    Of(BTreeSet<String>),
}

fn images_of(policies: &[&Policy], used_as: Use, all: bool) -> Images {
    let mut hosts = BTreeSet::new();
    let governing = || policies.iter().filter(|policy| governs(policy, used_as));
    if governing().next().is_none() && !all {
        return Images::None;
    }
    for policy in governing() {
        let Matcher::Names { references, .. } = &policy.rules().matcher else {
            return Images::All;
        };
        for pattern in references {
            // Whoever names no host may mean any.
            let Some(beginnings) = pattern.beginnings() else {
                return Images::All;
            };
            hosts.extend(beginnings.into_iter().map(str::to_owned));
        }
    }
    if all || hosts.len() > MAX_HOSTS {
        Images::All
    } else {
        Images::Of(hosts)
    }
}

fn governs(policy: &Policy, used_as: Use) -> bool {
    match &policy.rules().matcher {
        Matcher::Everything => true,
        Matcher::Names { uses, .. } => uses.contains(&used_as),
    }
}

fn volumes(images: &Images) -> Option<String> {
    let judged = match images {
        Images::None => return None,
        Images::All => "has(v.image)".to_owned(),
        Images::Of(hosts) => format!(
            "has(v.image) && has(v.image.reference) && ({})",
            begins_with("v.image.reference", hosts)
        ),
    };
    Some(format!("(has(p.volumes) && p.volumes.exists(v, {judged}))"))
}

fn containers(images: &Images) -> Option<String> {
    let judged = match images {
        Images::None => return None,
        Images::All => "has(c.image)".to_owned(),
        Images::Of(hosts) => format!("has(c.image) && ({})", begins_with("c.image", hosts)),
    };
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    Some(
        lists
            .map(|list| format!("(has(p.{list}) && p.{list}.exists(c, {judged}))"))
            .join(" || "),
    )
}

/// A host may be written in capitals, with a final dot and with any port.
fn begins_with(reference: &str, hosts: &BTreeSet<String>) -> String {
    let each: Vec<String> = hosts
        .iter()
        .map(|host| format!("{reference}.lowerAscii().startsWith({})", text(host)))
        .collect();
    each.join(" || ")
}

/// A text as CEL reads it. Hosts and namespaces consist of letters, digits, `.`, `-`, `:`, `[` and
/// `]`.
pub(super) fn text(host: &str) -> String {
    let plain: String = host
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || ".-:[]".contains(*c))
        .collect();
    format!("'{plain}'")
}
