//! The verdict on one use of one reference, as every face gives it: the command line, the webhook,
//! and what a policy author tries out.
//!
//! Whatever goes wrong on the way is a denial by every policy that governs the use. There is no
//! outcome "unknown".

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::timeout;

use super::{
    contents::Contents,
    room::Room,
    stage::Stage,
    verify::{self, Judgement, Question, VerifyError},
};
use crate::{
    core::{
        class::{Classified, Reason},
        digest::Digest,
        limits::Limits,
        policy::{Decision, Denial, refuse},
        reference::Selector,
        verify::{Findings, shorten},
    },
    oci::{OciError, Source},
};

/// The answer, with what it stands on.
#[derive(Debug)]
pub struct Answer {
    /// What the reference was resolved to, if it was.
    pub digest: Option<Digest>,
    /// What the policies say.
    pub decision: Decision,
    /// What was found out about each piece of evidence.
    pub findings: Findings,
    /// What the bundle holds, if a policy asks.
    pub contents: Option<Contents>,
    /// Requests that it took.
    pub requests: u64,
}

impl Answer {
    /// What the policies say at another time, of what was found out for this answer.
    pub fn at(&self, question: &Question<'_>, digest: Digest, now: Timestamp) -> Decision {
        verify::decide(
            question,
            digest,
            &self.findings,
            self.contents.as_ref(),
            now,
        )
    }
}

/// Why evidence could not be had.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error("{0}")]
    Late(String),
}

impl Classified for Failure {
    fn reason(&self) -> Reason {
        match self {
            Self::Verify(error) => error.reason(),
            Self::Late(_) => Reason::DeadlineExceeded,
        }
    }
}

impl From<OciError> for Failure {
    fn from(error: OciError) -> Self {
        Self::Verify(error.into())
    }
}

/// Resolves `selector` in `source` once, and judges what it names, all within `deadline`. Nothing
/// is asked for what no policy governs.
pub async fn give(
    source: &Arc<dyn Source>,
    selector: &Selector,
    question: &Question<'_>,
    deadline: Option<Duration>,
    limits: &Limits,
) -> Answer {
    give_telling(
        source,
        selector,
        question,
        deadline,
        &Stage::default(),
        limits,
    )
    .await
}

/// The same, and tells meanwhile what the answer waits for.
pub async fn give_telling(
    source: &Arc<dyn Source>,
    selector: &Selector,
    question: &Question<'_>,
    deadline: Option<Duration>,
    stage: &Stage,
    limits: &Limits,
) -> Answer {
    let mut digest = match selector {
        Selector::Digest(digest) => Some(*digest),
        Selector::Tag(_) => None,
    };
    if !question.is_governed() {
        return Answer {
            digest,
            ..refused(
                question,
                &Denial::new(Reason::Ungoverned, "no policy governs it"),
            )
        };
    }
    let before = source.requests();
    let judging = Box::pin(judge(
        &**source,
        selector,
        question,
        stage,
        limits,
        &mut digest,
    ));
    let judged = match deadline {
        Some(limit) => timeout(limit, judging)
            .await
            .unwrap_or_else(|_| Err(Failure::Late(stage.late(&source.location(), limit)))),
        None => judging.await,
    };
    let answer = match judged {
        Ok(Judgement {
            decision,
            findings,
            contents,
        }) => Answer {
            digest,
            decision,
            findings,
            contents,
            requests: 0,
        },
        Err(error) => Answer {
            digest,
            ..refused(question, &denial(&error))
        },
    };
    Answer {
        requests: source.requests().saturating_sub(before),
        ..answer
    }
}

/// The answer when nothing could be asked: every policy that governs the use refuses, for this
/// reason.
pub fn refused(question: &Question<'_>, denial: &Denial) -> Answer {
    let decision = refuse(question.policies, &question.scope(), denial);
    Answer {
        digest: None,
        decision,
        findings: Findings::default(),
        contents: None,
        requests: 0,
    }
}

/// An error as the reason of a denial.
pub fn denial(error: &dyn Classified) -> Denial {
    Denial::new(error.reason(), shorten(&error.to_string()))
}

async fn judge(
    source: &dyn Source,
    selector: &Selector,
    question: &Question<'_>,
    stage: &Stage,
    limits: &Limits,
    digest: &mut Option<Digest>,
) -> Result<Judgement, Failure> {
    let mut room = Room::new(question, limits, stage);
    let resolved = room.resolve(source, selector).await?;
    *digest = Some(resolved.descriptor.digest);
    Ok(verify::judge_in(source, &resolved, question, &mut room, limits).await?)
}
