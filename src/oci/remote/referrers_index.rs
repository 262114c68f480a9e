//! The index that lists the referrers of a manifest, and its entries.

use std::{collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::{RawValue, to_raw_value};

use crate::{
    core::{
        display_text::truncate_text,
        json,
        limits::InputLimits,
        media_type,
        oci::{Annotations, Descriptor, ManifestError},
    },
    oci::OciError,
};

/// The maximum number of annotations of a listed descriptor. One with more is listed without them:
/// they are informational.
const MAX_ANNOTATIONS: usize = 64;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReferrersIndex {
    schema_version: u32,
    media_type: Option<String>,
    manifests: BoundedReferrerList,
}

/// The first entries of a list, and the total number. Entries over the limit are not kept: a
/// hundred thousand entries in a few megabytes would take ten times as much memory.
struct BoundedReferrerList {
    first: Vec<Box<RawValue>>,
    count: usize,
}

impl<'de> Deserialize<'de> for BoundedReferrerList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(BoundedReferrerListVisitor)
    }
}

struct BoundedReferrerListVisitor;

impl<'de> Visitor<'de> for BoundedReferrerListVisitor {
    type Value = BoundedReferrerList;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of descriptors")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<BoundedReferrerList, A::Error> {
        let mut first = Vec::new();
        while first.len() < InputLimits::DEFAULT.referrers_listed {
            match seq.next_element()? {
                Some(entry) => first.push(entry),
                None => {
                    return Ok(BoundedReferrerList {
                        count: first.len(),
                        first,
                    });
                }
            }
        }
        let mut count = first.len();
        while seq.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(BoundedReferrerList { first, count })
    }
}

/// An entry of a list: its text as written, and the descriptor's key.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub(super) struct ReferrerEntry {
    text: Box<RawValue>,
    #[serde(skip)]
    name: Option<ReferrerKey>,
}

/// The identity of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReferrerKey {
    media_type: String,
    digest: String,
    size: u64,
}

impl ReferrerEntry {
    fn new(text: Box<RawValue>) -> Self {
        let name = serde_json::from_str(text.get()).ok();
        Self { text, name }
    }

    /// The entry for our own descriptor.
    pub(super) fn from_descriptor(descriptor: &Descriptor) -> serde_json::Result<Self> {
        Ok(Self::new(to_raw_value(descriptor)?))
    }

    /// True if both have the same content descriptor. Entries without one are compared as text.
    pub(super) fn names_same_content(&self, other: &Self) -> bool {
        match (&self.name, &other.name) {
            (None, None) => self.text.get() == other.text.get(),
            (one, two) => one == two,
        }
    }

    /// True if the entry names a platform, as the manifests of an image do.
    pub(super) fn has_platform(&self) -> bool {
        #[derive(Deserialize)]
        struct PlatformField {
            platform: Option<IgnoredAny>,
        }
        serde_json::from_str(self.text.get())
            .is_ok_and(|entry: PlatformField| entry.platform.is_some())
    }

    /// An entry that is not a supported descriptor (another digest algorithm, a missing field)
    /// cannot be valid evidence, and hides none.
    pub(super) fn into_descriptor(self, subject: &Descriptor) -> Option<Descriptor> {
        let read: Result<Descriptor, _> = serde_json::from_str(self.text.get());
        let read = read.inspect_err(|error| tracing::debug!(subject = %subject.digest, %error, "a referrer's descriptor cannot be parsed")).ok()?;
        let annotations = if read.annotations.len() > MAX_ANNOTATIONS {
            Annotations::new()
        } else {
            read.annotations
        };
        Some(Descriptor {
            annotations,
            data: None,
            ..read
        })
    }
}

/// False if a document says that there is no list: it is no JSON object, or has no `manifests`, or
/// these are `null`. What is cut off or otherwise broken is none of them.
pub(super) fn is_list(bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct ManifestsField<'a> {
        #[serde(borrow)]
        manifests: Option<&'a RawValue>,
    }
    let begin = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if begin != Some(&b'{') {
        return false;
    }
    // A field that occurs twice is an error here, and the parser's to name.
    match serde_json::from_slice::<ManifestsField<'_>>(bytes) {
        Ok(ManifestsField { manifests }) => manifests.is_some(),
        Err(_) => true,
    }
}

/// Parses an index of referrers. Its entries stay unparsed, so that an invalid one does not hide
/// the others.
pub(super) fn parse_referrers_index(
    bytes: &[u8],
    subject: &Descriptor,
    limits: &InputLimits,
) -> Result<Vec<ReferrerEntry>, OciError> {
    let wire: ReferrersIndex = json::parse_strict(bytes, limits.manifest_bytes, limits.json_depth)
        .map_err(ManifestError::from)?;
    if wire.schema_version != 2 {
        return Err(ManifestError::SchemaVersion(wire.schema_version).into());
    }
    if let Some(own) = wire.media_type.filter(|own| !media_type::is_index(own)) {
        return Err(ManifestError::Shape(truncate_text(&own, 120)).into());
    }
    let BoundedReferrerList { first, count } = wire.manifests;
    if count > first.len() {
        return Err(too_many_error(subject, limits));
    }
    Ok(first.into_iter().map(ReferrerEntry::new).collect())
}

