//! The vectors of docs/threat-model.md that need no cluster: the real binary, a registry under an
//! attacker's control, and measurements compared with the row. The rows that need an API server are
//! in tests/cluster.

mod content;
mod credentials;
mod keyless;
mod lists;
mod policies;
mod roots;
mod sources;
mod statements;

use packgate::core::{digest::Digest, media_type};
use serde_json::{Value, json};

use crate::support::{
    cli::{Run, Workspace},
    forging::{Key, Recipe, Sigstore},
    registry::{Registry, Settings},
    threats::ADMITTED,
};

const TEAM: &str = "team/app";
const SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";
const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
const BUILDER: &str = "https://ci.example.com/builder";

/// A registry with one image that an attacker tries to have admitted.
pub(super) struct Scene {
    pub(super) registry: Registry,
    pub(super) workspace: Workspace,
    pub(super) image: Digest,
    pub(super) key: Key,
    sigstore: Sigstore,
}

/// The result of an attempt.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) reason: String,
    /// The number of registry requests.
    pub(super) requests: usize,
    pub(super) report: Value,
}

impl Scene {
    pub(super) async fn start() -> Self {
        Self::with(Settings::default()).await
    }

    pub(super) async fn with(settings: Settings) -> Self {
        let registry = Registry::with(settings).await;
        let image = registry.put_manifest(TEAM, Some("v1"), media_type::INDEX, index(&[]));
        Self {
            registry,
            workspace: Workspace::new(),
            image,
            key: Key::new(crate::support::forging::Algorithm::P256),
            sigstore: Sigstore::new(),
        }
    }

    /// `HOST/team/app@DIGEST`
    pub(super) fn reference(&self) -> String {
        self.pinned(&self.image)
    }

    pub(super) fn pinned(&self, digest: &Digest) -> String {
        format!("{}/{TEAM}@{digest}", self.registry.host())
    }

    /// An in-toto statement about the image.
    pub(super) fn statement(&self, predicate_type: &str, predicate: &Value) -> Value {
        statement(&self.image, predicate_type, predicate)
    }

    /// cosign's signature statement about the image.
    pub(super) fn signature(&self) -> Value {
        self.statement(SIGNATURE, &json!({}))
    }

    /// A Sigstore bundle over a statement, by a key.
    pub(super) fn signed(&self, by: &Key, statement: &Value) -> Value {
        Recipe::new(by, statement.to_string()).bundle(&self.sigstore)
    }

    /// A valid signature by [`Self::key`].
    pub(super) fn sign(&self) {
        self.attach(&self.signed(&self.key, &self.signature()));
    }

    /// Provenance by this builder, signed by a key.
    pub(super) fn provenance(&self, by: &Key, builder: &str) {
        self.attach(&self.signed(by, &self.statement(PROVENANCE, &provenance(builder))));
    }

    /// Attaches a bundle to the image.
    pub(super) fn attach(&self, bundle: &Value) -> Digest {
        self.attach_bytes(bundle.to_string().into_bytes())
    }

    /// Attaches these bytes to the image, as if they were a bundle.
    pub(super) fn attach_bytes(&self, content: Vec<u8>) -> Digest {
        attach(&self.registry, TEAM, &self.image, content)
    }

    /// A policy for the registry's every repository, with this key as its only authority, and these
    /// further fields.
    pub(super) fn policy(&self, more: &Value) -> Value {
        let key = json!([{"name": "team", "key": {"pem": self.key.pem()}}]);
        let mut spec = json!({
            "match": {"references": [format!("{}/**", self.registry.host())]},
            "authorities": key,
        });
        for (field, value) in more.as_object().expect("fields") {
            spec[field] = value.clone();
        }
        json!({
            "apiVersion": "packgate.dev/v1alpha1",
            "kind": "ClusterBundlePolicy",
            "metadata": {"name": "p"},
            "spec": spec,
        })
    }

    /// Evaluates the image, with the policy of its key.
    pub(super) fn judge(&self) -> Outcome {
        self.judge_by(&self.reference(), &[self.policy(&json!({}))], "")
    }

