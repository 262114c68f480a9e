//! A session with a registry: challenges, tokens, and the meaning of responses.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use tokio::{sync::Mutex, time::Instant};

use super::{
    challenge::{self, AuthChallenge},
    endpoint::RepositoryEndpoint,
    registry_error::{self, MAX_ERROR_BODY_BYTES},
    token::{self, MAX_TOKEN_RESPONSE_BYTES, RegistryTokenService},
};
use crate::{
    core::reference::ImageRepository,
    http::{
        HttpClient, HttpError, HttpRequest, HttpResponse, HttpResponseHead, RateLimitBackoff,
        Redacted, StatusCode, header,
    },
    oci::{
        OciError,
        auth::{CredentialStore, RegistryCredentials},
    },
};

/// The number of secrets that are removed from a registry's messages; more than one session has at
/// a time.
const MAX_SCRUBBED_SECRETS: usize = 16;

/// What a request does, which determines the scope of its token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum RegistryAccess {
    Pull,
    Push,
    /// Push to this repository, and pull from another one.
    Mount(ImageRepository),
}

impl RegistryAccess {
    fn token_scopes(&self, repository: &ImageRepository) -> Vec<String> {
        let scope = |repository: &ImageRepository, actions| {
            format!("repository:{}:{actions}", repository.path())
        };
        match self {
            Self::Pull => vec![scope(repository, "pull")],
            Self::Push => vec![scope(repository, "pull,push")],
            Self::Mount(from) => vec![scope(repository, "pull,push"), scope(from, "pull")],
        }
    }
}

/// One session. Clones share it.
#[derive(Clone)]
pub(super) struct RegistrySession {
    pub(super) endpoint: Arc<RepositoryEndpoint>,
    http: HttpClient,
    credentials: Arc<dyn CredentialStore>,
    state: Arc<Mutex<RegistrySessionState>>,
}

#[derive(Default)]
struct RegistrySessionState {
    /// The registry's last challenge.
    challenge: Option<AuthChallenge>,
    /// `Authorization` values and their expiry.
    authorizations: HashMap<RegistryAccess, (Redacted<String>, Option<Instant>)>,
    secrets: Vec<Redacted<String>>,
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

    /// Sends a request, answering at most one challenge. Credentials are sent only if the URL is of
    /// the registry's own origin.
    pub(super) async fn send_request(
        &self,
        access: &RegistryAccess,
        request: HttpRequest,
    ) -> Result<HttpResponse, OciError> {
        if !self.endpoint.is_same_origin(request.url()) {
            return self
                .http
                .send_request(request)
                .await
                .map_err(|e| self.map_http_error(e));
        }
        let again = request.try_clone();
        let shown = self.get_authorization(access, None).await?;
        let answer = self
            .http
            .send_request(add_authorization(request, shown.as_ref()))
            .await
            .map_err(|e| self.map_http_error(e))?;
        if answer.status() != StatusCode::UNAUTHORIZED
            || !self.endpoint.is_same_origin(answer.head().url())
        {
            return Ok(answer);
        }
        let Some(challenge) =
            challenge::choose_challenge(answer.head().headers(header::WWW_AUTHENTICATE))
        else {
            return Ok(answer);
        };
        self.state.lock().await.challenge = Some(challenge);
        let fresh = self.get_authorization(access, shown.as_ref()).await?;
        match (again, fresh) {
            (Some(again), Some(fresh)) => {
                // A connection is reused only if its response was read.
                answer.read_body_prefix(MAX_ERROR_BODY_BYTES).await;
                self.http
                    .send_request(add_authorization(again, Some(&fresh)))
                    .await
                    .map_err(|e| self.map_http_error(e))
            }
            _ => Ok(answer),
        }
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
        let (status, retry_after) = (answer.status(), answer.head().retry_after());
        let words = self.error_words(answer).await;
        registry_error::from_status(status, words, what, &self.location())
            .with_retry_after(retry_after)
    }

    /// The error of an unsuccessful response to a write.
    pub(super) async fn write_error(&self, answer: HttpResponse, what: &str) -> OciError {
        let (status, retry_after) = (answer.status(), answer.head().retry_after());
        let words = self.error_words(answer).await;
        registry_error::from_write_status(status, words, what, &self.location())
            .with_retry_after(retry_after)
    }

    async fn error_words(&self, answer: HttpResponse) -> String {
        self.scrub_secrets(registry_error::read_error_message(answer).await)
            .await
    }

    /// The waits for a registry that limits the rate of requests.
    pub(super) fn rate_limit_backoff(&self) -> RateLimitBackoff {
        self.http.rate_limit_backoff()
    }

