use std::{
    io::{Read, Write},
    net::TcpListener,
};

use super::*;
use crate::{
    core::{
        download::{CredentialScope, DownloadMirror},
        lockfile::OriginType,
        reason::{ClassifiedError, Reason},
    },
    http::{AddressPolicy, HttpOptions, HttpProxy, PrivateAddresses, Redacted},
};

/// Responds to one connection after the other with these bytes, and returns the requests.
fn serve(answers: Vec<String>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let origin = format!(
        "http://{}/f?token=hunter2",
        listener.local_addr().expect("an address")
    );
    let work = move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut connection, _) = listener.accept().expect("a connection");
            let mut request = vec![0; 4_096];
            let count = connection.read(&mut request).expect("a request");
            asked.push(String::from_utf8_lossy(&request[..count]).to_ascii_lowercase());
            connection.write_all(answer.as_bytes()).expect("answered");
        }
        asked
    };
    (origin, std::thread::spawn(work))
}

fn options() -> HttpOptions {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    HttpOptions {
        proxy: HttpProxy::Direct,
        ..HttpOptions::default()
    }
}

fn anonymous() -> DownloadAccess {
    DownloadAccess::anonymous(HttpClient::new(&options()).expect("a client"))
}

async fn download_with(access: DownloadAccess, origin: &str) -> Result<Vec<u8>, String> {
    use tokio::io::AsyncReadExt;
    let request = FetchRequest {
        origin_type: OriginType::Http,
        origin,
        oci: None,
        expected_size: Some(10),
    };
    let opened = HttpOrigin::with_access(access)
        .open_artifact(request)
        .await
        .map_err(|e| e.to_string())?;
    let ArtifactStream::Stream(mut stream) = opened.content else {
        panic!("from the network")
    };
    let mut bytes = Vec::new();
    stream
        .read_to_end(&mut bytes)
        .await
        .map(|_| bytes)
        .map_err(|e| e.to_string())
}

async fn download(origin: &str) -> Result<Vec<u8>, String> {
    download_with(anonymous(), origin).await
}

const CUT: &str =
    "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: \"a\"\r\nConnection: close\r\n\r\n01234";
const WHOLE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n0123456789";

fn rest(headers: &str) -> String {
    format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nConnection: close\r\n{headers}\r\n56789"
    )
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn a_download_that_broke_goes_on_where_it_broke() {
    let (origin, server) = serve(vec![
        CUT.into(),
        rest("Content-Range: bytes 5-9/10\r\nETag: \"a\"\r\n"),
    ]);
    assert_eq!(download(&origin).await, Ok(b"0123456789".to_vec()));
    let asked = server.join().expect("no panic");
    assert!(
        asked[1].contains("range: bytes=5-\r\n") && asked[1].contains("if-range: \"a\"\r\n"),
        "{asked:?}"
    );
    for request in asked {
        assert!(
            request.contains("accept-encoding: identity\r\n"),
            "{request}"
        );
    }
}

#[tokio::test]
async fn without_anything_to_tell_versions_by_a_download_starts_again() {
    let old = "Date: Wed, 21 Oct 2015 07:28:30 GMT\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT";
    for tag in ["X: y", "ETag: W/\"a\"", old] {
        let cut = CUT.replace("ETag: \"a\"", tag);
        let (origin, server) = serve(vec![cut.clone(), cut, WHOLE.into()]);
        assert_eq!(download(&origin).await, Ok(b"0123456789".to_vec()), "{tag}");
        for request in server.join().expect("no panic") {
            assert!(!request.contains("range:"), "{tag}: {request}");
        }
    }
}

