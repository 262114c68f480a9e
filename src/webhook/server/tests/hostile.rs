//! Ten kinds of hostile requests: each is answered or cut off, none is allowed, and none uses up
//! resources that others need.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
};

use super::*;
use crate::{
    listener::{ListenerLimits, serve_connections as listen},
    webhook::review_request::MAX_VALUES,
};

/// Longer than any successful step takes.
const PATIENCE: Duration = Duration::from_mins(1);
const SHORT: Duration = Duration::from_millis(200);
/// The header of a body that never arrives.
const HEAD: &str = "POST /uses HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";

fn governed(n: usize) -> String {
    format!("r.example.com/{n}@sha256:{}", "a".repeat(64))
}

fn uses(images: impl Iterator<Item = String>) -> Value {
    let volumes: Vec<Value> = images
        .map(|reference| json!({"name": "v", "image": {"reference": reference}}))
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "x"},
        "spec": {"volumes": volumes},
    })
}

fn good() -> Value {
    review(&POD, "CREATE", &pod(&governed(0)), &Value::Null)
}

#[tokio::test]
async fn what_is_no_review_gets_no_verdict() {
    let webhook = webhook(true);
    let with = |at: &str, value: Value| {
        let mut review = good();
        *review.pointer_mut(at).expect("a field") = value;
        review.to_string()
    };
    let mut lacks_uid = good();
    lacks_uid["request"]
        .as_object_mut()
        .expect("an object")
        .remove("uid");
    for (body, told) in [
        (String::new(), "not an AdmissionReview"),
        ("null".to_owned(), "not an AdmissionReview"),
        (with("/request", Value::Null), "it has no request"),
        (
            with("/apiVersion", json!("admission.k8s.io/v1beta1")),
            "admission.k8s.io/v1: it is AdmissionReview of admission.k8s.io/v1beta1",
        ),
        (lacks_uid.to_string(), "missing field `uid`"),
        (with("/request/uid", json!("")), "its request has no uid"),
        (with("/request/uid", Value::Null), "invalid type: null"),
    ] {
        for path in [IMAGE_USES_PATH, PACKED_BUNDLES_PATH, POLICIES_PATH] {
            let (status, text) = send(&webhook, path, Some("application/json"), body.clone()).await;
            assert_eq!(
                (status, text.contains(told)),
                (StatusCode::BAD_REQUEST, true),
                "{path}: {text}"
            );
        }
    }
}

