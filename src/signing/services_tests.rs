//! Services with wrong responses. The genuine responses were recorded:
//! `sigstore-conformance/managed-key-happy-path`.

use std::{
    io::{Read, Write},
    net::TcpListener,
    path::PathBuf,
    sync::Arc,
    thread::JoinHandle,
};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sigstore_types::{
    PublicKeyIdentifier, SignatureBytes, VerificationMaterial, VerificationMaterialContent,
};

use super::{token::tests::token, *};
use crate::{
    core::{
        limits::InputLimits,
        sigstore::{RekorLog, RekorVersion, SelectedServices},
        sigstore_bundle::SigstoreBundle,
        verify::{TrustRoot, testing::shared_data},
    },
    http::{HttpClient, HttpOptions, HttpProxy, HttpRetryPolicy},
};

/// The first line and the body of a request.
type Asked = (String, Vec<u8>);

/// Responds to one request after the other.
fn serve(answers: Vec<(&str, String)>) -> (url::Url, JoinHandle<Vec<Asked>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"))
        .parse()
        .expect("a URL");
    let answers: Vec<String> = answers
        .into_iter()
        .map(|(head, body)| {
            format!(
                "HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            )
        })
        .collect();
    let work = move || {
        answers
            .iter()
            .map(|answer| exchange(&listener, answer))
            .collect()
    };
    (url, std::thread::spawn(work))
}

fn exchange(listener: &TcpListener, answer: &str) -> Asked {
    let (mut connection, _) = listener.accept().expect("a connection");
    let (mut read, mut buffer) = (Vec::new(), [0; 4_096]);
    let request = loop {
        let count = connection.read(&mut buffer).expect("a request");
        read.extend_from_slice(&buffer[..count]);
        if let Some(request) = complete(&read) {
            break request;
        }
        assert_ne!(count, 0, "a whole request");
    };
    connection.write_all(answer.as_bytes()).expect("answered");
    request
}

fn complete(read: &[u8]) -> Option<Asked> {
    let end = read.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().expect("a length"));
    let body = read.get(end + 4..end + 4 + length)?;
    Some((
        head.lines().next().unwrap_or_default().to_owned(),
        body.to_vec(),
    ))
}

fn services(services: SelectedServices, root: TrustRoot) -> SigstoreServices {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let retries = HttpRetryPolicy {
        attempts: 1,
        ..HttpRetryPolicy::default()
    };
    let http = HttpClient::new(&HttpOptions {
        proxy: HttpProxy::Direct,
        retries,
        ..HttpOptions::default()
    })
    .expect("a client");
    SigstoreServices::new(http, services, Arc::new(root))
}

/// A root without authorities.
fn nobody() -> TrustRoot {
    let json = r#"{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1","tlogs":[],"certificateAuthorities":[],"ctlogs":[],"timestampAuthorities":[]}"#;
    TrustRoot::parse(json.as_bytes(), &InputLimits::DEFAULT).expect("a root")
}

/// A signer that always returns the one recorded signature.
struct Recorded {
    folder: PathBuf,
    public_pem: String,
    bundle: Value,
}

#[async_trait]
impl Signer for Recorded {
    async fn sign(&self, _: &[u8]) -> Result<SignatureWithMaterial, SigningError> {
        let signature = self.bundle["messageSignature"]["signature"]
            .as_str()
            .expect("a signature");
        let material = VerificationMaterial::new(VerificationMaterialContent::PublicKey(
            PublicKeyIdentifier::new("hint"),
        ));
        Ok(SignatureWithMaterial {
            bytes: SignatureBytes::from_bytes(&STANDARD.decode(signature).expect("base64")),
            material,
        })
    }

    fn public_key_pem(&self) -> &str {
        &self.public_pem
    }

    fn key_hint(&self) -> &'static str {
        "hint"
    }
}

fn hexed(value: &Value) -> String {
    hex::encode(
        STANDARD
            .decode(value.as_str().expect("text"))
            .expect("base64"),
    )
}

impl Recorded {
    fn open(test: &str) -> Option<Self> {
        let folder = shared_data(test)?;
        let case = folder.join("sigstore-conformance/managed-key-happy-path");
        let read = |name: &str| std::fs::read_to_string(case.join(name)).expect(name);
        Some(Self {
            public_pem: read("key.pub"),
            bundle: serde_json::from_str(&read("bundle.sigstore.json")).expect("JSON"),
            folder,
        })
    }

