//! [`DocumentNode`] out of YAML. The parser reads events, where tags, anchors and the style of scalars
//! are still visible (docs/adr/0015-lockfiles-are-read-from-yaml-events.md).

use std::collections::HashSet;

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span};

use super::{
    document_tree::{DocumentMapEntry, DocumentNode, DocumentNodeKind, ScalarNotation},
    error::{LineColumn, LockfileError, LockfileFieldError},
};
use crate::core::{
    display_text::{MAX_SANITIZED_CHARACTERS, remove_invisible},
    limits::InputLimits,
};

/// Values per artifact that a document may have: every field that there is, twice.
const VALUES_PER_ARTIFACT: usize = 40;

pub(super) fn parse_yaml(text: &str, limits: &InputLimits) -> Result<DocumentNode, LockfileError> {
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
