//! Counting towards a threshold.

use std::{collections::HashMap, hash::Hash};

/// The signer of each signature, as the index of that signer's first signature. Signatures with one
/// name or one key are by one signer: neither a renewed certificate nor a key that is known both
/// alone and in a certificate makes two.
pub(super) fn distinct_signers<N: Eq + Hash, K: Eq + Hash>(
    signatures: impl Iterator<Item = (N, Option<K>)>,
) -> Vec<usize> {
    let (mut same, mut names, mut keys) = (Vec::new(), HashMap::new(), HashMap::new());
    for (at, (name, key)) in signatures.enumerate() {
        same.push(at);
        let by_name = *names.entry(name).or_insert(at);
        let by_key = key.map_or(at, |key| *keys.entry(key).or_insert(at));
        let (one, other) = (
            first_of_signer(&same, by_name),
            first_of_signer(&same, by_key),
        );
        let least = one.min(other).min(at);
        for place in [at, one, other] {
            same[place] = least;
        }
    }
    (0..same.len())
        .map(|at| first_of_signer(&same, at))
        .collect()
}

fn first_of_signer(same: &[usize], mut at: usize) -> usize {
    while same[at] != at {
        at = same[at];
    }
    at
}

/// The number of authorities that can each be assigned a signer of its own, if `signed[authority]`
/// are the signers of its signatures: a maximum bipartite matching (Kuhn's algorithm). Both are
/// few: at most 16 authorities, at most 256 referrers.
pub(super) fn max_matching(signed: &[Vec<usize>], signers: usize) -> usize {
    let mut taken_by = vec![None; signers];
    (0..signed.len())
        .filter(|authority| {
            assign_signer(*authority, signed, &mut taken_by, &mut vec![false; signers])
        })
        .count()
}

/// Finds a signer for `authority`, reassigning others if necessary.
fn assign_signer(
    authority: usize,
    signed: &[Vec<usize>],
    taken_by: &mut [Option<usize>],
    tried: &mut [bool],
) -> bool {
    for &signer in &signed[authority] {
        if std::mem::replace(&mut tried[signer], true) {
            continue;
        }
        if taken_by[signer].is_none_or(|other| assign_signer(other, signed, taken_by, tried)) {
            taken_by[signer] = Some(authority);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_is_one_signer_and_so_is_one_key() {
        type Signed = (&'static str, Option<u8>);
        let table: &[(&[Signed], &[usize])] = &[
            (&[], &[]),
            (&[("a", None), ("b", None), ("a", None)], &[0, 1, 0]),
            // Renewed: another key, the same name.
            (&[("a", Some(1)), ("a", Some(2))], &[0, 0]),
            // One key under two names.
            (
                &[("a", Some(1)), ("b", Some(1)), ("c", Some(3))],
                &[0, 0, 2],
            ),
            // Two that are recognised as one only at the third signature.
            (
                &[
                    ("a", Some(1)),
                    ("b", Some(2)),
                    ("a", Some(2)),
                    ("c", Some(4)),
                ],
                &[0, 0, 0, 3],
            ),
            (
                &[
                    ("a", Some(1)),
                    ("b", Some(2)),
                    ("c", Some(3)),
                    ("c", Some(2)),
                    ("b", Some(1)),
                ],
                &[0, 0, 0, 0, 0],
            ),
        ];
        for (signatures, expected) in table {
            assert_eq!(
                distinct_signers(signatures.iter().copied()),
                *expected,
                "{signatures:?}"
            );
        }
    }

    #[test]
    fn authorities_and_signers_count_once_each() {
        let table: &[(&[&[usize]], usize, usize)] = &[
            (&[], 0, 0),
            (&[&[]], 0, 0),
            // Two signers of one authority.
            (&[&[0, 1]], 2, 1),
            // One signer of two authorities.
            (&[&[0], &[0]], 1, 1),
            (&[&[0], &[1]], 2, 2),
            // The first is reassigned to let the second count.
            (&[&[0, 1], &[0]], 2, 2),
            (&[&[0, 1], &[0], &[1]], 2, 2),
            (&[&[0, 1], &[1, 2], &[2]], 3, 3),
        ];
        for (signed, signers, expected) in table {
            let signed: Vec<Vec<usize>> = signed.iter().map(|signers| signers.to_vec()).collect();
            assert_eq!(max_matching(&signed, *signers), *expected, "{signed:?}");
        }
    }
}
