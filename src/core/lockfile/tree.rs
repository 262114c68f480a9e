//! A document as a tree of maps, lists and texts, with strictness applied once for YAML and JSON
//! and for every kind.
//!
//! A scalar keeps the text as it was written and is given a type only where a field asks for one.
//! That way `version: 1.40` stays `1.40`, and no word turns into a boolean on its own. The YAML
//! side reads parser events, where tags, anchors and the style of scalars are still visible; the
//! JSON side goes through [`json::parse`].

use std::collections::HashSet;

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span};

use super::error::{Fault, LockError, Mark};
use crate::core::{
    json::{self, JsonError},
    limits::Limits,
    text::is_invisible,
};

/// The longest text anywhere in a lock, in bytes. Origins with long queries fit.
pub(super) const MAX_TEXT: usize = 4_096;
/// Values per artifact that a document may have: every field that there is, twice.
const VALUES_PER_ARTIFACT: usize = 40;

/// Do texts that are dropped anyway (a manifest's description) pass with line breaks and tabs?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineBreaks {
    Refused,
    Allowed,
}

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// Where it starts. JSON has none: see [`Document::locate`].
    mark: Option<Mark>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text(String, Style),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// How a scalar was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Certainly a string.
    Quoted,
    /// YAML's bare words: what the field needs.
    Plain,
    /// JSON's numbers, booleans and null: never a string.
    Literal,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    mark: Option<Mark>,
    pub(super) value: Node,
}

/// A document that passed the rules that do not depend on its kind.
pub(super) struct Document<'a> {
    pub(super) root: Node,
    text: &'a str,
    limits: &'a Limits,
}

impl<'a> Document<'a> {
    /// Reads JSON if the text starts with `{` and is JSON, else YAML.
    pub(super) fn parse(
        bytes: &'a [u8],
        limits: &'a Limits,
        breaks: LineBreaks,
    ) -> Result<Self, LockError> {
        if bytes.len() > limits.lock_bytes {
            return Err(LockError::TooLarge {
                size: bytes.len(),
                limit: limits.lock_bytes,
            });
        }
        let text = std::str::from_utf8(bytes).map_err(|e| not_utf8(bytes, e.valid_up_to()))?;
        let root = match parse_json(text, limits)? {
            Some(root) => root,
            None => parse_yaml(text, limits)?,
        };
        let document = Self { root, text, limits };
        check_texts(&document.root, &mut String::new(), breaks).map_err(|e| document.locate(e))?;
        Ok(document)
    }

    /// Adds line and column to an error that knows its field. JSON is read a second time for that,
    /// as the YAML that it is too.
    pub(super) fn locate(&self, error: LockError) -> LockError {
        match error {
            LockError::Refused { mut place, fault } if place.mark.is_none() => {
                place.mark = match self.root.mark {
                    Some(_) => self.root.find(&place.field),
                    None => parse_yaml(self.text, self.limits)
                        .ok()
                        .and_then(|root| root.find(&place.field)),
                };
                LockError::Refused { place, fault }
            }
            other => other,
        }
    }
}

impl Node {
    /// A value of a document that has no lines.
    pub(super) const fn unmarked(kind: Kind) -> Self {
        Self { kind, mark: None }
    }

    /// Where the field at `path` starts, or the nearest field around it that is there.
    fn find(&self, path: &str) -> Option<Mark> {
        let mut node = self;
        let mut mark = self.mark;
        for step in path.split(['.', '[']).filter(|step| !step.is_empty()) {
            let found = match (&node.kind, step.strip_suffix(']')) {
                (Kind::List(items), Some(index)) => index
                    .parse()
                    .ok()
                    .and_then(|i: usize| items.get(i))
                    .map(|item| (item, item.mark)),
                (Kind::Map(entries), None) => entries
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

impl Entry {
    /// An entry of a document that has no lines.
    pub(super) const fn unmarked(key: String, value: Node) -> Self {
        Self {
            key,
            mark: None,
            value,
        }
    }
}

fn not_utf8(bytes: &[u8], valid: usize) -> LockError {
    let before = bytes.get(..valid).unwrap_or_default();
    let line = before.split(|b| *b == b'\n').count();
    let last = before.rsplit(|b| *b == b'\n').next().unwrap_or_default();
    let column = String::from_utf8_lossy(last).chars().count() + 1;
    LockError::mark(Mark { line, column }, Fault::Syntax("not UTF-8".into()))
}

/// `None` if it is no JSON. Well-formed JSON that breaks our rules is an error, so that nothing
/// gets a second reading.
fn parse_json(text: &str, limits: &Limits) -> Result<Option<Node>, LockError> {
    if !text.trim_ascii_start().starts_with('{') {
        return Ok(None);
    }
    match json::parse(text.as_bytes(), limits.lock_bytes, limits.json_depth) {
        Ok(node) => Ok(Some(node)),
        Err(JsonError::TooLarge { size, limit }) => Err(LockError::TooLarge { size, limit }),
        Err(JsonError::Malformed(e)) if e.is_syntax() || e.is_eof() => Ok(None),
        Err(JsonError::Malformed(e)) => Err(LockError::mark(
            Mark {
                line: e.line(),
                column: e.column(),
            },
            Fault::Syntax(without_position(&e.to_string())),
        )),
    }
}

fn without_position(message: &str) -> String {
    printable(
        message
            .rsplit_once(" at line ")
            .map_or(message, |(before, _)| before),
    )
}

fn printable(message: &str) -> String {
    message
        .chars()
        .filter(|c| !is_invisible(*c))
        .take(300)
        .collect()
}

fn parse_yaml(text: &str, limits: &Limits) -> Result<Node, LockError> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut builder = Builder::new(limits);
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|e| scan_error(&e))?;
        builder.take(event, mark_of(&span))?;
    }
    builder.root.ok_or_else(|| LockError::at("", Fault::Empty))
}

fn scan_error(error: &ScanError) -> LockError {
    let mark = Mark {
        line: error.marker().line(),
        column: error.marker().col() + 1,
    };
    LockError::mark(mark, Fault::Syntax(printable(&error.info())))
}

fn mark_of(span: &Span) -> Mark {
    Mark {
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}

/// Makes a tree of events, without recursion.
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
    depth: usize,
    values: usize,
    max_values: usize,
}

/// A list or map that is not closed yet.
struct Open {
    mark: Mark,
    parts: Parts,
}

enum Parts {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        key: Option<(String, Mark)>,
    },
}

