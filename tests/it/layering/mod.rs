//! Import rules: the tables of ARCHITECTURE.md, "Layers", as a test. Code under `#[cfg(test)]` is
//! ignored.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Folder (or file) of `src/` → the modules of this crate that it may name.
const MODULES: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("lib", &[]),
    (
        "cli",
        &[
            "api",
            "clock",
            "cluster_reader",
            "controller",
            "core",
            "fetch",
            "http",
            "oci",
            "outdir",
            "service",
            "signing",
            "telemetry",
            "trust",
            "webhook",
        ],
    ),
    (
        "controller",
        &[
            "api",
            "clock",
            "cluster_reader",
            "core",
            "service",
            "telemetry",
        ],
    ),
    (
        "webhook",
        &[
            "api",
            "clock",
            "cluster_reader",
            "core",
            "listener",
            "service",
            "telemetry",
        ],
    ),
    ("cluster_reader", &["api", "core"]),
    (
        "service",
        &[
            "clock", "core", "fetch", "oci", "outdir", "signing", "trust",
        ],
    ),
    ("fetch", &["core", "http", "oci"]),
    ("oci", &["core", "http", "process"]),
    ("signing", &["core", "http", "process"]),
    ("trust", &["core", "http"]),
    ("http", &["core"]),
    ("process", &["core"]),
    ("outdir", &["core"]),
    ("clock", &["core"]),
    ("telemetry", &["core", "listener"]),
    ("listener", &[]),
    ("api", &["core"]),
    ("core", &[]),
];

/// The services depend on traits; only the command line chooses these implementations.
const IMPLEMENTATIONS: &[&str] = &[
    "OciLayoutTarget",
    "OciArchiveTarget",
    "RegistryTarget",
    "FileOrigin",
    "HttpOrigin",
    "RegistryOrigin",
    "ContextArtifactOrigin",
    "KeySigner",
    "KmsSigner",
    "TufSource",
    "FileTrustCache",
    "SystemClock",
];

/// Word in the code → the places of `src/` that may say it.
const HOMES: &[(&str, &[&str])] = &[
    (
        "kube::",
        &[
            "api",
            "cluster_reader",
            "controller",
            "webhook",
            "telemetry/events",
            "cli/controller",
            "cli/webhook",
            "cli/cluster",
            "cli/in_cluster",
        ],
    ),
    (
        "k8s_openapi::",
        &[
            "api",
            "cluster_reader",
            "controller",
            "webhook",
            "telemetry/events",
            "cli/controller",
            "cli/webhook",
            "cli/cluster",
            "cli/in_cluster",
        ],
    ),
    ("axum::", &["listener", "telemetry", "webhook"]),
    ("reqwest::", &["http"]),
    ("sigstore_tuf::", &["trust"]),
    ("clap::", &["cli"]),
    ("indicatif::", &["cli"]),
    ("rpassword::", &["cli"]),
    (
        "std::fs",
        &[
            "oci/layout",
            "oci/archive",
            "fetch/file",
            "trust/file_cache",
            "signing/key",
            "webhook/serving_certificate",
            "cli",
            "outdir",
        ],
    ),
    (
        "tokio::fs",
        &["oci/layout", "oci/archive", "fetch/file", "cli"],
    ),
    (
        "tempfile::",
        &[
            "oci/layout",
            "oci/archive",
            "trust/file_cache",
            "cli",
            "outdir",
        ],
    ),
    ("cap_std::", &["outdir"]),
    ("std::process::Command", &[]),
    ("tokio::process", &["process"]),
    ("std::env", &[]),
    ("eprintln!", &[]),
    ("eprint!", &[]),
    ("println!", &[]),
    ("print!", &[]),
    ("io::stderr", &["telemetry", "cli/progress"]),
    ("io::stdout", &["cli/exit"]),
    ("SystemTime", &["clock"]),
    ("Timestamp::now", &["clock"]),
];

