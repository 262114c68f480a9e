//! Facts about processes' environment variables. Nothing here reads them.

/// Environment variables with secrets. Child processes do not need them and do not inherit them:
/// neither signing plug-ins nor registry credential helpers.
pub const SECRET_VARIABLES: [&str; 2] = ["COSIGN_PASSWORD", "SIGSTORE_ID_TOKEN"];
