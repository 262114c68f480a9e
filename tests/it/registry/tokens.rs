//! Token services: where they may be, what they answer, and what is told of a refusal.

use std::sync::Arc;

use packgate::{
    core::{
        limits::InputLimits,
        reason::{ClassifiedError, Reason},
    },
    http::{ErrorAdvice, HttpClient, HttpOptions},
    oci::{
        ContentSource, OciError,
        credentials::{HostCredentials, RegistryCredentials},
        remote::{AllowedTokenService, RegistryOptions, RegistryTarget},
    },
};
use serde_json::json;

use super::{REPOSITORY, SECRET, by_tag, options, reason, signed_in, with_subject};
use crate::support::{
    cli::Workspace,
    registry::{Auth, Fault, Registry, Settings},
};

/// A registry with tokens, and a token that it takes for reading.
async fn with_token() -> (Registry, String) {
    let (registry, _) = with_subject(Settings {
        auth: Auth::Token("alice", SECRET),
        ..Settings::default()
    })
    .await;
    ask(&signed_in(&registry)).await.expect("let in");
    let shown = registry.authorizations().pop().expect("a token");
    let token = shown.trim_start_matches("Bearer ").to_owned();
    (registry, token)
}

fn with_services(registry: &Registry, services: &[String], http: &HttpOptions) -> RegistryTarget {
    let parse = |url: &String| AllowedTokenService::parse(url).expect("a URL");
    let credentials = HostCredentials {
        host: registry.host(),
        credentials: RegistryCredentials::Password {
            username: "alice".into(),
            password: SECRET.to_owned().into(),
        },
    };
    RegistryTarget::new(
        format!("{}/{REPOSITORY}", registry.host())
            .parse()
            .expect("a repository"),
        &HttpClient::new(http).expect("a client"),
        Arc::new(credentials),
        RegistryOptions {
            plain_http: true,
            token_services: services.iter().map(parse).collect(),
            ..RegistryOptions::default()
        },
    )
    .expect("a target")
}

async fn ask(target: &RegistryTarget) -> Result<(), OciError> {
    target
        .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
        .await
        .map(|_| ())
}

