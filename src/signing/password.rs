//! A password that is erased when it is dropped and never printed.

use std::fmt;

use zeroize::Zeroizing;

/// The password of a private key. May be empty, as cosign allows.
#[derive(Clone)]
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// Takes over the bytes; the caller should keep no copy.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_printed() {
        let password = Password::new("hunter2");
        assert_eq!(
            format!("{password:?} {:?}", Some(&password)),
            "Password(redacted) Some(Password(redacted))"
        );
    }
}
