use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use axum::body::Body;
use kube::Client;
use serde_json::{Value, json};

use super::*;
use crate::{clock::FixedClock, controller::testing};

fn job(run: &str, step: &str, end: Option<(&str, &str)>) -> Job {
    let conditions: Vec<_> = end
        .iter()
        .map(|(type_, at)| {
            json!({
                "type": type_,
                "status": "True",
                "lastTransitionTime": format!("2026-11-21T12:00:{at}Z"),
            })
        })
        .collect();
    let name = format!("packgate-{run}-{step}");
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {RUN: run}},
        "status": {"conditions": conditions},
    }))
    .expect("a Job")
}

#[test]
fn the_newest_runs_of_each_kind_are_kept() {
    let jobs = vec![
        job("good-1", "pack", Some(("Complete", "01"))),
        job("good-1", "sign", Some(("Complete", "02"))),
        job("good-2", "sign", Some(("Complete", "05"))),
        job("bad-1", "pack", Some(("Failed", "03"))),
        job("bad-2", "pack", Some(("Complete", "03"))),
        job("bad-2", "sign", Some(("Failed", "06"))),
        job("replaced", "pack", None),
        job("current", "pack", None),
    ];
    let mut known: BTreeSet<String> = jobs.iter().map(|job| job.labels()[RUN].clone()).collect();
    known.insert("snapshot-only".into());
    let gone = |succeeded, failed| -> Vec<String> {
        select_runs_to_delete(
            &jobs,
            &[],
            &known,
            "current",
            HistoryLimits { succeeded, failed },
        )
        .into_iter()
        .collect()
    };
    assert_eq!(gone(1, 1), ["bad-1", "good-1", "replaced", "snapshot-only"]);
    assert_eq!(gone(3, 3), ["replaced", "snapshot-only"]);
    assert_eq!(
        gone(0, 0),
        [
            "bad-1",
            "bad-2",
            "good-1",
            "good-2",
            "replaced",
            "snapshot-only"
        ]
    );
}

#[test]
fn a_run_has_ended_once_that_is_recorded() {
    let jobs = [
        job("early", "pack", Some(("Complete", "01"))),
        job("early", "sign", None),
    ];
    let known = BTreeSet::from(["early".to_owned()]);
    let kept = HistoryLimits {
        succeeded: 1,
        failed: 1,
    };
    assert_eq!(
        select_runs_to_delete(&jobs, &[], &known, "current", kept),
        known,
        "nobody says that it ended"
    );
    let entry = RunHistoryEntry {
        run: "early".into(),
        digest: None,
        lock_digest: String::new(),
        started: String::new(),
        finished: "2026-11-21T12:00:02Z".into(),
        reason: SUCCEEDED.into(),
    };
    assert_eq!(
        select_runs_to_delete(&jobs, &[entry], &known, "current", kept),
        BTreeSet::new()
    );
}

const SECRETS: &str = "/api/v1/namespaces/packgate-system/secrets";
const BUNDLES: &str = "/apis/packgate.dev/v1alpha1/namespaces/team-a/packedbundles";

/// Children of three objects, all of which the (empty) watch cache does not have.
fn respond(method: &http::Method, path: &str) -> (u16, Value) {
    let child = |name: &str| {
        json!({"metadata": {"name": format!("{name}-sign"), "labels": {
            MANAGED_BY: MANAGER,
            BUNDLE: name,
            BUNDLE_NAMESPACE: "team-a",
            BUNDLE_UID: format!("{name}-1"),
        }}})
    };
    let bundle = |name: &str, uid: &str| {
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": {"name": name, "namespace": "team-a", "uid": uid}})
    };
    let status = |code: u16, reason: &str| {
        let status = if code == 200 { "Success" } else { "Failure" };
        let body = json!({"apiVersion": "v1", "kind": "Status", "status": status,
            "reason": reason, "message": "", "code": code});
        (code, body)
    };
    match path {
        SECRETS => {
            let items = ["new", "gone", "replaced"].map(child);
            (200, json!({"metadata": {}, "items": items}))
        }
        path if path == format!("{BUNDLES}/new") => (200, bundle("new", "new-1")),
        path if path == format!("{BUNDLES}/replaced") => (200, bundle("replaced", "replaced-2")),
        path if path.starts_with(BUNDLES) => status(404, "NotFound"),
        _ if method == http::Method::DELETE => status(200, ""),
        _ => (200, json!({"metadata": {}, "items": []})),
    }
}

#[tokio::test]
async fn a_child_is_an_orphan_once_the_api_server_no_longer_has_its_object() {
    let deleted = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&deleted);
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let (status, body) = respond(&method, &path);
        if method == http::Method::DELETE {
            noted.lock().expect("no panic").push(path);
        }
        let response = http::Response::builder()
            .status(status)
            .body(Body::from(body.to_string()))
            .expect("a response");
        async { Ok::<_, Infallible>(response) }
    });
    let clock = FixedClock("2026-11-21T12:00:00Z".parse().expect("a time"));
    let context = testing::context(Client::new(service, "default"), Arc::new(clock));
    delete_orphans(&context).await.expect("a working server");
    assert_eq!(
        *deleted.lock().expect("no panic"),
        [
            format!("{SECRETS}/gone-sign"),
            format!("{SECRETS}/replaced-sign")
        ]
    );
}
