//! Opens a bundle that somebody packed, and re-derives every small byte of it from the lock that it carries.
//!
//! What comes out is no claim: lock, config, manifest and index are byte for byte what packing this lock gives, with these layers. What is
//! *not* checked here is what the layers hold; [`super::unpack`] does that while it reads them.

use bytes::Bytes;
use serde::Deserialize;

use crate::{
    core::{
        class::{Classified, Reason},
        digest::Digest,
        json,
        limits::Limits,
        lockfile::{LockError, Lockfile},
        media_type,
        oci::{Descriptor, Document, Index, Manifest, Platform},
        pack::{EmbeddedError, Format, LayerBlob, ManifestPlan, PackError, PackPlan, lock_in_layer, output_of},
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
    /// What its layers must hold.
    pub plan: ManifestPlan,
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
            Self::Plan(_) | Self::Differs { .. } => Reason::LockMismatch,
            Self::TooManyPlatforms(_) => Reason::LimitExceeded,
        }
    }
}

const MAX_PLATFORMS: usize = 64;

struct Child {
    descriptor: Descriptor,
    bytes: Bytes,
    manifest: Manifest,
    config: Bytes,
}

/// Opens the bundle that `root` is.
pub async fn open(source: &dyn Source, root: &Resolved, limits: &Limits) -> Result<Contents, ContentsError> {
    let children = children(source, root, limits).await?;
    let first = children.first().ok_or(EmbeddedError::NotABundle)?;
    let output = output_of(&first.manifest, &first.config, limits)?;
    let lock = embedded_lock(source, &first.manifest, output.format, limits).await?;
    let mut plan = PackPlan::new(&lock, output)?;
    if let (Document::Manifest(_), true) = (root.document(limits)?, plan.manifests.len() > 1) {
        // One platform's manifest, copied out of its index. What follows proves that it is that.
        let platform = platform_of(&first.config, limits)?;
        plan.manifests.retain(|manifest| manifest.platform.as_ref() == Some(&platform));
    }
    if plan.manifests.len() != children.len() {
        return Err(differs("the number of manifests"));
    }
    let parts = plan.manifests.iter().zip(&children).map(|(manifest, child)| part(manifest, child, limits)).collect::<Result<Vec<_>, _>>()?;
    rederive(&plan, &parts, &children, root)?;
    Ok(Contents { lock, plan, parts })
}

async fn children(source: &dyn Source, root: &Resolved, limits: &Limits) -> Result<Vec<Child>, ContentsError> {
    match root.document(limits)? {
        Document::Manifest(manifest) => {
            let config = config(source, &manifest, limits).await?;
            Ok(vec![Child { descriptor: root.descriptor.clone(), bytes: root.bytes.clone(), manifest, config }])
        }
        Document::Index(index) => platform_children(source, index, limits).await,
    }
}

async fn platform_children(source: &dyn Source, index: Index, limits: &Limits) -> Result<Vec<Child>, ContentsError> {
    if index.manifests.len() > MAX_PLATFORMS {
        return Err(ContentsError::TooManyPlatforms(index.manifests.len()));
    }
    let mut children = Vec::new();
    for descriptor in index.manifests {
        let (bytes, document) = fetch_document(source, &descriptor, limits).await?;
        let Document::Manifest(manifest) = document else { return Err(EmbeddedError::NotABundle.into()) };
        let config = config(source, &manifest, limits).await?;
        children.push(Child { descriptor, bytes, manifest, config });
    }
    Ok(children)
}

async fn config(source: &dyn Source, manifest: &Manifest, limits: &Limits) -> Result<Bytes, OciError> {
    fetch(source, &manifest.config, limits.config_bytes).await
}

async fn embedded_lock(source: &dyn Source, manifest: &Manifest, format: Format, limits: &Limits) -> Result<Lockfile, ContentsError> {
    let first = manifest.layers.first().ok_or(EmbeddedError::Layer)?;
    // A tar adds three blocks of headers and end, and at most one of padding.
    let blob = fetch(source, first, limits.lock_bytes + 8 * 512).await?;
    let bytes = match format {
        Format::Image => lock_in_layer(&blob)?,
        Format::Artifact => blob.to_vec(),
    };
    Lockfile::from_canonical(&bytes, limits).map_err(ContentsError::Lock)
}

fn part(plan: &ManifestPlan, child: &Child, limits: &Limits) -> Result<Part, ContentsError> {
    let is_image = child.manifest.config.media_type == media_type::CONFIG;
    let blobs = child.manifest.layers.iter().skip(1).cloned();
    let layers: Vec<LayerBlob> = if is_image {
        let diff_ids = diff_ids(&child.config, limits)?;
        if diff_ids.len() != child.manifest.layers.len() {
            return Err(differs("the number of diffIDs"));
        }
        blobs.zip(diff_ids.into_iter().skip(1)).map(|(descriptor, diff_id)| LayerBlob { descriptor, diff_id }).collect()
    } else {
        blobs.map(|descriptor| LayerBlob { diff_id: descriptor.digest, descriptor }).collect()
    };
    if layers.len() != plan.layers.len() {
        return Err(differs("the number of layers"));
    }
    Ok(Part { descriptor: child.descriptor.clone(), plan: plan.clone(), layers })
}

fn platform_of(config: &[u8], limits: &Limits) -> Result<Platform, ContentsError> {
    Ok(json::parse(config, limits.config_bytes, limits.json_depth).map_err(|e| EmbeddedError::Config(e.to_string()))?)
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
    let config: Config = json::parse(config, limits.config_bytes, limits.json_depth).map_err(|e| EmbeddedError::Config(e.to_string()))?;
    Ok(config.rootfs.diff_ids)
}

/// Writes every document anew from the lock and compares the bytes.
fn rederive(plan: &PackPlan, parts: &[Part], children: &[Child], root: &Resolved) -> Result<(), ContentsError> {
    let is_index = media_type::is_index(&root.descriptor.media_type);
    let mut all = Vec::new();
    for (part, child) in parts.iter().zip(children) {
        let documents = plan.documents(&part.plan, &part.layers)?;
        let platform: Option<&Platform> = child.descriptor.platform.as_ref();
        if is_index && platform != part.plan.platform.as_ref() {
            return Err(differs("a platform of the index"));
        }
        if documents.config.1 != child.config {
            return Err(differs("the config"));
        }
        if documents.manifest.1 != child.bytes {
            return Err(differs("the manifest"));
        }
        all.push(documents);
    }
    if !is_index {
        return Ok(());
    }
    let (digest, _) = plan.top(all)?;
    if digest == root.descriptor.digest { Ok(()) } else { Err(differs("the index")) }
}

fn differs(what: &str) -> ContentsError {
    ContentsError::Differs { what: what.into() }
}
