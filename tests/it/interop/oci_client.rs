//! The client library of the Rust ecosystem, which shares no code with ours: it pulls what we push,
//! and pushes what we sign, verify and copy.

use oci_client::{
    Client, Reference, RegistryOperation,
    client::{ClientConfig, ClientProtocol, Config, ImageLayer},
    manifest::{ImageIndexEntry, OciImageManifest, OciManifest},
    secrets::RegistryAuth,
};

use super::{each, pack, pinned};
use crate::support::{
    cli::{HELLO, NOTES},
    tools::Server,
};

/// The client, and the threads that it runs on.
struct ForeignClient {
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl ForeignClient {
    fn new() -> Self {
        packgate::install_crypto_provider();
        let config = ClientConfig {
            protocol: ClientProtocol::Http,
            ..ClientConfig::default()
        };
        Self {
            client: Client::new(config),
            runtime: tokio::runtime::Runtime::new().expect("a runtime"),
        }
    }

    /// The manifest and its digest.
    fn pull_manifest(&self, reference: &str) -> (OciImageManifest, String) {
        let reference = parsed(reference);
        let pulling = self
            .client
            .pull_manifest(&reference, &RegistryAuth::Anonymous);
        match self.runtime.block_on(pulling).expect("a manifest") {
            (OciManifest::Image(manifest), digest) => (manifest, digest),
            (OciManifest::ImageIndex(index), _) => panic!("an index: {index:?}"),
        }
    }

    /// The content of each layer by its title. The client compares digests.
    fn pull_layers(&self, reference: &str) -> Vec<(String, Vec<u8>)> {
        let (manifest, _) = self.pull_manifest(reference);
        let named = parsed(reference);
        let titled = manifest.layers.iter().map(|layer| {
            let annotations = layer.annotations.clone().unwrap_or_default();
            let title = annotations.get("org.opencontainers.image.title");
            let mut content = Vec::new();
            let pulling = self.client.pull_blob(&named, layer, &mut content);
            self.runtime.block_on(pulling).expect("a layer");
            (title.cloned().unwrap_or_default(), content)
        });
        titled.collect()
    }

    /// What refers to it.
    fn list_referrers(&self, reference: &str) -> Vec<ImageIndexEntry> {
        let named = parsed(reference);
        self.runtime.block_on(async {
            let (auth, pull) = (RegistryAuth::Anonymous, RegistryOperation::Pull);
            self.client
                .auth(&named, &auth, pull)
                .await
                .expect("anonymous");
            let index = self.client.pull_referrers(&named, None).await;
            index.expect("a list of referrers").manifests
        })
    }

    /// Pushes an image of one layer; returns `REPOSITORY@DIGEST`.
    fn push(&self, server: &Server, name: &str) -> String {
        let repository = format!("{}/team/{name}", server.host);
        let target = parsed(&format!("{repository}:v1"));
        let layers = [ImageLayer::oci_v1("not really a tar archive", None)];
        let config =
            r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
        let auth = RegistryAuth::Anonymous;
        let digest = self.runtime.block_on(async {
            let config = Config::oci_v1(config, None);
            let pushed = self
                .client
                .push(&target, &layers, config, &auth, None)
                .await;
            pushed.expect("a push");
            let digest = self.client.fetch_manifest_digest(&target, &auth).await;
            digest.expect("a digest")
        });
        format!("{repository}@{digest}")
    }
}

fn parsed(reference: &str) -> Reference {
    reference.parse().expect("a reference")
}

#[test]
fn oci_client_pulls_what_we_push() {
    each("oci_client_pulls_what_we_push", |_, workspace, server| {
        workspace.keys();
        let client = ForeignClient::new();
        for format in ["Image", "Artifact"] {
            let by_digest = pinned(&pack(workspace, server, format, "--key packgate.key"));
            let (repository, digest) = by_digest.rsplit_once('@').expect("a digest");
            for reference in [&by_digest, &format!("{repository}:v1")] {
                assert_eq!(client.pull_manifest(reference).1, digest, "{reference}");
            }
            let layers = client.pull_layers(&by_digest);
            if format == "Artifact" {
                for (title, content) in [
                    ("opt/hello/hello.sh", HELLO),
                    ("opt/hello/notes.txt", NOTES),
                ] {
                    let found = layers.iter().find(|(name, _)| name == title).expect(title);
                    assert_eq!(found.1, content.as_bytes(), "{title}");
                }
            } else {
                assert!(!layers.is_empty());
            }
            let referrers = client.list_referrers(&by_digest);
            assert_eq!(
                referrers.len(),
                2,
                "a signature and provenance: {referrers:?}"
            );
            for referrer in referrers {
                let (evidence, _) =
                    client.pull_manifest(&format!("{repository}@{}", referrer.digest));
                let subject = evidence.subject.expect("a subject");
                assert_eq!(subject.digest, digest);
            }
        }
    });
}

#[test]
fn what_oci_client_pushes_is_signed_verified_and_copied() {
    let name = "what_oci_client_pushes_is_signed_verified_and_copied";
    each(name, |_, workspace, server| {
        workspace.keys();
        let client = ForeignClient::new();
        let image = client.push(server, "foreign");
        let verify =
            |image: &str| workspace.run(&format!("verify --plain-http {image} --key packgate.pub"));
        verify(&image).refused(1, "NoSignatures");
        workspace
            .run(&format!("sign --plain-http {image} --key packgate.key"))
            .ok();
        verify(&image).ok();
        let copy = format!("{}/team/copy", server.host);
        workspace
            .run(&format!("copy --plain-http {image} {copy}:v1"))
            .ok();
        let digest = image.rsplit_once('@').expect("a digest").1;
        verify(&format!("{copy}@{digest}")).ok();
        assert_eq!(client.pull_manifest(&format!("{copy}:v1")).1, digest);
        let layers = client.pull_layers(&format!("{copy}@{digest}"));
        assert_eq!(layers[0].1, b"not really a tar archive");
        assert_eq!(client.list_referrers(&format!("{copy}@{digest}")).len(), 1);
    });
}
