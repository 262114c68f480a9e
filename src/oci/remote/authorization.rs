//! Which credentials a session shows, and what it shows instead when they are refused.
//!
//! All credentials of a repository are tried in their order, as kubelet does, until the registry
//! takes one. A session remembers that one, for reading and for writing.

use std::collections::{HashMap, VecDeque};

use tokio::time::Instant;

use super::{
    challenge::AuthChallenge,
    registry_access::RegistryAccess,
    token::{basic_authorization, bearer_authorization},
};
use crate::{
    http::{Redacted, StatusCode},
    oci::{
        OciError,
        credentials::{FoundCredentials, RegistryCredentials},
    },
};

/// The number of credentials that are tried for one request.
pub(super) const MAX_TRIED_CREDENTIALS: usize = 16;
/// The number of secrets that are removed from a registry's messages: for each of the credentials
/// the secret, its encoded form and a token for reading and for writing.
const MAX_SCRUBBED_SECRETS: usize = 4 * MAX_TRIED_CREDENTIALS;

/// Bytes at the end of a message that are taken for the beginning of a secret.
const MIN_CUT_SECRET: usize = 4;

/// The value of `Authorization`, and what it was made from.
#[derive(Clone, Debug)]
pub(super) struct ShownAuthorization {
    pub(super) value: Redacted<String>,
    /// When a token ends.
    pub(super) ends_at: Option<Instant>,
    /// `None`: an anonymous token.
    pub(super) credentials: Option<FoundCredentials>,
}

impl ShownAuthorization {
    fn is_fresh(&self) -> bool {
        self.ends_at.is_none_or(|end| Instant::now() < end)
    }
}

/// What a session knows about one access.
#[derive(Default)]
struct AccessState {
    shown: Option<ShownAuthorization>,
    /// The credentials that the registry took.
    accepted: Option<FoundCredentials>,
    /// All credentials were refused once. They are not tried again for every request.
    exhausted: bool,
}

/// What a session knows about its registry.
#[derive(Default)]
pub(super) struct AuthorizationState {
    /// The registry's last challenge.
    pub(super) challenge: Option<AuthChallenge>,
    /// The token service in the challenge gets no credentials.
    pub(super) realm_refused: bool,
    accesses: HashMap<RegistryAccess, AccessState>,
    /// Where the credentials come from that were shown.
    tried: Vec<String>,
    /// Why other credentials could not be used.
    unusable: Vec<String>,
    secrets: Vec<Redacted<String>>,
}

impl AuthorizationState {
    /// What was shown last, unless it has ended.
    pub(super) fn fresh_authorization(
        &self,
        access: &RegistryAccess,
    ) -> Option<&ShownAuthorization> {
        let state = self.accesses.get(access)?;
        state.shown.as_ref().filter(|shown| shown.is_fresh())
    }

    /// Keeps an authorization for other requests, before the registry's answer to it is known: they
    /// would fetch tokens of their own meanwhile.
    pub(super) fn keep_authorization(&mut self, access: &RegistryAccess, new: &ShownAuthorization) {
        self.accesses.entry(access.clone()).or_default().shown = Some(new.clone());
    }

    /// The registry took these credentials.
    pub(super) fn accept_authorization(
        &mut self,
        access: &RegistryAccess,
        shown: &ShownAuthorization,
    ) {
        let state = self.accesses.entry(access.clone()).or_default();
        state.accepted.clone_from(&shown.credentials);
    }

    /// The registry refused everything. What it took before is shown again next time.
    pub(super) fn refuse_authorizations(&mut self, access: &RegistryAccess) {
        let state = self.accesses.entry(access.clone()).or_default();
        state.exhausted = true;
        let shown = state.shown.as_ref().and_then(|s| s.credentials.as_ref());
        if state.accepted.is_some() && state.accepted.as_ref() != shown {
            state.shown = None;
        }
    }

