use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::{
    core::reason::ClassifiedError,
    credential_providers::{AccountFacts, AccountTokenError},
    http::Redacted,
};

/// A plug-in that is a script, in a folder of its own. Each run adds a line to `runs`.
struct Script {
    folder: TempDir,
    settings: Value,
}

impl Script {
    /// The script finds the request in `$REQUEST` and the number of its run in `$RUN`.
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().display();
        let head = format!(
            "cd {path}; REQUEST=$(cat); echo \"$REQUEST\" >> runs; RUN=$(wc -l < runs | tr -d ' ')\n"
        );
        let script = folder.path().join("plugin.sh");
        fs::write(&script, head + text).expect("a script");
        let settings = json!({
            "name": "test-provider", "command": "/bin/sh", "args": [script],
            "matchImages": ["r.example.com", "*.example.org"], "defaultCacheDuration": "1h",
        });
        Self { folder, settings }
    }

    /// It prints this response, with `$RUN` in its place.
    fn responding(change: &Value) -> Self {
        let mut document = json!({
            "kind": "CredentialProviderResponse",
            "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "cacheKeyType": "Registry",
            "auth": {
                "r.example.com": {"username": "user", "password": "secret-$RUN"},
                "*.example.org": {"username": "other", "password": "secret-$RUN"},
            },
        });
        for (key, value) in change.as_object().expect("an object") {
            document[key] = value.clone();
        }
        Self::new(&format!("sleep 0.1; cat <<END\n{document}\nEND\n"))
    }

    fn set(mut self, key: &str, value: Value) -> Self {
        self.settings[key] = value;
        self
    }

    fn providers(&self, wait: Duration) -> CredentialProviders {
        let settings = serde_json::from_value(self.settings.clone()).expect("of the form");
        CredentialProviders::new(vec![settings], Path::new("/"), None, wait)
    }

    fn store(&self) -> Arc<dyn CredentialStore> {
        let patient = Duration::from_secs(30);
        self.providers(patient)
            .for_requester(ProviderRequester::default())
    }

    fn runs(&self) -> usize {
        let runs = fs::read_to_string(self.folder.path().join("runs"));
        runs.map_or(0, |text| text.lines().count())
    }
}

fn repository(name: &str) -> ImageRepository {
    name.parse().expect(name)
}

async fn passwords(store: &Arc<dyn CredentialStore>, name: &str) -> Vec<String> {
    let lookup = store.credentials_for_repository(&repository(name)).await;
    assert_eq!(lookup.failures, []);
    shown(lookup)
}

fn shown(lookup: CredentialLookup) -> Vec<String> {
    lookup
        .found
        .into_iter()
        .map(|found| {
            assert_eq!(found.source, "credential provider test-provider");
            match found.credentials {
                RegistryCredentials::Password { password, .. } => password.expose().clone(),
                other => panic!("{other:?}"),
            }
        })
        .collect()
}

async fn failure(store: &Arc<dyn CredentialStore>, name: &str) -> RegistryCredentialError {
    let lookup = store.credentials_for_repository(&repository(name)).await;
    assert_eq!(lookup.found, []);
    let [failure] = lookup.failures.as_slice() else {
        panic!("{:?}", lookup.failures);
    };
    failure.clone()
}

#[tokio::test]
async fn a_plug_in_is_asked_for_what_matches_and_no_more() {
    let script = Script::responding(&json!({}));
    let store = script.store();
    assert_eq!(passwords(&store, "s.example.com/app").await, [""; 0]);
    assert_eq!(script.runs(), 0);
    assert_eq!(
        passwords(&store, "r.example.com/team/app").await,
        ["secret-1"]
    );
    let request = fs::read_to_string(script.folder.path().join("runs")).expect("a run");
    let request: Value = serde_json::from_str(&request).expect("JSON");
    assert_eq!(
        request,
        json!({"kind": "CredentialProviderRequest", "image": "r.example.com/team/app",
            "apiVersion": "credentialprovider.kubelet.k8s.io/v1"})
    );
    assert_eq!(passwords(&store, "r.example.com/other").await, ["secret-1"]);
    assert_eq!(script.runs(), 1, "kept for the registry");
    assert_eq!(passwords(&store, "r.example.org/app").await, ["secret-2"]);
}

