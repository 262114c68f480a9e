//! A document as a tree of maps, lists and texts, with strictness applied once for YAML and JSON
//! and for every kind.
//!
//! A scalar keeps its text as written and gets a type only from the field that it is read for. That
//! way `version: 1.40` stays `1.40`, and no plain word becomes a boolean implicitly. The YAML
//! parser reads events, where tags, anchors and the style of scalars are still visible; the JSON
//! parser uses [`json::parse_strict`].

use std::collections::HashSet;

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span};

use super::error::{LineColumn, LockfileError, LockfileFieldError};
use crate::core::{
    display_text::{MAX_SANITIZED_CHARACTERS, remove_invisible},
    json::{self, JsonError},
    limits::InputLimits,
};

/// The longest text anywhere in a lock, in bytes. Origins with long queries fit.
pub(super) const MAX_TEXT: usize = 4_096;
/// Values per artifact that a document may have: every field that there is, twice.
const VALUES_PER_ARTIFACT: usize = 40;

/// Do texts that are dropped anyway (a manifest's description) pass with line breaks and tabs?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineBreakPolicy {
    Rejected,
    Allowed,
}

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DocumentNode {
    pub(super) kind: DocumentNodeKind,
    /// Where it starts. JSON has none: see [`LockDocument::add_position`].
    mark: Option<LineColumn>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DocumentNodeKind {
    Text(String, ScalarNotation),
    List(Vec<DocumentNode>),
    Map(Vec<DocumentMapEntry>),
}

/// The notation of a scalar.
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
    mark: Option<LineColumn>,
    pub(super) value: DocumentNode,
}

/// A document that passed the rules that do not depend on its kind.
pub(super) struct LockDocument<'a> {
    pub(super) root: DocumentNode,
    text: &'a str,
    limits: &'a InputLimits,
}

impl<'a> LockDocument<'a> {
    /// Reads JSON if the text starts with `{` and is JSON, else YAML.
    pub(super) fn parse(
        bytes: &'a [u8],
        limits: &'a InputLimits,
        breaks: LineBreakPolicy,
    ) -> Result<Self, LockfileError> {
        if bytes.len() > limits.lock_bytes {
            return Err(LockfileError::TooLarge {
                size: bytes.len(),
                limit: limits.lock_bytes,
            });
        }
        let text =
            std::str::from_utf8(bytes).map_err(|e| not_utf8_error(bytes, e.valid_up_to()))?;
        let root = match parse_json(text, limits)? {
            Some(root) => root,
            None => parse_yaml(text, limits)?,
        };
        let document = Self { root, text, limits };
        check_texts(&document.root, &mut String::new(), breaks)
            .map_err(|e| document.add_position(e))?;
        Ok(document)
    }

    /// Adds line and column to an error with a field. JSON is parsed a second time for that, as
    /// YAML, of which it is a subset.
    pub(super) fn add_position(&self, error: LockfileError) -> LockfileError {
        match error {
            LockfileError::Refused { mut place, fault } if place.mark.is_none() => {
                place.mark = match self.root.mark {
                    Some(_) => self.root.find_position(&place.field),
                    None => parse_yaml(self.text, self.limits)
                        .ok()
                        .and_then(|root| root.find_position(&place.field)),
                };
                LockfileError::Refused { place, fault }
            }
            other => other,
        }
    }
}

impl DocumentNode {
    /// A value of a document that has no lines.
    pub(super) const fn new_unpositioned(kind: DocumentNodeKind) -> Self {
        Self { kind, mark: None }
    }

