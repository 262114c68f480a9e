//! Comments are accurate: every path that one names exists.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Folders of the repository that comments name files of.
const FOLDERS: &[&str] = &[
    "benches/",
    "charts/",
    "crds/",
    "docs/",
    "examples/",
    "fuzz/",
    "quickstart/",
    "src/",
    "tests/",
];
/// Specifications of others, and their files that are cited. A comment that cites one names the
/// specification.
const SPECIFICATIONS: &[(&str, &[&str])] = &[
    (
        "image-spec",
        &[
            "annotations.md",
            "config.md",
            "descriptor.md",
            "image-index.md",
            "image-layout.md",
            "manifest.md",
        ],
    ),
    (
        "in-toto attestation framework",
        &[
            "spec/predicates/reference.md",
            "spec/v1/resource_descriptor.md",
            "spec/v1/statement.md",
        ],
    ),
    (
        "cosign",
        &["specs/ATTESTATION_SPEC.md", "specs/SIGNATURE_SPEC.md"],
    ),
    ("DSSE", &["envelope.md"]),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The text of each run of comment lines.
fn comments(code: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    for line in code.lines() {
        match line.trim_start().strip_prefix("//") {
            Some(text) => {
                let last = all.last_mut().expect("there is one");
                last.push(' ');
                last.push_str(text.trim_start_matches(['/', '!']).trim());
            }
            None => all.push(String::new()),
        }
    }
    all.retain(|text| !text.is_empty());
    all
}

/// The paths that a comment names: of a folder of the repository, or of a page or a module.
fn paths(comment: &str) -> Vec<&str> {
    let part = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    comment
        .split(|c| !part(c))
        .map(|word| word.trim_end_matches(['.', '/']))
        .filter(|word| {
            let is_file = [".md", ".rs"]
                .iter()
                .any(|end| word.strip_suffix(end).is_some_and(|stem| !stem.is_empty()));
            is_file || FOLDERS.iter().any(|folder| word.starts_with(folder))
        })
        .collect()
}

fn is_cited(comment: &str, path: &str) -> bool {
    SPECIFICATIONS
        .iter()
        .any(|(name, files)| files.contains(&path) && comment.contains(name))
}

/// From the root, from `src/`, or from one of the folders around the file that names it.
fn exists(path: &str, named_in: &Path) -> bool {
    root().join("src").join(path).exists()
        || named_in
            .ancestors()
            .skip(1)
            .take_while(|folder| folder.starts_with(root()))
            .any(|folder| folder.join(path).exists())
}

#[test]
fn every_path_that_a_comment_names_exists() {
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches"] {
        rust_files(&root().join(folder), &mut files);
    }
    let (mut named, mut missing) = (0, Vec::new());
    for file in files {
        for comment in comments(&fs::read_to_string(&file).expect("code")) {
            for path in paths(&comment) {
                named += 1;
                if !exists(path, &file) && !is_cited(&comment, path) {
                    missing.push(format!("{}: {path}", file.display()));
                }
            }
        }
    }
    assert!(named > 40, "{named} paths");
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn paths_are_found_in_comments() {
    let code = "//! See docs/a.md, b/c.rs\n//! and `src/x/`.\ncode(); // no comment line\n/// d.md";
    let found: Vec<String> = comments(code);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(paths(&found[0]), ["docs/a.md", "b/c.rs", "src/x"]);
    assert_eq!(paths(&found[1]), ["d.md"]);
    assert!(is_cited("image-spec 1.1, config.md", "config.md"));
    assert!(!is_cited("config.md", "config.md"));
    assert!(exists("core/mod.rs", &root().join("src/lib.rs")));
    assert!(!exists("core/none.rs", &root().join("src/lib.rs")));
}
