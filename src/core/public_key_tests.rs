use aws_lc_rs::{
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
        ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    },
};
use serde_json::json;

use super::*;
use crate::{
    core::{
        intoto::{COSIGN_SIGN, Statement},
        limits::InputLimits,
        media_type,
        sigstore_bundle::SigstoreBundle,
        verify::{
            SignedMessage, SignerIdentity, TrustRoot, TrustedMaterial,
            testing::{candidate, evidence},
            verify_artifact, verify_evidence,
        },
    },
    signing::{KeySigner, Signer as _},
};

const COSIGN: &str = "-----BEGIN PUBLIC \
    KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEfFzYEJaLws+djfUt1X8t9Nl0yXQ1\niSGHJdzRG0sN4qUhTfWa8/v1ouAB1z9VvZBIPtfws3gnkI6Zr9gosTxy+Q==\n-----END PUBLIC KEY-----\n";

impl VerificationKey {
    /// The same RSA key, declared for PSS.
    pub(crate) fn for_pss(&self) -> Self {
        Self::from_spki(
            der_sequence(&[PSS_SHA256, &self.spki[RSA_HEADER + RSA.len()..]].concat())
                .expect("a sequence"),
        )
        .expect("a key")
    }
}

const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";

fn pem(spki: &[u8]) -> String {
    format!("{BEGIN}\n{}\n{END}\n", BASE64.encode(spki))
}

#[test]
fn the_hint_is_cosigns() {
    let key = VerificationKey::from_pem(COSIGN).expect("cosign's key");
    assert_eq!(
        key.bundle_key_hint(),
        "KjeQLy5pIpIDI+ZLJxDjFBuvCaj7gRtpFwjL8j7NK1Y="
    );
    assert_eq!(key.algorithm().as_str(), "ECDSA P-256 SHA-256");
    assert_eq!(
        VerificationKey::from_pem(&COSIGN.replace('\n', "\r\n"))
            .expect("CRLF")
            .fingerprint(),
        key.fingerprint()
    );
}

#[test]
fn the_algorithm_follows_the_key() {
    let ec = |algorithm| {
        EcdsaKeyPair::generate(algorithm)
            .expect("a key")
            .public_key()
            .as_der()
            .expect("DER")
            .as_ref()
            .to_vec()
    };
    let ed: Vec<u8> = Ed25519KeyPair::generate()
        .expect("a key")
        .public_key()
        .as_der()
        .expect("DER")
        .as_ref()
        .to_vec();
    let rsa = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048)
        .expect("a key")
        .public_key()
        .as_der()
        .expect("DER")
        .as_ref()
        .to_vec();
    for (spki, algorithm) in [
        (ec(&ECDSA_P256_SHA256_ASN1_SIGNING), "ECDSA P-256 SHA-256"),
        (ec(&ECDSA_P384_SHA384_ASN1_SIGNING), "ECDSA P-384 SHA-384"),
        (ec(&ECDSA_P521_SHA512_ASN1_SIGNING), "ECDSA P-521 SHA-512"),
        (ed, "Ed25519"),
        (rsa, "RSA PKCS#1 SHA-256"),
    ] {
        assert_eq!(
            VerificationKey::from_pem(&pem(&spki))
                .expect(algorithm)
                .algorithm()
                .as_str(),
            algorithm
        );
    }
}

