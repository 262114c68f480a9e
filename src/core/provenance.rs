//! The provenance of packing: SLSA v1, build type [`BUILD_TYPE`].
//!
//! The external parameters are complete: together with the lock they determine the bundle's bytes.
//! What is *not* checked here: whether the claims are true. The caller has packed the bundle.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    digest::Digest,
    lockfile::{LockedArtifact, LockedEntrypoint, Lockfile, OriginType},
    media_type,
    oci::Annotations,
    sbom::SbomDocument,
    slsa::{
        BUILD_TYPE, BuildDefinition, Provenance, ResourceDescriptor, RunDetails, SlsaBuildMetadata,
        SlsaBuilder,
    },
    timestamp::format_rfc3339,
};

/// The name of the dependency on the lock.
const LOCK: &str = "lock";

/// What was packed, and with which options.
#[derive(Clone, Copy, Debug)]
pub struct BuildParameters<'a> {
    pub lock: &'a Lockfile,
    /// Digest of its canonical form.
    pub lock_digest: Digest,
    /// The version of the pack format, such as `1`.
    pub pack_format: &'a str,
    /// The format, `Image` or `Artifact`.
    pub format: &'a str,
    /// The compression of the layers, as recorded.
    pub compression: RecordedCompression<'a>,
    /// The user's annotations.
    pub annotations: &'a Annotations,
    /// Whether files outside of the lock's folder were allowed.
    pub allow_outside: bool,
    /// Seconds since 1970, if given. 0 is a value.
    pub source_date_epoch: Option<i64>,
    /// The actual download locations, by artifact name, where they differ from the origin. URLs
    /// without credentials.
    pub downloads: &'a BTreeMap<String, String>,
}

/// The compression of the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordedCompression<'a> {
    Uncompressed,
    /// `Zstd`. Its bytes depend on the encoder, so that is recorded.
    Zstd {
        /// Library and version, such as `libzstd 1.5.7`.
        encoder: &'a str,
        level: i32,
    },
    /// Compression `Zstd`, by an encoder that the signer has not observed. It is not recorded,
    /// because it would be an unverified claim.
    ZstdUnknownEncoder,
}

/// The builder, and the time of the run.
#[derive(Clone, Copy, Debug)]
pub struct BuildRun<'a> {
    /// The builder's id; on the command line [`super::slsa::CLI_BUILDER`], unless another is given.
    pub builder_id: &'a str,
    /// The version of packgate.
    pub version: &'a str,
    pub invocation_id: &'a str,
    pub started_on: Timestamp,
    /// The end of the run.
    pub finished_on: Timestamp,
    /// The object of a cluster that requested it. `None` on the command line.
    pub requested: Option<RequestingObject<'a>>,
    /// The SBOM that was generated.
    pub sbom: Option<&'a SbomDocument>,
}

/// The object of a cluster that requested the bundle, and the source of its inputs.
#[derive(Clone, Copy, Debug)]
pub struct RequestingObject<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub uid: &'a str,
    /// The URI of the lock's source, such as `k8s://team-a/configmaps/siem-lock`.
    pub lock_uri: &'a str,
    /// The image of the packer: `oci://REPOSITORY`, and its digest.
    pub packer: Option<(&'a str, Digest)>,
}

impl RecordedCompression<'_> {
    /// The name in reports and parameters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Uncompressed => "None",
            Self::Zstd { .. } | Self::ZstdUnknownEncoder => "Zstd",
        }
    }
}

/// The provenance predicate.
pub fn build_provenance(packed: &BuildParameters<'_>, run: &BuildRun<'_>) -> Provenance {
    Provenance {
        build_definition: BuildDefinition {
            build_type: BUILD_TYPE.into(),
            external_parameters: external_parameters(packed),
            internal_parameters: internal_parameters(packed.compression, run.requested.as_ref()),
            resolved_dependencies: resolved_dependencies(packed, run.requested.as_ref()),
        },
        run_details: run_details(run),
    }
}

/// True if both describe the same build: same builder, lock, options, requesting object and
/// by-products.
///
/// Time, run id and version are ignored, so that a repeated run finds the results of the first one.
pub fn is_same_build(a: &Provenance, b: &Provenance) -> bool {
    let what = |provenance: &'_ Provenance| {
        let BuildDefinition {
            build_type,
            external_parameters,
            internal_parameters,
            resolved_dependencies,
        } = provenance.build_definition.clone();
        let lock: Vec<_> = resolved_dependencies
            .into_iter()
            .filter(|dependency| dependency.name.as_deref() == Some(LOCK))
            .collect();
        let RunDetails {
            builder,
            byproducts,
            ..
        } = provenance.run_details.clone();
        (
            build_type,
            external_parameters,
            internal_parameters,
            lock,
            builder.id,
            byproducts,
        )
    };
    what(a) == what(b)
}

