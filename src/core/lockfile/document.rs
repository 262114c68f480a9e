//! Documents, with strictness applied once for YAML and JSON and for every kind. JSON is read by
//! [`json::parse_strict`].

use super::{
    document_tree::{DocumentNode, DocumentNodeKind, MAX_TEXT},
    error::{LineColumn, LockfileError, LockfileFieldError},
    yaml_reader::parse_yaml,
};
use crate::core::{
    display_text::{MAX_SANITIZED_CHARACTERS, remove_invisible},
    json::{self, JsonError},
    limits::InputLimits,
};

/// Whether texts that are dropped anyway (a manifest's description) may have line breaks and tabs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineBreakPolicy {
    Rejected,
    Allowed,
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
