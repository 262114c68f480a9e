//! Opens a bundle that another party packed, and derives all its small documents again from the
//! lock in it.
//!
//! The result is not a claim: lock, config, manifest and index are byte for byte what packing this
//! lock gives, with these layers. What is *not* checked here is the content of the layers;
//! [`super::unpack`] checks that while it reads them.

use bytes::Bytes;
use serde::Deserialize;

use crate::{
    core::{
        digest::Digest,
        json,
        limits::InputLimits,
        lockfile::{Lockfile, LockfileError},
        oci::{Descriptor, ImageManifest, ManifestOrIndex, Platform},
        pack::{
            BundleFormat, BundleFormatError, LayerBlob, LayerCompression, ManifestPlan,
            PACK_FORMAT_ANNOTATION, PackError, PackOptions, PackPlan, read_lock_from_layer,
            read_pack_options, require_manifest,
        },
        reason::{ClassifiedError, Reason},
    },
    oci::{ContentSource, OciError, ResolvedManifest, fetch_content, fetch_document},
};

/// An opened bundle.
#[derive(Clone, Debug)]
pub struct BundleContents {
    /// The lock in the bundle.
    pub lock: Lockfile,
    /// The plan of the lock.
    pub plan: PackPlan,
    /// Its manifests: one, or one for each platform.
    pub parts: Vec<PlatformManifest>,
}

/// One manifest of a bundle.
#[derive(Clone, Debug)]
pub struct PlatformManifest {
    /// The descriptor of the manifest.
    pub descriptor: Descriptor,
    /// The platform, if the bundle has several.
    pub platform: Option<Platform>,
    /// Its number among the bundle's manifests; [`BundleContents::manifest_plan`] gives the
    /// expected content of its layers.
    pub number: usize,
    /// Its layers without the lock's.
    pub layers: Vec<LayerBlob>,
}

