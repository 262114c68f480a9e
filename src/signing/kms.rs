//! EFFECT. Signing with a key of another program: Sigstore's KMS plug-in protocol, version `v1`.
//!
//! A key is written `NAME://KEY`, and the program `sigstore-kms-NAME` is looked up on the `PATH`.
//! It is run once for each request, with `v1` and a JSON document as its arguments, the message on
//! stdin and its response, also JSON, on stdout. Its exit code has no meaning. Source:
//! sigstore/sigstore v1.10.8, `pkg/signature/kms/cliplugin`.
//!
//! Each response is checked: the public key is parsed as any other, and a signature that the key
//! does not verify is refused.

use std::{process::Stdio, str::FromStr, time::Duration};

use async_trait::async_trait;
use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use sigstore_types::{
    PublicKeyIdentifier, SignatureBytes, VerificationMaterial, VerificationMaterialContent,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, copy, sink},
    process::{Child, Command},
    time::timeout,
};

use super::{SignatureWithMaterial, Signer, SigningError};
use crate::core::{
    environment::SECRET_VARIABLES,
    json,
    reason::{ClassifiedError, Reason},
    verify::{KeyAlgorithm, PublicKeyError, VerificationKey, sanitize_text},
};

/// The timeout of one request. A plug-in may wait for a user to touch a token, and for a network.
pub const TIMEOUT: Duration = Duration::from_mins(1);
/// Bytes of one response: a public key in PEM and base64, and some text.
const MAX_RESPONSE: usize = 64 << 10;
const DEPTH: usize = 8;
/// Bytes of a program's stderr that are kept.
const MAX_STDERR: usize = 2 << 10;
/// The maximum size in bytes of a key's name.
const MAX_KEY: usize = 4 << 10;
const MAX_NAME: usize = 64;

const PREFIX: &str = "sigstore-kms-";
const PROTOCOL: &str = "v1";
/// Schemes of keys that cosign reads itself, and that are not plug-ins.
const RESERVED_SCHEMES: [&str; 7] = ["file", "http", "https", "env", "k8s", "github", "gitlab"];

/// A key reference, `NAME://KEY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyReference {
    name: String,
    key: String,
}

impl KeyReference {
    /// True if the text refers to a plug-in, and not to a file.
    pub fn is_key_reference(text: &str) -> bool {
        text.contains("://")
    }

    /// The name of the plug-in's program.
    pub fn program_name(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }
}

impl FromStr for KeyReference {
    type Err = KmsError;

    /// Parses `NAME://KEY`. NAME: letters, digits and `- _ .`, at most 64; KEY: anything, at most 4
    /// KiB.
    fn from_str(text: &str) -> Result<Self, KmsError> {
        let malformed = || KmsError::Reference(sanitize_text(text));
        let (name, key) = text.split_once("://").ok_or_else(malformed)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if name.is_empty()
            || name.len() > MAX_NAME
            || key.len() > MAX_KEY
            || !name.bytes().all(plain)
        {
            return Err(malformed());
        }
        if RESERVED_SCHEMES.contains(&name) {
            return Err(KmsError::Scheme(name.into()));
        }
        Ok(Self {
            name: name.into(),
            key: key.into(),
        })
    }
}

