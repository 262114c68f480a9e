use jiff::Timestamp;
use serde_json::json;

use super::{
    key_reference::{MAX_KEY, MAX_NAME},
    *,
};
use crate::core::reason::{ClassifiedError, Reason};

const KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/keys");
/// A plug-in with one key and one signature, which OpenSSL made over `packgate`.
const GOOD: &str = r#"
[ "$1" = v1 ] || exit 1
encode() { base64 < "$KEYS/$1" | tr -d '\n'; }
case $2 in
*'"methodName":"publicKey"'*) printf '{"publicKey":{"publicKeyPEM":"%s"},"new":1}' "$(encode "$PUB")" ;;
*'"methodName":"signMessage"'*) [ "$(cat)" = packgate ] && printf '{"signMessage":{"signature":"%s"}}' "$(encode "$SIG")" ;;
esac
exit 3
"#;

type MakeCommand = fn(String) -> Command;

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).env("KEYS", KEYS);
    command
}

fn plugin(command: MakeCommand) -> KmsPlugin {
    KmsPlugin {
        reference: "testkms://folder/key".parse().expect("a reference"),
        now: || Timestamp::UNIX_EPOCH,
        timeout: TIMEOUT,
        command,
    }
}

async fn refused(command: MakeCommand) -> KmsError {
    KmsSigner::from_plugin(plugin(command))
        .await
        .expect_err("refused")
}

