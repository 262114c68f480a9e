use super::*;
use crate::core::reason::ClassifiedError;

const LOCK: &str = r#"
apiVersion: packgate.dev/v1alpha1
kind: Lockfile
name: siem
version: 1.4.0
entrypoint: {script: files/run.sh, mode: "0755", checksum: "sha256:0000000000000000000000000000000000000000000000000000000000000001", size: 9}
artifacts:
- {name: install, type: file, origin: files/install.sh, target: opt/siem/install.sh, mode: "0755",
   checksum: "sha256:0000000000000000000000000000000000000000000000000000000000000002", size: 2669}
- {name: rules, type: http, origin: "https://f.example.com/rules.tgz", target: opt/rules.tgz,
   checksum: "sha256:0000000000000000000000000000000000000000000000000000000000000003", size: 9120}
- {name: pg, type: oci, origin: "oci://r.example.com/pg:17@sha256:0000000000000000000000000000000000000000000000000000000000000004",
   target: images/pg.tar, checksum: "sha256:0000000000000000000000000000000000000000000000000000000000000005", size: 15360,
   oci: {platform: linux/amd64}, platforms: [linux/amd64, linux/arm64]}
"#;

fn lock() -> Lockfile {
    Lockfile::parse(LOCK.as_bytes(), &crate::core::limits::InputLimits::DEFAULT).expect("a lock")
}

fn sbom(format: SbomFormat, lock: &Lockfile) -> SbomDocument {
    SbomDocument::new(format, lock, None).expect("a bill")
}

/// A lock whose SBOMs are larger than what is attested as a whole.
fn large() -> Lockfile {
    let lock = lock();
    let artifacts = (0..4_000).map(|n| {
        let target = format!("opt/{n}").parse().expect("a path");
        crate::core::lockfile::LockedArtifact {
            name: format!("a{n}"),
            target,
            ..lock.artifacts[1].clone()
        }
    });
    Lockfile {
        artifacts: artifacts.collect(),
        ..lock.clone()
    }
}

fn statement(sbom: &SbomDocument) -> Statement {
    Statement::for_digest(
        "r.example.com/siem",
        &Digest::of_bytes(b"bundle"),
        sbom.predicate_type(),
        sbom.attestation_predicate("https://b.example.com", "oci://x"),
    )
}

#[test]
fn the_documents_are_the_documented_ones() {
    for (format, golden) in [
        (
            SbomFormat::Spdx,
            include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/data/sbom/siem.spdx.json"
            )),
        ),
        (
            SbomFormat::CycloneDX,
            include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/data/sbom/siem.cdx.json"
            )),
        ),
    ] {
        let bill = sbom(format, &lock());
        let sorted: Value = serde_json::from_slice(bill.bytes()).expect("JSON");
        assert_eq!(
            serde_json::to_string_pretty(&sorted).expect("JSON"),
            golden.trim_end(),
            "{format:?}"
        );
        assert_eq!(bill.digest(), Digest::of_bytes(bill.bytes()));
    }
}

#[test]
fn every_file_is_told_with_name_origin_digest_and_size() {
    for format in SbomFormat::ALL {
        let text = String::from_utf8(sbom(format, &lock()).bytes().to_vec()).expect("text");
        for file in (SbomInput {
            lock: &lock(),
            digest: Digest::of_bytes(b""),
            epoch: None,
            created: String::new(),
        })
        .list_files()
        {
            for fact in [
                file.name,
                file.origin,
                file.target,
                &file.checksum.hex_digits(),
                &file.size.to_string(),
                file.mode.as_str(),
            ] {
                assert!(text.contains(fact), "{format:?}: {fact} is missing");
            }
        }
    }
}

