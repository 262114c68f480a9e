//! What products do on the wire that the specification does not say, each played by the registry
//! that lies on request, against the real binary.

mod copying;
mod layouts;
mod mirrors;
mod reading;
mod refusals;
mod signing;
mod uploads;

use crate::support::{
    cli::{Run, Workspace},
    registry::{Registry, Settings},
};

const REPOSITORY: &str = "team/hello";
const EMPTY_INDEX: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

/// A registry, and a workspace with a lock and keys.
struct Scene {
    registry: Registry,
    workspace: Workspace,
}

impl Scene {
    async fn start(settings: Settings) -> Self {
        let scene = Self {
            registry: Registry::with(settings).await,
            workspace: Workspace::with_lock(),
        };
        scene.workspace.keys();
        scene
    }

    async fn without_api() -> Self {
        Self::start(Settings {
            referrers_api: false,
            ..Settings::default()
        })
        .await
    }

    /// `127.0.0.1:PORT/team/hello:v1`
    fn tagged(&self) -> String {
        format!("{}/{REPOSITORY}:v1", self.registry.host())
    }

    fn run(&self, line: &str) -> Run {
        self.workspace.run(&format!("{line} --plain-http"))
    }

    /// Packs without a signature; returns the reference with the digest.
    fn pack(&self) -> String {
        let line = format!("pack lock.yaml --to {}", self.tagged());
        self.run(&line).ok().to_owned()
    }

    fn pack_signed(&self) -> Run {
        let to = self.tagged();
        self.run(&format!("pack lock.yaml --to {to} --key packgate.key"))
    }

    fn sign(&self, reference: &str) -> Run {
        self.run(&format!("sign {reference} --key packgate.key"))
    }

    fn verify(&self, reference: &str) -> Run {
        self.run(&format!("verify {reference} --key packgate.pub"))
    }

    /// The tag with the list of referrers of `reference`.
    fn fallback_tag(reference: &str) -> String {
        let (_, digest) = reference.split_once('@').expect("a digest");
        digest.replace(':', "-")
    }
}
