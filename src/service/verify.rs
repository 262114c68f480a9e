//! Gathers the evidence about a digest, bounded in number and size, and has it judged. What it is worth is `core::verify`'s to say, and
//! what follows from that `core::policy`'s.

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::{
    beside,
    contents::{self, Contents, ContentsError},
};
use crate::{
    core::{
        class::{Classified, Reason},
        digest::Digest,
        limits::Limits,
        oci::{Descriptor, Document},
        pack::EmbeddedError,
        policy::{BundleLock, Decision, JudgedSubject, LockRule, Name, Policy, Scope, Use, evaluate, trust},
        reference::Repository,
        verify::{Candidate, Evidence, Findings, Rejected, Trust, bundle_layer, verify},
    },
    oci::{OciError, Resolved, Source, fetch, fetch_document, fetch_stored},
};

/// Referrers that are opened at once.
pub(super) const PARALLEL: usize = 8;

/// How closely the stored evidence is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// What a verdict needs.
    #[default]
    Needed,
    /// Every blob of every referrer, the empty config too: for layouts and archives whose every byte is to be as its digest says.
    EveryBlob,
}

enum Gathered {
    Candidate(Box<Candidate>),
    Unrelated,
    Unread(Rejected),
}

/// Where evidence is looked for, and how closely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// How closely it is looked at.
    pub reading: Reading,
    /// Under cosign's tags `.sig` and `.att` too. Nobody asks for them otherwise: each is a request.
    pub tags: bool,
}

/// Gathers the evidence about `subject`.
///
/// A referrer that is malformed is evidence against itself alone, and so is what lies under a tag. A registry that does not answer, refuses
/// or returns bytes that contradict their digest is an error: nobody can say then what was withheld.
pub async fn gather(source: &dyn Source, subject: &Descriptor, wanted: Wanted, limits: &Limits) -> Result<Evidence, OciError> {
    let Wanted { reading, tags } = wanted;
    let (referrers, mut beside) = if tags {
        futures::try_join!(source.referrers(subject, limits), beside::read(source, &subject.digest, limits))?
    } else {
        (source.referrers(subject, limits).await?, beside::Found::default())
    };
    let room = limits.referrers_opened.saturating_sub(referrers.len());
    let unopened = referrers.len().saturating_sub(limits.referrers_opened) + beside.truncate(room);
    let opens: Vec<_> =
        referrers.into_iter().take(limits.referrers_opened).map(|referrer| open(source, subject.digest, referrer, reading, limits)).collect();
    let all: Vec<Gathered> = stream::iter(opens).buffered(PARALLEL).try_collect().await?;
    let mut evidence = Evidence { unopened, unrelated: beside.unrelated, unread: std::mem::take(&mut beside.unread), ..Evidence::default() };
    for gathered in all {
        match gathered {
            Gathered::Candidate(candidate) => evidence.candidates.push(*candidate),
            Gathered::Unread(rejected) => evidence.unread.push(rejected),
            Gathered::Unrelated => evidence.unrelated += 1,
        }
    }
    let (legacy, unread) = beside.open(source, reading, limits).await?;
    evidence.unread.extend(unread);
    Ok(Evidence { legacy, ..evidence })
}

async fn open(source: &dyn Source, subject: Digest, referrer: Descriptor, reading: Reading, limits: &Limits) -> Result<Gathered, OciError> {
    let digest = referrer.digest;
    match read(source, subject, referrer, reading, limits).await {
        Ok(gathered) => Ok(gathered),
        Err(error) if is_its_own_fault(&error) => Ok(Gathered::Unread(Rejected::unread(digest, &error))),
        Err(error) => Err(error),
    }
}

/// Can whoever attached the referrer have caused this, and nobody else?
pub(super) const fn is_its_own_fault(error: &OciError) -> bool {
    matches!(error, OciError::NotFound { .. } | OciError::SizeMismatch { .. } | OciError::LimitExceeded { .. } | OciError::Manifest(_))
}

