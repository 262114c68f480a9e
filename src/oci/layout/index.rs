//! `index.json`: what a layout names, and how that changes.
//!
//! A file that another tool wrote is changed, not written anew: fields that packgate does not know
//! (`urls`, `os.version`) stay.

use serde_json::Value;

use crate::{
    core::{
        json,
        limits::Limits,
        oci::{Annotations, Descriptor, Index, layout::REF_NAME},
        reference::Tag,
    },
    oci::OciError,
};

/// One change of `index.json`. Changes are kept, and made when everything else is in place.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// The tag names this, and nothing else any more.
    Tag(Descriptor, Tag),
    /// This is listed, unless it is already.
    List(Descriptor),
}

/// Every referrer has an entry here, so the bound is theirs and not one manifest's.
pub(super) const fn limit(limits: &Limits) -> usize {
    limits.manifest_bytes.saturating_mul(4)
}

/// Reads the file's bytes and makes the changes. `None` if there is no file yet.
pub(super) fn read(
    bytes: Option<&[u8]>,
    changes: &[Change],
    limits: &Limits,
    location: &str,
) -> Result<Index, OciError> {
    let mut index = bytes.map_or_else(
        || Ok(Index::new(Vec::new())),
        |bytes| parse(bytes, limits, location),
    )?;
    apply(&mut index.manifests, changes).map_err(|e| malformed(location, &e))?;
    Ok(index)
}

/// The bytes of the file with the changes made. Errors: a file that nobody could read again.
pub(super) fn render(
    bytes: Option<&[u8]>,
    changes: &[Change],
    location: &str,
) -> Result<Vec<u8>, OciError> {
    let limits = &Limits::DEFAULT;
    let mut value = match bytes {
        None => {
            serde_json::to_value(Index::new(Vec::new())).map_err(|e| malformed(location, &e))?
        }
        Some(bytes) => {
            parse::<Index>(bytes, limits, location)?;
            parse(bytes, limits, location)?
        }
    };
    let entries = value
        .get_mut("manifests")
        .and_then(Value::as_array_mut)
        .ok_or_else(|| malformed(location, &"it has no manifests"))?;
    apply(entries, changes).map_err(|e| malformed(location, &e))?;
    let bytes = serde_json::to_vec(&value).map_err(|e| malformed(location, &e))?;
    if bytes.len() > limit(limits) {
        return Err(OciError::LimitExceeded {
            what: location.into(),
            size: bytes.len() as u64,
            limit: limit(limits) as u64,
        });
    }
    Ok(bytes)
}

fn parse<T: serde::de::DeserializeOwned>(
    bytes: &[u8],
    limits: &Limits,
    location: &str,
) -> Result<T, OciError> {
    json::parse(bytes, limit(limits), limits.json_depth).map_err(|e| malformed(location, &e))
}

fn malformed(location: &str, cause: &impl ToString) -> OciError {
    OciError::Malformed {
        location: location.into(),
        cause: cause.to_string(),
    }
}

/// An entry of `manifests`, as far as changes look at it.
trait Entry: Sized {
    fn name(&self) -> Option<&str>;
    fn is(&self, digest: &str) -> bool;
    fn of(descriptor: Descriptor) -> serde_json::Result<Self>;
}

impl Entry for Descriptor {
    fn name(&self) -> Option<&str> {
        self.annotations.get(REF_NAME).map(String::as_str)
    }

    fn is(&self, digest: &str) -> bool {
        self.digest.to_string() == digest
    }

    fn of(descriptor: Descriptor) -> serde_json::Result<Self> {
        Ok(descriptor)
    }
}

impl Entry for Value {
    fn name(&self) -> Option<&str> {
        self.get("annotations")?.get(REF_NAME)?.as_str()
    }

    fn is(&self, digest: &str) -> bool {
        self.get("digest").and_then(Self::as_str) == Some(digest)
    }

    fn of(descriptor: Descriptor) -> serde_json::Result<Self> {
        serde_json::to_value(descriptor)
    }
}

fn apply<E: Entry>(entries: &mut Vec<E>, changes: &[Change]) -> serde_json::Result<()> {
    for change in changes {
        match change {
            Change::Tag(descriptor, tag) => {
                entries.retain(|entry| entry.name() != Some(tag.as_str()));
                let annotations = Annotations::from([(REF_NAME.to_owned(), tag.to_string())]);
                entries.push(E::of(Descriptor {
                    annotations,
                    ..descriptor.bare()
                })?);
            }
            Change::List(descriptor) => {
                let digest = descriptor.digest.to_string();
                if !entries.iter().any(|entry| entry.is(&digest)) {
                    entries.push(E::of(descriptor.clone())?);
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
        class::{Classified, Reason},
        media_type,
    };

    fn tag(content: &[u8], tag: &str) -> Change {
        Change::Tag(
            Descriptor::of(media_type::MANIFEST, content),
            tag.parse().expect("a tag"),
        )
    }

    #[test]
    fn a_tag_names_one_thing_and_an_entry_is_listed_once() {
        let listed = Change::List(Descriptor::of(media_type::MANIFEST, b"r"));
        let changes = [
            tag(b"a", "v1"),
            listed.clone(),
            tag(b"b", "v2"),
            listed,
            tag(b"c", "v1"),
        ];
        let bytes = render(None, &changes, "x").expect("rendered");
        for index in [
            read(Some(&bytes), &[], &Limits::DEFAULT, "x"),
            read(None, &changes, &Limits::DEFAULT, "x"),
        ] {
            let index = index.expect("read");
            let names: Vec<_> = index
                .manifests
                .iter()
                .map(|entry| (entry.name().unwrap_or("-"), entry.digest))
                .collect();
            let digest = crate::core::digest::Digest::of;
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
        let digest = crate::core::digest::Digest::of(b"x");
        let foreign = format!(
            r#"{{"schemaVersion":2,"com.example":1,"manifests":[{{"mediaType":"m","digest":"{digest}","size":1,"urls":["https://u"],
               "platform":{{"os":"windows","architecture":"amd64","os.version":"10.0"}}}}]}}"#
        );
        let bytes = render(Some(foreign.as_bytes()), &[tag(b"a", "v1")], "x").expect("rendered");
        let value: Value = serde_json::from_slice(&bytes).expect("JSON");
        assert_eq!(value["com.example"], 1);
        assert_eq!(value["manifests"][0]["urls"][0], "https://u");
        assert_eq!(value["manifests"][0]["platform"]["os.version"], "10.0");
        assert_eq!(value["manifests"][1]["annotations"][REF_NAME], "v1");
    }

    #[test]
    fn what_nobody_could_read_again_is_not_written() {
        let annotations =
            Annotations::from([("a".to_owned(), "x".repeat(limit(&Limits::DEFAULT)))]);
        let huge = Change::List(Descriptor {
            annotations,
            ..Descriptor::of(media_type::MANIFEST, b"a")
        });
        assert_eq!(
            render(None, &[huge], "x").expect_err("too large").reason(),
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
                render(Some(broken.as_bytes()), &[], "x")
                    .expect_err(broken)
                    .reason(),
                Reason::MalformedManifest,
                "{broken}"
            );
        }
    }
}
