//! Sigstore bundles: nothing makes the parser panic, and what is accepted can be looked at.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packgate::core::{limits::Limits, sigstore_bundle::SigstoreBundle};

fuzz_target!(|data: &[u8]| {
    let limits = Limits::DEFAULT;
    if let Ok(bundle) = SigstoreBundle::parse(data, &limits) {
        let _ = bundle.material();
        assert!(bundle.log_entries().len() <= limits.log_entries);
    }
});
