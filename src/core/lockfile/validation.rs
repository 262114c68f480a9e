//! The rules for every lock, whether it was read from a file, completed from a manifest, or
//! constructed in code.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{
    document_tree::MAX_TEXT,
    error::{LockfileError, LockfileFieldError},
    model::{ArtifactEntry, EntrypointEntry, Lockfile, OriginType, RecordedLayer},
    origin,
};
use crate::core::{
    bundle_path::BundlePath, display_text::is_invisible, limits::InputLimits, oci::Platform,
};

/// The longest name, and the longest version.
pub(super) const MAX_NAME: usize = 128;
/// Distinct platforms in one lock. Each has a manifest, so a lock of three megabytes must not require
/// a hundred thousand.
const MAX_PLATFORMS: usize = 64;
/// Layers with files in one manifest (docs/spec/pack-v1.md, "Layers of an `Image`").
const MAX_LAYERS: usize = 63;
/// The largest whole number that every JSON reader keeps exactly (RFC 8785, section 3.2.2.3).
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

impl Lockfile {
    /// Checks everything that the parser checks, so that a lock that was made in code is as good as
    /// one that was read.
    ///
    /// # Errors
    /// [`LockfileError::Refused`] with the field's path, or [`LockfileError::TooLarge`] if the
    /// canonical form is over `limits.lock_bytes`.
    pub fn into_checked(self, limits: &InputLimits) -> Result<Self, LockfileError> {
        check_name_and_version("", self.name.as_deref(), self.version.as_deref())?;
        check_contents(self.entrypoint.as_ref(), &self.artifacts, limits)?;
        check_layers(&self)?;
        let size = self.to_canonical().bytes.len();
        if size > limits.lock_bytes {
            Err(LockfileError::TooLarge {
                size,
                limit: limits.lock_bytes,
            })
        } else {
            Ok(self)
        }
    }
}

/// Checks title and version. `before` precedes their paths in errors.
pub(super) fn check_name_and_version(
    before: &str,
    name: Option<&str>,
    version: Option<&str>,
) -> Result<(), LockfileError> {
    name.map_or(Ok(()), check_name)
        .map_err(|fault| LockfileError::at_field(format!("{before}name"), fault))?;
    version
        .map_or(Ok(()), |text| check_text(text, MAX_NAME))
        .map_err(|fault| LockfileError::at_field(format!("{before}version"), fault))
}

/// Each artifact and the entrypoint, then all of them together. What has no size yet has none to
/// check.
pub(super) fn check_contents<C, S: Copy + Into<Option<u64>>>(
    entrypoint: Option<&EntrypointEntry<C, S>>,
    artifacts: &[ArtifactEntry<C, S>],
    limits: &InputLimits,
) -> Result<(), LockfileError> {
    check_artifact_count(artifacts.len(), limits)?;
    for (index, artifact) in artifacts.iter().enumerate() {
        check_artifact(artifact, limits).map_err(|(field, fault)| {
            LockfileError::at_field(format!("artifacts[{index}].{field}"), fault)
        })?;
    }
    if let Some(entrypoint) = entrypoint {
        check_entrypoint(entrypoint, limits).map_err(|(field, fault)| {
            LockfileError::at_field(format!("entrypoint.{field}"), fault)
        })?;
    }
    check_unique_names(artifacts)?;
    check_target_conflicts(entrypoint.map(|entrypoint| &entrypoint.target), artifacts)?;
    check_platform_count(artifacts)
}

fn check_artifact_count(count: usize, limits: &InputLimits) -> Result<(), LockfileError> {
    let over = || LockfileFieldError::OverLimit {
        found: count as u64,
        limit: limits.artifacts as u64,
    };
    match count {
        0 => Err(LockfileError::at_field(
            "artifacts",
            LockfileFieldError::NoEntries,
        )),
        n if n > limits.artifacts => Err(LockfileError::at_field("artifacts", over())),
        _ => Ok(()),
    }
}

