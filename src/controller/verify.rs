//! Has bundles read back from the registry and judged by the one verifier. Only what is found here
//! reaches the status.

use std::time::Duration;

use super::{context::Context, platform_key, policies, sigstore, trouble::Trouble};
use crate::{
    api::{
        installation::NoMatchAction,
        packed_bundle::{Adoption, EvidenceStatus, Packing, TenantIdentity, TenantSigner, ToSign},
    },
    core::{
        class::Reason,
        digest::Digest,
        intoto::COSIGN_SIGN,
        job::Failure,
        limits::Limits,
        policy::{
            AdHoc, Admitted, Authority, ClaimsRule, Decision, Denials, Means, Mode, NameMatch,
            Policy, PolicyIdentity, Verdict,
        },
        reference::{PinnedReference, Tag},
        sbom::Sbom,
        verify::{Signer, VerificationKey},
    },
    service::{
        standing::{Asked, Size, Standing, look},
        verify::Judgement,
    },
};

/// How long the verdict on one bundle may take. Nobody waits at the API server for it, and one
/// bundle is not to hold up the others.
const DEADLINE: Duration = Duration::from_mins(1);

/// A bundle that stands as it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Good {
    /// Its name.
    pub reference: PinnedReference,
    /// Its tag.
    pub tag: Option<Tag>,
    /// What it consists of, if packgate packed it.
    pub size: Option<Size>,
    /// What it was admitted on.
    pub evidence: Vec<EvidenceStatus>,
    /// What policies say against it that only warn or audit.
    pub warnings: Vec<Failure>,
    /// Why nobody's signature stands behind it, if that is so.
    pub unsigned: Option<Unsigned>,
}

/// Why nobody's signature stands behind a bundle that is good all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unsigned {
    /// The installation lets bundles be packed without.
    ByLeave,
    /// A policy exempts it.
    Exempt(PolicyIdentity),
    /// Policies govern it, and none of them enforces.
    NotEnforced,
    /// No policy governs it.
    Ungoverned,
}

impl Good {
    /// What was found out about it, in words: no more than is true.
    pub(super) fn words(&self) -> String {
        let reference = &self.reference;
        match &self.unsigned {
            Some(Unsigned::ByLeave) => {
                "packed and compared with the lock; by the installation's leave nobody signed it"
                    .to_owned()
            }
            Some(Unsigned::Exempt(policy)) => format!(
                "{reference} is there, and {policy} exempts it; nothing else was asked of it"
            ),
            Some(Unsigned::NotEnforced) => format!(
                "{reference} is there, and no policy that governs it enforces; it is not verified"
            ),
            Some(Unsigned::Ungoverned) => {
                format!("{reference} is there, and no policy governs it; it is not verified")
            }
            None => format!("{reference} is {}", self.proved()),
        }
    }

    fn proved(&self) -> &'static str {
        let has = |signature: bool| {
            self.evidence
                .iter()
                .any(|evidence| (evidence.predicate_type == COSIGN_SIGN) == signature)
        };
        match (has(true), has(false)) {
            (true, true) => "signed, attested and verified",
            (true, false) => "signed and verified",
            (false, true) => "attested and verified",
            (false, false) => "verified",
        }
    }
}

impl Unsigned {
    /// Its name.
    pub(super) const fn reason(&self) -> Reason {
        match self {
            Self::Exempt(_) => Reason::Exempt,
            Self::Ungoverned => Reason::Ungoverned,
            Self::ByLeave | Self::NotEnforced => Reason::NoSignatures,
        }
    }
}

