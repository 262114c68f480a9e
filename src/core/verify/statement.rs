//! The authenticated payload: an in-toto statement about the digest under verification, or cosign's
//! older form of one.

use serde_json::json;

use crate::core::{
    cosign_tags::{SIMPLE_SIGNING_TYPE, SimpleSigningPayload},
    digest::Digest,
    intoto::{COSIGN_SIGN, STATEMENT_V01, STATEMENT_V1, Statement},
    json,
    limits::InputLimits,
};

use super::{
    EvidenceError, SignerIdentity, Verified, outcome::CandidateContext, sanitize_text,
    verified::AuthenticatedSignature,
};

/// Parses the statement that `by` signed. It must be about exactly the subject.
pub(crate) fn read_statement(
    payload: &[u8],
    by: AuthenticatedSignature,
    referrer: Digest,
    context: &CandidateContext<'_>,
) -> Result<Verified<Statement>, EvidenceError> {
    let CandidateContext {
        subject, limits, ..
    } = context;
    let statement: Statement =
        json::parse_strict(payload, limits.sigstore_bundle_bytes, limits.json_depth).map_err(
            |cause| EvidenceError::Statement {
                signer: by.signer.clone(),
                cause,
            },
        )?;
    check_statement(&statement, subject, &by.signer, limits)?;
    Ok(Verified::new(statement, **subject, referrer, by))
}

/// Parses the payload that `by` signed. It must be about exactly the subject, and is then equivalent
/// to a statement of cosign's type.
pub(crate) fn read_simple_signing(
    payload: &[u8],
    by: AuthenticatedSignature,
    manifest: Digest,
    context: &CandidateContext<'_>,
) -> Result<Verified<Statement>, EvidenceError> {
    let CandidateContext {
        subject, limits, ..
    } = context;
    let payload: SimpleSigningPayload =
        json::parse_strict(payload, limits.sigstore_bundle_bytes, limits.json_depth).map_err(
            |cause| EvidenceError::Statement {
                signer: by.signer.clone(),
                cause,
            },
        )?;
    let critical = payload.critical;
    if critical.kind != SIMPLE_SIGNING_TYPE {
        return Err(EvidenceError::StatementType {
            signer: by.signer,
            found: sanitize_text(&critical.kind),
        });
    }
    let named = critical.image.docker_manifest_digest;
    if named != subject.to_string() {
        return Err(EvidenceError::Subject {
            signer: by.signer,
            named: sanitize_text(&named),
        });
    }
    let statement = Statement::for_digest(
        critical.identity.docker_reference,
        subject,
        COSIGN_SIGN,
        json!({}),
    );
    Ok(Verified::new(statement, **subject, manifest, by))
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
