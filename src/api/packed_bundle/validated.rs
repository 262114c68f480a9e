//! The validated form of a [`PackedBundle`]. The webhook and the controller both use it, so nothing
//! is accepted that cannot be acted on.

use std::{str::FromStr, time::Duration};

use crate::{
    api::duration,
    core::{pack, reference::ImageTag, sbom},
};

use super::{
    CompressionSpec, DestinationSpec, EvidenceSpec, FetchSpec, HistoryLimitsSpec, OutputFormatSpec,
    OutputSpec, PackPodSpec, PackedBundle, PackedBundleSpec, SbomFormatSpec, SigningModeSpec,
    SigningSpec,
    fetch::convert_fetch,
    packing_request::{
        HistoryLimits, LockSource, PackedBundleSpecError, PackedBundleWork, PackingRequest,
        SigningParty, TenantSigner, TenantSigningIdentity, invalid_field,
    },
    source::{ParsedSource, parse_repository, parse_source},
};

const MIN_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_TIMEOUT: Duration = Duration::from_hours(24);
const MIN_INTERVAL: Duration = Duration::from_secs(10);
const MAX_NAME: usize = 63;

/// A `PackedBundle` that is valid.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedPackedBundle {
    /// True if no work may be done.
    pub suspend: bool,
    /// The interval of verification; `None`: never again.
    pub interval: Option<Duration>,
    /// The work to do.
    pub work: PackedBundleWork,
}

impl TryFrom<&PackedBundle> for ValidatedPackedBundle {
    type Error = PackedBundleSpecError;

    fn try_from(object: &PackedBundle) -> Result<Self, PackedBundleSpecError> {
        if object
            .metadata
            .name
            .as_ref()
            .is_some_and(|name| name.len() > MAX_NAME)
        {
            return Err(invalid_field(
                "metadata.name",
                "must have at most 63 characters, it becomes a label",
            ));
        }
        Self::try_from(&object.spec)
    }
}

impl TryFrom<&PackedBundleSpec> for ValidatedPackedBundle {
    type Error = PackedBundleSpecError;

    fn try_from(spec: &PackedBundleSpec) -> Result<Self, PackedBundleSpecError> {
        let PackedBundleSpec {
            suspend,
            interval,
            timeout,
            source,
            fetch,
            destination,
            output,
            signing,
            evidence,
            history,
            pack_pod,
        } = spec;
        let sbom = convert_sbom_format(evidence.as_ref())?;
        let interval = parse_interval(interval)?;
        let timeout = parse_timeout(timeout)?;
        let work = match parse_source(source)? {
            ParsedSource::Lock(lock) => {
                let form = OptionalPackingFields {
                    fetch: fetch.as_ref(),
                    output: output.as_ref(),
                    signing: signing.as_ref(),
                    sbom,
                    history,
                    pod: pack_pod.as_ref(),
                };
                let destination = require_destination(destination.as_ref())?;
                let packing = build_packing_request(lock, destination, &form, timeout)?;
                PackedBundleWork::Pack(Box::new(packing))
            }
            ParsedSource::Bundle(adoption) => {
                refuse_packing_fields(&[
                    (destination.is_some(), "spec.destination"),
                    (output.is_some(), "spec.output"),
                    (signing.is_some(), "spec.signing"),
                ])?;
                if sbom.is_some() {
                    return Err(invalid_field(
                        "spec.evidence.sbom",
                        "must be None: source.bundle adopts a bundle as it is",
                    ));
                }
                PackedBundleWork::Adopt(adoption)
            }
        };
        Ok(Self {
            suspend: *suspend,
            interval,
            work,
        })
    }
}

fn require_destination(
    destination: Option<&DestinationSpec>,
) -> Result<&DestinationSpec, PackedBundleSpecError> {
    destination.ok_or_else(|| {
        invalid_field(
            "spec.destination",
            "must be set: it names the repository to push the bundle to",
        )
    })
}

/// Refuses the first field that is set.
fn refuse_packing_fields(fields: &[(bool, &str)]) -> Result<(), PackedBundleSpecError> {
    match fields.iter().find(|(is_set, _)| *is_set) {
        Some((_, field)) => Err(invalid_field(
            field,
            "must be left out: source.bundle adopts a bundle as it is",
        )),
        None => Ok(()),
    }
}

fn parse_interval(text: &str) -> Result<Option<Duration>, PackedBundleSpecError> {
    let field = "spec.interval";
    match duration::parse(text) {
        Some(Duration::ZERO) => Ok(None),
        Some(interval) if interval >= MIN_INTERVAL => Ok(Some(interval)),
        Some(_) => Err(invalid_field(
            field,
            "must be at least 10s, or 0s for never",
        )),
        None => Err(invalid_field(
            field,
            "must be a duration of hours, minutes and seconds, such as 1h, or 0s for never",
        )),
    }
}

fn parse_timeout(text: &str) -> Result<Duration, PackedBundleSpecError> {
    let fits = |timeout: &Duration| (MIN_TIMEOUT..=MAX_TIMEOUT).contains(timeout);
    duration::parse(text).filter(fits).ok_or_else(|| {
        invalid_field(
            "spec.timeout",
            "must be a duration of hours, minutes and seconds from 10s to 24h, such as 15m",
        )
    })
}

/// The optional fields of a packing request.
struct OptionalPackingFields<'a> {
    fetch: Option<&'a FetchSpec>,
    output: Option<&'a OutputSpec>,
    signing: Option<&'a SigningSpec>,
    sbom: Option<sbom::SbomFormat>,
    history: &'a HistoryLimitsSpec,
    pod: Option<&'a PackPodSpec>,
}

