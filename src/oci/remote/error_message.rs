//! The words in the body of an error, in every shape that registries, their token services and
//! storage use.

use serde_json::Value;

/// Values inside of each other that are searched: `{"errors": [{"detail": {"message": "…"}}]}` has
/// five.
const MAX_DEPTH: usize = 5;

/// The code and message in the body of an error; empty if it has none for people, as a page of
/// HTML.
pub(super) fn error_message(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    match serde_json::from_str(text) {
        Ok(value) => json_message(&value, MAX_DEPTH),
        Err(_) if text.starts_with('<') => xml_message(text),
        // A document that was cut off has no message for people.
        Err(_) if text.starts_with(['{', '[']) => String::new(),
        Err(_) => text.lines().next().unwrap_or_default().to_owned(),
    }
}

/// Of the distribution specification `{"errors": [{"code", "message", "detail"}]}`; of token
/// services `{"details"}` and `{"error", "error_description"}` (RFC 6749, section 5.2); of others
/// `{"code", "message"}`, `{"message"}`, `{"error": {…}}`, `{"title", "detail"}` (RFC 9457).
fn json_message(value: &Value, depth: usize) -> String {
    let Some(depth) = depth.checked_sub(1) else {
        return String::new();
    };
    match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Array(all) => first_words(all.iter(), depth),
        Value::Object(fields) => {
            let nested = ["errors", "error"]
                .iter()
                .filter_map(|name| fields.get(*name));
            let nested = first_words(nested.filter(|value| !value.is_string()), depth);
            if !nested.is_empty() {
                return nested;
            }
            let code = ["code", "error", "title", "status"]
                .iter()
                .find_map(|name| scalar_text(fields.get(*name)?));
            let message = [
                "message",
                "error_description",
                "details",
                "detail",
                "description",
                "msg",
                "reason",
            ]
            .iter()
            .filter_map(|name| fields.get(*name));
            let message = first_words(message, depth);
            [code.unwrap_or_default(), message]
                .into_iter()
                .filter(|words| !words.is_empty())
                .collect::<Vec<_>>()
                .join(" ")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => String::new(),
    }
}

fn first_words<'a>(values: impl Iterator<Item = &'a Value>, depth: usize) -> String {
    values
        .map(|value| json_message(value, depth))
        .find(|words| !words.is_empty())
        .unwrap_or_default()
}

fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Of storage: `<Error><Code>…</Code><Message>…</Message></Error>`.
fn xml_message(text: &str) -> String {
    let element = |name: &str| {
        let (_, after) = text.split_once(&format!("<{name}>"))?;
        after
            .split_once("</")
            .map(|(content, _)| content.trim())
            .filter(|content| !content.is_empty() && !content.contains('<'))
    };
    let words: Vec<&str> = ["Code", "Message"]
        .into_iter()
        .filter_map(element)
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_has_its_words() {
        for (body, words) in [
            (
                r#"{"errors":[{"code":"DENIED","message":"no","detail":[{"Type":"repository"}]}]}"#,
                "DENIED no",
            ),
            (
                r#"{"errors":[{"code":"DENIED","message":"","detail":"why"}]}"#,
                "DENIED why",
            ),
            (
                r#"{"errors":[{"code":"UNKNOWN","detail":{"message":"deep"}}]}"#,
                "UNKNOWN deep",
            ),
            (r#"{"errors":[],"message":"beside"}"#, "beside"),
            (r#"{"errors":["first","second"]}"#, "first"),
            (r#"{"errors":{"code":"A","message":"b"}}"#, "A b"),
            (
                r#"{"code":"UNAUTHORIZED","message":"expired"}"#,
                "UNAUTHORIZED expired",
            ),
            (r#"{"code":403,"message":"no"}"#, "403 no"),
            (
                r#"{"message":"project nope not found"}"#,
                "project nope not found",
            ),
            (
                r#"{"error":"invalid_grant","error_description":"token has expired"}"#,
                "invalid_grant token has expired",
            ),
            (
                r#"{"error_description":"token has expired"}"#,
                "token has expired",
            ),
            (r#"{"error":{"code":"X","message":"inside"}}"#, "X inside"),
            (r#"{"error":"only this"}"#, "only this"),
            (
                r#"{"details":"incorrect username or password"}"#,
                "incorrect username or password",
            ),
            (
                r#"{"title":"Forbidden","status":403,"detail":"quota"}"#,
                "Forbidden quota",
            ),
            (
                r#"{"errors":[{"status":401,"message":"Bad props"}]}"#,
                "401 Bad props",
            ),
            (
                r#"{"error":{"code":403,"message":"no right","status":"PERMISSION_DENIED"}}"#,
                "403 no right",
            ),
            (r#"{"error":"invalid_grant"}"#, "invalid_grant"),
            (r#"{"errors":[{"code":7,"message":["x"]}]}"#, "7 x"),
            (
                r#"{"code":" DENIED ","description":" no right "}"#,
                "DENIED no right",
            ),
            (r#"{"detail":"no right"}"#, "no right"),
            (r#"{"errors":[]}"#, ""),
            ("[1]", ""),
            (
                "HTTP Basic: Access denied\nmore",
                "HTTP Basic: Access denied",
            ),
            ("<html>no", ""),
            (r#"[{"message":"in a list"}]"#, "in a list"),
            (r#""just text""#, "just text"),
            ("plain text\nmore", "plain text"),
            (
                "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>expired</Message></Error>",
                "AccessDenied expired",
            ),
            ("<!doctype html><html><body>404</body></html>", ""),
            (r#"{"errors":[{"code":"CUT"#, ""),
            ("{}", ""),
            ("null", ""),
            ("", ""),
        ] {
            assert_eq!(error_message(body.as_bytes()), words, "{body}");
        }
        let deep = format!("{}\"x\"{}", r#"{"errors":["#.repeat(60), "]}".repeat(60));
        assert_eq!(error_message(deep.as_bytes()), "");
        assert_eq!(error_message(b"\xff\xfe"), "\u{fffd}\u{fffd}");
    }
}
