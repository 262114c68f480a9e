//! Images in a registry that wants a password, which a credential provider gives: a program from an
//! image volume of packgate's own Pods.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    refused::cause,
    scene::{As, CLI_BUILDER, KINDS, Scene, object},
};
use crate::support::{
    api::{Api, Store},
    installation::PROVIDED,
    registry::{LOCKED, PASSWORD, TIMED_LIFE, locked},
};

/// Several lives of what the provider gives.
const LONG: Duration = Duration::from_mins(5);
/// A new object every few seconds.
const PAUSE: Duration = Duration::from_secs(5);

/// `None`: it would be admitted; else the reason and the message.
fn verdict(api: &Api, namespace: &str, object: &Value) -> Option<(String, String)> {
    let status = api.create(namespace, object, Store::No).err()?;
    let (reason, _) = cause(&status);
    Some((reason, status.message))
}

#[test]
fn a_credential_provider_reads_evidence_for_minutes() {
    let Some(scene) = Scene::start("a_credential_provider_reads_evidence_for_minutes") else {
        return;
    };
    let (test, api) = (&scene.test, Api::new());
    let Some(registry) = locked(&test.cluster) else {
        return;
    };
    test.log_in();
    test.grant();
    let namespace = &test.namespace.name;
    // Only what begins with this path is the provider's.
    let provided = |name: &str| format!("{LOCKED}/{PROVIDED}/{namespace}/{name}");
    let elsewhere = test.repository(LOCKED, "signed");
    let patterns = [provided("**"), format!("{LOCKED}/{namespace}/**")];
    let policies: Vec<Value> = ["provided", "elsewhere"]
        .iter()
        .zip(&patterns)
        .map(|(name, pattern)| scene.policy(name, pattern, &["a"], CLI_BUILDER, "a"))
        .collect();
    scene.enforce(&policies);
    let signed = scene.pack_to(&provided("signed"), Some("a"));
    let unsigned = scene.pack_to(&provided("unsigned"), None);
    let elsewhere = scene.pack_to(&elsewhere, Some("a"));
    let begun = Instant::now();
    let mut rounds = 0;
    while begun.elapsed() < LONG {
        for kind in KINDS.map(|(kind, _)| kind) {
            let pod = |reference: &str| object(test, kind, "provided", reference, As::Volume);
            let admitted = verdict(&api, namespace, &pod(&signed));
            assert_eq!(admitted, None, "{kind} in round {rounds}");
            for (reference, expected) in
                [(&unsigned, "NoSignatures"), (&elsewhere, "RegistryDenied")]
            {
                let (reason, message) =
                    verdict(&api, namespace, &pod(reference)).expect("a refusal");
                assert_eq!(reason, expected, "{kind} in round {rounds}: {message}");
                assert!(!message.contains(PASSWORD), "{message}");
            }
        }
        rounds += 1;
        thread::sleep(PAUSE);
    }
    let shown = registry.requests(&provided("signed"));
    assert!(
        shown
            .iter()
            .all(|request| !request.succeeded() || request.authorization),
        "without a password: {shown:?}"
    );
    assert!(
        begun.elapsed() > 3 * TIMED_LIFE && rounds > 3,
        "{rounds} rounds"
    );
}
