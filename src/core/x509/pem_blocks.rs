//! Certificates and revocation lists as PEM (RFC 7468), within limits.

use crate::core::{
    display_text::sanitize_text,
    pem::{PemBlock, decode_pem_body, pem_blocks},
};

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
    let count = pem_blocks(text).count();
    if count > limit {
        return Err(CertificateAuthorityError::TooMany { what, count, limit });
    }
    let block = |(at, block): (usize, PemBlock<'_>)| {
        if block.label() != label {
            let found = sanitize_text(block.label());
            return Err(wrong(format!(
                "block {} is a {found}, not a {label}",
                at + 1
            )));
        }
        let body = block
            .body()
            .ok_or_else(|| wrong(format!("block {} has no end", at + 1)))?;
        let der =
            decode_pem_body(body).ok_or_else(|| wrong(format!("block {} is no base64", at + 1)))?;
        Ok((at, der))
    };
    pem_blocks(text).enumerate().map(block).collect()
}
