//! ServiceAccounts whose tokens plug-ins get.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::{
    core::{
        credential_provider::{
            ProviderTokenAccount, ProviderTokenAttributes, ProviderTokenCacheType,
        },
        digest::Digest,
    },
    http::Redacted,
};

use super::failure::{AccountTokenError, ProviderFailure};

/// A ServiceAccount.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AccountName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What is known about a ServiceAccount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountFacts {
    /// Its UID.
    pub uid: String,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// Makes tokens of ServiceAccounts (TokenRequest). Implemented where the API server is asked.
#[async_trait]
pub trait ServiceAccountTokens: Send + Sync {
    /// The ServiceAccount of this process.
    fn own_account(&self) -> AccountName;

    /// Reads a ServiceAccount.
    async fn read_account(&self, account: &AccountName) -> Result<AccountFacts, AccountTokenError>;

    /// A token of the ServiceAccount with this UID, for this audience, that is valid for some
    /// minutes at least. `uid` is empty for the own account.
    async fn request_token(
        &self,
        account: &AccountName,
        uid: &str,
        audience: &str,
    ) -> Result<Redacted<String>, AccountTokenError>;
}

/// As whom a plug-in is run.
#[derive(Clone, Debug, Default)]
pub(super) struct ProviderIdentity {
    /// What credentials are kept for; `None` without a ServiceAccount.
    pub(super) key: Option<Digest>,
    pub(super) annotations: BTreeMap<String, String>,
    account: Option<IdentifiedAccount>,
}

#[derive(Clone, Debug)]
struct IdentifiedAccount {
    name: AccountName,
    uid: String,
    audience: String,
    /// Known already, where it is part of the key.
    token: Option<Redacted<String>>,
}

impl ProviderIdentity {
    /// As whom a plug-in with these attributes is run for a Pod's ServiceAccount. `Ok(None)`: it is
    /// not run.
    pub(super) async fn resolve(
        attributes: &ProviderTokenAttributes,
        pod_account: Option<&AccountName>,
        tokens: Option<&dyn ServiceAccountTokens>,
    ) -> Result<Option<Self>, ProviderFailure> {
        let is_own = attributes.account == ProviderTokenAccount::Installation;
        let own = tokens
            .filter(|_| is_own)
            .map(ServiceAccountTokens::own_account);
        let account = if is_own { own.as_ref() } else { pod_account };
        let (Some(account), Some(tokens)) = (account, tokens) else {
            let is_required = attributes.require_service_account.unwrap_or(true);
            return Ok((!is_required).then(Self::default));
        };
        let facts = if is_own {
            AccountFacts::default()
        } else {
            tokens.read_account(account).await?
        };
        let Some(annotations) = selected_annotations(attributes, &facts) else {
            return Ok(None);
        };
        let audience = attributes.service_account_token_audience.clone();
        let token = match attributes.cache_type {
            Some(ProviderTokenCacheType::ServiceAccount) => None,
            _ => Some(tokens.request_token(account, &facts.uid, &audience).await?),
        };
        Ok(Some(Self {
            key: Some(identity_key(
                account,
                &facts.uid,
                &annotations,
                token.as_ref(),
            )),
            annotations,
            account: Some(IdentifiedAccount {
                name: account.clone(),
                uid: facts.uid,
                audience,
                token,
            }),
        }))
    }

    /// The token for a run; `None` without a ServiceAccount.
    pub(super) async fn token(
        &self,
        tokens: Option<&dyn ServiceAccountTokens>,
    ) -> Result<Option<Redacted<String>>, ProviderFailure> {
        let (Some(account), Some(tokens)) = (&self.account, tokens) else {
            return Ok(None);
        };
        if let Some(token) = &account.token {
            return Ok(Some(token.clone()));
        }
        let token = tokens.request_token(&account.name, &account.uid, &account.audience);
        Ok(Some(token.await?))
    }
}

/// The annotations that the plug-in gets. `None`: one that it needs is absent.
fn selected_annotations(
    attributes: &ProviderTokenAttributes,
    facts: &AccountFacts,
) -> Option<BTreeMap<String, String>> {
    let entry = |key: &String| {
        let value = facts.annotations.get(key)?;
        Some((key.clone(), value.clone()))
    };
    let required = &attributes.required_service_account_annotation_keys;
    let optional = &attributes.optional_service_account_annotation_keys;
    let mut selected: BTreeMap<_, _> = required.iter().map(entry).collect::<Option<_>>()?;
    selected.extend(optional.iter().filter_map(entry));
    Some(selected)
}

