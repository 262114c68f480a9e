//! [`DocumentNode`] out of JSON. Duplicate keys and depth were checked before, by [`crate::core::json`].

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};

use super::document_tree::{DocumentMapEntry, DocumentNode, DocumentNodeKind, ScalarNotation};

impl<'de> Deserialize<'de> for DocumentNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonNodeVisitor)
    }
}

struct JsonNodeVisitor;

const fn literal_node(text: String) -> DocumentNode {
    DocumentNode::new_unpositioned(DocumentNodeKind::Text(text, ScalarNotation::Literal))
}

impl<'de> Visitor<'de> for JsonNodeVisitor {
    type Value = DocumentNode;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<DocumentNode, E> {
        Ok(literal_node(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<DocumentNode, E> {
        Ok(literal_node(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<DocumentNode, E> {
        Ok(literal_node(value.to_string()))
    }

    /// Whatever has a point or an exponent must not pass for a whole number.
    fn visit_f64<E>(self, value: f64) -> Result<DocumentNode, E> {
        Ok(literal_node(format!("{value:e}")))
    }

    fn visit_unit<E>(self) -> Result<DocumentNode, E> {
        Ok(literal_node("null".to_owned()))
    }

    fn visit_str<E>(self, value: &str) -> Result<DocumentNode, E> {
        Ok(DocumentNode::new_unpositioned(DocumentNodeKind::Text(
            value.to_owned(),
            ScalarNotation::Quoted,
        )))
    }

    fn visit_string<E>(self, value: String) -> Result<DocumentNode, E> {
        Ok(DocumentNode::new_unpositioned(DocumentNodeKind::Text(
            value,
            ScalarNotation::Quoted,
        )))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<DocumentNode, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(DocumentNode::new_unpositioned(DocumentNodeKind::List(
            items,
        )))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DocumentNode, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = map.next_entry()? {
            entries.push(DocumentMapEntry::new_unpositioned(key, value));
        }
        Ok(DocumentNode::new_unpositioned(DocumentNodeKind::Map(
            entries,
        )))
    }
}
