//! Certificates and revocation lists as PEM (RFC 7468), within limits.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

use crate::core::evidence::sanitize_text;

use super::CertificateAuthorityError;

/// Approximate memory of one parsed certificate or list.
pub(super) const PARSED_BYTES: usize = 512;

pub(super) const fn check_size_limit(
    what: &'static str,
    size: usize,
    limit: usize,
) -> Result<(), CertificateAuthorityError> {
    if size <= limit {
        Ok(())
    } else {
        Err(CertificateAuthorityError::TooLarge { what, size, limit })
    }
}

/// The content of every block, and its position. Text around the blocks, as openssl writes it, is
/// ignored.
pub(super) fn decode_pem_blocks(
    what: &'static str,
    label: &str,
    bytes: &[u8],
    limit: usize,
) -> Result<Vec<(usize, Vec<u8>)>, CertificateAuthorityError> {
    let wrong = |problem: String| CertificateAuthorityError::Pem { what, problem };
    let text = std::str::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8".into()))?;
    let count = text.matches("-----BEGIN ").count();
    if count > limit {
        return Err(CertificateAuthorityError::TooMany { what, count, limit });
    }
    let (begin, end) = (format!("{label}-----"), format!("-----END {label}-----"));
    let block = |(at, block): (usize, &str)| {
        let named = || sanitize_text(block.split("-----").next().unwrap_or_default());
        let body = block
            .strip_prefix(&begin)
            .ok_or_else(|| wrong(format!("block {} is a {}, not a {label}", at + 1, named())))?;
        let (body, _) = body
            .split_once(&end)
            .ok_or_else(|| wrong(format!("block {} has no end", at + 1)))?;
        let base64: String = body.split_ascii_whitespace().collect();
        let der = BASE64
            .decode(base64)
            .map_err(|_| wrong(format!("block {} is no base64", at + 1)))?;
        Ok((at, der))
    };
    text.split("-----BEGIN ")
        .skip(1)
        .enumerate()
        .map(block)
        .collect()
}
