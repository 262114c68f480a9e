//! `index.json`: the root manifests of a layout, and changes to them.
//!
//! A file that another tool wrote is edited in place: fields unknown to packgate (`urls`,
//! `os.version`) are kept.

use serde_json::Value;

use crate::{
    core::{
        json,
        limits::InputLimits,
        oci::{Annotations, Descriptor, ImageIndex, layout::REF_NAME},
        reference::ImageTag,
    },
    oci::OciError,
};

/// One change of `index.json`. Changes are collected, and made after everything else is in place.
#[derive(Clone, Debug)]
pub(super) enum IndexChange {
    /// Moves the tag to this descriptor.
    Tag(Descriptor, ImageTag),
    /// Lists this descriptor, unless it is listed already.
    List(Descriptor),
}

/// Every referrer has an entry here, so the limit is theirs and not one manifest's.
pub(super) const fn index_size_limit(limits: &InputLimits) -> usize {
    limits.manifest_bytes.saturating_mul(4)
}

/// Parses the file and applies the changes. `None` if there is no file yet.
pub(super) fn parse_updated_index(
    bytes: Option<&[u8]>,
    changes: &[IndexChange],
    limits: &InputLimits,
    location: &str,
) -> Result<ImageIndex, OciError> {
    let mut index = bytes.map_or_else(
        || Ok(ImageIndex::new(Vec::new())),
        |bytes| parse_json(bytes, limits, location),
    )?;
    apply_changes(&mut index.manifests, changes).map_err(|e| malformed_error(location, &e))?;
    Ok(index)
}

/// The bytes of the file with the changes. Errors: the result would exceed what can be read again.
pub(super) fn render_updated_index(
    bytes: Option<&[u8]>,
    changes: &[IndexChange],
    location: &str,
) -> Result<Vec<u8>, OciError> {
    let limits = &InputLimits::DEFAULT;
    let mut value = match bytes {
        None => serde_json::to_value(ImageIndex::new(Vec::new()))
            .map_err(|e| malformed_error(location, &e))?,
        Some(bytes) => {
            parse_json::<ImageIndex>(bytes, limits, location)?;
            parse_json(bytes, limits, location)?
        }
    };
    let entries = value
        .get_mut("manifests")
        .and_then(Value::as_array_mut)
        .ok_or_else(|| malformed_error(location, &"it has no manifests"))?;
    apply_changes(entries, changes).map_err(|e| malformed_error(location, &e))?;
    let bytes = serde_json::to_vec(&value).map_err(|e| malformed_error(location, &e))?;
    if bytes.len() > index_size_limit(limits) {
        return Err(OciError::LimitExceeded {
            what: location.into(),
            size: bytes.len() as u64,
            limit: index_size_limit(limits) as u64,
        });
    }
    Ok(bytes)
}

fn parse_json<T: serde::de::DeserializeOwned>(
    bytes: &[u8],
    limits: &InputLimits,
    location: &str,
) -> Result<T, OciError> {
    json::parse_strict(bytes, index_size_limit(limits), limits.json_depth)
        .map_err(|e| malformed_error(location, &e))
}

fn malformed_error(location: &str, cause: &impl ToString) -> OciError {
    OciError::Malformed {
        location: location.into(),
        cause: cause.to_string(),
    }
}

/// The fields of an entry of `manifests` that changes use.
trait LayoutIndexEntry: Sized {
    fn ref_name(&self) -> Option<&str>;
    fn has_digest(&self, digest: &str) -> bool;
    fn from_descriptor(descriptor: Descriptor) -> serde_json::Result<Self>;
}

impl LayoutIndexEntry for Descriptor {
    fn ref_name(&self) -> Option<&str> {
        self.annotations.get(REF_NAME).map(String::as_str)
    }

    fn has_digest(&self, digest: &str) -> bool {
        self.digest.to_string() == digest
    }

    fn from_descriptor(descriptor: Descriptor) -> serde_json::Result<Self> {
        Ok(descriptor)
    }
}

impl LayoutIndexEntry for Value {
    fn ref_name(&self) -> Option<&str> {
        self.get("annotations")?.get(REF_NAME)?.as_str()
    }

    fn has_digest(&self, digest: &str) -> bool {
        self.get("digest").and_then(Self::as_str) == Some(digest)
    }