#[tokio::test]
async fn only_json_is_read() {
    let webhook = webhook(true);
    for (content_type, expected) in [
        (None, StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (Some("text/plain"), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (Some("application/yaml"), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (
            Some("application/vnd.kubernetes.protobuf"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
        (
            Some("application/jsonx"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
        (Some("Application/JSON; charset=utf-8"), StatusCode::OK),
    ] {
        let (status, text) =
            send(&webhook, IMAGE_USES_PATH, content_type, good().to_string()).await;
        assert_eq!(
            (status, text.contains("\"allowed\":true")),
            (expected, false),
            "{content_type:?}: {text}"
        );
    }
}

#[tokio::test]
async fn what_nobody_judges_here_is_refused() {
    let webhook = webhook(true);
    for (path, kind, operation, field) in [
        (IMAGE_USES_PATH, ["batch", "v1", "Job"], "CREATE", "kind"),
        (IMAGE_USES_PATH, ["apps", "v1", "Pod"], "CREATE", "kind"),
        (IMAGE_USES_PATH, ["", "v1", "Secret"], "UPDATE", "kind"),
        (IMAGE_USES_PATH, POD, "CONNECT", "operation"),
        (PACKED_BUNDLES_PATH, BUNDLE, "CONNECT", "operation"),
        (PACKED_BUNDLES_PATH, POD, "CREATE", "spec"),
        (POLICIES_PATH, POD, "CREATE", "spec"),
    ] {
        let (_, answer) = post(
            &webhook,
            path,
            review(
                &kind,
                operation,
                &pod("other.example.com/x:v1"),
                &Value::Null,
            )
            .to_string(),
        )
        .await;
        assert_eq!(
            (&answer["response"]["allowed"], reason(&answer)),
            (&json!(false), &json!("InvalidSpec")),
            "{path} {kind:?}: {answer}"
        );
        assert_eq!(
            answer["response"]["status"]["details"]["causes"][0]["field"], field,
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_review_of_eight_megabytes_is_judged_or_refused() {
    let webhook = webhook(true);
    let mut large = good();
    large["request"]["object"]["metadata"]["annotations"] =
        json!({"x": "y".repeat(MAX_REVIEW - 4_096)});
    let (status, answer) = post(&webhook, IMAGE_USES_PATH, large.to_string()).await;
    assert_eq!(
        (status, reason(&answer)),
        (StatusCode::OK, &json!("SourceNotFound")),
        "{answer}"
    );
    large["request"]["oldObject"] = large["request"]["object"].clone();
    assert_eq!(
        post(&webhook, IMAGE_USES_PATH, large.to_string()).await.0,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    // As a tree of values these few megabytes would be hundreds.
    let mut bomb = good();
    bomb["request"]["object"]["spec"]["x"] = vec![json!({"": 0}); MAX_VALUES].into();
    for path in [IMAGE_USES_PATH, PACKED_BUNDLES_PATH, POLICIES_PATH] {
        let (status, answer) = post(&webhook, path, bomb.to_string()).await;
        assert_eq!(
            (status, reason(&answer)),
            (StatusCode::OK, &json!("LimitExceeded")),
            "{path}: {answer}"
        );
    }
    // Managed fields are never parsed.
    let mut managed = good();
    managed["request"]["object"]["metadata"]["managedFields"] =
        vec![json!({"fieldsV1": {"": {}}}); MAX_VALUES].into();
    let (_, answer) = post(&webhook, IMAGE_USES_PATH, managed.to_string()).await;
    assert_eq!(reason(&answer), "SourceNotFound", "{answer}");
}

#[tokio::test]
async fn every_one_of_256_references_is_judged() {
    let webhook = webhook(true);
    let all = review(&POD, "CREATE", &uses((0..256).map(governed)), &Value::Null);
    let (_, answer) = post(&webhook, IMAGE_USES_PATH, all.to_string()).await;
    let causes = answer["response"]["status"]["details"]["causes"]
        .as_array()
        .expect("causes")
        .clone();
    assert_eq!(
        (&answer["response"]["allowed"], causes.len()),
        (&json!(false), 256)
    );
    assert!(
        causes
            .iter()
            .all(|cause| cause["reason"] == "SourceNotFound"),
        "{causes:?}"
    );
}

/// Serves `webhook` on a real port.
async fn start(webhook: &Webhook, bounds: ListenerLimits) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(listen(
        listener,
        None,
        webhook.router.clone(),
        bounds,
        CancellationToken::new(),
    ));
    address
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes))
        .await
        .expect("the connection is closed in time");
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn connect(host: u8, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, host], 0)))?;
    socket.connect(to).await
}

/// Sends a request from this loopback address.
async fn ask(host: u8, to: SocketAddr, body: &str) -> String {
    let Ok(mut stream) = connect(host, to).await else {
        return String::new();
    };
    let text = format!(
        "{HEAD}connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    // A client that is refused early may learn of it while it sends.
    let _ = stream.write_all(text.as_bytes()).await;
    rest(&mut stream).await
}

/// Repeats the request until there is a verdict.
async fn heard(host: u8, to: SocketAddr, body: &str) -> bool {
    for _ in 0..600 {
        if ask(host, to, body).await.contains("SourceNotFound") {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}

#[tokio::test]
async fn a_slow_client_is_cut_off() {
    let webhook = webhook_with(
        ApiServer::default(),
        BodyLimits {
            arrive: SHORT,
            wait: PATIENCE,
            ..BodyLimits::DEFAULT
        },
    );
    let address = start(
        &webhook,
        ListenerLimits {
            head: PATIENCE,
            ..WEBHOOK_LISTENER_LIMITS
        },
    )
    .await;
    for announced in [
        "content-length: 8000000",
        "content-length: 100",
        "transfer-encoding: chunked",
    ] {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream
            .write_all(format!("{HEAD}{announced}\r\n\r\n").as_bytes())
            .await
            .expect("sent");
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{announced}: {answer}");
    }
}

#[tokio::test]
async fn a_half_open_connection_gets_no_verdict() {
    let webhook = webhook(true);
    let address = start(
        &webhook,
        ListenerLimits {
            head: SHORT,
            ..WEBHOOK_LISTENER_LIMITS
        },
    )
    .await;
    let whole = format!("{HEAD}content-length: 9000\r\n\r\n{}", "{\"apiVersion\":");
    for sent in [0, 10, HEAD.len(), whole.len()] {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream
            .write_all(&whole.as_bytes()[..sent])
            .await
            .expect("sent");
        stream.shutdown().await.expect("shut down");
        let answer = rest(&mut stream).await;
        assert!(
            !answer.contains("200 OK") && !answer.contains("allowed"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_thousand_connections_at_once_keep_out_nobody() {
    let webhook = webhook(true);
    let address = start(
        &webhook,
        ListenerLimits {
            head: PATIENCE,
            ..WEBHOOK_LISTENER_LIMITS
        },
    )
    .await;
    let mut flood = JoinSet::new();
    for n in 0..1_000_u32 {
        flood.spawn(async move {
            let host = if n % 2 == 0 { 2 } else { 3 };
            if n % 4 < 2 {
                let Ok(mut stream) = connect(host, address).await else {
                    return String::new();
                };
                let _ = stream.write_all(b"POST /uses HT").await;
                return rest(&mut stream).await;
            }
            ask(host, address, &good().to_string()).await
        });
        if n % 100 == 99 {
            let answer = ask(4, address, &good().to_string()).await;
            assert!(answer.contains("SourceNotFound"), "{answer}");
        }
    }
    flood.abort_all();
    while let Some(ended) = flood.join_next().await {
        if let Ok(answer) = ended {
            // Whether it is answered or cut off, it is not allowed.
            assert!(!answer.contains("\"allowed\":true"), "{answer}");
        }
    }
    assert!(
        heard(2, address, &good().to_string()).await,
        "the flood is over for its own address, too"
    );
}

#[tokio::test]
async fn bodies_are_weighed_before_they_are_read() {
    let bounds = BodyLimits {
        large: (24 << 20, 16 << 20),
        small: (256 << 10, 128 << 10),
        wait: SHORT,
        arrive: PATIENCE,
        ..BodyLimits::DEFAULT
    };
    let webhook = webhook_with(ApiServer::default(), bounds);
    let address = start(
        &webhook,
        ListenerLimits {
            head: PATIENCE,
            ..WEBHOOK_LISTENER_LIMITS
        },
    )
    .await;
    // Two bodies of any size from one address, one more from another: the budget of large ones is
    // used up, though hardly a byte has arrived.
    let mut held = Vec::new();
    for host in [2, 2, 3] {
        let mut stream = connect(host, address).await.expect("connected");
        stream
            .write_all(
                format!("{HEAD}expect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n")
                    .as_bytes(),
            )
            .await
            .expect("sent");
        // The server sends `100 Continue` once memory is reserved.
        let mut asked = [0; 25];
        stream.read_exact(&mut asked).await.expect("asked to go on");
        assert!(asked.starts_with(b"HTTP/1.1 100 "));
        held.push(stream);
    }
    let mut large = good();
    large["request"]["object"]["metadata"]["annotations"] = json!({"x": "y".repeat(1 << 20)});
    let answer = ask(4, address, &large.to_string()).await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 1"),
        "{answer}"
    );
    assert!(
        ask(2, address, &good().to_string())
            .await
            .contains("SourceNotFound"),
        "small reviews do not notice"
    );
    drop(held);
    assert!(
        heard(4, address, &large.to_string()).await,
        "what was weighed is given back"
    );
}

async fn send(
    webhook: &Webhook,
    path: &str,
    content_type: Option<&str>,
    body: String,
) -> (StatusCode, String) {
    let mut request = HttpRequest::post(path);
    if let Some(content_type) = content_type {
        request = request.header("content-type", content_type);
    }
    let answer = webhook
        .router
        .clone()
        .oneshot(request.body(Body::from(body)).expect("a request"))
        .await
        .expect("an answer");
    let status = answer.status();
    let bytes = to_bytes(answer.into_body(), 1 << 20).await.expect("a body");
    (status, String::from_utf8_lossy(&bytes).into_owned())
}
