//! Conformance data that lies outside of the repository.

use std::path::PathBuf;

/// The folder of shared data. `None` where it is not there; then the test says that it was not run,
/// unless it is required.
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