    /// True if trying other credentials has ended without success before.
    pub(super) fn is_exhausted(&self, access: &RegistryAccess) -> bool {
        self.accesses.get(access).is_some_and(|a| a.exhausted)
    }

    /// The credentials in the order in which they are tried: the one that was taken before in
    /// front. `None` is anonymous.
    pub(super) fn order_candidates(
        &self,
        access: &RegistryAccess,
        mut found: Vec<FoundCredentials>,
    ) -> VecDeque<Option<FoundCredentials>> {
        let state = self.accesses.get(access);
        let shown = state.and_then(|a| a.shown.as_ref()?.credentials.as_ref());
        if let Some(known) = state.and_then(|a| a.accepted.as_ref()).or(shown) {
            let same = found.iter().position(|one| one == known);
            // A renewed secret has the same source.
            let at = same.or_else(|| found.iter().position(|one| one.source == known.source));
            if let Some(at) = at {
                found[..=at].rotate_right(1);
            }
        }
        found.truncate(MAX_TRIED_CREDENTIALS);
        if found.is_empty() {
            VecDeque::from([None])
        } else {
            found.into_iter().map(Some).collect()
        }
    }

    pub(super) fn remember_tried(&mut self, credentials: Option<&FoundCredentials>) {
        if let Some(FoundCredentials { source, .. }) = credentials
            && !self.tried.contains(source)
        {
            self.tried.push(source.clone());
        }
    }

    pub(super) fn remember_unusable(&mut self, reasons: Vec<String>) {
        self.unusable = reasons;
    }

    pub(super) const fn has_tried(&self) -> bool {
        !self.tried.is_empty()
    }

    /// What was tried, for messages: never a secret.
    pub(super) fn describe_tried(&self, host: &str) -> String {
        let mut text = match self.tried.as_slice() {
            [] => format!("no credentials for {host} were found"),
            tried => format!("tried: {}", tried.join(", ")),
        };
        for reason in &self.unusable {
            text.push_str("; not tried: ");
            text.push_str(reason);
        }
        text
    }

    pub(super) fn remember_secret(&mut self, secret: &Redacted<String>) {
        if !secret.expose().is_empty() && !self.secrets.contains(secret) {
            self.secrets.truncate(MAX_SCRUBBED_SECRETS - 1);
            self.secrets.insert(0, secret.clone());
        }
    }

    pub(super) fn remember_secrets_of(&mut self, credentials: &RegistryCredentials) {
        match credentials {
            RegistryCredentials::Password { username, password } => {
                self.remember_secret(password);
                let shown = basic_authorization(username, password);
                let encoded = shown.expose().trim_start_matches("Basic ");
                self.remember_secret(&encoded.to_owned().into());
            }
            RegistryCredentials::IdentityToken(token)
            | RegistryCredentials::RegistryToken(token) => self.remember_secret(token),
        }
    }

    /// A registry could return our secrets in its message. The message may have been cut in the
    /// middle of one.
    pub(super) fn scrub_secrets(&self, words: String) -> String {
        self.secrets.iter().fold(words, |words, secret| {
            let mut words = words.replace(secret.expose().as_str(), "***");
            let kept = words.trim_end_matches('…');
            if let Some(start) = cut_secret_start(kept, secret.expose()) {
                words.truncate(start);
                words.push_str("***");
            }
            words
        })
    }
}

/// Where the end of `words` is the beginning of a secret.
fn cut_secret_start(words: &str, secret: &str) -> Option<usize> {
    secret
        .char_indices()
        .map(|(at, _)| at)
        .rfind(|length| *length >= MIN_CUT_SECRET && words.ends_with(&secret[..*length]))
        .map(|length| words.len() - length)
}

/// The attempts of one request.
#[derive(Default)]
pub(super) struct AuthorizationAttempts {
    /// The credentials that are left; `None` before they were looked up.
    pub(super) candidates: Option<VecDeque<Option<FoundCredentials>>>,
    /// What the registry refused.
    pub(super) refused: Vec<ShownAuthorization>,
    /// The token service's refusal of the last credentials.
    pub(super) token_refusal: Option<OciError>,
    /// The credentials that were tried, at the registry or at its token service.
    pub(super) tried: Vec<RegistryCredentials>,
    /// New credentials were asked for.
    pub(super) renewed: bool,
}

