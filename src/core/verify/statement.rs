//! The authenticated payload: an in-toto statement about the digest under verification.

use crate::core::{
    digest::Digest,
    intoto::{STATEMENT_V01, STATEMENT_V1, Statement},
    json,
    limits::InputLimits,
};

use super::{
    EvidenceError, SignerIdentity, Verified, error::sanitize_text, verified::AuthenticatedSignature,
};

/// Parses the statement that `by` signed. It must be about exactly `subject`.
pub(super) fn read_statement(
    payload: &[u8],
    subject: &Digest,
    by: AuthenticatedSignature,
    referrer: Digest,
    limits: &InputLimits,
) -> Result<Verified<Statement>, EvidenceError> {
    let statement: Statement =
        json::parse_strict(payload, limits.sigstore_bundle_bytes, limits.json_depth).map_err(
            |cause| EvidenceError::Statement {
                signer: by.signer.clone(),
                cause,
            },
        )?;
    check_statement(&statement, subject, &by.signer, limits)?;
    Ok(Verified::new(statement, *subject, referrer, by))
}

fn check_statement(
    statement: &Statement,
    subject: &Digest,
    signer: &SignerIdentity,
    limits: &InputLimits,
) -> Result<(), EvidenceError> {
    let signer = || signer.clone();
    if ![STATEMENT_V1, STATEMENT_V01].contains(&statement.statement_type.as_str()) {
        return Err(EvidenceError::StatementType {
            signer: signer(),
            found: sanitize_text(&statement.statement_type),
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
    if statement.has_subject_digest(subject) {
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
        |(algorithm, hex)| sanitize_text(&format!("{algorithm}:{hex}")),
    )
}
