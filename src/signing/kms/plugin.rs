//! The requests to a plug-in and its responses.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{error::KmsError, key_reference::KeyReference};
use crate::{
    core::{
        display_text::sanitize_text,
        json,
        verify::{KeyAlgorithm, VerificationKey},
    },
    process::{Command, ProcessError, ProcessLimits, ProcessOutput, run_helper_process},
};

/// Bytes of one response: a public key in PEM and base64, and some text.
const MAX_RESPONSE: usize = 64 << 10;
const DEPTH: usize = 8;
/// Bytes of a program's stderr that are kept.
const MAX_STDERR: usize = 2 << 10;
const PROTOCOL: &str = "v1";

/// Go's numbers of hash functions (`crypto.Hash`), which the protocol uses, with their
/// implementations.
const SHA256: PluginHash = (5, &digest::SHA256);
const SHA384: PluginHash = (6, &digest::SHA384);
const SHA512: PluginHash = (7, &digest::SHA512);
type PluginHash = (u8, &'static digest::Algorithm);

/// The hash for a key's signatures; `None` if it signs the message itself.
const fn hash_of(algorithm: KeyAlgorithm) -> Option<PluginHash> {
    match algorithm {
        KeyAlgorithm::EcdsaP256 | KeyAlgorithm::RsaPkcs1 | KeyAlgorithm::RsaPss => Some(SHA256),
        KeyAlgorithm::EcdsaP384 => Some(SHA384),
        KeyAlgorithm::EcdsaP521 => Some(SHA512),
        KeyAlgorithm::Ed25519 => None,
    }
}

/// Returns the time, for the deadline in a plug-in's request.
pub type TimestampFn = fn() -> Timestamp;

/// A plug-in and the key in it.
#[derive(Debug)]
pub(super) struct KmsPlugin {
    pub(super) reference: KeyReference,
    pub(super) now: TimestampFn,
    pub(super) timeout: Duration,
    pub(super) command: fn(String) -> Command,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PluginResponse {
    #[serde(default)]
    error_message: String,
    public_key: Option<PluginPublicKey>,
    sign_message: Option<PluginSignature>,
}

#[derive(Deserialize)]
struct PluginPublicKey {
    #[serde(rename = "publicKeyPEM")]
    pem: String,
}

#[derive(Deserialize)]
struct PluginSignature {
    signature: String,
}

impl KmsPlugin {
    const PUBLIC_KEY: &str = "publicKey";
    const SIGN: &str = "signMessage";

    /// The public key of its key.
    pub(super) async fn public_key(&self) -> Result<VerificationKey, KmsError> {
        let arguments = json!({"publicKeyOptions": {"rpcOptions": self.call_options()}});
        let answer = self
            .call_plugin(Self::PUBLIC_KEY, SHA256.0, arguments, b"")
            .await?;
        let pem = answer
            .public_key
            .and_then(|answer| STANDARD.decode(answer.pem).ok())
            .and_then(|pem| String::from_utf8(pem).ok());
        let pem = pem.ok_or_else(|| self.response_error(Self::PUBLIC_KEY, "no public key", ""))?;
        VerificationKey::from_pem(&pem).map_err(|error| KmsError::Key {
            program: self.reference.program_name(),
            error,
        })
    }

    /// The plug-in gets both the message and its digest, as from cosign, and the digest's
    /// algorithm, which cosign omits.
    pub(super) async fn sign_message(
        &self,
        key: &VerificationKey,
        message: &[u8],
    ) -> Result<Vec<u8>, KmsError> {
        let hash = hash_of(key.algorithm());
        let options = hash.map_or_else(
            || json!({}),
            |(number, algorithm)| {
                json!({
                    "digest": STANDARD.encode(digest::digest(algorithm, message)),
                    "hashFunc": number,
                })
            },
        );
        let arguments =
            json!({"signOptions": {"rpcOptions": self.call_options(), "messageOptions": options}});
        let answer = self
            .call_plugin(Self::SIGN, hash.unwrap_or(SHA256).0, arguments, message)
            .await?;
        let signature = answer
            .sign_message
            .and_then(|answer| STANDARD.decode(answer.signature).ok());
        let signature =
            signature.ok_or_else(|| self.response_error(Self::SIGN, "no signature", ""))?;
        if key.verifies_signature(message, &signature) {
            return Ok(signature);
        }
        Err(KmsError::Signature {
            program: self.reference.program_name(),
            algorithm: key.algorithm().as_str(),
        })
    }

    pub(super) fn call_options(&self) -> Value {
        let deadline = jiff::SignedDuration::try_from(self.timeout)
            .ok()
            .and_then(|time| (self.now)().checked_add(time).ok());
        let mut options = json!({"keyVersion": "", "remoteVerification": false});
        if let Some(deadline) = deadline {
            options["ctxDeadline"] = deadline.to_string().into();
        }
        options
    }

    pub(super) fn request_document(&self, method: &str, hash: u8, arguments: &Value) -> Value {
        let mut options = json!({
            "protocolVersion": PROTOCOL,
            "keyResourceID": self.reference.key,
            "hashFunc": hash,
            "rpcOptions": self.call_options(),
        });
        options["ctxDeadline"] = options["rpcOptions"]["ctxDeadline"].clone();
        json!({"initOptions": options, "methodName": method, method: arguments})
    }

    async fn call_plugin(
        &self,
        method: &'static str,
        hash: u8,
        arguments: Value,
        message: &[u8],
    ) -> Result<PluginResponse, KmsError> {
        let program = self.reference.program_name();
        let mut command = (self.command)(program);
        command
            .arg(PROTOCOL)
            .arg(self.request_document(method, hash, &arguments).to_string());
        let limits = ProcessLimits {
            timeout: self.timeout,
            stdout_bytes: MAX_RESPONSE,
            stderr_bytes: MAX_STDERR,
            kills_group: false,
        };
        let ended = run_helper_process(command, message, limits)
            .await
            .map_err(|error| self.process_error(method, error))?;
        self.parse_response(method, &ended)
    }

    fn parse_response(
        &self,
        method: &'static str,
        ended: &ProcessOutput,
    ) -> Result<PluginResponse, KmsError> {
        let said = describe_stderr(&ended.stderr);
        let fault = |fault| Err(self.response_error(method, fault, &said));
        match ended.status {
            None => return fault("a response over the size limit"),
            Some(status) if status.code().is_none() => return fault("nothing: it was killed"),
            Some(_) => {}
        }
        match json::parse_strict::<PluginResponse>(&ended.stdout, MAX_RESPONSE, DEPTH) {
            Ok(answer) if answer.error_message.is_empty() => Ok(answer),
            Ok(PluginResponse { error_message, .. }) => Err(KmsError::Refused {
                program: self.reference.program_name(),
                method,
                message: sanitize_text(error_message.trim()),
            }),
            Err(_) => fault("no JSON of the plug-in protocol"),
        }
    }

    fn response_error(&self, method: &'static str, fault: &'static str, said: &str) -> KmsError {
        KmsError::Answer {
            program: self.reference.program_name(),
            method,
            fault,
            said: said.into(),
        }
    }

    fn process_error(&self, method: &'static str, error: ProcessError) -> KmsError {
        let program = self.reference.program_name();
        match error {
            ProcessError::Timeout(timeout) => KmsError::Late {
                program,
                method,
                seconds: timeout.as_secs(),
            },
            ProcessError::Start(error) | ProcessError::Io(error)
                if error.kind() == std::io::ErrorKind::NotFound =>
            {
                KmsError::NotFound(self.reference.name.clone())
            }
            ProcessError::Start(error) | ProcessError::Io(error) => KmsError::Run {
                program,
                cause: error.to_string(),
            },
        }
    }
}

/// What a program wrote to stderr, as the end of a sentence.
fn describe_stderr(stderr: &[u8]) -> String {
    let said = sanitize_text(String::from_utf8_lossy(stderr).trim());
    if said.is_empty() {
        said
    } else {
        format!("; it said: {said}")
    }
}