fn external_parameters(packed: &BuildParameters<'_>) -> Value {
    let mut lock = json!({"digest": digest_set(&packed.lock_digest)});
    if let Some(name) = &packed.lock.name {
        lock["name"] = name.as_str().into();
    }
    let mut parameters = json!({
        "lock": lock,
        "packFormat": packed.pack_format,
        "format": packed.format,
        "compression": packed.compression.as_str(),
        "annotations": packed.annotations,
        "allowOutside": packed.allow_outside,
    });
    if let Some(epoch) = packed.source_date_epoch {
        parameters["sourceDateEpoch"] = epoch.into();
    }
    parameters
}

fn internal_parameters(
    compression: RecordedCompression<'_>,
    requested: Option<&RequestingObject<'_>>,
) -> Value {
    let mut parameters = Map::new();
    if let RecordedCompression::Zstd { encoder, level } = compression {
        parameters.extend([
            ("encoder".to_owned(), encoder.into()),
            ("level".to_owned(), level.into()),
        ]);
    }
    if let Some(RequestingObject {
        namespace,
        name,
        uid,
        ..
    }) = requested
    {
        parameters.extend(
            [("namespace", namespace), ("name", name), ("uid", uid)]
                .map(|(key, value)| (key.to_owned(), (*value).into())),
        );
    }
    if parameters.is_empty() {
        Value::Null
    } else {
        parameters.into()
    }
}

fn resolved_dependencies(
    packed: &BuildParameters<'_>,
    requested: Option<&RequestingObject<'_>>,
) -> Vec<ResourceDescriptor> {
    let lock = ResourceDescriptor {
        name: Some(LOCK.into()),
        uri: requested.map(|requested| requested.lock_uri.into()),
        digest: digest_set(&packed.lock_digest),
        media_type: Some(media_type::LOCK.into()),
        ..ResourceDescriptor::default()
    };
    let artifacts = packed
        .lock
        .artifacts
        .iter()
        .map(|artifact| artifact_dependency(artifact, packed.downloads));
    let image = requested
        .and_then(|requested| requested.packer)
        .map(|(uri, digest)| ResourceDescriptor {
            name: Some("packer".into()),
            uri: Some(uri.into()),
            digest: digest_set(&digest),
            ..ResourceDescriptor::default()
        });
    std::iter::once(lock)
        .chain(artifacts)
        .chain(packed.lock.entrypoint.iter().map(entrypoint_dependency))
        .chain(image)
        .collect()
}

fn artifact_dependency(
    artifact: &LockedArtifact,
    downloads: &BTreeMap<String, String>,
) -> ResourceDescriptor {
    ResourceDescriptor {
        name: Some(format!("artifact/{}", artifact.name)),
        uri: (artifact.origin_type != OriginType::File).then(|| artifact.origin.clone()),
        digest: digest_set(&artifact.checksum),
        download_location: downloads.get(&artifact.name).cloned(),
        ..ResourceDescriptor::default()
    }
}

fn entrypoint_dependency(entrypoint: &LockedEntrypoint) -> ResourceDescriptor {
    ResourceDescriptor {
        name: Some("entrypoint".into()),
        digest: digest_set(&entrypoint.checksum),
        ..ResourceDescriptor::default()
    }
}

fn run_details(run: &BuildRun<'_>) -> RunDetails {
    RunDetails {
        builder: SlsaBuilder {
            id: run.builder_id.into(),
            version: BTreeMap::from([("packgate".to_owned(), run.version.to_owned())]),
        },
        metadata: Some(SlsaBuildMetadata {
            invocation_id: Some(run.invocation_id.into()),
            started_on: Some(format_rfc3339(run.started_on)),
            finished_on: Some(format_rfc3339(run.finished_on)),
        }),
        byproducts: run.sbom.into_iter().map(sbom_byproduct).collect(),
    }
}

fn sbom_byproduct(sbom: &SbomDocument) -> ResourceDescriptor {
    ResourceDescriptor {
        name: Some("sbom".into()),
        digest: digest_set(&sbom.digest()),
        media_type: Some(sbom.format().media_type().into()),
        ..ResourceDescriptor::default()
    }
}

