use super::*;
use crate::core::{
    reason::{ClassifiedError, Reason},
    verify::VerificationKey,
};

macro_rules! data {
    ($name:literal) => {
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/data/keys/",
            $name
        ))
        .as_slice()
    };
}

fn load(key_file: &[u8], password: Option<&str>) -> Result<KeySigner, SigningError> {
    KeySigner::from_pem(key_file, password.map(Password::new).as_ref())
}

fn verifies(public_pem: &str, message: &[u8], signature: &[u8]) -> bool {
    VerificationKey::from_pem(public_pem)
        .expect("a public key")
        .verifies_signature(message, signature)
}

#[tokio::test]
async fn every_form_of_every_key_signs() {
    for (key_file, password, public, encrypted) in [
        (
            data!("cosign-made.key"),
            Some("packgate"),
            data!("cosign-made.pub"),
            true,
        ),
        (
            data!("sigstore.key"),
            Some("packgate"),
            data!("cosign.pub"),
            true,
        ),
        (
            data!("cosign-legacy.key"),
            Some("packgate"),
            data!("cosign.pub"),
            true,
        ),
        (
            data!("sigstore-owasp.key"),
            Some(""),
            data!("cosign.pub"),
            true,
        ),
        (data!("p256-pkcs8.pem"), None, data!("p256.pub"), false),
        (
            data!("p256-pkcs8.pem"),
            Some("not needed"),
            data!("p256.pub"),
            false,
        ),
        (data!("p256-sec1.pem"), None, data!("p256.pub"), false),
        (data!("p384.pem"), None, data!("p384.pub"), false),
        (data!("p384-sec1.pem"), None, data!("p384.pub"), false),
        (
            data!("cosign-p384.key"),
            Some("packgate"),
            data!("p384.pub"),
            true,
        ),
        (data!("p521.pem"), None, data!("p521.pub"), false),
        (data!("p521-sec1.pem"), None, data!("p521.pub"), false),
        (
            data!("cosign-p521.key"),
            Some("packgate"),
            data!("p521.pub"),
            true,
        ),
        (data!("rsa.pem"), None, data!("rsa.pub"), false),
        (data!("rsa-pkcs1.pem"), None, data!("rsa.pub"), false),
        (
            data!("cosign-rsa.key"),
            Some("packgate"),
            data!("rsa.pub"),
            true,
        ),
        (data!("rsa-3072.pem"), None, data!("rsa-3072.pub"), false),
        (
            data!("cosign-rsa-3072.key"),
            Some("packgate"),
            data!("rsa-3072.pub"),
            true,
        ),
        (data!("rsa-4096.pem"), None, data!("rsa-4096.pub"), false),
        (
            data!("cosign-rsa-4096.key"),
            Some("packgate"),
            data!("rsa-4096.pub"),
            true,
        ),
        (data!("ed25519.pem"), None, data!("ed25519.pub"), false),
        (
            data!("cosign-ed25519.key"),
            Some("packgate"),
            data!("ed25519.pub"),
            true,
        ),
    ] {
        assert_eq!(is_encrypted(key_file), Ok(encrypted));
        let signer = load(key_file, password).expect("a key");
        assert_eq!(signer.public_key_pem().as_bytes(), public);
        let signature = signer.sign(b"message").await.expect("signed");
        assert!(verifies(
            signer.public_key_pem(),
            b"message",
            signature.bytes.as_bytes()
        ));
        assert!(!verifies(
            signer.public_key_pem(),
            b"massage",
            signature.bytes.as_bytes()
        ));
        let material = serde_json::to_value(&signature.material).expect("JSON");
        assert_eq!(material["publicKey"]["hint"], signer.key_hint());
    }
}

/// `openssl pkey -pubin -in cosign.pub -outform DER | openssl dgst -sha256 -binary | base64`
#[test]
fn the_hint_is_cosigns() {
    let signer = load(data!("sigstore.key"), Some("packgate")).expect("a key");
    assert_eq!(
        signer.key_hint(),
        "MzXmnIj36XsHHpb161S86jhgkiHGVlu8veTq2goBmps="
    );
}