/// Why a plug-in's key cannot be used. No variant contains a secret of ours; the program's output
/// is shortened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KmsError {
    /// It is not `NAME://KEY`.
    #[error("key {0:?} is neither a file nor NAME://KEY with a NAME of letters, digits and - _ .")]
    Reference(String),
    /// A scheme of cosign's that is not a plug-in.
    #[error(
        "keys are not read from {0}://; save the key to a file and name that, or use a plug-in's \
            NAME://KEY"
    )]
    Scheme(String),
    /// The program does not exist.
    #[error(
        "program {PREFIX}{0} is not on the PATH: keys of {0}:// are reached through that plug-in \
            only, install it (docs/guides/keys.md)"
    )]
    NotFound(String),
    /// The program could not be run.
    #[error("plug-in {program} cannot be run: {cause}")]
    Run {
        /// The program.
        program: String,
        /// The system's error.
        cause: String,
    },
    /// No response within the timeout.
    #[error("plug-in {program} gave no answer to {method} within {seconds} s")]
    Late {
        /// The program.
        program: String,
        /// The method of the request.
        method: &'static str,
        /// The timeout in seconds.
        seconds: u64,
    },
    /// It responded with an error.
    #[error("plug-in {program} refused {method}: {message}")]
    Refused {
        /// The program.
        program: String,
        /// The method of the request.
        method: &'static str,
        /// Its error message.
        message: String,
    },
    /// Its response is invalid.
    #[error("plug-in {program} answered {method} with {fault}{said}")]
    Answer {
        /// The program.
        program: String,
        /// The method of the request.
        method: &'static str,
        /// What is wrong with the response.
        fault: &'static str,
        /// Its output on stderr, if any.
        said: String,
    },
    /// The type of its key is not supported.
    #[error("key of plug-in {program}: {error}")]
    Key {
        /// The program.
        program: String,
        /// What is wrong.
        error: PublicKeyError,
    },
    /// cosign does not support the type of its key.
    #[error(
        "key of plug-in {0} is for RSASSA-PSS, which is not signed with, because cosign cannot \
            verify it"
    )]
    Pss(String),
    /// Its signature does not match its own public key or algorithm.
    #[error(
        "plug-in {program} made a signature that its own public key ({algorithm}) does not verify"
    )]
    Signature {
        /// The program.
        program: String,
        /// The algorithm of its key.
        algorithm: &'static str,
    },
}

impl ClassifiedError for KmsError {
    fn reason(&self) -> Reason {
        match self {
            Self::Late { .. } => Reason::DeadlineExceeded,
            _ => Reason::NoSigner,
        }
    }
}

/// Returns the time, for the deadline in a plug-in's request.
pub type TimestampFn = fn() -> Timestamp;

/// Signs with a plug-in.
#[derive(Debug)]
pub struct KmsSigner {
    plugin: KmsPlugin,
    key: VerificationKey,
    public_pem: String,
    hint: String,
}

impl KmsSigner {
    /// Requests the public key from the plug-in. Waits for [`TIMEOUT`] at most.
    pub async fn load_key(reference: KeyReference, now: TimestampFn) -> Result<Self, KmsError> {
        Self::from_plugin(KmsPlugin {
            reference,
            now,
            timeout: TIMEOUT,
            command: Command::new,
        })
        .await
    }

    async fn from_plugin(plugin: KmsPlugin) -> Result<Self, KmsError> {
        let key = plugin.public_key().await?;
        if key.algorithm() == KeyAlgorithm::RsaPss {
            return Err(KmsError::Pss(plugin.reference.program_name()));
        }
        Ok(Self {
            public_pem: key.to_pem(),
            hint: key.bundle_key_hint(),
            plugin,
            key,
        })
    }

    /// The public key.
    pub const fn key(&self) -> &VerificationKey {
        &self.key
    }
}

#[async_trait]
impl Signer for KmsSigner {
    async fn sign(&self, pae: &[u8]) -> Result<SignatureWithMaterial, SigningError> {
        let bytes = self.plugin.sign_message(&self.key, pae).await?;
        let material =
            VerificationMaterialContent::PublicKey(PublicKeyIdentifier::new(self.hint.as_str()));
        Ok(SignatureWithMaterial {
            bytes: SignatureBytes::from_bytes(&bytes),
            material: VerificationMaterial::new(material),
        })
    }

    fn public_key_pem(&self) -> &str {
        &self.public_pem
    }

    fn key_hint(&self) -> &str {
        &self.hint
    }
}

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

#[derive(Debug)]
struct KmsPlugin {
    reference: KeyReference,
    now: TimestampFn,
    timeout: Duration,
    command: fn(String) -> Command,
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

