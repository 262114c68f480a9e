//! An attacker who can push and sign anything changes a bundle and makes every digest match again.
//! Whatever is not exactly what packing the lock in it gives is refused.

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::{
    core::{
        lockfile::BundleFileMode,
        media_type,
        oci::{Descriptor, ManifestOrIndex},
        pack::{BundleFormat, LayerCompression, TarFile, TarSegment, plan_tar_segments},
    },
    oci::{ContentTarget, PushContent, fetch_content},
};

const NONE: &[(&str, &[u8])] = &[("opt/a", b"first file"), ("opt/b/c", b"second"), ("z", b"")];

/// A bundle in parts. [`Forged::seal`] assembles it with matching digests.
pub(super) struct Forged {
    image: bool,
    /// Each layer uncompressed, and its blob.
    pub(super) layers: Vec<Layer>,
    pub(super) config: Value,
    pub(super) manifest: Value,
    /// A change to the finished bytes of the manifest.
    bytes: fn(Vec<u8>) -> Vec<u8>,
}

#[derive(Clone)]
pub(super) struct Layer {
    tar: Vec<u8>,
    blob: Vec<u8>,
    /// The descriptor without digest and size.
    descriptor: Value,
}

impl Layer {
    /// Replaces the content, uncompressed.
    pub(super) fn set(&mut self, tar: Vec<u8>) {
        self.blob.clone_from(&tar);
        self.tar = tar;
    }

    fn change(&mut self, change: impl FnOnce(&[u8]) -> Vec<u8>) {
        self.set(change(&self.tar));
    }
}

impl Forged {
    pub(super) async fn take_apart(source: &MemoryTarget, root: Digest) -> Self {
        let root = source
            .resolve_manifest(&TagOrDigest::Digest(root), &InputLimits::DEFAULT)
            .await
            .expect("there");
        let ManifestOrIndex::Manifest(manifest) = root
            .parse_document(&InputLimits::DEFAULT)
            .expect("a document")
        else {
            panic!("an index")
        };
        let mut layers = Vec::new();
        for descriptor in &manifest.layers {
            let blob = fetch_content(source, descriptor, 1 << 20)
                .await
                .expect("there")
                .to_vec();
            let tar = if descriptor.media_type == media_type::LAYER_ZSTD {
                zstd::decode_all(&blob[..]).expect("zstd")
            } else {
                blob.clone()
            };
            layers.push(Layer {
                tar,
                blob,
                descriptor: serde_json::to_value(descriptor).expect("JSON"),
            });
        }
        let config = fetch_content(source, &manifest.config, 1 << 20)
            .await
            .expect("there");
        Self {
            image: manifest.artifact_type.is_none(),
            layers,
            config: serde_json::from_slice(&config).expect("JSON"),
            manifest: serde_json::from_slice(&root.bytes).expect("JSON"),
            bytes: |bytes| bytes,
        }
    }

    /// Makes diffIDs, sizes and digests match, and pushes everything. Fields that were set to null
    /// are omitted.
    pub(super) async fn seal(mut self, target: &MemoryTarget) -> Descriptor {
        let mut descriptors = Vec::new();
        for layer in &mut self.layers {
            let found = push(target, media_type::OCTET_STREAM, layer.blob.clone()).await;
            layer.descriptor["digest"] = json!(found.digest);
            layer.descriptor["size"] = json!(found.size);
            descriptors.push(layer.descriptor.clone());
        }
        if self.image && self.config["rootfs"]["diff_ids"].is_array() {
            self.config["rootfs"]["diff_ids"] = self
                .layers
                .iter()
                .map(|layer| json!(Digest::of_bytes(&layer.tar)))
                .collect();
        }
        let config = push(target, media_type::OCTET_STREAM, jcs(&self.config)).await;
        self.manifest["config"]["digest"] = json!(config.digest);
        self.manifest["config"]["size"] = json!(config.size);
        self.manifest["layers"] = Value::Array(descriptors);
        push(
            target,
            media_type::MANIFEST,
            (self.bytes)(jcs(&self.manifest)),
        )
        .await
    }
}

fn jcs(value: &Value) -> Vec<u8> {
    let mut value = value.clone();
    if let Some(object) = value.as_object_mut() {
        object.retain(|_, field| !field.is_null());
    }
    serde_json_canonicalizer::to_vec(&value).expect("JSON")
}

