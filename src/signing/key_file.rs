//! The PEM block (RFC 7468) of a private key in a file.

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::SigningError;

/// The largest key file that is read, in bytes.
pub const MAX_KEY_FILE: usize = 64 << 10;

/// One block: its label and its content.
pub(super) struct PrivateKeyBlock {
    pub(super) label: String,
    pub(super) content: Zeroizing<Vec<u8>>,
}

/// The first block whose label ends in `PRIVATE KEY`. Text and blocks before it are skipped:
/// `openssl ecparam -genkey` writes `EC PARAMETERS` first.
pub(super) fn find_private_key(text: &str) -> Result<PrivateKeyBlock, SigningError> {
    let (label, rest) = text
        .lines()
        .enumerate()
        .find_map(|(at, line)| Some((begin_label(line)?, at)))
        .ok_or(SigningError::NoPrivateKey)?;
    let end = format!("-----END {label}-----");
    let mut body = Zeroizing::new(String::with_capacity(text.len()));
    for line in text.lines().skip(rest + 1).map(str::trim) {
        if line == end {
            return decode_block(label, &body);
        }
        if line.contains(':') {
            return Err(SigningError::Encryption(format!(
                "{label} with PEM headers"
            )));
        }
        body.push_str(line);
    }
    Err(SigningError::Malformed("the PEM block has no end"))
}

fn begin_label(line: &str) -> Option<&str> {
    let label = line
        .trim()
        .strip_prefix("-----BEGIN ")?
        .strip_suffix("-----")?;
    Some(label).filter(|label| label.ends_with("PRIVATE KEY") && label.len() <= 64)
}

fn decode_block(label: &str, body: &str) -> Result<PrivateKeyBlock, SigningError> {
    let content = STANDARD
        .decode(body)
        .map_err(|_| SigningError::Malformed("the PEM block is not base64"))?;
    Ok(PrivateKeyBlock {
        label: label.into(),
        content: Zeroizing::new(content),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::pem::encode_pem_block;

    fn read(text: &str) -> Result<(String, Vec<u8>), SigningError> {
        find_private_key(text).map(|block| (block.label, block.content.to_vec()))
    }

    #[test]
    fn blocks_are_written_as_they_are_read() {
        for size in [0, 1, 47, 48, 49, 500] {
            let content = vec![7; size];
            let text = encode_pem_block("PRIVATE KEY", &content);
            assert_eq!(read(&text), Ok(("PRIVATE KEY".into(), content)));
        }
    }

    #[test]
    fn what_comes_before_the_key_is_passed_over() {
        let text = format!(
            "a note\r\n{}{}",
            encode_pem_block("EC PARAMETERS", b"curve"),
            encode_pem_block("EC PRIVATE KEY", b"key").replace('\n', "\r\n")
        );
        assert_eq!(read(&text), Ok(("EC PRIVATE KEY".into(), b"key".to_vec())));
    }

    #[test]
    fn broken_blocks_are_refused() {
        let headers = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END \
            RSA PRIVATE KEY-----\n";
        for (text, error) in [
            ("", SigningError::NoPrivateKey),
            (
                &encode_pem_block("PUBLIC KEY", b"x"),
                SigningError::NoPrivateKey,
            ),
            (
                "-----BEGIN PRIVATE KEY-----\nAAAA\n",
                SigningError::Malformed("the PEM block has no end"),
            ),
            (
                "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----",
                SigningError::Malformed("the PEM block is not base64"),
            ),
            (
                headers,
                SigningError::Encryption("RSA PRIVATE KEY with PEM headers".into()),
            ),
        ] {
            assert_eq!(read(text), Err(error), "{text}");
        }
    }
}
