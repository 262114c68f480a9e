//! The report as text.

use std::fmt::{self, Write};

use crate::core::{display_text::sanitize_long_text, verify::StoredSignatureFormat};

use super::{
    AdmissionReport, AuthorityReport, DenialReport, PolicyReport, SlsaReport,
    TransparencyLogReport, VerifiedEvidenceReport,
};

/// Lines of a label and a text. All text is untrusted, so it is sanitised for terminals.
struct ReportLines(String);

pub(super) fn render_report(report: &AdmissionReport) -> String {
    let mut lines = ReportLines(String::new());
    lines.push_line(
        "",
        report.outcome.as_str().to_lowercase().as_str(),
        &report.reference,
    );
    lines.push_optional("  ", "digest", report.digest.as_ref());
    lines.push_line("  ", "use", report.used_as.as_str());
    lines.push_optional("  ", "field", report.field.as_ref());
    report
        .policies
        .iter()
        .for_each(|policy| lines.push_policy(policy));
    report
        .denials
        .iter()
        .for_each(|denial| lines.push_line("  ", "denied", &describe_denial(denial)));
    report
        .verified
        .iter()
        .for_each(|verified| lines.push_verified(verified));
    for rejected in &report.rejected {
        lines.push_line(
            "  ",
            "rejected",
            &format!(
                "{} {}: {}",
                rejected.referrer, rejected.reason, rejected.message
            ),
        );
    }
    report
        .unsafe_settings
        .iter()
        .for_each(|setting| lines.push_line("  ", "unsafe", setting));
    lines.push_line("  ", "reproduce", &report.reproduce);
    lines.0
}

impl ReportLines {
    fn push_line(&mut self, indent: &str, label: &str, text: &str) {
        let width = 12_usize.saturating_sub(indent.len());
        // Writing to a string cannot fail.
        let _ = writeln!(
            self.0,
            "{indent}{label:<width$}{}",
            sanitize_long_text(text)
        );
    }

    fn push_optional(&mut self, indent: &str, label: &str, value: Option<&impl fmt::Display>) {
        if let Some(value) = value {
            self.push_line(indent, label, &value.to_string());
        }
    }

    fn push_policy(&mut self, policy: &PolicyReport) {
        let text = format!(
            "{} (generation {}, {}): {}",
            policy.title(),
            policy.generation,
            policy.mode.as_str(),
            policy.verdict.as_str()
        );
        self.push_line("  ", "policy", &text);
        policy
            .authorities
            .iter()
            .for_each(|authority| self.push_authority(authority));
        if let Some(SlsaReport {
            builder,
            level,
            lock,
        }) = &policy.slsa
        {
            let lock = if lock.is_some() {
                ", from exactly the lock in the bundle"
            } else {
                ""
            };
            self.push_line(
                "    ",
                "built",
                &format!("by {builder}, SLSA Build level {level}{lock}"),
            );
        }
    }

    fn push_authority(&mut self, authority: &AuthorityReport) {
        match &authority.signer {
            None => self.push_line("    ", "missing", &format!("by {}", authority.name)),
            Some(signer) => {
                let time = authority.time.map_or_else(
                    || "at an unknown time".to_owned(),
                    |time| format!("at {time}"),
                );
                // The default form is omitted.
                let form = authority
                    .format
                    .filter(|format| *format != StoredSignatureFormat::Bundle)
                    .map(|format| format!(", {}", format.as_str()));
                self.push_line(
                    "    ",
                    "signed",
                    &format!(
                        "by {}, {signer}, {time}{}",
                        authority.name,
                        form.unwrap_or_default()
                    ),
                );
            }
        }
    }

    /// Step by step: signature and subject, time, log, and trust root.
    fn push_verified(&mut self, verified: &VerifiedEvidenceReport) {
        let VerifiedEvidenceReport {
            referrer,
            predicate_type,
            format,
            signer,
            time,
            log,
            trust_root,
        } = verified;
        self.push_line(
            "  ",
            "verified",
            &format!("{referrer} {predicate_type}, {}", format.as_str()),
        );
        self.push_line(
            "    ",
            "signer",
            &format!("{signer}: the signature holds, and the statement is about this digest"),
        );
        let time = time.map_or_else(
            || "unknown, no transparency log or timestamp authority attests it".to_owned(),
            |time| format!("{time}, as logs or timestamp authorities say"),
        );
        self.push_line("    ", "time", &time);
        let log = match log {
            TransparencyLogReport::Included => {
                "included, with a proof or promise of a log that the trust root knows"
            }
            TransparencyLogReport::Unchecked => {
                "it has log entries or timestamps, not verified against a trust root"
            }
            TransparencyLogReport::None => "none",
        };
        self.push_line("    ", "log", log);
        self.push_optional("    ", "root", trust_root.as_ref());
    }
}

fn describe_denial(denial: &DenialReport) -> String {
    let policy = denial
        .policy_title()
        .map(|policy| format!(" [{policy}]"))
        .unwrap_or_default();
    let authority = denial
        .authority
        .as_ref()
        .map(|name| format!(" [authority {name}]"))
        .unwrap_or_default();
    format!("{}: {}{policy}{authority}", denial.reason, denial.message)
}
