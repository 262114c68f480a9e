//! PEM (RFC 7468): base64 between two lines with a label.
//!
//! Parsed here and not with `rustls-pki-types`: its reader skips blocks of labels that it does not
//! know, among them cosign's private keys, and a block that is skipped is one that nobody reports.

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

const BEGIN: &str = "-----BEGIN ";
/// Characters of base64 in a line (RFC 7468, section 2).
const LINE: usize = 64;

/// One block, from its label on.
#[derive(Clone, Copy)]
pub struct PemBlock<'a>(&'a str);

impl<'a> PemBlock<'a> {
    /// Its label, such as `CERTIFICATE`.
    pub fn label(&self) -> &'a str {
        self.0.split("-----").next().unwrap_or_default()
    }

    /// Its base64. `None` if the block has no end.
    pub fn body(&self) -> Option<&'a str> {
        let label = self.label();
        let rest = self.0.strip_prefix(label)?.strip_prefix("-----")?;
        rest.split_once(&format!("-----END {label}-----"))
            .map(|(body, _)| body)
    }
}

/// All blocks of a text. What is around them, as openssl writes it, is ignored.
pub fn pem_blocks(text: &str) -> impl Iterator<Item = PemBlock<'_>> {
    text.split(BEGIN).skip(1).map(PemBlock)
}

/// The base64 of a text that is one block with this label and nothing else.
pub fn only_pem_block<'a>(label: &str, text: &'a str) -> Option<&'a str> {
    text.trim()
        .strip_prefix(BEGIN)?
        .strip_prefix(label)?
        .strip_prefix("-----")?
        .strip_suffix("-----")?
        .strip_suffix(label)?
        .strip_suffix("-----END ")
}

/// The content of a block. `None` if it is not base64 in lines.
pub fn decode_pem_body(body: &str) -> Option<Vec<u8>> {
    let base64: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(base64).ok()
}

/// Writes a block.
pub fn encode_pem_block(label: &str, content: &[u8]) -> String {
    let body = Zeroizing::new(STANDARD.encode(content));
    let mut text = format!("{BEGIN}{label}-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text + "-----END " + label + "-----\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_as_they_are_written() {
        for size in [0, 1, 47, 48, 49, 500] {
            let content = vec![7; size];
            let block = encode_pem_block("A", &content);
            assert!(block.lines().all(|line| line.len() <= LINE), "{block}");
            let body = only_pem_block("A", &block).expect("one block");
            assert_eq!(decode_pem_body(body), Some(content));
            assert!(only_pem_block("B", &block).is_none());
            let text = format!("a note\n{block}\nanother\n{block}").replace('\n', "\r\n");
            assert!(only_pem_block("A", &text).is_none());
            let found: Vec<_> = pem_blocks(&text)
                .map(|block| (block.label(), block.body().and_then(decode_pem_body)))
                .collect();
            assert_eq!(found, vec![("A", Some(vec![7; size])); 2]);
        }
    }

    #[test]
    fn a_block_without_its_own_end_has_no_body() {
        for text in [
            "-----BEGIN A-----\nAAAA",
            "-----BEGIN A-----\nAAAA\n-----END B-----",
            "-----BEGIN A",
        ] {
            let bodies: Vec<_> = pem_blocks(text).map(|block| block.body()).collect();
            assert_eq!(bodies, [None], "{text}");
        }
        assert_eq!(pem_blocks("AAAA\n-----END A-----").count(), 0);
    }
}
