//! A small file server, which pods reach at the node's address.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// Serves a few files over http, until the tests end.
#[derive(Debug)]
pub(crate) struct FileServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl FileServer {
    /// Listens on a free port of this address. Paths begin with `/`.
    pub(crate) fn start(ip: &str, files: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap_or_else(|e| panic!("{ip}: {e}"));
        let address = listener.local_addr().expect("an address");
        let files: HashMap<String, String> = files.iter().map(|(path, content)| ((*path).to_owned(), (*content).to_owned())).collect();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&asked);
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                // A client that goes away is none of our business.
                let _ = answer(&connection, &files, &seen);
            }
        });
        Self { address, asked }
    }

    /// The URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The paths that were asked for, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }
}

fn answer(mut connection: &TcpStream, files: &HashMap<String, String>, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(connection).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = first.split(' ').nth(1).unwrap_or_default();
    asked.lock().expect("no panic").push(path.to_owned());
    let (status, body) = files.get(path).map_or(("404 Not Found", ""), |content| ("200 OK", content.as_str()));
    write!(connection, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}