    fn message(&self) -> Vec<u8> {
        std::fs::read(self.folder.join("sigstore-conformance/a.txt")).expect("a file")
    }

    fn root(&self) -> TrustRoot {
        let bytes =
            std::fs::read(self.folder.join("trust/prod_trusted_root.json")).expect("a root");
        TrustRoot::parse(&bytes, &InputLimits::DEFAULT).expect("a root")
    }

    /// The response of a Rekor 1 when the signature was logged.
    fn answer(&self) -> Value {
        let entry = &self.bundle["verificationMaterial"]["tlogEntries"][0];
        let number = |value: &Value| {
            value
                .as_str()
                .expect("a number")
                .parse::<u64>()
                .expect("a number")
        };
        let proof = &entry["inclusionProof"];
        let hashes: Vec<String> = proof["hashes"]
            .as_array()
            .expect("a list")
            .iter()
            .map(hexed)
            .collect();
        json!({"body": entry["canonicalizedBody"],
            "integratedTime": number(&entry["integratedTime"]),
            "logID": hexed(&entry["logId"]["keyId"]),
            "logIndex": number(&entry["logIndex"]), "verification": {
                "signedEntryTimestamp": entry["inclusionPromise"]["signedEntryTimestamp"],
                "inclusionProof": {"checkpoint": proof["checkpoint"]["envelope"], "hashes": hashes,
                    "logIndex": number(&proof["logIndex"]),
                    "rootHash": hexed(&proof["rootHash"]),
                    "treeSize": number(&proof["treeSize"])}}})
    }

    /// Signs with a log that responds so.
    async fn sign(
        self,
        message: &[u8],
        answer: Value,
        root: TrustRoot,
    ) -> (Result<bytes::Bytes, SigningError>, Vec<Asked>) {
        let (url, server) = serve(vec![("201 Created", json!({"uuid": answer}).to_string())]);
        let logs = vec![RekorLog {
            url,
            version: RekorVersion::V1,
        }];
        let services = services(
            SelectedServices {
                fulcio: None,
                logs,
                timestamps: Vec::new(),
            },
            root,
        );
        let witnessed = LoggedKeySigner::new(Box::new(self), services).expect("a log");
        let outcome = witnessed
            .create_sigstore_bundle(SigningContent::Message(message))
            .await;
        (outcome, server.join().expect("no panic"))
    }
}

#[tokio::test]
async fn a_signature_is_stored_with_what_the_log_says() {
    let Some(recorded) = Recorded::open("a_signature_is_stored_with_what_the_log_says") else {
        return;
    };
    let (message, answer, root, expected) = (
        recorded.message(),
        recorded.answer(),
        recorded.root(),
        recorded.bundle.clone(),
    );
    let (bundle, asked) = recorded.sign(&message, answer, root).await;
    let bundle = bundle.expect("signed");
    let bundle = SigstoreBundle::parse(&bundle, &InputLimits::DEFAULT).expect("a bundle");
    assert_eq!(bundle.log_entries()[0].canonicalized_body.as_bytes(), {
        let body = expected["verificationMaterial"]["tlogEntries"][0]["canonicalizedBody"]
            .as_str()
            .expect("text");
        STANDARD.decode(body).expect("base64")
    });
    assert_eq!(asked[0].0, "post /api/v1/log/entries http/1.1");
    // The log's entry equals our request, with the same field names.
    let body = STANDARD
        .decode(
            expected["verificationMaterial"]["tlogEntries"][0]["canonicalizedBody"]
                .as_str()
                .expect("text"),
        )
        .expect("base64");
    let logged: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(
        serde_json::from_slice::<Value>(&asked[0].1).expect("JSON"),
        logged
    );
}

type Change = fn(&mut Value);