/// Verifies what a run packed: by the installation's or the tenant's signer and builder, against
/// the frozen lock, and by every policy that governs it.
pub(super) async fn packed(
    namespace: &str,
    packing: &Packing,
    lock: Digest,
    digest: Digest,
    tag: Option<Tag>,
    context: &Context,
) -> Result<Good, Trouble> {
    let reference = packing.repository.clone().pin(digest);
    let docker_config = match &packing.push_secret {
        Some(name) => Some(
            context
                .secrets
                .docker_config(namespace, name, "spec.destination.secretRef")
                .await?,
        ),
        None => None,
    };
    let own = own_policy(namespace, packing, lock, context).await?;
    let is_signed = own.is_some();
    let signer = own
        .as_ref()
        .and_then(|own| own.rules().authorities.first())
        .cloned();
    let mut policies = policies::load(namespace, context).await?;
    policies.extend(own);
    let standing = stand(
        &reference,
        tag.as_ref(),
        docker_config.as_deref(),
        namespace,
        &policies,
        context,
    )
    .await?;
    let Answer {
        evidence, warnings, ..
    } = match answer(&standing.judgement.decision, signer.as_ref())? {
        Some(answer) => answer,
        None if is_signed => {
            return Err(Trouble::new(
                Reason::Internal,
                "a policy of our own did not govern",
            ));
        }
        None => Answer::default(),
    };
    if standing.size.is_none_or(|size| size.lock != lock) {
        return Err(Trouble::new(
            Reason::LockMismatch,
            format!("{reference} was not packed from the frozen lock {lock}"),
        ));
    }
    let evidence = with_sbom(evidence, packing, &standing.judgement, signer.as_ref())?;
    Ok(Good {
        reference,
        tag,
        size: standing.size,
        evidence,
        warnings,
        unsigned: (!is_signed).then_some(Unsigned::ByLeave),
    })
}

/// The evidence with the software bill of materials that was asked for: the very document that the
/// lock in the bundle gives, attested by the same signer. That one lies in the registry which says
/// something else is no evidence.
fn with_sbom(
    mut evidence: Vec<EvidenceStatus>,
    packing: &Packing,
    judgement: &Judgement,
    own: Option<&Authority>,
) -> Result<Vec<EvidenceStatus>, Trouble> {
    let (Some(format), Some(own), Some(contents)) = (packing.sbom, own, &judgement.contents) else {
        return Ok(evidence);
    };
    let sbom = Sbom::new(format, &contents.lock, packing.output.source_date_epoch)
        .map_err(|error| Trouble::of(&error))?;
    let found = judgement
        .findings
        .verified
        .iter()
        .find(|verified| own.recognises(verified) && sbom.is_told_by(verified.claim()));
    let missing = || {
        format!(
            "its {} document is not attested by {}, or not as its lock gives it",
            format.as_str(),
            own.name
        )
    };
    let found = found.ok_or_else(|| Trouble::new(Reason::PredicateTypeMismatch, missing()))?;
    let known = EvidenceStatus {
        predicate_type: found.claim().predicate_type.clone(),
        digest: found.referrer().to_string(),
        signer: own.name.clone(),
    };
    if !evidence.contains(&known) {
        evidence.push(known);
    }
    Ok(evidence)
}

/// Verifies a bundle that is there already, by every policy that governs it.
pub(super) async fn adopted(
    namespace: &str,
    adoption: &Adoption,
    context: &Context,
) -> Result<Good, Trouble> {
    let docker_config = match &adoption.secret {
        Some(name) => Some(
            context
                .secrets
                .docker_config(namespace, name, "spec.source.bundle.secretRef")
                .await?,
        ),
        None => None,
    };
    let policies = policies::load(namespace, context).await?;
    let standing = stand(
        &adoption.reference,
        None,
        docker_config.as_deref(),
        namespace,
        &policies,
        context,
    )
    .await?;
    let (
        Answer {
            evidence,
            warnings,
            exempted,
        },
        otherwise,
    ) = match answer(&standing.judgement.decision, None)? {
        Some(answer) => (answer, Unsigned::NotEnforced),
        None if context.installation.no_match.packed_bundle == NoMatchAction::Deny => {
            return Err(ungoverned(&adoption.reference));
        }
        None => (Answer::default(), Unsigned::Ungoverned),
    };
    let unsigned = evidence
        .is_empty()
        .then(|| exempted.map_or(otherwise, Unsigned::Exempt));
    Ok(Good {
        reference: adoption.reference.clone(),
        tag: None,
        size: standing.size,
        evidence,
        warnings,
        unsigned,
    })
}

