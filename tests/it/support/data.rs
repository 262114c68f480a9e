//! Conformance data outside of the repository.

use std::path::PathBuf;

/// The folder of shared data. `None` if it does not exist; then the test reports that it was
/// skipped, unless the data is required.
pub(crate) fn shared(test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("PACKGATE_SHARED_DATA").map(PathBuf::from);
    if folder.is_none() {
        assert!(
            std::env::var_os("PACKGATE_REQUIRE_DATA").is_none(),
            "{test}: PACKGATE_SHARED_DATA is not set, and the data is required"
        );
        println!("{test}: not run, PACKGATE_SHARED_DATA is not set");
    }
    folder
}
