//! Kubernetes events, for `kubectl describe` and `kubectl get events`.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, Recorder, Reporter},
};
use moka::sync::Cache;

/// Texts of recorded events that are remembered.
const MAX_RECORDERS: u64 = 1_000;
/// How long they are remembered; kube's recorder forgets an event after six minutes.
const RECORDER_IDLE_TIME: Duration = Duration::from_mins(10);
/// Bytes of an event's note; the API server allows 1,024.
const MAX_NOTE: usize = 1_000;

/// Records events. A repetition within some minutes increases the count of the existing event;
/// another text is another event.
///
/// `kube`'s recorder identifies an event by its object, type, reason and action alone, and would go
/// on showing the first text.
pub struct EventRecorder {
    client: Client,
    reporter: Reporter,
    recorders: Cache<String, Recorder>,
}

impl std::fmt::Debug for EventRecorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventRecorder")
            .field("reporter", &self.reporter)
            .finish_non_exhaustive()
    }
}

impl EventRecorder {
    pub fn new(client: Client, reporter: Reporter) -> Self {
        Self {
            client,
            reporter,
            recorders: Cache::builder()
                .max_capacity(MAX_RECORDERS)
                .time_to_idle(RECORDER_IDLE_TIME)
                .build(),
        }
    }

    /// Records an event about an object. A note that is too long is shortened.
    ///
    /// Errors: the API server did not accept it.
    pub async fn record_event(
        &self,
        mut event: Event,
        about: &ObjectReference,
    ) -> Result<(), kube::Error> {
        let note = truncate_note(event.note.take().unwrap_or_default());
        let recorder = self.recorders.get_with_by_ref(note.as_str(), || {
            Recorder::new(self.client.clone(), self.reporter.clone())
        });
        event.note = Some(note);
        recorder.publish(&event, about).await
    }
}

fn truncate_note(mut text: String) -> String {
    let end = (0..=text.len().min(MAX_NOTE))
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or_default();
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::{
        body::Body,
        http::{Request, Response},
    };
    use http_body_util::BodyExt;
    use kube::runtime::events::EventType;
    use serde_json::Value;

    use super::*;

    /// Methods and events.
    type Sent = Arc<Mutex<Vec<(String, Value)>>>;

    /// An API server that accepts every event, and the events that it received.
    fn server() -> (Client, Sent) {
        let sent = Sent::default();
        let seen = Arc::clone(&sent);
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let seen = Arc::clone(&seen);
            async move {
                let method = request.method().to_string();
                let bytes = request.into_body().collect().await?.to_bytes();
                seen.lock()
                    .expect("no panic")
                    .push((method, serde_json::from_slice(&bytes)?));
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Response::new(Body::from(bytes)))
            }
        });
        (Client::new(service, "default"), sent)
    }

    fn event(note: &str) -> Event {
        Event {
            type_: EventType::Warning,
            reason: "R".into(),
            note: Some(note.to_owned()),
            action: "A".into(),
            secondary: None,
        }
    }

    #[tokio::test]
    async fn the_same_counts_and_another_text_is_another_event() {
        let (client, sent) = server();
        let events = EventRecorder::new(
            client,
            Reporter {
                controller: "test".into(),
                instance: None,
            },
        );
        let about = ObjectReference {
            name: Some("corp".into()),
            uid: Some("u".into()),
            ..ObjectReference::default()
        };
        for note in [
            "does not answer",
            "does not answer",
            "rollback",
            "does not answer",
        ] {
            events
                .record_event(event(note), &about)
                .await
                .expect("taken");
        }
        let sent = sent.lock().expect("no panic");
        let told: Vec<_> = sent
            .iter()
            .map(|(method, event)| {
                (
                    method.as_str(),
                    event["note"].as_str(),
                    event["series"]["count"].as_u64(),
                )
            })
            .collect();
        let (down, back) = (Some("does not answer"), Some("rollback"));
        assert_eq!(
            told,
            [
                ("POST", down, None),
                ("PATCH", down, Some(2)),
                ("POST", back, None),
                ("PATCH", down, Some(3))
            ]
        );
    }

    #[tokio::test]
    async fn a_note_is_cut_between_two_characters() {
        let (client, sent) = server();
        let events = EventRecorder::new(
            client,
            Reporter {
                controller: "test".into(),
                instance: None,
            },
        );
        events
            .record_event(event(&"é".repeat(999)), &ObjectReference::default())
            .await
            .expect("taken");
        assert_eq!(
            sent.lock().expect("no panic")[0].1["note"]
                .as_str()
                .map(str::len),
            Some(1_000)
        );
    }
}
