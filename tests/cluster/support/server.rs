//! A small file server, which pods reach at the node's address.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// A server that is held answers after this time at the latest, so that no thread outlives the
/// tests.
const LONGEST_HOLD: Duration = Duration::from_mins(4);

/// Serves a few files over http, until the tests end.
#[derive(Debug)]
pub(crate) struct FileServer {
    address: SocketAddr,
    files: Arc<Mutex<HashMap<String, String>>>,
    asked: Arc<Mutex<Vec<String>>>,
    held: Arc<AtomicBool>,
}

impl FileServer {
    /// Listens on a free port of this address. Paths begin with `/`.
    pub(crate) fn start(ip: &str, files: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap_or_else(|e| panic!("{ip}: {e}"));
        let address = listener.local_addr().expect("an address");
        let files: HashMap<String, String> = files
            .iter()
            .map(|(path, content)| ((*path).to_owned(), (*content).to_owned()))
            .collect();
        let files = Arc::new(Mutex::new(files));
        let served = Arc::clone(&files);
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let held = Arc::<AtomicBool>::default();
        let (seen, waits) = (Arc::clone(&asked), Arc::clone(&held));
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let (files, seen, waits) =
                    (Arc::clone(&served), Arc::clone(&seen), Arc::clone(&waits));
                // A client that goes away is none of our business.
                thread::spawn(move || answer(&connection, &files, &seen, &waits));
            }
        });
        Self {
            address,
            files,
            asked,
            held,
        }
    }

    /// From now on whoever asks waits for an answer.
    pub(crate) fn hold(&self) {
        self.held.store(true, Ordering::SeqCst);
    }

    /// Everybody is answered again, those who wait too.
    pub(crate) fn release(&self) {
        self.held.store(false, Ordering::SeqCst);
    }

    /// The URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Serves other content from now on.
    pub(crate) fn put(&self, path: &str, content: &str) {
        self.files
            .lock()
            .expect("no panic")
            .insert(path.to_owned(), content.to_owned());
    }

    /// The paths that were asked for, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }
}

fn answer(
    mut connection: &TcpStream,
    files: &Mutex<HashMap<String, String>>,
    asked: &Mutex<Vec<String>>,
    held: &AtomicBool,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(connection).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = first.split(' ').nth(1).unwrap_or_default();
    asked.lock().expect("no panic").push(path.to_owned());
    let since = Instant::now();
    while held.load(Ordering::SeqCst) && since.elapsed() < LONGEST_HOLD {
        thread::sleep(Duration::from_millis(20));
    }
    let body = files.lock().expect("no panic").get(path).cloned();
    let status = if body.is_some() {
        "200 OK"
    } else {
        "404 Not Found"
    };
    let body = body.unwrap_or_default();
    write!(
        connection,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
