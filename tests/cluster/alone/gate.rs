//! A gate before the API server: an admission webhook that notes what the controller writes, and
//! holds back the write that it is told to, so that the controller stands still exactly there.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::{Value, json};

use crate::support::{
    Test,
    namespace::{kubectl, random_name},
    wait::wait_for,
};

/// How long a write is held back at most. The API server gives up after 30 s; then the controller
/// tries again, and is held again. All that are held are let go together, so that they come back
/// together.
const LONGEST: Duration = Duration::from_secs(25);

/// A write that passed, or is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    /// The Pod that it comes from, or the user where it comes from none.
    pub(crate) who: String,
    /// `status REASON` (of the condition `Ready`; `-` before there is one), or `create KIND
    /// COMPONENT` and the like.
    pub(crate) what: String,
    /// The `PackedBundle` that it is about.
    pub(crate) bundle: String,
}

/// Holds writes until it is opened. It is removed with this value.
#[derive(Debug)]
pub(crate) struct Gate {
    name: String,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// By bundle, the write to hold.
    holds: BTreeMap<&'static str, &'static str>,
    held: Vec<Write>,
    /// How often all were sent back.
    rounds: u64,
    seen: Vec<Write>,
}

impl Gate {
    /// For what the controller makes for one test's namespace. `holds`: for a bundle, the write
    /// before which the controller is to stop.
    pub(crate) fn before(
        test: &Test,
        holds: impl IntoIterator<Item = (&'static str, &'static str)>,
    ) -> Self {
        let namespace = &test.namespace.name;
        let of_bundles = json!({"matchLabels": {"packgate.dev/bundle-namespace": namespace}});
        let gate = Self::start(test, holds.into_iter().collect(), "Fail", |client| {
            let rule = |group: &str, version: &str, resources: &[&str]| {
                json!([
                    {
                        "apiGroups": [group],
                        "apiVersions": [version],
                        "resources": resources,
                        "operations": ["CREATE", "UPDATE", "DELETE"],
                    },
                ])
            };
            let namespaced = json!({"matchLabels": {"kubernetes.io/metadata.name": namespace}});
            json!([
                webhook(
                    "core",
                    client,
                    &json!({
                        "rules": rule("", "v1", &["configmaps", "secrets"]),
                        "objectSelector": of_bundles,
                    })
                ),
                webhook(
                    "jobs",
                    client,
                    &json!({"rules": rule("batch", "v1", &["jobs"]), "objectSelector": of_bundles})
                ),
                webhook(
                    "status",
                    client,
                    &json!({
                        "rules": rule("packgate.dev", "*", &["packedbundles/status"]),
                        "namespaceSelector": namespaced,
                    })
                ),
            ])
        });
        gate.wait_until_it_acts(test);
        gate
    }

    /// Notes every write of the controller, whatever it is, and holds none.
    pub(crate) fn watching(test: &Test) -> Self {
        let gate = Self::start(test, BTreeMap::new(), "Ignore", |client| {
            let rules = json!([
                {
                    "apiGroups": ["*"],
                    "apiVersions": ["*"],
                    "resources": ["*/*"],
                    "operations": ["*"],
                },
            ]);
            let account = "request.userInfo.username == \
                'system:serviceaccount:packgate-system:packgate-controller'";
            json!([webhook(
                "all",
                client,
                &json!({
                    "rules": rules,
                    "matchConditions": [{"name": "controller", "expression": account}],
                })
            )])
        });
        wait_for(
            "a renewal of the Lease at the gate",
            Duration::from_secs(20),
            || (!gate.seen().is_empty()).then_some(()),
        );
        gate
    }

    fn start(
        test: &Test,
        holds: BTreeMap<&'static str, &'static str>,
        policy: &str,
        webhooks: impl FnOnce(&Value) -> Value,
    ) -> Self {
        let pki = PathBuf::from(
            std::env::var("PACKGATE_CLUSTER_PKI").expect("the cluster's certificates"),
        );
        let ip = test.cluster.node_ip.as_deref().expect("the node's address");
        let listener = TcpListener::bind((ip, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                holds,
                ..State::default()
            }),
            changed: Condvar::new(),
        });
        let (tls, for_all) = (tls(&pki), Arc::clone(&shared));
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let (tls, shared) = (Arc::clone(&tls), Arc::clone(&for_all));
                // A connection without an answer is an error to the API server, as it is meant.
                thread::spawn(move || answer(connection, tls, &shared));
            }
        });
        let ca = STANDARD.encode(std::fs::read(pki.join("ca.crt")).expect("a certificate"));
        let mut webhooks = webhooks(&json!({"url": format!("https://{address}/"), "caBundle": ca}));
        for webhook in webhooks.as_array_mut().expect("webhooks") {
            webhook["failurePolicy"] = policy.into();
        }
        let gate = Self {
            name: random_name(),
            shared,
        };
        let metadata = json!({"name": gate.name});
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration", "metadata": metadata, "webhooks": webhooks,
        });
        kubectl(["create", "-f", "-"])
            .stdin(configuration.to_string())
            .run()
            .ok();
        gate
    }

    /// A new configuration acts a moment later.
    fn wait_until_it_acts(&self, test: &Test) {
        let labels = json!({
            "packgate.dev/bundle-namespace": test.namespace.name,
            "packgate.dev/bundle": "gate",
        });
        let map = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"generateName": "gate-", "labels": labels},
        })
        .to_string();
        wait_for("a write at the gate", Duration::from_secs(20), || {
            test.namespace
                .kubectl(["create", "-f", "-"])
                .stdin(map.clone())
                .run()
                .ok();
            (!self.seen().is_empty()).then_some(())
        });
    }

    /// The bundles whose write is held now.
    pub(crate) fn held(&self) -> Vec<String> {
        self.shared
            .lock()
            .held
            .iter()
            .map(|write| write.bundle.clone())
            .collect()
    }

    /// How often all that were held were sent back. While this stays the same, what is held stays
    /// held.
    pub(crate) fn rounds(&self) -> u64 {
        self.shared.lock().rounds
    }

    /// Every write so far, held or not.
    pub(crate) fn seen(&self) -> Vec<Write> {
        self.shared.lock().seen.clone()
    }

    /// Lets everything pass, what is held too.
    pub(crate) fn open(&self) {
        self.shared.lock().holds.clear();
        self.shared.changed.notify_all();
    }
}

