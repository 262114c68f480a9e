//! The authenticated payload: an in-toto statement about the judged digest.

use crate::core::{
    digest::Digest,
    intoto::{STATEMENT_V01, STATEMENT_V1, Statement},
    json,
    limits::Limits,
};

use super::{EvidenceError, Signer, Verified, error::shorten, verified::Authenticated};

/// Reads the statement that `by` signed. It must be about exactly `subject`.
pub(super) fn read(
    payload: &[u8],
    subject: &Digest,
    by: Authenticated,
    referrer: Digest,
    limits: &Limits,
) -> Result<Verified<Statement>, EvidenceError> {
    let statement: Statement =
        json::parse(payload, limits.sigstore_bundle_bytes, limits.json_depth).map_err(|cause| {
            EvidenceError::Statement {
                signer: by.signer.clone(),
                cause,
            }
        })?;
    check(&statement, subject, &by.signer, limits)?;
    Ok(Verified::new(statement, *subject, referrer, by))
}

fn check(
    statement: &Statement,
    subject: &Digest,
    signer: &Signer,
    limits: &Limits,
) -> Result<(), EvidenceError> {
    let signer = || signer.clone();
    if ![STATEMENT_V1, STATEMENT_V01].contains(&statement.statement_type.as_str()) {
        return Err(EvidenceError::StatementType {
            signer: signer(),
            found: shorten(&statement.statement_type),
        });
    }
    let count = statement.subject.len();
    if count > limits.subjects {
        return Err(EvidenceError::Subjects {
            signer: signer(),
            count,
            limit: limits.subjects,
        });
    }
    if statement.is_about(subject) {
        Ok(())
    } else {
        Err(EvidenceError::Subject {
            signer: signer(),
            named: first_subject(statement),
        })
    }
}

fn first_subject(statement: &Statement) -> String {
    let digest = statement
        .subject
        .first()
        .and_then(|subject| subject.digest.iter().next());
    digest.map_or_else(
        || "nothing".to_owned(),
        |(algorithm, hex)| shorten(&format!("{algorithm}:{hex}")),
    )
}