    /// A registry could return our secrets in its message.
    async fn scrub_secrets(&self, words: String) -> String {
        let state = self.state.lock().await;
        state.secrets.iter().fold(words, |words, secret| {
            words.replace(secret.expose().as_str(), "***")
        })
    }

    /// The `Authorization` to send: a cached one unless it is `rejected` or expired, else a new
    /// one. `None` without a challenge, and without credentials.
    async fn get_authorization(
        &self,
        access: &RegistryAccess,
        rejected: Option<&Redacted<String>>,
    ) -> Result<Option<Redacted<String>>, OciError> {
        // Locked while a token is fetched, so that concurrent requests need one token only.
        let mut state = self.state.lock().await;
        let Some(challenge) = state.challenge.clone() else {
            return Ok(None);
        };
        if let Some((value, end)) = state.authorizations.get(access)
            && end.is_none_or(|end| Instant::now() < end)
            && Some(value) != rejected
        {
            return Ok(Some(value.clone()));
        }
        let (value, end) = match challenge {
            AuthChallenge::Basic => match self
                .basic_authorization(&mut state)
                .await?
                .filter(|value| Some(value) != rejected)
            {
                Some(value) => (value, None),
                None => return Ok(None),
            },
            AuthChallenge::Bearer { realm, service } => {
                self.fetch_token(&mut state, access, &realm, service.as_deref())
                    .await?
            }
        };
        state
            .authorizations
            .insert(access.clone(), (value.clone(), end));
        Ok(Some(value))
    }

    async fn basic_authorization(
        &self,
        state: &mut RegistrySessionState,
    ) -> Result<Option<Redacted<String>>, OciError> {
        match self.load_credentials(state).await? {
            Some(RegistryCredentials::Password { username, password }) => {
                Ok(Some(token::basic_authorization(&username, &password)))
            }
            Some(RegistryCredentials::IdentityToken(_)) => Err(self.denied_error(
                "it asks for a password, but the credential is an identity token; log in again"
                    .into(),
            )),
            None => Ok(None),
        }
    }

    async fn fetch_token(
        &self,
        state: &mut RegistrySessionState,
        access: &RegistryAccess,
        realm: &str,
        service: Option<&str>,
    ) -> Result<(Redacted<String>, Option<Instant>), OciError> {
        let credentials = self.load_credentials(state).await?;
        let tokens = RegistryTokenService::new(
            realm,
            service,
            self.endpoint.base_url(),
            credentials.is_some(),
        )
        .map_err(|cause| self.denied_error(cause))?;
        let request = tokens.token_request(
            credentials.as_ref(),
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
            format!("Bearer {}", token.value.expose()).into(),
            Some(requested_at + token.lifetime),
        ))
    }

    async fn load_credentials(
        &self,
        state: &mut RegistrySessionState,
    ) -> Result<Option<RegistryCredentials>, OciError> {
        let known = self
            .credentials
            .credentials_for_host(self.endpoint.repository().host())
            .await;
        let known = known.map_err(|e| OciError::Invalid(e.to_string()))?;
        match &known {
            Some(RegistryCredentials::Password { username, password }) => {
                state.remember_secret(password);
                let encoded = token::basic_authorization(username, password);
                state.remember_secret(
                    &encoded
                        .expose()
                        .trim_start_matches("Basic ")
                        .to_owned()
                        .into(),
                );
            }
            Some(RegistryCredentials::IdentityToken(token)) => state.remember_secret(token),
            None => {}
        }
        Ok(known)
    }

    /// A refusal by the token service is an error: continuing without a token would hide it.
    fn token_service_error(&self, head: &HttpResponseHead) -> OciError {
        let status = head.status();
        let from = crate::http::redact::redact_url(head.url());
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
}

impl RegistrySessionState {
    fn remember_secret(&mut self, secret: &Redacted<String>) {
        if !secret.expose().is_empty() && !self.secrets.contains(secret) {
            self.secrets.truncate(MAX_SCRUBBED_SECRETS - 1);
            self.secrets.insert(0, secret.clone());
        }
    }
}

fn add_authorization(
    request: HttpRequest,
    authorization: Option<&Redacted<String>>,
) -> HttpRequest {
    match authorization {
        Some(value) => request.with_authorization(value),
        None => request,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_name_the_least_that_is_needed() {
        let repository: ImageRepository = "r.example.com/a/b".parse().expect("valid");
        let from: ImageRepository = "r.example.com/c".parse().expect("valid");
        for (access, scopes) in [
            (RegistryAccess::Pull, vec!["repository:a/b:pull"]),
            (RegistryAccess::Push, vec!["repository:a/b:pull,push"]),
            (
                RegistryAccess::Mount(from),
                vec!["repository:a/b:pull,push", "repository:c:pull"],
            ),
        ] {
            assert_eq!(access.token_scopes(&repository), scopes);
        }
    }
}