    /// Where the field at `path` starts, or the nearest field around it that is there.
    fn find_position(&self, path: &str) -> Option<LineColumn> {
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

fn not_utf8_error(bytes: &[u8], valid: usize) -> LockfileError {
    let before = bytes.get(..valid).unwrap_or_default();
    let line = before.split(|b| *b == b'\n').count();
    let last = before.rsplit(|b| *b == b'\n').next().unwrap_or_default();
    let column = String::from_utf8_lossy(last).chars().count() + 1;
    LockfileError::at_position(
        LineColumn { line, column },
        LockfileFieldError::Syntax("not UTF-8".into()),
    )
}

/// `None` if it is no JSON. Well-formed JSON that breaks our rules is an error, so that nothing
/// gets a second reading.
fn parse_json(text: &str, limits: &InputLimits) -> Result<Option<DocumentNode>, LockfileError> {
    if !text.trim_ascii_start().starts_with('{') {
        return Ok(None);
    }
    match json::parse_strict(text.as_bytes(), limits.lock_bytes, limits.json_depth) {
        Ok(node) => Ok(Some(node)),
        Err(JsonError::TooLarge { size, limit }) => Err(LockfileError::TooLarge { size, limit }),
        Err(JsonError::Malformed(e)) if e.is_syntax() || e.is_eof() => Ok(None),
        Err(JsonError::Malformed(e)) => Err(LockfileError::at_position(
            LineColumn {
                line: e.line(),
                column: e.column(),
            },
            LockfileFieldError::Syntax(strip_position(&e.to_string())),
        )),
    }
}

fn strip_position(message: &str) -> String {
    let message = message
        .rsplit_once(" at line ")
        .map_or(message, |(before, _)| before);
    remove_invisible(message, MAX_SANITIZED_CHARACTERS)
}

fn parse_yaml(text: &str, limits: &InputLimits) -> Result<DocumentNode, LockfileError> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut builder = YamlTreeBuilder::new(limits);
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|e| scan_error(&e))?;
        builder.handle_event(event, span_start(&span))?;
    }
    builder
        .root
        .ok_or_else(|| LockfileError::at_field("", LockfileFieldError::Empty))
}

fn scan_error(error: &ScanError) -> LockfileError {
    let mark = LineColumn {
        line: error.marker().line(),
        column: error.marker().col() + 1,
    };
    LockfileError::at_position(
        mark,
        LockfileFieldError::Syntax(remove_invisible(&error.info(), MAX_SANITIZED_CHARACTERS)),
    )
}

