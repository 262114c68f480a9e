//! Makes what a session shows from credentials: directly, or with a token from the registry's token
//! service.

use tokio::time::Instant;

use super::{
    authorization::{AuthorizationState, ShownAuthorization, direct_authorization},
    challenge::AuthChallenge,
    error_message::error_message,
    registry_access::RegistryAccess,
    registry_error,
    session::RegistrySession,
    token::{
        self, MAX_TOKEN_RESPONSE_BYTES, RealmRefusal, RegistryTokenService, bearer_authorization,
    },
};
use crate::{
    core::display_text::sanitize_line,
    http::{ErrorAdvice, HttpResponseHead, Redacted, StatusCode, redact::redact_url},
    oci::{OciError, credentials::FoundCredentials},
};

/// Characters of a token service's message that are shown.
const MAX_REFUSAL_CHARACTERS: usize = 300;

impl RegistrySession {
    /// The authorization with these credentials. `None`: there is nothing to show.
    pub(super) async fn authorize(
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
                let service = self.token_service(realm, service.as_deref(), candidate.is_some());
                state.realm_refused = service.is_err();
                let service = service?;
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
        with_credentials: bool,
    ) -> Result<RegistryTokenService<'a>, OciError> {
        let allowed = with_credentials.then_some(&*self.token_services);
        RegistryTokenService::new(realm, service, self.endpoint.base_url(), allowed)
            .map_err(|refusal| self.denied_error(self.describe_refused_realm(&refusal)))
    }

    fn describe_refused_realm(&self, refusal: &RealmRefusal) -> String {
        let realm = match refusal {
            RealmRefusal::Malformed(cause) => {
                return format!("its token realm cannot be parsed: {cause}");
            }
            RealmRefusal::NotEncrypted(realm) => {
                return format!(
                    "it asks for a token from {}, which is not https; the address that the \
                        registry has of itself is misconfigured",
                    redact_url(realm)
                );
            }
            RealmRefusal::OtherOwner(realm) => realm,
        };
        let (host, origin) = (
            self.endpoint.repository().host(),
            realm.origin().ascii_serialization(),
        );
        let allow = match self.http.error_advice() {
            ErrorAdvice::CommandLine => format!("--token-service {host}={origin}"),
            ErrorAdvice::Cluster => format!(
                "the chart's value registries: [{{host: {host:?}, tokenServices: [{origin:?}]}}]"
            ),
        };
        format!(
            "it asks for credentials to be sent to {}, which may belong to somebody else; if that \
                is its token service, allow it with {allow}",
            redact_url(realm)
        )
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
            return Err(self.token_service_error(state, &head, &body));
        }
        let token =
            token::parse_token_response(&body).map_err(|cause| self.denied_error(cause.into()))?;
        state.remember_secret(&token.value);
        Ok((
            bearer_authorization(&token.value),
            requested_at + token.lifetime,
        ))
    }

    /// A refusal by the token service is an error: continuing without a token would hide it.
    fn token_service_error(
        &self,
        state: &AuthorizationState,
        head: &HttpResponseHead,
        body: &[u8],
    ) -> OciError {
        let (status, location) = (head.status(), self.location());
        let from = redact_url(head.url());
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return registry_error::from_status(status, "no token".into(), &from, &location);
        }
        let words = sanitize_line(
            &state.scrub_secrets(error_message(body)),
            MAX_REFUSAL_CHARACTERS,
        );
        let cause = match words.as_str() {
            "" => format!("no token from {from}"),
            words => format!("no token from {from}: {words}"),
        };
        OciError::Denied {
            location,
            status: status.as_u16(),
            cause,
        }
    }
}
