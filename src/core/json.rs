//! Parses untrusted JSON: limited in size and depth, and without duplicate keys.
//!
//! Two parsers that disagree about which of two equal keys counts can be made to read different
//! documents, so a document with duplicate keys at any depth is refused. Serde's own structs refuse
//! duplicates of the fields they know only.

use std::{collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};

/// Keys of one object. Nothing that is read has more, and remembering a million short ones to find
/// two equal takes ten times the document.
const MAX_KEYS: usize = 16_384;

/// Why a document was refused.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum JsonError {
    #[error("document of {size} bytes is over the limit of {limit}")]
    TooLarge { size: usize, limit: usize },
    /// Not JSON, nested too deep, a duplicate key, or not of the expected shape.
    #[error("{0}")]
    Malformed(#[from] serde_json::Error),
}

/// Parses `bytes` into `T`: at most `limit` bytes, `depth` levels, 16,384 keys in one object, no
/// duplicate keys at any level.
pub fn parse_strict<T: DeserializeOwned>(
    bytes: &[u8],
    limit: usize,
    depth: usize,
) -> Result<T, JsonError> {
    if bytes.len() > limit {
        return Err(JsonError::TooLarge {
            size: bytes.len(),
            limit,
        });
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    StrictJsonVisitor(depth).deserialize(&mut reader)?;
    reader.end()?;
    Ok(serde_json::from_slice(bytes)?)
}

/// About how many bytes of memory `bytes` need as a [`serde_json::Value`]: a node for each object,
/// and a place for each value and key.
///
/// What is no JSON has a weight as well.
pub fn estimate_memory(bytes: &[u8]) -> usize {
    let (mut weight, mut quoted, mut escaped) = (bytes.len(), false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' if !quoted => weight += OBJECT,
            b',' | b'[' if !quoted => weight += VALUE,
            _ => {}
        }
    }
    weight
}

/// Bytes of the smallest object that is not empty: one tree node, with capacity for eleven keys and
/// values.
const OBJECT: usize = 640;
/// Bytes of a value in a list, whose capacity may be twice its length.
const VALUE: usize = 64;

/// Walks a document and stores nothing but the keys of open objects.
#[derive(Clone, Copy)]
struct StrictJsonVisitor(usize);

impl StrictJsonVisitor {
    fn enter_level<E: serde::de::Error>(self) -> Result<Self, E> {
        self.0
            .checked_sub(1)
            .map(Self)
            .ok_or_else(|| E::custom("nested too deep"))
    }
}

impl<'de> DeserializeSeed<'de> for StrictJsonVisitor {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrictJsonVisitor {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let inner = self.enter_level()?;
        while seq.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.enter_level()?;
        let mut seen = HashSet::new();
        while let Some(JsonObjectKey(key)) = map.next_key()? {
            if seen.contains(&key) {
                return Err(A::Error::custom(format_args!(
                    "duplicate key {:?}",
                    key.chars().take(60).collect::<String>()
                )));
            }
            if seen.len() >= MAX_KEYS {
                return Err(A::Error::custom(format_args!(
                    "more than {MAX_KEYS} keys in one object"
                )));
            }
            seen.insert(key);
            map.next_value_seed(inner)?;
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct JsonObjectKey(String);

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn check(text: &str) -> Result<Value, String> {
        parse_strict(text.as_bytes(), 1_000, 4).map_err(|e| e.to_string())
    }

    #[test]
    fn plain_documents_pass() {
        assert_eq!(
            check(r#"{"a":[1,-2,3.5,true,null,"x"],"b":{"a":1}}"#).expect("valid")["b"]["a"],
            1
        );
    }

    #[test]
    fn a_document_weighs_what_it_needs_in_memory() {
        assert_eq!(estimate_memory(br#"{"a":"{,[\"{"}"#), OBJECT + 14);
        assert_eq!(estimate_memory(b"[0,0,0]"), 3 * VALUE + 7);
    }

    #[test]
    fn an_object_has_a_bounded_number_of_keys() {
        let object = |keys: usize| {
            serde_json::to_string(
                &(0..keys)
                    .map(|n| (n.to_string(), 0))
                    .collect::<std::collections::BTreeMap<_, _>>(),
            )
        };
        let check = |keys| {
            parse_strict::<Value>(object(keys).expect("JSON").as_bytes(), 1 << 20, 4)
                .map_err(|e| e.to_string())
        };
        assert!(check(MAX_KEYS).is_ok());
        assert!(
            check(MAX_KEYS + 1)
                .expect_err("too many")
                .contains("more than 16384 keys")
        );
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for (text, part) in [
            (r#"{"a":1,"a":2}"#, "duplicate key \"a\""),
            (r#"{"x":[{"a":1,"\u0061":2}]}"#, "duplicate key \"a\""),
            ("[[[[[1]]]]]", "nested too deep"),
            (r#"{"a":1} {"#, "trailing"),
            ("\u{feff}{}", "expected value"),
            (r#"{"a":"#, "EOF"),
            (&format!("\"{}\"", "x".repeat(1_000)), "over the limit"),
        ] {
            let error = check(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
