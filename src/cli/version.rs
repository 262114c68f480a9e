//! `packgate version`

use serde_json::json;

use super::output::CommandResult;
use crate::core::pack::PACK_FORMAT;

pub(super) fn run_version() -> CommandResult {
    let version = env!("CARGO_PKG_VERSION");
    CommandResult {
        text: format!("packgate {version}\npack format {PACK_FORMAT}\n"),
        json: json!({
            "apiVersion": "packgate.dev/v1alpha1",
            "kind": "Version",
            "version": version,
            "packFormat": PACK_FORMAT,
        }),
        class: None,
    }
}
