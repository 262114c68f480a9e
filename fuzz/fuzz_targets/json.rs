//! Strict JSON: what is accepted is what everybody reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packgate::core::json;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    if let Ok(value) = json::parse::<Value>(data, 1 << 20, 32) {
        assert_eq!(serde_json::from_slice::<Value>(data).expect("JSON"), value);
        let written = serde_json::to_vec(&value).expect("JSON");
        let again = json::parse::<Value>(&written, 1 << 21, 32).expect("its own JSON");
        assert_eq!(serde_json::to_vec(&again).expect("JSON"), written);
    }
});
