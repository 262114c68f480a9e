//! Tokens of ServiceAccounts for credential providers: made when they are needed, and remembered as
//! long as most of their life is left.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{Api, Client, api::PostParams};
use moka::future::Cache;

use super::{object_name::is_object_name, pull_secrets::READS};
use crate::{
    api::rbac::token_grant_command,
    core::reason::Reason,
    credential_providers::{AccountFacts, AccountName, AccountTokenError, ServiceAccountTokens},
    http::Redacted,
    service::fair_queue::{FairQueue, FairQueueKey, FairQueuePermit},
};

/// The life of a token in seconds, as kubelet requests it.
const TOKEN_SECONDS: i64 = 3_600;
/// How long a token is remembered: four fifths of its life, as in kubelet.
const TOKEN_TTL: Duration = Duration::from_mins(48);
/// How long a ServiceAccount is remembered. A permission that is withdrawn counts within this time.
const ACCOUNT_TTL: Duration = Duration::from_secs(5);
/// The number of remembered ServiceAccounts, and of remembered tokens.
const MAX_REMEMBERED: u64 = 1_024;
/// The maximum size of a ServiceAccount's annotations that are remembered, in bytes.
const MAX_ANNOTATION_BYTES: usize = 16 << 10;

/// A ServiceAccount, its UID, and an audience.
type TokenKey = (AccountName, String, String);

/// Requests tokens with the permissions of its client.
pub struct AccountTokenReader {
    client: Client,
    own: AccountName,
    system_namespace: String,
    accounts: Cache<AccountName, Result<AccountFacts, AccountTokenError>>,
    tokens: Cache<TokenKey, Result<Redacted<String>, AccountTokenError>>,
    requests: Arc<FairQueue>,
}

impl AccountTokenReader {
    /// Nothing is read yet. `own` is the name of this process's ServiceAccount.
    pub fn new(client: Client, system_namespace: &str, own: &str) -> Self {
        Self {
            client,
            own: AccountName {
                namespace: system_namespace.to_owned(),
                name: own.to_owned(),
            },
            system_namespace: system_namespace.to_owned(),
            accounts: Cache::builder()
                .max_capacity(MAX_REMEMBERED)
                .time_to_live(ACCOUNT_TTL)
                .build(),
            tokens: Cache::builder()
                .max_capacity(MAX_REMEMBERED)
                .time_to_live(TOKEN_TTL)
                .build(),
            requests: FairQueue::new(READS),
        }
    }

    /// A permit to ask the API server about an account: no namespace has all of them.
    async fn request_permit(
        &self,
        account: &AccountName,
    ) -> Result<FairQueuePermit, AccountTokenError> {
        let party = FairQueueKey::new(Some(&account.namespace), None);
        let permit = self.requests.acquire_permit(&party).await;
        permit.map_err(|_| AccountTokenError {
            message: format!(
                "{} cannot be read now: too many of its namespace are; try again",
                describe(account)
            ),
            reason: Reason::Overloaded,
        })
    }

    fn api(&self, account: &AccountName) -> Api<ServiceAccount> {
        Api::namespaced(self.client.clone(), &account.namespace)
    }

    async fn fetch_account(
        &self,
        account: &AccountName,
    ) -> Result<AccountFacts, AccountTokenError> {
        if !is_object_name(&account.name) {
            return Err(absent(account));
        }
        let _permit = self.request_permit(account).await?;
        let read = self.api(account).get_opt(&account.name).await;
        let found = read.map_err(|error| self.api_error("read", account, &error))?;
        let metadata = found.ok_or_else(|| absent(account))?.metadata;
        let annotations = metadata.annotations.unwrap_or_default();
        let size: usize = annotations.iter().map(|(k, v)| k.len() + v.len()).sum();
        if size > MAX_ANNOTATION_BYTES {
            let message = format!(
                "{} has {size} bytes of annotations, the limit is {MAX_ANNOTATION_BYTES}",
                describe(account)
            );
            return Err(AccountTokenError {
                message,
                reason: Reason::LimitExceeded,
            });
        }
        Ok(AccountFacts {
            uid: metadata.uid.unwrap_or_default(),
            annotations,
        })
    }

    async fn fetch_token(
        &self,
        account: &AccountName,
        uid: &str,
        audience: &str,
    ) -> Result<Redacted<String>, AccountTokenError> {
        let mut request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: vec![audience.to_owned()],
                expiration_seconds: Some(TOKEN_SECONDS),
                bound_object_ref: None,
            },
            ..TokenRequest::default()
        };
        // The API server refuses it for an account that was made anew under the same name.
        request.metadata.uid = Some(uid.to_owned()).filter(|uid| !uid.is_empty());
        let _permit = self.request_permit(account).await?;
        let made = self
            .api(account)
            .create_token_request(&account.name, &PostParams::default(), &request)
            .await
            .map_err(|error| self.api_error("request a token of", account, &error))?;
        let token = made.status.map(|status| status.token).unwrap_or_default();
        if token.is_empty() {
            return Err(AccountTokenError {
                message: format!("the API server gave no token of {}", describe(account)),
                reason: Reason::RegistryUnavailable,
            });
        }
        Ok(Redacted::new(token))
    }

    fn api_error(
        &self,
        action: &str,
        account: &AccountName,
        error: &kube::Error,
    ) -> AccountTokenError {
        let what = describe(account);
        match error {
            kube::Error::Api(status) if status.is_forbidden() => AccountTokenError {
                message: format!(
                    "packgate may not {action} {what}; whoever administers the cluster can grant \
                        it: {}, or add {} to the chart's value tenants",
                    token_grant_command(&account.namespace, &self.system_namespace),
                    account.namespace
                ),
                reason: Reason::SecretAccessDenied,
            },
            kube::Error::Api(status) if status.is_not_found() => absent(account),
            error => AccountTokenError {
                message: format!("packgate cannot {action} {what}: {error}"),
                reason: Reason::RegistryUnavailable,
            },
        }
    }
}

