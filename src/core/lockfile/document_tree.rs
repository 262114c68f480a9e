//! A document as a tree of maps, lists and texts.
//!
//! A scalar keeps its text as written and gets a type only from the field that it is read for. That
//! way `version: 1.40` stays `1.40`, and no plain word becomes a boolean implicitly.

use super::error::LineColumn;

/// The longest text anywhere in a lock, in bytes. Origins with long queries fit.
pub(super) const MAX_TEXT: usize = 4_096;

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DocumentNode {
    pub(super) kind: DocumentNodeKind,
    /// Where it starts. JSON has none: see `LockDocument::add_position`.
    pub(super) mark: Option<LineColumn>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DocumentNodeKind {
    Text(String, ScalarNotation),
    List(Vec<DocumentNode>),
    Map(Vec<DocumentMapEntry>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScalarNotation {
    /// A string.
    Quoted,
    /// A plain YAML scalar: its type depends on the field.
    Plain,
    /// JSON's numbers, booleans and null: never a string.
    Literal,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DocumentMapEntry {
    pub(super) key: String,
    pub(super) mark: Option<LineColumn>,
    pub(super) value: DocumentNode,
}

impl DocumentNode {
    /// A value of a document that has no lines.
    pub(super) const fn new_unpositioned(kind: DocumentNodeKind) -> Self {
        Self { kind, mark: None }
    }

    /// Where the field at `path` starts, or the nearest field around it that is there.
    pub(super) fn find_position(&self, path: &str) -> Option<LineColumn> {
        let mut node = self;
        let mut mark = self.mark;
        for step in path.split(['.', '[']).filter(|step| !step.is_empty()) {
            let found = match (&node.kind, step.strip_suffix(']')) {
                (DocumentNodeKind::List(items), Some(index)) => index
                    .parse()
                    .ok()
                    .and_then(|i: usize| items.get(i))
                    .map(|item| (item, item.mark)),
                (DocumentNodeKind::Map(entries), None) => entries
                    .iter()
                    .find(|e| e.key == step)
                    .map(|e| (&e.value, e.mark)),
                _ => None,
            };
            let Some((next, at)) = found else { break };
            (node, mark) = (next, at);
        }
        mark
    }
}

impl DocumentMapEntry {
    /// An entry of a document that has no lines.
    pub(super) const fn new_unpositioned(key: String, value: DocumentNode) -> Self {
        Self {
            key,
            mark: None,
            value,
        }
    }
}