    fn from_descriptor(descriptor: Descriptor) -> serde_json::Result<Self> {
        serde_json::to_value(descriptor)
    }
}

fn apply_changes<E: LayoutIndexEntry>(
    entries: &mut Vec<E>,
    changes: &[IndexChange],
) -> serde_json::Result<()> {
    for change in changes {
        match change {
            IndexChange::Tag(descriptor, tag) => {
                entries.retain(|entry| entry.ref_name() != Some(tag.as_str()));
                let annotations = Annotations::from([(REF_NAME.to_owned(), tag.to_string())]);
                entries.push(E::from_descriptor(Descriptor {
                    annotations,
                    ..descriptor.without_metadata()
                })?);
            }
            IndexChange::List(descriptor) => {
                let digest = descriptor.digest.to_string();
                if !entries.iter().any(|entry| entry.has_digest(&digest)) {
                    entries.push(E::from_descriptor(descriptor.clone())?);
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{
        media_type,
        reason::{ClassifiedError, Reason},
    };

    fn tag(content: &[u8], tag: &str) -> IndexChange {
        IndexChange::Tag(
            Descriptor::of_bytes(media_type::MANIFEST, content),
            tag.parse().expect("a tag"),
        )
    }

    #[test]
    fn a_tag_names_one_thing_and_an_entry_is_listed_once() {
        let listed = IndexChange::List(Descriptor::of_bytes(media_type::MANIFEST, b"r"));
        let changes = [
            tag(b"a", "v1"),
            listed.clone(),
            tag(b"b", "v2"),
            listed,
            tag(b"c", "v1"),
        ];
        let bytes = render_updated_index(None, &changes, "x").expect("rendered");
        for index in [
            parse_updated_index(Some(&bytes), &[], &InputLimits::DEFAULT, "x"),
            parse_updated_index(None, &changes, &InputLimits::DEFAULT, "x"),
        ] {
            let index = index.expect("read");
            let names: Vec<_> = index
                .manifests
                .iter()
                .map(|entry| (entry.ref_name().unwrap_or("-"), entry.digest))
                .collect();
            let digest = crate::core::digest::Digest::of_bytes;
            assert_eq!(
                names,
                [
                    ("-", digest(b"r")),
                    ("v2", digest(b"b")),
                    ("v1", digest(b"c"))
                ]
            );
        }
    }

    #[test]
    fn fields_of_other_tools_stay() {
        let digest = crate::core::digest::Digest::of_bytes(b"x");
        let foreign = format!(
            r#"{{"schemaVersion":2,"com.example":1,"manifests":[{{"mediaType":"m","digest":"{digest}","size":1,"urls":["https://u"],
               "platform":{{"os":"windows","architecture":"amd64","os.version":"10.0"}}}}]}}"#
        );
        let bytes = render_updated_index(Some(foreign.as_bytes()), &[tag(b"a", "v1")], "x")
            .expect("rendered");
        let value: Value = serde_json::from_slice(&bytes).expect("JSON");
        assert_eq!(value["com.example"], 1);
        assert_eq!(value["manifests"][0]["urls"][0], "https://u");
        assert_eq!(value["manifests"][0]["platform"]["os.version"], "10.0");
        assert_eq!(value["manifests"][1]["annotations"][REF_NAME], "v1");
    }

    #[test]
    fn what_nobody_could_read_again_is_not_written() {
        let annotations = Annotations::from([(
            "a".to_owned(),
            "x".repeat(index_size_limit(&InputLimits::DEFAULT)),
        )]);
        let huge = IndexChange::List(Descriptor {
            annotations,
            ..Descriptor::of_bytes(media_type::MANIFEST, b"a")
        });
        assert_eq!(
            render_updated_index(None, &[huge], "x")
                .expect_err("too large")
                .reason(),
            Reason::LimitExceeded
        );
        for broken in [
            "",
            "[]",
            r#"{"schemaVersion":2}"#,
            r#"{"schemaVersion":2,"manifests":[{}]}"#,
            r#"{"manifests":[],"manifests":[]}"#,
        ] {
            assert_eq!(
                render_updated_index(Some(broken.as_bytes()), &[], "x")
                    .expect_err(broken)
                    .reason(),
                Reason::MalformedManifest,
                "{broken}"
            );
        }
    }
}
