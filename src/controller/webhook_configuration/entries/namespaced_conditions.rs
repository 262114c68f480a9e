//! Match conditions for `BundlePolicy`s: each in its own namespace, for any number of policies.
//!
//! Tenants write these policies, so the size of the conditions is limited, in hosts for each
//! namespace, in bytes for each namespace and in bytes for all. Beyond a limit all images of the
//! namespace are sent, whatever their host.

use std::collections::{BTreeMap, BTreeSet};

use super::image_conditions::{cel_string, image_condition};
use crate::core::policy::{Policy, PolicyOrigin};

/// The maximum size of one namespace's hosts in a condition, in bytes. With more, all its images
/// are sent.
pub(super) const MAX_TERM: usize = 4 << 10;
/// The maximum size of a condition in bytes. API servers accept 100,000 characters. With more, all
/// images of the namespaces with the longest terms are sent.
pub(super) const MAX_CONDITION: usize = 64 << 10;
/// The maximum number of namespaces in one entry. A name has up to 63 bytes, and API servers store
/// objects of 1.5 MiB; Kubernetes supports 10,000 namespaces in total. With more, the entry matches
/// every namespace.
pub(super) const MAX_NAMESPACES: usize = 6_000;

/// Images that namespaces' policies govern.
pub(super) struct NamespacedImageConditions {
    namespaces: Vec<String>,
    /// The term of each namespace: none for those whose images are all sent.
    terms: BTreeMap<String, String>,
    /// Matches images by their hosts, as a condition that is false in all other namespaces.
    by_host: Option<String>,
    /// The namespaces in it.
    hosted: Vec<String>,
}

impl NamespacedImageConditions {
    /// `None`: the policies govern nothing in a Pod. Excluded namespaces are omitted.
    pub(super) fn from_policies(policies: &[&Policy], excluded: &[&str]) -> Option<Self> {
        let terms = build_terms(policies, excluded);
        if terms.is_empty() {
            return None;
        }
        let (by_host, hosted) = fit_terms(MAX_CONDITION, &terms);
        let namespaces = terms
            .keys()
            .map(|namespace| (*namespace).to_owned())
            .collect();
        let is_hosted = |namespace: &str| {
            hosted
                .binary_search_by(|hosted| hosted.as_str().cmp(namespace))
                .is_ok()
        };
        let each = terms.into_iter().map(|(namespace, term)| {
            (
                namespace.to_owned(),
                term.filter(|_| is_hosted(namespace)).unwrap_or_default(),
            )
        });
        Some(Self {
            namespaces,
            terms: each.collect(),
            by_host,
            hosted,
        })
    }

    /// The namespaces with policies. `None`: too many to list.
    pub(super) fn listed_namespaces(&self) -> Option<&[String]> {
        (self.namespaces.len() <= MAX_NAMESPACES).then_some(&self.namespaces)
    }

    /// The term of each namespace; an empty text matches everything.
    pub(super) fn namespace_terms(&self) -> impl Iterator<Item = (&str, &str)> {
        self.terms
            .iter()
            .map(|(namespace, term)| (namespace.as_str(), term.as_str()))
    }

    /// Matches images by host, in the namespaces that have hosts. False in all other namespaces.
    pub(super) const fn host_condition(&self) -> Option<&String> {
        self.by_host.as_ref()
    }

    /// The condition, for an entry that covers only [`Self::listed_namespaces`].
    pub(super) fn match_condition(&self) -> String {
        let every = || image_condition(&[], true, true).unwrap_or_default();
        match &self.by_host {
            None => every(),
            Some(by_host) if self.hosted.len() == self.namespaces.len() => by_host.clone(),
            Some(by_host) => format!(
                "{by_host} || (!({}) && ({}))",
                namespace_in_list(&self.hosted),
                every()
            ),
        }
    }
}

/// The term of each namespace. `None`: every image.
fn build_terms<'a>(
    policies: &[&'a Policy],
    excluded: &[&str],
) -> BTreeMap<&'a str, Option<String>> {
    let mut own = BTreeMap::<&str, Vec<&Policy>>::new();
    for policy in policies {
        if let PolicyOrigin::Namespaced(namespace) = &policy.rules().kind
            && !excluded.contains(&namespace.as_str())
        {
            own.entry(namespace).or_default().push(policy);
        }
    }
    let term = |(namespace, policies): (&'a str, Vec<&Policy>)| {
        let term = image_condition(&policies, false, false)?;
        Some((namespace, Some(term).filter(|term| term.len() <= MAX_TERM)))
    };
    own.into_iter().filter_map(term).collect()
}

/// As many namespaces with their hosts as fit into `max_bytes`, the shortest terms first; and
/// their names. One term covers all namespaces that have it.
fn fit_terms(
    max_bytes: usize,
    terms: &BTreeMap<&str, Option<String>>,
) -> (Option<String>, Vec<String>) {
    let mut shortest: Vec<(&str, &str)> = terms
        .iter()
        .filter_map(|(namespace, term)| Some((term.as_deref()?, *namespace)))
        .collect();
    shortest.sort_unstable_by_key(|(term, namespace)| (term.len(), *term, *namespace));
    let (mut used, mut groups) = (
        image_condition(&[], true, true).map_or(0, |every| every.len()),
        BTreeMap::<&str, BTreeSet<&str>>::new(),
    );
    for (term, namespace) in shortest {
        let is_new = !groups.contains_key(term);
        // Its name is written twice: with its term, and in the list of namespaces with a term.
        let more = 2 * (namespace.len() + "'',".len())
            + if is_new {
                term.len() + "(request.namespace in [] && ()) || ".len()
            } else {
                0
            };
        if used + more <= max_bytes {
            used += more;
            groups.entry(term).or_default().insert(namespace);
        }
    }
    let condition: Vec<String> = groups
        .iter()
        .map(|(term, namespaces)| format!("({} && ({term}))", namespace_in_list(namespaces)))
        .collect();
    let hosted: BTreeSet<&str> = groups.into_values().flatten().collect();
    (
        (!condition.is_empty()).then(|| condition.join(" || ")),
        hosted.into_iter().map(ToOwned::to_owned).collect(),
    )
}

fn namespace_in_list(namespaces: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let names: Vec<String> = namespaces
        .into_iter()
        .map(|namespace| cel_string(namespace.as_ref()))
        .collect();
    format!("request.namespace in [{}]", names.join(","))
}