async fn push(target: &MemoryTarget, media_type: &str, content: Vec<u8>) -> Descriptor {
    let bytes = Bytes::from(content);
    let descriptor = Descriptor::of_bytes(media_type, &bytes);
    target
        .push_content(&descriptor, PushContent::Bytes(&bytes))
        .await
        .expect("pushed");
    descriptor
}

fn plain_files() -> Vec<File> {
    NONE.iter()
        .map(|(path, content)| File::new(path, content))
        .collect()
}

async fn genuine(format: BundleFormat, compression: LayerCompression) -> (MemoryTarget, Digest) {
    let (lock, origin) = lock(&plain_files(), None);
    let (target, packed) = pack(
        &lock,
        origin,
        PackOptions {
            format,
            compression,
            ..PackOptions::default()
        },
    )
    .await
    .expect("packed");
    (target, packed.root.digest)
}

type Change = fn(&mut Forged);

/// Applies each change to a genuine bundle and expects its reason.
async fn refused(
    format: BundleFormat,
    compression: LayerCompression,
    changes: &[(&str, Reason, Change)],
) {
    let (target, root) = genuine(format, compression).await;
    let unchanged = Forged::take_apart(&target, root).await.seal(&target).await;
    assert_eq!(
        unchanged.digest, root,
        "taking apart and putting together changes something"
    );
    judge(&target, root).await.expect("genuine");
    for (name, reason, change) in changes {
        let mut forged = Forged::take_apart(&target, root).await;
        change(&mut forged);
        let root = forged.seal(&target).await;
        match judge(&target, root.digest).await {
            Ok(_) => panic!("{name}: accepted"),
            Err((found, message)) => assert_eq!(found, *reason, "{name}: {message}"),
        }
    }
}

/// The tar of these files.
pub(super) fn tar(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let files = files.iter().map(|(path, mode, content)| TarFile {
        path: (*path).into(),
        mode: *mode,
        size: content.len() as u64,
        content: *content,
    });
    let pieces = plan_tar_segments(files)
        .into_iter()
        .map(|segment| match segment {
            TarSegment::Literal(bytes) => bytes,
            TarSegment::Content { content, .. } => content.to_vec(),
        });
    pieces.collect::<Vec<_>>().concat()
}

/// Writes into the header of the file in the first layer, which follows its folder's, and updates
/// the checksum.
fn in_header(layer: &mut Layer, at: usize, bytes: &[u8]) {
    let mut tar = layer.tar.clone();
    let header = &mut tar[512..1_024];
    header[at..at + bytes.len()].copy_from_slice(bytes);
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    layer.set(tar);
}

const LOCK: Reason = Reason::LockMismatch;
const SHAPE: Reason = Reason::MalformedManifest;

const LAYERS: &[(&str, Reason, Change)] = &[
    ("an extra file", LOCK, |f| {
        f.layers[1].set(tar(&[
            ("opt/a", 0o644, b"first file"),
            ("opt/evil", 0o755, b"x"),
        ]));
    }),
    ("another file", LOCK, |f| {
        f.layers[1].set(tar(&[("opt/A", 0o644, b"first file")]));
    }),
    ("other content", LOCK, |f| {
        f.layers[1].set(tar(&[("opt/a", 0o644, b"FIRST file")]));
    }),
    ("longer content", LOCK, |f| {
        f.layers[1].set(tar(&[("opt/a", 0o644, b"first file and more")]));
    }),
    ("another mode", LOCK, |f| {
        f.layers[1].set(tar(&[("opt/a", 0o755, b"first file")]));
    }),
    ("set-user-ID", LOCK, |f| {
        f.layers[1].set(tar(&[("opt/a", 0o4644, b"first file")]));
    }),
    ("another time", LOCK, |f| {
        in_header(&mut f.layers[1], 136, b"00000000001");
    }),
    ("another owner", LOCK, |f| {
        in_header(&mut f.layers[1], 108, b"0001750");
    }),
    ("a name for the owner", LOCK, |f| {
        in_header(&mut f.layers[1], 265, b"root");
    }),
    ("a link", LOCK, |f| {
        in_header(&mut f.layers[1], 156, b"2/etc/passwd");
    }),
    ("bytes in the padding", LOCK, |f| {
        let mut tar = f.layers[1].tar.clone();
        tar[1_024 + 400] = 1;
        f.layers[1].set(tar);
    }),
    ("blocks behind the end", LOCK, |f| {
        f.layers[1].change(|tar| [tar, &[0; 512]].concat());
    }),
    ("an archive behind the end", LOCK, |f| {
        f.layers[1].change(|whole| [whole, &tar(&[("evil", 0o644, b"x")])].concat());
    }),
    ("no end", LOCK, |f| {
        f.layers[1].change(|tar| tar[..tar.len() - 1_024].to_vec());
    }),
    ("nothing", LOCK, |f| f.layers[1].set(Vec::new())),
    ("a whiteout", LOCK, |f| {
        f.layers[1].set(tar(&[
            ("opt/a", 0o644, b"first file"),
            ("opt/b/.wh..wh..opq", 0o644, b""),
        ]));
    }),
];

