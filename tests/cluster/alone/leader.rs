//! Who leads, and the Pods that could.

use std::time::Duration;

use serde_json::Value;

use super::processes::Process;
use crate::support::{installation::NAMESPACE, namespace::kubectl, wait::wait_for};

/// A Lease runs out after 15 s, looked at every 2 s; the rest is for a busy machine.
pub(crate) const TAKEN_OVER: Duration = Duration::from_secs(40);
const POD_READY: Duration = Duration::from_mins(1);

/// Who holds the Lease.
pub(crate) fn holder() -> String {
    let run = kubectl([
        "--namespace",
        NAMESPACE,
        "get",
        "lease",
        "packgate-controller",
        "-o",
        "jsonpath={.spec.holderIdentity}",
    ])
    .run();
    run.ok().to_owned()
}

/// Waits until both replicas are ready and one of them leads; the leading Pod and the other.
#[track_caller]
pub(crate) fn settled() -> (String, String) {
    wait_for("a leader and a standby", POD_READY, || {
        let ready: Vec<String> = pods()
            .iter()
            .filter(|pod| is_ready(pod))
            .map(name)
            .collect();
        let holder = holder();
        let standby = ready.iter().find(|name| **name != holder)?.clone();
        (ready.len() == 2 && ready.contains(&holder)).then_some((holder, standby))
    })
}

/// The controller's process in a Pod.
#[track_caller]
pub(crate) fn process(pod: &str) -> Process {
    Process::controller(pod).unwrap_or_else(|| panic!("no process of Pod {pod}"))
}

/// Removes a Pod at once, as if its node were gone.
#[track_caller]
pub(crate) fn remove(pod: &str) {
    kubectl([
        "--namespace",
        NAMESPACE,
        "delete",
        "pod",
        pod,
        "--force",
        "--grace-period=0",
    ])
    .run()
    .ok();
}

/// The Pods of the Deployment.
pub(crate) fn pods() -> Vec<Value> {
    let run = kubectl([
        "--namespace",
        NAMESPACE,
        "get",
        "pods",
        "-l",
        "app.kubernetes.io/component=controller",
        "-o",
        "json",
    ])
    .run();
    run.json()["items"].as_array().expect("a list").clone()
}

/// The name of an object.
pub(crate) fn name(object: &Value) -> String {
    object["metadata"]["name"]
        .as_str()
        .expect("a name")
        .to_owned()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    pod["metadata"]["deletionTimestamp"].is_null()
        && conditions
            .into_iter()
            .flatten()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}
