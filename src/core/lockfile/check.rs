//! The rules that hold for every lock, however it came to be: read from a file, completed from a
//! manifest, or put together in code.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{
    error::{Fault, LockError},
    model::{Artifact, Entrypoint, Lockfile, OciSelection, OriginType, RecordedLayer},
    origin,
    tree::MAX_TEXT,
};
use crate::core::{limits::Limits, oci::Platform, path::BundlePath, text::is_invisible};

/// The longest name, and the longest version.
pub(super) const MAX_NAME: usize = 128;
/// Different platforms in one lock. Each becomes a manifest, so a lock of two megabytes must not
/// ask for a hundred thousand.
const MAX_PLATFORMS: usize = 64;
/// Layers with files in one manifest (formats page, "Bundle bytes").
const MAX_LAYERS: usize = 63;
/// The largest whole number that every JSON reader keeps exactly (RFC 8785, section 3.2.2.3).
const MAX_EXACT: u64 = (1 << 53) - 1;

/// What the rules look at in an artifact, of a lock or of a manifest.
pub(super) struct Outline<'a> {
    pub(super) name: &'a str,
    pub(super) origin_type: OriginType,
    pub(super) origin: &'a str,
    pub(super) target: &'a BundlePath,
    pub(super) size: u64,
    pub(super) oci: Option<&'a OciSelection>,
    pub(super) platforms: &'a [Platform],
}

/// The same for an entrypoint.
pub(super) struct EntryOutline<'a> {
    pub(super) script: &'a str,
    pub(super) target: &'a BundlePath,
    pub(super) size: u64,
}

impl Lockfile {
    /// Checks everything that the parser checks, so that a lock that was made in code is as good as
    /// one that was read.
    ///
    /// # Errors
    /// [`LockError::Refused`] with the field's path, or [`LockError::TooLarge`] if the canonical
    /// form is over `limits.lock_bytes`.
    pub fn checked(self, limits: &Limits) -> Result<Self, LockError> {
        check_titles("", self.name.as_deref(), self.version.as_deref())?;
        let artifacts: Vec<Outline<'_>> = self.artifacts.iter().map(outline).collect();
        check_contents(
            self.entrypoint.as_ref().map(entry_outline).as_ref(),
            &artifacts,
            limits,
        )?;
        check_layers(&self)?;
        let size = self.canonical().bytes.len();
        if size > limits.lock_bytes {
            Err(LockError::TooLarge {
                size,
                limit: limits.lock_bytes,
            })
        } else {
            Ok(self)
        }
    }
}

fn outline(artifact: &Artifact) -> Outline<'_> {
    let Artifact {
        name,
        origin_type,
        origin,
        target,
        checksum: _,
        size,
        mode: _,
        unpack: _,
        oci,
        platforms,
    } = artifact;
    Outline {
        name,
        origin_type: *origin_type,
        origin,
        target,
        size: *size,
        oci: oci.as_ref(),
        platforms,
    }
}

const fn entry_outline(entrypoint: &Entrypoint) -> EntryOutline<'_> {
    let Entrypoint {
        script,
        target,
        mode: _,
        checksum: _,
        size,
    } = entrypoint;
    EntryOutline {
        script: script.as_str(),
        target,
        size: *size,
    }
}

/// Title and version. `before` stands before their paths.
pub(super) fn check_titles(
    before: &str,
    name: Option<&str>,
    version: Option<&str>,
) -> Result<(), LockError> {
    name.map_or(Ok(()), check_name)
        .map_err(|fault| LockError::at(format!("{before}name"), fault))?;
    version
        .map_or(Ok(()), |text| check_text(text, MAX_NAME))
        .map_err(|fault| LockError::at(format!("{before}version"), fault))
}