fn digest_set(digest: &Digest) -> BTreeMap<String, String> {
    BTreeMap::from([("sha256".to_owned(), digest.hex_digits())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{
        intoto::Statement,
        lockfile::BundleFileMode,
        slsa::{CLI_BUILDER, PROVENANCE_V1},
    };

    /// The statement about the bundle `digest`. `subject_name` is `registry/repository` without a tag,
    /// or the lock's name for layouts and archives; an empty one is omitted.
    fn provenance_statement(
        subject_name: &str,
        digest: &Digest,
        provenance: &Provenance,
    ) -> serde_json::Result<Statement> {
        Ok(Statement::for_digest(
            subject_name,
            digest,
            PROVENANCE_V1,
            serde_json::to_value(provenance)?,
        ))
    }

    fn artifact(name: &str, origin_type: OriginType, origin: &str) -> LockedArtifact {
        LockedArtifact {
            name: name.into(),
            origin_type,
            origin: origin.into(),
            signed_origin: None,
            target: name.parse().expect("a path"),
            checksum: Digest::of_bytes(name.as_bytes()),
            size: 1,
            mode: BundleFileMode::Plain,
            unpack: None,
            oci: None,
            platforms: Vec::new(),
        }
    }

    fn lock() -> Lockfile {
        let entrypoint = LockedEntrypoint {
            script: "files/run.sh".into(),
            target: "run.sh".parse().expect("a path"),
            mode: BundleFileMode::Executable,
            checksum: Digest::of_bytes(b"run"),
            size: 3,
        };
        Lockfile {
            generation: crate::core::lockfile::LockfileGeneration::default(),
            name: Some("siem".into()),
            version: None,
            entrypoint: Some(entrypoint),
            artifacts: vec![
                artifact("install", OriginType::File, "files/install.sh"),
                artifact("rules", OriginType::Http, "https://f.example.com/rules.tgz"),
                artifact("pg", OriginType::Oci, "oci://r.example.com/pg:17"),
            ],
            layers: Vec::new(),
        }
    }

    fn packed<'a>(
        lock: &'a Lockfile,
        annotations: &'a Annotations,
        downloads: &'a BTreeMap<String, String>,
    ) -> BuildParameters<'a> {
        BuildParameters {
            lock,
            lock_digest: Digest::of_bytes(b"lock"),
            pack_format: "1",
            format: "Image",
            compression: RecordedCompression::Uncompressed,
            annotations,
            allow_outside: false,
            source_date_epoch: None,
            downloads,
        }
    }

    fn run() -> BuildRun<'static> {
        BuildRun {
            builder_id: CLI_BUILDER,
            version: "0.1.0",
            invocation_id: "run-1",
            started_on: "2026-11-21T10:00:00.123Z".parse().expect("a time"),
            finished_on: "2026-11-21T12:00:04+02:00".parse().expect("a time"),
            requested: None,
            sbom: None,
        }
    }

    fn run_in_cluster(packer: &str) -> BuildRun<'_> {
        let requested = RequestingObject {
            namespace: "team-a",
            name: "siem",
            uid: "u-1",
            lock_uri: "k8s://team-a/configmaps/siem-lock",
            packer: Some((packer, Digest::of_bytes(packer.as_bytes()))),
        };
        let builder_id = "https://packgate.dev/builder/c-1/platform";
        BuildRun {
            requested: Some(requested),
            builder_id,
            invocation_id: "c-1/team-a/siem/3/packgate-0123456789abcdef-sign",
            ..run()
        }
    }

    #[test]
    fn the_statement_is_the_documented_one() {
        let (lock, annotations) = (lock(), Annotations::new());
        let downloads = BTreeMap::from([(
            "rules".to_owned(),
            "https://m.example.com/rules.tgz".to_owned(),
        )]);
        let provenance = build_provenance(&packed(&lock, &annotations, &downloads), &run());
        let statement = provenance_statement(
            "r.example.com/team-a/siem",
            &Digest::of_bytes(b"manifest"),
            &provenance,
        )
        .expect("JSON");
        let golden = include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/data/provenance/cli.json"
        ));
        assert_eq!(
            serde_json::to_string_pretty(&statement).expect("JSON"),
            golden.trim_end()
        );
    }

    #[test]
    fn the_statement_of_a_cluster_is_the_documented_one() {
        let (lock, annotations, downloads) = (lock(), Annotations::new(), BTreeMap::new());
        let provenance = build_provenance(
            &packed(&lock, &annotations, &downloads),
            &run_in_cluster("oci://r.example.com/packgate"),
        );
        let statement = provenance_statement(
            "r.example.com/team-a/siem",
            &Digest::of_bytes(b"manifest"),
            &provenance,
        )
        .expect("JSON");
        let golden = include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/data/provenance/cluster.json"
        ));
        assert_eq!(
            serde_json::to_string_pretty(&statement).expect("JSON"),
            golden.trim_end()
        );
    }

    #[test]
    fn a_build_is_the_same_whenever_and_by_whichever_version_it_is_done() {
        let (lock, annotations, downloads) = (lock(), Annotations::new(), BTreeMap::new());
        let packed = packed(&lock, &annotations, &downloads);
        let first = run_in_cluster("oci://r.example.com/packgate");
        let sbom =
            SbomDocument::new(crate::core::sbom::SbomFormat::Spdx, &lock, None).expect("a bill");
        let again = BuildRun {
            version: "0.2.0",
            invocation_id: "other",
            finished_on: Timestamp::UNIX_EPOCH,
            ..run_in_cluster("oci://r.example.com/new")
        };
        let first_build = build_provenance(&packed, &first);
        assert!(is_same_build(
            &first_build,
            &build_provenance(&packed, &again)
        ));
        let asked_by = |change: fn(&mut RequestingObject<'_>)| {
            let mut requested = first.requested.expect("in a cluster");
            change(&mut requested);
            build_provenance(
                &packed,
                &BuildRun {
                    requested: Some(requested),
                    ..first
                },
            )
        };
        for other in [
            asked_by(|requested| requested.uid = "u-2"),
            asked_by(|requested| requested.lock_uri = "k8s://team-a/configmaps/other"),
            build_provenance(
                &packed,
                &BuildRun {
                    builder_id: CLI_BUILDER,
                    ..first
                },
            ),
            build_provenance(
                &BuildParameters {
                    lock_digest: Digest::of_bytes(b"other"),
                    ..packed
                },
                &first,
            ),
            build_provenance(
                &BuildParameters {
                    format: "Artifact",
                    ..packed
                },
                &first,
            ),
            build_provenance(
                &packed,
                &BuildRun {
                    sbom: Some(&sbom),
                    ..first
                },
            ),
        ] {
            assert!(!is_same_build(&first_build, &other), "{other:?}");
        }
        let byproducts = json!([
            {
                "name": "sbom",
                "digest": {"sha256": sbom.digest().hex_digits()},
                "mediaType": "application/spdx+json",
            },
        ]);
        assert_eq!(
            json!(
                build_provenance(
                    &packed,
                    &BuildRun {
                        sbom: Some(&sbom),
                        ..first
                    }
                )
                .run_details
                .byproducts
            ),
            byproducts
        );
    }

    #[test]
    fn everything_that_shapes_the_bytes_is_a_parameter() {
        let lock = Lockfile {
            name: None,
            entrypoint: None,
            ..lock()
        };
        let (annotations, downloads) = (
            Annotations::from([("a".to_owned(), "b".to_owned())]),
            BTreeMap::new(),
        );
        let packed = BuildParameters {
            format: "Artifact",
            compression: RecordedCompression::Zstd {
                encoder: "libzstd 1.5.7",
                level: 3,
            },
            allow_outside: true,
            source_date_epoch: Some(0),
            ..packed(&lock, &annotations, &downloads)
        };
        let BuildDefinition {
            external_parameters,
            internal_parameters,
            resolved_dependencies,
            ..
        } = build_provenance(&packed, &run()).build_definition;
        let digest = json!({"sha256": Digest::of_bytes(b"lock").hex_digits()});
        let expected = json!({"lock": {"digest": digest}, "packFormat": "1", "format": "Artifact",
            "compression": "Zstd",
            "annotations": {"a": "b"}, "allowOutside": true, "sourceDateEpoch": 0});
        assert_eq!(external_parameters, expected);
        assert_eq!(
            internal_parameters,
            json!({"encoder": "libzstd 1.5.7", "level": 3})
        );
        let names: Vec<_> = resolved_dependencies
            .iter()
            .filter_map(|d| d.name.as_deref())
            .collect();
        assert_eq!(
            names,
            ["lock", "artifact/install", "artifact/rules", "artifact/pg"]
        );
    }

    #[test]
    fn a_layout_without_a_name_has_a_subject_without_one() {
        let (lock, annotations, downloads) = (lock(), Annotations::new(), BTreeMap::new());
        let provenance = build_provenance(&packed(&lock, &annotations, &downloads), &run());
        let statement =
            provenance_statement("", &Digest::of_bytes(b"manifest"), &provenance).expect("JSON");
        let subject = &serde_json::to_value(&statement).expect("JSON")["subject"];
        assert_eq!(
            *subject,
            json!([{"digest": {"sha256": Digest::of_bytes(b"manifest").hex_digits()}}])
        );
    }
}
