//! One conversation with a registry: challenges, tokens, and what an answer means.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use tokio::{sync::Mutex, time::Instant};

use super::{
    challenge::{self, Challenge},
    endpoint::Endpoint,
    problem::{self, PROBLEM_BYTES},
    token::{self, TOKEN_BYTES, TokenService},
};
use crate::{
    core::reference::Repository,
    http::{Answer, Head, HttpClient, HttpError, Redacted, Request, StatusCode, header},
    oci::{
        OciError,
        auth::{CredentialStore, Credentials},
    },
};

/// Secrets that are searched for in a registry's words. More than one conversation has at a time.
const SCRUBBED: usize = 16;

/// What a request does, and so the scope that its token needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Access {
    Pull,
    Push,
    /// Push here, pull there.
    Mount(Repository),
}

impl Access {
    fn scopes(&self, repository: &Repository) -> Vec<String> {
        let scope = |repository: &Repository, actions| {
            format!("repository:{}:{actions}", repository.path())
        };
        match self {
            Self::Pull => vec![scope(repository, "pull")],
            Self::Push => vec![scope(repository, "pull,push")],
            Self::Mount(from) => vec![scope(repository, "pull,push"), scope(from, "pull")],
        }
    }
}

/// One conversation. Clones share it.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) endpoint: Arc<Endpoint>,
    http: HttpClient,
    credentials: Arc<dyn CredentialStore>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What the registry asked for last.
    challenge: Option<Challenge>,
    /// `Authorization` values and when they end.
    granted: HashMap<Access, (Redacted<String>, Option<Instant>)>,
    secrets: Vec<Redacted<String>>,
}

