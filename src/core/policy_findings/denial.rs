//! The reasons of a denial.

use crate::core::{
    policy_syntax::PolicyIdentity,
    reason::{Class, Reason},
};

/// The reasons of a denial; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denials {
    first: Denial,
    more: Vec<Denial>,
}

/// One reason for a denial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The stable reason code.
    pub reason: Reason,
    /// What is missing, and how to resolve it.
    pub message: String,
    /// The policy that denies; `None` if no single policy does.
    pub policy: Option<PolicyIdentity>,
    /// The authority that the denial is about.
    pub authority: Option<String>,
}

impl Denials {
    /// Denials with one reason.
    pub const fn from_denial(first: Denial) -> Self {
        Self {
            first,
            more: Vec::new(),
        }
    }

    /// All of these denials, if there are any.
    pub fn from_denials(denials: Vec<Denial>) -> Option<Self> {
        let mut denials = denials.into_iter();
        let first = denials.next()?;
        Some(Self {
            first,
            more: denials.collect(),
        })
    }

    /// The first denial.
    pub const fn first(&self) -> &Denial {
        &self.first
    }

    /// All denials, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Denial> {
        std::iter::once(&self.first).chain(&self.more)
    }
}

impl Denial {
    /// A denial by no policy in particular.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            policy: None,
            authority: None,
        }
    }

    /// The class of the failure, which says what may resolve it.
    pub const fn class(&self) -> Class {
        self.reason.class()
    }
}