const MANIFESTS: &[(&str, Reason, Change)] = &[
    ("layers in another order", LOCK, |f| f.layers.swap(1, 2)),
    ("a layer less", LOCK, |f| drop(f.layers.pop())),
    ("a layer more", LOCK, |f| {
        f.layers.push(Layer {
            tar: tar(&[("e", 0o644, b"")]),
            blob: tar(&[("e", 0o644, b"")]),
            ..f.layers[3].clone()
        });
    }),
    ("a layer twice", LOCK, |f| {
        f.layers.push(f.layers[1].clone());
    }),
    ("a layer of another type", LOCK, |f| {
        f.layers[1].descriptor["mediaType"] = "application/vnd.oci.image.layer.v1.tar+gzip".into();
    }),
    ("a layer of no type", LOCK, |f| {
        f.layers[1].descriptor["mediaType"] = "".into();
    }),
    ("an annotation of a layer", LOCK, |f| {
        f.layers[1].descriptor["annotations"] = json!({"containerd.io/x": "y"});
    }),
    ("a platform of a layer", LOCK, |f| {
        f.layers[1].descriptor["platform"] = json!({"os": "linux", "architecture": "amd64"});
    }),
    ("data of a layer", LOCK, |f| {
        f.layers[3].descriptor["data"] = "AAAA".into();
    }),
    ("a URL of a layer", LOCK, |f| {
        f.layers[1].descriptor["urls"] = json!(["https://evil.example.com/"]);
    }),
    ("an artifact type of a layer", LOCK, |f| {
        f.layers[1].descriptor["artifactType"] = "x/y".into();
    }),
    ("a reserved annotation", LOCK, |f| {
        f.manifest["annotations"]["dev.packgate.x"] = "y".into();
    }),
    ("a reserved creation time", LOCK, |f| {
        f.manifest["annotations"]["org.opencontainers.image.created"] =
            "2026-01-01T00:00:00Z".into();
    }),
    ("another lock digest", LOCK, |f| {
        f.manifest["annotations"]["dev.packgate.lock.digest"] = json!(Digest::of_bytes(b""));
    }),
    ("no lock digest", LOCK, |f| {
        drop(
            f.manifest["annotations"]
                .as_object_mut()
                .expect("annotations")
                .remove("dev.packgate.lock.digest"),
        );
    }),
    ("another pack format", Reason::InvalidSpec, |f| {
        f.manifest["annotations"]["dev.packgate.pack-format"] = "2".into();
    }),
    ("no pack format", Reason::InvalidSpec, |f| {
        drop(
            f.manifest["annotations"]
                .as_object_mut()
                .expect("annotations")
                .remove("dev.packgate.pack-format"),
        );
    }),
    ("a subject", LOCK, |f| {
        f.manifest["subject"] =
            json!({"mediaType": "x", "digest": Digest::of_bytes(b""), "size": 0});
    }),
    ("another field", LOCK, |f| f.manifest["x"] = 1.into()),
    ("no media type", LOCK, |f| {
        f.manifest["mediaType"] = Value::Null;
    }),
    ("an annotation of the config", LOCK, |f| {
        f.manifest["config"]["annotations"] = json!({"a": "b"});
    }),
    ("another type of config", LOCK, |f| {
        f.manifest["config"]["mediaType"] = "application/vnd.docker.container.image.v1+json".into();
    }),
    ("white space", LOCK, |f| {
        f.bytes = |bytes| [bytes, b"\n".to_vec()].concat();
    }),
    ("another way to write it", LOCK, |f| {
        f.bytes = |bytes| {
            String::from_utf8(bytes)
                .expect("JSON")
                .replace("/vnd.oci", "\\u002fvnd.oci")
                .into_bytes()
        };
    }),
    ("the lock without its layer", SHAPE, |f| {
        drop(f.layers.remove(0));
    }),
    ("no layers", SHAPE, |f| f.layers.clear()),
];