async fn read(source: &dyn Source, subject: Digest, referrer: Descriptor, reading: Reading, limits: &Limits) -> Result<Gathered, OciError> {
    if !referrer.is_document() {
        return Ok(Gathered::Unrelated);
    }
    let (_, manifest) = fetch_document(source, &referrer, limits).await?;
    if let (Reading::EveryBlob, Document::Manifest(inner)) = (reading, &manifest) {
        fetch_stored(source, &inner.config, limits.config_bytes).await?;
    }
    let layer = match bundle_layer(&manifest, &subject) {
        Ok(Some(layer)) => layer.clone(),
        Ok(None) => return Ok(Gathered::Unrelated),
        Err(error) => return Ok(Gathered::Unread(Rejected::new(referrer.digest, &error))),
    };
    let content = match reading {
        Reading::Needed => fetch(source, &layer, limits.sigstore_bundle_bytes).await?,
        Reading::EveryBlob => fetch_stored(source, &layer, limits.sigstore_bundle_bytes).await?,
    };
    Ok(Gathered::Candidate(Box::new(Candidate { referrer, manifest, content })))
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
        self.policies.iter().any(|policy| policy.concerns(&self.scope()))
    }

    /// What is used, and how.
    pub fn scope(&self) -> Scope<'_> {
        Scope { name: self.repository.map_or(Name::Local, Name::Repository), used_as: self.used_as, namespace: self.namespace }
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
}

impl Classified for VerifyError {
    fn reason(&self) -> Reason {
        match self {
            Self::Oci(error) => error.reason(),
            Self::Contents(error) => error.reason(),
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
pub async fn judge(source: &dyn Source, root: &Resolved, question: &Question<'_>, limits: &Limits) -> Result<Judgement, VerifyError> {
    let digest = root.descriptor.digest;
    let governing: Vec<&Policy> = question.policies.iter().filter(|policy| policy.concerns(&question.scope())).collect();
    let wanted = Wanted { reading: question.reading, tags: governing.iter().any(|policy| policy.reads_tags()) };
    let evidence = if governing.is_empty() { Evidence::default() } else { gather(source, &root.descriptor, wanted, limits).await? };
    let contents = if governing.iter().any(|policy| compares_lock(policy)) { lock_inside(source, root, limits).await? } else { None };
    // Only who has a say here is recognised: nothing is told of the others' keys, not even their number.
    let trust = Trust { now: Some(question.now), ..trust(governing) };
    let findings = verify(&digest, &evidence, &trust, limits);
    let decision = decide(question, digest, &findings, contents.as_ref(), question.now);
    Ok(Judgement { decision, findings, contents })
}

/// The verdict at some time on what was found out. Nothing is gathered for it.
pub fn decide(question: &Question<'_>, digest: Digest, findings: &Findings, contents: Option<&Contents>, now: Timestamp) -> Decision {
    let subject = JudgedSubject {
        reference: question.reference,
        repository: question.repository,
        digest,
        had_digest: question.had_digest,
        used_as: question.used_as,
        namespace: question.namespace,
        lock: contents.map(|contents| BundleLock { lock: &contents.lock, digest: contents.plan.lock.digest }),
    };
    evaluate(question.policies, &subject, findings, now)
}

/// The contents, with the lock, of what is a bundle of ours. What is none has no lock, which the policy denies.
async fn lock_inside(source: &dyn Source, root: &Resolved, limits: &Limits) -> Result<Option<Contents>, ContentsError> {
    match contents::open(source, root, limits).await {
        Ok(contents) => Ok(Some(contents)),
        Err(ContentsError::Embedded(EmbeddedError::NotABundle)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Does the policy look into the bundle, beyond its digest?
fn compares_lock(policy: &Policy) -> bool {
    let rules = policy.rules();
    rules.lock.is_some() || rules.slsa.as_ref().is_some_and(|slsa| slsa.lock == LockRule::Exact)
}