fn webhook(name: &str, client: &Value, more: &Value) -> Value {
    let mut webhook = json!({
        "name": format!("{name}.gate.test"), "clientConfig": client, "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "timeoutSeconds": 30,
    });
    for (key, value) in more.as_object().expect("an object") {
        webhook[key] = value.clone();
    }
    webhook
}

fn tls(pki: &std::path::Path) -> Arc<ServerConfig> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let certificates = CertificateDer::pem_file_iter(pki.join("test-server.crt"))
        .expect("a file")
        .collect::<Result<_, _>>()
        .expect("certificates");
    let key = PrivateKeyDer::from_pem_file(pki.join("test-server.key")).expect("a key");
    Arc::new(
        ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .expect("a pair"),
    )
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    /// Returns when the write may pass; false: it, or another, was held for too long.
    fn pass(&self, write: &Write) -> bool {
        let deadline = Instant::now() + LONGEST;
        let mut state = self.lock();
        state.seen.push(write.clone());
        let is_held =
            |state: &State| state.holds.get(write.bundle.as_str()) == Some(&write.what.as_str());
        if !is_held(&state) {
            return true;
        }
        state.held.push(write.clone());
        let round = state.rounds;
        while is_held(&state) && state.rounds == round {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.rounds += 1;
                self.changed.notify_all();
            } else {
                state = self.changed.wait_timeout(state, left).expect("no panic").0;
            }
        }
        let passes = !is_held(&state);
        if let Some(index) = state.held.iter().position(|held| held == write) {
            state.held.remove(index);
        }
        passes
    }
}

fn answer(connection: TcpStream, tls: Arc<ServerConfig>, shared: &Shared) -> std::io::Result<()> {
    let session = ServerConnection::new(tls).expect("a session");
    let mut stream = StreamOwned::new(session, connection);
    let request = read(&mut BufReader::new(&mut stream))?["request"].take();
    if !shared.pass(&write(&request)) {
        return Ok(());
    }
    let response = json!({"uid": request["uid"], "allowed": true});
    let body = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": response,
    })
    .to_string();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: \
            close\r\n\r\n{body}",
        body.len()
    )?;
    stream.conn.send_close_notify();
    stream.flush()
}

fn read(stream: &mut impl BufRead) -> std::io::Result<Value> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().unwrap_or(0);
            }
            None if line.trim_end().is_empty() => break,
            _ => (),
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

fn write(request: &Value) -> Write {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let object = if request["object"].is_null() {
        &request["oldObject"]
    } else {
        &request["object"]
    };
    let labels = &object["metadata"]["labels"];
    let user = &request["userInfo"];
    let pod = text(&user["extra"]["authentication.kubernetes.io/pod-name"][0]);
    let who = if pod.is_empty() {
        text(&user["username"])
    } else {
        pod
    };
    if request["subResource"] == "status" {
        let ready = object["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == "Ready");
        let reason = ready.map_or_else(|| "-".to_owned(), |ready| text(&ready["reason"]));
        return Write {
            who,
            what: format!("status {reason}"),
            bundle: text(&request["name"]),
        };
    }
    let (verb, kind) = (
        text(&request["operation"]).to_lowercase(),
        text(&request["kind"]["kind"]),
    );
    let component = text(&labels["app.kubernetes.io/component"]);
    Write {
        who,
        what: format!("{verb} {kind} {component}").trim_end().to_owned(),
        bundle: text(&labels["packgate.dev/bundle"]),
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        kubectl([
            "delete",
            "validatingwebhookconfiguration",
            &self.name,
            "--ignore-not-found",
        ])
        .run();
        self.open();
    }
}
