//! Counting towards a threshold.

/// How many authorities can each be given a signer of its own, if `signed[authority]` are the signers that signed as it: the largest
/// matching between the two (Kuhn's algorithm). Both are few: at most 16 authorities, at most 256 referrers.
pub(super) fn pairs(signed: &[Vec<usize>], signers: usize) -> usize {
    let mut taken_by = vec![None; signers];
    (0..signed.len()).filter(|authority| find(*authority, signed, &mut taken_by, &mut vec![false; signers])).count()
}

/// Finds a signer for `authority`, moving others where that helps.
fn find(authority: usize, signed: &[Vec<usize>], taken_by: &mut [Option<usize>], tried: &mut [bool]) -> bool {
    for &signer in &signed[authority] {
        if std::mem::replace(&mut tried[signer], true) {
            continue;
        }
        if taken_by[signer].is_none_or(|other| find(other, signed, taken_by, tried)) {
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
    fn authorities_and_signers_count_once_each() {
        let table: &[(&[&[usize]], usize, usize)] = &[
            (&[], 0, 0),
            (&[&[]], 0, 0),
            // Two people who may both speak for one authority.
            (&[&[0, 1]], 2, 1),
            // One person who may speak for two.
            (&[&[0], &[0]], 1, 1),
            (&[&[0], &[1]], 2, 2),
            // The first must make room for the second.
            (&[&[0, 1], &[0]], 2, 2),
            (&[&[0, 1], &[0], &[1]], 2, 2),
            (&[&[0, 1], &[1, 2], &[2]], 3, 3),
        ];
        for (signed, signers, expected) in table {
            let signed: Vec<Vec<usize>> = signed.iter().map(|signers| signers.to_vec()).collect();
            assert_eq!(pairs(&signed, *signers), *expected, "{signed:?}");
        }
    }
}
