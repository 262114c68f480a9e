//! Tells a namespace's people what was refused, as events: whoever reads them cannot always see the
//! answer that a controller got.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Reporter},
};
use moka::sync::Cache;

use super::{
    respond::{Answer, Judged},
    review::Request,
};
use crate::{core::report::ReportOutcome, telemetry};

/// The same thing is told again after this time.
const AGAIN: Duration = Duration::from_mins(1);
/// Things that are remembered as told.
const TOLD: u64 = 10_000;
/// How long the API server may take to store one.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tells events.
pub(super) struct Events {
    teller: Arc<telemetry::events::Events>,
    told: Cache<String, ()>,
}

impl Events {
    /// As the replica `instance`.
    pub(super) fn new(client: Client, instance: &str) -> Self {
        let reporter = Reporter {
            controller: super::NAME.to_owned(),
            instance: Some(instance.to_owned()),
        };
        Self {
            teller: Arc::new(telemetry::events::Events::new(client, reporter)),
            told: Cache::builder()
                .max_capacity(TOLD)
                .time_to_live(AGAIN)
                .build(),
        }
    }

    /// Tells what was denied, once a minute for each object and reason. Not for what was only tried
    /// out. Nobody waits for it.
    pub(super) fn tell(&self, request: &Request, answer: &Answer) {
        let Answer::Judged(all) = answer else { return };
        if request.inner().dry_run || request.namespace().is_empty() {
            return;
        }
        for judged in all
            .iter()
            .filter(|judged| judged.report.outcome == ReportOutcome::Denied)
        {
            if let Some(event) = self.event(request, judged) {
                let (teller, about) = (Arc::clone(&self.teller), about(request));
                tokio::spawn(async move {
                    match tokio::time::timeout(PATIENCE, teller.tell(event, &about)).await {
                        Ok(Ok(())) => (),
                        Ok(Err(error)) => tracing::debug!(%error, "an event was not told"),
                        Err(_) => tracing::debug!("an event was not told in time"),
                    }
                });
            }
        }
    }

    /// `None` if it was told just now.
    fn event(&self, request: &Request, judged: &Judged) -> Option<Event> {
        let denial = judged.report.denials.first()?;
        let key = format!(
            "{} {} {} {}",
            request.namespace(),
            request.inner().kind.kind,
            request.name(),
            denial.reason
        );
        if self.told.contains_key(&key) {
            return None;
        }
        self.told.insert(key, ());
        let field = denial.field.as_deref().unwrap_or_default();
        let refused = if judged.refuses() {
            "refused"
        } else {
            "would be refused"
        };
        Some(Event {
            type_: EventType::Warning,
            reason: denial.reason.as_str().to_owned(),
            note: Some(format!("{refused}: {field}: {}", denial.message)),
            action: "Admission".to_owned(),
            secondary: None,
        })
    }
}

fn about(request: &Request) -> ObjectReference {
    let kind = &request.inner().kind;
    let api_version = if kind.group.is_empty() {
        kind.version.clone()
    } else {
        format!("{}/{}", kind.group, kind.version)
    };
    ObjectReference {
        api_version: Some(api_version),
        kind: Some(kind.kind.clone()),
        namespace: Some(request.namespace().to_owned()),
        name: Some(request.name()),
        ..ObjectReference::default()
    }
}