#[tokio::test]
async fn a_time_of_change_tells_versions_by_once_it_is_long_ago() {
    let settled =
        "Date: Wed, 21 Oct 2015 07:29:00 GMT\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT";
    let (origin, server) = serve(vec![
        CUT.replace("ETag: \"a\"", settled),
        rest("Content-Range: bytes 5-9/10\r\n"),
    ]);
    assert_eq!(download(&origin).await, Ok(b"0123456789".to_vec()));
    let asked = server.join().expect("no panic");
    assert!(
        asked[1].contains("if-range: wed, 21 oct 2015 07:28:00 gmt\r\n"),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_server_that_sends_no_rest_is_asked_for_the_whole() {
    for refusal in [
        answer("416 Range Not Satisfiable", "", ""),
        answer("500 Internal Server Error", "", ""),
        rest("Content-Range: bytes 4-8/10\r\n"),
        rest("Content-Range: bytes 5-9/11\r\n"),
        rest("Content-Range: bytes 5-9/10\r\nETag: \"b\"\r\n"),
        rest(""),
    ] {
        let retried = if refusal.contains(" 500 ") { 3 } else { 1 };
        let mut answers = vec![CUT.to_owned()];
        answers.extend(std::iter::repeat_n(refusal.clone(), retried));
        answers.push(WHOLE.into());
        let (origin, server) = serve(answers);
        assert_eq!(
            download(&origin).await,
            Ok(b"0123456789".to_vec()),
            "{refusal}"
        );
        let asked = server.join().expect("no panic");
        assert!(
            !asked.last().expect("asked").contains("range:"),
            "{refusal}"
        );
    }
    // The whole as an answer to a request for the rest is taken as such.
    let (origin, server) = serve(vec![CUT.into(), WHOLE.into()]);
    assert_eq!(download(&origin).await, Ok(b"0123456789".to_vec()));
    server.join().expect("no panic");
}

#[tokio::test]
async fn halves_of_two_versions_are_never_put_together() {
    let changed = "the file is another one now";
    for (other, fault) in [
        (answer("200 OK", "", "abcdefghij"), changed),
        (answer("200 OK", "ETag: \"b\"\r\n", "01X3456789"), changed),
        (
            answer("200 OK", "", "0123"),
            "HTTP 200 to a request for the rest",
        ),
    ] {
        let (origin, server) = serve(vec![CUT.into(), other.clone(), other.clone()]);
        let error = download(&origin).await.expect_err(&other);
        assert!(error.contains(fault) || error.contains(changed), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
        drop(server);
    }
}

#[tokio::test]
async fn a_file_that_is_encoded_although_it_was_not_asked_for_is_refused() {
    for (headers, named) in [
        ("Content-Encoding: gzip\r\n", "(Content-Encoding: gzip)"),
        ("Content-Encoding: br\r\n", "(Content-Encoding: br)"),
        ("Content-Encoding: gzip, br\r\n", "gzip, br"),
        ("Content-Encoding: aws-chunked\r\n", "aws-chunked"),
    ] {
        let (origin, server) = serve(vec![answer("200 OK", headers, "0123456789")]);
        let error = download(&origin).await.expect_err(headers);
        assert!(error.contains(named), "{error}");
        server.join().expect("no panic");
    }
    for headers in [
        "Content-Encoding: identity\r\n",
        "Content-Encoding:\r\n",
        "Content-Encoding: x-gzip\r\nContent-Type: application/gzip\r\n",
    ] {
        let (origin, server) = serve(vec![answer("200 OK", headers, "0123456789")]);
        assert_eq!(
            download(&origin).await,
            Ok(b"0123456789".to_vec()),
            "{headers}"
        );
        server.join().expect("no panic");
    }
}

fn with_token(origin: &str, path: Option<&str>, plain_http: bool) -> DownloadAccess {
    let host = origin.split('/').nth(2).expect("a host");
    let scope = CredentialScope::new(host, path, plain_http).expect("valid");
    let keys = [("token".to_owned(), Redacted::new("hunter2".to_owned()))].into();
    let credential = DownloadCredential::from_keys(scope, "a Secret".into(), &keys, &options())
        .expect("a credential");
    anonymous().with_credentials(vec![credential])
}

#[tokio::test]
async fn a_credential_is_sent_to_its_own_place_only() {
    const SENT: &str = "authorization: bearer hunter2\r\n";
    let (elsewhere, other) = serve(vec![WHOLE.into()]);
    let elsewhere = elsewhere.replace("?token=hunter2", "");
    let (origin, server) = serve(vec![
        answer("302 Found", "Location: /same\r\n", ""),
        answer("302 Found", &format!("Location: {elsewhere}\r\n"), ""),
    ]);
    let got = download_with(with_token(&origin, None, true), &origin).await;
    assert_eq!(got, Ok(b"0123456789".to_vec()));
    let asked = server.join().expect("no panic");
    assert!(
        asked.iter().all(|request| request.contains(SENT)),
        "{asked:?}"
    );
    let asked = other.join().expect("no panic");
    assert!(!asked[0].contains("authorization"), "{asked:?}");

    // Neither after a redirect to a path that it is not for, nor on the way back.
    let (origin, server) = serve(vec![
        answer("302 Found", "Location: /g\r\n", ""),
        WHOLE.into(),
    ]);
    let got = download_with(with_token(&origin, Some("/f"), true), &origin).await;
    assert_eq!(got, Ok(b"0123456789".to_vec()));
    let asked = server.join().expect("no panic");
    assert!(
        asked[0].contains(SENT) && !asked[1].contains("authorization"),
        "{asked:?}"
    );
}

#[tokio::test]
async fn after_another_origin_nothing_is_sent_even_back_at_the_first() {
    let first = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = first.local_addr().expect("an address");
    let back = format!("Location: http://{address}/secret\r\n");
    let (elsewhere, other) = serve(vec![answer("302 Found", &back, "")]);
    let work = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in [
            answer("302 Found", &format!("Location: {elsewhere}\r\n"), ""),
            WHOLE.to_owned(),
        ] {
            let (mut connection, _) = first.accept().expect("a connection");
            let mut request = vec![0; 4_096];
            let count = connection.read(&mut request).expect("a request");
            asked.push(String::from_utf8_lossy(&request[..count]).to_ascii_lowercase());
            connection.write_all(answer.as_bytes()).expect("answered");
        }
        asked
    });
    let origin = format!("http://{address}/f");
    let got = download_with(with_token(&origin, None, true), &origin).await;
    assert_eq!(got, Ok(b"0123456789".to_vec()));
    let asked = work.join().expect("no panic");
    assert!(
        asked[0].contains("authorization") && !asked[1].contains("authorization"),
        "{asked:?}"
    );
    other.join().expect("no panic");
}

#[tokio::test]
async fn a_refusal_says_what_helps() {
    for (access, named) in [
        (
            (|_| anonymous()) as fn(&str) -> DownloadAccess,
            "HTTP 401; if it wants credentials, give those for 127.0.0.1 in --netrc or --fetch-credentials",
        ),
        (
            |origin| with_token(origin, None, true),
            "HTTP 401 to the credentials of a Secret; correct them",
        ),
        (
            |origin| with_token(origin, None, false),
            "a Secret was not sent, because http://127.0.0.1:",
        ),
        (
            |origin| with_token(origin, Some("/other"), true),
            "give those for 127.0.0.1 in",
        ),
    ] {
        let (origin, server) = serve(vec![answer("401 Unauthorized", "", "")]);
        let error = download_with(access(&origin), &origin)
            .await
            .expect_err(named);
        assert!(error.contains(named), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
        server.join().expect("no panic");
    }
}

#[tokio::test]
async fn mirrors_are_tried_in_order_and_then_the_origin() {
    let host = |origin: &str| origin.split('/').nth(2).expect("a host").to_owned();
    for (first, second, asked_origin) in [
        (answer("404 Not Found", "", ""), WHOLE.to_owned(), false),
        // A page that says "not found" with HTTP 200.
        (answer("200 OK", "", "<html>"), WHOLE.to_owned(), false),
        (
            answer("403 Forbidden", "", ""),
            answer("404 Not Found", "", ""),
            true,
        ),
    ] {
        let (one, first_server) = serve(vec![first.clone()]);
        let (two, second_server) = serve(vec![second]);
        let (origin, server) = serve(vec![WHOLE.into()]);
        let mirror = |to: &str| {
            DownloadMirror::new(&host(&origin), &format!("http://{}/up", host(to))).expect("valid")
        };
        let access = anonymous().with_mirrors(vec![mirror(&one), mirror(&two)]);
        let got = download_with(access, &origin).await;
        assert_eq!(got, Ok(b"0123456789".to_vec()), "{first}");
        for server in [first_server, second_server] {
            let asked = server.join().expect("no panic");
            assert!(
                asked[0].starts_with("get /up/f http/1.1"),
                "the signature of one host is no other's business: {asked:?}"
            );
        }
        if asked_origin {
            server.join().expect("no panic");
        } else {
            assert!(!server.is_finished(), "{first}");
        }
    }
    let (origin, _server) = serve(Vec::new());
    let access = anonymous().with_mirrors(vec![
        DownloadMirror::new(&host(&origin), "http://127.0.0.1:1").expect("valid"),
    ]);
    let error = download_with(access, &origin.replace("127.0.0.1", "localhost")).await;
    assert!(
        !error
            .expect_err("nobody answers")
            .contains("mirrors failed"),
        "another host has no mirror"
    );
}

#[tokio::test]
async fn addresses_that_may_not_be_reached_are_named_as_such() {
    let addresses = AddressPolicy::Cluster {
        private: PrivateAddresses::Listed(Vec::new()),
    };
    let client = HttpClient::new(&HttpOptions {
        addresses,
        ..options()
    })
    .expect("a client");
    let request = FetchRequest {
        origin_type: OriginType::Http,
        origin: "http://169.254.169.254/latest?x=hunter2",
        oci: None,
        expected_size: None,
    };
    let error = HttpOrigin::new(client)
        .open_artifact(request)
        .await
        .map(drop)
        .expect_err("refused");
    assert_eq!(error.reason(), Reason::AddressNotAllowed);
    assert!(!error.to_string().contains("hunter2"), "{error}");
}
