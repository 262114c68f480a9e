//! The referrers of a manifest in a layout: entries of `index.json`, whose documents say what they
//! refer to.

use std::collections::BTreeSet;

use super::{OciLayoutTarget, index::IndexChange};
use crate::{
    core::{
        digest::Digest,
        limits::InputLimits,
        oci::{Descriptor, ManifestOrIndex, layout::REF_NAME},
    },
    oci::{OciError, listed_referrer},
};

/// The relation of an entry of `index.json` to a subject.
enum IndexEntryRelation {
    None,
    Refers(Descriptor),
    /// It is the index under the fallback tag, with these entries.
    Lists(Vec<Descriptor>),
}

impl OciLayoutTarget {
    pub(super) fn find_referrers(
        &self,
        subject: &Descriptor,
        limits: &InputLimits,
    ) -> Result<Vec<Descriptor>, OciError> {
        let (mut found, mut claimed) = (Vec::new(), Vec::new());
        // An index may list one document a million times; it is read once.
        let mut seen = BTreeSet::new();
        let fallback = subject.digest.referrers_fallback_tag();
        for entry in self
            .read_index(limits)?
            .manifests
            .into_iter()
            .filter(Descriptor::is_manifest_or_index)
        {
            let is_fallback = entry.annotations.get(REF_NAME) == Some(&fallback);
            if !seen.insert((entry.digest, is_fallback)) {
                continue;
            }
            match self.classify_index_entry(&entry, is_fallback, &subject.digest, limits)? {
                IndexEntryRelation::None => {}
                IndexEntryRelation::Refers(referrer) => found.push(referrer),
                IndexEntryRelation::Lists(list) => claimed.extend(list),
            }
        }
        // Verified entries come first, and take precedence for the same digest.
        found.extend(claimed);
        found.sort_by_key(|descriptor| descriptor.digest);
        found.dedup_by_key(|descriptor| descriptor.digest);
        if found.len() > limits.referrers_listed {
            return Err(OciError::TooManyReferrers {
                subject: subject.digest.to_string(),
                limit: limits.referrers_listed,
            });
        }
        Ok(found)
    }

    /// Lists a pushed document if it refers to another one.
    pub(super) fn list_if_referrer(&self, descriptor: &Descriptor) -> Result<(), OciError> {
        let document = self.read_and_parse(descriptor, &InputLimits::DEFAULT)?;
        if document.subject().is_some() {
            self.lock_staging()
                .record_change(IndexChange::List(listed_referrer(descriptor, &document)));
        }
        Ok(())
    }

    /// The relation of an index entry to `subject`.
    fn classify_index_entry(
        &self,
        entry: &Descriptor,
        is_fallback: bool,
        subject: &Digest,
        limits: &InputLimits,
    ) -> Result<IndexEntryRelation, OciError> {
        match self.read_and_parse(entry, limits) {
            Ok(ManifestOrIndex::Index(list)) if is_fallback => {
                Ok(IndexEntryRelation::Lists(list.manifests))
            }
            Ok(document)
                if document
                    .subject()
                    .is_some_and(|named| named.digest == *subject) =>
            {
                Ok(IndexEntryRelation::Refers(listed_referrer(
                    entry, &document,
                )))
            }
            Ok(_) => Ok(IndexEntryRelation::None),
            // Its subject is unknown, so it is listed: whoever opens it gets the error.
            Err(
                OciError::NotFound { .. }
                | OciError::SizeMismatch { .. }
                | OciError::LimitExceeded { .. }
                | OciError::Manifest(_),
            ) => Ok(IndexEntryRelation::Refers(entry.without_metadata())),
            Err(error) => Err(error),
        }
    }
}
