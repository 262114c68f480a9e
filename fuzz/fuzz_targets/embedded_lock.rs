//! What a bundle carries: the lock in its first layer, and from manifest and config (with a zero byte between them) what it was packed with.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packgate::core::{
    limits::Limits,
    lockfile::Lockfile,
    media_type,
    oci::Document,
    pack::{PackPlan, lock_in_layer, manifest_of, output_of},
};

fuzz_target!(|data: &[u8]| {
    let limits = Limits::DEFAULT;
    if let Ok(bytes) = lock_in_layer(data) {
        let _ = Lockfile::from_canonical(&bytes, &limits);
    }
    let (manifest, config) = data.split_at(data.iter().position(|byte| *byte == 0).unwrap_or(data.len()));
    let Ok(manifest) = Document::parse(media_type::MANIFEST, manifest, &limits) else { return };
    let Ok(manifest) = manifest_of(manifest) else { return };
    let Ok(output) = output_of(&manifest, config.get(1..).unwrap_or_default(), &limits) else { return };
    let lock = br#"{"apiVersion":"packgate.dev/v1alpha1","artifacts":[{"checksum":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","mode":"0644","name":"a","origin":"a","size":0,"target":"a","type":"file"}],"kind":"Lockfile","packFormat":"1"}"#;
    let lock = Lockfile::from_canonical(lock, &limits).expect("canonical");
    if let Ok(plan) = PackPlan::new(&lock, output) {
        for manifest in &plan.manifests {
            let _ = plan.documents(manifest, &[]);
        }
    }
});