#[tokio::test]
async fn what_a_log_says_is_not_believed_without_proof() {
    const TABLE: [(Reason, Change); 6] = [
        (Reason::InvalidInclusionProof, |a| {
            a["verification"]["inclusionProof"] = Value::Null;
        }),
        (Reason::InvalidInclusionProof, |a| {
            a["verification"]["inclusionProof"]["hashes"][0] = "00".repeat(32).into();
        }),
        (Reason::InvalidInclusionProof, |a| {
            a["verification"]["inclusionProof"]["rootHash"] = "00".repeat(32).into();
        }),
        (Reason::InvalidTimestamp, |a| {
            a["verification"]["signedEntryTimestamp"] = "MEUCIQ==".into();
        }),
        (Reason::InvalidTimestamp, |a| {
            a["integratedTime"] = 1_766_077_480.into();
        }),
        (Reason::InvalidTimestamp, |a| {
            a["logID"] = "00".repeat(32).into();
        }),
    ];
    for (at, (reason, change)) in TABLE.into_iter().enumerate() {
        let Some(recorded) = Recorded::open("what_a_log_says_is_not_believed_without_proof") else {
            return;
        };
        let (message, mut answer, root) = (recorded.message(), recorded.answer(), recorded.root());
        change(&mut answer);
        let error = recorded
            .sign(&message, answer, root)
            .await
            .0
            .expect_err("refused");
        assert_eq!(error.reason(), reason, "{at}: {error}");
        assert!(error.to_string().contains("it was not stored"), "{error}");
    }
}

/// The entry is genuine, and of another artifact: a log that returns an existing entry for any
/// request.
#[tokio::test]
async fn an_entry_for_another_artifact_is_refused() {
    let Some(recorded) = Recorded::open("an_entry_for_another_artifact_is_refused") else {
        return;
    };
    let key = KeySigner::from_pem(include_bytes!("../../tests/data/keys/p256-pkcs8.pem"), None)
        .expect("a key");
    let (url, server) = serve(vec![(
        "201 Created",
        json!({"uuid": recorded.answer()}).to_string(),
    )]);
    let logs = vec![RekorLog {
        url,
        version: RekorVersion::V1,
    }];
    let services = services(
        SelectedServices {
            fulcio: None,
            logs,
            timestamps: Vec::new(),
        },
        recorded.root(),
    );
    let witnessed = LoggedKeySigner::new(Box::new(key), services).expect("a log");
    let error = witnessed
        .create_sigstore_bundle(SigningContent::Message(&recorded.message()))
        .await
        .expect_err("refused");
    assert_eq!(error.reason(), Reason::LogEntryMismatch, "{error}");
    server.join().expect("no panic");
}

#[tokio::test]
async fn an_entry_of_a_log_that_nobody_trusts_is_refused() {
    let Some(recorded) = Recorded::open("an_entry_of_a_log_that_nobody_trusts_is_refused") else {
        return;
    };
    let (message, answer) = (recorded.message(), recorded.answer());
    let error = recorded
        .sign(&message, answer, nobody())
        .await
        .0
        .expect_err("refused");
    assert_eq!(error.reason(), Reason::InvalidInclusionProof, "{error}");
}

#[tokio::test]
async fn an_entry_that_a_log_has_already_is_fetched_from_that_log_only() {
    let Some(recorded) =
        Recorded::open("an_entry_that_a_log_has_already_is_fetched_from_that_log_only")
    else {
        return;
    };
    let entry = json!({"uuid": recorded.answer()}).to_string();
    for (location, is_taken) in [
        ("/api/v1/log/entries/uuid", true),
        ("http://192.0.2.1/api/v1/log/entries/uuid", false),
    ] {
        let Some(recorded) = Recorded::open("") else {
            return;
        };
        let conflict = format!("409 Conflict\r\nLocation: {location}");
        let mut answers = vec![(conflict.as_str(), "{}".to_owned())];
        if is_taken {
            answers.push(("200 OK", entry.clone()));
        }
        let (url, server) = serve(answers);
        let (message, root) = (recorded.message(), recorded.root());
        let services = services(
            SelectedServices {
                fulcio: None,
                logs: vec![RekorLog {
                    url,
                    version: RekorVersion::V1,
                }],
                timestamps: Vec::new(),
            },
            root,
        );
        let outcome = LoggedKeySigner::new(Box::new(recorded), services)
            .expect("a log")
            .create_sigstore_bundle(SigningContent::Message(&message))
            .await;
        assert_eq!(outcome.is_ok(), is_taken, "{outcome:?}");
        let asked = server.join().expect("no panic");
        assert!(
            !is_taken || asked[1].0.starts_with("get /api/v1/log/entries/uuid "),
            "{asked:?}"
        );
    }
}