#[test]
fn other_keys_are_refused_with_the_reason() {
    for (key_file, part) in [
        (data!("rsa-1024.pem"), "of a kind that signs"),
        (
            data!("rsa-2560.pem"),
            "RSA of 2560 bits keys are not supported",
        ),
        (data!("rsa-pss.pem"), "RSASSA-PSS keys are not supported"),
        (data!("secp256k1.pem"), "of a kind that signs"),
        (
            b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n".as_slice(),
            "of a kind that signs",
        ),
        (data!("p256-encrypted.pem"), "cosign import-key-pair"),
        (data!("p256-sec1-encrypted.pem"), "cosign import-key-pair"),
        (data!("cosign.pub"), "packgate keys generate"),
        (b"\xff\xfe".as_slice(), "packgate keys generate"),
        (
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".as_slice(),
            "of a kind that signs",
        ),
        (
            vec![b' '; MAX_KEY_FILE + 1].as_slice(),
            "the limit is 65536",
        ),
    ] {
        let error = load(key_file, Some("packgate")).expect_err(part);
        assert_eq!(error.reason(), Reason::NoSigner);
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn a_wrong_or_missing_password_is_no_signer() {
    let key = data!("sigstore.key");
    assert_eq!(
        load(key, None).expect_err("no password"),
        SigningError::PasswordNeeded
    );
    let error = load(key, Some("secret-guess")).expect_err("wrong password");
    assert_eq!(
        (&error, error.reason()),
        (&SigningError::WrongPassword, Reason::NoSigner)
    );
    assert!(!format!("{error} {error:?}").contains("secret-guess"));
}

#[tokio::test]
async fn generated_keys_can_be_read_again() {
    let password = Password::new("pw");
    let key = generate_default_key(&password).expect("generated");
    assert!(
        key.private_pem
            .starts_with("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n")
    );
    let signer =
        KeySigner::from_pem(key.private_pem.as_bytes(), Some(&password)).expect("readable");
    assert_eq!(signer.public_key_pem(), key.public_pem);
    let signature = signer.sign(b"message").await.expect("signed");
    assert!(verifies(
        &key.public_pem,
        b"message",
        signature.bytes.as_bytes()
    ));
    assert_ne!(
        generate_default_key(&password)
            .expect("generated")
            .public_pem,
        key.public_pem
    );
}

#[tokio::test]
async fn a_key_can_be_made_for_every_algorithm() {
    let password = Password::new("pw");
    for (algorithm, name) in [
        (SigningAlgorithm::EcdsaP256, "ECDSA P-256 SHA-256"),
        (SigningAlgorithm::EcdsaP384, "ECDSA P-384 SHA-384"),
        (SigningAlgorithm::EcdsaP521, "ECDSA P-521 SHA-512"),
        (SigningAlgorithm::Rsa2048, "RSA PKCS#1 SHA-256"),
        (SigningAlgorithm::Rsa3072, "RSA PKCS#1 SHA-256"),
        (SigningAlgorithm::Rsa4096, "RSA PKCS#1 SHA-256"),
        (SigningAlgorithm::Ed25519, "Ed25519"),
    ] {
        let key = generate_key(algorithm, &password).expect(name);
        let signer = KeySigner::from_pem(key.private_pem.as_bytes(), Some(&password)).expect(name);
        let public = VerificationKey::from_pem(&key.public_pem).expect(name);
        assert_eq!(
            (
                public.algorithm().as_str(),
                public.bundle_key_hint().as_str()
            ),
            (name, signer.key_hint())
        );
        let signature = signer.sign(b"message").await.expect(name);
        assert!(
            public.verifies_signature(b"message", signature.bytes.as_bytes()),
            "{algorithm:?}"
        );
    }
}

#[test]
fn nothing_secret_is_printed() {
    let key = generate_default_key(&Password::new("pw")).expect("generated");
    let signer = KeySigner::from_pem(key.private_pem.as_bytes(), Some(&Password::new("pw")))
        .expect("readable");
    assert!(!format!("{key:?}").contains("PRIVATE"));
    assert_eq!(
        format!("{signer:?}"),
        format!("KeySigner {{ hint: {:?}, .. }}", signer.key_hint())
    );
}
