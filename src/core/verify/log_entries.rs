//! Checks of log entries that `sigstore-verify` does not make.
//!
//! It looks for the checkpoint's key by its four-byte hint, among the keys of all logs that have
//! begun by now; of Rekor v1 it does not compare the size of the tree in the proof with the
//! checkpoint's, and of Rekor v2 neither size nor root nor index; and without a promise it reads
//! neither the name of the log nor the window in which the log's key was in use, nor the time in an
//! entry of Rekor v2. Here an entry belongs to the log that it names, that log was in use at a
//! verified time, all data about its tree agrees, and no unsigned time is accepted.

use jiff::Timestamp;
use sigstore_types::{KindVersion, TimeRange, TransparencyLogEntry, bundle::InclusionProof};

use crate::core::{
    evidence::LogEntryError,
    trusted_material::{TrustedLog, TrustedLogs},
};

impl TrustedLogs {
    /// Checks entries whose proofs, checkpoints and promises are verified already. `times` are the
    /// verified times; if there are none, the log's key must have no end of validity. `promised`:
    /// an inclusion promise is accepted in place of a proof.
    pub(super) fn check_entries(
        &self,
        entries: &[TransparencyLogEntry],
        times: &[Timestamp],
        promised: bool,
    ) -> Result<(), LogEntryError> {
        entries
            .iter()
            .try_for_each(|entry| self.check_entry(entry, times, promised))
    }

    fn check_entry(
        &self,
        entry: &TransparencyLogEntry,
        times: &[Timestamp],
        promised: bool,
    ) -> Result<(), LogEntryError> {
        let log = self
            .0
            .iter()
            .find(|log| log.id == entry.log_id.key_id.as_bytes())
            .ok_or(LogEntryError::UnknownLog)?;
        match &entry.inclusion_proof {
            Some(proof) => self.check_proof(log, entry, proof)?,
            None if promised && entry.inclusion_promise.is_some() => {}
            None => return Err(LogEntryError::MissingInclusionProof),
        }
        if is_rekor_v2(entry) && entry.integrated_time.is_some() {
            return Err(LogEntryError::UnsignedIntegratedTime);
        }
        let covers = |window: TimeRange| {
            times.iter().any(|time| window.contains(*time))
                || (times.is_empty() && window.end.is_none())
        };
        let in_use = log.window.is_none_or(covers);
        if in_use {
            Ok(())
        } else {
            Err(LogEntryError::LogNotInUse)
        }
    }

    fn check_proof(
        &self,
        log: &TrustedLog,
        entry: &TransparencyLogEntry,
        proof: &InclusionProof,
    ) -> Result<(), LogEntryError> {
        let checkpoint = proof
            .checkpoint
            .checkpoint()
            .ok_or(LogEntryError::MissingInclusionProof)?;
        let mut known = checkpoint
            .signatures()
            .iter()
            .map(|signature| signature.key_id.as_bytes())
            .filter(|hint| self.0.iter().any(|log| log.matches_key_hint(*hint)));
        if !known.all(|hint| log.matches_key_hint(hint)) {
            return Err(LogEntryError::CheckpointLogMismatch);
        }
        if (proof.tree_size, &proof.root_hash) != (checkpoint.tree_size(), checkpoint.root_hash()) {
            return Err(LogEntryError::TreeMismatch);
        }
        if is_rekor_v2(entry) && !indices_agree(entry, proof) {
            return Err(LogEntryError::IndexMismatch);
        }
        Ok(())
    }
}

impl TrustedLog {
    /// The hint in a checkpoint's signature is the beginning of the log's id.
    fn matches_key_hint(&self, hint: &[u8]) -> bool {
        self.id.starts_with(hint)
    }
}

/// Rekor v2 makes no promise and gives no time: the field is 0 there, which is read as absent (its
/// client specification, "integratedTime"). An entry of Rekor v1 may lack its promise; then its
/// time is not used either.
fn is_rekor_v2(entry: &TransparencyLogEntry) -> bool {
    entry.kind_version == KindVersion::HashedRekordV002
}

/// A log of Rekor v2 has one tree, so both are equal; cosign may omit the second one. In Rekor v1
/// one index counts over all trees, the other within this one.
fn indices_agree(entry: &TransparencyLogEntry, proof: &InclusionProof) -> bool {
    proof.log_index == entry.log_index || proof.log_index.get() == 0
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sigstore_trust_root::TrustedRoot;
    use sigstore_types::Bundle;

    use super::*;
    use crate::core::verify::testing::shared_data;

    /// Genuine bundles of every kind, including those that are no evidence about a manifest.
    #[test]
    fn no_genuine_bundle_is_refused() {
        let Some(data) = shared_data("no_genuine_bundle_is_refused") else {
            return;
        };
        let ours = data.join("trust/prod_trusted_root.json");
        let mut checked = 0;
        for case in fs::read_dir(data.join("sigstore-conformance"))
            .expect("a folder")
            .map(|entry| entry.expect("an entry").path())
        {
            let Ok(text) = fs::read_to_string(case.join("bundle.sigstore.json")) else {
                continue;
            };
            if case.to_string_lossy().ends_with("_fail") {
                continue;
            }
            let root = fs::read_to_string(case.join("trusted_root.json"))
                .unwrap_or_else(|_| fs::read_to_string(&ours).expect("a trust root"));
            let bundle = Bundle::from_json(&text).expect("a bundle");
            let issued = bundle
                .signing_certificate()
                .and_then(|der| sigstore_crypto::parse_certificate_info(der).ok())
                .map(|info| info.not_before);
            let entries = &bundle.verification_material.tlog_entries;
            let times: Vec<Timestamp> = entries
                .iter()
                .filter_map(|entry| entry.integrated_time)
                .chain(issued)
                .collect();
            let logs = TrustedLogs::from_trusted_root(
                &TrustedRoot::from_json(&root).expect("a trust root"),
            );
            let proved: Vec<_> = entries
                .iter()
                .filter(|entry| entry.inclusion_proof.is_some())
                .cloned()
                .collect();
            assert_eq!(
                logs.check_entries(&proved, &times, false),
                Ok(()),
                "{}",
                case.display()
            );
            checked += proved.len();
        }
        assert!(checked >= 15, "only {checked} entries");
    }
}
