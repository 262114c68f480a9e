//! From an answer to the report about it, with the command that gives the same answer.

use std::time::Instant;

use super::{TransparencyArg, TrustArgs, UseArg};
use crate::{
    cli::context::Context,
    core::{
        class::Reason,
        digest::Digest,
        policy::{Decision, Outcome, Use},
        reference::Location,
        report::{Asked, Report, in_cluster, quote},
        verify::{Findings, Format},
    },
    service::{
        verdict::Answer,
        verify::{Judgement, VerifyError},
    },
};

/// A question that is being answered.
pub(super) struct Inquiry<'a> {
    pub(super) asked: Asked,
    begun: Instant,
    context: &'a Context,
    trust: &'a TrustArgs,
    reference: &'a Location,
    /// With the digest filled in, the command would no longer be refused for not having one.
    keeps_tag: bool,
    requests: Option<u64>,
}

impl<'a> Inquiry<'a> {
    pub(super) fn begin(
        trust: &'a TrustArgs,
        reference: &'a Location,
        context: &'a Context,
    ) -> Self {
        let asked = Asked {
            reference: reference.to_string(),
            used_as: trust.used_as.into(),
            unsafe_settings: context.unsafe_settings(),
            ..Asked::default()
        };
        Self {
            asked,
            begun: Instant::now(),
            context,
            trust,
            reference,
            keeps_tag: false,
            requests: None,
        }
    }

    fn complete(self) -> Asked {
        let reproduce = self.trust.reproduce(
            self.reference,
            self.asked.digest.filter(|_| !self.keeps_tag),
        );
        let elapsed_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        Asked {
            reproduce,
            elapsed_ms,
            registry_requests: self.requests.unwrap_or_else(|| self.context.requests()),
            ..self.asked
        }
    }

    pub(super) fn answer(mut self, answer: &Answer) -> Report {
        self.asked.digest = answer.digest;
        self.requests = Some(answer.requests);
        self.keeps_tag = answer.decision.denies_for(Reason::DigestRequired);
        Report::new(self.complete(), &answer.decision, &answer.findings)
    }

    pub(super) fn judged(self, judged: Result<Judgement, VerifyError>) -> Report {
        match judged {
            Ok(judgement) => Report::new(self.complete(), &judgement.decision, &judgement.findings),
            Err(error) => Report::failed(self.complete(), &error),
        }
    }

    pub(super) fn ungoverned(self) -> Report {
        let decision = Decision {
            outcome: Outcome::Ungoverned,
            policies: Vec::new(),
        };
        Report::new(self.complete(), &decision, &Findings::default())
    }
}

impl TrustArgs {
    /// The command that gives the same answer, once the digest is known.
    fn reproduce(&self, reference: &Location, digest: Option<Digest>) -> String {
        if self.cluster {
            let pinned = match (reference, digest) {
                (Location::Registry(named), Some(digest)) => {
                    named.repository.clone().pin(digest).to_string()
                }
                _ => reference.to_string(),
            };
            return in_cluster(
                &pinned,
                self.used_as.into(),
                self.namespace.as_deref().unwrap_or_default(),
            );
        }
        let pinned = digest.map_or_else(
            || reference.clone(),
            |digest| reference.clone().with_digest(digest),
        );
        let mut words = vec![
            "packgate".to_owned(),
            "verify".to_owned(),
            quote(&pinned.to_string()),
        ];
        let mut option = |name: &str, value: &str| words.extend([name.to_owned(), quote(value)]);
        self.keys
            .iter()
            .for_each(|path| option("--key", &path.to_string_lossy()));
        self.policies
            .iter()
            .for_each(|path| option("--policy", &path.to_string_lossy()));
        let paths = [
            ("--certificate-authority", &self.certificate_authority),
            (
                "--certificate-revocation-list",
                &self.certificate_revocation_list,
            ),
            ("--trusted-root", &self.root.trusted_root),
            ("--tuf-root", &self.root.tuf_root),
            ("--lock", &self.lock),
        ];
        let texts = [
            ("--certificate-identity", &self.certificate_identity),
            (
                "--certificate-identity-regexp",
                &self.certificate_identity_regexp,
            ),
            ("--certificate-oidc-issuer", &self.certificate_oidc_issuer),
            ("--tuf-url", &self.root.tuf_url),
            ("--builder-id", &self.builder_id),
            ("--namespace", &self.namespace),
        ];
        texts
            .iter()
            .filter_map(|(name, text)| Some((name, text.as_ref()?)))
            .for_each(|(name, text)| option(name, text));
        paths
            .iter()
            .filter_map(|(name, path)| Some((name, path.as_ref()?)))
            .for_each(|(name, path)| option(name, &path.to_string_lossy()));
        if self.transparency == TransparencyArg::Required {
            option("--transparency", "Required");
        }
        self.formats
            .iter()
            .for_each(|format| option("--signature-format", Format::from(*format).as_str()));
        if self.used_as != UseArg::PackedBundle {
            option("--use", Use::from(self.used_as).as_str());
        }
        words.join(" ")
    }
}
