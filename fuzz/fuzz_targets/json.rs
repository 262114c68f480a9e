//! `targets::strict_json`.
#![no_main]

#[allow(dead_code, reason = "each fuzzer is built with all targets and runs one")]
#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::strict_json(data));