/// Each artifact and the entrypoint, then all of them together.
pub(super) fn check_contents(
    entrypoint: Option<&EntryOutline<'_>>,
    artifacts: &[Outline<'_>],
    limits: &Limits,
) -> Result<(), LockError> {
    check_count(artifacts.len(), limits)?;
    for (index, artifact) in artifacts.iter().enumerate() {
        check_artifact(artifact, limits).map_err(|(field, fault)| {
            LockError::at(format!("artifacts[{index}].{field}"), fault)
        })?;
    }
    if let Some(entrypoint) = entrypoint {
        check_entrypoint(entrypoint, limits)
            .map_err(|(field, fault)| LockError::at(format!("entrypoint.{field}"), fault))?;
    }
    check_names(artifacts)?;
    check_targets(entrypoint.map(|e| e.target), artifacts)?;
    check_platform_count(artifacts)
}

fn check_count(count: usize, limits: &Limits) -> Result<(), LockError> {
    let over = || Fault::OverLimit {
        found: count as u64,
        limit: limits.artifacts as u64,
    };
    match count {
        0 => Err(LockError::at("artifacts", Fault::NoEntries)),
        n if n > limits.artifacts => Err(LockError::at("artifacts", over())),
        _ => Ok(()),
    }
}

type FieldFault = (&'static str, Fault);

fn check_artifact(artifact: &Outline<'_>, limits: &Limits) -> Result<(), FieldFault> {
    check_name(artifact.name).map_err(|fault| ("name", fault))?;
    check_text(artifact.origin, MAX_TEXT).map_err(|fault| ("origin", fault))?;
    origin::check(artifact.origin_type, artifact.origin).map_err(|fault| ("origin", fault))?;
    check_size(artifact.size, limits)?;
    if artifact.oci.is_some() && artifact.origin_type != OriginType::Oci {
        return Err(("oci", Fault::OnlyWith("type oci")));
    }
    let mut seen = HashSet::new();
    match artifact
        .platforms
        .iter()
        .find(|platform| !seen.insert(*platform))
    {
        Some(platform) => Err(("platforms", Fault::Twice(platform.to_string()))),
        None => Ok(()),
    }
}

fn check_entrypoint(entrypoint: &EntryOutline<'_>, limits: &Limits) -> Result<(), FieldFault> {
    check_text(entrypoint.script, MAX_TEXT).map_err(|fault| ("script", fault))?;
    origin::check(OriginType::File, entrypoint.script).map_err(|fault| ("script", fault))?;
    let base = entrypoint_target(entrypoint.script).map_err(|fault| ("script", fault))?;
    if base != *entrypoint.target {
        return Err(("script", Fault::EntrypointTarget));
    }
    check_size(entrypoint.size, limits)
}

/// Where an entrypoint goes: the base name of its script.
pub(super) fn entrypoint_target(script: &str) -> Result<BundlePath, Fault> {
    Ok(script.rsplit('/').next().unwrap_or_default().parse()?)
}

fn check_size(size: u64, limits: &Limits) -> Result<(), FieldFault> {
    let limit = limits.artifact_bytes.min(MAX_EXACT);
    if size > limit {
        Err(("size", Fault::OverLimit { found: size, limit }))
    } else {
        Ok(())
    }
}

/// `^[a-zA-Z0-9._-]{1,128}$`
fn check_name(name: &str) -> Result<(), Fault> {
    let known = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if known && !name.is_empty() && name.len() <= MAX_NAME {
        Ok(())
    } else {
        Err(Fault::Name(MAX_NAME))
    }
}

fn check_text(text: &str, limit: usize) -> Result<(), Fault> {
    match text {
        "" => Err(Fault::EmptyText),
        _ if text.chars().any(char::is_control) => Err(Fault::Control),
        _ if text.chars().any(is_invisible) => Err(Fault::Invisible),
        _ if text.len() > limit => Err(Fault::TooLong(limit)),
        _ => Ok(()),
    }
}

fn check_names(artifacts: &[Outline<'_>]) -> Result<(), LockError> {
    let mut seen = HashMap::with_capacity(artifacts.len());
    for (index, artifact) in artifacts.iter().enumerate() {
        if let Some(other) = seen.insert(artifact.name, index) {
            return Err(LockError::at(
                format!("artifacts[{index}].name"),
                Fault::TakenName {
                    value: artifact.name.to_owned(),
                    other,
                },
            ));
        }
    }
    Ok(())
}

/// Sorted segment by segment, a path stands right before what lies inside of it, so neighbours are
/// all that need comparing.
fn check_targets(
    entrypoint: Option<&BundlePath>,
    artifacts: &[Outline<'_>],
) -> Result<(), LockError> {
    let count = artifacts.len();
    let mut targets: Vec<(&BundlePath, usize)> = artifacts
        .iter()
        .enumerate()
        .map(|(index, artifact)| (artifact.target, index))
        .collect();
    targets.extend(entrypoint.map(|target| (target, count)));
    targets.sort_by(|(a, i), (b, j)| a.segments().cmp(b.segments()).then(i.cmp(j)));
    for pair in targets.windows(2) {
        let [first, second] = pair else { continue };
        check_pair(*first, *second, count)?;
    }
    Ok(())
}

fn check_pair(
    first: (&BundlePath, usize),
    second: (&BundlePath, usize),
    count: usize,
) -> Result<(), LockError> {
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
        return Err(LockError::at(field, Fault::TakenTarget { value, other }));
    }
    if first.0.contains(second.0) {
        return Err(LockError::at(
            field,
            Fault::NestedTarget {
                value,
                other_value: earlier.0.to_string(),
                other,
            },
        ));
    }
    Ok(())
}

fn check_platform_count(artifacts: &[Outline<'_>]) -> Result<(), LockError> {
    let mut all = BTreeSet::new();
    for (index, artifact) in artifacts.iter().enumerate() {
        all.extend(artifact.platforms);
        if all.len() > MAX_PLATFORMS {
            let fault = Fault::OverLimit {
                found: all.len() as u64,
                limit: MAX_PLATFORMS as u64,
            };
            return Err(LockError::at(
                format!("artifacts[{index}].platforms"),
                fault,
            ));
        }
    }
    Ok(())
}

/// Recorded layers count every artifact once: of the lock, or of each platform's bundle where there
/// are platforms.
fn check_layers(lock: &Lockfile) -> Result<(), LockError> {
    if lock.layers.is_empty() {
        return Ok(());
    }
    let mut counts: BTreeMap<Option<&Platform>, (u64, u64, usize)> = expected_counts(lock);
    for (index, layer) in lock.layers.iter().enumerate() {
        let at = |field: &str, fault| LockError::at(format!("layers[{index}].{field}"), fault);
        if layer.artifacts == 0 {
            return Err(at("artifacts", Fault::Type("at least 1")));
        }
        let (_, counted, layers) = counts
            .get_mut(&layer.platform.as_ref())
            .ok_or_else(|| at("platform", platform_fault(layer)))?;
        *counted = counted.saturating_add(layer.artifacts as u64);
        *layers += 1;
        if *layers > MAX_LAYERS {
            return Err(LockError::at("layers", Fault::TooManyLayers(MAX_LAYERS)));
        }
    }
    match counts
        .into_iter()
        .find(|(_, (expected, counted, _))| expected != counted)
    {
        Some((platform, (expected, counted, _))) => {
            let platform = platform.map(ToString::to_string);
            Err(LockError::at(
                "layers",
                Fault::LayerCount {
                    platform,
                    counted,
                    expected,
                },
            ))
        }
        None => Ok(()),
    }
}

const fn platform_fault(layer: &RecordedLayer) -> Fault {
    if layer.platform.is_some() {
        Fault::LayerPlatform
    } else {
        Fault::Missing
    }
}

/// Per bundle that comes of the lock: how many entries it has, and two counters that start at
/// nothing.
fn expected_counts(lock: &Lockfile) -> BTreeMap<Option<&Platform>, (u64, u64, usize)> {
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