#[tokio::test]
async fn a_timestamp_for_another_request_is_refused() {
    for (reason, head, part) in [
        (
            Reason::MalformedEvidence,
            "200 OK",
            "no timestamp was granted",
        ),
        (Reason::NoSigner, "400 Bad Request", "answered HTTP 400"),
        (Reason::FetchFailed, "503 Unavailable", "answered HTTP 503"),
        (Reason::RateLimited, "429 Too Many", "answered HTTP 429"),
    ] {
        let key = KeySigner::from_pem(include_bytes!("../../tests/data/keys/p256-pkcs8.pem"), None)
            .expect("a key");
        let (url, server) = serve(vec![(head, "0\u{3}\u{2}\u{1}\u{0}".to_owned())]);
        let services = services(
            SelectedServices {
                fulcio: None,
                logs: Vec::new(),
                timestamps: vec![url],
            },
            nobody(),
        );
        let witnessed = LoggedKeySigner::new(Box::new(key), services).expect("an authority");
        let error = witnessed
            .create_sigstore_bundle(SigningContent::Message(b"x"))
            .await
            .expect_err("refused");
        assert_eq!(error.reason(), reason, "{error}");
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(server.join().expect("no panic")[0].0, "post / http/1.1");
    }
}

#[test]
fn services_must_be_enough() {
    let url: url::Url = "http://192.0.2.1".parse().expect("a URL");
    let log = |version| RekorLog {
        url: url.clone(),
        version,
    };
    let of = |fulcio: bool, logs: Vec<RekorLog>| {
        services(
            SelectedServices {
                fulcio: fulcio.then(|| url.clone()),
                logs,
                timestamps: Vec::new(),
            },
            nobody(),
        )
    };
    let source = || -> TokenSource { Box::new(|| Err(TokenError::Missing("none".into()))) };
    for (services, expected) in [
        (
            of(false, vec![log(RekorVersion::V1)]),
            SigstoreServiceError::NoAuthority,
        ),
        (of(true, Vec::new()), SigstoreServiceError::NoLog),
    ] {
        assert_eq!(
            KeylessSigner::new(services, source()).expect_err("refused"),
            SigningError::Service(expected)
        );
    }
    let key = || {
        KeySigner::from_pem(include_bytes!("../../tests/data/keys/p256-pkcs8.pem"), None)
            .expect("a key")
    };
    let error = LoggedKeySigner::new(Box::new(key()), of(true, Vec::new())).expect_err("refused");
    assert_eq!(
        (&error, error.reason()),
        (
            &SigningError::Service(SigstoreServiceError::NoLogOrTimestamp),
            Reason::NoSigner
        )
    );
    assert!(LoggedKeySigner::new(Box::new(key()), of(false, vec![log(RekorVersion::V2)])).is_ok());
}

const SECRET: &str = "c2lnbmF0dXJl"; // the last part of every test token

fn keyless(fulcio: url::Url) -> KeylessSigner {
    let logs = vec![RekorLog {
        url: "http://192.0.2.1".parse().expect("a URL"),
        version: RekorVersion::V1,
    }];
    let services = services(
        SelectedServices {
            fulcio: Some(fulcio),
            logs,
            timestamps: Vec::new(),
        },
        nobody(),
    );
    let text = token(&json!({"iss": "https://i.example.com", "aud": "elsewhere", "exp": 4e9}));
    KeylessSigner::new(
        services,
        Box::new(move || {
            IdentityToken::parse(&text, "2026-11-21T10:00:00Z".parse().expect("a time"))
        }),
    )
    .expect("enough")
}

#[tokio::test]
async fn a_refused_token_is_explained_and_not_shown() {
    let whole = token(&json!({"iss": "https://i.example.com", "aud": "elsewhere", "exp": 4e9}));
    for head in ["400 Bad Request", "401 Unauthorized", "403 Forbidden"] {
        let (url, server) = serve(vec![(
            head,
            json!({"code": 16, "message": format!("cannot verify {whole}")}).to_string(),
        )]);
        let error = keyless(url)
            .create_sigstore_bundle(SigningContent::Message(b"x"))
            .await
            .expect_err("refused");
        let text = format!("{error} {error:?}");
        assert!(
            text.contains("audience \"elsewhere\"")
                && text.contains("https://i.example.com")
                && text.contains("cannot verify ***"),
            "{text}"
        );
        assert!(!text.contains(SECRET), "{text}");
        assert_eq!(error.reason(), Reason::NoSigner);
        let (line, body) = server.join().expect("no panic").remove(0);
        assert_eq!(line, "post /api/v2/signingcert http/1.1");
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(body["credentials"]["oidcIdentityToken"], whole);
        let csr = STANDARD
            .decode(body["certificateSigningRequest"].as_str().expect("text"))
            .expect("base64");
        assert!(csr.starts_with(b"-----BEGIN CERTIFICATE REQUEST-----"));
    }
}