/// The crates that `core` may use: nothing that can wait or read.
const CORE_CRATES: &[&str] = &[
    "aws_lc_rs",
    "base64",
    "bytes",
    "hex",
    "jiff",
    "pki_types",
    "regex_automata",
    "serde",
    "serde_json",
    "serde_json_canonicalizer",
    "serde_saphyr",
    "sigstore_crypto",
    "sigstore_rekor",
    "sigstore_trust_root",
    "sigstore_types",
    "sigstore_verify",
    "std",
    "thiserror",
    "url",
    "webpki",
    "x509_cert",
    "zeroize",
];
/// First segments of paths that name no crate.
const NO_CRATES: &[&str] = &[
    "crate", "super", "self", "clippy", "bool", "char", "str", "f64", "i32", "i64", "u8", "u16",
    "u32", "u64", "u128", "usize",
];
const CORE_STD_BANNED: &[&str] = &[
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::env",
    "std::io::stdin",
];

struct Source {
    /// Path below `src/`, without `.rs` and `/mod`.
    place: String,
    file: PathBuf,
    lines: Vec<(usize, String)>,
}

#[test]
fn imports_obey_the_layers() {
    let sources = sources();
    assert!(
        sources.len() > 60,
        "only {} files were found",
        sources.len()
    );
    let faults: Vec<String> = sources.iter().flat_map(faults).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn the_scanner_sees_what_it_must() {
    let source = |place: &str, code: &str| Source {
        place: place.into(),
        file: "x.rs".into(),
        lines: strip(code),
    };
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
        ("core/x", "let t = std::fs::read(p);", "std::fs"),
        (
            "service/x",
            "use crate::{core::digest, http::HttpClient};",
            "service may not name crate::http",
        ),
        (
            "service/x",
            "use crate::oci::OciLayoutTarget;",
            "OciLayoutTarget",
        ),
        ("oci/remote/x", "use std::{\n    fs,\n};", "std::fs"),
        ("fetch/http", "use clap::Args;", "clap::"),
        ("cli/x", "std::env::var(\"A\")", "std::env"),
        ("cli/x", "    eprintln!(\"a\");", "eprintln!"),
        ("cli/x", "std::io::stdout().lock()", "io::stdout"),
        (
            "webhook/x",
            "use crate::controller::Step;",
            "webhook may not name crate::controller",
        ),
    ] {
        let found = faults(&source(place, code));
        assert!(
            found.iter().any(|fault| fault.contains(rule)),
            "{place}: {code}: {found:?}"
        );
    }
    assert!(
        faults(&source(
            "core/x",
            "// use tokio::x;\nuse std::fmt;\n#[cfg(test)]\nmod tests {\n    use crate::oci;\n}\n"
        ))
        .is_empty()
    );
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let place = |file: &Path| {
        let relative = file
            .strip_prefix(&root)
            .expect("below src")
            .with_extension("");
        relative
            .to_string_lossy()
            .trim_end_matches("/mod")
            .to_owned()
    };
    let test = |file: &&PathBuf| !file.to_string_lossy().contains("test");
    files
        .iter()
        .filter(test)
        .map(|file| Source {
            place: place(file),
            file: file.clone(),
            lines: strip(&fs::read_to_string(file).expect("readable")),
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The code without comments, tests and with every `use` tree written out, one path a line.
fn strip(code: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in code.lines().enumerate() {
        if line.trim_start().starts_with("#[cfg(test)]") {
            break;
        }
        let line = line.split("//").next().unwrap_or_default();
        let trimmed = line.trim_start();
        let starts_use = trimmed.starts_with("use ")
            || trimmed.starts_with("pub use ")
            || trimmed.starts_with("pub(super) use ");
        match &mut open {
            Some((_, text)) => text.push_str(line),
            None if starts_use => open = Some((number + 1, line.to_owned())),
            None => lines.push((number + 1, line.to_owned())),
        }
        if open.as_ref().is_some_and(|(_, text)| text.contains(';')) {
            let (number, text) = open.take().expect("it is open");
            let tree = text
                .split_once("use ")
                .map_or("", |(_, tree)| tree)
                .split(';')
                .next()
                .unwrap_or_default()
                .to_owned();
            lines.extend(flatten("", &tree).into_iter().map(|path| (number, path)));
        }
    }
    lines
}

fn flatten(prefix: &str, tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((head, rest)) = tree.split_once('{') else {
        return vec![format!("{prefix}{tree}")];
    };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let prefix = format!("{prefix}{}", head.trim());
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for c in inner.chars() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        match (c, depth) {
            (',', 0) => parts.push(String::new()),
            _ => parts.last_mut().expect("never empty").push(c),
        }
    }
    parts
        .iter()
        .filter(|part| !part.trim().is_empty())
        .flat_map(|part| flatten(&prefix, part))
        .collect()
}

fn faults(source: &Source) -> Vec<String> {
    let layer = source.place.split('/').next().unwrap_or_default();
    let allowed: BTreeMap<&str, &[&str]> = MODULES.iter().copied().collect();
    let mut found = Vec::new();
    for (number, line) in &source.lines {
        let mut fault =
            |rule: String| found.push(format!("{}:{number}: {rule}", source.file.display()));
        match allowed.get(layer) {
            None => fault(format!("the folder {layer} is not in the table of layers")),
            Some(allowed) => {
                for module in crate_modules(line)
                    .filter(|module| *module != layer && !allowed.contains(module))
                {
                    fault(format!("{layer} may not name crate::{module}"));
                }
            }
        }
        for (word, homes) in HOMES.iter().filter(|(word, _)| says(line, word)) {
            if !homes
                .iter()
                .any(|home| source.place == *home || source.place.starts_with(&format!("{home}/")))
            {
                fault(format!("{word} may be named in {homes:?} only"));
            }
        }
        if layer == "service" {
            for name in IMPLEMENTATIONS.iter().filter(|name| says(line, name)) {
                fault(format!("service knows traits, not {name}"));
            }
        }
        if layer == "core" {
            core_faults(line).for_each(fault);
        }
    }
    found
}

fn crate_modules(line: &str) -> impl Iterator<Item = &str> {
    let word = |rest: &str| {
        rest.len()
            - rest
                .trim_start_matches(|c: char| c.is_ascii_lowercase() || c == '_')
                .len()
    };
    line.split("crate::")
        .skip(1)
        .map(move |rest| &rest[..word(rest)])
        .filter(|module| !module.is_empty() && *module != "install_crypto_provider")
}

fn core_faults(line: &str) -> impl Iterator<Item = String> {
    let path = line.trim();
    let is_path = path.split("::").next().is_some_and(|first| {
        !first.is_empty()
            && first
                .chars()
                .all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
    });
    let first = path.split("::").next().unwrap_or_default();
    let foreign = is_path
        && path.contains("::")
        && !path.contains(' ')
        && !NO_CRATES.contains(&first)
        && !CORE_CRATES.contains(&first);
    // A module of `core` itself, named relative to the file.
    let sibling = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/core");
    let foreign = foreign && !has_module(&sibling, first);
    let banned = CORE_STD_BANNED
        .iter()
        .filter(|banned| says(line, banned))
        .map(|banned| format!("core may not use {banned}"));
    banned
        .chain(foreign.then(|| format!("core may not use the crate {first}")))
        .collect::<Vec<_>>()
        .into_iter()
}

fn has_module(folder: &Path, name: &str) -> bool {
    let mut files = Vec::new();
    collect(folder, &mut files);
    files.iter().any(|file| {
        file.file_stem().is_some_and(|stem| stem == name)
            || file.parent().is_some_and(|parent| parent.ends_with(name))
    })
}

/// Is the word there, and not as the end of a longer one?
fn says(line: &str, word: &str) -> bool {
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}
