//! A TUF repository that is made and signed here, and a server that serves it or misbehaves. Unit
//! tests use this file too.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

/// Files by their path on the server.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// One key of the repository.
struct Key {
    pair: Ed25519KeyPair,
}

/// A key for each role.
struct Keys {
    root: Key,
    timestamp: Key,
    snapshot: Key,
    targets: Key,
}

/// A repository with a target `trusted_root.json`.
pub(crate) struct TufRepository {
    keys: Keys,
    root_version: u64,
    version: u64,
    root_expires: String,
    /// The files that a server serves.
    pub(crate) files: Arc<Mutex<Files>>,
}

impl Key {
    fn new() -> Self {
        Self {
            pair: Ed25519KeyPair::generate().expect("a key"),
        }
    }

    fn public(&self) -> String {
        hex::encode(self.pair.public_key().as_ref())
    }

    fn id(&self) -> String {
        self.public()
    }

    fn declared(&self) -> Value {
        json!({"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": self.public()}})
    }
}

impl Keys {
    fn new() -> Self {
        Self {
            root: Key::new(),
            timestamp: Key::new(),
            snapshot: Key::new(),
            targets: Key::new(),
        }
    }

    const fn all(&self) -> [(&'static str, &Key); 4] {
        [
            ("root", &self.root),
            ("timestamp", &self.timestamp),
            ("snapshot", &self.snapshot),
            ("targets", &self.targets),
        ]
    }
}

impl TufRepository {
    /// A repository whose root and metadata expire then.
    pub(crate) fn new(trusted_root: &str, expires: &str) -> Self {
        let mut repository = Self {
            keys: Keys::new(),
            root_version: 0,
            version: 0,
            root_expires: "2030-01-01T00:00:00Z".to_owned(),
            files: Arc::default(),
        };
        repository.write_root(&[]);
        repository.publish(trusted_root, expires);
        repository
    }

    /// The first root of clients.
    pub(crate) fn root(&self, version: u64) -> Vec<u8> {
        self.files.lock().expect("no panic")[&format!("{version}.root.json")].clone()
    }

    /// The next version of everything but the root.
    pub(crate) fn publish(&mut self, trusted_root: &str, expires: &str) {
        self.publish_all(&[("trusted_root.json", trusted_root)], expires);
    }

    /// The same with these targets.
    pub(crate) fn publish_all(&mut self, contents: &[(&str, &str)], expires: &str) {
        self.version += 1;
        let version = self.version;
        let target = |text: &str| {
            json!({
                "length": text.len(),
                "hashes": {"sha256": sha256(text.as_bytes())},
            })
        };
        let listed: serde_json::Map<String, Value> = contents
            .iter()
            .map(|(name, text)| ((*name).to_owned(), target(text)))
            .collect();
        let targets = signed(
            &json!({
                "_type": "targets",
                "spec_version": "1.0.31",
                "version": version,
                "expires": expires,
                "targets": listed,
            }),
            &[&self.keys.targets],
        );
        let snapshot = signed(
            &json!({
                "_type": "snapshot",
                "spec_version": "1.0.31",
                "version": version,
                "expires": expires,
                "meta": {"targets.json": pin(version, &targets)},
            }),
            &[&self.keys.snapshot],
        );
        let timestamp = signed(
            &json!({
                "_type": "timestamp",
                "spec_version": "1.0.31",
                "version": version,
                "expires": expires,
                "meta": {"snapshot.json": pin(version, &snapshot)},
            }),
            &[&self.keys.timestamp],
        );
        let mut files = self.files.lock().expect("no panic");
        for (name, text) in contents {
            files.insert(
                format!("targets/{}.{name}", sha256(text.as_bytes())),
                text.as_bytes().to_vec(),
            );
        }
        files.insert(format!("{version}.targets.json"), targets);
        files.insert(format!("{version}.snapshot.json"), snapshot);
        files.insert("timestamp.json".to_owned(), timestamp);
    }

    /// New keys for everything, by a root that the old key signs too.
    pub(crate) fn rotate(&mut self) {
        let old = std::mem::replace(&mut self.keys, Keys::new());
        self.write_root(&[&old.root]);
    }

    /// A new key for the root alone, by a root that the old key signs too.
    #[allow(dead_code, reason = "unit tests use this file too")]
    pub(crate) fn rotate_root(&mut self) {
        let old = std::mem::replace(&mut self.keys.root, Key::new());
        self.write_root(&[&old]);
    }

    /// New keys for everything, by a root that the old key does not sign.
    pub(crate) fn usurp(&mut self) {
        self.keys = Keys::new();
        self.write_root(&[]);
    }

