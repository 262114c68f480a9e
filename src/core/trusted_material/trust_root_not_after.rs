//! How long a trust root can verify new signatures.

use jiff::Timestamp;
use sigstore_crypto::parse_certificate_info;
use sigstore_trust_root::{TimeRange, TrustedRoot};
use sigstore_types::DerCertificate;

/// Of each kind of authority the last one to end, and of these the first. Kinds that the root does
/// not contain are skipped.
pub(super) fn trust_root_not_after(root: &TrustedRoot) -> Option<Timestamp> {
    let logs = root
        .tlogs
        .iter()
        .map(|log| window_end(log.public_key.valid_for.as_ref()));
    let certificate_logs = root
        .ctlogs
        .iter()
        .map(|log| window_end(log.public_key.valid_for.as_ref()));
    let authorities = root.certificate_authorities.iter().map(|ca| {
        earlier_time(
            window_end(ca.valid_for.as_ref()),
            earliest_certificate_end(
                ca.cert_chain
                    .certificates
                    .iter()
                    .map(|entry| &entry.raw_bytes),
            ),
        )
    });
    let timestamps = root.timestamp_authorities.iter().map(|tsa| {
        earlier_time(
            window_end(tsa.valid_for.as_ref()),
            earliest_certificate_end(
                tsa.cert_chain
                    .certificates
                    .iter()
                    .map(|entry| &entry.raw_bytes),
            ),
        )
    });
    [
        latest_end(logs),
        latest_end(certificate_logs),
        latest_end(authorities),
        latest_end(timestamps),
    ]
    .into_iter()
    .flatten()
    .min()
}

fn window_end(window: Option<&TimeRange>) -> Option<Timestamp> {
    window.and_then(|window| window.end)
}

fn earliest_certificate_end<'a>(
    chain: impl Iterator<Item = &'a DerCertificate>,
) -> Option<Timestamp> {
    chain
        .filter_map(|certificate| Some(parse_certificate_info(certificate).ok()?.not_after))
        .min()
}

fn earlier_time(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.into_iter().chain(b).min()
}

/// `None` if there is none, or if one of them has no end.
fn latest_end(ends: impl Iterator<Item = Option<Timestamp>>) -> Option<Timestamp> {
    ends.collect::<Option<Vec<_>>>()?.into_iter().max()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use sigstore_trust_root::SIGSTORE_PRODUCTION_TRUSTED_ROOT;

    use super::*;

    fn public_good(change: impl FnOnce(&mut Value)) -> Option<Timestamp> {
        let mut root: Value = serde_json::from_str(SIGSTORE_PRODUCTION_TRUSTED_ROOT).expect("JSON");
        change(&mut root);
        trust_root_not_after(&TrustedRoot::from_json(&root.to_string()).expect("a trust root"))
    }

    #[test]
    fn the_last_of_a_kind_counts_and_the_first_of_all_kinds() {
        let window = |end: &str| json!({"start": "2021-01-01T00:00:00Z", "end": end});
        let ends = |logs: [&str; 2], ca: &str| {
            public_good(|root| {
                let log = root["tlogs"][0].clone();
                root["tlogs"] = json!([log, log]);
                for (at, end) in logs.iter().enumerate() {
                    root["tlogs"][at]["publicKey"]["validFor"] = window(end);
                }
                for authority in root["certificateAuthorities"]
                    .as_array_mut()
                    .expect("authorities")
                {
                    authority["validFor"] = window(ca);
                }
                root["timestampAuthorities"] = json!([]);
            })
            .map(|end| end.to_string())
        };
        assert_eq!(
            ends(
                ["2024-01-01T00:00:00Z", "2028-01-01T00:00:00Z"],
                "2029-01-01T00:00:00Z"
            )
            .as_deref(),
            Some("2028-01-01T00:00:00Z")
        );
        assert_eq!(
            ends(
                ["2024-01-01T00:00:00Z", "2028-01-01T00:00:00Z"],
                "2027-01-01T00:00:00Z"
            )
            .as_deref(),
            Some("2027-01-01T00:00:00Z")
        );
    }

    #[test]
    fn without_a_window_the_certificates_end_it() {
        let end = public_good(|_| ()).expect("certificates end");
        assert!(
            end > "2030-01-01T00:00:00Z".parse().expect("a time"),
            "{end}"
        );
        assert_eq!(
            trust_root_not_after(
                &TrustedRoot::from_json(
                    r#"{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}"#
                )
                .expect("empty")
            ),
            None
        );
    }
}
