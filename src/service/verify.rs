//! Gives the verdict on a bundle. How its evidence is gathered is [`super::evidence`]'s to say,
//! what that is worth `core::verify`'s, and what follows from it `core::policy`'s.

use jiff::Timestamp;

use super::{
    contents::{self, Contents, ContentsError},
    evidence::{self, Wanted},
    room::Room,
    stage::Stage,
};
use crate::{
    core::{
        class::{Classified, Reason},
        digest::Digest,
        limits::Limits,
        pack::EmbeddedError,
        policy::{
            BundleLock, Decision, JudgedSubject, Name, Policy, Scope, Use, Verdict, evaluate, trust,
        },
        reference::Repository,
        verify::{Findings, Trust},
    },
    oci::{OciError, Resolved, Source},
};

/// How closely the stored evidence is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// What a verdict needs.
    #[default]
    Needed,
    /// Every blob of every referrer, the empty config too: for layouts and archives whose every
    /// byte is to be as its digest says.
    EveryBlob,
}

/// What is asked about a bundle.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The policies that may have a say.
    pub policies: &'a [Policy],
    /// How the reference was written.
    pub reference: &'a str,
    /// Its repository; `None` for a layout or archive.
    pub repository: Option<&'a Repository>,
    /// Did it carry a digest?
    pub had_digest: bool,
    /// What the bundle is used as.
    pub used_as: Use,
    /// Where it is used.
    pub namespace: Option<&'a str>,
    /// When.
    pub now: Timestamp,
    /// How closely the stored evidence is looked at.
    pub reading: Reading,
}

impl Question<'_> {
    /// Has any policy a say? If not, nothing need be fetched.
    pub fn is_governed(&self) -> bool {
        self.policies
            .iter()
            .any(|policy| policy.concerns(&self.scope()))
    }

    /// What is used, and how.
    pub fn scope(&self) -> Scope<'_> {
        Scope {
            name: self.repository.map_or(Name::Local, Name::Repository),
            used_as: self.used_as,
            namespace: self.namespace,
        }
    }
}

/// Why no verdict could be given. Whoever asked refuses.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Evidence could not be read.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// A policy compares with the lock, and what is judged is no bundle of ours.
    #[error(transparent)]
    Contents(#[from] ContentsError),
    /// So many questions need much memory or a thread that nobody else may wait for them.
    #[error("too many questions wait for their evidence to be judged; try again")]
    Overloaded,
    /// A thread ended early.
    #[error("internal: {0}")]
    Worker(String),
}

impl Classified for VerifyError {
    fn reason(&self) -> Reason {
        match self {
            Self::Oci(error) => error.reason(),
            Self::Contents(error) => error.reason(),
            Self::Overloaded => Reason::Overloaded,
            Self::Worker(_) => Reason::Internal,
        }
    }
}

/// A verdict, and all that led to it.
#[derive(Debug)]
pub struct Judgement {
    /// The answer.
    pub decision: Decision,
    /// What was found out about each piece of evidence.
    pub findings: Findings,
    /// What the bundle holds, if a policy asks.
    pub contents: Option<Contents>,
}

/// Gives the verdict on `root`.
pub async fn judge(
    source: &dyn Source,
    root: &Resolved,
    question: &Question<'_>,
    limits: &Limits,
) -> Result<Judgement, VerifyError> {
    let stage = Stage::default();
    judge_in(
        source,
        root,
        question,
        &mut Room::new(question, limits, &stage),
        limits,
    )
    .await
}

/// The same within the question's room.
pub(super) async fn judge_in(
    source: &dyn Source,
    root: &Resolved,
    question: &Question<'_>,
    within: &mut Room<'_>,
    limits: &Limits,
) -> Result<Judgement, VerifyError> {
    let digest = root.descriptor.digest;
    // Signed or not: what two readers could take for two things is not one thing to say yes to.
    root.document(limits)?;
    let governing: Vec<&Policy> = question
        .policies
        .iter()
        .filter(|policy| policy.concerns(&question.scope()))
        .collect();
    if governing.is_empty() {
        let findings = Findings::default();
        return Ok(Judgement {
            decision: decide(question, digest, &findings, None, question.now),
            findings,
            contents: None,
        });
    }
    let wanted = Wanted {
        reading: question.reading,
        tags: governing.iter().any(|policy| policy.reads_tags()),
    };
    // Only who has a say here is recognised: nothing is told of the others' keys, not even their
    // number.
    let trust = Trust {
        now: Some(question.now),
        ..trust(governing)
    };
    let findings = evidence::find(source, &root.descriptor, wanted, trust, within, limits).await?;
    let decision = decide(question, digest, &findings, None, question.now);
    // What is inside costs more than what is attached, so nothing unsigned is opened.
    let contents = if waits_for_the_lock(&decision) {
        lock_inside(source, root, limits).await?
    } else {
        None
    };
    let decision = if contents.is_some() {
        decide(question, digest, &findings, contents.as_ref(), question.now)
    } else {
        decision
    };
    Ok(Judgement {
        decision,
        findings,
        contents,
    })
}

/// The verdict at some time on what was found out. Nothing is gathered for it.
pub fn decide(
    question: &Question<'_>,
    digest: Digest,
    findings: &Findings,
    contents: Option<&Contents>,
    now: Timestamp,
) -> Decision {
    let subject = JudgedSubject {
        reference: question.reference,
        repository: question.repository,
        digest,
        had_digest: question.had_digest,
        used_as: question.used_as,
        namespace: question.namespace,
        lock: contents.map(|contents| BundleLock {
            lock: &contents.lock,
            digest: contents.plan.lock.digest,
        }),
    };
    evaluate(question.policies, &subject, findings, now)
}

/// The contents, with the lock, of what is a bundle of ours. What is none has no lock, which the
/// policy denies.
async fn lock_inside(
    source: &dyn Source,
    root: &Resolved,
    limits: &Limits,
) -> Result<Option<Contents>, ContentsError> {
    match contents::open(source, root, limits).await {
        Ok(contents) => Ok(Some(contents)),
        Err(ContentsError::Embedded(EmbeddedError::NotABundle)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Is there a policy for which the lock inside is all that is missing?
fn waits_for_the_lock(decision: &Decision) -> bool {
    decision
        .policies
        .iter()
        .any(|policy| match &policy.verdict {
            Verdict::Deny(denials) => denials
                .iter()
                .all(|denial| denial.reason == Reason::LockMismatch),
            Verdict::Admit(_) | Verdict::Exempt(_) => false,
        })
}
