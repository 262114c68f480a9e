//! Every fuzz target (`fuzz/targets.rs`) with every seed, and with deterministic mutations of the
//! seeds.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::Value;

use crate::support::forging::{
    Algorithm, Key, Kind, LOGGED, Leaf, Logging, Material, Recipe, STAMPED, Sigstore, Stamp,
};

#[path = "../../fuzz/targets.rs"]
mod targets;

/// The number of mutations of each seed.
const CHANGES: usize = 1_024;

/// Texts that are difficult for parsers.
const PIECES: &[&[u8]] = &[
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"{",
    b"}",
    b"[[[[",
    b"\"",
    b"\\u0000",
    b"-1",
    b"1e999",
    b"null",
    b"\x30\x80",
    b"\x30\x84\xff\xff\xff\xff",
    b"\n",
    b"../",
    b"&a *a",
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz")
        .join(name)
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path());
    names
        .map(|path| {
            path.file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned()
        })
        .collect()
}

/// The inputs of a target in `kind`, a folder below `fuzz`, sorted by name. None if the folder does
/// not exist.
fn inputs(kind: &str, target: &str) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder(kind).join(target))
        .into_iter()
        .flatten();
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| fs::read(path).expect("an input"))
        .collect()
}

/// A deterministic sequence (xorshift).
struct Sequence(u64);

impl Sequence {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound.max(1)).expect("small")).expect("small")
    }

    /// One to four mutations of `seed`, some of them with a part of `other`.
    fn change(&mut self, seed: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            let end = (at + 1 + self.below(16)).min(bytes.len());
            match self.below(6) {
                0 | 1 if at < bytes.len() => {
                    bytes[at] ^= u8::try_from(1 + self.below(255)).expect("a byte");
                }
                2 => drop(bytes.drain(at..end.max(at))),
                3 => drop(bytes.splice(at..at, PIECES[self.below(PIECES.len())].iter().copied())),
                4 => bytes.truncate(at),
                _ => {
                    let from = self.below(other.len() + 1);
                    let to = (from + self.below(64)).min(other.len());
                    drop(bytes.splice(at..at, other[from..to].iter().copied()));
                }
            }
        }
        bytes
    }
}

#[test]
fn every_target_is_fuzzed_and_has_seeds() {
    let listed: BTreeSet<String> = targets::ALL
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    assert_eq!(listed.len(), targets::ALL.len(), "a name is there twice");
    assert_eq!(names_in(&folder("fuzz_targets")), listed);
    assert_eq!(names_in(&folder("seeds")), listed);
    let manifest = fs::read_to_string(folder("Cargo.toml")).expect("a manifest");
    let built: BTreeSet<String> = manifest
        .lines()
        .filter_map(|line| {
            line.strip_prefix("path = \"fuzz_targets/")?
                .strip_suffix(".rs\"")
        })
        .map(str::to_owned)
        .collect();
    assert_eq!(built, listed);
}

/// Runs `target` with its seeds, libFuzzer's corpus of earlier runs on this machine, and mutations
/// of both. Returns the number of inputs.
fn run(name: &str, target: fn(&[u8])) -> usize {
    let mut sequence = Sequence(0x9e37_79b9_7f4a_7c15);
    let seeds = inputs("seeds", name);
    assert!(!seeds.is_empty(), "{name} has no seeds");
    let kept = inputs("corpus", name);
    for input in &kept {
        target(input);
    }
    for seed in &seeds {
        target(seed);
        for _ in 0..CHANGES {
            let other = sequence.below(seeds.len());
            target(&sequence.change(seed, &seeds[other]));
        }
    }
    kept.len() + seeds.len() * (CHANGES + 1)
}

#[test]
fn seeds_and_changed_seeds_break_nothing() {
    let ran: usize = std::thread::scope(|scope| {
        let mut running = Vec::new(); // all of them are begun before one is waited for
        for (name, target) in targets::ALL {
            running.push(scope.spawn(|| run(name, *target)));
        }
        running
            .into_iter()
            .map(|thread| thread.join().expect("no target fails"))
            .sum()
    });
    println!("{ran} inputs of {} targets", targets::ALL.len());
}

/// Signs the statement of the seeds anew in a Sigstore of our own, as `PACKGATE_WRITE_GOLDEN=1`
/// asks for when less is believed than before.
fn write_seeds() {
    let json = |path: &str| {
        serde_json::from_slice::<Value>(&fs::read(folder("seeds").join(path)).expect("a seed"))
            .expect("JSON")
    };
    let write =
        |path: &str, bytes: &[u8]| fs::write(folder("seeds").join(path), bytes).expect("written");
    let text = |value: &Value| {
        BASE64
            .decode(value.as_str().expect("a text"))
            .expect("base64")
    };
    let (sigstore, key) = (Sigstore::new(), Key::new(Algorithm::P256));
    for (name, kind) in [
        ("rekor-v1", Kind::Dsse001),
        ("rekor-v2", Kind::HashedRekord002),
    ] {
        let path = format!("sigstore_bundle/{name}.json");
        let mut recipe = Recipe::new(&key, text(&json(&path)["dsseEnvelope"]["payload"]));
        recipe.material = Material::Certificate(Box::new(Leaf::workflow()));
        recipe.logging = Some(Logging::new(kind, LOGGED));
        recipe.stamps = vec![Stamp::at(STAMPED)];
        let bundle = recipe.bundle(&sigstore);
        write(&path, bundle.to_string().as_bytes());
        if name == "rekor-v1" {
            write(
                "certificate/workflow.der",
                &text(&bundle["verificationMaterial"]["certificate"]["rawBytes"]),
            );
        }
    }
    write(
        "trusted_root/virtual.json",
        sigstore.trusted_root().to_string().as_bytes(),
    );
}

/// Valid seeds must stay valid: otherwise most code after the first check is never reached.
#[test]
fn seeds_reach_what_is_behind_the_first_check() {
    if std::env::var_os("PACKGATE_WRITE_GOLDEN").is_some() {
        return write_seeds(); // they are part of this program: the next build has them
    }
    for name in ["rekor-v1", "rekor-v2"] {
        let bundle = fs::read(
            folder("seeds/sigstore_bundle")
                .join(name)
                .with_extension("json"),
        )
        .expect("a seed");
        assert_eq!(targets::verified(&bundle), 1, "{name}");
    }
}
