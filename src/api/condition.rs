//! The conditions of every kind: the meaning, polarity and presence of each.
//!
//! `Ready`, `Reconciling` and `Stalled` are kstatus' (kubernetes-sigs/cli-utils); `kubectl wait
//! --for=condition=Ready` works. A reason is one of [`crate::core::reason::Reason`], or one of the
//! constants here.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// `True`: the newest generation is done and was verified. Always present.
pub const READY: &str = "Ready";
/// `True`: work is in progress, or waits for its next attempt. Present only while true.
pub const RECONCILING: &str = "Reconciling";
/// `True`: nothing will change until a user changes something. Present only while true.
pub const STALLED: &str = "Stalled";
/// `True`: signatures and provenance were verified with the registry. `False`: they are not valid.
/// Absent: not known yet.
pub const VERIFIED: &str = "Verified";
/// `True`: every webhook replica has loaded this generation of the policy.
pub const ENFORCED: &str = "Enforced";

/// Reason: success.
pub const SUCCEEDED: &str = "Succeeded";
/// Reason: in progress, or it waits for a component that is not running yet.
pub const PENDING: &str = "Pending";
/// Reason: the pack Job is running.
pub const PACKING: &str = "Packing";
/// Reason: the sign Job is running.
pub const SIGNING: &str = "Signing";
/// Reason: `spec.suspend` is set.
pub const SUSPENDED: &str = "Suspended";
/// Reason: packed and checked, and not signed, as the installation allows.
pub const UNSIGNED: &str = "Unsigned";

/// Characters of a message that are kept. The API server allows 32,768.
pub const MAX_MESSAGE: usize = 1_024;

/// A condition to be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredCondition {
    /// One of the constants above.
    pub type_: &'static str,
    /// The condition's status: true or false.
    pub status: bool,
    /// The reason, in CamelCase.
    pub reason: String,
    /// The message for users.
    pub message: String,
}

/// The new list of conditions, with the transition times of unchanged ones. Conditions that are not
/// desired are removed.
pub fn merge_conditions(
    old: &[Condition],
    wanted: &[DesiredCondition],
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    wanted
        .iter()
        .map(|wanted| {
            merge_condition(
                old.iter().find(|old| old.type_ == wanted.type_),
                wanted,
                generation,
                now,
            )
        })
        .collect()
}

fn merge_condition(
    old: Option<&Condition>,
    wanted: &DesiredCondition,
    generation: i64,
    now: Timestamp,
) -> Condition {
    let status = if wanted.status { "True" } else { "False" };
    let since = old
        .filter(|old| old.status == status)
        .map_or(Time(now), |old| old.last_transition_time.clone());
    Condition {
        type_: wanted.type_.to_owned(),
        status: status.to_owned(),
        reason: wanted.reason.clone(),
        message: wanted.message.chars().take(MAX_MESSAGE).collect(),
        observed_generation: Some(generation),
        last_transition_time: since,
    }
}

/// True if the condition exists and is true.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    conditions
        .iter()
        .any(|condition| condition.type_ == type_ && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(status: bool) -> DesiredCondition {
        DesiredCondition {
            type_: READY,
            status,
            reason: SUCCEEDED.into(),
            message: "done".into(),
        }
    }

    #[test]
    fn the_time_moves_only_with_the_status() {
        let (then, now): (Timestamp, Timestamp) = (
            "2026-11-21T10:00:00Z".parse().expect("a time"),
            "2026-11-21T11:00:00Z".parse().expect("a time"),
        );
        let first = merge_conditions(&[], &[wanted(false)], 1, then);
        let same = merge_conditions(&first, &[wanted(false)], 2, now);
        assert_eq!(
            (same[0].last_transition_time.0, same[0].observed_generation),
            (then, Some(2))
        );
        let turned = merge_conditions(&same, &[wanted(true)], 2, now);
        assert_eq!(turned[0].last_transition_time.0, now);
        assert!(is_true(&turned, READY) && !is_true(&same, READY) && !is_true(&turned, STALLED));
        assert_eq!(merge_conditions(&turned, &[], 2, now), []);
    }
}