#[tokio::test]
async fn answers_are_kept_as_long_as_the_plug_in_says() {
    for (change, default, runs) in [
        (json!({}), "1h", 1),
        (json!({}), "0s", 3),
        (json!({"cacheDuration": "0s"}), "1h", 3),
        (json!({"cacheDuration": "1h"}), "0s", 1),
        (json!({"cacheKeyType": "Image"}), "1h", 1),
        (json!({"cacheKeyType": "Global"}), "1h", 1),
    ] {
        let script = Script::responding(&change).set("defaultCacheDuration", json!(default));
        let store = script.store();
        for _ in 0..3 {
            assert_eq!(passwords(&store, "r.example.com/app").await.len(), 1);
        }
        assert_eq!(script.runs(), runs, "{change} {default}");
    }
}

#[tokio::test]
async fn an_answer_that_ends_is_renewed_before() {
    let script = Script::responding(&json!({"cacheDuration": "4s"}));
    let store = script.store();
    let sleep = async |milliseconds| {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    };
    assert_eq!(passwords(&store, "r.example.com/app").await, ["secret-1"]);
    sleep(3_400).await;
    let known = passwords(&store, "r.example.com/app").await;
    assert_eq!(known, ["secret-1"], "nobody waits for the next");
    sleep(1_600).await;
    assert_eq!(passwords(&store, "r.example.com/app").await, ["secret-2"]);
    assert_eq!(script.runs(), 2);
    sleep(4_500).await;
    assert_eq!(passwords(&store, "r.example.com/app").await, ["secret-3"]);
}

#[tokio::test]
async fn one_program_runs_for_what_its_answer_is_kept_for() {
    for (key_type, duration, runs) in [
        ("Registry", "1h", 1),
        ("Registry", "0s", 1),
        ("Global", "1h", 1),
        ("Image", "1h", 4),
    ] {
        let change = json!({"cacheKeyType": key_type, "cacheDuration": duration});
        let script = Script::responding(&change);
        let store = script.store();
        let asking = (0..20).map(|number| {
            let name = format!("r.example.com/app-{}", number % 4);
            let store = &store;
            async move { passwords(store, &name).await.len() }
        });
        assert_eq!(join_all(asking).await, [1; 20]);
        assert_eq!(script.runs(), runs, "{key_type} {duration}");
    }
}

#[tokio::test]
async fn refused_credentials_are_replaced_once() {
    let script = Script::responding(&json!({}));
    let store = script.store();
    let app = repository("r.example.com/app");
    let found = store.credentials_for_repository(&app).await.found;
    let refused = [found[0].credentials.clone()];
    let other = [RegistryCredentials::RegistryToken("x".to_owned().into())];
    let unchanged = store.renew_credentials(&app, &other).await;
    assert_eq!(shown(unchanged), ["secret-1"], "others were refused");
    let renewing = (0..10).map(|_| store.renew_credentials(&app, &refused));
    for renewed in join_all(renewing).await {
        assert_eq!(shown(renewed), ["secret-2"]);
    }
    assert_eq!(script.runs(), 2);
    let found = store.credentials_for_repository(&app).await.found;
    let refused = [found[0].credentials.clone()];
    let again = store.renew_credentials(&app, &refused).await;
    assert_eq!(shown(again), [""; 0], "the registry refuses every one");
    assert_eq!(script.runs(), 2);
}

