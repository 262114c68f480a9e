//! Names of objects that others refer to.

/// True if the name is a DNS subdomain or label. It becomes part of a request's path. The schema
/// checks it too, but an object may be older than the schema.
pub fn is_object_name(name: &str) -> bool {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.starts_with(ends) && name.ends_with(ends) && name.chars().all(inside)
}