    fn write_root(&mut self, also: &[&Key]) {
        self.root_version += 1;
        let keys: serde_json::Map<String, Value> = self
            .keys
            .all()
            .iter()
            .map(|(_, key)| (key.id(), key.declared()))
            .collect();
        let roles: serde_json::Map<String, Value> = self
            .keys
            .all()
            .iter()
            .map(|(role, key)| {
                (
                    (*role).to_owned(),
                    json!({"keyids": [key.id()], "threshold": 1}),
                )
            })
            .collect();
        let root = json!({
            "_type": "root", "spec_version": "1.0.31", "version": self.root_version,
            "expires": self.root_expires,
            "consistent_snapshot": true, "keys": keys, "roles": roles,
        });
        let signers: Vec<&Key> = std::iter::once(&self.keys.root)
            .chain(also.iter().copied())
            .collect();
        let bytes = signed(&root, &signers);
        self.files
            .lock()
            .expect("no panic")
            .insert(format!("{}.root.json", self.root_version), bytes);
    }
}

fn pin(version: u64, bytes: &[u8]) -> Value {
    json!({"version": version, "length": bytes.len(), "hashes": {"sha256": sha256(bytes)}})
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes))
}

/// The texts here are plain, so that canonical JSON is the same by every definition.
fn signed(document: &Value, keys: &[&Key]) -> Vec<u8> {
    let bytes = serde_json_canonicalizer::to_vec(document).expect("JSON");
    let signatures: Vec<Value> = keys
        .iter()
        .map(|key| json!({"keyid": key.id(), "sig": hex::encode(key.pair.sign(&bytes))}))
        .collect();
    json!({"signed": document, "signatures": signatures})
        .to_string()
        .into_bytes()
}

/// How a server behaves.
#[derive(Default)]
pub(crate) struct Behaviour {
    /// Every response is a failure.
    pub(crate) fails: AtomicBool,
    /// Every response is endless.
    pub(crate) endless: AtomicBool,
    /// Requests so far.
    pub(crate) requests: AtomicUsize,
}

/// Serves files until it is dropped.
pub(crate) struct TufServer {
    address: SocketAddr,
    pub(crate) behaviour: Arc<Behaviour>,
    ends: Arc<AtomicBool>,
}

impl TufServer {
    /// On a port of this machine.
    pub(crate) fn start(files: &Arc<Mutex<Files>>) -> Self {
        Self::start_at("127.0.0.1", files)
    }

    /// On a port of this address.
    pub(crate) fn start_at(ip: &str, files: &Arc<Mutex<Files>>) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap_or_else(|e| panic!("{ip}: {e}"));
        let server = Self {
            address: listener.local_addr().expect("an address"),
            behaviour: Arc::default(),
            ends: Arc::default(),
        };
        let (files, behaviour, ends) = (
            Arc::clone(files),
            Arc::clone(&server.behaviour),
            Arc::clone(&server.ends),
        );
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                let (files, behaviour) = (Arc::clone(&files), Arc::clone(&behaviour));
                std::thread::spawn(move || answer(connection, &files, &behaviour));
            }
        });
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/tuf", self.address)
    }

    pub(crate) fn requests(&self) -> usize {
        self.behaviour.requests.load(Ordering::SeqCst)
    }
}

impl Drop for TufServer {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address); // so that it sees that it ends
    }
}

/// One request of a connection. A client that is gone needs no response.
fn answer(connection: TcpStream, files: &Mutex<Files>, behaviour: &Behaviour) {
    let Ok(reading) = connection.try_clone() else {
        return;
    };
    let lines: Vec<String> = BufReader::new(reading)
        .lines()
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .collect();
    let Some(path) = lines.first().and_then(|line| line.split(' ').nth(1)) else {
        return;
    };
    behaviour.requests.fetch_add(1, Ordering::SeqCst);
    let found = files
        .lock()
        .expect("no panic")
        .get(path.trim_start_matches("/tuf/"))
        .cloned();
    let mut connection = connection;
    let mut send = |status: &str, body: &[u8]| {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        connection
            .write_all(head.as_bytes())
            .and_then(|()| connection.write_all(body))
    };
    let _ = match found {
        _ if behaviour.fails.load(Ordering::SeqCst) => send("500 Internal Server Error", b""),
        _ if behaviour.endless.load(Ordering::SeqCst) => {
            let begun = connection.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
            begun.and_then(|()| {
                loop {
                    connection.write_all(&[b' '; 8_192])?;
                }
            })
        }
        Some(body) => send("200 OK", &body),
        None => send("404 Not Found", b""),
    };
}