#[async_trait]
impl ServiceAccountTokens for AccountTokenReader {
    fn own_account(&self) -> AccountName {
        self.own.clone()
    }

    async fn read_account(&self, account: &AccountName) -> Result<AccountFacts, AccountTokenError> {
        let reading = Box::pin(self.fetch_account(account));
        let read = self.accounts.get_with(account.clone(), reading).await;
        if is_passing(read.as_ref().err()) {
            self.accounts.invalidate(account).await;
        }
        read
    }

    async fn request_token(
        &self,
        account: &AccountName,
        uid: &str,
        audience: &str,
    ) -> Result<Redacted<String>, AccountTokenError> {
        let key = (account.clone(), uid.to_owned(), audience.to_owned());
        let making = Box::pin(self.fetch_token(account, uid, audience));
        let made = self.tokens.get_with(key.clone(), making).await;
        if made.is_err() {
            self.tokens.invalidate(&key).await;
        }
        made
    }
}

/// True for an error that the next attempt may not have.
fn is_passing(error: Option<&AccountTokenError>) -> bool {
    error.is_some_and(|error| {
        matches!(
            error.reason,
            Reason::RegistryUnavailable | Reason::Overloaded
        )
    })
}

fn describe(account: &AccountName) -> String {
    format!("ServiceAccount {}/{}", account.namespace, account.name)
}

fn absent(account: &AccountName) -> AccountTokenError {
    AccountTokenError {
        message: format!("{} does not exist", describe(account)),
        reason: Reason::SourceNotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_no_name_is_not_asked_for() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let nowhere = kube::Config::new("http://127.0.0.1:1".parse().expect("a URL"));
        let client = Client::try_from(nowhere).expect("a client");
        let reader = AccountTokenReader::new(client, "packgate-system", "packgate-webhook");
        for (name, reason) in [
            ("../a", Reason::SourceNotFound),
            ("a", Reason::RegistryUnavailable),
        ] {
            let account = AccountName {
                namespace: "team-a".into(),
                name: name.into(),
            };
            let error = reader.read_account(&account).await.expect_err(name);
            assert_eq!(error.reason, reason, "{error}");
        }
    }

    /// Nobody answers: whatever was sent has this reason.
    fn reason_of<T>(result: Result<T, AccountTokenError>) -> Option<Reason> {
        result.err().map(|error| error.reason)
    }

    #[tokio::test]
    async fn a_namespace_does_not_take_all_requests() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let nowhere = kube::Config::new("http://127.0.0.1:1".parse().expect("a URL"));
        let client = Client::try_from(nowhere).expect("a client");
        let reader = AccountTokenReader::new(client, "packgate-system", "packgate-webhook");
        let account = |namespace: &str| AccountName {
            namespace: namespace.into(),
            name: "a".into(),
        };
        let busy = account("a");
        let all = (0..READS.namespace).map(|_| reader.request_permit(&busy));
        let held = futures::future::try_join_all(all).await.expect("free");
        let mut reading = std::pin::pin!(reader.read_account(&busy));
        let mut making = std::pin::pin!(reader.request_token(&busy, "", "sts"));
        assert!(futures::poll!(reading.as_mut()).is_pending());
        assert!(futures::poll!(making.as_mut()).is_pending());
        let other = reader.read_account(&account("b")).await;
        assert_eq!(reason_of(other), Some(Reason::RegistryUnavailable));
        assert!(futures::poll!(reading.as_mut()).is_pending(), "it waits");
        assert!(futures::poll!(making.as_mut()).is_pending(), "it waits");
        drop(held);
        assert_eq!(reason_of(reading.await), Some(Reason::RegistryUnavailable));
        assert_eq!(reason_of(making.await), Some(Reason::RegistryUnavailable));
    }

    #[tokio::test]
    async fn a_missing_permission_is_told_with_what_grants_it() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let nowhere = kube::Config::new("http://127.0.0.1:1".parse().expect("a URL"));
        let client = Client::try_from(nowhere).expect("a client");
        let reader = AccountTokenReader::new(client, "packgate-system", "packgate-webhook");
        let account = AccountName {
            namespace: "team-a".into(),
            name: "builder".into(),
        };
        let forbidden = kube::core::Status::failure("no", "Forbidden").with_code(403);
        let error = kube::Error::Api(Box::new(forbidden));
        let told = reader.api_error("request a token of", &account, &error);
        assert_eq!(told.reason, Reason::SecretAccessDenied);
        for part in [
            "may not request a token of ServiceAccount team-a/builder",
            "--clusterrole packgate-tenant-tokens",
            "value tenants",
        ] {
            assert!(told.message.contains(part), "{part}: {told}");
        }
    }
}