/// Verifies a context artifact. One that no policy governs is refused.
pub(super) async fn context_artifact(
    namespace: &str,
    reference: &PinnedReference,
    docker_config: Option<&[u8]>,
    context: &Context,
) -> Result<(), Trouble> {
    let policies = policies::load(namespace, context).await?;
    let standing = stand(
        reference,
        None,
        docker_config,
        namespace,
        &policies,
        context,
    )
    .await?;
    match answer(&standing.judgement.decision, None)? {
        Some(_) => Ok(()),
        None => Err(ungoverned(reference)),
    }
}

async fn stand(
    reference: &PinnedReference,
    tag: Option<&Tag>,
    docker_config: Option<&[u8]>,
    namespace: &str,
    policies: &[Policy],
    context: &Context,
) -> Result<Standing, Trouble> {
    let asked = Asked {
        reference,
        tag,
        policies,
        namespace,
        now: context.clock.now(),
    };
    let looking = look(
        &*context.registries,
        docker_config,
        &asked,
        &Limits::DEFAULT,
    );
    if let Ok(standing) = tokio::time::timeout(DEADLINE, Box::pin(looking)).await {
        standing.map_err(|error| Trouble::of(&error))
    } else {
        let message = format!(
            "no verdict within {} s: {} answers too slowly, or too much is attached to it",
            DEADLINE.as_secs(),
            reference.repository()
        );
        Err(Trouble::new(Reason::DeadlineExceeded, message))
    }
}

fn ungoverned(reference: &PinnedReference) -> Trouble {
    Trouble::new(
        Reason::Ungoverned,
        format!(
            "no policy with the use PackedBundle governs {}, so nobody says whom to trust; write a \
                ClusterBundlePolicy or BundlePolicy",
            reference.repository()
        ),
    )
}

/// What is asked of every bundle that this installation packs. `None` where nobody signs.
async fn own_policy(
    namespace: &str,
    packing: &Packing,
    lock: Digest,
    context: &Context,
) -> Result<Option<Policy>, Trouble> {
    let (name, means, builder_id) = match &packing.signing {
        ToSign::Nobody => return Ok(None),
        ToSign::Platform => {
            let key = key(&platform_key::public_key(context).await?)?;
            (
                "platform",
                Means::Key { key, root: None },
                context.installation.platform_builder(&context.cluster),
            )
        }
        ToSign::Namespace(signer) => (
            "namespace",
            tenant(namespace, signer, context).await?,
            context
                .installation
                .namespace_builder(&context.cluster, namespace),
        ),
    };
    let authorities = vec![Authority {
        name: name.to_owned(),
        means,
    }];
    let wish = AdHoc {
        authorities,
        builder_id: Some(builder_id),
        lock: Some(lock),
        ..AdHoc::default()
    };
    Policy::ad_hoc(wish)
        .map(Some)
        .map_err(|error| Trouble::of(&error))
}

/// What the tenant's signatures are recognised by.
async fn tenant(
    namespace: &str,
    signer: &TenantSigner,
    context: &Context,
) -> Result<Means, Trouble> {
    let root = match &signer.services {
        Some(name) => Some(sigstore::trust_root(namespace, name, context).await?),
        None => None,
    };
    match (&signer.identity, root) {
        (TenantIdentity::Key(secret), root) => {
            let pem = context
                .secrets
                .text(
                    namespace,
                    secret,
                    "spec.signing.keySecretRef",
                    platform_key::PUBLIC,
                )
                .await?;
            Ok(Means::Key {
                key: key(&pem)?,
                root,
            })
        }
        (TenantIdentity::ServiceAccount, Some(root)) => {
            let subject = NameMatch::Exact(TenantSigner::account_name(namespace));
            Ok(Means::Keyless {
                subject,
                issuer: sigstore::issuer(context).await?,
                claims: ClaimsRule::default(),
                root,
            })
        }
        (TenantIdentity::ServiceAccount, None) => Err(Trouble::new(
            Reason::NoSigner,
            "spec.signing.signingConfigRef is needed by keyless",
        )),
    }
}

