//! [`Node`] out of JSON. Duplicate keys and depth were checked before, by [`crate::core::json`].

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};

use super::tree::{Entry, Kind, Node, Style};

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

const fn literal(text: String) -> Node {
    Node::unmarked(Kind::Text(text, Style::Literal))
}

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(literal(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(literal(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(literal(value.to_string()))
    }

    /// Whatever has a point or an exponent must not pass for a whole number.
    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(literal(format!("{value:e}")))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(literal("null".to_owned()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::unmarked(Kind::Text(value.to_owned(), Style::Quoted)))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::unmarked(Kind::Text(value, Style::Quoted)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::unmarked(Kind::List(items)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = map.next_entry()? {
            entries.push(Entry::unmarked(key, value));
        }
        Ok(Node::unmarked(Kind::Map(entries)))
    }
}
