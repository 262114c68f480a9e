//! A complete Sigstore in this process, with injectable faults: a certificate authority, a CT log,
//! Rekor v1 and v2, a timestamp authority, and the `trusted_root.json` that names them.
//!
//! All of it happened at [`NOON`] on a day in the past, because a verifier refuses times in the
//! future. It makes the content of bundles and shares no code with the verifier: nothing here names
//! a module of the crate, so that other test binaries can include it (`#[path]`).

mod authority;
mod bundle;
mod ct_log;
pub(crate) mod der;
mod key;
mod log;
mod rekor;
mod trusted_root;
mod tsa;

pub(crate) use authority::{Authority, Ca, Leaf, San, purposes};
pub(crate) use bundle::{LOGGED, Material, Recipe, STAMPED, Stamp};
pub(crate) use ct_log::{CtLog, Sct};
pub(crate) use key::{Algorithm, Key, base64};
pub(crate) use log::Log;
pub(crate) use rekor::{Kind, Logging};
pub(crate) use tsa::{TIME_STAMPING, Tsa};

/// When everything happened: 2025-06-15T12:00:00Z, in seconds.
pub(crate) const NOON: i64 = 1_749_988_800;
/// Seconds.
pub(crate) const DAY: i64 = 86_400;
/// The identity of [`Leaf::workflow`].
pub(crate) const WORKFLOW: &str =
    "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main";
/// The OIDC issuer.
pub(crate) const ISSUER: &str = "https://token.actions.githubusercontent.com";

/// All trusted services. Copies share their keys; a copy can be changed.
#[derive(Clone)]
pub(crate) struct Sigstore {
    pub(crate) authority: Authority,
    pub(crate) ct_log: CtLog,
    pub(crate) rekor_v1: Log,
    pub(crate) rekor_v2: Log,
    pub(crate) tsa: Tsa,
}

impl Sigstore {
    pub(crate) fn new() -> Self {
        Self {
            authority: Authority::new(),
            ct_log: CtLog::new(),
            rekor_v1: Log::rekor_v1(),
            rekor_v2: Log::rekor_v2(),
            tsa: Tsa::new(),
        }
    }
}

/// The signed bytes of a DSSE signature.
pub(crate) fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!(
        "DSSEv1 {} {payload_type} {} ",
        payload_type.len(),
        payload.len()
    );
    [head.as_bytes(), payload].concat()
}
