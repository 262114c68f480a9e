//! Manifests and indexes: whatever is accepted is the same when it is written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packgate::core::{limits::Limits, media_type::ACCEPT_MANIFESTS, oci::Document};

fuzz_target!(|data: &[u8]| {
    for media_type in ACCEPT_MANIFESTS {
        let Ok(document) = Document::parse(media_type, data, &Limits::DEFAULT) else { continue };
        let _ = (document.subject(), document.annotations(), document.children(), document.artifact_type());
        let written = match &document {
            Document::Manifest(manifest) => serde_json::to_vec(manifest),
            Document::Index(index) => serde_json::to_vec(index),
        };
        let again = Document::parse(media_type, &written.expect("JSON"), &Limits::DEFAULT).expect("its own JSON");
        assert_eq!(again, document);
    }
});
