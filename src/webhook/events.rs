//! Tells a namespace's people what was refused, as events: whoever reads them cannot always see the answer that a controller got.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use moka::sync::Cache;

use super::{
    respond::{Answer, Judged},
    review::Request,
};
use crate::core::report::ReportOutcome;

/// The same thing is told again after this time.
const AGAIN: Duration = Duration::from_mins(1);
/// Things that are remembered as told.
const TOLD: u64 = 10_000;

/// Tells events.
pub(super) struct Events {
    recorder: Recorder,
    told: Cache<String, ()>,
}

impl Events {
    /// As the replica `instance`.
    pub(super) fn new(client: Client, instance: &str) -> Self {
        let reporter = Reporter { controller: super::NAME.to_owned(), instance: Some(instance.to_owned()) };
        Self { recorder: Recorder::new(client, reporter), told: Cache::builder().max_capacity(TOLD).time_to_live(AGAIN).build() }
    }

    /// Tells what was denied, once a minute for each object and reason. Not for what was only tried out.
    pub(super) async fn tell(&self, request: &Request, answer: &Answer) {
        let Answer::Judged(all) = answer else { return };
        if request.inner().dry_run || request.namespace().is_empty() {
            return;
        }
        for judged in all.iter().filter(|judged| judged.report.outcome == ReportOutcome::Denied) {
            self.tell_one(request, judged).await;
        }
    }

    async fn tell_one(&self, request: &Request, judged: &Judged) {
        let Some(denial) = judged.report.denials.first() else { return };
        let about = about(request);
        let kind = about.kind.as_deref().unwrap_or_default();
        let key = format!("{} {kind} {} {}", request.namespace(), request.name(), denial.reason);
        if self.told.contains_key(&key) {
            return;
        }
        self.told.insert(key, ());
        let field = denial.field.as_deref().unwrap_or_default();
        let refused = if judged.refuses() { "refused" } else { "would be refused" };
        let event = Event {
            type_: EventType::Warning,
            reason: denial.reason.as_str().to_owned(),
            note: Some(format!("{refused}: {field}: {}", denial.message).chars().take(1_000).collect()),
            action: "Admission".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &about).await {
            tracing::debug!(%error, "an event was not told");
        }
    }
}

fn about(request: &Request) -> ObjectReference {
    let kind = &request.inner().kind;
    let api_version = if kind.group.is_empty() { kind.version.clone() } else { format!("{}/{}", kind.group, kind.version) };
    ObjectReference {
        api_version: Some(api_version),
        kind: Some(kind.kind.clone()),
        namespace: Some(request.namespace().to_owned()),
        name: Some(request.name()),
        ..ObjectReference::default()
    }
}