impl Builder {
    const fn new(limits: &Limits) -> Self {
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

    fn take(&mut self, event: Event<'_>, mark: Mark) -> Result<(), LockError> {
        check_plain_yaml(&event, mark)?;
        match event {
            Event::DocumentStart(..) => self.start_document(mark),
            Event::SequenceStart(..) => self.start(mark, Parts::List(Vec::new())),
            Event::MappingStart(..) => self.start(
                mark,
                Parts::Map {
                    entries: Vec::new(),
                    key: None,
                },
            ),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Scalar(text, style, ..) => {
                let style = if style == ScalarStyle::Plain {
                    Style::Plain
                } else {
                    Style::Quoted
                };
                self.put(
                    Node {
                        kind: Kind::Text(text.into_owned(), style),
                        mark: Some(mark),
                    },
                    mark,
                )
            }
            _ => Ok(()),
        }
    }

    const fn start_document(&mut self, mark: Mark) -> Result<(), LockError> {
        self.documents += 1;
        if self.documents > 1 {
            Err(LockError::mark(mark, Fault::SecondDocument))
        } else {
            Ok(())
        }
    }

    fn start(&mut self, mark: Mark, parts: Parts) -> Result<(), LockError> {
        if self.open.len() >= self.depth {
            return Err(LockError::mark(mark, Fault::TooDeep(self.depth)));
        }
        self.open.push(Open { mark, parts });
        Ok(())
    }

    fn end(&mut self) -> Result<(), LockError> {
        let Some(Open { mark, parts }) = self.open.pop() else {
            return Ok(());
        };
        let kind = match parts {
            Parts::List(items) => Kind::List(items),
            Parts::Map { entries, .. } => {
                check_duplicates(&entries, mark)?;
                Kind::Map(entries)
            }
        };
        self.put(
            Node {
                kind,
                mark: Some(mark),
            },
            mark,
        )
    }

    /// Puts a finished value where it belongs: below the innermost open list or map, or at the
    /// root.
    fn put(&mut self, node: Node, mark: Mark) -> Result<(), LockError> {
        self.values += 1;
        if self.values > self.max_values {
            return Err(LockError::mark(mark, Fault::TooManyValues(self.max_values)));
        }
        match self.open.last_mut().map(|open| &mut open.parts) {
            None => self.root = Some(node),
            Some(Parts::List(items)) => items.push(node),
            Some(Parts::Map { entries, key }) => match key.take() {
                Some((key, at)) => entries.push(Entry {
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

fn check_plain_yaml(event: &Event<'_>, mark: Mark) -> Result<(), LockError> {
    if event.tag().is_some() {
        return Err(LockError::mark(mark, Fault::Tag));
    }
    let anchor = event.anchor_id().is_some_and(|id| id != 0);
    if anchor || event.is_alias() {
        Err(LockError::mark(mark, Fault::Anchor))
    } else {
        Ok(())
    }
}

fn key_text(node: Node, mark: Mark) -> Result<String, LockError> {
    match node.kind {
        Kind::Text(key, Style::Plain) if key == "<<" => Err(LockError::mark(mark, Fault::Key)),
        Kind::Text(key, _) if !key.is_empty() => Ok(key),
        _ => Err(LockError::mark(mark, Fault::Key)),
    }
}

fn check_duplicates(entries: &[Entry], around: Mark) -> Result<(), LockError> {
    let mut seen = HashSet::with_capacity(entries.len());
    match entries
        .iter()
        .find(|entry| !seen.insert(entry.key.as_str()))
    {
        Some(entry) => Err(LockError::mark(
            entry.mark.unwrap_or(around),
            Fault::DuplicateKey(entry.key.chars().take(60).collect()),
        )),
        None => Ok(()),
    }
}

/// Looks at every text of the document, those that are dropped too.
fn check_texts(node: &Node, path: &mut String, breaks: LineBreaks) -> Result<(), LockError> {
    let length = path.len();
    match &node.kind {
        Kind::Text(text, _) => check_text(text, path, breaks),
        Kind::List(items) => items.iter().enumerate().try_for_each(|(index, item)| {
            path.truncate(length);
            path.extend(["[", &index.to_string(), "]"]);
            check_texts(item, path, breaks)
        }),
        Kind::Map(entries) => entries.iter().try_for_each(|entry| {
            path.truncate(length);
            check_text(&entry.key, path, LineBreaks::Refused)?;
            path.push_str(if path.is_empty() { "" } else { "." });
            path.push_str(&entry.key);
            check_texts(&entry.value, path, breaks)
        }),
    }
}

fn check_text(text: &str, path: &str, breaks: LineBreaks) -> Result<(), LockError> {
    let allowed = |c: char| breaks == LineBreaks::Allowed && matches!(c, '\n' | '\t');
    if text.chars().any(|c| c.is_control() && !allowed(c)) {
        return Err(LockError::at(path, Fault::Control));
    }
    if text.len() > MAX_TEXT {
        Err(LockError::at(path, Fault::TooLong(MAX_TEXT)))
    } else {
        Ok(())
    }
}
