//! What is known of the environment of processes. Nothing here reads it.

/// Variables that hold secrets of ours. No program that we start needs one, so none inherits them:
/// neither a plug-in that signs, nor a helper that knows registries' passwords.
pub const SECRET_VARIABLES: [&str; 2] = ["COSIGN_PASSWORD", "SIGSTORE_ID_TOKEN"];
