//! Timestamps, RFC 3161: a request for the SHA-256 of a signature.
//!
//! A response is only parsed as far as needed to match it with its request. Its signature is
//! verified with the bundle.

use super::SigstoreResponseError;
use crate::core::digest::Digest;

/// The media type of a request (RFC 3161, section 3.4).
pub const QUERY_MEDIA_TYPE: &str = "application/timestamp-query";
/// The DER of `AlgorithmIdentifier { id-sha256 }`, without parameters (RFC 5754, section 2).
const SHA256: [u8; 13] = [
    0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01,
];
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;

/// A nonce that the response must repeat. Its first bit is 0 and the next 1, so that its encoding
/// as a DER integer has a fixed length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampNonce([u8; 8]);

impl TimestampNonce {
    /// A nonce from random bytes.
    pub const fn new(mut random: [u8; 8]) -> Self {
        random[0] = (random[0] & 0x3f) | 0x40;
        Self(random)
    }

    fn to_der(self) -> Vec<u8> {
        encode_der(INTEGER, &self.0)
    }
}

/// The request for a timestamp of `imprint`, with the authority's certificate in the response.
pub fn timestamp_request(imprint: &Digest, nonce: TimestampNonce) -> Vec<u8> {
    let imprint = encode_der(
        SEQUENCE,
        &[SHA256.as_slice(), &encode_der(OCTETS, imprint.as_bytes())].concat(),
    );
    let certificate = [0x01, 0x01, 0xff];
    encode_der(
        SEQUENCE,
        &[
            encode_der(INTEGER, &[1]).as_slice(),
            &imprint,
            &nonce.to_der(),
            &certificate,
        ]
        .concat(),
    )
}

/// Everything here is shorter than 128 bytes, so that a length is one byte.
fn encode_der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap_or(u8::MAX);
    [&[tag, length], content].concat()
}

/// Checks that the response is granted, and is for this nonce and imprint.
pub fn check_response(
    answer: &[u8],
    imprint: &Digest,
    nonce: TimestampNonce,
) -> Result<(), SigstoreResponseError> {
    let refused = || SigstoreResponseError::new("no timestamp was granted");
    let status = sequence_contents(answer)
        .and_then(sequence_contents)
        .ok_or_else(refused)?;
    // PKIStatus: granted, or granted with modifications.
    if !matches!(status, [INTEGER, 1, 0 | 1, ..]) {
        return Err(refused());
    }
    let holds = |wanted: &[u8]| answer.windows(wanted.len()).any(|window| window == wanted);
    if !holds(&nonce.to_der()) {
        return Err(SigstoreResponseError::new(
            "the timestamp response is for another request: the nonce does not match",
        ));
    }
    if holds(&encode_der(OCTETS, imprint.as_bytes())) {
        Ok(())
    } else {
        Err(SigstoreResponseError::new(
            "the timestamp does not cover this signature",
        ))
    }
}

/// The contents of the first sequence.
fn sequence_contents(der: &[u8]) -> Option<&[u8]> {
    let [SEQUENCE, length, rest @ ..] = der else {
        return None;
    };
    match length {
        0..=0x7f => rest.get(..usize::from(*length)),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            rest.get(
                ..length
                    .iter()
                    .fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
            )
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: TimestampNonce = TimestampNonce::new([0xff, 2, 3, 4, 5, 6, 7, 8]);

    /// `openssl ts -query -digest 9f86…0a08 -sha256 -cert` writes the same with a NULL parameter,
    /// and its own nonce.
    #[test]
    fn the_request_is_der() {
        let expected = "3041020101302f300b06096086480165030402010420\
            9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a0802087f020304050607080101ff";
        assert_eq!(
            hex::encode(timestamp_request(&Digest::of_bytes(b"test"), NONCE)),
            expected
        );
    }

    fn answer(status: u8, nonce: TimestampNonce, of: &[u8]) -> Vec<u8> {
        let info = encode_der(SEQUENCE, &encode_der(INTEGER, &[status]));
        let token = [
            encode_der(OCTETS, Digest::of_bytes(of).as_bytes()),
            nonce.to_der(),
        ]
        .concat();
        encode_der(SEQUENCE, &[info, token].concat())
    }

    #[test]
    fn only_an_answer_to_the_request_is_taken() {
        let check = |answer: &[u8]| check_response(answer, &Digest::of_bytes(b"test"), NONCE);
        assert_eq!(check(&answer(0, NONCE, b"test")), Ok(()));
        assert_eq!(check(&answer(1, NONCE, b"test")), Ok(()));
        for (part, answer) in [
            ("granted", answer(2, NONCE, b"test")),
            ("granted", Vec::new()),
            ("granted", vec![SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff, 0]),
            ("granted", vec![SEQUENCE, 0x80]),
            (
                "another request",
                answer(0, TimestampNonce::new([1; 8]), b"test"),
            ),
            ("does not cover", answer(0, NONCE, b"toast")),
        ] {
            let error = check(&answer).expect_err(part);
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
