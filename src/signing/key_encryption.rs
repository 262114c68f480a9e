//! The encryption of cosign's private keys: scrypt and `nacl/secretbox`, in JSON.
//!
//! Source: go-securesystemslib, package `encrypted`, v0.11. It accepts three sets of scrypt
//! parameters and no other, and writes N = 65,536, r = 8, p = 1; so does packgate for passwords that
//! people choose.

use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::STANDARD};
use crypto_secretbox::{KeyInit, Nonce, XSalsa20Poly1305, aead::Aead};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Password, SigningError, key_file::MAX_KEY_FILE};
use crate::core::json;

const SCRYPT: &str = "scrypt";
const SECRETBOX: &str = "nacl/secretbox";
const NONCE_BYTES: usize = 24;
const DEPTH: usize = 4;

/// The accepted values of `log2(N)`. 17 costs 128 MiB of memory; a file with a larger value is
/// refused before anything is computed.
const LOG_N: [u8; 3] = [15, 16, 17];
const R: u32 = 8;
const P: u32 = 1;

/// Where a password comes from: what it must cost to try one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PasswordOrigin {
    /// A person chose it; it may be short.
    Person,
    /// At least 128 random bits, which nobody can guess at any cost.
    Random,
}

#[derive(Serialize, Deserialize)]
struct EncryptedKeyFile {
    kdf: KeyDerivation,
    cipher: SecretboxCipher,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
struct KeyDerivation {
    name: String,
    params: ScryptParams,
    salt: String,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct ScryptParams {
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
}

#[derive(Serialize, Deserialize)]
struct SecretboxCipher {
    name: String,
    nonce: String,
}

/// Decrypts the output of [`encrypt_key`] or cosign.
pub(super) fn decrypt_key(
    sealed: &[u8],
    password: &Password,
) -> Result<Zeroizing<Vec<u8>>, SigningError> {
    let EncryptedKeyFile {
        kdf,
        cipher,
        ciphertext,
    } = json::parse_strict(sealed, MAX_KEY_FILE, DEPTH)
        .map_err(|_| SigningError::Malformed("the encrypted content is not cosign's JSON"))?;
    if kdf.name != SCRYPT || cipher.name != SECRETBOX {
        return Err(SigningError::Encryption(format!(
            "{:.40} and {:.40}",
            kdf.name, cipher.name
        )));
    }
    let log_n = check_scrypt_params(kdf.params)?;
    let nonce = <[u8; NONCE_BYTES]>::try_from(decode_base64(&cipher.nonce)?)
        .map_err(|_| SigningError::Malformed("the nonce must have 24 bytes"))?;
    let secretbox = derive_secretbox(password, &decode_base64(&kdf.salt)?, log_n)?;
    let plain = secretbox.decrypt(&Nonce::from(nonce), decode_base64(&ciphertext)?.as_slice());
    plain
        .map(Zeroizing::new)
        .map_err(|_| SigningError::WrongPassword)
}

/// Encrypts `plain` in cosign's format.
pub(super) fn encrypt_key(
    plain: &[u8],
    password: &Password,
    origin: PasswordOrigin,
) -> Result<Vec<u8>, SigningError> {
    // 64 MiB of memory, or 32 MiB.
    let log_n = match origin {
        PasswordOrigin::Person => 16,
        PasswordOrigin::Random => 15,
    };
    let salt: [u8; 32] = random_bytes()?;
    let nonce: [u8; NONCE_BYTES] = random_bytes()?;
    let secretbox = derive_secretbox(password, &salt, log_n)?;
    let ciphertext = secretbox
        .encrypt(&Nonce::from(nonce), plain)
        .map_err(|_| SigningError::Library("encrypt"))?;
    let sealed = EncryptedKeyFile {
        kdf: KeyDerivation {
            name: SCRYPT.into(),
            params: ScryptParams {
                n: 1 << log_n,
                r: R,
                p: P,
            },
            salt: STANDARD.encode(salt),
        },
        cipher: SecretboxCipher {
            name: SECRETBOX.into(),
            nonce: STANDARD.encode(nonce),
        },
        ciphertext: STANDARD.encode(ciphertext),
    };
    serde_json::to_vec(&sealed).map_err(|_| SigningError::Library("serialise a key"))
}

fn check_scrypt_params(ScryptParams { n, r, p }: ScryptParams) -> Result<u8, SigningError> {
    let found = LOG_N
        .into_iter()
        .find(|log_n| n == 1 << log_n && r == R && p == P);
    found.ok_or(SigningError::ScryptParameters { n, r, p })
}

fn derive_secretbox(
    password: &Password,
    salt: &[u8],
    log_n: u8,
) -> Result<XSalsa20Poly1305, SigningError> {
    let failed = || SigningError::Library("derive a key");
    let params = scrypt::Params::new(log_n, R, P, 32).map_err(|_| failed())?;
    let mut key = Zeroizing::new([0; 32]);
    scrypt::scrypt(password.as_bytes(), salt, &params, key.as_mut()).map_err(|_| failed())?;
    XSalsa20Poly1305::new_from_slice(key.as_ref()).map_err(|_| failed())
}

fn decode_base64(text: &str) -> Result<Vec<u8>, SigningError> {
    STANDARD
        .decode(text)
        .map_err(|_| SigningError::Malformed("the encrypted content is not base64"))
}

fn random_bytes<const N: usize>() -> Result<[u8; N], SigningError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| SigningError::Library("make random bytes"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn sealed() -> Value {
        serde_json::from_slice(
            &encrypt_key(b"secret", &Password::new("right"), PasswordOrigin::Person)
                .expect("sealed"),
        )
        .expect("JSON")
    }

    fn try_open(sealed: &Value, password: &str) -> Result<Vec<u8>, SigningError> {
        decrypt_key(
            &serde_json::to_vec(sealed).expect("JSON"),
            &Password::new(password),
        )
        .map(|plain| plain.to_vec())
    }

    #[test]
    fn only_the_right_password_opens() {
        let sealed = sealed();
        assert_eq!(sealed["kdf"]["params"], json!({"N": 65536, "r": 8, "p": 1}));
        assert_eq!(try_open(&sealed, "right"), Ok(b"secret".to_vec()));
        for wrong in ["", "wrong", "right "] {
            assert_eq!(
                try_open(&sealed, wrong),
                Err(SigningError::WrongPassword),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn a_random_password_costs_half_the_memory() {
        let password = Password::new("0123456789abcdef0123456789abcdef");
        let sealed = encrypt_key(b"secret", &password, PasswordOrigin::Random).expect("sealed");
        let sealed: Value = serde_json::from_slice(&sealed).expect("JSON");
        assert_eq!(
            sealed["kdf"]["params"],
            json!({"N": 32768, "r": 8, "p": 1}),
            "cosign's other set of parameters"
        );
        assert_eq!(
            try_open(&sealed, "0123456789abcdef0123456789abcdef"),
            Ok(b"secret".to_vec())
        );
        assert_eq!(
            try_open(&sealed, "0123456789abcdef0123456789abcdee"),
            Err(SigningError::WrongPassword)
        );
    }

    #[test]
    fn a_changed_file_does_not_open() {
        let sealed = sealed();
        let ciphertext = STANDARD
            .decode(sealed["ciphertext"].as_str().expect("text"))
            .expect("base64");
        for at in [0, ciphertext.len() - 1] {
            let mut changed = (sealed.clone(), ciphertext.clone());
            changed.1[at] ^= 1;
            changed.0["ciphertext"] = STANDARD.encode(changed.1).into();
            assert_eq!(
                try_open(&changed.0, "right"),
                Err(SigningError::WrongPassword)
            );
        }
        for (pointer, value, part) in [
            ("/kdf/name", "argon2", "argon2"),
            ("/cipher/name", "aes", "aes"),
            ("/cipher/nonce", "AAAA", "24 bytes"),
            ("/kdf/salt", "?", "not base64"),
            ("/kdf/params", "", "cosign's JSON"),
        ] {
            let mut changed = sealed.clone();
            *changed.pointer_mut(pointer).expect(pointer) = value.into();
            let error = try_open(&changed, "right").expect_err(pointer);
            assert!(error.to_string().contains(part), "{pointer}: {error}");
        }
    }

    #[test]
    fn absurd_costs_are_refused_before_anything_is_computed() {
        for (n, r, p) in [
            (1_u64 << 40, 8, 1),
            (65_536, 1 << 20, 1),
            (65_536, 8, 1 << 20),
            (65_535, 8, 1),
            (2, 1, 1),
            (0, 8, 1),
            (u64::MAX, 8, 1),
        ] {
            let changed = json!({"kdf": {
                "name": "scrypt",
                "params": {"N": n, "r": r, "p": p},
                "salt": "",
            },
                "cipher": {"name": "nacl/secretbox", "nonce": ""}, "ciphertext": ""});
            assert_eq!(
                try_open(&changed, ""),
                Err(SigningError::ScryptParameters { n, r, p })
            );
        }
    }
}
