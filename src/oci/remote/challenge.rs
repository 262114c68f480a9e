//! `WWW-Authenticate` (RFC 9110, section 11.6.1; distribution's token specification).

/// What a registry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A token from `realm`.
    Bearer {
        realm: String,
        service: Option<String>,
    },
    /// User name and password.
    Basic,
}

/// Picks of all challenges the one that is answered: a token if one is offered, else Basic.
pub(super) fn choose<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let known: Vec<Challenge> = headers.flat_map(parse).filter_map(Scheme::known).collect();
    let bearer = known
        .iter()
        .find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
    bearer.or_else(|| known.first()).cloned()
}

#[derive(Default)]
struct Scheme {
    name: String,
    parameters: Vec<(String, String)>,
}

impl Scheme {
    fn known(self) -> Option<Challenge> {
        match self.name.as_str() {
            "bearer" => Some(Challenge::Bearer {
                realm: self.parameter("realm")?,
                service: self.parameter("service"),
            }),
            "basic" => Some(Challenge::Basic),
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

/// One header may hold several challenges, and commas separate challenges as well as their
/// parameters: a word that is not followed by `=` begins a new challenge.
fn parse(header: &str) -> Vec<Scheme> {
    let mut schemes: Vec<Scheme> = Vec::new();
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
            schemes.push(Scheme {
                name: word,
                parameters: Vec::new(),
            });
            rest = after;
            continue;
        };
        let (value, after_value) = value(after_sign.trim_start_matches([' ', '\t']));
        if let Some(scheme) = schemes.last_mut() {
            scheme.parameters.push((word, value));
        }
        rest = after_value;
    }
}

/// A token or a quoted string, and what follows it.
fn value(text: &str) -> (String, &str) {
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

    fn bearer(realm: &str, service: Option<&str>) -> Challenge {
        Challenge::Bearer {
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
                Some(Challenge::Basic),
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
                Some(Challenge::Basic),
            ),
            (vec!["Basic"], Some(Challenge::Basic)),
            (vec!["Bearer"], None),
            (vec!["Negotiate"], None),
            (
                vec![r#"Bearer realm="never closed"#],
                Some(bearer("never closed", None)),
            ),
            (vec!["=,=,= \"", "", ","], None),
        ] {
            assert_eq!(choose(headers.iter().copied()), expected, "{headers:?}");
        }
    }
}
