//! A revision of a set of policies, as one line of text.

use std::{collections::BTreeMap, fmt};

use super::PolicyObject;
use crate::core::digest::Digest;

/// Characters of each group's digest.
const GROUP_DIGEST_CHARS: usize = 16;

/// The revision of a set of policies.
///
/// Digests over every policy's identity and generation, of the cluster's policies and of those of
/// each of 256 groups of namespaces: constant changes in one namespace only delay the announcement
/// of policies in the same group. Equal sets have equal revisions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySetRevision {
    cluster: String,
    /// By group; no entry for a group without policies.
    namespaces: BTreeMap<usize, String>,
}

impl PolicySetRevision {
    /// The revision of these policies.
    pub fn of_policies<'a>(policies: impl IntoIterator<Item = &'a PolicyObject>) -> Self {
        let mut lines = BTreeMap::<Option<usize>, Vec<String>>::new();
        for policy in policies {
            let metadata = policy.metadata();
            let text = |value: &Option<String>| value.clone().unwrap_or_default();
            let generation = metadata.generation.unwrap_or_default();
            let line = format!(
                "{}/{} {} {generation}",
                text(&metadata.namespace),
                text(&metadata.name),
                text(&metadata.uid)
            );
            lines.entry(policy_group(policy)).or_default().push(line);
        }
        let digest = |mut lines: Vec<String>| {
            lines.sort_unstable();
            Digest::of_bytes(lines.join("\n").as_bytes()).hex_digits()
        };
        let cluster = digest(lines.remove(&None).unwrap_or_default());
        let groups = lines.into_iter().filter_map(|(at, lines)| {
            Some((
                at?,
                digest(lines).chars().take(GROUP_DIGEST_CHARS).collect(),
            ))
        });
        Self {
            cluster,
            namespaces: groups.collect(),
        }
    }

    /// Parses the output of [`fmt::Display`]. Any other text is the revision of no set.
    pub fn parse(text: &str) -> Self {
        let mut parts = text.split(',');
        let cluster = parts.next().unwrap_or_default().to_owned();
        let group = |part: &str| {
            Some(part.split_once('=')?)
                .and_then(|(at, group_digest)| Some((at.parse().ok()?, group_digest.to_owned())))
        };
        Self {
            cluster,
            namespaces: parts.filter_map(group).collect(),
        }
    }

    /// True if both revisions agree on the group that this policy is in.
    pub fn agrees_on_policy(&self, other: &Self, policy: &PolicyObject) -> bool {
        match policy_group(policy) {
            None => self.cluster == other.cluster,
            Some(at) => self.namespaces.get(&at) == other.namespaces.get(&at),
        }
    }
}

impl fmt::Display for PolicySetRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cluster)?;
        self.namespaces
            .iter()
            .try_for_each(|(at, group_digest)| write!(f, ",{at}={group_digest}"))
    }
}

/// The group of a policy's namespace, by the first byte of its digest; `None` for the cluster's.
fn policy_group(policy: &PolicyObject) -> Option<usize> {
    match policy {
        PolicyObject::Cluster(_) => None,
        PolicyObject::Namespaced(policy) => {
            let digest = Digest::of_bytes(
                policy
                    .metadata
                    .namespace
                    .as_deref()
                    .unwrap_or_default()
                    .as_bytes(),
            );
            Some(usize::from(digest.as_bytes()[0]))
        }
    }
}
