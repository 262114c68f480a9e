//! Hosts with wildcards, as in kubelet: each label is matched on its own, by the rules of Go's
//! `path/filepath.Match`, and ports must be equal.

use crate::core::reference::canonical_host;

/// A host with wildcards: `*.example.com`, `r[0-9].example.com:5000`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostGlob {
    text: String,
    /// `None`: the pattern is malformed, and matches nothing.
    labels: Option<Vec<Vec<GlobElement>>>,
    port: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum GlobElement {
    /// `*`: any number of characters.
    AnyText,
    /// `?`
    AnyCharacter,
    /// `[a-z]`, `[^a-z]`
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    Literal(char),
}

impl HostGlob {
    /// `None` if there is no wildcard. A bracket in front is an IPv6 address.
    pub(super) fn parse(host: &str) -> Option<Self> {
        if host.starts_with('[') || !host.contains(['*', '?', '[', '\\']) {
            return None;
        }
        let text = host.to_ascii_lowercase();
        let (name, port) = split_port(&text);
        let name = name.strip_suffix('.').unwrap_or(name);
        Some(Self {
            labels: name.split('.').map(parse_label).collect(),
            // As in canonical hosts.
            port: port
                .map(|port| port.trim_start_matches('0').to_owned())
                .filter(|port| port != "443"),
            text,
        })
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Takes a canonical host.
    pub(super) fn matches_host(&self, host: &str) -> bool {
        debug_assert_eq!(canonical_host(host).as_deref(), Ok(host));
        let (name, port) = split_port(host);
        let port = port.filter(|port| *port != "443");
        let Some(labels) = &self.labels else {
            return false;
        };
        let names: Vec<&str> = name.split('.').collect();
        !host.starts_with('[')
            && self.port.as_deref() == port
            && labels.len() == names.len()
            && labels
                .iter()
                .zip(names)
                .all(|(label, name)| matches_label(label, name))
    }
}

fn split_port(host: &str) -> (&str, Option<&str>) {
    host.rsplit_once(':')
        .map_or((host, None), |(name, port)| (name, Some(port)))
}

fn parse_label(text: &str) -> Option<Vec<GlobElement>> {
    let mut rest = text.chars();
    let mut elements = Vec::new();
    while let Some(next) = rest.next() {
        elements.push(match next {
            '*' => GlobElement::AnyText,
            '?' => GlobElement::AnyCharacter,
            '[' => parse_class(&mut rest)?,
            '\\' => GlobElement::Literal(rest.next()?),
            other => GlobElement::Literal(other),
        });
    }
    Some(elements)
}

fn parse_class(rest: &mut std::str::Chars<'_>) -> Option<GlobElement> {
    let (inside, after) = rest.as_str().split_once(']')?;
    *rest = after.chars();
    let (negated, inside) = inside
        .strip_prefix('^')
        .map_or((false, inside), |inside| (true, inside));
    let mut characters = inside.chars().peekable();
    let mut ranges = Vec::new();
    while let Some(low) = characters.next() {
        let high = match characters.next_if_eq(&'-') {
            Some(_) => characters.next()?,
            None => low,
        };
        ranges.push((low, high));
    }
    (!ranges.is_empty()).then_some(GlobElement::Class { negated, ranges })
}

/// Goes back to the last `*` only, so that no pattern takes long.
fn matches_label(pattern: &[GlobElement], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(GlobElement::AnyText) => {
                star = Some((p, t));
                p += 1;
            }
            Some(element) if element.matches(text[t]) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|e| *e == GlobElement::AnyText)
}

impl GlobElement {
    fn matches(&self, character: char) -> bool {
        match self {
            Self::AnyText => false,
            Self::AnyCharacter => true,
            Self::Class { negated, ranges } => {
                ranges
                    .iter()
                    .any(|(low, high)| (*low..=*high).contains(&character))
                    != *negated
            }
            Self::Literal(literal) => *literal == character,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_with_many_stars_takes_no_time() {
        let pattern = parse_label(&"*a".repeat(10_000)).expect("valid");
        assert!(!matches_label(&pattern, &"a".repeat(63)));
        let stars = parse_label(&"*".repeat(100)).expect("valid");
        assert!(matches_label(&stars, "") && matches_label(&stars, "abc"));
    }

    #[test]
    fn malformed_patterns_match_nothing() {
        for host in [
            "r[.example.com",
            "r[].example.com",
            "r[a-].example.com",
            r"*\",
        ] {
            let glob = HostGlob::parse(host).expect("a wildcard");
            assert_eq!(glob.labels, None, "{host}");
        }
    }
}
