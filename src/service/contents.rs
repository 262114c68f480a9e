//! Opens a bundle that somebody packed, and re-derives every small byte of it from the lock that it
//! carries.
//!
//! What comes out is no claim: lock, config, manifest and index are byte for byte what packing this
//! lock gives, with these layers. What is *not* checked here is what the layers hold;
//! [`super::unpack`] does that while it reads them.

use bytes::Bytes;
use serde::Deserialize;

use crate::{
    core::{
        class::{Classified, Reason},
        digest::Digest,
        json,
        limits::Limits,
        lockfile::{LockError, Lockfile},
        oci::{Descriptor, Document, Manifest, Platform},
        pack::{
            EmbeddedError, Format, LayerBlob, LayerCompression, ManifestPlan, Output,
            PACK_FORMAT_ANNOTATION, PackError, PackPlan, lock_in_layer, manifest_of, output_of,
        },
    },
    oci::{OciError, Resolved, Source, fetch, fetch_document},
};

/// An opened bundle.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The lock that it carries.
    pub lock: Lockfile,
    /// The plan that the lock gives.
    pub plan: PackPlan,
    /// Its manifests: one, or one for each platform.
    pub parts: Vec<Part>,
}

/// One manifest of a bundle.
#[derive(Clone, Debug)]
pub struct Part {
    /// The manifest.
    pub descriptor: Descriptor,
    /// The platform, if the bundle has several.
    pub platform: Option<Platform>,
    /// Its number among the bundle's manifests; [`Contents::manifest`] says what its layers must
    /// hold.
    pub number: usize,
    /// Its layers without the lock's.
    pub layers: Vec<LayerBlob>,
}

/// Why something is not a bundle that packgate packed.
#[derive(Debug, thiserror::Error)]
pub enum ContentsError {
    /// Reading failed.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// No bundle, or one that cannot be read.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// The lock inside is none.
    #[error("the lock inside of the bundle: {0}")]
    Lock(LockError),
    /// The lock inside cannot be packed.
    #[error("the lock inside of the bundle: {0}")]
    Plan(#[from] PackError),
    /// It is not what packing the lock gives.
    #[error("{what} is not what packing the lock inside of the bundle gives")]
    Differs {
        /// Which part.
        what: String,
    },
    /// More manifests than anybody needs.
    #[error("index has {0} manifests, the limit is {MAX_PLATFORMS}")]
    TooManyPlatforms(usize),
}

impl Classified for ContentsError {
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

const MAX_PLATFORMS: usize = Limits::DEFAULT.platforms;

impl Contents {
    /// Bytes of all its blobs and manifests, as packing counts them.
    pub fn size(&self) -> Result<u64, PackError> {
        let mut size = 0_u64;
        for part in &self.parts {
            let documents = self.plan.documents(&self.manifest(part), &part.layers)?;
            let small = [&documents.lock, &documents.config, &documents.manifest]
                .map(|(descriptor, _)| descriptor.size);
            let layers = part.layers.iter().map(|layer| layer.descriptor.size);
            size = small
                .into_iter()
                .chain(layers)
                .fold(size, u64::saturating_add);
        }
        let (_, index) = self.plan.top(&self.manifests())?;
        Ok(index.map_or(size, |(descriptor, _)| size.saturating_add(descriptor.size)))
    }

    /// Layers of its largest manifest, with the lock's.
    pub fn layers(&self) -> usize {
        self.parts
            .iter()
            .map(|part| part.layers.len() + 1)
            .max()
            .unwrap_or_default()
    }

    /// What the layers of one of its manifests must hold: planned anew each time, so that only one
    /// such plan is in memory.
    pub fn manifest(&self, part: &Part) -> ManifestPlan {
        self.plan
            .manifest(part.number)
            .unwrap_or_else(|| ManifestPlan {
                platform: part.platform.clone(),
                layers: Vec::new(),
            })
    }