fn identity_key(
    account: &AccountName,
    uid: &str,
    annotations: &BTreeMap<String, String>,
    token: Option<&Redacted<String>>,
) -> Digest {
    let token = token.map_or("", |token| token.expose());
    let mut parts = vec![account.namespace.as_str(), &account.name, uid, token];
    parts.extend(annotations.iter().flat_map(|(k, v)| [k.as_str(), v]));
    Digest::of_parts(parts.into_iter().map(str::as_bytes))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::core::reason::Reason;

    /// Accounts in the namespace `open`; each token is another one.
    #[derive(Default)]
    struct Tokens(AtomicUsize);

    #[async_trait]
    impl ServiceAccountTokens for Tokens {
        fn own_account(&self) -> AccountName {
            account("packgate-system", "packgate-webhook")
        }

        async fn read_account(
            &self,
            account: &AccountName,
        ) -> Result<AccountFacts, AccountTokenError> {
            if account.namespace != "open" {
                return Err(AccountTokenError {
                    message: "packgate may not read it".into(),
                    reason: Reason::SecretAccessDenied,
                });
            }
            Ok(AccountFacts {
                uid: format!("uid-{}", account.name),
                annotations: [("role".to_owned(), account.name.clone())].into(),
            })
        }

        async fn request_token(
            &self,
            account: &AccountName,
            _: &str,
            audience: &str,
        ) -> Result<Redacted<String>, AccountTokenError> {
            let number = self.0.fetch_add(1, Ordering::Relaxed);
            Ok(Redacted::new(format!(
                "{}-{audience}-{number}",
                account.name
            )))
        }
    }

    fn account(namespace: &str, name: &str) -> AccountName {
        AccountName {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    fn attributes(cache_type: ProviderTokenCacheType) -> ProviderTokenAttributes {
        ProviderTokenAttributes {
            service_account_token_audience: "aud".into(),
            require_service_account: Some(true),
            cache_type: Some(cache_type),
            required_service_account_annotation_keys: vec!["role".into()],
            optional_service_account_annotation_keys: vec!["absent".into()],
            account: ProviderTokenAccount::Pod,
        }
    }

    #[tokio::test]
    async fn accounts_are_told_apart() {
        let tokens = Tokens::default();
        let of_account = attributes(ProviderTokenCacheType::ServiceAccount);
        let of_token = attributes(ProviderTokenCacheType::Token);
        let resolve = async |attributes: &ProviderTokenAttributes, name: &str| {
            let name = account("open", name);
            let resolved = ProviderIdentity::resolve(attributes, Some(&name), Some(&tokens)).await;
            resolved.expect("readable").expect("it is run")
        };
        let (a, again) = (
            resolve(&of_account, "a").await,
            resolve(&of_account, "a").await,
        );
        assert_eq!(a.key, again.key);
        assert!(a.key.is_some());
        assert_ne!(a.key, resolve(&of_account, "b").await.key);
        assert_eq!(a.annotations, [("role".to_owned(), "a".to_owned())].into());
        assert_eq!(tokens.0.load(Ordering::Relaxed), 0, "none before a run");
        let token = a
            .token(Some(&tokens))
            .await
            .expect("made")
            .expect("a token");
        assert_eq!(token.expose(), "a-aud-0");
        let (one, two) = (resolve(&of_token, "a").await, resolve(&of_token, "a").await);
        assert_ne!(one.key, two.key, "each token");
        let token = one
            .token(Some(&tokens))
            .await
            .expect("made")
            .expect("a token");
        assert_eq!(token.expose(), "a-aud-1", "the one of the key");
        assert!(!format!("{one:?}").contains("a-aud"));
    }

    #[tokio::test]
    async fn a_plug_in_is_left_out_as_in_kubelet() {
        let tokens = Tokens::default();
        let base = attributes(ProviderTokenCacheType::ServiceAccount);
        let optional = ProviderTokenAttributes {
            require_service_account: Some(false),
            required_service_account_annotation_keys: vec![],
            ..base.clone()
        };
        let other = ProviderTokenAttributes {
            required_service_account_annotation_keys: vec!["absent".into()],
            ..base.clone()
        };
        let own = ProviderTokenAttributes {
            account: ProviderTokenAccount::Installation,
            required_service_account_annotation_keys: vec![],
            ..base.clone()
        };
        let pod = account("open", "a");
        for (attributes, pod, with_tokens, runs, has_key) in [
            (&base, Some(&pod), true, true, true),
            (&base, None, true, false, false),
            (&base, Some(&pod), false, false, false),
            (&optional, None, true, true, false),
            (&optional, Some(&pod), false, true, false),
            (&other, Some(&pod), true, false, false),
            (&own, None, true, true, true),
            (&own, Some(&pod), false, false, false),
        ] {
            let tokens = with_tokens.then_some(&tokens as &dyn ServiceAccountTokens);
            let resolved = ProviderIdentity::resolve(attributes, pod, tokens).await;
            let resolved = resolved.expect("readable");
            assert_eq!(resolved.is_some(), runs, "{attributes:?} {pod:?}");
            let key = resolved.and_then(|identity| identity.key);
            assert_eq!(key.is_some(), has_key, "{attributes:?} {pod:?}");
        }
        let closed = account("closed", "a");
        let error = ProviderIdentity::resolve(&base, Some(&closed), Some(&tokens)).await;
        let error = error.expect_err("no permission");
        assert_eq!(error.reason, Reason::SecretAccessDenied);
        assert!(error.cause.contains("may not read"), "{}", error.cause);
    }
}
