//! Environment variables that a file names. All others come by clap.

#![allow(
    clippy::disallowed_methods,
    reason = "which variable is read says a file, so clap cannot know its name"
)]

/// The value of a variable, if it is set to text.
pub(super) fn read_variable(name: &str) -> Option<String> {
    // What is no name of a variable would be a panic.
    let is_name = !name.is_empty() && !name.contains(['=', '\0']);
    is_name.then(|| std::env::var_os(name)?.into_string().ok())?
}
