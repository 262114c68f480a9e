//! A session with a registry: challenges, tokens, and the meaning of responses.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Mutex;

use super::{
    authorization::{AuthorizationAttempts, AuthorizationState, ShownAuthorization},
    challenge,
    endpoint::RepositoryEndpoint,
    registry_access::RegistryAccess,
    registry_error::{self, MAX_ERROR_BODY_BYTES},
    token_hosts::AllowedTokenService,
};
use crate::{
    http::{
        ErrorAdvice, HttpClient, HttpError, HttpRequest, HttpResponse, HttpResponseHead,
        RateLimitBackoff, StatusCode, header,
    },
    oci::{OciError, credentials::CredentialStore, error::denial_advice},
};

/// Harbor lets what has no signature yet be read by clients that sign, which it knows by the words
/// `cosign` and `notation` in their names.
const SIGNING_USER_AGENT: &str = concat!(
    "packgate/",
    env!("CARGO_PKG_VERSION"),
    " (signs as cosign does)"
);

/// One session. Clones share it.
#[derive(Clone)]
pub(super) struct RegistrySession {
    pub(super) endpoint: Arc<RepositoryEndpoint>,
    pub(super) http: HttpClient,
    pub(super) credentials: Arc<dyn CredentialStore>,
    pub(super) token_services: Arc<[AllowedTokenService]>,
    state: Arc<Mutex<AuthorizationState>>,
    signs: bool,
}

impl RegistrySession {
    pub(super) fn new(
        endpoint: RepositoryEndpoint,
        http: HttpClient,
        credentials: Arc<dyn CredentialStore>,
        token_services: Vec<AllowedTokenService>,
    ) -> Self {
        Self {
            endpoint: Arc::new(endpoint),
            http,
            credentials,
            token_services: token_services.into(),
            state: Arc::default(),
            signs: false,
        }
    }

    /// The same session for a client that signs: its requests say so.
    pub(super) fn for_signing(self) -> Self {
        Self {
            signs: true,
            ..self
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
        // The attempts have kilobytes; boxed, they do not enlarge the futures of callers.
        Box::pin(self.send_with_credentials(access, request)).await
    }

    async fn send_with_credentials(
        &self,
        access: &RegistryAccess,
        request: HttpRequest,
    ) -> Result<HttpResponse, OciError> {
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
        let mut request = match shown {
            Some(shown) => request.with_authorization(&shown.value),
            None => request,
        };
        if self.signs {
            request = request.header(header::USER_AGENT, SIGNING_USER_AGENT);
        }
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
        self.fetch_response(access, request, |answer| async move {
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
        })
        .await
    }

    /// Sends a request and has a small response of any status read, within the time for both.
    pub(super) async fn fetch_response<T, F>(
        &self,
        access: &RegistryAccess,
        request: HttpRequest,
        read: impl FnOnce(HttpResponse) -> F,
    ) -> Result<T, OciError>
    where
        F: Future<Output = Result<T, OciError>>,
    {
        let url = request.url().clone();
        let both = async { read(self.send_request(access, request).await?).await };
        self.http
            .with_response_timeout(&url, both)
            .await
            .map_err(|e| self.map_http_error(e))?
    }

    /// The error of a request without a response.
    pub(super) fn map_http_error(&self, error: HttpError) -> OciError {
        registry_error::from_http(error, &self.location())
    }

    /// The error of an unsuccessful response to a read.
    pub(super) async fn response_error(&self, answer: HttpResponse, what: &str) -> OciError {
        self.explain_response(answer, what, registry_error::from_status)
            .await
    }

    /// The error of an unsuccessful response to a write.
    pub(super) async fn write_error(&self, answer: HttpResponse, what: &str) -> OciError {
        self.explain_response(answer, what, registry_error::from_write_status)
            .await
    }

    /// The waits for a registry that limits the rate of requests.
    pub(super) const fn rate_limit_backoff(&self) -> RateLimitBackoff {
        self.http.rate_limit_backoff()
    }

    async fn explain_response(
        &self,
        answer: HttpResponse,
        what: &str,
        error_of: fn(StatusCode, String, &str, &str) -> OciError,
    ) -> OciError {
        let (status, retry_after) = (answer.status(), answer.head().retry_after());
        let words = registry_error::read_error_message(answer).await;
        let state = self.state.lock().await;
        let words = state.scrub_secrets(words);
        let error = error_of(status, words, what, &self.location()).with_retry_after(retry_after);
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
        loop {
            let next = self.try_candidates(&mut state, access, attempts, &challenge);
            if let Some(shown) = Box::pin(next).await? {
                return Ok(Some(shown));
            }
            if !self.renew_candidates(&mut state, access, attempts).await {
                break;
            }
        }
        state.refuse_authorizations(access);
        let refusal = attempts.token_refusal.take();
        refusal.map_or(Ok(None), |e| Err(self.explain_denial(&state, e)))
    }

    pub(super) fn denied_error(&self, cause: String) -> OciError {
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
        let advice = denial_advice(status, &cause);
        if state.realm_refused || !advice.is_empty() {
            // Credentials are not the cause, and the message has its own way out.
            return OciError::Denied {
                location,
                status,
                cause: cause + advice,
            };
        }
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
