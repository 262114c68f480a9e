//! The fifty rows of docs/threat-model.md, for tests that compare their measurements with them.
//! Every test program includes it (`#[path]`).
#![allow(dead_code, reason = "no test program uses all of it")]

use std::{collections::BTreeSet, fmt::Display};

const PAGE: &str = include_str!("../../docs/threat-model.md");
/// In place of a reason where the attempt is admitted.
pub(crate) const ADMITTED: &str = "Admitted";
/// A cell without a value.
pub(crate) const NONE: &str = "—";

/// A row of the table: `| number | vector | answer | tests | reasons | registry requests |
/// Authorization headers |`.
#[derive(Clone, Debug)]
pub(crate) struct Threat {
    pub(crate) number: usize,
    pub(crate) vector: &'static str,
    pub(crate) answer: &'static str,
    /// The first one compares its measurements with this row.
    pub(crate) tests: Vec<&'static str>,
    pub(crate) reasons: BTreeSet<&'static str>,
    /// Of each attempt.
    pub(crate) requests: BTreeSet<usize>,
    pub(crate) authorizations: &'static str,
}

/// The row with this number.
pub(crate) fn threat(number: usize) -> Threat {
    let mut rows = threats().into_iter().filter(|row| row.number == number);
    match (rows.next(), rows.next()) {
        (Some(row), None) => row,
        (found, _) => panic!(
            "docs/threat-model.md has {} row {number}",
            if found.is_some() {
                "more than one"
            } else {
                "no"
            }
        ),
    }
}

/// Every row, in the order of the page.
pub(crate) fn threats() -> Vec<Threat> {
    PAGE.lines().filter_map(row).collect()
}

fn row(line: &'static str) -> Option<Threat> {
    let cells: Vec<&str> = line
        .strip_prefix("| ")?
        .strip_suffix(" |")?
        .split(" | ")
        .map(str::trim)
        .collect();
    let number = cells[0].parse().ok()?;
    let [_, vector, answer, tests, reasons, requests, authorizations] = cells[..] else {
        panic!("a row of seven cells: {line}")
    };
    let quoted = |cell: &'static str| cell.split('`').skip(1).step_by(2);
    let requests = requests
        .split(", ")
        .filter(|cell| *cell != NONE)
        .map(|cell| {
            cell.parse()
                .unwrap_or_else(|_| panic!("numbers, or {NONE}: {line}"))
        });
    Some(Threat {
        number,
        vector,
        answer,
        tests: quoted(tests).collect(),
        reasons: quoted(reasons).collect(),
        requests: requests.collect(),
        authorizations,
    })
}

impl Threat {
    /// The reasons of each attempt, or [`ADMITTED`]: exactly those in the row.
    #[track_caller]
    pub(crate) fn reasons<T: Display>(self, found: impl IntoIterator<Item = T>) -> Self {
        let found: BTreeSet<String> = found.into_iter().map(|reason| reason.to_string()).collect();
        let said: BTreeSet<String> = self
            .reasons
            .iter()
            .map(|&reason| reason.to_owned())
            .collect();
        assert_eq!(
            found, said,
            "row {} of docs/threat-model.md: the tests find the left reasons, it says the right \
                ones",
            self.number
        );
        self
    }

    /// The number of registry requests of each attempt.
    #[track_caller]
    pub(crate) fn requests(self, found: impl IntoIterator<Item = usize>) -> Self {
        let found: BTreeSet<usize> = found.into_iter().collect();
        assert_eq!(
            found, self.requests,
            "row {} of docs/threat-model.md: the tests count the left requests, it says the right \
                ones",
            self.number
        );
        self
    }

    /// The schemes of the `Authorization` headers that arrived at each place, in order of their
    /// first arrival.
    #[track_caller]
    pub(crate) fn authorizations(self, found: &[(&str, Vec<String>)]) -> Self {
        let found: Vec<String> = found
            .iter()
            .map(|(place, headers)| format!("{place}: {}", schemes(headers)))
            .collect();
        assert_eq!(
            found.join("; "),
            self.authorizations,
            "row {} of docs/threat-model.md",
            self.number
        );
        self
    }
}

/// `Basic × 2, Bearer × 1`: the kinds of credentials, without their values.
fn schemes(headers: &[String]) -> String {
    let mut counted: Vec<(&str, usize)> = Vec::new();
    for header in headers {
        let scheme = header.split(' ').next().unwrap_or_default();
        match counted.iter_mut().find(|(known, _)| *known == scheme) {
            Some((_, count)) => *count += 1,
            None => counted.push((scheme, 1)),
        }
    }
    let told: Vec<String> = counted
        .iter()
        .map(|(scheme, count)| format!("{scheme} × {count}"))
        .collect();
    if told.is_empty() {
        "none".to_owned()
    } else {
        told.join(", ")
    }
}
