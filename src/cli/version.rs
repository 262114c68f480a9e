//! `packgate version`

use serde_json::json;

use super::output::Done;
use crate::core::pack::PACK_FORMAT;

pub(super) fn run() -> Done {
    let version = env!("CARGO_PKG_VERSION");
    Done {
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