const CONFIGS: &[(&str, Reason, Change)] = &[
    ("a history", LOCK, |f| f.config["history"] = json!([])),
    ("an entrypoint", LOCK, |f| {
        f.config["config"]["Entrypoint"] = json!(["/evil"]);
    }),
    ("another architecture", LOCK, |f| {
        f.config["architecture"] = "arm64".into();
    }),
    ("another system", LOCK, |f| {
        f.config["os"] = "windows".into();
    }),
    ("a variant", LOCK, |f| f.config["variant"] = "v8".into()),
    ("a creation time with a fraction", LOCK, |f| {
        f.config["created"] = "2026-01-01T00:00:00.5Z".into();
    }),
    ("a creation time with an offset", LOCK, |f| {
        f.config["created"] = "2026-01-01T00:00:00+00:00".into();
    }),
    ("a creation time before time", LOCK, |f| {
        f.config["created"] = "1969-12-31T23:59:59Z".into();
    }),
    ("a creation time that is none", SHAPE, |f| {
        f.config["created"] = "now".into();
    }),
    ("no diffIDs", SHAPE, |f| {
        f.config["rootfs"] = json!({"type": "layers"});
    }),
    ("a root of another type", LOCK, |f| {
        f.config["rootfs"]["type"] = "x".into();
    }),
    ("a list", SHAPE, |f| f.config = json!([])),
];

fn set_lock(forged: &mut Forged, lock: &[u8]) {
    let tar = tar(&[(".packgate/lock.json", 0o644, lock)]);
    forged.layers[0].set(tar);
    forged.manifest["annotations"]["dev.packgate.lock.digest"] = json!(Digest::of_bytes(lock));
}

/// The lock of the genuine bundle, as text.
fn lock_text() -> String {
    String::from_utf8(lock(&plain_files(), None).0.to_canonical().bytes).expect("JSON")
}

const LOCKS: &[(&str, Reason, Change)] = &[
    ("a file more in the lock's layer", SHAPE, |f| {
        let lock = lock_text();
        f.layers[0].set(tar(&[
            (".packgate/lock.json", 0o644, lock.as_bytes()),
            ("evil", 0o644, b"x"),
        ]));
    }),
    ("another mode of the lock", SHAPE, |f| {
        f.layers[0].set(tar(&[(
            ".packgate/lock.json",
            0o755,
            lock_text().as_bytes(),
        )]));
    }),
    ("the lock elsewhere", SHAPE, |f| {
        f.layers[0].set(tar(&[(
            ".packgate/lock.jsox",
            0o644,
            lock_text().as_bytes(),
        )]));
    }),
    ("a lock that is not canonical", SHAPE, |f| {
        set_lock(f, format!("{}\n", lock_text()).as_bytes());
    }),
    ("a lock that is none", SHAPE, |f| set_lock(f, b"{}")),
    ("no lock", SHAPE, |f| set_lock(f, b"")),
    ("the lock of other content", LOCK, |f| {
        set_lock(
            f,
            lock_text()
                .replace(
                    &Digest::of_bytes(b"second").to_string(),
                    &Digest::of_bytes(b"SECOND").to_string(),
                )
                .as_bytes(),
        );
    }),
    ("the lock of other modes", LOCK, |f| {
        set_lock(f, lock_text().replacen("0644", "0755", 1).as_bytes());
    }),
    ("the lock of other sizes", LOCK, |f| {
        set_lock(
            f,
            lock_text().replace("\"size\":6", "\"size\":7").as_bytes(),
        );
    }),
    ("the lock of other names", LOCK, |f| {
        set_lock(
            f,
            lock_text()
                .replace("\"target\":\"z\"", "\"target\":\"y\"")
                .as_bytes(),
        );
    }),
    ("the lock of fewer files", LOCK, |f| {
        let files: Vec<File> = plain_files().into_iter().take(2).collect();
        set_lock(f, &lock(&files, None).0.to_canonical().bytes);
    }),
    ("the lock of another platform", LOCK, |f| {
        let files: Vec<File> = plain_files()
            .into_iter()
            .map(|file| file.on("linux/s390x"))
            .collect();
        set_lock(f, &lock(&files, None).0.to_canonical().bytes);
    }),
    ("a compressed lock", SHAPE, |f| {
        f.layers[0].blob = compressed(&f.layers[0].tar);
    }),
];

