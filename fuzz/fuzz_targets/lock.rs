//! Locks and manifests of both generations: whatever is accepted has one canonical form, and is read back from YAML as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packgate::core::{
    limits::Limits,
    lockfile::{LockInput, Lockfile},
    pack::{Format, Output, PackPlan},
};

fuzz_target!(|data: &[u8]| {
    let limits = Limits::DEFAULT;
    let _ = LockInput::parse(data, &limits);
    let Ok(lock) = Lockfile::parse(data, &limits) else { return };
    let canonical = lock.canonical();
    let read = Lockfile::from_canonical(&canonical.bytes, &limits).expect("its own canonical form");
    assert_eq!(read.canonical(), canonical);
    let yaml = Lockfile::parse(lock.to_yaml().as_bytes(), &limits).expect("its own YAML");
    assert_eq!(yaml, Lockfile { generation: yaml.generation, ..lock.clone() });
    for format in [Format::Image, Format::Artifact] {
        if let Ok(plan) = PackPlan::new(&lock, Output { format, ..Output::default() }) {
            let _ = plan.predict();
        }
    }
});