#[test]
fn every_algorithm_verifies_its_own_signatures_only() {
    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{EcdsaSigningAlgorithm, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding},
    };
    const MESSAGE: &[u8] = b"message";
    let random = SystemRandom::new();
    let ec = |algorithm: &'static EcdsaSigningAlgorithm| {
        let key = EcdsaKeyPair::generate(algorithm).expect("a key");
        let spki = key.public_key().as_der().expect("DER").as_ref().to_vec();
        (
            spki,
            key.sign(&random, MESSAGE)
                .expect("a signature")
                .as_ref()
                .to_vec(),
        )
    };
    let ed = Ed25519KeyPair::generate().expect("a key");
    let rsa = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).expect("a key");
    let rsa_spki: Vec<u8> = rsa.public_key().as_der().expect("DER").as_ref().to_vec();
    let rsa_sign = |encoding: &'static dyn RsaEncoding| {
        let mut signature = vec![0; rsa.public_modulus_len()];
        rsa.sign(encoding, &random, MESSAGE, &mut signature)
            .expect("a signature");
        signature
    };
    for (spki, signature) in [
        ec(&ECDSA_P256_SHA256_ASN1_SIGNING),
        ec(&ECDSA_P384_SHA384_ASN1_SIGNING),
        ec(&ECDSA_P521_SHA512_ASN1_SIGNING),
        (
            ed.public_key().as_der().expect("DER").as_ref().to_vec(),
            ed.sign(MESSAGE).as_ref().to_vec(),
        ),
        (rsa_spki.clone(), rsa_sign(&RSA_PKCS1_SHA256)),
    ] {
        let key = VerificationKey::from_spki(spki).expect("a key");
        assert!(key.verifies_signature(MESSAGE, &signature), "{key:?}");
        assert!(
            !key.verifies_signature(b"another", &signature)
                && !key.verifies_signature(MESSAGE, b""),
            "{key:?}"
        );
    }
    let rsa = VerificationKey::from_spki(rsa_spki).expect("a key");
    assert!(
        !rsa.verifies_signature(MESSAGE, &rsa_sign(&RSA_PSS_SHA256)),
        "one algorithm per key"
    );
}

#[test]
fn one_key_has_one_encoding() {
    let spki = decode_pem(COSIGN).expect("PEM");
    let mut compressed = b"\x30\x39\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x22\x00\x03".to_vec();
    compressed.extend_from_slice(&spki[27..59]);
    let mut off_curve = spki.clone();
    off_curve[90] ^= 1;
    let trailing = [spki.as_slice(), b"\0"].concat();
    for (what, spki) in [
        ("compressed", compressed),
        ("off curve", off_curve),
        ("trailing byte", trailing),
        ("short", spki[..90].to_vec()),
    ] {
        assert_eq!(
            VerificationKey::from_pem(&pem(&spki)).expect_err(what),
            PublicKeyError::Unsupported,
            "{what}"
        );
    }
}

#[test]
fn one_rsa_key_has_one_encoding() {
    let rsa = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048)
        .expect("a key")
        .public_key()
        .as_der()
        .expect("DER")
        .as_ref()
        .to_vec();
    let plain = b"\x30\x82\x01\x22\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
    assert!(rsa.starts_with(plain) && VerificationKey::from_spki(rsa.clone()).is_ok());
    let without_null: &[u8] =
        b"\x30\x82\x01\x20\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
    assert_eq!(
        VerificationKey::from_spki([without_null, &rsa[plain.len()..]].concat()).expect_err("odd"),
        PublicKeyError::Unsupported
    );
    assert_eq!(
        VerificationKey::from_spki([rsa.as_slice(), b"\0"].concat()).expect_err("a trailing byte"),
        PublicKeyError::Unsupported
    );
}

#[test]
fn what_is_no_public_key_is_refused() {
    let two = format!("{COSIGN}{COSIGN}");
    let before = format!("x\n{COSIGN}");
    for (text, error) in [
        ("", PublicKeyError::Pem),
        (two.as_str(), PublicKeyError::Pem),
        (&before, PublicKeyError::Pem),
        (
            &COSIGN.replace("PUBLIC KEY", "RSA PUBLIC KEY"),
            PublicKeyError::Pem,
        ),
        (&COSIGN.replace("MFkw", "M%kw"), PublicKeyError::Pem),
        (
            &COSIGN.replace("PUBLIC KEY", "ENCRYPTED SIGSTORE PRIVATE KEY"),
            PublicKeyError::Private,
        ),
        (&pem(b""), PublicKeyError::Unsupported),
        (
            &format!("{BEGIN}{}{END}", "A".repeat(MAX_PEM)),
            PublicKeyError::Pem,
        ),
    ] {
        assert_eq!(
            VerificationKey::from_pem(text).expect_err(text),
            error,
            "{text}"
        );
    }
}

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

