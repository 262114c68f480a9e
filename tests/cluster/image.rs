//! The script that makes the test image: does it follow the Dockerfile?

use crate::support::{Test, cluster::ROOT, program::Program};

#[test]
fn every_change_of_the_dockerfile_changes_the_image_or_is_refused() {
    if Test::start("every_change_of_the_dockerfile_changes_the_image_or_is_refused").is_none() {
        return;
    }
    Program::new(format!("{ROOT}/tests/cluster/image.sh"))
        .arg("--selftest")
        .run()
        .ok();
}