    /// Evaluates any reference, with these policies and further arguments.
    pub(super) fn judge_by(&self, reference: &str, documents: &[Value], more: &str) -> Outcome {
        let text: Vec<String> = documents.iter().map(ToString::to_string).collect();
        self.workspace.write("policy.yaml", text.join("\n---\n"));
        self.run(&format!(
            "verify --plain-http {reference} --policy policy.yaml {more}"
        ))
    }

    /// Runs the binary, and counts requests.
    pub(super) fn run(&self, line: &str) -> Outcome {
        let before = self.registry.requests().len();
        let run = self.workspace.run(&format!("{line} -o json"));
        Outcome {
            reason: reason(&run),
            requests: self.registry.requests().len() - before,
            report: document(&run),
        }
    }
}

fn document(run: &Run) -> Value {
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:#?}"))
}

/// The first reason of a report or an error.
pub(super) fn reason(run: &Run) -> String {
    let document = document(run);
    let said = [
        &document["denials"][0]["reason"],
        &document["reason"],
        &document["outcome"],
    ]
    .into_iter()
    .find_map(Value::as_str);
    let said = if run.code == 0 { Some(ADMITTED) } else { said };
    said.unwrap_or_else(|| panic!("no reason: {run:#?}"))
        .to_owned()
}

/// The statement about a digest.
pub(super) fn statement(about: &Digest, predicate_type: &str, predicate: &Value) -> Value {
    json!({"_type": "https://in-toto.io/Statement/v1", "subject": [
        {"name": "app", "digest": {"sha256": about.hex_digits()}},
    ],
        "predicateType": predicate_type, "predicate": predicate})
}

pub(super) fn provenance(builder: &str) -> Value {
    json!({
        "buildDefinition": {"buildType": "https://ci.example.com/build", "externalParameters": {}},
        "runDetails": {"builder": {"id": builder}},
    })
}

/// An image index of these descriptors.
pub(super) fn index(manifests: &[Value]) -> String {
    json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": manifests}).to_string()
}

/// The manifest of a referrer whose only layer is this.
pub(super) fn referrer(subject: &Digest, layer: &Digest, size: usize) -> Value {
    json!({
        "schemaVersion": 2, "mediaType": media_type::MANIFEST,
        "artifactType": media_type::SIGSTORE_BUNDLE_V03,
        "config": {"mediaType": media_type::EMPTY, "digest": Digest::of_bytes(b"{}"), "size": 2},
        "layers": [{"mediaType": media_type::SIGSTORE_BUNDLE_V03, "digest": layer, "size": size}],
        "subject": {"mediaType": media_type::INDEX, "digest": subject, "size": 1},
    })
}

/// Stores a bundle and the manifest that attaches it.
pub(super) fn attach(
    registry: &Registry,
    repository: &str,
    subject: &Digest,
    content: Vec<u8>,
) -> Digest {
    let size = content.len();
    let layer = registry.put_blob(repository, content);
    registry.put_manifest(
        repository,
        None,
        media_type::MANIFEST,
        referrer(subject, &layer, size).to_string(),
    )
}

/// The reasons of outcomes.
pub(super) fn reasons(outcomes: &[Outcome]) -> Vec<&str> {
    outcomes
        .iter()
        .map(|outcome| outcome.reason.as_str())
        .collect()
}

/// The requests of outcomes.
pub(super) fn requests(outcomes: &[Outcome]) -> Vec<usize> {
    outcomes.iter().map(|outcome| outcome.requests).collect()
}

/// Expects each attempt to have ended with its reason; returns the results.
#[track_caller]
pub(super) fn expect<const N: usize>(attempts: [(&str, Outcome, &str); N]) -> Vec<Outcome> {
    for (what, outcome, reason) in &attempts {
        println!("{what}: {}, {} requests", outcome.reason, outcome.requests);
        assert_eq!(outcome.reason, *reason, "{what}: {:#}", outcome.report);
    }
    attempts
        .into_iter()
        .map(|(_, outcome, _)| outcome)
        .collect()
}