#[tokio::test]
async fn answers_have_several_forms() {
    let (registry, token) = with_token().await;
    for body in [
        json!({"token": "", "access_token": token, "expires_in": 300}),
        json!({"access_token": token, "expires_in": "300"}),
        json!({"token": token, "access_token": null, "expires_in": 299.5}),
        json!({"token": token, "expires_in": -1}),
        json!({"token": token, "expires_in": null}),
        json!({"token": token, "expires_in": 1e30, "issued_at": "2026-11-30T00:00:00Z"}),
    ] {
        registry.heal();
        registry.fault(Fault::on("GET", "/token").body(body.to_string()));
        let answer = ask(&signed_in(&registry)).await;
        answer.unwrap_or_else(|error| panic!("{body}: {error}"));
    }
    for (body, words) in [
        ("{}", "\"access_token\""),
        (r#"{"token":7}"#, "\"token\""),
        ("<html>", "not a JSON object"),
        (r#"{"token":"hunter2\u0000"}"#, "characters"),
    ] {
        registry.heal();
        registry.fault(Fault::on("GET", "/token").body(body));
        let error = ask(&signed_in(&registry)).await.expect_err(body);
        assert_eq!(error.reason(), Reason::RegistryDenied, "{body}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_refusal_is_told_in_the_services_words() {
    let (registry, _) = with_subject(Settings {
        auth: Auth::Token("alice", SECRET),
        ..Settings::default()
    })
    .await;
    for (status, body) in [
        (401, r#"{"details":"no right"}"#),
        (
            403,
            r#"{"errors":[{"code":"DENIED","message":"no right"}]}"#,
        ),
        (
            400,
            r#"{"error":"invalid_grant","error_description":"no right"}"#,
        ),
        (403, r#"{"error":{"code":403,"message":"no right"}}"#),
        (404, r#"{"code":"X","message":"no right"}"#),
    ] {
        registry.heal();
        registry.fault(Fault::on("GET", "/token").status(status).body(body));
        let error = ask(&signed_in(&registry)).await.expect_err(body);
        assert_eq!(error.reason(), Reason::RegistryDenied, "{body}");
        let text = error.to_string();
        let told = [
            format!("HTTP {status}"),
            format!("no token from {}/token", registry.origin()),
            "no right".into(),
        ];
        assert!(told.iter().all(|words| text.contains(words)), "{text}");
    }
    registry.heal();
    registry.fault(Fault::on("GET", "/token").echo(403));
    let error = ask(&signed_in(&registry)).await.expect_err("refused");
    let text = format!("{error} {error:?}");
    let shown = registry.authorizations().pop().expect("shown");
    let encoded = shown.trim_start_matches("Basic ");
    assert!(text.contains("you sent"), "{text}");
    assert!(!text.contains(SECRET) && !text.contains(encoded), "{text}");
}

#[tokio::test]
async fn after_a_401_without_a_challenge_the_known_service_is_asked_once() {
    let (registry, _) = with_subject(Settings {
        auth: Auth::Token("alice", SECRET),
        ..Settings::default()
    })
    .await;
    let target = signed_in(&registry);
    ask(&target).await.expect("let in");
    registry.fault(Fault::on("GET", "/manifests/").status(401).times(1));
    ask(&target).await.expect("let in with a new token");
    assert_eq!(registry.count("GET", "/token"), 2);
    registry.fault(Fault::on("GET", "/manifests/").status(401));
    let before = registry.requests().len();
    assert_eq!(reason(ask(&target).await), Reason::RegistryDenied);
    assert_eq!(
        registry.requests().len() - before,
        3,
        "asked, token, asked: no loop"
    );
    // Without a challenge before there is no service to ask.
    assert_eq!(
        reason(ask(&signed_in(&registry)).await),
        Reason::RegistryDenied
    );
    assert_eq!(registry.count("GET", "/token"), 3);
}

#[tokio::test]
async fn a_service_elsewhere_gets_credentials_only_if_it_is_allowed() {
    let (registry, token) = with_token().await;
    let service = Registry::with(Settings {
        auth: Auth::Token("alice", SECRET),
        ..Settings::default()
    })
    .await;
    service.fault(Fault::on("GET", "/token").body(json!({"token": token}).to_string()));
    registry.set(|s| s.realm = Some(format!("{}/token", service.origin())));
    for (services, advice) in [
        (vec![], ErrorAdvice::CommandLine),
        (
            vec!["http://127.0.0.1:1".to_owned()],
            ErrorAdvice::CommandLine,
        ),
        (
            vec![format!("{}/tok", service.origin())],
            ErrorAdvice::Cluster,
        ),
        (
            vec![format!("https://{}", service.host())],
            ErrorAdvice::Cluster,
        ),
    ] {
        let http = HttpOptions {
            error_advice: advice,
            ..options()
        };
        let error = ask(&with_services(&registry, &services, &http))
            .await
            .expect_err("refused");
        assert_eq!(error.reason(), Reason::RegistryDenied, "{error}");
        let way_out = match advice {
            ErrorAdvice::CommandLine => {
                format!("--token-service {}={}", registry.host(), service.origin())
            }
            ErrorAdvice::Cluster => format!(
                "registries: [{{host: {:?}, tokenServices: [{:?}]}}]",
                registry.host(),
                service.origin()
            ),
        };
        assert!(error.to_string().contains(&way_out), "{error}");
        assert_eq!(service.requests().len(), 0);
    }
    ask(&with_services(&registry, &[service.origin()], &options()))
        .await
        .expect("let in");
    assert_eq!(service.count("GET", "/token"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_allows_a_token_service() {
    let (registry, token) = with_token().await;
    let service = Registry::start().await;
    service.fault(Fault::on("GET", "/token").body(json!({"token": token}).to_string()));
    registry.set(|s| s.realm = Some(format!("{}/token", service.origin())));
    let workspace = Workspace::new();
    let config = json!({"auths": {format!("{}/team", registry.host()): {
        "username": "alice", "password": SECRET}}});
    workspace.write("auth.json", config.to_string());
    let line = format!(
        "inspect --plain-http --registry-config auth.json {}/{REPOSITORY}:v1",
        registry.host()
    );
    let refused = workspace.run(&line);
    refused.refused(3, "RegistryDenied");
    let option = format!("--token-service {}={}", registry.host(), service.origin());
    assert!(refused.stderr.contains(&option), "{}", refused.stderr);
    workspace.run(&format!("{line} {option}"));
    assert_eq!(service.count("GET", "/token"), 1, "as the message says");
    workspace
        .run(&format!("{line} --token-service {}", registry.host()))
        .refused(2, "InvalidSpec");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_files_of_docker_and_podman_are_read() {
    let (registry, _) = with_subject(Settings {
        auth: Auth::Basic("alice", SECRET),
        ..Settings::default()
    })
    .await;
    let config = |password: &str| {
        json!({"auths": {format!("{}/team/app", registry.host()): {
            "username": "alice", "password": password}}})
        .to_string()
    };
    let line = format!("inspect --plain-http {}/{REPOSITORY}:v1", registry.host());
    let denied = |workspace: &Workspace, variables: &[(&str, &str)]| {
        let mut command = workspace.command(env!("CARGO_BIN_EXE_packgate"));
        command.args(line.split_whitespace());
        command.envs(variables.iter().copied());
        let output = command.output().expect("the binary runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!text.contains(SECRET), "{text}");
        text.contains("RegistryDenied").then_some(text)
    };
    for (file, variables) in [
        (".docker/config.json", vec![]),
        ("docker/config.json", vec![("DOCKER_CONFIG", "docker")]),
        (".config/containers/auth.json", vec![]),
        ("own/containers/auth.json", vec![("XDG_CONFIG_HOME", "own")]),
        ("run/containers/auth.json", vec![("XDG_RUNTIME_DIR", "run")]),
        (
            "anywhere.json",
            vec![("REGISTRY_AUTH_FILE", "anywhere.json")],
        ),
        (
            "named.json",
            vec![("PACKGATE_REGISTRY_CONFIG", "named.json")],
        ),
    ] {
        let workspace = Workspace::new();
        let text = denied(&workspace, &[]).expect("nothing is known");
        assert!(text.contains("no credentials for"), "{text}");
        let folder = workspace.file(file);
        std::fs::create_dir_all(folder.parent().expect("a folder")).expect("made");
        workspace.write(file, config(SECRET));
        assert_eq!(denied(&workspace, &variables), None, "{file}");
        workspace.write(file, config("old"));
        let text = denied(&workspace, &variables).expect("the wrong password");
        assert!(text.contains("tried: ") && text.contains(file), "{text}");
    }
    // The next file counts, too, and a variable without a value is none.
    let workspace = Workspace::new();
    std::fs::create_dir_all(workspace.file("run/containers")).expect("made");
    std::fs::create_dir_all(workspace.file(".docker")).expect("made");
    workspace.write("run/containers/auth.json", config("old"));
    workspace.write(".docker/config.json", config(SECRET));
    let variables = [("XDG_RUNTIME_DIR", "run"), ("REGISTRY_AUTH_FILE", "")];
    assert_eq!(denied(&workspace, &variables), None);
}
