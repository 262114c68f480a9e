//! A session with a registry: challenges, tokens, and the meaning of responses.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use tokio::{sync::Mutex, time::Instant};

use super::{
    authorization::{
        AuthorizationAttempts, AuthorizationState, ShownAuthorization, direct_authorization,
    },
    challenge::{self, AuthChallenge},
    endpoint::RepositoryEndpoint,
    registry_access::RegistryAccess,
    registry_error::{self, MAX_ERROR_BODY_BYTES},
    token::{self, MAX_TOKEN_RESPONSE_BYTES, RegistryTokenService, bearer_authorization},
};
use crate::{
    http::{
        ErrorAdvice, HttpClient, HttpError, HttpRequest, HttpResponse, HttpResponseHead, Redacted,
        StatusCode, header, redact::redact_url,
    },
    oci::{
        OciError,
        credentials::{CredentialLookup, CredentialStore, FoundCredentials},
    },
};

/// One session. Clones share it.
#[derive(Clone)]
pub(super) struct RegistrySession {
    pub(super) endpoint: Arc<RepositoryEndpoint>,
    http: HttpClient,
    credentials: Arc<dyn CredentialStore>,
    state: Arc<Mutex<AuthorizationState>>,
}

impl RegistrySession {
    pub(super) fn new(
        endpoint: RepositoryEndpoint,
        http: HttpClient,
        credentials: Arc<dyn CredentialStore>,
    ) -> Self {
        Self {
            endpoint: Arc::new(endpoint),
            http,
            credentials,
            state: Arc::default(),
        }
    }

    pub(super) fn location(&self) -> String {
        self.endpoint.repository().to_string()
    }

    pub(super) fn request_count(&self) -> u64 {
        self.http.request_count()
    }

    /// Sends a request, with each of the credentials until the registry takes one. They are sent
    /// only if the URL is of the registry's own origin.
    pub(super) async fn send_request(
        &self,
        access: &RegistryAccess,
        request: HttpRequest,
    ) -> Result<HttpResponse, OciError> {
        if !self.endpoint.is_same_origin(request.url()) {
            return self.send_with(request, None).await;
        }
        let again = request.try_clone();
        let mut attempts = AuthorizationAttempts::default();
        let mut shown = self.next_authorization(access, &mut attempts, None).await?;
        let mut answer = self.send_with(request, shown.as_ref()).await?;
        while self.is_refused(&answer) {
            let Some(request) = again.as_ref().and_then(HttpRequest::try_clone) else {
                return Ok(answer);
            };
            self.learn_challenge(&answer).await;
            attempts.refused.extend(shown.take());
            let status = Some(answer.status());
            shown = self
                .next_authorization(access, &mut attempts, status)
                .await?;
            if shown.is_none() {
                return Ok(answer);
            }
            // A connection is reused only if its response was read.
            answer.read_body_prefix(MAX_ERROR_BODY_BYTES).await;
            answer = self.send_with(request, shown.as_ref()).await?;
        }
        if let Some(shown) = &shown {
            self.state.lock().await.accept_authorization(access, shown);
        }
        Ok(answer)
    }

    /// True for a refusal by the registry itself, not by another origin after a redirect.
    fn is_refused(&self, answer: &HttpResponse) -> bool {
        matches!(
            answer.status(),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
        ) && self.endpoint.is_same_origin(answer.head().url())
    }

    /// A registry may leave out the challenge when a token has ended: the known one is answered
    /// again.
    async fn learn_challenge(&self, answer: &HttpResponse) {
        let challenge =
            challenge::choose_challenge(answer.head().headers(header::WWW_AUTHENTICATE));
        if answer.status() == StatusCode::UNAUTHORIZED
            && let Some(challenge) = challenge
        {
            self.state.lock().await.challenge = Some(challenge);
        }
    }

    async fn send_with(
        &self,
        request: HttpRequest,
        shown: Option<&ShownAuthorization>,
    ) -> Result<HttpResponse, OciError> {
        let request = match shown {
            Some(shown) => request.with_authorization(&shown.value),
            None => request,
        };
        self.http
            .send_request(request)
            .await
            .map_err(|e| self.map_http_error(e))
    }

    /// Sends a request and reads a small response, which must be a success. `what` was requested.
    pub(super) async fn fetch_body(
        &self,
        access: &RegistryAccess,
        request: HttpRequest,
        what: &str,
        limit: usize,
    ) -> Result<(HttpResponseHead, Bytes), OciError> {
        let url = request.url().clone();
        let both = async {
            let answer = self.send_request(access, request).await?;
            if !answer.status().is_success() {
                return Err(self.response_error(answer, what).await);
            }
            let head = answer.head().clone();
            Ok((
                head,
                answer
                    .read_body(limit)
                    .await
                    .map_err(|e| self.map_http_error(e))?,
            ))
        };
        self.http
            .with_response_timeout(&url, both)
            .await
            .map_err(|e| self.map_http_error(e))?
    }

    /// The error of a request without a response.
    pub(super) fn map_http_error(&self, error: HttpError) -> OciError {
        registry_error::from_http(error, &self.location())
    }

    /// The error of an unsuccessful response.
    pub(super) async fn response_error(&self, answer: HttpResponse, what: &str) -> OciError {
        let status = answer.status();
        let words = registry_error::read_error_message(answer).await;
        let state = self.state.lock().await;
        let words = state.scrub_secrets(words);
        let error = registry_error::from_status(status, words, what, &self.location());
        self.explain_denial(&state, error)
    }