impl Session {
    pub(super) fn new(
        endpoint: Endpoint,
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

    pub(super) fn requests(&self) -> u64 {
        self.http.requests()
    }

    /// Sends a request, answering at most one challenge. Credentials go along only if the URL is
    /// the registry's own.
    pub(super) async fn send(&self, access: &Access, request: Request) -> Result<Answer, OciError> {
        if !self.endpoint.owns(request.url()) {
            return self.http.send(request).await.map_err(|e| self.lost(e));
        }
        let again = request.again();
        let shown = self.authorization(access, None).await?;
        let answer = self
            .http
            .send(with(request, shown.as_ref()))
            .await
            .map_err(|e| self.lost(e))?;
        if answer.status() != StatusCode::UNAUTHORIZED || !self.endpoint.owns(answer.head().url()) {
            return Ok(answer);
        }
        let Some(challenge) = challenge::choose(answer.head().headers(header::WWW_AUTHENTICATE))
        else {
            return Ok(answer);
        };
        self.state.lock().await.challenge = Some(challenge);
        let fresh = self.authorization(access, shown.as_ref()).await?;
        match (again, fresh) {
            (Some(again), Some(fresh)) => {
                // A connection whose answer was read is used again.
                answer.beginning(PROBLEM_BYTES).await;
                self.http
                    .send(with(again, Some(&fresh)))
                    .await
                    .map_err(|e| self.lost(e))
            }
            _ => Ok(answer),
        }
    }

    /// Sends a request and reads a small answer, which must be a success. `what` was asked for.
    pub(super) async fn fetch(
        &self,
        access: &Access,
        request: Request,
        what: &str,
        limit: usize,
    ) -> Result<(Head, Bytes), OciError> {
        let url = request.url().clone();
        let both = async {
            let answer = self.send(access, request).await?;
            if !answer.status().is_success() {
                return Err(self.refused(answer, what).await);
            }
            let head = answer.head().clone();
            Ok((head, answer.bytes(limit).await.map_err(|e| self.lost(e))?))
        };
        self.http
            .within_answer_time(&url, both)
            .await
            .map_err(|e| self.lost(e))?
    }

    /// What a request that got no answer means.
    pub(super) fn lost(&self, error: HttpError) -> OciError {
        problem::from_http(error, &self.location())
    }

    /// What an answer that is no success means.
    pub(super) async fn refused(&self, answer: Answer, what: &str) -> OciError {
        let status = answer.status();
        let words = self.scrub(problem::words(answer).await).await;
        problem::from_status(status, words, what, &self.location())
    }

    /// A registry could put what we sent into its words.
    async fn scrub(&self, words: String) -> String {
        let state = self.state.lock().await;
        state.secrets.iter().fold(words, |words, secret| {
            words.replace(secret.expose().as_str(), "***")
        })
    }

    /// The `Authorization` to send: a known one unless it is `rejected` or over, else a new one.
    /// `None` while nobody asked for any, and when there is nothing to show.
    async fn authorization(
        &self,
        access: &Access,
        rejected: Option<&Redacted<String>>,
    ) -> Result<Option<Redacted<String>>, OciError> {
        // Held while a token is fetched, so that many requests at once need one token only.
        let mut state = self.state.lock().await;
        let Some(challenge) = state.challenge.clone() else {
            return Ok(None);
        };
        if let Some((value, end)) = state.granted.get(access)
            && end.is_none_or(|end| Instant::now() < end)
            && Some(value) != rejected
        {
            return Ok(Some(value.clone()));
        }
        let (value, end) = match challenge {
            Challenge::Basic => match self
                .basic(&mut state)
                .await?
                .filter(|value| Some(value) != rejected)
            {
                Some(value) => (value, None),
                None => return Ok(None),
            },
            Challenge::Bearer { realm, service } => {
                self.token(&mut state, access, &realm, service.as_deref())
                    .await?
            }
        };
        state.granted.insert(access.clone(), (value.clone(), end));
        Ok(Some(value))
    }

    async fn basic(&self, state: &mut State) -> Result<Option<Redacted<String>>, OciError> {
        match self.known_credentials(state).await? {
            Some(Credentials::Password { username, password }) => {
                Ok(Some(token::basic(&username, &password)))
            }
            Some(Credentials::IdentityToken(_)) => Err(self.denied(
                "it asks for a password, but the credential is an identity token; log in again"
                    .into(),
            )),
            None => Ok(None),
        }
    }

    async fn token(
        &self,
        state: &mut State,
        access: &Access,
        realm: &str,
        service: Option<&str>,
    ) -> Result<(Redacted<String>, Option<Instant>), OciError> {
        let credentials = self.known_credentials(state).await?;
        let tokens = TokenService::new(realm, service, self.endpoint.base(), credentials.is_some())
            .map_err(|cause| self.denied(cause))?;
        let request = tokens.request(
            credentials.as_ref(),
            &access.scopes(self.endpoint.repository()),
        );
        let asked = Instant::now();
        let (head, body) = self
            .http
            .fetch(request, TOKEN_BYTES)
            .await
            .map_err(|e| self.lost(e))?;
        if !head.status().is_success() {
            return Err(self.no_token(&head));
        }
        let token = token::parse(&body)
            .ok_or_else(|| self.denied("its token service answered without a token".into()))?;
        state.hide(&token.value);
        Ok((
            format!("Bearer {}", token.value.expose()).into(),
            Some(asked + token.lifetime),
        ))
    }

    async fn known_credentials(&self, state: &mut State) -> Result<Option<Credentials>, OciError> {
        let known = self
            .credentials
            .credentials(self.endpoint.repository().host())
            .await;
        let known = known.map_err(|e| OciError::Invalid(e.to_string()))?;
        match &known {
            Some(Credentials::Password { username, password }) => {
                state.hide(password);
                let encoded = token::basic(username, password);
                state.hide(
                    &encoded
                        .expose()
                        .trim_start_matches("Basic ")
                        .to_owned()
                        .into(),
                );
            }
            Some(Credentials::IdentityToken(token)) => state.hide(token),
            None => {}
        }
        Ok(known)
    }

    /// A token service that refuses is a refusal: going on without a token would hide it.
    fn no_token(&self, head: &Head) -> OciError {
        let status = head.status();
        let from = crate::http::redact::shown(head.url());
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return problem::from_status(status, "no token".into(), &from, &self.location());
        }
        OciError::Denied {
            location: self.location(),
            status: status.as_u16(),
            cause: format!("no token from {from}"),
        }
    }

    fn denied(&self, cause: String) -> OciError {
        OciError::Denied {
            location: self.location(),
            status: StatusCode::UNAUTHORIZED.as_u16(),
            cause,
        }
    }
}

impl State {
    fn hide(&mut self, secret: &Redacted<String>) {
        if !secret.expose().is_empty() && !self.secrets.contains(secret) {
            self.secrets.truncate(SCRUBBED - 1);
            self.secrets.insert(0, secret.clone());
        }
    }
}

fn with(request: Request, authorization: Option<&Redacted<String>>) -> Request {
    match authorization {
        Some(value) => request.authorization(value),
        None => request,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_name_the_least_that_is_needed() {
        let repository: Repository = "r.example.com/a/b".parse().expect("valid");
        let from: Repository = "r.example.com/c".parse().expect("valid");
        for (access, scopes) in [
            (Access::Pull, vec!["repository:a/b:pull"]),
            (Access::Push, vec!["repository:a/b:pull,push"]),
            (
                Access::Mount(from),
                vec!["repository:a/b:pull,push", "repository:c:pull"],
            ),
        ] {
            assert_eq!(access.scopes(&repository), scopes);
        }
    }
}
