//! The table of docs/threat-model.md, and attempts whose requests are counted.

#[path = "../../tools/threats.rs"]
mod table;

use kube::core::Status;
use packgate::core::reason::Reason;

pub(crate) use table::*;

use super::{Test, program::Run};

/// Attempts of one vector, in the order in which they were made.
pub(crate) struct Attempts<'a> {
    test: &'a Test,
    /// What each was refused for, or [`ADMITTED`], and how often the registry was asked. `None`
    /// where nobody counts.
    made: Vec<(String, Option<usize>)>,
}

impl<'a> Attempts<'a> {
    pub(crate) const fn new(test: &'a Test) -> Self {
        Self {
            test,
            made: Vec::new(),
        }
    }

    /// Makes one, which must end with this reason, or with [`ADMITTED`]. Whatever it asks for lies
    /// in this test's repositories.
    #[track_caller]
    pub(crate) fn make(&mut self, what: &str, reason: &str, attempt: impl FnOnce() -> String) {
        let log = self.test.requests();
        let found = attempt();
        assert_eq!(found, reason, "{what}");
        let asked = log.map(|log| {
            log.below(&format!("/v2/{}/", self.test.namespace.name))
                .len()
        });
        println!("{what}: {found}, {asked:?} requests");
        self.made.push((found, asked));
    }

    /// Holds all of them against their row.
    #[track_caller]
    pub(crate) fn are(self, number: usize) {
        let row = threat(number).reasons(self.made.iter().map(|(reason, _)| reason));
        let asked: Option<Vec<usize>> = self.made.iter().map(|(_, asked)| *asked).collect();
        if let Some(asked) = asked {
            row.requests(asked);
        }
    }
}

/// The reason of an answer of the API server.
#[track_caller]
pub(crate) fn answered<T: std::fmt::Debug>(answer: &Result<T, Box<Status>>) -> String {
    let Err(status) = answer else {
        return ADMITTED.to_owned();
    };
    let cause = status
        .details
        .as_ref()
        .and_then(|details| details.causes.first())
        .unwrap_or_else(|| panic!("no cause: {status:?}"));
    cause.reason.clone()
}

/// The reason in what `kubectl` says.
#[track_caller]
pub(crate) fn told(run: &Run) -> String {
    if run.code == 0 {
        return ADMITTED.to_owned();
    }
    let known = |word: &&str| Reason::ALL.iter().any(|reason| reason.as_str() == *word);
    run.stderr
        .split(": ")
        .find(known)
        .unwrap_or_else(|| panic!("no reason: {run}"))
        .to_owned()
}