fn key(pem: &str) -> Result<VerificationKey, Trouble> {
    VerificationKey::from_pem(pem)
        .map_err(|error| Trouble::new(Reason::NoSigner, error.to_string()))
}

/// What all policies together come to, after modes.
#[derive(Debug, Default)]
struct Answer {
    /// What it was admitted on.
    evidence: Vec<EvidenceStatus>,
    /// What policies say against it that do not enforce.
    warnings: Vec<Failure>,
    /// The first policy that exempts it.
    exempted: Option<PolicyIdentity>,
}

/// The answer of the policies that govern: one denial of a policy that enforces refuses. `None` if
/// none governs.
fn answer(decision: &Decision, own: Option<&Authority>) -> Result<Option<Answer>, Trouble> {
    let mut answer = Answer::default();
    for policy in &decision.policies {
        match &policy.verdict {
            Verdict::Admit(admitted) => statements(admitted, own).for_each(|found| {
                if !answer.evidence.contains(&found) {
                    answer.evidence.push(found);
                }
            }),
            Verdict::Exempt(by) => {
                answer.exempted = answer.exempted.or_else(|| Some(by.policy.clone()))
            }
            Verdict::Deny(denials) if policy.mode == Mode::Enforce => {
                return Err(Trouble::Told(denied(&policy.identity, denials)));
            }
            Verdict::Deny(denials) => answer.warnings.push(denied(&policy.identity, denials)),
        }
    }
    Ok((!decision.policies.is_empty()).then_some(answer))
}

fn denied(policy: &PolicyIdentity, denials: &Denials) -> Failure {
    let (first, more) = (denials.first(), denials.iter().count() - 1);
    let more = if more > 0 {
        format!(" (and {more} more)")
    } else {
        String::new()
    };
    Failure::new(first.reason, &format!("{policy}: {}{more}", first.message))
}

fn statements<'a>(
    admitted: &'a Admitted,
    own: Option<&'a Authority>,
) -> impl Iterator<Item = EvidenceStatus> + 'a {
    let name = move |signer: &Signer| {
        own.filter(|own| own.may_be(signer))
            .map_or_else(|| signer.to_string(), |own| own.name.clone())
    };
    admitted
        .statements()
        .iter()
        .map(move |statement| EvidenceStatus {
            predicate_type: statement.claim().predicate_type.clone(),
            digest: statement.referrer().to_string(),
            signer: name(statement.signer()),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::policy::{Denial, Outcome, PolicyVerdict};

    fn decision(verdicts: Vec<(Mode, Verdict)>) -> Decision {
        let policy = |(mode, verdict)| PolicyVerdict {
            identity: PolicyIdentity {
                kind: crate::core::policy::Kind::Cluster,
                name: "p".into(),
            },
            generation: 1,
            mode,
            verdict,
            authorities: Vec::new(),
            slsa: None,
            unsafe_settings: Vec::new(),
        };
        Decision {
            outcome: Outcome::Ungoverned,
            policies: verdicts.into_iter().map(policy).collect(),
        }
    }

    fn denial() -> Verdict {
        Verdict::Deny(Denials::one(Denial::new(
            Reason::NoSignatures,
            "nobody signed it",
        )))
    }

    #[test]
    fn only_a_policy_that_enforces_refuses() {
        assert!(
            answer(&decision(Vec::new()), None)
                .expect("no denial")
                .is_none(),
            "nothing governs"
        );
        let warned = answer(
            &decision(vec![(Mode::Warn, denial()), (Mode::Audit, denial())]),
            None,
        )
        .expect("no denial")
        .expect("governed");
        assert_eq!(warned.warnings.len(), 2);
        for verdicts in [
            vec![(Mode::Enforce, denial())],
            vec![(Mode::Warn, denial()), (Mode::Enforce, denial())],
        ] {
            let refused = answer(&decision(verdicts), None).expect_err("a denial");
            assert!(
                matches!(
                    refused,
                    Trouble::Told(Failure {
                        reason: Reason::NoSignatures,
                        ..
                    })
                ),
                "{refused}"
            );
        }
    }
}
