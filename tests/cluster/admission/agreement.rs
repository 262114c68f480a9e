//! The command line says what the webhook says: the same outcome, for the same reasons, with the
//! same words.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    refused::reproduce,
    scene::{As, Case, KINDS, Scene, adopting, object, silence},
};
use crate::support::api::{Api, Store};

/// Modes of all policies of a round.
const MODES: [&str; 3] = ["Enforce", "Warn", "Audit"];

/// What somebody says: every reason with its message, in order.
type Said = Vec<(String, String)>;

#[test]
fn webhook_and_command_line_say_the_same() {
    let Some(scene) = Scene::start("webhook_and_command_line_say_the_same") else {
        return;
    };
    if !silence(&scene.test) {
        return println!("not run: registries of the test's own need its own cluster");
    }
    let api = Api::new();
    let cases = scene.cases();
    let (mut counts, mut compared) = (BTreeMap::<String, usize>::new(), 0);
    for mode in MODES {
        set_modes(&scene, mode);
        for case in &cases {
            // It takes seven seconds each time.
            let slow = case.name == "silent registry";
            for used in [As::Volume, As::Container] {
                for (kind, _) in KINDS.iter().take(if slow { 1 } else { KINDS.len() }) {
                    if slow && (mode != "Enforce" || used == As::Container) {
                        continue;
                    }
                    compare(&scene, &api, case, kind, used, mode);
                    compared += 1;
                    *counts
                        .entry(case.reason.unwrap_or("Admitted").to_owned())
                        .or_default() += 1;
                }
            }
            if mode == "Enforce" && case.name != "tag only" && !slow {
                let answer = api.create(
                    &scene.test.namespace.name,
                    &adopting("adopts", &case.reference),
                    Store::No,
                );
                let said = answer
                    .err()
                    .map(|status| causes(&serde_json::to_value(status).expect("JSON")))
                    .unwrap_or_default();
                assert_eq!(
                    said,
                    as_tenants_are_told(command_line(&scene, case, "PackedBundle").1, &said),
                    "{}",
                    case.name
                );
                compared += 1;
                *counts
                    .entry(case.reason.unwrap_or("Admitted").to_owned())
                    .or_default() += 1;
            }
        }
    }
    println!("{compared} cases agree: {counts:?}");
    assert!(compared >= 100, "{compared}");
    assert!(
        cases
            .iter()
            .all(|case| counts.contains_key(case.reason.unwrap_or("Admitted"))),
        "{counts:?}"
    );
}

fn set_modes(scene: &Scene, mode: &str) {
    let patch = format!("{{\"spec\":{{\"mode\":\"{mode}\"}}}}");
    let names = scene
        .test
        .namespace
        .kubectl(["get", "bundlepolicies", "-o", "name"])
        .run();
    let names: Vec<String> = names
        .ok()
        .lines()
        .map(|line| line.rsplit_once('/').expect("a name").1.to_owned())
        .collect();
    for name in &names {
        scene
            .test
            .namespace
            .kubectl(["patch", "bundlepolicy", name, "--type=merge", "-p", &patch])
            .run()
            .ok();
    }
    for name in &names {
        scene.enforced(name);
    }
}

fn compare(scene: &Scene, api: &Api, case: &Case, kind: &str, used: As, mode: &str) {
    let what = format!("{} {kind} {used:?} {mode}", case.name);
    let answer = api.create(
        &scene.test.namespace.name,
        &object(&scene.test, kind, "compared", &case.reference, used),
        Store::No,
    );
    let (admitted, said) = command_line(scene, case, used.used_as());
    match answer {
        Ok(_) => {
            assert!(
                admitted,
                "{what}: admitted by the webhook, refused by the command line: {said:?}"
            );
            assert_eq!(case.reason.is_none(), said.is_empty(), "{what}: {said:?}");
        }
        Err(status) => {
            assert!(
                !admitted,
                "{what}: refused by the webhook, admitted by the command line: {status:?}"
            );
            let told = causes(&serde_json::to_value(&status).expect("JSON"));
            assert_eq!(told, as_tenants_are_told(said, &told), "{what}");
            // The line in the refusal is the one that was just run.
            let line = reproduce(&status);
            assert_eq!(line, verify_line(scene, case, used.used_as()), "{what}");
        }
    }
    assert_eq!(
        admitted,
        case.reason.is_none() || mode != "Enforce",
        "{what}"
    );
}

/// A Pod with this in a volume is answered by both alike. What they say, if it is not the case's
/// reason.
#[track_caller]
pub(super) fn agree(scene: &Scene, api: &Api, case: &Case) -> Option<String> {
    compare(scene, api, case, "Pod", As::Volume, "Enforce");
    let first = command_line(scene, case, As::Volume.used_as())
        .1
        .into_iter()
        .next();
    let is_so = first.as_ref().map(|(reason, _)| reason.as_str()) == case.reason;
    (!is_so).then(|| format!("{}: {first:?}", case.name))
}

fn verify_line(scene: &Scene, case: &Case, used_as: &str) -> String {
    format!(
        "verify {} --use {used_as} --namespace {} --cluster",
        case.reference, scene.test.namespace.name
    )
}

/// What the command line says: the answer after modes, and every denial.
fn command_line(scene: &Scene, case: &Case, used_as: &str) -> (bool, Said) {
    let run = scene
        .test
        .packgate(&format!("{} -o json", verify_line(scene, case, used_as)));
    let report: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|e| panic!("{e}: {run}"));
    assert_eq!(
        report["reproduce"],
        format!("packgate {}", verify_line(scene, case, used_as)),
        "{run}"
    );
    let denials = report["denials"].as_array().expect("denials");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let said = denials
        .iter()
        .map(|denial| (text(&denial["reason"]), text(&denial["message"])))
        .collect();
    (report["admitted"].as_bool().expect("an answer"), said)
}

/// What a person is told, as tenants are told it: why a registry cannot be reached from inside of
/// the cluster is not for them.
fn as_tenants_are_told(person: Said, tenant: &Said) -> Said {
    let untold = |(reason, message): (String, String), (_, told): &(String, String)| {
        let before = told
            .split_once("could not be reached; the operator")
            .map(|(before, _)| before);
        if before.is_some_and(|before| message.starts_with(before)) {
            (reason, told.clone())
        } else {
            (reason, message)
        }
    };
    let all = tenant.len() == person.len();
    if all {
        person
            .into_iter()
            .zip(tenant)
            .map(|(person, tenant)| untold(person, tenant))
            .collect()
    } else {
        person
    }
}

/// The causes of a refusal, without the field and the policy before each message.
fn causes(status: &Value) -> Said {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let plain = |cause: &Value| {
        let message = text(&cause["message"]);
        let start = format!(
            "{}: {}: BundlePolicy ",
            text(&cause["field"]),
            text(&cause["reason"])
        );
        let rest = message
            .strip_prefix(&start)
            .unwrap_or_else(|| panic!("{message}"))
            .to_owned();
        (
            text(&cause["reason"]),
            rest.split_once(": ").expect("a policy").1.to_owned(),
        )
    };
    status["details"]["causes"]
        .as_array()
        .expect("causes")
        .iter()
        .map(plain)
        .collect()
}