fn read_pem(pem: &[u8]) -> Result<VerificationKey, PublicKeyError> {
    VerificationKey::from_pem(std::str::from_utf8(pem).expect("text"))
}

/// Keys and signatures by OpenSSL.
#[test]
fn signatures_by_openssl_verify_with_their_own_key_only() {
    use KeyAlgorithm::{EcdsaP256, EcdsaP384, EcdsaP521, Ed25519, RsaPkcs1, RsaPss};
    let cases = [
        (data!("p256.pub"), data!("p256.sig"), EcdsaP256),
        (data!("p384.pub"), data!("p384.sig"), EcdsaP384),
        (data!("p521.pub"), data!("p521.sig"), EcdsaP521),
        (data!("ed25519.pub"), data!("ed25519.sig"), Ed25519),
        (data!("rsa.pub"), data!("rsa.sig"), RsaPkcs1),
        (data!("rsa-3072.pub"), data!("rsa-3072.sig"), RsaPkcs1),
        (data!("rsa-4096.pub"), data!("rsa-4096.sig"), RsaPkcs1),
        (data!("rsa-pss.pub"), data!("rsa-pss.sig"), RsaPss),
        (data!("rsa-as-pss.pub"), data!("rsa-as-pss.sig"), RsaPss),
    ];
    for (at, (pem, signature, algorithm)) in cases.into_iter().enumerate() {
        let key = read_pem(pem).expect("a key");
        assert_eq!(key.algorithm(), algorithm);
        assert_eq!(key.to_pem().as_bytes(), pem);
        assert!(
            key.verifies_signature(b"packgate", signature)
                && !key.verifies_signature(b"packgate ", signature),
            "{key:?}"
        );
        for (other, (_, foreign, _)) in cases.iter().enumerate() {
            assert_eq!(
                key.verifies_signature(b"packgate", foreign),
                at == other,
                "{key:?} and the signature of {other}"
            );
            let kept = SignedMessage::new(b"packgate");
            assert_eq!(
                key.verifies_hashed_message(&kept, foreign),
                at == other,
                "{key:?} and the signature of {other}, hashed once"
            );
        }
    }
}

/// docs/threat-model.md, row 28: RSA below 2048 bits, and keys that no other Sigstore tool accepts.
#[test]
fn keys_that_are_too_small_too_large_or_of_another_kind_are_refused() {
    for (pem, error) in [
        (data!("rsa-1024.pub"), PublicKeyError::Unsupported),
        (data!("rsa-5120.pub"), PublicKeyError::Unsupported),
        (data!("secp256k1.pub"), PublicKeyError::Unsupported),
        (data!("rsa-pss-open.pub"), PublicKeyError::PssParameters),
        (data!("rsa-pss-sha512.pub"), PublicKeyError::PssParameters),
    ] {
        assert_eq!(
            read_pem(pem).expect_err("refused"),
            error,
            "{}",
            String::from_utf8_lossy(pem)
        );
    }
}