#[tokio::test]
async fn a_plug_in_that_fails_is_told_by_its_name() {
    let right = r#"{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"Image","auth":{"r.example.com":{"username":"u","password":"hunter2"}}}"#;
    for (script, told) in [
        ("exit 3".to_owned(), "exit code 3"),
        (
            "echo; echo no role >&2; echo more >&2; exit 1".to_owned(),
            "exit code 1: no role",
        ),
        ("kill -9 $$".to_owned(), "killed by"),
        ("echo hunter2".to_owned(), "line 1"),
        ("true".to_owned(), "its output is empty"),
        (format!("echo '{right}'; exit 1"), "exit code 1"),
        (format!("echo '{right}' hunter2"), "line 1"),
        (
            format!("echo '{right}' | sed s/Provider/Giver/"),
            "not CredentialProviderResponse",
        ),
        (
            format!("echo '{right}' | sed s,io/v1,io/v1beta1,"),
            "not of",
        ),
        (format!("echo '{right}' | sed s/Image/Pod/"), "cacheKeyType"),
        ("yes hunter2".to_owned(), "more than 1048576 bytes"),
        ("sleep 20 & sleep 20".to_owned(), "no response within 1 s"),
    ] {
        let plugin = Script::new(&script).set("timeoutSeconds", json!(1));
        let begun = Instant::now();
        let error = failure(&plugin.store(), "r.example.com/app").await;
        assert!(begun.elapsed() < Duration::from_secs(10), "{script}");
        assert_eq!(error.reason(), Reason::RegistryUnavailable, "{script}");
        let message = error.to_string();
        assert!(
            message.starts_with("credential provider test-provider: "),
            "{message}"
        );
        assert!(message.contains(told), "{script}: {message}");
        assert!(!message.contains("hunter2"), "{script}: {message}");
    }
    let absent = Script::new("").set("command", json!("/nowhere/plugin"));
    let message = failure(&absent.store(), "r.example.com/app")
        .await
        .to_string();
    assert!(
        message.contains("/nowhere/plugin cannot be run"),
        "{message}"
    );
    let text = Script::new("").set("command", json!("/etc/passwd"));
    let message = failure(&text.store(), "r.example.com/app")
        .await
        .to_string();
    assert!(message.contains("noexec"), "{message}");
}

#[tokio::test]
async fn a_failure_is_remembered_for_its_image() {
    let script = Script::new("exit 1");
    let store = script.store();
    for _ in 0..5 {
        failure(&store, "r.example.com/app").await;
    }
    assert_eq!(script.runs(), 1);
    failure(&store, "r.example.com/other").await;
    assert_eq!(script.runs(), 2);
}

#[tokio::test]
async fn a_run_goes_on_when_nobody_waits_any_more() {
    let script = Script::responding(&json!({}));
    let path = script.folder.path().join("plugin.sh");
    let slow = fs::read_to_string(&path)
        .expect("the script")
        .replace("sleep 0.1", "sleep 1");
    fs::write(&path, slow).expect("a slower one");
    let providers = script.providers(Duration::from_millis(200));
    let store = providers.for_requester(ProviderRequester::default());
    let error = failure(&store, "r.example.com/app").await;
    assert!(
        error.to_string().contains("no response within 0.2 s"),
        "{error}"
    );
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(passwords(&store, "r.example.com/app").await, ["secret-1"]);
    assert_eq!(script.runs(), 1);
}

#[tokio::test]
async fn a_plug_in_gets_its_variables_and_none_of_our_secrets() {
    let script = Script::new(
        "test -z \"$COSIGN_PASSWORD\" && test -z \"$SIGSTORE_ID_TOKEN\" && test \"$KEPT\" = kept \
         && test -n \"$PATH\" || exit 1\nexit 7",
    )
    .set(
        "env",
        json!([{"name": "KEPT", "value": "kept"}, {"name": "COSIGN_PASSWORD", "value": "x"}]),
    );
    let error = failure(&script.store(), "r.example.com/app").await;
    assert!(error.to_string().ends_with("exit code 7"), "{error}");
}

