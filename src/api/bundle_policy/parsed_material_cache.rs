//! A cache of parsed keys, certificates, lists and expressions, by content: policies that name the
//! same certificates, lists or expressions share them, and so do the policies before and after a
//! change.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use super::PolicyQuotaUsage;
use crate::core::{
    digest::Digest,
    limits::InputLimits,
    policy::{AnchoredRegex, PolicyError, SubjectMatcher},
    verify::{
        CertificateAuthority, CertificateAuthorityError, RevocationLists, TrustRoot, TrustRootError,
    },
};

/// All parsed values that a policy still uses, by content. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct ParsedMaterialCache(Arc<Mutex<ParsedMaterialEntries>>);

#[derive(Debug, Default)]
struct ParsedMaterialEntries {
    authorities: BTreeMap<Digest, Weak<CertificateAuthority>>,
    lists: BTreeMap<Digest, Weak<RevocationLists>>,
    expressions: BTreeMap<String, Weak<AnchoredRegex>>,
    roots: BTreeMap<Digest, Weak<TrustRoot>>,
}

impl ParsedMaterialCache {
    /// A private CA. `field` is named in errors.
    pub(super) fn get_or_parse_authority(
        &self,
        certificates: &str,
        lists: Option<&str>,
        field: &str,
        usage: &PolicyQuotaUsage,
    ) -> Result<Arc<CertificateAuthority>, PolicyError> {
        let failed = |error: CertificateAuthorityError| PolicyError::new(field, error.to_string());
        let (content, of_lists) = (
            Digest::of_bytes(certificates.as_bytes()),
            lists.map(|lists| Digest::of_bytes(lists.as_bytes())),
        );
        let lists = match lists.zip(of_lists) {
            None => None,
            Some((text, digest)) => {
                let parse = || {
                    RevocationLists::parse(text.as_bytes(), &InputLimits::DEFAULT).map_err(failed)
                };
                let lists = get_or_parse(&mut self.lock_entries().lists, digest, parse)?;
                usage.count_parsed_material(digest, lists.memory_size())?;
                Some(lists)
            }
        };
        let both = Digest::of_bytes(format!("{content} {of_lists:?}").as_bytes());
        let parse = || {
            CertificateAuthority::with_revocation_lists(
                certificates.as_bytes(),
                lists,
                &InputLimits::DEFAULT,
            )
            .map_err(failed)
        };
        let authority = get_or_parse(&mut self.lock_entries().authorities, both, parse)?;
        usage.count_parsed_material(both, authority.memory_size())?;
        Ok(authority)
    }

    /// An expression with this text. Errors: it is invalid, at `field`, or exceeds the quota.
    pub(super) fn get_or_parse_expression(
        &self,
        text: &str,
        field: &str,
        usage: &PolicyQuotaUsage,
    ) -> Result<SubjectMatcher, PolicyError> {
        let parse =
            || AnchoredRegex::parse(text).map_err(|problem| PolicyError::new(field, problem));
        let expression =
            get_or_parse(&mut self.lock_entries().expressions, text.to_owned(), parse)?;
        usage.count_parsed_material(Digest::of_bytes(text.as_bytes()), expression.memory_size())?;
        Ok(SubjectMatcher::Regexp(expression))
    }

    /// A trust root.
    pub(super) fn get_or_parse_trust_root(
        &self,
        text: &str,
    ) -> Result<Arc<TrustRoot>, TrustRootError> {
        get_or_parse(
            &mut self.lock_entries().roots,
            Digest::of_bytes(text.as_bytes()),
            || TrustRoot::parse(text.as_bytes(), &InputLimits::DEFAULT),
        )
    }

    /// Drops values that no policy uses any more.
    pub(super) fn evict_unused(&self) {
        let mut known = self.lock_entries();
        known.authorities.retain(|_, part| part.strong_count() > 0);
        known.lists.retain(|_, part| part.strong_count() > 0);
        known.expressions.retain(|_, part| part.strong_count() > 0);
        known.roots.retain(|_, part| part.strong_count() > 0);
    }

    fn lock_entries(&self) -> MutexGuard<'_, ParsedMaterialEntries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The cached value for this content, or a newly parsed one.
fn get_or_parse<K: Ord, T, E>(
    known: &mut BTreeMap<K, Weak<T>>,
    content: K,
    parse: impl FnOnce() -> Result<T, E>,
) -> Result<Arc<T>, E> {
    if let Some(there) = known.get(&content).and_then(Weak::upgrade) {
        return Ok(there);
    }
    let new = Arc::new(parse()?);
    known.insert(content, Arc::downgrade(&new));
    Ok(new)
}
