//! DSSE envelopes: the bytes that are signed.
//!
//! Source: secure-systems-lab/dsse, the DSSE protocol, "Signature Definition".

use super::media_type;

/// The pre-authentication encoding (PAE) of an in-toto statement: what a signature in its envelope
/// signs.
pub fn statement_pae(statement: &[u8]) -> Vec<u8> {
    sigstore_types::pae(media_type::IN_TOTO, statement)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_covers_the_payload_type() {
        assert_eq!(
            statement_pae(b"{}"),
            b"DSSEv1 28 application/vnd.in-toto+json 2 {}"
        );
    }
}