#[tokio::test]
async fn several_plug_ins_are_asked_in_their_order() {
    let (one, two) = (Script::responding(&json!({})), Script::new("exit 1"));
    let settings = [&two, &one, &one]
        .map(|script| serde_json::from_value(script.settings.clone()).expect("of the form"));
    let patient = Duration::from_secs(30);
    let store = CredentialProviders::new(settings.into(), Path::new("/"), None, patient)
        .for_requester(ProviderRequester::default());
    let lookup = store
        .credentials_for_repository(&repository("r.example.com/app"))
        .await;
    assert_eq!(lookup.failures.len(), 1, "one that fails hides no other");
    assert!((1..=2).contains(&lookup.found.len()), "{:?}", lookup.found);
}

/// Tokens of accounts in the namespaces `team-a` and `team-b`.
struct Tokens;

#[async_trait]
impl ServiceAccountTokens for Tokens {
    fn own_account(&self) -> AccountName {
        AccountName {
            namespace: "packgate-system".into(),
            name: "packgate-webhook".into(),
        }
    }

    async fn read_account(&self, account: &AccountName) -> Result<AccountFacts, AccountTokenError> {
        if account.namespace.starts_with("team-") {
            let uid = format!("uid-of-{}", account.namespace);
            return Ok(AccountFacts {
                uid,
                ..AccountFacts::default()
            });
        }
        Err(AccountTokenError {
            message: format!("packgate may not read ServiceAccount {}", account.name),
            reason: Reason::SecretAccessDenied,
        })
    }

    async fn request_token(
        &self,
        account: &AccountName,
        _: &str,
        audience: &str,
    ) -> Result<Redacted<String>, AccountTokenError> {
        let AccountName { namespace, name } = account;
        Ok(Redacted::new(format!("{namespace}.{name}.{audience}")))
    }
}

#[tokio::test]
async fn each_account_gets_what_its_token_opens() {
    let script = Script::new(
        "TOKEN=$(echo \"$REQUEST\" | sed 's/.*serviceAccountToken\":\"\\([^\"]*\\).*/\\1/')\ncat \
         <<END\n{\"kind\":\"CredentialProviderResponse\",\"apiVersion\":\"credentialprovider.kubelet.k8s.io/v1\",\"cacheKeyType\":\"Global\",\"auth\":{\"r.example.com\":{\"username\":\"u\",\"password\":\"for-$TOKEN\"}}}\nEND",
    )
    .set(
        "tokenAttributes",
        json!({
            "serviceAccountTokenAudience": "aud", "requireServiceAccount": true,
            "cacheType": "ServiceAccount",
        }),
    );
    let settings = serde_json::from_value(script.settings.clone()).expect("of the form");
    let patient = Duration::from_secs(30);
    let tokens = Some(Arc::new(Tokens) as Arc<dyn ServiceAccountTokens>);
    let providers = CredentialProviders::new(vec![settings], Path::new("/"), tokens, patient);
    let store = |namespace: &str, account: Option<&str>| {
        providers.for_requester(ProviderRequester {
            namespace: namespace.into(),
            service_account: account.map(ToOwned::to_owned),
        })
    };
    for _ in 0..2 {
        for (namespace, account, expected) in [
            ("team-a", Some("x"), vec!["for-team-a.x.aud"]),
            ("team-b", Some("x"), vec!["for-team-b.x.aud"]),
            ("team-a", Some("y"), vec!["for-team-a.y.aud"]),
            ("team-a", None, vec![]),
        ] {
            let found = passwords(&store(namespace, account), "r.example.com/app").await;
            assert_eq!(found, expected, "{namespace} {account:?}");
        }
    }
    assert_eq!(script.runs(), 3, "kept for each account");
    let error = failure(&store("closed", Some("x")), "r.example.com/app").await;
    assert_eq!(error.reason(), Reason::SecretAccessDenied);
    let told = error.to_string();
    assert!(
        told.starts_with("credential provider test-provider: packgate may not"),
        "{told}"
    );
}