/// Refuses a list of more entries than the limit.
pub(super) fn check_entry_count(
    count: usize,
    subject: &Descriptor,
    limits: &InputLimits,
) -> Result<(), OciError> {
    if count > limits.referrers_listed {
        Err(too_many_error(subject, limits))
    } else {
        Ok(())
    }
}

/// The error of a list over the limit.
pub(super) fn too_many_error(subject: &Descriptor, limits: &InputLimits) -> OciError {
    OciError::TooManyReferrers {
        subject: subject.digest.to_string(),
        limit: limits.referrers_listed,
    }
}

/// Each referrer once, however often it is listed. Descriptors that differ in type or size are
/// different entries: all are kept, so that a wrong one hides no right one.
pub(super) fn deduplicate_entries(
    listed: Vec<ReferrerEntry>,
) -> impl Iterator<Item = ReferrerEntry> {
    let mut seen = HashSet::new();
    listed
        .into_iter()
        .filter(move |entry| entry.name.clone().is_none_or(|name| seen.insert(name)))
}

/// The index with these entries, in JSON.
pub(super) fn referrers_index_bytes(entries: &[ReferrerEntry]) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&ReferrersIndexBody {
        media_type: media_type::INDEX,
        manifests: entries,
        schema_version: 2,
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReferrersIndexBody<'a> {
    media_type: &'static str,
    manifests: &'a [ReferrerEntry],
    schema_version: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(list: &serde_json::Value) -> Result<Vec<ReferrerEntry>, OciError> {
        let index = serde_json::json!({"schemaVersion": 2, "manifests": list}).to_string();
        parse_referrers_index(
            index.as_bytes(),
            &Descriptor::empty(),
            &InputLimits::DEFAULT,
        )
    }

    #[test]
    fn a_referrer_that_is_listed_twice_is_one_and_a_wrong_entry_hides_no_right_one() {
        let one = Descriptor::of_bytes(media_type::MANIFEST, b"one");
        let typed = Descriptor {
            artifact_type: Some("x".into()),
            ..one.clone()
        };
        let wrong = Descriptor {
            size: 7,
            ..one.clone()
        };
        let other = Descriptor::of_bytes(media_type::INDEX, b"one");
        let listed = entries(&serde_json::json!([
            wrong, one, typed, one, other, wrong, 7
        ]))
        .expect("a list");
        assert!(
            listed[1].names_same_content(&listed[2])
                && !listed[1].names_same_content(&listed[0])
                && !listed[1].names_same_content(&listed[4])
                && !listed[6].names_same_content(&listed[0])
        );
        assert!(listed[6].names_same_content(&listed[6].clone()));
        let found: Vec<Descriptor> = deduplicate_entries(listed)
            .filter_map(|entry| entry.into_descriptor(&one))
            .collect();
        assert_eq!(found, [wrong, one, other]);
    }

    #[test]
    fn what_is_listed_costs_no_more_than_its_text() {
        let one = Descriptor::of_bytes(media_type::MANIFEST, b"one");
        let wordy = Descriptor {
            annotations: (0..65).map(|n| (n.to_string(), String::new())).collect(),
            data: Some("e30=".into()),
            ..one.clone()
        };
        let found: Vec<Descriptor> =
            deduplicate_entries(entries(&serde_json::json!([wordy])).expect("a list"))
                .filter_map(|entry| entry.into_descriptor(&one))
                .collect();
        assert_eq!(found, [one]);
        let many: Vec<u32> = (0..1_001).collect();
        assert!(matches!(
            entries(&serde_json::json!(many)),
            Err(OciError::TooManyReferrers { limit: 1_000, .. })
        ));
        assert_eq!(
            entries(&serde_json::json!(many[1..]))
                .expect("as many as are read")
                .len(),
            1_000
        );
    }

    #[test]
    fn what_says_that_there_is_no_list_is_none() {
        for text in [
            "",
            "  ",
            "null",
            "[]",
            "404 page not found",
            "<!doctype html><html></html>",
            "{}",
            r#"{"referrers":[]}"#,
            r#"{"schemaVersion":2,"manifests":null}"#,
            r#"{"schemaVersion":2,"config":{},"layers":[]}"#,
        ] {
            assert!(!is_list(text.as_bytes()), "{text}");
        }
        for text in [
            r#"{"schemaVersion":2,"manifests":[]}"#,
            r#"{"schemaVersion":2,"manifests":{}}"#,
            r#"{"schemaVersion":2,"manifests":[{"dig"#,
            r#"{"manifests":[],"manifests":null}"#,
        ] {
            assert!(is_list(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn lists_are_indexes() {
        let check = |text: &str| {
            parse_referrers_index(text.as_bytes(), &Descriptor::empty(), &InputLimits::DEFAULT)
                .map(|entries| entries.len())
                .map_err(|e| e.to_string())
        };
        assert_eq!(
            check(r#"{"schemaVersion":2,"manifests":[{"any":1},2]}"#),
            Ok(2)
        );
        for text in [
            "<html>",
            "{}",
            r#"{"schemaVersion":1,"manifests":[]}"#,
            r#"{"schemaVersion":2,"mediaType":"x","manifests":[]}"#,
            r#"{"schemaVersion":2}"#,
        ] {
            assert!(check(text).is_err(), "{text}");
        }
    }
}