/// One key, two declarations: each accepts only signatures with its own padding, and with a salt of
/// its own length.
#[test]
fn an_rsa_key_verifies_the_padding_that_it_declares_only() {
    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RSA_PSS_SHA384, RsaEncoding},
    };
    let pair = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa3072).expect("a key");
    let spki = pair.public_key().as_der().expect("DER").as_ref().to_vec();
    let plain = VerificationKey::from_spki(spki).expect("a key");
    let pss = plain.for_pss();
    let pss_spki = pss.spki_der().to_vec();
    let sign = |encoding: &'static dyn RsaEncoding| {
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(encoding, &SystemRandom::new(), b"message", &mut signature)
            .expect("a signature");
        signature
    };
    for (encoding, by_plain, by_pss) in [
        (&RSA_PKCS1_SHA256 as &'static dyn RsaEncoding, true, false),
        (&RSA_PSS_SHA256, false, true),
        (&RSA_PSS_SHA384, false, false),
    ] {
        let signature = sign(encoding);
        assert_eq!(
            (
                plain.verifies_signature(b"message", &signature),
                pss.verifies_signature(b"message", &signature)
            ),
            (by_plain, by_pss)
        );
    }
    assert!(
        plain.differs_only_in_algorithm(&pss)
            && pss.differs_only_in_algorithm(&plain)
            && !pss.differs_only_in_algorithm(&pss)
    );
    assert_ne!(plain.fingerprint(), pss.fingerprint());
    assert_eq!(
        pss.bundle_key_hint(),
        BASE64.encode(Digest::of_bytes(&pss_spki).as_bytes()),
        "the hint is of the key as it is given"
    );

    let mut longer = pss_spki.clone();
    longer[3] += 1;
    longer.push(0);
    let short_form = [b"\x30\x83\x00", &pss_spki[2..]].concat();
    for odd in [
        longer,
        short_form,
        pss_spki[..pss_spki.len() - 1].to_vec(),
        [pss_spki.as_slice(), b"\0"].concat(),
    ] {
        assert_eq!(
            VerificationKey::from_spki(odd).expect_err("odd"),
            PublicKeyError::Unsupported
        );
    }
}

/// The pre-hashed variant signs other bytes with the same key: RFC 8032, section 5.1.
#[test]
fn ed25519_is_never_pre_hashed() {
    let pair = Ed25519KeyPair::generate().expect("a key");
    let key =
        VerificationKey::from_spki(pair.public_key().as_der().expect("DER").as_ref().to_vec())
            .expect("a key");
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, b"message");
    let context = [
        b"SigEd25519 no Ed25519 collisions\x01\x00".as_slice(),
        hash.as_ref(),
    ]
    .concat();
    for signed in [hash.as_ref(), &context] {
        assert!(!key.verifies_signature(b"message", pair.sign(signed).as_ref()));
    }
    assert!(key.verifies_signature(b"message", pair.sign(b"message").as_ref()));
}

/// Mistakes of an attacker or a careless tool: the right key with the wrong hash, padding or salt.
#[test]
fn the_right_key_with_another_hash_padding_or_salt_is_refused() {
    for (pem, signature) in [
        (data!("p256.pub"), data!("p256-sha512.sig")),
        (data!("p384.pub"), data!("p384-sha256.sig")),
        (data!("p521.pub"), data!("p521-sha256.sig")),
        (data!("rsa.pub"), data!("rsa-sha512.sig")),
        (data!("rsa.pub"), data!("rsa-as-pss.sig")),
        (data!("rsa-pss.pub"), data!("rsa-pss-max.sig")),
    ] {
        let key = read_pem(pem).expect("a key");
        assert!(!key.verifies_signature(b"packgate", signature), "{key:?}");
    }
}

/// A key's bundle as `cosign sign --key` makes it.
fn bundle_of(key: &VerificationKey, payload: &[u8], signature: &[u8]) -> serde_json::Value {
    json!({
        "mediaType": media_type::SIGSTORE_BUNDLE_V03,
        "verificationMaterial": {"publicKey": {"hint": key.bundle_key_hint()}},
        "dsseEnvelope": {
            "payload": BASE64.encode(payload),
            "payloadType": media_type::IN_TOTO,
            "signatures": [{"sig": BASE64.encode(signature)}],
        },
    })
}