    async fn public_key(&self) -> Result<VerificationKey, KmsError> {
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
    async fn sign_message(
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

    fn call_options(&self) -> Value {
        let deadline = jiff::SignedDuration::try_from(self.timeout)
            .ok()
            .and_then(|time| (self.now)().checked_add(time).ok());
        let mut options = json!({"keyVersion": "", "remoteVerification": false});
        if let Some(deadline) = deadline {
            options["ctxDeadline"] = deadline.to_string().into();
        }
        options
    }

    fn request_document(&self, method: &str, hash: u8, arguments: &Value) -> Value {
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
        let mut command = (self.command)(program.clone());
        command
            .arg(PROTOCOL)
            .arg(self.request_document(method, hash, &arguments).to_string());
        let late = |_| KmsError::Late {
            program: program.clone(),
            method,
            seconds: self.timeout.as_secs(),
        };
        let ended = timeout(self.timeout, run_command(command, message))
            .await
            .map_err(late)?
            .map_err(|error| self.spawn_error(&error))?;
        self.parse_response(method, &ended)
    }

    fn parse_response(
        &self,
        method: &'static str,
        ended: &PluginOutput,
    ) -> Result<PluginResponse, KmsError> {
        let fault = |fault| Err(self.response_error(method, fault, &ended.said));
        if ended.stdout.len() > MAX_RESPONSE {
            return fault("a response over the size limit");
        }
        if ended.killed {
            return fault("nothing: it was killed");
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

    fn spawn_error(&self, error: &std::io::Error) -> KmsError {
        match error.kind() {
            std::io::ErrorKind::NotFound => KmsError::NotFound(self.reference.name.clone()),
            _ => KmsError::Run {
                program: self.reference.program_name(),
                cause: error.to_string(),
            },
        }
    }
}

/// The output and exit status of a program.
struct PluginOutput {
    /// At most one byte more than [`MAX_RESPONSE`].
    stdout: Vec<u8>,
    /// The beginning of its stderr, as the end of a sentence.
    said: String,
    killed: bool,
}

async fn run_command(mut command: Command, message: &[u8]) -> std::io::Result<PluginOutput> {
    // The plug-in inherits the environment, with its own secrets, as cosign's plug-ins do, but
    // without ours.
    for secret in SECRET_VARIABLES {
        command.env_remove(secret);
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    let stderr = child.stderr.take();
    // Output beyond the limit is read and dropped, or the program would block.
    let (ended, said) = tokio::join!(exchange_message(&mut child, message), async {
        let mut stderr = stderr?;
        let said = read_limited(&mut stderr, MAX_STDERR).await.ok()?;
        let _ = copy(&mut stderr, &mut sink()).await;
        Some(said)
    });
    let (stdout, killed) = ended?;
    let said = sanitize_text(String::from_utf8_lossy(&said.unwrap_or_default()).trim());
    Ok(PluginOutput {
        stdout,
        said: if said.is_empty() {
            said
        } else {
            format!("; it said: {said}")
        },
        killed,
    })
}

async fn exchange_message(child: &mut Child, message: &[u8]) -> std::io::Result<(Vec<u8>, bool)> {
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let write = async {
        if let Some(mut input) = stdin {
            // A program may close its input without reading it: its response is more useful than
            // the broken pipe.
            let _ = input.write_all(message).await;
        }
    };
    let answer = async {
        match stdout {
            Some(mut output) => read_limited(&mut output, MAX_RESPONSE + 1).await,
            None => Ok(Vec::new()),
        }
    };
    tokio::pin!(write, answer);
    let stdout = tokio::select! {
        answered = &mut answer => answered,
        () = &mut write => answer.await,
    }?;
    if stdout.len() > MAX_RESPONSE {
        child.kill().await?;
        return Ok((stdout, false));
    }
    Ok((stdout, child.wait().await?.code().is_none()))
}

async fn read_limited(
    from: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(limit as u64).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
#[path = "kms_tests.rs"]
mod tests;