#[test]
fn the_same_lock_gives_the_same_bytes_and_another_does_not() {
    let lock = lock();
    let conduit = Lockfile {
        generation: crate::core::lockfile::LockfileGeneration::Conduit,
        ..lock.clone()
    };
    let other = Lockfile {
        version: Some("1.4.1".into()),
        ..lock.clone()
    };
    for format in SbomFormat::ALL {
        let bill = sbom(format, &lock);
        assert_eq!(
            bill,
            sbom(format, &conduit),
            "what is no part of the canonical lock changes nothing"
        );
        let id = |bill: &SbomDocument| {
            [
                &bill.document["documentNamespace"],
                &bill.document["serialNumber"],
            ]
            .map(Value::to_string)
        };
        for other in [
            sbom(format, &other),
            SbomDocument::new(format, &lock, Some(0)).expect("a bill"),
            SbomDocument::new(format, &lock, Some(1)).expect("a bill"),
        ] {
            assert_ne!(id(&bill), id(&other), "{format:?}");
        }
        assert!(
            SbomDocument::new(format, &lock, Some(1_700_000_000))
                .expect("a bill")
                .bytes()
                .windows(20)
                .any(|part| part == b"2023-11-14T22:13:20Z")
        );
        assert_eq!(
            SbomDocument::new(format, &lock, Some(i64::MAX))
                .expect_err("no time")
                .reason(),
            Reason::InvalidSpec
        );
    }
}

#[test]
fn serial_numbers_are_uuids() {
    let digit = |text: &str, at: usize| text.as_bytes()[at];
    for n in 0..40 {
        let bill = SbomInput {
            lock: &lock(),
            digest: Digest::of_bytes(&[n]),
            epoch: None,
            created: String::new(),
        };
        let document = cyclonedx::cyclonedx_document(&bill);
        let text = document["serialNumber"]
            .as_str()
            .expect("text")
            .strip_prefix("urn:uuid:")
            .expect("a URN");
        assert_eq!(
            text.split('-').map(str::len).collect::<Vec<_>>(),
            [8, 4, 4, 4, 12],
            "{text}"
        );
        assert!(
            digit(text, 14) == b'8' && b"89ab".contains(&digit(text, 19)),
            "{text}"
        );
    }
}

#[test]
fn a_statement_tells_one_document_only() {
    for format in SbomFormat::ALL {
        let (small, large) = (sbom(format, &lock()), sbom(format, &large()));
        assert!(
            !small.is_attested_by_reference() && large.is_attested_by_reference(),
            "{} and {} bytes",
            small.bytes().len(),
            large.bytes().len()
        );
        assert_eq!(
            (small.predicate_type(), large.predicate_type()),
            (format.predicate_type(), REFERENCE_PREDICATE_TYPE)
        );
        assert!(
            small.is_attested_by(&statement(&small)) && large.is_attested_by(&statement(&large))
        );
        assert!(
            !small.is_attested_by(&statement(&large)) && !large.is_attested_by(&statement(&small))
        );
        let other = SbomDocument::new(format, &lock(), Some(5)).expect("a bill");
        assert!(
            !small.is_attested_by(&statement(&other)),
            "another document of the same type"
        );
        let predicate = large.attestation_predicate(
            "https://b.example.com",
            "oci://r.example.com/siem@sha256:00",
        );
        let reference = json!({"name": format.file_name(),
            "downloadLocation": "oci://r.example.com/siem@sha256:00",
            "digest": {"sha256": large.digest().hex_digits()}, "mediaType": format.media_type()});
        assert_eq!(
            predicate,
            json!({"attester": {"id": "https://b.example.com"}, "references": [reference]})
        );
    }
}

#[test]
fn origins_that_are_no_uri_are_written_as_one() {
    let mut lock = lock();
    let bill = |lock: &Lockfile| {
        cyclonedx::cyclonedx_document(&SbomInput {
            lock,
            digest: Digest::of_bytes(b""),
            epoch: None,
            created: String::new(),
        })
    };
    for (origin, url) in [
        (
            "https://f.example.com/a b\u{fc}?x=|",
            "https://f.example.com/a%20b%C3%BC?x=%7C",
        ),
        (
            "https://[::1]:8443/[a]?y={b}&z=^`#c#d",
            "https://[::1]:8443/%5Ba%5D?y=%7Bb%7D&z=%5E%60#c%23d",
        ),
        (
            "https://f.example.com/100%?x=%zz%20",
            "https://f.example.com/100%25?x=%25zz%20",
        ),
        (
            "oci://r.example.com/pg:17@sha256:00",
            "oci://r.example.com/pg:17@sha256:00",
        ),
    ] {
        lock.artifacts[1].origin = origin.into();
        assert_eq!(
            bill(&lock)["components"][1]["externalReferences"][0]["url"],
            url
        );
    }
    let document = bill(&lock);
    assert!(
        document["components"][0]
            .get("externalReferences")
            .is_none(),
        "a path is no place for others"
    );
}