/// Why something is not a bundle packed by packgate.
#[derive(Debug, thiserror::Error)]
pub enum BundleContentsError {
    /// Reading failed.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// Not a bundle, or one that cannot be parsed.
    #[error(transparent)]
    Embedded(#[from] BundleFormatError),
    /// The lock in the bundle is invalid.
    #[error("the lock inside of the bundle: {0}")]
    Lock(LockfileError),
    /// The lock in it cannot be packed.
    #[error("the lock inside of the bundle: {0}")]
    Plan(#[from] PackError),
    /// It differs from what packing the lock gives.
    #[error("{what} is not what packing the lock inside of the bundle gives")]
    Differs {
        /// The document that differs.
        what: String,
    },
    /// Too many manifests.
    #[error("index has {0} manifests, the limit is {MAX_PLATFORMS}")]
    TooManyPlatforms(usize),
}

impl ClassifiedError for BundleContentsError {
    fn reason(&self) -> Reason {
        match self {
            Self::Oci(error) => error.reason(),
            Self::Embedded(error) => error.reason(),
            Self::Lock(_) => Reason::MalformedManifest,
            Self::Plan(error @ PackError::TooMany { .. }) => error.reason(),
            Self::Plan(_) | Self::Differs { .. } => Reason::LockMismatch,
            Self::TooManyPlatforms(_) => Reason::LimitExceeded,
        }
    }
}

const MAX_PLATFORMS: usize = InputLimits::DEFAULT.platforms;

impl BundleContents {
    /// The size in bytes of all its blobs and manifests, as packing counts them.
    pub fn total_size(&self) -> Result<u64, PackError> {
        let mut size = 0_u64;
        for part in &self.parts {
            let documents = self
                .plan
                .build_documents(&self.manifest_plan(part), &part.layers)?;
            let small = [&documents.lock, &documents.config, &documents.manifest]
                .map(|(descriptor, _)| descriptor.size);
            let layers = part.layers.iter().map(|layer| layer.descriptor.size);
            size = small
                .into_iter()
                .chain(layers)
                .fold(size, u64::saturating_add);
        }
        let (_, index) = self
            .plan
            .bundle_digest_and_index(&self.manifest_descriptors())?;
        Ok(index.map_or(size, |(descriptor, _)| size.saturating_add(descriptor.size)))
    }

    /// Layers of its largest manifest, with the lock's.
    pub fn layer_count(&self) -> usize {
        self.parts
            .iter()
            .map(|part| part.layers.len() + 1)
            .max()
            .unwrap_or_default()
    }

    /// The expected content of the layers of one manifest: planned anew each time, so that only one
    /// plan is in memory.
    pub fn manifest_plan(&self, part: &PlatformManifest) -> ManifestPlan {
        self.plan
            .manifest_plan_at(part.number)
            .unwrap_or_else(|| ManifestPlan {
                platform: part.platform.clone(),
                layers: Vec::new(),
            })
    }

    /// The descriptors of its manifests.
    pub fn manifest_descriptors(&self) -> Vec<Descriptor> {
        self.parts
            .iter()
            .map(|part| part.descriptor.clone())
            .collect()
    }
}

/// A manifest as fetched.
struct FetchedManifest {
    descriptor: Descriptor,
    bytes: Bytes,
    manifest: ImageManifest,
    config: Bytes,
}

/// Opens the bundle whose manifest or index is `root`. At most one manifest and config are in
/// memory at a time.
pub async fn open_bundle(
    source: &dyn ContentSource,
    root: &ResolvedManifest,
    limits: &InputLimits,
) -> Result<BundleContents, BundleContentsError> {
    let document = root.parse_document(limits)?;
    if !document.annotations().contains_key(PACK_FORMAT_ANNOTATION) {
        return Err(BundleFormatError::NotABundle.into());
    }
    let children = match &document {
        ManifestOrIndex::Manifest(_) => vec![root.descriptor.clone()],
        ManifestOrIndex::Index(index) => index.manifests.clone(),
    };
    if children.len() > MAX_PLATFORMS {
        return Err(BundleContentsError::TooManyPlatforms(children.len()));
    }
    let mut first = fetch_child_manifest(
        source,
        root,
        children
            .first()
            .ok_or_else(|| differs_error("the number of manifests"))?,
        limits,
    )
    .await?;
    let output = read_pack_options(&first.manifest, &first.config, limits)?;
    let lock = fetch_embedded_lock(source, &first.manifest, output.format, limits).await?;
    let mut plan = PackPlan::new(&lock, output)?;
    let out_of_index = matches!(document, ManifestOrIndex::Manifest(_))
        && plan.platforms().any(|platform| platform.is_some());
    if out_of_index {
        // One platform's manifest, copied from its index: its bytes must equal the plan's for that
        // platform.
        let platform = platform_of(&first.config, limits)?;
        plan = plan.with_only_platform(&platform);
        first.descriptor.platform = Some(platform);
    }
    if plan.platforms().len() != children.len() {
        return Err(differs_error("the number of manifests"));
    }
    let mut parts = vec![rederive_manifest(&plan, 0, &first, limits)?];
    for (number, descriptor) in children.iter().enumerate().skip(1) {
        parts.push(rederive_manifest(
            &plan,
            number,
            &fetch_child_manifest(source, root, descriptor, limits).await?,
            limits,
        )?);
    }
    let manifests: Vec<Descriptor> = parts.iter().map(|part| part.descriptor.clone()).collect();
    if out_of_index || plan.bundle_digest_and_index(&manifests)?.0 == root.descriptor.digest {
        Ok(BundleContents { lock, plan, parts })
    } else {
        Err(differs_error("the index"))
    }
}

async fn fetch_child_manifest(
    source: &dyn ContentSource,
    root: &ResolvedManifest,
    descriptor: &Descriptor,
    limits: &InputLimits,
) -> Result<FetchedManifest, BundleContentsError> {
    let (bytes, document) = if descriptor.digest == root.descriptor.digest {
        (root.bytes.clone(), root.parse_document(limits)?)
    } else {
        fetch_document(source, descriptor, limits).await?
    };
    let manifest = require_manifest(document)?;
    let config = fetch_config(source, &manifest, limits).await?;
    Ok(FetchedManifest {
        descriptor: descriptor.clone(),
        bytes,
        manifest,
        config,
    })
}

async fn fetch_config(
    source: &dyn ContentSource,
    manifest: &ImageManifest,
    limits: &InputLimits,
) -> Result<Bytes, OciError> {
    fetch_content(source, &manifest.config, limits.config_bytes).await
}

async fn fetch_embedded_lock(
    source: &dyn ContentSource,
    manifest: &ImageManifest,
    format: BundleFormat,
    limits: &InputLimits,
) -> Result<Lockfile, BundleContentsError> {
    let first = manifest.layers.first().ok_or(BundleFormatError::Layer)?;
    // A tar adds three blocks of headers and end, and at most one of padding.
    let blob = fetch_content(source, first, limits.lock_bytes + 8 * 512).await?;
    let bytes = match format {
        BundleFormat::Image => read_lock_from_layer(&blob)?,
        BundleFormat::Artifact => blob.to_vec(),
    };
    Lockfile::from_canonical(&bytes, limits).map_err(BundleContentsError::Lock)
}

/// Derives the documents of the manifest with this number again from the lock, and compares the
/// bytes.
fn rederive_manifest(
    plan: &PackPlan,
    number: usize,
    child: &FetchedManifest,
    limits: &InputLimits,
) -> Result<PlatformManifest, BundleContentsError> {
    let manifest = plan
        .manifest_plan_at(number)
        .ok_or_else(|| differs_error("the number of manifests"))?;
    if child.descriptor.platform != manifest.platform {
        return Err(differs_error("a platform of the index"));
    }
    let layers = layer_blobs(&plan.output, child, limits)?;
    if layers.len() != manifest.layers.len() {
        return Err(differs_error("the number of layers"));
    }
    let documents = plan.build_documents(&manifest, &layers)?;
    if documents.config.1 != child.config {
        return Err(differs_error("the config"));
    }
    if documents.manifest.1 != child.bytes {
        return Err(differs_error("the manifest"));
    }
    Ok(PlatformManifest {
        descriptor: documents.manifest.0,
        platform: manifest.platform,
        number,
        layers,
    })
}

/// The layers with files: only digests and sizes are taken from the fetched manifest, so that
/// nothing else of it is kept.
fn layer_blobs(
    output: &PackOptions,
    child: &FetchedManifest,
    limits: &InputLimits,
) -> Result<Vec<LayerBlob>, BundleContentsError> {
    let blobs = child.manifest.layers.iter().skip(1);
    if output.format == BundleFormat::Artifact {
        return Ok(blobs
            .map(|blob| LayerBlob {
                descriptor: blob.clone(),
                diff_id: blob.digest,
            })
            .collect());
    }
    let diff_ids = diff_ids(&child.config, limits)?;
    if diff_ids.len() != child.manifest.layers.len() {
        return Err(differs_error("the number of diffIDs"));
    }
    let layer = |(blob, diff_id): (&Descriptor, Digest)| match output.compression {
        LayerCompression::None => LayerBlob::uncompressed_layer(diff_id, blob.size),
        LayerCompression::Zstd => LayerBlob::zstd_layer(blob.digest, blob.size, diff_id),
    };
    Ok(blobs.zip(diff_ids.into_iter().skip(1)).map(layer).collect())
}

fn platform_of(config: &[u8], limits: &InputLimits) -> Result<Platform, BundleContentsError> {
    Ok(
        json::parse_strict(config, limits.config_bytes, limits.json_depth)
            .map_err(|e| BundleFormatError::Config(e.to_string()))?,
    )
}

fn diff_ids(config: &[u8], limits: &InputLimits) -> Result<Vec<Digest>, BundleContentsError> {
    #[derive(Deserialize)]
    struct ImageConfigDiffIds {
        rootfs: ImageConfigRootFs,
    }
    #[derive(Deserialize)]
    struct ImageConfigRootFs {
        diff_ids: Vec<Digest>,
    }
    let config: ImageConfigDiffIds =
        json::parse_strict(config, limits.config_bytes, limits.json_depth)
            .map_err(|e| BundleFormatError::Config(e.to_string()))?;
    Ok(config.rootfs.diff_ids)
}

fn differs_error(what: &str) -> BundleContentsError {
    BundleContentsError::Differs { what: what.into() }
}
