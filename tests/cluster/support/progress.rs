//! How far a `PackedBundle` is, and what it has in the cluster.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;

use super::{
    Test, installation,
    namespace::{list_everywhere, random_name},
    wait::wait_for,
};

/// How soon something is told that needs no Job.
pub(crate) const SOON: Duration = Duration::from_mins(1);

/// `STATUS REASON` of a condition; nothing, if there is none.
pub(crate) fn condition(bundle: &Value, type_: &str) -> String {
    let conditions = bundle["status"]["conditions"].as_array();
    let condition = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == type_);
    condition.map_or_else(String::new, |condition| {
        format!(
            "{} {}",
            text(&condition["status"]),
            text(&condition["reason"])
        )
    })
}

/// A text in a document.
#[track_caller]
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// The UID of an object.
#[track_caller]
pub(crate) fn uid(object: &Value) -> &str {
    text(&object["metadata"]["uid"])
}

/// `NAMESPACE/NAME UID` of what was made for an object, of these kinds.
#[track_caller]
pub(crate) fn children(kinds: &str, uid: &str) -> BTreeSet<String> {
    let objects = list_everywhere(kinds, &format!("packgate.dev/bundle-uid={uid}"));
    let name = |object: &Value| {
        let metadata = &object["metadata"];
        format!(
            "{}/{} {}",
            text(&metadata["namespace"]),
            text(&metadata["name"]),
            text(&metadata["uid"])
        )
    };
    objects.iter().map(name).collect()
}

/// The reasons of the history, newest first.
pub(crate) fn history(bundle: &Value) -> Vec<&str> {
    bundle["status"]["history"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| text(&entry["reason"]))
        .collect()
}

impl Test {
    /// The object as it is.
    #[track_caller]
    pub(crate) fn bundle(&self, name: &str) -> Value {
        self.namespace
            .get("packedbundle", name)
            .expect("a PackedBundle")
    }

    /// Waits until the object is so.
    #[track_caller]
    pub(crate) fn until(
        &self,
        name: &str,
        what: &str,
        timeout: Duration,
        is_so: impl Fn(&Value) -> bool,
    ) -> Value {
        wait_for(&format!("{name}: {what}"), timeout, || {
            Some(self.bundle(name)).filter(&is_so)
        })
    }

    /// Waits until it is not ready for this reason.
    #[track_caller]
    pub(crate) fn not_ready(&self, name: &str, reason: &str, timeout: Duration) -> Value {
        self.until(name, &format!("not ready, {reason}"), timeout, |bundle| {
            condition(bundle, "Ready") == format!("False {reason}")
        })
    }

    /// Asks for a reconcile, and waits until it is noted that somebody asked.
    #[track_caller]
    pub(crate) fn request(&self, name: &str) -> Value {
        let token = random_name();
        let annotation = format!("packgate.dev/reconcile-requested-at={token}");
        self.namespace
            .kubectl(["annotate", "--overwrite", "packedbundle", name, &annotation])
            .run()
            .ok();
        self.until(name, "the request is handled", SOON, |bundle| {
            bundle["status"]["lastHandledReconcileAt"] == token.as_str()
        })
    }

    /// Changes its spec, by a merge patch.
    #[track_caller]
    pub(crate) fn change(&self, name: &str, spec: &Value) {
        let patch = serde_json::json!({"spec": spec}).to_string();
        self.namespace
            .kubectl(["patch", "packedbundle", name, "--type=merge", "-p", &patch])
            .run()
            .ok();
    }

    /// Lets packgate read this namespace's Secrets.
    #[track_caller]
    pub(crate) fn grant(&self) {
        self.namespace.grant_secrets(installation::NAMESPACE);
    }

    /// Nothing in this repository has a name, and nobody was asked to sign for this object.
    #[track_caller]
    pub(crate) fn nothing_came_of(&self, bundle: &Value, repository: &str) {
        assert_eq!(self.tags(repository), [""; 0], "{repository} has tags");
        let signing = list_everywhere(
            "jobs",
            &format!(
                "app.kubernetes.io/component=sign,packgate.dev/bundle-uid={}",
                uid(bundle)
            ),
        );
        assert!(signing.is_empty(), "somebody signs: {signing:#?}");
    }
}