fn compressed(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).expect("compressed")
}

#[tokio::test]
async fn a_changed_layer_is_refused() {
    refused(BundleFormat::Image, LayerCompression::None, LAYERS).await;
}

#[tokio::test]
async fn a_changed_manifest_config_or_lock_is_refused() {
    for changes in [MANIFESTS, CONFIGS, LOCKS] {
        refused(BundleFormat::Image, LayerCompression::None, changes).await;
    }
}

/// A skippable frame with content.
const SKIPPABLE: &[u8] = b"\x50\x2a\x4d\x18\x04\x00\x00\x00evil";

fn windowed(tar: &[u8], log: u32) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).expect("an encoder");
    encoder.window_log(log).expect("a window");
    std::io::Write::write_all(&mut encoder, tar).expect("written");
    encoder.finish().expect("compressed")
}

const COMPRESSED: &[(&str, Reason, Change)] = &[
    ("other content", LOCK, |f| {
        f.layers[1].tar = tar(&[("opt/a", 0o644, b"FIRST file")]);
        f.layers[1].blob = compressed(&f.layers[1].tar);
    }),
    ("an extra file", LOCK, |f| {
        f.layers[1].tar = tar(&[("opt/a", 0o644, b"first file"), ("opt/evil", 0o644, b"x")]);
        f.layers[1].blob = compressed(&f.layers[1].tar);
    }),
    ("a skippable frame behind it", LOCK, |f| {
        f.layers[1].blob.extend(SKIPPABLE);
    }),
    ("a skippable frame before it", LOCK, |f| {
        f.layers[1].blob = [SKIPPABLE, &f.layers[1].blob].concat();
    }),
    ("an empty frame behind it", LOCK, |f| {
        f.layers[1].blob.extend(compressed(b""));
    }),
    ("two frames", LOCK, |f| {
        f.layers[1].blob = [
            compressed(&f.layers[1].tar[..700]),
            compressed(&f.layers[1].tar[700..]),
        ]
        .concat();
    }),
    ("bytes behind it", LOCK, |f| f.layers[1].blob.extend(b"x")),
    ("half of it", LOCK, |f| f.layers[1].blob.truncate(40)),
    ("no zstd", LOCK, |f| {
        f.layers[1].blob = f.layers[1].tar.clone();
    }),
    ("nothing", LOCK, |f| f.layers[1].blob.clear()),
    ("a window of 16 MiB", LOCK, |f| {
        f.layers[1].blob = windowed(&f.layers[1].tar, 24);
    }),
    ("a window of 128 MiB", LOCK, |f| {
        f.layers[1].blob = windowed(&f.layers[1].tar, 27);
    }),
    ("much more than its files", LOCK, |f| {
        f.layers[1].blob.extend(vec![0; 2 << 20]);
    }),
    ("one layer that is not compressed", LOCK, |f| {
        f.layers[1].blob = f.layers[1].tar.clone();
        f.layers[1].descriptor["mediaType"] = media_type::LAYER.into();
    }),
];

#[tokio::test]
async fn a_changed_compressed_layer_is_refused() {
    refused(BundleFormat::Image, LayerCompression::Zstd, COMPRESSED).await;
    refused(BundleFormat::Image, LayerCompression::Zstd, CONFIGS).await;
}

#[tokio::test]
async fn a_diff_id_that_is_not_the_layers_is_refused() {
    for compression in [LayerCompression::None, LayerCompression::Zstd] {
        let (target, root) = genuine(BundleFormat::Image, compression).await;
        let mut forged = Forged::take_apart(&target, root).await;
        // The diffID of another tar.
        forged.layers[1].tar = b"another".to_vec();
        let root = forged.seal(&target).await;
        assert_eq!(
            judge(&target, root.digest).await.expect_err("refused").0,
            LOCK,
            "{compression:?}"
        );
    }
}

