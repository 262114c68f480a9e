//! The credentials that a session tries for one request: looked up, tried in turn, and renewed once.

use std::collections::VecDeque;

use super::{
    authorization::{AuthorizationAttempts, AuthorizationState, ShownAuthorization},
    challenge::AuthChallenge,
    registry_access::RegistryAccess,
    session::RegistrySession,
};
use crate::{
    core::reason::ClassifiedError,
    http::StatusCode,
    oci::{OciError, credentials::CredentialLookup},
};

impl RegistrySession {
    /// The authorization with the next of the candidates that has one.
    pub(super) async fn try_candidates(
        &self,
        state: &mut AuthorizationState,
        access: &RegistryAccess,
        attempts: &mut AuthorizationAttempts,
        challenge: &AuthChallenge,
    ) -> Result<Option<ShownAuthorization>, OciError> {
        while let Some(candidate) = attempts.candidates.as_mut().and_then(VecDeque::pop_front) {
            let credentials = candidate.as_ref().map(|found| found.credentials.clone());
            attempts.tried.extend(credentials);
            match self.authorize(state, access, challenge, candidate).await {
                Ok(Some(shown)) if !attempts.was_refused(&shown.value) => {
                    attempts.token_refusal = None;
                    state.keep_authorization(access, &shown);
                    return Ok(Some(shown));
                }
                Ok(_) => {}
                Err(refusal @ OciError::Denied { .. }) => attempts.token_refusal = Some(refusal),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Credentials may have been withdrawn before their end: once, a store may give others. False
    /// if there are none.
    pub(super) async fn renew_candidates(
        &self,
        state: &mut AuthorizationState,
        access: &RegistryAccess,
        attempts: &mut AuthorizationAttempts,
    ) -> bool {
        if attempts.renewed || state.is_exhausted(access) {
            return false;
        }
        attempts.renewed = true;
        let shown = attempts.refused.iter();
        let shown = shown.filter_map(|shown| Some(&shown.credentials.as_ref()?.credentials));
        let mut refused = Vec::new();
        for credentials in shown.chain(&attempts.tried) {
            if !refused.contains(credentials) {
                refused.push(credentials.clone());
            }
        }
        if refused.is_empty() {
            return false;
        }
        let CredentialLookup { found, failures } = self
            .credentials
            .renew_credentials(self.endpoint.repository(), &refused)
            .await;
        if !failures.is_empty() {
            state.remember_unusable(failures.iter().map(ToString::to_string).collect());
        }
        let has_more = !found.is_empty();
        attempts.candidates = Some(found.into_iter().map(Some).collect());
        has_more
    }

    pub(super) async fn look_up_candidates(
        &self,
        state: &mut AuthorizationState,
        access: &RegistryAccess,
        attempts: &mut AuthorizationAttempts,
        status: Option<StatusCode>,
    ) -> Result<(), OciError> {
        let exhausted = state.is_exhausted(access);
        if exhausted && status == Some(StatusCode::FORBIDDEN) {
            attempts.candidates = Some(VecDeque::new());
            return Ok(());
        }
        let CredentialLookup { found, failures } = self
            .credentials
            .credentials_for_repository(self.endpoint.repository())
            .await;
        let reason = failures.first().map(ClassifiedError::reason);
        let failures: Vec<String> = failures.iter().map(ToString::to_string).collect();
        if let Some(reason) = reason
            && found.is_empty()
        {
            let message = failures.join("; ");
            return Err(OciError::Credentials { message, reason });
        }
        state.remember_unusable(failures);
        let mut candidates = state.order_candidates(access, found);
        if exhausted {
            candidates.truncate(1);
        }
        attempts.candidates = Some(candidates);
        if let Some(status) = status {
            attempts.drop_refused_candidates(status);
        }
        Ok(())
    }
}
