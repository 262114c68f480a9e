//! `{{variables.x}}`, `{{.x}}` and `{{metadata.name}}` in a Conduit manifest.
//!
//! Bounds: every result has at most [`MAX_TEXT`] bytes, variables lead to variables at most
//! [`MAX_DEPTH`] times in a row, and all results together have at most as many bytes as a lock.
//! Doubling variables a hundred times stops at the first of these.

use std::collections::HashMap;

use super::{
    document_tree::{DocumentNode, DocumentNodeKind, MAX_TEXT},
    error::{LockfileError, LockfileFieldError},
    node_view::join_path,
};

/// Variables that lead to variables.
const MAX_DEPTH: usize = 32;

/// The texts that templates can refer to, expanded on demand.
pub(super) struct TemplateExpander {
    sources: HashMap<String, String>,
    resolved: HashMap<String, String>,
    open: Vec<String>,
    left: usize,
}

impl TemplateExpander {
    /// `sources`: keys such as `variables.x` with their unexpanded texts; `budget`: the total bytes
    /// of all results.
    pub(super) fn new(sources: HashMap<String, String>, budget: usize) -> Self {
        Self {
            sources,
            resolved: HashMap::new(),
            open: Vec::new(),
            left: budget,
        }
    }

    /// Expands every text below `node`, whose path is `path`.
    pub(super) fn expand_node(
        &mut self,
        node: &mut DocumentNode,
        path: &str,
    ) -> Result<(), LockfileError> {
        match &mut node.kind {
            DocumentNodeKind::Text(text, _) if text.contains("{{") => {
                *text = self
                    .expand_text(text)
                    .map_err(|fault| LockfileError::at_field(path, fault))?;
                Ok(())
            }
            DocumentNodeKind::Text(..) => Ok(()),
            DocumentNodeKind::List(items) => items
                .iter_mut()
                .enumerate()
                .try_for_each(|(index, item)| self.expand_node(item, &format!("{path}[{index}]"))),
            DocumentNodeKind::Map(entries) => entries.iter_mut().try_for_each(|entry| {
                self.expand_node(&mut entry.value, &join_path(path, &entry.key))
            }),
        }
    }

    /// Checks the text named `source`.
    pub(super) fn check_variable(&mut self, source: &str) -> Result<(), LockfileFieldError> {
        self.resolve_source(source).map(drop)
    }

    pub(super) fn expand_text(&mut self, text: &str) -> Result<String, LockfileFieldError> {
        let mut result = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, after) = after
                .split_once("}}")
                .ok_or(LockfileFieldError::OpenTemplate)?;
            self.append_bounded(&mut result, before)?;
            let value = self.resolve_source(&source_key(name.trim()))?;
            self.append_bounded(&mut result, &value)?;
            rest = after;
        }
        self.append_bounded(&mut result, rest)?;
        Ok(result)
    }

    fn append_bounded(
        &mut self,
        result: &mut String,
        part: &str,
    ) -> Result<(), LockfileFieldError> {
        if result.len() + part.len() > MAX_TEXT {
            return Err(LockfileFieldError::TooLong(MAX_TEXT));
        }
        self.left = self
            .left
            .checked_sub(part.len())
            .ok_or(LockfileFieldError::Unsupported(
                "variables make this manifest too large",
            ))?;
        result.push_str(part);
        Ok(())
    }

    fn resolve_source(&mut self, source: &str) -> Result<String, LockfileFieldError> {
        if let Some(value) = self.resolved.get(source) {
            return Ok(value.clone());
        }
        let text = self.sources.get(source).cloned().ok_or_else(|| {
            LockfileFieldError::UnknownVariable(source.chars().take(100).collect())
        })?;
        self.check_cycle(source)?;
        self.open.push(source.to_owned());
        let value = self.expand_text(&text)?;
        self.open.pop();
        self.resolved.insert(source.to_owned(), value.clone());
        Ok(value)
    }

    fn check_cycle(&self, source: &str) -> Result<(), LockfileFieldError> {
        if let Some(start) = self.open.iter().position(|open| open == source) {
            let chain = self
                .open
                .iter()
                .skip(start)
                .map(String::as_str)
                .chain([source]);
            return Err(LockfileFieldError::Cycle(
                chain.collect::<Vec<_>>().join(" -> "),
            ));
        }
        if self.open.len() >= MAX_DEPTH {
            Err(LockfileFieldError::TooDeep(MAX_DEPTH))
        } else {
            Ok(())
        }
    }
}