#[tokio::test]
async fn another_level_of_compression_is_no_forgery() {
    let (target, root) = genuine(BundleFormat::Image, LayerCompression::Zstd).await;
    let mut forged = Forged::take_apart(&target, root).await;
    forged.layers[1].blob = zstd::encode_all(&forged.layers[1].tar[..], 19).expect("compressed");
    let root = forged.seal(&target).await;
    assert_eq!(
        judge(&target, root.digest)
            .await
            .expect("the same content")
            .len(),
        3
    );
}

const ARTIFACTS: &[(&str, Reason, Change)] = &[
    ("another title", LOCK, |f| {
        f.layers[1].descriptor["annotations"]["org.opencontainers.image.title"] = "../evil".into();
    }),
    ("another mode", LOCK, |f| {
        f.layers[1].descriptor["annotations"]["dev.packgate.file.mode"] = "0755".into();
    }),
    ("an annotation for oras", LOCK, |f| {
        f.layers[1].descriptor["annotations"]["io.deis.oras.content.unpack"] = "true".into();
    }),
    ("other content", LOCK, |f| {
        f.layers[1].set(b"FIRST file".to_vec());
    }),
    ("another order", LOCK, |f| f.layers.swap(1, 2)),
    ("a file less", LOCK, |f| drop(f.layers.pop())),
    ("a file more", LOCK, |f| f.layers.push(f.layers[1].clone())),
    ("another type of layer", LOCK, |f| {
        f.layers[1].descriptor["mediaType"] = "text/plain".into();
    }),
    ("a title of the lock", LOCK, |f| {
        f.layers[0].descriptor["annotations"] =
            json!({"org.opencontainers.image.title": "lock.json"});
    }),
    ("another artifact type", SHAPE, |f| {
        f.manifest["artifactType"] = "x/y".into();
    }),
    ("another config", LOCK, |f| f.config = json!({"a": 1})),
    ("an image's config", LOCK, |f| {
        f.manifest["config"]["mediaType"] = media_type::CONFIG.into();
    }),
    ("a reserved annotation", LOCK, |f| {
        f.manifest["annotations"]["dev.packgate.x"] = "y".into();
    }),
    ("a creation time with an offset", LOCK, |f| {
        f.manifest["annotations"]["org.opencontainers.image.created"] =
            "2026-01-01T00:00:00+01:00".into();
    }),
    ("a creation time that is none", SHAPE, |f| {
        f.manifest["annotations"]["org.opencontainers.image.created"] = "now".into();
    }),
    ("a lock that is none", SHAPE, |f| {
        f.layers[0].set(b"{}".to_vec());
    }),
    ("a lock that is not canonical", SHAPE, |f| {
        f.layers[0].change(|lock| [lock, b"\n"].concat());
    }),
];

#[tokio::test]
async fn a_changed_artifact_is_refused() {
    refused(BundleFormat::Artifact, LayerCompression::None, ARTIFACTS).await;
}

/// Different options are no forgery: the result is what packing the lock with these options gives,
/// and the plan has them.
#[tokio::test]
async fn other_choices_are_other_bundles() {
    let (target, root) = genuine(BundleFormat::Image, LayerCompression::None).await;
    let mut forged = Forged::take_apart(&target, root).await;
    forged.config["created"] = "2026-01-01T00:00:00Z".into();
    forged.manifest["annotations"]["a"] = "b".into();
    let root = forged.seal(&target).await;
    let output = open(&target, root.digest)
        .await
        .expect("a bundle")
        .plan
        .output;
    assert_eq!(
        (output.source_date_epoch, output.annotations.len()),
        (Some(1_767_225_600), 1)
    );
}

type ChangeIndex = fn(&mut Value);

