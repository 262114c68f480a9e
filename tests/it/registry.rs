//! `RemoteTarget` with a registry that fails and lies on demand. Every refusal has its reason.

mod answers;
mod content;
mod credentials;
mod guarded;
mod push;
mod referrers;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use packgate::{
    core::{
        media_type,
        oci::{Descriptor, ImageManifest},
        reason::{ClassifiedError, Reason},
        reference::{ImageTag, TagOrDigest},
    },
    http::{HttpClient, HttpOptions, HttpProxy, HttpRetryPolicy},
    oci::{
        OciError,
        credentials::{
            AnonymousCredentials, CredentialStore, HostCredentials, RegistryCredentials,
        },
        fetch_content,
        remote::{RegistryOptions, RegistryTarget},
    },
};

use crate::support::registry::{Registry, Settings};

const REPOSITORY: &str = "team/app";
const SECRET: &str = "hunter2-Secret";

fn options() -> HttpOptions {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let retries = HttpRetryPolicy {
        first_wait: Duration::from_millis(5),
        ..HttpRetryPolicy::default()
    };
    HttpOptions {
        proxy: HttpProxy::Direct,
        idle_timeout: Duration::from_secs(5),
        response_timeout: Duration::from_secs(5),
        retries,
        ..HttpOptions::default()
    }
}

fn target_with(
    host: &str,
    http: &HttpOptions,
    credentials: Arc<dyn CredentialStore>,
) -> RegistryTarget {
    let repository = format!("{host}/{REPOSITORY}")
        .parse()
        .expect("a repository");
    let http = HttpClient::new(http).expect("a client");
    RegistryTarget::new(
        repository,
        &http,
        credentials,
        RegistryOptions {
            plain_http: true,
            ..RegistryOptions::default()
        },
    )
    .expect("a target")
}

fn target(registry: &Registry) -> RegistryTarget {
    target_with(&registry.host(), &options(), Arc::new(AnonymousCredentials))
}

fn signed_in(registry: &Registry) -> RegistryTarget {
    let credentials = RegistryCredentials::Password {
        username: "alice".into(),
        password: SECRET.to_owned().into(),
    };
    target_with(
        &registry.host(),
        &options(),
        Arc::new(HostCredentials {
            host: registry.host(),
            credentials,
        }),
    )
}

fn tag(text: &str) -> ImageTag {
    text.parse().expect("a tag")
}

fn by_tag(text: &str) -> TagOrDigest {
    TagOrDigest::Tag(tag(text))
}

/// A manifest over an empty config, told apart by `note`.
fn manifest(note: &str, subject: Option<&Descriptor>) -> (Descriptor, Bytes) {
    let manifest = ImageManifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.into()),
        artifact_type: Some("application/vnd.example+json".into()),
        config: Descriptor::empty(),
        layers: vec![Descriptor::empty()],
        subject: subject.map(Descriptor::without_metadata),
        annotations: [("note".to_owned(), note.to_owned())].into(),
    };
    let bytes = Bytes::from(serde_json::to_vec(&manifest).expect("serialisable"));
    (Descriptor::of_bytes(media_type::MANIFEST, &bytes), bytes)
}

/// A registry with a tagged manifest, and its descriptor.
async fn with_subject(settings: Settings) -> (Registry, Descriptor) {
    let registry = Registry::with(settings).await;
    let (descriptor, bytes) = manifest("subject", None);
    registry.put_manifest(REPOSITORY, Some("v1"), media_type::MANIFEST, bytes);
    (registry, descriptor)
}

fn blob_of(size: usize) -> (Descriptor, Bytes) {
    let bytes: Bytes = (0..size)
        .map(|i| u8::try_from(i * 7 % 251).expect("small"))
        .collect::<Vec<_>>()
        .into();
    (
        Descriptor::of_bytes(media_type::OCTET_STREAM, &bytes),
        bytes,
    )
}

async fn read(source: &RegistryTarget, descriptor: &Descriptor) -> Result<Bytes, OciError> {
    fetch_content(source, descriptor, 64 << 20).await
}

fn reason<T: std::fmt::Debug>(outcome: Result<T, OciError>) -> Reason {
    outcome.expect_err("refused").reason()
}