/// `.x` is short for `variables.x`.
fn source_key(name: &str) -> String {
    name.strip_prefix('.').map_or_else(
        || name.to_owned(),
        |variable| format!("variables.{variable}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn templates(variables: &[(&str, &str)]) -> TemplateExpander {
        let sources = variables
            .iter()
            .map(|(key, text)| ((*key).to_owned(), (*text).to_owned()))
            .collect();
        TemplateExpander::new(sources, 100_000)
    }

    #[test]
    fn variables_are_filled_in() {
        let mut templates = templates(&[
            ("variables.a", "1"),
            ("variables.b", "{{.a}}{{ variables.a }}"),
            ("metadata.name", "siem"),
        ]);
        for (text, result) in [
            ("plain }} {x}", "plain }} {x}"),
            ("v{{variables.b}}-{{metadata.name}}", "v11-siem"),
            ("{{.b}}{{.b}}", "1111"),
        ] {
            assert_eq!(templates.expand_text(text).as_deref(), Ok(result), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_filled_in_is_refused() {
        let mut templates = templates(&[
            ("variables.a", "{{.b}}"),
            ("variables.b", "{{variables.c}}"),
            ("variables.c", "x{{.a}}"),
            ("variables.self", "{{.self}}"),
        ]);
        for (text, part) in [
            (
                "{{variables.a}}",
                "variables.a -> variables.b -> variables.c -> variables.a",
            ),
            ("{{.self}}", "variables.self -> variables.self"),
            ("{{.nobody}}", "unknown variable \"variables.nobody\""),
            ("{{metadata.name}}", "unknown variable"),
            ("{{}}", "unknown variable \"\""),
            ("{{{.a}}", "unknown variable \"{.a\""),
            ("{{env.HOME}}", "unknown variable"),
            ("x {{variables.a", "without }}"),
        ] {
            templates.open.clear();
            let fault = templates.expand_text(text).expect_err(text).to_string();
            assert!(fault.contains(part), "{text}: {fault}");
        }
    }

    #[test]
    fn variables_cannot_blow_up() {
        let doubling: Vec<(String, String)> = (1..30)
            .map(|n| {
                (
                    format!("variables.v{n}"),
                    format!("{{{{.v{}}}}}{{{{.v{}}}}}", n - 1, n - 1),
                )
            })
            .collect();
        let mut pairs: Vec<(&str, &str)> = doubling
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect();
        pairs.push(("variables.v0", "0123456789"));
        assert_eq!(
            templates(&pairs).expand_text("{{.v20}}"),
            Err(LockfileFieldError::TooLong(MAX_TEXT))
        );
        assert_eq!(
            templates(&pairs)
                .expand_text("{{.v3}}")
                .map(|text| text.len()),
            Ok(80)
        );

        let chain: Vec<(String, String)> = (1..100)
            .map(|n| (format!("variables.v{n}"), format!("{{{{.v{}}}}}", n - 1)))
            .collect();
        let mut pairs: Vec<(&str, &str)> = chain
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect();
        pairs.push(("variables.v0", "x"));
        assert_eq!(
            templates(&pairs).expand_text("{{.v99}}"),
            Err(LockfileFieldError::TooDeep(MAX_DEPTH))
        );

        let mut small = TemplateExpander::new(
            HashMap::from([("variables.a".to_owned(), "x".repeat(4_000))]),
            10_000,
        );
        assert!(small.expand_text("{{.a}}").is_ok());
        assert!(
            matches!(
                small.expand_text("{{.a}}"),
                Err(LockfileFieldError::Unsupported(_))
            ),
            "all results together are bounded"
        );
    }
}
