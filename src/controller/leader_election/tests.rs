use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use kube::{Client, client::Body};
use serde_json::{Value, json};

use super::*;
use crate::clock::SystemClock;

const TIMES: LeaderElectionTimings = LeaderElectionTimings {
    duration: Duration::from_millis(600),
    renew_deadline: Duration::from_millis(400),
    retry: Duration::from_millis(100),
};

/// The part of an API server that stores one Lease, with optimistic concurrency.
#[derive(Clone, Default)]
struct Server {
    lease: Arc<Mutex<(Option<Value>, u64)>>,
}

impl Server {
    fn client(&self, down: &Arc<AtomicBool>) -> Api<Lease> {
        let (server, down) = (self.clone(), Arc::clone(down));
        let service = tower::service_fn(move |request: ::http::Request<Body>| {
            let (server, down) = (server.clone(), Arc::clone(&down));
            async move {
                let method = request.method().clone();
                let body = request.into_body().collect_bytes().await?;
                let (code, answer) = if down.load(Ordering::SeqCst) {
                    status(503, "ServiceUnavailable")
                } else {
                    server.answer(method.as_str(), &body)
                };
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(
                    ::http::Response::builder()
                        .status(code)
                        .body(Body::from(serde_json::to_vec(&answer)?))?,
                )
            }
        });
        Api::namespaced(Client::new(service, "ns"), "ns")
    }

    fn answer(&self, method: &str, body: &[u8]) -> (u16, Value) {
        let mut state = self.lease.lock().expect("not poisoned");
        match (method, &state.0) {
            ("GET", Some(lease)) => (200, lease.clone()),
            ("GET", None) => status(404, "NotFound"),
            ("POST", Some(_)) => status(409, "AlreadyExists"),
            _ => {
                let mut lease: Value = serde_json::from_slice(body).expect("JSON");
                if method == "PUT"
                    && lease["metadata"]["resourceVersion"].as_str() != Some(&*state.1.to_string())
                {
                    return status(409, "Conflict");
                }
                state.1 += 1;
                lease["metadata"]["resourceVersion"] = state.1.to_string().into();
                state.0 = Some(lease.clone());
                (200, lease)
            }
        }
    }

    fn holder(&self) -> String {
        let state = self.lease.lock().expect("not poisoned");
        state
            .0
            .as_ref()
            .and_then(|lease| lease["spec"]["holderIdentity"].as_str())
            .unwrap_or_default()
            .to_owned()
    }
}

fn status(code: u16, reason: &str) -> (u16, Value) {
    (
        code,
        json!({
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "message": reason,
            "reason": reason,
            "code": code,
        }),
    )
}

fn up() -> Arc<AtomicBool> {
    Arc::default()
}

#[tokio::test]
async fn only_one_holds_it_and_another_takes_over_after_it_stopped() {
    let server = Server::default();
    let (first_down, second_down) = (up(), up());
    let first = LeaderElector::new(
        server.client(&first_down),
        "l",
        "first",
        TIMES,
        Arc::new(SystemClock),
    );
    let second = LeaderElector::new(
        server.client(&second_down),
        "l",
        "second",
        TIMES,
        Arc::new(SystemClock),
    );
    first.acquire_lease(|| ()).await;
    let held = tokio::spawn({
        let first = first.clone();
        async move { first.renew_until_lost(&first.first_term()).await }
    });
    // It is renewed while another tries to acquire it for three whole durations.
    assert!(
        timeout(TIMES.duration * 3, second.acquire_lease(|| ()))
            .await
            .is_err()
    );
    assert_eq!(server.holder(), "first");
    first_down.store(true, Ordering::SeqCst);
    let lost = Instant::now();
    let taken = tokio::spawn(async move {
        second.acquire_lease(|| ()).await;
        Instant::now()
    });
    timeout(TIMES.duration * 10, held)
        .await
        .expect("in time")
        .expect("it ended");
    let stopped = Instant::now();
    assert!(
        stopped - lost < TIMES.duration,
        "it stopped after {:?}",
        stopped - lost
    );
    assert!(
        taken.await.expect("it ended") > stopped,
        "the second began before the first had stopped"
    );
    assert_eq!(server.holder(), "second");
}

#[tokio::test]
async fn who_gives_it_up_is_followed_at_once() {
    let server = Server::default();
    let first = LeaderElector::new(
        server.client(&up()),
        "l",
        "first",
        TIMES,
        Arc::new(SystemClock),
    );
    let second = LeaderElector::new(
        server.client(&up()),
        "l",
        "second",
        TIMES,
        Arc::new(SystemClock),
    );
    first.acquire_lease(|| ()).await;
    assert!(
        first
            .try_acquire_or_renew(&mut None)
            .await
            .expect("renewed")
    );
    first.release_lease().await;
    assert_eq!(server.holder(), "");
    second.acquire_lease(|| ()).await;
    first.release_lease().await;
    assert_eq!(server.holder(), "second", "only the holder gives it up");
}

#[tokio::test]
async fn who_lost_it_to_another_stops() {
    let server = Server::default();
    let first = LeaderElector::new(
        server.client(&up()),
        "l",
        "first",
        TIMES,
        Arc::new(SystemClock),
    );
    first.acquire_lease(|| ()).await;
    {
        let mut state = server.lease.lock().expect("not poisoned");
        state.1 += 1;
        let version = state.1.to_string();
        let lease = state.0.as_mut().expect("a lease");
        lease["spec"]["holderIdentity"] = "other".into();
        lease["metadata"]["resourceVersion"] = version.into();
    }
    timeout(
        TIMES.renew_deadline * 2,
        first.renew_until_lost(&first.first_term()),
    )
    .await
    .expect("it stops");
    assert_eq!(server.holder(), "other");
}

#[tokio::test]
async fn a_process_that_was_frozen_does_not_go_on() {
    let server = Server::default();
    let elector = LeaderElector::new(
        server.client(&up()),
        "l",
        "first",
        TIMES,
        Arc::new(SystemClock),
    );
    let mut steps = 0;
    let work = async {
        steps += 1;
        // Like a process stopped by a signal: nothing else of it runs meanwhile.
        std::thread::sleep(TIMES.duration);
        tokio::task::yield_now().await;
        steps += 1;
    };
    assert_eq!(elector.first_term().run_within_term(work).await, None);
    assert_eq!(steps, 1);
}

#[tokio::test]
async fn renewing_prolongs_the_term() {
    let server = Server::default();
    let elector = LeaderElector::new(
        server.client(&up()),
        "l",
        "first",
        TIMES,
        Arc::new(SystemClock),
    );
    elector.acquire_lease(|| ()).await;
    let term = elector.first_term();
    let work = async {
        for _ in 0..10 {
            sleep(TIMES.renew_deadline / 5).await;
        }
    };
    let done = tokio::select! {
        () = elector.renew_until_lost(&term) => panic!("the Lease was lost"),
        done = term.run_within_term(work) => done,
    };
    assert_eq!(done, Some(()));
}