    /// Its manifests.
    pub fn manifests(&self) -> Vec<Descriptor> {
        self.parts
            .iter()
            .map(|part| part.descriptor.clone())
            .collect()
    }
}

/// A manifest as it was found.
struct Child {
    descriptor: Descriptor,
    bytes: Bytes,
    manifest: Manifest,
    config: Bytes,
}

/// Opens the bundle that `root` is. At most one manifest and config are in memory at a time.
pub async fn open(
    source: &dyn Source,
    root: &Resolved,
    limits: &Limits,
) -> Result<Contents, ContentsError> {
    let document = root.document(limits)?;
    if !document.annotations().contains_key(PACK_FORMAT_ANNOTATION) {
        return Err(EmbeddedError::NotABundle.into());
    }
    let children = match &document {
        Document::Manifest(_) => vec![root.descriptor.clone()],
        Document::Index(index) => index.manifests.clone(),
    };
    if children.len() > MAX_PLATFORMS {
        return Err(ContentsError::TooManyPlatforms(children.len()));
    }
    let mut first = child(
        source,
        root,
        children
            .first()
            .ok_or_else(|| differs("the number of manifests"))?,
        limits,
    )
    .await?;
    let output = output_of(&first.manifest, &first.config, limits)?;
    let lock = embedded_lock(source, &first.manifest, output.format, limits).await?;
    let mut plan = PackPlan::new(&lock, output)?;
    let out_of_index = matches!(document, Document::Manifest(_))
        && plan.platforms().any(|platform| platform.is_some());
    if out_of_index {
        // One platform's manifest that was copied out of its index: its bytes must be what the plan
        // gives for that platform.
        let platform = platform_of(&first.config, limits)?;
        plan = plan.only(&platform);
        first.descriptor.platform = Some(platform);
    }
    if plan.platforms().len() != children.len() {
        return Err(differs("the number of manifests"));
    }
    let mut parts = vec![part(&plan, 0, &first, limits)?];
    for (number, descriptor) in children.iter().enumerate().skip(1) {
        parts.push(part(
            &plan,
            number,
            &child(source, root, descriptor, limits).await?,
            limits,
        )?);
    }
    let manifests: Vec<Descriptor> = parts.iter().map(|part| part.descriptor.clone()).collect();
    if out_of_index || plan.top(&manifests)?.0 == root.descriptor.digest {
        Ok(Contents { lock, plan, parts })
    } else {
        Err(differs("the index"))
    }
}

async fn child(
    source: &dyn Source,
    root: &Resolved,
    descriptor: &Descriptor,
    limits: &Limits,
) -> Result<Child, ContentsError> {
    let (bytes, document) = if descriptor.digest == root.descriptor.digest {
        (root.bytes.clone(), root.document(limits)?)
    } else {
        fetch_document(source, descriptor, limits).await?
    };
    let manifest = manifest_of(document)?;
    let config = config(source, &manifest, limits).await?;
    Ok(Child {
        descriptor: descriptor.clone(),
        bytes,
        manifest,
        config,
    })
}

async fn config(
    source: &dyn Source,
    manifest: &Manifest,
    limits: &Limits,
) -> Result<Bytes, OciError> {
    fetch(source, &manifest.config, limits.config_bytes).await
}

async fn embedded_lock(
    source: &dyn Source,
    manifest: &Manifest,
    format: Format,
    limits: &Limits,
) -> Result<Lockfile, ContentsError> {
    let first = manifest.layers.first().ok_or(EmbeddedError::Layer)?;
    // A tar adds three blocks of headers and end, and at most one of padding.
    let blob = fetch(source, first, limits.lock_bytes + 8 * 512).await?;
    let bytes = match format {
        Format::Image => lock_in_layer(&blob)?,
        Format::Artifact => blob.to_vec(),
    };
    Lockfile::from_canonical(&bytes, limits).map_err(ContentsError::Lock)
}

/// Writes the documents of the manifest with this number anew from the lock, and compares the
/// bytes.
fn part(
    plan: &PackPlan,
    number: usize,
    child: &Child,
    limits: &Limits,
) -> Result<Part, ContentsError> {
    let manifest = plan
        .manifest(number)
        .ok_or_else(|| differs("the number of manifests"))?;
    if child.descriptor.platform != manifest.platform {
        return Err(differs("a platform of the index"));
    }
    let layers = layers(&plan.output, child, limits)?;
    if layers.len() != manifest.layers.len() {
        return Err(differs("the number of layers"));
    }
    let documents = plan.documents(&manifest, &layers)?;
    if documents.config.1 != child.config {
        return Err(differs("the config"));
    }
    if documents.manifest.1 != child.bytes {
        return Err(differs("the manifest"));
    }
    Ok(Part {
        descriptor: documents.manifest.0,
        platform: manifest.platform,
        number,
        layers,
    })
}

/// The layers with files: of what was found only digests and sizes are taken, so that nothing else
/// of it can stay.
fn layers(
    output: &Output,
    child: &Child,
    limits: &Limits,
) -> Result<Vec<LayerBlob>, ContentsError> {
    let blobs = child.manifest.layers.iter().skip(1);
    if output.format == Format::Artifact {
        return Ok(blobs
            .map(|blob| LayerBlob {
                descriptor: blob.clone(),
                diff_id: blob.digest,
            })
            .collect());
    }
    let diff_ids = diff_ids(&child.config, limits)?;
    if diff_ids.len() != child.manifest.layers.len() {
        return Err(differs("the number of diffIDs"));
    }
    let layer = |(blob, diff_id): (&Descriptor, Digest)| match output.compression {
        LayerCompression::None => LayerBlob::plain(diff_id, blob.size),
        LayerCompression::Zstd => LayerBlob::zstd(blob.digest, blob.size, diff_id),
    };
    Ok(blobs.zip(diff_ids.into_iter().skip(1)).map(layer).collect())
}

fn platform_of(config: &[u8], limits: &Limits) -> Result<Platform, ContentsError> {
    Ok(json::parse(config, limits.config_bytes, limits.json_depth)
        .map_err(|e| EmbeddedError::Config(e.to_string()))?)
}

fn diff_ids(config: &[u8], limits: &Limits) -> Result<Vec<Digest>, ContentsError> {
    #[derive(Deserialize)]
    struct Config {
        rootfs: RootFs,
    }
    #[derive(Deserialize)]
    struct RootFs {
        diff_ids: Vec<Digest>,
    }
    let config: Config = json::parse(config, limits.config_bytes, limits.json_depth)
        .map_err(|e| EmbeddedError::Config(e.to_string()))?;
    Ok(config.rootfs.diff_ids)
}

fn differs(what: &str) -> ContentsError {
    ContentsError::Differs { what: what.into() }
}
