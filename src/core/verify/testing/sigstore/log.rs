//! A transparency log: a Merkle tree (RFC 6962, section 2.1), and a signed note about its root
//! (C2SP signed-note, tlog-checkpoint).

use super::{
    DAY, NOON,
    key::{Algorithm, Key, base64, sha256},
};

/// Entries that are in every log already, and after: the entry is neither first nor last, and the
/// tree is no full one.
const BEFORE: usize = 5;
const AFTER: usize = 7;
/// Rekor v1 counts over all of its trees, a proof counts within one.
pub(super) const ELSEWHERE: usize = 40_000;

pub(super) type Hash = [u8; 32];

#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) key: Key,
    /// The first line of its checkpoints, and its name in signed notes.
    pub(crate) origin: &'static str,
    pub(crate) id: [u8; 32],
    pub(crate) valid_for: (i64, Option<i64>),
}

/// An entry in the log, with its proof.
pub(super) struct Included {
    pub(super) index: usize,
    pub(super) size: usize,
    pub(super) root: Hash,
    pub(super) hashes: Vec<Hash>,
}

impl Log {
    /// Rekor v1 signs with ECDSA, and its id is the hash of its key.
    pub(crate) fn rekor_v1() -> Self {
        let key = Key::new(Algorithm::P256);
        Self {
            id: key.id(),
            key,
            origin: "rekor.example.com",
            valid_for: (NOON - 400 * DAY, None),
        }
    }

    /// Rekor v2 signs with Ed25519, and its id is the hash of its name and key.
    pub(crate) fn rekor_v2() -> Self {
        let (key, origin) = (Key::new(Algorithm::Ed25519), "log2025-1.rekor.example.com");
        Self {
            id: sha256(&[origin.as_bytes(), b"\n\x01", key.raw()].concat()),
            key,
            origin,
            valid_for: (NOON - 300 * DAY, None),
        }
    }

    /// Adds `body` to a tree with other entries.
    pub(super) fn include(body: &[u8]) -> Included {
        let others = |from: usize, count: usize| {
            (from..from + count).map(|n| leaf(format!("entry {n}").as_bytes()))
        };
        let leaves: Vec<Hash> = others(0, BEFORE)
            .chain([leaf(body)])
            .chain(others(BEFORE + 1, AFTER))
            .collect();
        Included {
            index: BEFORE,
            size: leaves.len(),
            root: root(&leaves),
            hashes: path(BEFORE, &leaves),
        }
    }

    /// A checkpoint with these lines, signed in the log's name by `key`.
    pub(crate) fn checkpoint(&self, key: &Key, origin: &str, size: usize, root: &Hash) -> String {
        let note = format!("{origin}\n{size}\n{}\n", base64(root));
        let signature = [&self.id[..4], &key.sign(note.as_bytes())].concat();
        format!("{note}\n\u{2014} {} {}\n", self.origin, base64(&signature))
    }
}

fn leaf(body: &[u8]) -> Hash {
    sha256(&[b"\0", body].concat())
}

fn node(left: &Hash, right: &Hash) -> Hash {
    sha256(&[b"\x01", &left[..], right].concat())
}

/// The largest power of two below `count`.
const fn split(count: usize) -> usize {
    count.next_power_of_two() / 2
}

fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [only] => *only,
        many => {
            let (left, right) = many.split_at(split(many.len()));
            node(&root(left), &root(right))
        }
    }
}

fn path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let at = split(leaves.len());
    let (left, right) = leaves.split_at(at);
    let (mut hashes, sibling) = if index < at {
        (path(index, left), root(right))
    } else {
        (path(index - at, right), root(left))
    };
    hashes.push(sibling);
    hashes
}
