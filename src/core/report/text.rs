//! The report for a person.

use std::fmt::{self, Write};

use crate::core::verify::{Format, shorten};

use super::{
    AuthorityReport, DenialReport, LogReport, PolicyReport, Report, SlsaReport, VerifiedReport,
};

/// Lines of a label and a text. Every text may come from outside, so every text is made safe for a
/// terminal.
struct Lines(String);

pub(super) fn render(report: &Report) -> String {
    let mut lines = Lines(String::new());
    lines.push(
        "",
        report.outcome.as_str().to_lowercase().as_str(),
        &report.reference,
    );
    lines.maybe("  ", "digest", report.digest.as_ref());
    lines.push("  ", "use", report.used_as.as_str());
    lines.maybe("  ", "field", report.field.as_ref());
    report
        .policies
        .iter()
        .for_each(|policy| lines.policy(policy));
    report
        .denials
        .iter()
        .for_each(|denial| lines.push("  ", "denied", &describe(denial)));
    report
        .verified
        .iter()
        .for_each(|verified| lines.verified(verified));
    for rejected in &report.rejected {
        lines.push(
            "  ",
            "refused",
            &format!(
                "{} {}: {}",
                rejected.referrer, rejected.reason, rejected.message
            ),
        );
    }
    report
        .unsafe_settings
        .iter()
        .for_each(|setting| lines.push("  ", "unsafe", setting));
    lines.push("  ", "reproduce", &report.reproduce);
    lines.0
}

impl Lines {
    fn push(&mut self, indent: &str, label: &str, text: &str) {
        let width = 12_usize.saturating_sub(indent.len());
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{indent}{label:<width$}{}", long(text));
    }

    fn maybe(&mut self, indent: &str, label: &str, value: Option<&impl fmt::Display>) {
        if let Some(value) = value {
            self.push(indent, label, &value.to_string());
        }
    }

    fn policy(&mut self, policy: &PolicyReport) {
        let text = format!(
            "{} (generation {}, {}): {}",
            policy.title(),
            policy.generation,
            policy.mode.as_str(),
            policy.verdict.as_str()
        );
        self.push("  ", "policy", &text);
        policy
            .authorities
            .iter()
            .for_each(|authority| self.authority(authority));
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
            self.push(
                "    ",
                "built",
                &format!("by {builder}, SLSA Build level {level}{lock}"),
            );
        }
    }

    fn authority(&mut self, authority: &AuthorityReport) {
        match &authority.signer {
            None => self.push("    ", "missing", &format!("by {}", authority.name)),
            Some(signer) => {
                let time = authority.time.map_or_else(
                    || "at an unknown time".to_owned(),
                    |time| format!("at {time}"),
                );
                // What everybody expects is not told.
                let form = authority
                    .format
                    .filter(|format| *format != Format::Bundle)
                    .map(|format| format!(", {}", format.as_str()));
                self.push(
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

    /// Step by step: signature and subject, time, log, and by whose word.
    fn verified(&mut self, verified: &VerifiedReport) {
        let VerifiedReport {
            referrer,
            predicate_type,
            format,
            signer,
            time,
            log,
            trust_root,
        } = verified;
        self.push(
            "  ",
            "verified",
            &format!("{referrer} {predicate_type}, {}", format.as_str()),
        );
        self.push(
            "    ",
            "signer",
            &format!("{signer}: the signature holds, and the statement is about this digest"),
        );
        let time = time.map_or_else(
            || "unknown, nobody but the signer could say".to_owned(),
            |time| format!("{time}, as logs or timestamp authorities say"),
        );
        self.push("    ", "time", &time);
        let log = match log {
            LogReport::Included => {
                "included, with a proof or promise of a log that the trust root knows"
            }
            LogReport::Unchecked => {
                "something stands beside it, and no trust root vouches for that"
            }
            LogReport::None => "none",
        };
        self.push("    ", "log", log);
        self.maybe("    ", "root", trust_root.as_ref());
    }
}

fn describe(denial: &DenialReport) -> String {
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

/// Like [`shorten`], piece by piece, so that nothing is cut off.
fn long(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    characters
        .chunks(200)
        .map(|piece| shorten(&piece.iter().collect::<String>()))
        .collect()
}