    /// The `Authorization` to send: a known one, unless it was refused or has ended, else that of
    /// the next credentials. `None` without a challenge, and without credentials that are left.
    async fn next_authorization(
        &self,
        access: &RegistryAccess,
        attempts: &mut AuthorizationAttempts,
        status: Option<StatusCode>,
    ) -> Result<Option<ShownAuthorization>, OciError> {
        // Locked while a token is fetched, so that concurrent requests need one token only.
        let mut state = self.state.lock().await;
        let Some(challenge) = state.challenge.clone() else {
            return Ok(None);
        };
        if attempts.candidates.is_none() {
            match state.fresh_authorization(access) {
                Some(shown) if !attempts.was_refused(&shown.value) => {
                    return Ok(Some(shown.clone()));
                }
                _ => {
                    self.look_up_candidates(&mut state, access, attempts, status)
                        .await?;
                }
            }
        }
        while let Some(candidate) = attempts.candidates.as_mut().and_then(VecDeque::pop_front) {
            match self
                .authorize(&mut state, access, &challenge, candidate)
                .await
            {
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
        state.refuse_authorizations(access);
        let refusal = attempts.token_refusal.take();
        refusal.map_or(Ok(None), |e| Err(self.explain_denial(&state, e)))
    }

    async fn look_up_candidates(
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
        let failures: Vec<String> = failures.iter().map(ToString::to_string).collect();
        if found.is_empty() && !failures.is_empty() {
            return Err(OciError::Invalid(failures.join("; ")));
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

    /// The authorization with these credentials. `None`: there is nothing to show.
    async fn authorize(
        &self,
        state: &mut AuthorizationState,
        access: &RegistryAccess,
        challenge: &AuthChallenge,
        candidate: Option<FoundCredentials>,
    ) -> Result<Option<ShownAuthorization>, OciError> {
        let credentials = candidate.as_ref().map(|found| &found.credentials);
        if let Some(credentials) = credentials {
            state.remember_secrets_of(credentials);
        }
        let direct = direct_authorization(challenge, credentials)
            .map_err(|cause| self.denied_error(cause.into()))?;
        let (value, ends_at) = match (direct, challenge) {
            (Some(value), _) => {
                state.remember_tried(candidate.as_ref());
                (value, None)
            }
            (None, AuthChallenge::Basic) => return Ok(None),
            (None, AuthChallenge::Bearer { realm, service }) => {
                let service = self.token_service(realm, service.as_deref(), candidate.as_ref())?;
                state.remember_tried(candidate.as_ref());
                let (value, end) = self
                    .fetch_token(state, access, &service, candidate.as_ref())
                    .await?;
                (value, Some(end))
            }
        };
        Ok(Some(ShownAuthorization {
            value,
            ends_at,
            credentials: candidate,
        }))
    }

    fn token_service<'a>(
        &self,
        realm: &str,
        service: Option<&'a str>,
        candidate: Option<&FoundCredentials>,
    ) -> Result<RegistryTokenService<'a>, OciError> {
        RegistryTokenService::new(
            realm,
            service,
            self.endpoint.base_url(),
            candidate.is_some(),
        )
        .map_err(|cause| self.denied_error(cause))
    }

    async fn fetch_token(
        &self,
        state: &mut AuthorizationState,
        access: &RegistryAccess,
        tokens: &RegistryTokenService<'_>,
        candidate: Option<&FoundCredentials>,
    ) -> Result<(Redacted<String>, Instant), OciError> {
        let request = tokens.token_request(
            candidate.map(|found| &found.credentials),
            &access.token_scopes(self.endpoint.repository()),
        );
        let requested_at = Instant::now();
        let (head, body) = self
            .http
            .fetch_body(request, MAX_TOKEN_RESPONSE_BYTES)
            .await
            .map_err(|e| self.map_http_error(e))?;
        if !head.status().is_success() {
            return Err(self.token_service_error(&head));
        }
        let token = token::parse_token_response(&body).ok_or_else(|| {
            self.denied_error("its token service responded without a token".into())
        })?;
        state.remember_secret(&token.value);
        Ok((
            bearer_authorization(&token.value),
            requested_at + token.lifetime,
        ))
    }

    /// A refusal by the token service is an error: continuing without a token would hide it.
    fn token_service_error(&self, head: &HttpResponseHead) -> OciError {
        let status = head.status();
        let from = redact_url(head.url());
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return registry_error::from_status(status, "no token".into(), &from, &self.location());
        }
        OciError::Denied {
            location: self.location(),
            status: status.as_u16(),
            cause: format!("no token from {from}"),
        }
    }

    fn denied_error(&self, cause: String) -> OciError {
        OciError::Denied {
            location: self.location(),
            status: StatusCode::UNAUTHORIZED.as_u16(),
            cause,
        }
    }

    /// Adds which credentials were tried, and the way out for whoever reads it.
    fn explain_denial(&self, state: &AuthorizationState, error: OciError) -> OciError {
        let OciError::Denied {
            location,
            status,
            cause,
        } = error
        else {
            return error;
        };
        let host = self.endpoint.repository().host();
        let mut cause = format!("{cause}; {}", state.describe_tried(host));
        if self.http.error_advice() == ErrorAdvice::CommandLine
            && (status == StatusCode::UNAUTHORIZED.as_u16() || !state.has_tried())
        {
            cause.push_str("; log in (docker login, podman login) or use --registry-config FILE");
        }
        OciError::Denied {
            location,
            status,
            cause,
        }
    }
}