fn span_start(span: &Span) -> LineColumn {
    LineColumn {
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}

/// Makes a tree of events, without recursion.
struct YamlTreeBuilder {
    open: Vec<OpenCollection>,
    root: Option<DocumentNode>,
    documents: usize,
    depth: usize,
    values: usize,
    max_values: usize,
}

/// A list or map that is not closed yet.
struct OpenCollection {
    mark: LineColumn,
    parts: OpenCollectionItems,
}

enum OpenCollectionItems {
    List(Vec<DocumentNode>),
    Map {
        entries: Vec<DocumentMapEntry>,
        key: Option<(String, LineColumn)>,
    },
}

impl YamlTreeBuilder {
    const fn new(limits: &InputLimits) -> Self {
        let max_values = limits
            .artifacts
            .saturating_mul(VALUES_PER_ARTIFACT)
            .saturating_add(1_000);
        Self {
            open: Vec::new(),
            root: None,
            documents: 0,
            depth: limits.json_depth,
            values: 0,
            max_values,
        }
    }

    fn handle_event(&mut self, event: Event<'_>, mark: LineColumn) -> Result<(), LockfileError> {
        check_plain_yaml(&event, mark)?;
        match event {
            Event::DocumentStart(..) => self.start_document(mark),
            Event::SequenceStart(..) => {
                self.open_collection(mark, OpenCollectionItems::List(Vec::new()))
            }
            Event::MappingStart(..) => self.open_collection(
                mark,
                OpenCollectionItems::Map {
                    entries: Vec::new(),
                    key: None,
                },
            ),
            Event::SequenceEnd | Event::MappingEnd => self.close_collection(),
            Event::Scalar(text, style, ..) => {
                let style = if style == ScalarStyle::Plain {
                    ScalarNotation::Plain
                } else {
                    ScalarNotation::Quoted
                };
                self.insert_value(
                    DocumentNode {
                        kind: DocumentNodeKind::Text(text.into_owned(), style),
                        mark: Some(mark),
                    },
                    mark,
                )
            }
            _ => Ok(()),
        }
    }

    const fn start_document(&mut self, mark: LineColumn) -> Result<(), LockfileError> {
        self.documents += 1;
        if self.documents > 1 {
            Err(LockfileError::at_position(
                mark,
                LockfileFieldError::SecondDocument,
            ))
        } else {
            Ok(())
        }
    }

    fn open_collection(
        &mut self,
        mark: LineColumn,
        parts: OpenCollectionItems,
    ) -> Result<(), LockfileError> {
        if self.open.len() >= self.depth {
            return Err(LockfileError::at_position(
                mark,
                LockfileFieldError::TooDeep(self.depth),
            ));
        }
        self.open.push(OpenCollection { mark, parts });
        Ok(())
    }

    fn close_collection(&mut self) -> Result<(), LockfileError> {
        let Some(OpenCollection { mark, parts }) = self.open.pop() else {
            return Ok(());
        };
        let kind = match parts {
            OpenCollectionItems::List(items) => DocumentNodeKind::List(items),
            OpenCollectionItems::Map { entries, .. } => {
                check_duplicate_keys(&entries, mark)?;
                DocumentNodeKind::Map(entries)
            }
        };
        self.insert_value(
            DocumentNode {
                kind,
                mark: Some(mark),
            },
            mark,
        )
    }

    /// Inserts a finished value: into the innermost open list or map, or as the root.
    fn insert_value(&mut self, node: DocumentNode, mark: LineColumn) -> Result<(), LockfileError> {
        self.values += 1;
        if self.values > self.max_values {
            return Err(LockfileError::at_position(
                mark,
                LockfileFieldError::TooManyValues(self.max_values),
            ));
        }
        match self.open.last_mut().map(|open| &mut open.parts) {
            None => self.root = Some(node),
            Some(OpenCollectionItems::List(items)) => items.push(node),
            Some(OpenCollectionItems::Map { entries, key }) => match key.take() {
                Some((key, at)) => entries.push(DocumentMapEntry {
                    key,
                    mark: Some(at),
                    value: node,
                }),
                None => *key = Some((key_text(node, mark)?, mark)),
            },
        }
        Ok(())
    }
}

fn check_plain_yaml(event: &Event<'_>, mark: LineColumn) -> Result<(), LockfileError> {
    if event.tag().is_some() {
        return Err(LockfileError::at_position(mark, LockfileFieldError::Tag));
    }
    let anchor = event.anchor_id().is_some_and(|id| id != 0);
    if anchor || event.is_alias() {
        Err(LockfileError::at_position(mark, LockfileFieldError::Anchor))
    } else {
        Ok(())
    }
}

fn key_text(node: DocumentNode, mark: LineColumn) -> Result<String, LockfileError> {
    match node.kind {
        DocumentNodeKind::Text(key, ScalarNotation::Plain) if key == "<<" => {
            Err(LockfileError::at_position(mark, LockfileFieldError::Key))
        }
        DocumentNodeKind::Text(key, _) if !key.is_empty() => Ok(key),
        _ => Err(LockfileError::at_position(mark, LockfileFieldError::Key)),
    }
}

fn check_duplicate_keys(
    entries: &[DocumentMapEntry],
    around: LineColumn,
) -> Result<(), LockfileError> {
    let mut seen = HashSet::with_capacity(entries.len());
    match entries
        .iter()
        .find(|entry| !seen.insert(entry.key.as_str()))
    {
        Some(entry) => Err(LockfileError::at_position(
            entry.mark.unwrap_or(around),
            LockfileFieldError::DuplicateKey(entry.key.chars().take(60).collect()),
        )),
        None => Ok(()),
    }
}

/// Looks at every text of the document, those that are dropped too.
fn check_texts(
    node: &DocumentNode,
    path: &mut String,
    breaks: LineBreakPolicy,
) -> Result<(), LockfileError> {
    let length = path.len();
    match &node.kind {
        DocumentNodeKind::Text(text, _) => check_text(text, path, breaks),
        DocumentNodeKind::List(items) => items.iter().enumerate().try_for_each(|(index, item)| {
            path.truncate(length);
            path.extend(["[", &index.to_string(), "]"]);
            check_texts(item, path, breaks)
        }),
        DocumentNodeKind::Map(entries) => entries.iter().try_for_each(|entry| {
            path.truncate(length);
            check_text(&entry.key, path, LineBreakPolicy::Rejected)?;
            path.push_str(if path.is_empty() { "" } else { "." });
            path.push_str(&entry.key);
            check_texts(&entry.value, path, breaks)
        }),
    }
}

fn check_text(text: &str, path: &str, breaks: LineBreakPolicy) -> Result<(), LockfileError> {
    let allowed = |c: char| breaks == LineBreakPolicy::Allowed && matches!(c, '\n' | '\t');
    if text.chars().any(|c| c.is_control() && !allowed(c)) {
        return Err(LockfileError::at_field(path, LockfileFieldError::Control));
    }
    if text.len() > MAX_TEXT {
        Err(LockfileError::at_field(
            path,
            LockfileFieldError::TooLong(MAX_TEXT),
        ))
    } else {
        Ok(())
    }
}