#[test]
fn references_name_a_program_and_nothing_else() {
    let reference: KeyReference = "my-hsm.v2://slot 1/ключ?x=://y"
        .parse()
        .expect("a reference");
    assert_eq!(
        (reference.program_name().as_str(), reference.key.as_str()),
        ("sigstore-kms-my-hsm.v2", "slot 1/ключ?x=://y")
    );
    assert!(
        KeyReference::is_key_reference("awskms:///alias/x")
            && !KeyReference::is_key_reference("keys/packgate.key")
    );
    let long = "n".repeat(MAX_NAME + 1) + "://k";
    for text in [
        "key.pem",
        "://k",
        "../sh://k",
        "a/b://k",
        "a b://k",
        "$(x)://k",
        &long,
        &format!("a://{}", "k".repeat(MAX_KEY + 1)),
    ] {
        assert!(
            matches!(text.parse::<KeyReference>(), Err(KmsError::Reference(_))),
            "{text}"
        );
    }
    for text in [
        "https://keys.example.com/cosign.key",
        "k8s://ns/secret",
        "env://KEY",
        "file:///tmp/k",
    ] {
        assert!(
            matches!(text.parse::<KeyReference>(), Err(KmsError::Scheme(_))),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_key_whose_program_is_missing_names_the_program() {
    for scheme in ["awskms", "gcpkms", "azurekms", "hashivault"] {
        let reference = format!("{scheme}://alias/none")
            .parse()
            .expect("a reference");
        let missing = KmsPlugin {
            reference,
            ..plugin(|name| Command::new(format!("{name}-that-is-nowhere")))
        };
        let error = KmsSigner::from_plugin(missing).await.expect_err("missing");
        assert_eq!(
            (&error, error.reason()),
            (&KmsError::NotFound(scheme.into()), Reason::NoSigner)
        );
        assert!(
            error
                .to_string()
                .contains(&format!("sigstore-kms-{scheme} is not on the PATH")),
            "{error}"
        );
    }
}

/// The documents of sigstore/sigstore, `cliplugin/common/interface_test.go`.
#[test]
fn questions_are_the_protocols() {
    let plugin = plugin(Command::new);
    let options = json!({
        "ctxDeadline": "1970-01-01T00:01:00Z",
        "keyVersion": "",
        "remoteVerification": false,
    });
    assert_eq!(plugin.call_options(), options);
    let question = plugin.request_document(
        "publicKey",
        5,
        &json!({"publicKeyOptions": {"rpcOptions": options}}),
    );
    let expected = json!({
        "initOptions": {
            "ctxDeadline": "1970-01-01T00:01:00Z",
            "protocolVersion": "v1",
            "keyResourceID": "folder/key",
            "hashFunc": 5,
            "rpcOptions": options,
        },
        "methodName": "publicKey",
        "publicKey": {"publicKeyOptions": {"rpcOptions": options}},
    });
    assert_eq!(question, expected);
}

#[tokio::test]
async fn a_plug_in_signs_with_the_key_that_it_shows() {
    let cases: [MakeCommand; 4] = [
        |_| shell(&format!("PUB=p256.pub SIG=p256.sig; {GOOD}")),
        |_| shell(&format!("PUB=p384.pub SIG=p384.sig; {GOOD}")),
        |_| shell(&format!("PUB=rsa-3072.pub SIG=rsa-3072.sig; {GOOD}")),
        |_| shell(&format!("PUB=ed25519.pub SIG=ed25519.sig; {GOOD}")),
    ];
    for (command, name) in cases
        .into_iter()
        .zip(["p256", "p384", "rsa-3072", "ed25519"])
    {
        let signer = KmsSigner::from_plugin(plugin(command)).await.expect(name);
        assert_eq!(
            signer.public_key_pem(),
            std::fs::read_to_string(format!("{KEYS}/{name}.pub")).expect("a file")
        );
        assert_eq!(signer.key_hint(), signer.key().bundle_key_hint());
        let signature = signer.sign(b"packgate").await.expect(name);
        assert!(
            signer
                .key()
                .verifies_signature(b"packgate", signature.bytes.as_bytes())
        );
        assert_eq!(
            serde_json::to_value(&signature.material).expect("JSON")["publicKey"]["hint"],
            signer.key_hint()
        );
    }
}

#[tokio::test]
async fn a_signature_that_the_shown_key_does_not_verify_is_refused() {
    let cases: [MakeCommand; 3] = [
        |_| shell(&format!("PUB=p256.pub SIG=rsa.sig; {GOOD}")),
        |_| shell(&format!("PUB=p384.pub SIG=p384-sha256.sig; {GOOD}")),
        |_| shell(&format!("PUB=rsa.pub SIG=rsa-as-pss.sig; {GOOD}")),
    ];
    for command in cases {
        let signer = KmsSigner::from_plugin(plugin(command))
            .await
            .expect("a key");
        let error = signer.sign(b"packgate").await.expect_err("refused");
        assert!(
            matches!(&error, SigningError::Kms(KmsError::Signature { .. })),
            "{error}"
        );
        assert_eq!(error.reason(), Reason::NoSigner);
    }
}

#[tokio::test]
async fn what_is_no_answer_is_told_with_the_beginning_of_what_was_said() {
    let cases: [(MakeCommand, &str); 8] = [
        (
            |_| shell("echo '{\"errorMessage\":\"no such\\u001b[31m key\"}'"),
            "refused publicKey: no such\u{fffd}[31m key",
        ),
        (
            |_| shell("echo not JSON; echo 'token expired' >&2"),
            "no JSON of the plug-in protocol; it said: token expired",
        ),
        (|_| shell("exit 1"), "no JSON of the plug-in protocol"),
        (|_| shell("echo '{}'"), "no public key"),
        (
            |_| shell("echo '{\"publicKey\":{\"publicKeyPEM\":\"?\"}}'"),
            "no public key",
        ),
        (|_| shell("kill -9 $$"), "it was killed"),
        (
            |_| shell("yes | head -c 100000"),
            "a response over the size limit",
        ),
        (
            |_| shell(&format!("PUB=rsa-1024.pub; {GOOD}")),
            "RSA of 2048 to 4096 bits",
        ),
    ];
    for (command, part) in cases {
        let error = refused(command).await;
        assert!(error.to_string().contains(part), "{part}: {error}");
        assert!(error.to_string().len() < 700, "{error}");
        assert_eq!(error.reason(), Reason::NoSigner);
    }
    assert_eq!(
        refused(|_| shell(&format!("PUB=rsa-pss.pub; {GOOD}"))).await,
        KmsError::Pss("sigstore-kms-testkms".into())
    );
}

#[tokio::test]
async fn a_plug_in_that_speaks_or_reads_without_end_is_stopped() {
    let endless = refused(|_| shell("yes")).await;
    assert!(
        endless
            .to_string()
            .contains("a response over the size limit"),
        "{endless}"
    );
    let loud = refused(|_| shell("yes x | head -c 3000000 >&2; echo '{}'")).await;
    assert!(loud.to_string().contains("no public key"), "{loud}");
    // Four megabytes that are never read.
    let signer = KmsSigner::from_plugin(plugin(|_| {
        shell(&format!(
            "PUB=p256.pub SIG=p256.sig; {}",
            GOOD.replace("$(cat)", "packgate")
        ))
    }))
    .await
    .expect("a key");
    let error = signer
        .sign(&vec![0; 4 << 20])
        .await
        .expect_err("another message");
    assert!(
        matches!(error, SigningError::Kms(KmsError::Signature { .. })),
        "{error}"
    );
}

#[tokio::test]
async fn a_plug_in_that_hangs_runs_into_its_deadline() {
    let hanging = KmsPlugin {
        timeout: Duration::from_millis(50),
        ..plugin(|_| shell("exec sleep 600"))
    };
    let error = KmsSigner::from_plugin(hanging).await.expect_err("late");
    assert_eq!(error.reason(), Reason::DeadlineExceeded);
    assert!(
        error.to_string().contains("no answer to publicKey"),
        "{error}"
    );
}

#[tokio::test]
async fn a_plug_in_gets_the_environment_without_our_secrets() {
    let error = refused(|_| {
        let mut command = shell(
            r#"printf '{"errorMessage":"[%s][%s][%s]"}' "$COSIGN_PASSWORD" "$SIGSTORE_ID_TOKEN" "$AWS_PROFILE""#,
        );
        command
            .env("COSIGN_PASSWORD", "hunter2")
            .env("SIGSTORE_ID_TOKEN", "token")
            .env("AWS_PROFILE", "kept");
        command
    });
    assert!(error.await.to_string().ends_with("[][][kept]"));
}