impl AuthorizationAttempts {
    pub(super) fn was_refused(&self, value: &Redacted<String>) -> bool {
        self.refused.iter().any(|shown| shown.value == *value)
    }

    /// Leaves out the credentials of what was refused, when new ones would be refused too: after
    /// 403, and after 401 for what is not a token with an end.
    pub(super) fn drop_refused_candidates(&mut self, status: StatusCode) {
        let refused: Vec<_> = self
            .refused
            .iter()
            .filter(|shown| status == StatusCode::FORBIDDEN || shown.ends_at.is_none())
            .map(|shown| shown.credentials.clone())
            .collect();
        if let Some(left) = &mut self.candidates {
            left.retain(|candidate| !refused.contains(candidate));
        }
    }
}

/// What needs no token service: a password where the registry asks for one, and a registry's token
/// in any case. `Ok(None)`: a token service has to be asked.
pub(super) fn direct_authorization(
    challenge: &AuthChallenge,
    credentials: Option<&RegistryCredentials>,
) -> Result<Option<Redacted<String>>, &'static str> {
    match (challenge, credentials) {
        (_, Some(RegistryCredentials::RegistryToken(token))) => {
            Ok(Some(bearer_authorization(token)))
        }
        (AuthChallenge::Basic, Some(RegistryCredentials::Password { username, password })) => {
            Ok(Some(basic_authorization(username, password)))
        }
        (AuthChallenge::Basic, Some(RegistryCredentials::IdentityToken(_))) => {
            Err("it asks for a password, but the credential is an identity token; log in again")
        }
        (AuthChallenge::Basic, None) => Err("it asks for a user name and a password"),
        (AuthChallenge::Bearer { .. }, _) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_removed_from_messages_whole_and_cut() {
        let mut state = AuthorizationState::default();
        state.remember_secrets_of(&RegistryCredentials::Password {
            username: "alice".into(),
            password: "hunter2-Secret".to_owned().into(),
        });
        for (words, scrubbed) in [
            ("you sent hunter2-Secret!", "you sent ***!"),
            ("you sent hunter2-Sec…", "you sent ***"),
            ("you sent hunt", "you sent ***"),
            ("you sent hun", "you sent hun"),
            ("denied", "denied"),
        ] {
            assert_eq!(state.scrub_secrets(words.into()), scrubbed, "{words}");
        }
    }

    #[test]
    fn what_was_taken_before_is_tried_first() {
        let found = |source: &str, password: &str| FoundCredentials {
            credentials: RegistryCredentials::Password {
                username: "alice".into(),
                password: password.to_owned().into(),
            },
            source: source.into(),
        };
        let mut state = AuthorizationState::default();
        let access = RegistryAccess::Pull;
        let sources = |state: &AuthorizationState| {
            let all = vec![found("a", "1"), found("b", "2"), found("c", "3")];
            let ordered = state.order_candidates(&RegistryAccess::Pull, all);
            let sources = ordered.into_iter().map(|c| c.expect("some").source);
            sources.collect::<Vec<_>>()
        };
        assert_eq!(sources(&state), ["a", "b", "c"]);
        for (taken, order) in [
            (found("c", "3"), ["c", "a", "b"]),
            (found("b", "renewed"), ["b", "a", "c"]),
            (found("gone", "4"), ["a", "b", "c"]),
        ] {
            state.accept_authorization(
                &access,
                &ShownAuthorization {
                    value: String::new().into(),
                    ends_at: None,
                    credentials: Some(taken),
                },
            );
            assert_eq!(sources(&state), order);
        }
        assert_eq!(
            state.order_candidates(&access, Vec::new()),
            [None],
            "anonymous"
        );
    }
}