type NamedFieldError = (&'static str, LockfileFieldError);

fn check_artifact<C, S: Copy + Into<Option<u64>>>(
    artifact: &ArtifactEntry<C, S>,
    limits: &InputLimits,
) -> Result<(), NamedFieldError> {
    check_name(&artifact.name).map_err(|fault| ("name", fault))?;
    check_text(&artifact.origin, MAX_TEXT).map_err(|fault| ("origin", fault))?;
    origin::check_origin(artifact.origin_type, &artifact.origin)
        .map_err(|fault| ("origin", fault))?;
    check_size(artifact.size.into(), limits)?;
    if artifact.oci.is_some() && artifact.origin_type != OriginType::Oci {
        return Err(("oci", LockfileFieldError::OnlyWith("type oci")));
    }
    let mut seen = HashSet::new();
    match artifact
        .platforms
        .iter()
        .find(|platform| !seen.insert(*platform))
    {
        Some(platform) => Err((
            "platforms",
            LockfileFieldError::DuplicateValue(platform.to_string()),
        )),
        None => Ok(()),
    }
}

fn check_entrypoint<C, S: Copy + Into<Option<u64>>>(
    entrypoint: &EntrypointEntry<C, S>,
    limits: &InputLimits,
) -> Result<(), NamedFieldError> {
    check_text(&entrypoint.script, MAX_TEXT).map_err(|fault| ("script", fault))?;
    origin::check_origin(OriginType::File, &entrypoint.script)
        .map_err(|fault| ("script", fault))?;
    let base = entrypoint_target(&entrypoint.script).map_err(|fault| ("script", fault))?;
    if base != entrypoint.target {
        return Err(("script", LockfileFieldError::EntrypointTarget));
    }
    check_size(entrypoint.size.into(), limits)
}

/// Where an entrypoint goes: the base name of its script.
pub(super) fn entrypoint_target(script: &str) -> Result<BundlePath, LockfileFieldError> {
    Ok(script.rsplit('/').next().unwrap_or_default().parse()?)
}

fn check_size(size: Option<u64>, limits: &InputLimits) -> Result<(), NamedFieldError> {
    let limit = limits.artifact_bytes.min(MAX_SAFE_INTEGER);
    match size {
        Some(found) if found > limit => {
            Err(("size", LockfileFieldError::OverLimit { found, limit }))
        }
        _ => Ok(()),
    }
}

/// Checks against `^[a-zA-Z0-9._-]{1,128}$`.
fn check_name(name: &str) -> Result<(), LockfileFieldError> {
    let known = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if known && !name.is_empty() && name.len() <= MAX_NAME {
        Ok(())
    } else {
        Err(LockfileFieldError::Name(MAX_NAME))
    }
}

fn check_text(text: &str, limit: usize) -> Result<(), LockfileFieldError> {
    match text {
        "" => Err(LockfileFieldError::EmptyText),
        _ if text.chars().any(char::is_control) => Err(LockfileFieldError::Control),
        _ if text.chars().any(is_invisible) => Err(LockfileFieldError::Invisible),
        _ if text.len() > limit => Err(LockfileFieldError::TooLong(limit)),
        _ => Ok(()),
    }
}

fn check_unique_names<C, S>(artifacts: &[ArtifactEntry<C, S>]) -> Result<(), LockfileError> {
    let mut seen = HashMap::with_capacity(artifacts.len());
    for (index, artifact) in artifacts.iter().enumerate() {
        if let Some(other) = seen.insert(artifact.name.as_str(), index) {
            return Err(LockfileError::at_field(
                format!("artifacts[{index}].name"),
                LockfileFieldError::TakenName {
                    value: artifact.name.clone(),
                    other,
                },
            ));
        }
    }
    Ok(())
}

/// Sorted by segments, a path directly precedes the paths below it, so only neighbours need to be
/// compared.
fn check_target_conflicts<C, S>(
    entrypoint: Option<&BundlePath>,
    artifacts: &[ArtifactEntry<C, S>],
) -> Result<(), LockfileError> {
    let count = artifacts.len();
    let mut targets: Vec<(&BundlePath, usize)> = artifacts
        .iter()
        .enumerate()
        .map(|(index, artifact)| (&artifact.target, index))
        .collect();
    targets.extend(entrypoint.map(|target| (target, count)));
    targets.sort_by(|(a, i), (b, j)| a.segments().cmp(b.segments()).then(i.cmp(j)));
    for pair in targets.windows(2) {
        let [first, second] = pair else { continue };
        check_target_pair(*first, *second, count)?;
    }
    Ok(())
}

fn check_target_pair(
    first: (&BundlePath, usize),
    second: (&BundlePath, usize),
    count: usize,
) -> Result<(), LockfileError> {
    let (earlier, later) = if first.1 < second.1 {
        (first, second)
    } else {
        (second, first)
    };
    let name = |index: usize| {
        if index == count {
            "entrypoint".to_owned()
        } else {
            format!("artifacts[{index}]")
        }
    };
    let field = if later.1 == count {
        "entrypoint.script".to_owned()
    } else {
        format!("artifacts[{}].target", later.1)
    };
    let (value, other) = (later.0.to_string(), name(earlier.1));
    if first.0 == second.0 {
        return Err(LockfileError::at_field(
            field,
            LockfileFieldError::TakenTarget { value, other },
        ));
    }
    if first.0.contains(second.0) {
        return Err(LockfileError::at_field(
            field,
            LockfileFieldError::NestedTarget {
                value,
                other_value: earlier.0.to_string(),
                other,
            },
        ));
    }
    Ok(())
}

fn check_platform_count<C, S>(artifacts: &[ArtifactEntry<C, S>]) -> Result<(), LockfileError> {
    let mut all = BTreeSet::new();
    for (index, artifact) in artifacts.iter().enumerate() {
        all.extend(&artifact.platforms);
        if all.len() > MAX_PLATFORMS {
            let fault = LockfileFieldError::OverLimit {
                found: all.len() as u64,
                limit: MAX_PLATFORMS as u64,
            };
            return Err(LockfileError::at_field(
                format!("artifacts[{index}].platforms"),
                fault,
            ));
        }
    }
    Ok(())
}

/// Recorded layers count every artifact once: of the lock, or of each platform's bundle where there
/// are platforms.
fn check_layers(lock: &Lockfile) -> Result<(), LockfileError> {
    if lock.layers.is_empty() {
        return Ok(());
    }
    let mut counts: BTreeMap<Option<&Platform>, (u64, u64, usize)> = expected_layer_counts(lock);
    for (index, layer) in lock.layers.iter().enumerate() {
        let at =
            |field: &str, fault| LockfileError::at_field(format!("layers[{index}].{field}"), fault);
        if layer.artifacts == 0 {
            return Err(at("artifacts", LockfileFieldError::Type("at least 1")));
        }
        let (_, counted, layers) = counts
            .get_mut(&layer.platform.as_ref())
            .ok_or_else(|| at("platform", layer_platform_error(layer)))?;
        *counted = counted.saturating_add(layer.artifacts as u64);
        *layers += 1;
        if *layers > MAX_LAYERS {
            return Err(LockfileError::at_field(
                "layers",
                LockfileFieldError::TooManyLayers(MAX_LAYERS),
            ));
        }
    }
    match counts
        .into_iter()
        .find(|(_, (expected, counted, _))| expected != counted)
    {
        Some((platform, (expected, counted, _))) => {
            let platform = platform.map(ToString::to_string);
            Err(LockfileError::at_field(
                "layers",
                LockfileFieldError::LayerCount {
                    platform,
                    counted,
                    expected,
                },
            ))
        }
        None => Ok(()),
    }
}

const fn layer_platform_error(layer: &RecordedLayer) -> LockfileFieldError {
    if layer.platform.is_some() {
        LockfileFieldError::LayerPlatform
    } else {
        LockfileFieldError::Missing
    }
}

/// Per bundle that comes of the lock: how many entries it has, and two counters that start at
/// nothing.
fn expected_layer_counts(lock: &Lockfile) -> BTreeMap<Option<&Platform>, (u64, u64, usize)> {
    let platforms: BTreeSet<&Platform> = lock
        .artifacts
        .iter()
        .flat_map(|artifact| &artifact.platforms)
        .collect();
    let entrypoint = u64::from(lock.entrypoint.is_some());
    let common = lock
        .artifacts
        .iter()
        .filter(|artifact| artifact.platforms.is_empty())
        .count() as u64
        + entrypoint;
    if platforms.is_empty() {
        return BTreeMap::from([(None, (common, 0, 0))]);
    }
    let mut counts: BTreeMap<_, _> = platforms
        .into_iter()
        .map(|platform| (Some(platform), (common, 0, 0)))
        .collect();
    for platform in lock
        .artifacts
        .iter()
        .flat_map(|artifact| &artifact.platforms)
    {
        if let Some((expected, ..)) = counts.get_mut(&Some(platform)) {
            *expected += 1;
        }
    }
    counts
}
