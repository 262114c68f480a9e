//! The words of a token service that refuses.

use serde_json::Value;

/// The code and the message in a refusal's body; empty if there is neither. Services have several
/// forms: that of registries (`errors`), that of OAuth 2 (RFC 6749 5.2), and their own.
pub(super) fn read_refusal(body: &[u8]) -> String {
    let Ok(document) = serde_json::from_slice::<Value>(body) else {
        return plain_text(body);
    };
    let details = match (&document["errors"], &document["error"]) {
        (Value::Array(errors), _) => errors.first().unwrap_or(&document),
        (error @ (Value::Object(_) | Value::String(_)), _) | (_, error @ Value::Object(_)) => error,
        _ => &document,
    };
    if let Some(text) = details.as_str() {
        return text.to_owned();
    }
    let first = |names: &[&str]| names.iter().find_map(|name| text_of(&details[*name]));
    let code = first(&["code", "error", "status"]);
    let message = first(&[
        "message",
        "error_description",
        "details",
        "detail",
        "description",
        "title",
        "msg",
    ]);
    [code, message]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" ")
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A page of HTML says nothing in a message.
fn plain_text(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    if text.starts_with('<') {
        String::new()
    } else {
        text.lines().next().unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        for (body, words) in [
            (
                r#"{"errors":[{"code":"DENIED","message":"no right"}]}"#,
                "DENIED no right",
            ),
            (
                r#"{"errors":[{"status":401,"message":"Bad props"}]}"#,
                "401 Bad props",
            ),
            (r#"{"errors":["no right"]}"#, "no right"),
            (
                r#"{"errors":{"code":"DENIED","message":"no right"}}"#,
                "DENIED no right",
            ),
            (r#"{"errors":[]}"#, ""),
            (
                r#"{"code":"UNAUTHORIZED","message":"ended"}"#,
                "UNAUTHORIZED ended",
            ),
            (r#"{"message":"no right"}"#, "no right"),
            (
                r#"{"details":"incorrect username or password"}"#,
                "incorrect username or password",
            ),
            (r#"{"detail":"no right"}"#, "no right"),
            (
                r#"{"error":"invalid_grant","error_description":"ended"}"#,
                "invalid_grant ended",
            ),
            (
                r#"{"error":{"code":403,"message":"no right","status":"PERMISSION_DENIED"}}"#,
                "403 no right",
            ),
            (r#"{"error":"invalid_grant"}"#, "invalid_grant"),
            (r#"{"errors":[{"code":7,"message":["x"]}]}"#, "7"),
            (r#""no right""#, "no right"),
            ("[1]", ""),
            (
                "HTTP Basic: Access denied\nmore",
                "HTTP Basic: Access denied",
            ),
            ("<html>no", ""),
            ("", ""),
        ] {
            assert_eq!(read_refusal(body.as_bytes()), words, "{body}");
        }
    }
}
