//! Credential provider plug-ins, with the real binary and with registries that ask for passwords
//! and for tokens. Each plug-in is a script that counts its runs.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use packgate::{
    core::{
        credential_provider::parse_provider_config,
        limits::InputLimits,
        reason::{ClassifiedError, Reason},
        reference::TagOrDigest,
    },
    credential_providers::{CredentialProviders, ProviderRequester},
    http::{HttpClient, HttpOptions, HttpProxy},
    oci::{
        ContentSource, OciError,
        credentials::CredentialStore,
        remote::{RegistryOptions, RegistryTarget},
    },
};
use serde_json::json;

use crate::support::{
    cli::{Run, Workspace},
    registry::{Auth, Registry, Settings},
};

const OPTIONS: &str =
    "--credential-provider-config providers.yaml --credential-provider-bin-dir bin";
const SECRET: &str = "hunter2-of-the-provider";

/// A workspace with a plug-in for these images.
fn with_plugin(match_images: &[&str], script: &str) -> Workspace {
    let workspace = Workspace::with_lock();
    fs::create_dir(workspace.file("bin")).expect("a folder");
    // A shell under the plug-in's name: a script that was just written might not be run yet.
    symlink("/bin/sh", workspace.file("bin/test-provider")).expect("a link");
    let path = workspace.path().display();
    let head = format!(
        "cd {path}; cat > request.json; echo run >> runs; RUN=$(wc -l < runs | tr -d ' ')\n"
    );
    workspace.write("plugin.sh", head + script);
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig",
        "providers": [{
            "name": "test-provider", "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
            "matchImages": match_images, "defaultCacheDuration": "1h",
            "args": [workspace.file("plugin.sh")], "timeoutSeconds": 2,
            "env": [{"name": "GREETING", "value": "hello"}],
        }],
    });
    workspace.write("providers.yaml", config.to_string());
    workspace
}

/// A script that gives this password to `user`; `$RUN` is the number of the run.
fn giving(password: &str, duration: &str) -> String {
    let response = json!({
        "kind": "CredentialProviderResponse",
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "cacheKeyType": "Registry", "cacheDuration": duration,
        "auth": {"127.0.0.1:PORT": {"username": "user", "password": password}},
    });
    // The registry's port is known from the request only.
    format!(
        "PORT=$(sed 's/.*127.0.0.1:\\([0-9]*\\).*/\\1/' request.json)\ncat <<END | sed \
         \"s/PORT/$PORT/\"\n{response}\nEND\n"
    )
}

fn runs(folder: &Path) -> usize {
    fs::read_to_string(folder.join("runs")).map_or(0, |text| text.lines().count())
}

fn pack(workspace: &Workspace, registry: &Registry) -> Run {
    let host = registry.host();
    workspace.run(&format!(
        "pack lock.yaml --plain-http --to {host}/team/app:v1 {OPTIONS}"
    ))
}

async fn registry(auth: Auth) -> Registry {
    Registry::with(Settings {
        auth,
        ..Settings::default()
    })
    .await
}

/// A repository of the registry, read with the plug-in as a long-running process does.
fn target_of(workspace: &Workspace, registry: &Registry) -> RegistryTarget {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let settings = parse_provider_config(&workspace.read("providers.yaml")).expect("valid");
    let folder = workspace.file("bin");
    let patient = Duration::from_secs(30);
    let store: Arc<dyn CredentialStore> =
        CredentialProviders::new(settings, &folder, None, patient)
            .for_requester(ProviderRequester::default());
    let repository = format!("{}/team/app", registry.host());
    let http = HttpClient::new(&HttpOptions {
        proxy: HttpProxy::Direct,
        ..HttpOptions::default()
    });
    RegistryTarget::new(
        repository.parse().expect("a repository"),
        &http.expect("a client"),
        store,
        RegistryOptions {
            plain_http: true,
            ..RegistryOptions::default()
        },
    )
    .expect("a target")
}