#[tokio::test]
async fn a_token_goes_to_its_certificate_authority_only() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").expect("a port");
    elsewhere.set_nonblocking(true).expect("set");
    let location = format!(
        "307 Temporary Redirect\r\nLocation: http://{}/",
        elsewhere.local_addr().expect("an address")
    );
    let (url, server) = serve(vec![(location.as_str(), String::new())]);
    let error = keyless(url)
        .create_sigstore_bundle(SigningContent::Message(b"x"))
        .await
        .expect_err("refused");
    assert!(
        error.to_string().contains("not followed") && !error.to_string().contains(SECRET),
        "{error}"
    );
    server.join().expect("no panic");
    assert!(elsewhere.accept().is_err(), "nobody may come");
}

/// A certificate as Fulcio makes it, of another key.
fn certificate_of_another(issuer: bool) -> String {
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![rcgen::SanType::Rfc822Name(
        "dev@example.com".try_into().expect("an address"),
    )];
    if issuer {
        let content = [&[0x0c, 21], b"https://i.example.com".as_slice()].concat();
        params.custom_extensions = vec![rcgen::CustomExtension::from_oid_content(
            &[1, 3, 6, 1, 4, 1, 57_264, 1, 8],
            content,
        )];
    }
    params
        .self_signed(&rcgen::KeyPair::generate().expect("a key"))
        .expect("a certificate")
        .pem()
}

#[tokio::test]
async fn a_certificate_that_is_not_ours_is_refused() {
    let answer = |pem: String| {
        json!({"signedCertificateEmbeddedSct": {"chain": {"certificates": [pem]}}}).to_string()
    };
    for (reason, body, part) in [
        (
            Reason::MalformedEvidence,
            answer(certificate_of_another(true)),
            "another key",
        ),
        (
            Reason::IdentityMismatch,
            answer(certificate_of_another(false)),
            "an issuer",
        ),
        (
            Reason::MalformedEvidence,
            json!({}).to_string(),
            "no certificate",
        ),
    ] {
        let (url, server) = serve(vec![("201 Created", body)]);
        let error = keyless(url).signer_identity().await.expect_err("refused");
        assert_eq!(error.reason(), reason, "{error}");
        assert!(error.to_string().contains(part), "{error}");
        server.join().expect("no panic");
    }
}

#[tokio::test]
async fn an_expired_token_is_not_even_sent() {
    let fulcio: url::Url = "http://192.0.2.1".parse().expect("a URL");
    let logs = vec![RekorLog {
        url: fulcio.clone(),
        version: RekorVersion::V1,
    }];
    let services = services(
        SelectedServices {
            fulcio: Some(fulcio),
            logs,
            timestamps: Vec::new(),
        },
        nobody(),
    );
    let source: TokenSource = Box::new(|| {
        let text = token(&json!({"iss": "i", "aud": "sigstore", "exp": 1}));
        IdentityToken::parse(&text, "2026-11-21T10:00:00Z".parse().expect("a time"))
    });
    let error = KeylessSigner::new(services, source)
        .expect("enough")
        .create_sigstore_bundle(SigningContent::Message(b"x"))
        .await
        .expect_err("refused");
    assert_eq!(error.reason(), Reason::NoSigner);
    assert_eq!(
        error.to_string(),
        "identity token expired at 1970-01-01T00:00:01Z; get a fresh one"
    );
}

#[tokio::test]
async fn what_is_no_statement_is_not_signed_as_one() {
    for statement in [
        b"x".as_slice(),
        b"{}",
        br#"{"_type":"t","subject":[{"digest":{"sha1":"00"}}],"predicateType":"p"}"#,
    ] {
        let key = KeySigner::from_pem(include_bytes!("../../tests/data/keys/p256-pkcs8.pem"), None)
            .expect("a key");
        let timestamps = vec!["http://192.0.2.1".parse().expect("a URL")];
        let services = services(
            SelectedServices {
                fulcio: None,
                logs: Vec::new(),
                timestamps,
            },
            nobody(),
        );
        let error = LoggedKeySigner::new(Box::new(key), services)
            .expect("enough")
            .create_sigstore_bundle(SigningContent::Statement(statement))
            .await
            .expect_err("refused");
        assert_eq!(error.reason(), Reason::InvalidSpec, "{error}");
    }
}