#[tokio::test]
async fn a_changed_index_is_refused() {
    let files = [
        File::new("all", b"1"),
        File::new("arm", b"2").on("linux/arm64"),
        File {
            mode: BundleFileMode::Executable,
            ..File::new("amd", b"3").on("linux/amd64")
        },
    ];
    let (lock, origin) = lock(&files, None);
    let (target, packed) = pack(&lock, origin, PackOptions::default())
        .await
        .expect("packed");
    let root = target
        .resolve_manifest(
            &TagOrDigest::Digest(packed.root.digest),
            &InputLimits::DEFAULT,
        )
        .await
        .expect("there");
    let index: Value = serde_json::from_slice(&root.bytes).expect("JSON");
    assert_eq!(
        push(&target, media_type::INDEX, jcs(&index)).await.digest,
        root.descriptor.digest
    );
    let changes: &[(&str, Reason, ChangeIndex)] = &[
        ("another order", LOCK, |index| {
            index["manifests"].as_array_mut().expect("a list").reverse();
        }),
        ("a platform less", LOCK, |index| {
            drop(index["manifests"].as_array_mut().expect("a list").pop());
        }),
        ("a platform twice", LOCK, |index| {
            let first = index["manifests"][0].clone();
            index["manifests"]
                .as_array_mut()
                .expect("a list")
                .push(first);
        }),
        ("no platforms", LOCK, |index| index["manifests"] = json!([])),
        ("another platform", LOCK, |index| {
            index["manifests"][0]["platform"]["architecture"] = "s390x".into();
        }),
        ("a field of a platform", LOCK, |index| {
            index["manifests"][0]["platform"]["os.version"] = "1".into();
        }),
        ("no platform", LOCK, |index| {
            index["manifests"][0]["platform"] = json!({"os": "", "architecture": ""});
        }),
        ("an annotation of a child", LOCK, |index| {
            index["manifests"][0]["annotations"] = json!({"a": "b"});
        }),
        ("one child for all", LOCK, |index| {
            index["manifests"][1]["digest"] = index["manifests"][0]["digest"].clone();
        }),
        ("a reserved annotation", LOCK, |index| {
            index["annotations"]["dev.packgate.x"] = "y".into();
        }),
        ("an annotation that the children lack", LOCK, |index| {
            index["annotations"]["a"] = "b".into();
        }),
        ("no annotations", Reason::InvalidSpec, |index| {
            index["annotations"] = Value::Null;
        }),
        ("a subject", LOCK, |index| {
            index["subject"] =
                json!({"mediaType": "x", "digest": Digest::of_bytes(b""), "size": 0});
        }),
        ("an artifact type", LOCK, |index| {
            index["artifactType"] = "x/y".into();
        }),
        ("too many", Reason::LimitExceeded, |index| {
            index["manifests"] = Value::Array(vec![index["manifests"][0].clone(); 65]);
        }),
    ];
    for (name, reason, change) in changes {
        let mut forgery = index.clone();
        change(&mut forgery);
        let root = push(&target, media_type::INDEX, jcs(&forgery)).await;
        match judge(&target, root.digest).await {
            Ok(_) => panic!("{name}: accepted"),
            Err((found, message)) => assert_eq!(found, *reason, "{name}: {message}"),
        }
    }
    // A single manifest is that platform's bundle, as `copy --platform` makes it.
    let child: Digest = index["manifests"][0]["digest"]
        .as_str()
        .expect("a digest")
        .parse()
        .expect("a digest");
    judge(&target, child).await.expect("one platform's files");
}

/// Sizes that would overflow, or make a reader wait for bytes that never arrive.
#[tokio::test]
async fn sizes_that_cannot_be_are_refused_before_anything_is_read() {
    for compression in [LayerCompression::None, LayerCompression::Zstd] {
        let (target, root) = genuine(BundleFormat::Image, compression).await;
        let mut manifest = Forged::take_apart(&target, root).await.manifest;
        for layer in manifest["layers"]
            .as_array_mut()
            .expect("layers")
            .iter_mut()
            .skip(1)
        {
            layer["size"] = u64::MAX.into();
        }
        let bytes = serde_json::to_vec(&manifest).expect("JSON");
        // JCS cannot write such a number, so opening refuses it; without that check the size would
        // not match.
        let root = push(&target, media_type::MANIFEST, bytes).await;
        assert_eq!(
            judge(&target, root.digest).await.expect_err("refused").0,
            LOCK
        );
        let (genuine, right) = genuine(BundleFormat::Image, compression).await;
        let mut contents = open(&genuine, right).await.expect("genuine");
        for layer in &mut contents.parts[0].layers {
            layer.descriptor.size = u64::MAX;
        }
        let error = unpacked(&genuine, &contents, &UnpackSelection::default())
            .await
            .expect_err("refused");
        assert_eq!(error.reason(), LOCK, "{error}");
    }
}