fn rsa_sign(pem: &[u8], encoding: &'static dyn signature::RsaEncoding, message: &[u8]) -> Vec<u8> {
    let body: String = String::from_utf8_lossy(pem)
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    let pair =
        aws_lc_rs::rsa::KeyPair::from_pkcs8(&BASE64.decode(body).expect("base64")).expect("a key");
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(
        encoding,
        &aws_lc_rs::rand::SystemRandom::new(),
        message,
        &mut signature,
    )
    .expect("a signature");
    signature
}

#[tokio::test]
async fn bundles_of_every_algorithm_are_verified_by_their_key_alone() {
    let subject = Digest::of_bytes(b"the judged manifest");
    let payload = serde_json::to_vec(&Statement::for_digest("", &subject, COSIGN_SIGN, json!({})))
        .expect("JSON");
    let message = sigstore_types::pae(media_type::IN_TOTO, &payload);
    let mut signed = vec![(
        data!("rsa-as-pss.pub"),
        rsa_sign(data!("rsa.pem"), &signature::RSA_PSS_SHA256, &message),
    )];
    for (public, private) in [
        (data!("p256.pub"), data!("p256-pkcs8.pem")),
        (data!("p384.pub"), data!("p384.pem")),
        (data!("p521.pub"), data!("p521.pem")),
        (data!("ed25519.pub"), data!("ed25519.pem")),
        (data!("rsa.pub"), data!("rsa.pem")),
        (data!("rsa-4096.pub"), data!("rsa-4096.pem")),
    ] {
        let signature = KeySigner::from_pem(private, None)
            .expect("a key")
            .sign(&message)
            .await
            .expect("a signature");
        signed.push((public, signature.bytes.as_bytes().to_vec()));
    }
    let keys: Vec<_> = signed
        .iter()
        .map(|(pem, _)| read_pem(pem).expect("a key"))
        .collect();
    for (at, (key, (_, signature))) in keys.iter().zip(&signed).enumerate() {
        let evidence = evidence(vec![candidate(
            &subject,
            &bundle_of(key, &payload, signature),
        )]);
        let judged = |keys: Vec<VerificationKey>| {
            verify_evidence(
                &subject,
                &evidence,
                &TrustedMaterial {
                    keys,
                    ..TrustedMaterial::default()
                },
                &InputLimits::DEFAULT,
            )
        };
        let found = judged(keys.clone());
        assert_eq!(found.rejected, [], "{key:?}");
        assert_eq!(
            found.verified[0].signer(),
            &SignerIdentity::Key {
                fingerprint: key.fingerprint()
            }
        );
        let others = keys
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != at)
            .map(|(_, key)| key.clone())
            .collect();
        let refused = judged(others);
        assert!(refused.verified.is_empty(), "{key:?}");
        assert_eq!(
            refused.rejected[0].reason,
            Reason::NoMatchingAuthority,
            "{key:?}"
        );
    }
}

/// `sigstore-verify` supports neither of the two, so the time of their signatures cannot be
/// verified. They are refused, never silently accepted.
#[test]
fn log_entries_and_timestamps_of_keys_that_nobody_checks_are_refused() {
    let root = TrustRoot::parse(
        br#"{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}"#,
        &InputLimits::DEFAULT,
    )
    .expect("a root");
    let subject = Digest::of_bytes(b"the judged manifest");
    for pem in [data!("p521.pub"), data!("rsa-as-pss.pub")] {
        let key = read_pem(pem).expect("a key");
        let mut bundle = bundle_of(&key, b"{}", b"signature");
        bundle["verificationMaterial"]["timestampVerificationData"] =
            json!({"rfc3161Timestamps": [{"signedTimestamp": "MAA="}]});
        let bundle = SigstoreBundle::parse(bundle.to_string().as_bytes(), &InputLimits::DEFAULT)
            .expect("a bundle");
        let error = verify_artifact(&root, &bundle, subject, Some(&key), subject, None)
            .expect_err("nobody checks it");
        assert_eq!(error.reason(), Reason::InvalidTimestamp);
        assert!(error.to_string().contains("cannot be checked"), "{error}");
    }
}