async fn read(target: &RegistryTarget) -> Result<(), OciError> {
    let tag = TagOrDigest::Tag("v1".parse().expect("a tag"));
    let read = target.resolve_manifest(&tag, &InputLimits::DEFAULT).await;
    read.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plug_in_gives_what_a_registry_asks_for() {
    for auth in [Auth::Basic("user", SECRET), Auth::Token("user", SECRET)] {
        let registry = registry(auth).await;
        let workspace = with_plugin(&["127.0.0.1:*", &registry.host()], &giving(SECRET, "1h"));
        let host = registry.host();
        let without = workspace.run(&format!(
            "pack lock.yaml --plain-http --to {host}/team/app:v1"
        ));
        without.refused(3, "RegistryDenied");
        assert_eq!(runs(workspace.path()), 0);
        let packed = pack(&workspace, &registry);
        packed.ok();
        assert_eq!(
            runs(workspace.path()),
            1,
            "once for all requests of a command"
        );
        let request: serde_json::Value =
            serde_json::from_str(&workspace.read("request.json")).expect("JSON");
        assert_eq!(
            request,
            json!({"kind": "CredentialProviderRequest", "image": format!("{host}/team/app"),
                "apiVersion": "credentialprovider.kubelet.k8s.io/v1"})
        );
        let inspected = workspace.run(&format!(
            "inspect --plain-http {host}/team/app:v1 -vv {OPTIONS}"
        ));
        inspected.ok();
        for output in [
            &packed.stdout,
            &packed.stderr,
            &inspected.stdout,
            &inspected.stderr,
        ] {
            assert!(!output.contains(SECRET), "{output}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plug_in_is_not_run_for_other_images() {
    let registry = registry(Auth::Basic("user", SECRET)).await;
    for images in [
        &["127.0.0.1"][..],
        &["*.example.com"],
        &["127.0.0.1:1"],
        &["registry.example.com"],
    ] {
        let workspace = with_plugin(images, &giving(SECRET, "1h"));
        pack(&workspace, &registry).refused(3, "RegistryDenied");
        assert_eq!(runs(workspace.path()), 0, "{images:?}");
    }
    let other_path = format!("{}/other", registry.host());
    let workspace = with_plugin(&[&other_path], &giving(SECRET, "1h"));
    pack(&workspace, &registry).refused(3, "RegistryDenied");
    assert_eq!(runs(workspace.path()), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_credentials_comes_first() {
    let registry = registry(Auth::Basic("user", SECRET)).await;
    let host = registry.host();
    let workspace = with_plugin(&[&host], &giving("not-the-password", "1h"));
    let auths = json!({"auths": {&host: {"username": "user", "password": SECRET}}});
    workspace.write("auth.json", auths.to_string());
    let line =
        format!("pack lock.yaml --plain-http --to {host}/team/app:v1 --registry-config auth.json");
    workspace.run(&format!("{line} {OPTIONS}")).ok();
    let shown = registry.authorizations();
    assert!(shown.iter().all(|one| *one == shown[0]), "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plug_in_that_fails_is_told_by_its_name() {
    let registry = registry(Auth::Basic("user", SECRET)).await;
    let host = registry.host();
    let right = giving(SECRET, "1h");
    for (script, told) in [
        ("exit 3".to_owned(), "exit code 3"),
        (
            format!("{right}echo the role is missing >&2; exit 1"),
            "exit code 1: the role is missing",
        ),
        ("kill -9 $$".to_owned(), "killed by"),
        (format!("echo {SECRET}"), "line 1"),
        (
            format!("{right}echo {SECRET}"),
            "is no CredentialProviderResponse",
        ),
        (format!("yes {SECRET}"), "more than 1048576 bytes"),
        (
            format!("({right}) | sed 's,io/v1,io/v1alpha1,'"),
            "not of credentialprovider.kubelet.k8s.io/v1",
        ),
        (format!("({right}) | sed s/Registry/Pod/"), "cacheKeyType"),
        ("sleep 30 & sleep 30".to_owned(), "no response within 2 s"),
    ] {
        let workspace = with_plugin(&[&host], &script);
        let begun = Instant::now();
        let run = pack(&workspace, &registry);
        assert!(begun.elapsed() < Duration::from_secs(20), "{script}");
        run.refused(3, "RegistryUnavailable");
        let said = format!("{}{}", run.stdout, run.stderr);
        assert!(
            said.contains("credential provider test-provider: "),
            "{said}"
        );
        assert!(said.contains(told), "{script}: {said}");
        assert!(!said.contains(SECRET), "{script}: {said}");
        assert_eq!(runs(workspace.path()), 1, "{script}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plug_in_that_fails_hides_no_other_credentials() {
    let registry = registry(Auth::Basic("user", SECRET)).await;
    let host = registry.host();
    let workspace = with_plugin(&[&host], "exit 3");
    for (password, code, told) in [
        (SECRET, 0, ""),
        (
            "wrong",
            3,
            "not tried: credential provider test-provider: exit code 3",
        ),
    ] {
        let auths = json!({"auths": {&host: {"username": "user", "password": password}}});
        workspace.write("auth.json", auths.to_string());
        let run = workspace.run(&format!(
            "pack lock.yaml --plain-http --to {host}/team/app:v1 --registry-config auth.json \
                {OPTIONS}"
        ));
        assert_eq!(run.code, code, "{run:#?}");
        assert!(run.stderr.contains(told), "{run:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_is_refused_with_the_name_of_the_field() {
    let workspace = with_plugin(&["r.example.com"], "");
    let right = workspace.read("providers.yaml");
    for (from, to, told) in [
        (
            r#""r.example.com""#,
            r#""https://r.example.com""#,
            "providers[0].matchImages[0]",
        ),
        ("\"1h\"", "\"1d\"", "providers[0].defaultCacheDuration"),
        ("CredentialProviderConfig", "KubeletConfiguration", "kind"),
        ("\"env\"", "\"environment\"", "environment"),
        ("test-provider", "absent", "absent does not exist"),
    ] {
        workspace.write("providers.yaml", right.replace(from, to));
        let run = workspace.run(&format!("inspect r.example.com/team/app:v1 {OPTIONS}"));
        run.refused(2, "InvalidSpec");
        assert!(run.stderr.contains(told), "{told}: {run:#?}");
        assert!(run.stderr.contains("providers.yaml"), "{run:#?}");
    }
    let run =
        workspace.run("inspect r.example.com/a:v1 --credential-provider-config providers.yaml");
    assert_eq!(run.code, 2, "without the folder: {run:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_end_are_renewed() {
    for auth in [
        Auth::Basic("user", "token-1"),
        Auth::Token("user", "token-1"),
    ] {
        let is_basic = matches!(auth, Auth::Basic(..));
        let registry = Registry::with(Settings {
            token_seconds: 1,
            ..Settings::default()
        })
        .await;
        let workspace = with_plugin(&[&registry.host()], &giving("token-$RUN", "2s"));
        workspace
            .run(&format!(
                "pack lock.yaml --plain-http --to {}/team/app:v1",
                registry.host()
            ))
            .ok();
        registry.set(|settings| settings.auth = auth);
        let target = target_of(&workspace, &registry);
        for run in 1..=3 {
            let password = ["token-1", "token-2", "token-3"][run - 1];
            registry.set(|settings| {
                settings.auth = if is_basic {
                    Auth::Basic("user", password)
                } else {
                    Auth::Token("user", password)
                };
            });
            read(&target).await.expect("renewed");
            read(&target).await.expect("kept");
            assert_eq!(runs(workspace.path()), run, "{password}");
            tokio::time::sleep(Duration::from_millis(2_300)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_credentials_are_renewed_once() {
    let kinds: [fn(&'static str) -> Auth; 2] = [
        |password| Auth::Basic("user", password),
        |password| Auth::Token("user", password),
    ];
    for auth in kinds {
        let registry = Registry::start().await;
        let workspace = with_plugin(&[&registry.host()], &giving("token-$RUN", "1h"));
        workspace
            .run(&format!(
                "pack lock.yaml --plain-http --to {}/team/app:v1",
                registry.host()
            ))
            .ok();
        // Withdrawn before its end: the plug-in is run again, and once.
        registry.set(|settings| settings.auth = auth("token-2"));
        let target = target_of(&workspace, &registry);
        let reading = (0..8).map(|_| read(&target));
        for outcome in futures::future::join_all(reading).await {
            outcome.expect("renewed");
        }
        assert_eq!(runs(workspace.path()), 2);
        // No further run helps: it is told, and does not keep the plug-in busy.
        registry.set(|settings| settings.auth = auth("another"));
        for _ in 0..3 {
            let fresh = target_of(&workspace, &registry);
            let error = read(&fresh).await.expect_err("refused");
            assert_eq!(error.reason(), Reason::RegistryDenied, "{error}");
            let told = error.to_string();
            assert!(
                told.contains("tried: credential provider test-provider"),
                "{told}"
            );
            assert!(!told.contains("token-"), "{told}");
        }
        assert_eq!(runs(workspace.path()), 2 + 3 * 2, "twice for each process");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_requests_run_a_plug_in_once() {
    let registry = registry(Auth::None).await;
    let script = format!("sleep 0.3\n{}", giving(SECRET, "1h"));
    let workspace = with_plugin(&[&registry.host()], &script);
    workspace
        .run(&format!(
            "pack lock.yaml --plain-http --to {}/team/app:v1",
            registry.host()
        ))
        .ok();
    registry.set(|settings| settings.auth = Auth::Basic("user", SECRET));
    let target = target_of(&workspace, &registry);
    let reading = (0..20).map(|_| read(&target));
    for outcome in futures::future::join_all(reading).await {
        outcome.expect("let in");
    }
    assert_eq!(runs(workspace.path()), 1);
}
