//! `WWW-Authenticate` (RFC 9110, section 11.6.1; distribution's token specification).

/// A registry's authentication challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AuthChallenge {
    /// A token from `realm`.
    Bearer {
        realm: String,
        service: Option<String>,
    },
    /// User name and password.
    Basic,
}

/// The challenge to answer: Bearer if there is one, else Basic.
pub(super) fn choose_challenge<'a>(
    headers: impl Iterator<Item = &'a str>,
) -> Option<AuthChallenge> {
    let known: Vec<AuthChallenge> = headers
        .flat_map(parse_challenges)
        .filter_map(ParsedChallenge::into_auth_challenge)
        .collect();
    let bearer = known
        .iter()
        .find(|challenge| matches!(challenge, AuthChallenge::Bearer { .. }));
    bearer.or_else(|| known.first()).cloned()
}

#[derive(Default)]
struct ParsedChallenge {
    name: String,
    parameters: Vec<(String, String)>,
}

impl ParsedChallenge {
    fn into_auth_challenge(self) -> Option<AuthChallenge> {
        match self.name.as_str() {
            "bearer" => Some(AuthChallenge::Bearer {
                realm: self.parameter("realm")?,
                service: self.parameter("service"),
            }),
            "basic" => Some(AuthChallenge::Basic),
            _ => None,
        }
    }

    fn parameter(&self, name: &str) -> Option<String> {
        self.parameters
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
    }
}

/// One header may have several challenges, and commas separate challenges as well as their
/// parameters: a word without `=` begins a new challenge.
fn parse_challenges(header: &str) -> Vec<ParsedChallenge> {
    let mut schemes: Vec<ParsedChallenge> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            return schemes;
        }
        let word = word.to_ascii_lowercase();
        let Some(after_sign) = after.trim_start_matches([' ', '\t']).strip_prefix('=') else {
            schemes.push(ParsedChallenge {
                name: word,
                parameters: Vec::new(),
            });
            rest = after;
            continue;
        };
        let (value, after_value) = parse_value(after_sign.trim_start_matches([' ', '\t']));
        if let Some(scheme) = schemes.last_mut() {
            scheme.parameters.push((word, value));
        }
        rest = after_value;
    }
}

/// Parses a token or a quoted string, and returns the rest.
fn parse_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.into(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>) -> AuthChallenge {
        AuthChallenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
        }
    }

    #[test]
    fn challenges_are_read_in_every_spelling() {
        for (headers, expected) in [
            (
                vec![r#"Bearer realm="https://a/t",service="s",scope="repository:a:pull,push""#],
                Some(bearer("https://a/t", Some("s"))),
            ),
            (
                vec![r#"bearer  Realm = "https://a/t" , SERVICE=s"#],
                Some(bearer("https://a/t", Some("s"))),
            ),
            (
                vec!["Bearer realm=https://a/t"],
                Some(bearer("https://a/t", None)),
            ),
            (
                vec![r#"Bearer realm="a\"b\\c""#],
                Some(bearer(r#"a"b\c"#, None)),
            ),
            (
                vec![r#"Basic realm="x, Bearer realm=evil""#],
                Some(AuthChallenge::Basic),
            ),
            (
                vec![r#"Basic realm="x", Bearer realm="https://a/t""#],
                Some(bearer("https://a/t", None)),
            ),
            (
                vec![r#"Basic realm="x""#, r#"Bearer realm="https://a/t""#],
                Some(bearer("https://a/t", None)),
            ),
            (
                vec![r#"Negotiate, Basic realm="x""#],
                Some(AuthChallenge::Basic),
            ),
            (vec!["Basic"], Some(AuthChallenge::Basic)),
            (vec!["Bearer"], None),
            (vec!["Negotiate"], None),
            (
                vec![r#"Bearer realm="never closed"#],
                Some(bearer("never closed", None)),
            ),
            (vec!["=,=,= \"", "", ","], None),
        ] {
            assert_eq!(
                choose_challenge(headers.iter().copied()),
                expected,
                "{headers:?}"
            );
        }
    }
}
