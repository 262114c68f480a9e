//! Import rules: which module may name which, where effects may live, and no circles among files.
//! Test code is left out. The section "Layers" of ARCHITECTURE.md is generated from the tables:
//! `PACKGATE_WRITE_GOLDEN=1 cargo test --test it layering`.

mod architecture_tables;
mod import_graph;
mod layers;
mod source_tree;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use self::{
    architecture_tables::layer_tables,
    import_graph::{circles, import_graph},
    layers::{CORE_CRATES, CORE_STD_BANNED, HOMES, IMPLEMENTATIONS, LAYERS},
    source_tree::{NamedPath, SourceFile, read_crate, read_texts},
};
use crate::support::golden::golden_section;

fn source_files() -> Vec<SourceFile> {
    let files = read_crate(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(files.len() > 200, "only {} files were found", files.len());
    files
}

#[test]
fn imports_obey_the_layers() {
    let faults: Vec<String> = source_files().iter().flat_map(layer_faults).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn no_files_need_each_other() {
    let files = source_files();
    let found = circles(&files, &import_graph(&files));
    let lines: Vec<String> = found.iter().map(|circle| circle.join(" ")).collect();
    assert!(
        found.is_empty(),
        "{} circles; move what they share into a file that needs none of them:\n{}",
        found.len(),
        lines.join("\n")
    );
}

#[test]
fn architecture_shows_the_tables() {
    golden_section("ARCHITECTURE.md", "layers", &layer_tables());
}

#[test]
fn every_kind_of_forbidden_import_is_found() {
    for (place, code, rule) in [
        (
            "core/x",
            "use crate::oci::Source;",
            "core may not name crate::oci",
        ),
        (
            "core/x",
            "use tokio::time;",
            "core may not use the crate tokio",
        ),
        (
            "core/x",
            "fn f() { tokio::spawn(g()); }",
            "core may not use the crate tokio",
        ),
        (
            "core/x",
            "fn f() { let t = std::fs::read(p); }",
            "std::fs may be named",
        ),
        (
            "service/x",
            "use crate::{core::digest, http::HttpClient};",
            "service may not name crate::http",
        ),
        (
            "service/x",
            "use crate::oci::OciLayoutTarget;",
            "service knows traits, not OciLayoutTarget",
        ),
        ("oci/remote/x", "use std::{\n    fs,\n};", "std::fs"),
        ("fetch/http", "use clap::Args;", "clap may be named"),
        ("fetch/http", "#[derive(clap::Args)] struct A;", "clap may"),
        ("cli/x", "fn f() { std::env::var(\"A\"); }", "std::env"),
        ("cli/x", "fn f() { eprintln!(\"a\"); }", "eprintln! may"),
        (
            "cli/x",
            "fn f() { info!(a = std::env::var(\"A\")); }",
            "std::env may",
        ),
        (
            "cli/x",
            "fn f() { std::io::stdout().lock(); }",
            "io::stdout",
        ),
        ("http/x", "use std::time::SystemTime;", "SystemTime may"),
        (
            "webhook/x",
            "use crate::controller::Step;",
            "webhook may not name crate::controller",
        ),
        ("new/x", "", "the folder new is not in the table of layers"),
    ] {
        let found = layer_faults(&SourceFile::parse(place, code));
        assert!(
            found.iter().any(|fault| fault.contains(rule)),
            "{place}: {code}: {found:?}"
        );
    }
    let code =
        "// use tokio::x;\nuse std::fmt;\n#[cfg(test)]\nmod tests {\n    use crate::oci;\n}\n";
    let found = layer_faults(&SourceFile::parse("core/x", code));
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_circle_is_found_and_a_reexport_is_none() {
    let crate_of = |texts: &[(&'static str, &'static str)]| {
        let files = read_texts(&texts.iter().copied().collect::<BTreeMap<_, _>>());
        circles(&files, &import_graph(&files))
    };
    let lib = ("lib.rs", "pub mod a;");
    let module = ("a/mod.rs", "mod b;\nmod c;\npub use b::B;\npub use c::C;");
    let (uses_b, uses_c) = (
        "use super::B;\npub struct C(B);",
        "use super::c::C;\npub struct B(C);",
    );
    let found = crate_of(&[lib, module, ("a/b.rs", uses_c), ("a/c.rs", uses_b)]);
    assert_eq!(found, [["a/b", "a/c"]]);
    let found = crate_of(&[lib, module, ("a/b.rs", "pub struct B;"), ("a/c.rs", uses_b)]);
    assert!(found.is_empty(), "{found:?}");
}

/// What a file names that it may not, with its line.
fn layer_faults(file: &SourceFile) -> Vec<String> {
    let top = file.place.split('/').next().unwrap_or_default();
    let Some(layer) = LAYERS.iter().find(|layer| layer.modules.contains(&top)) else {
        return vec![format!("the folder {top} is not in the table of layers")];
    };
    let mut faults = Vec::new();
    for (line, segments) in named_paths(file) {
        let mut fault = |rule: String| faults.push(format!("src/{}.rs:{line}: {rule}", file.place));
        if let [first, module, ..] = segments
            && first == "crate"
            && is_layer(module)
            && module != top
            && !layer.may_name.contains(&module.as_str())
        {
            fault(format!("{top} may not name crate::{module}"));
        }
        for home in HOMES.iter().filter(|home| !home.is_at(&file.place)) {
            for name in home.names.iter().filter(|name| names_path(segments, name)) {
                let name = name.trim_end_matches("::");
                fault(format!("{name} may be named in {:?} only", home.places));
            }
        }
        if top == "service" {
            for name in IMPLEMENTATIONS
                .iter()
                .filter(|name| names_path(segments, name))
            {
                fault(format!("service knows traits, not {name}"));
            }
        }
    }
    for (line, name) in &file.macros {
        let name = format!("{name}!");
        for home in HOMES.iter().filter(|home| !home.is_at(&file.place)) {
            if home.names.contains(&name.as_str()) {
                let places = home.places;
                faults.push(format!(
                    "src/{}.rs:{line}: {name} may be named in {places:?} only",
                    file.place
                ));
            }
        }
    }
    if top == "core" {
        faults.extend(core_faults(file));
    }
    faults
}

fn core_faults(file: &SourceFile) -> Vec<String> {
    let mut faults = Vec::new();
    for path in &file.paths {
        let mut fault =
            |rule: String| faults.push(format!("src/{}.rs:{}: {rule}", file.place, path.line));
        if let Some(name) = foreign_crate(file, path) {
            fault(format!("core may not use the crate {name}"));
        }
        for banned in CORE_STD_BANNED
            .iter()
            .filter(|banned| names_path(&path.segments, banned))
        {
            fault(format!("core may not use {banned}"));
        }
    }
    faults
}

/// The crate that a path of `core` begins with, if it is none that `core` may use.
fn foreign_crate<'a>(file: &SourceFile, path: &'a NamedPath) -> Option<&'a str> {
    let [first, _, ..] = path.segments.as_slice() else {
        return None;
    };
    let is_lower_case = first.starts_with(|c: char| c.is_ascii_lowercase());
    let is_known = matches!(first.as_str(), "crate" | "super" | "self")
        || CORE_CRATES.contains(&first.as_str())
        || file.children.contains(first)
        || (!path.is_import && (file.imported.contains(first) || is_primitive(first)));
    (is_lower_case && !is_known).then_some(first)
}

fn is_primitive(name: &str) -> bool {
    const OTHERS: [&str; 4] = ["bool", "char", "str", "clippy"];
    OTHERS.contains(&name)
        || name.strip_prefix(['i', 'u', 'f']).is_some_and(|size| {
            size == "size" || (!size.is_empty() && size.chars().all(|c| c.is_ascii_digit()))
        })
}

/// All paths of a file, those of its re-exports included.
fn named_paths(file: &SourceFile) -> impl Iterator<Item = (usize, &[String])> {
    let paths = file
        .paths
        .iter()
        .map(|path| (path.line, path.segments.as_slice()));
    let reexports = file
        .reexports
        .iter()
        .map(|one| (one.line, one.segments.as_slice()));
    paths.chain(reexports)
}

fn is_layer(module: &str) -> bool {
    LAYERS.iter().any(|layer| layer.modules.contains(&module))
}

/// True if the path has these segments in a row. A name with `::` at its end is a crate, which
/// comes first.
fn names_path(segments: &[String], name: &str) -> bool {
    let wanted: Vec<&str> = name.trim_end_matches("::").split("::").collect();
    if name.ends_with("::") {
        return segments.first().is_some_and(|first| first == wanted[0]);
    }
    segments.windows(wanted.len()).any(|window| {
        window
            .iter()
            .zip(&wanted)
            .all(|(segment, wanted)| segment == wanted)
    })
}

#[test]
fn the_tables_name_what_exists() {
    let files = source_files();
    let places: BTreeSet<&str> = files.iter().map(|file| file.place.as_str()).collect();
    for place in HOMES.iter().flat_map(|home| home.places) {
        let exists =
            places.contains(place) || places.iter().any(|p| p.starts_with(&format!("{place}/")));
        assert!(exists, "there is no {place}");
    }
    let defined: BTreeSet<&str> = files
        .iter()
        .flat_map(|file| &file.items)
        .map(String::as_str)
        .collect();
    for name in IMPLEMENTATIONS {
        assert!(defined.contains(name), "there is no {name}");
    }
}