fn build_packing_request(
    source: LockSource,
    destination: &DestinationSpec,
    form: &OptionalPackingFields<'_>,
    timeout: Duration,
) -> Result<PackingRequest, PackedBundleSpecError> {
    let DestinationSpec {
        repository: name,
        tag,
        tag_policy,
        secret_ref,
    } = destination;
    let signing = resolve_signing_party(form.signing)?;
    Ok(PackingRequest {
        source,
        repository: parse_repository("spec.destination.repository", name)?,
        tag: tag
            .as_deref()
            .map(ImageTag::from_str)
            .transpose()
            .map_err(|e| invalid_field("spec.destination.tag", &e))?,
        tag_policy: *tag_policy,
        push_secret: secret_ref.as_ref().map(|secret| secret.name.clone()),
        output: convert_output(form.output)?,
        sbom: require_sbom_signer(form.sbom, &signing)?,
        signing,
        fetch_ca: form.fetch.and_then(|fetch| fetch.ca_ref.clone()),
        fetch: form
            .fetch
            .map(convert_fetch)
            .transpose()?
            .unwrap_or_default(),
        timeout,
        history_limits: HistoryLimits {
            succeeded: convert_history_limit(form.history.succeeded),
            failed: convert_history_limit(form.history.failed),
        },
        pod: form.pod.cloned().unwrap_or_default(),
    })
}

fn convert_history_limit(number: i32) -> usize {
    usize::try_from(number).unwrap_or_default()
}

fn convert_output(output: Option<&OutputSpec>) -> Result<pack::PackOptions, PackedBundleSpecError> {
    let OutputSpec {
        format,
        compression,
        source_date_epoch,
        annotations,
    } = output.cloned().unwrap_or_default();
    let output = pack::PackOptions {
        format: match format {
            OutputFormatSpec::Image => pack::BundleFormat::Image,
            OutputFormatSpec::Artifact => pack::BundleFormat::Artifact,
        },
        compression: match compression {
            CompressionSpec::None => pack::LayerCompression::None,
            CompressionSpec::Zstd => pack::LayerCompression::Zstd,
        },
        source_date_epoch,
        annotations,
    };
    output
        .check_options()
        .map_err(|e| invalid_field("spec.output", &e))?;
    Ok(output)
}

fn resolve_signing_party(
    signing: Option<&SigningSpec>,
) -> Result<SigningParty, PackedBundleSpecError> {
    let Some(SigningSpec {
        mode,
        key_secret_ref,
        keyless,
        signing_config_ref,
    }) = signing
    else {
        return Ok(SigningParty::Platform);
    };
    let services = signing_config_ref
        .as_ref()
        .map(|reference| reference.name.clone());
    if *mode != SigningModeSpec::Namespace {
        let given = [
            (key_secret_ref.is_some(), "spec.signing.keySecretRef"),
            (keyless.is_some(), "spec.signing.keyless"),
            (services.is_some(), "spec.signing.signingConfigRef"),
        ];
        if let Some((_, field)) = given.into_iter().find(|(is_set, _)| *is_set) {
            return Err(invalid_field(field, "is for mode Namespace only"));
        }
        return Ok(if *mode == SigningModeSpec::Platform {
            SigningParty::Platform
        } else {
            SigningParty::Unsigned
        });
    }
    let identity = match (key_secret_ref, keyless) {
        (Some(secret), None) => TenantSigningIdentity::Key(secret.name.clone()),
        (None, Some(_)) if services.is_none() => {
            return Err(invalid_field(
                "spec.signing.signingConfigRef",
                "is needed by keyless: it names the certificate authority and the transparency log",
            ));
        }
        (None, Some(_)) => TenantSigningIdentity::ServiceAccount,
        _ => {
            return Err(invalid_field(
                "spec.signing",
                "mode Namespace needs exactly one of keySecretRef and keyless",
            ));
        }
    };
    Ok(SigningParty::Namespace(TenantSigner { identity, services }))
}

fn convert_sbom_format(
    evidence: Option<&EvidenceSpec>,
) -> Result<Option<sbom::SbomFormat>, PackedBundleSpecError> {
    match evidence {
        Some(EvidenceSpec {
            provenance: false, ..
        }) => Err(invalid_field(
            "spec.evidence.provenance",
            "false is not supported yet, leave it out",
        )),
        None
        | Some(EvidenceSpec {
            sbom: SbomFormatSpec::None,
            ..
        }) => Ok(None),
        Some(EvidenceSpec {
            sbom: SbomFormatSpec::Spdx,
            ..
        }) => Ok(Some(sbom::SbomFormat::Spdx)),
        Some(EvidenceSpec {
            sbom: SbomFormatSpec::CycloneDX,
            ..
        }) => Ok(Some(sbom::SbomFormat::CycloneDX)),
    }
}

/// An SBOM needs a signer that attests it.
fn require_sbom_signer(
    sbom: Option<sbom::SbomFormat>,
    signing: &SigningParty,
) -> Result<Option<sbom::SbomFormat>, PackedBundleSpecError> {
    match (sbom, signing) {
        (Some(_), SigningParty::Unsigned) => Err(invalid_field(
            "spec.evidence.sbom",
            "must be None with signing mode None: there is no signer to attest it",
        )),
        _ => Ok(sbom),
    }
}
