//! Pods that satisfy the restricted pod security standard and get no API token.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        Capabilities, ConfigMapVolumeSource, Container, EmptyDirVolumeSource, KeyToPath,
        PodSecurityContext, PodSpec, ProjectedVolumeSource, ResourceRequirements, SeccompProfile,
        SecretProjection, SecretVolumeSource, SecurityContext, ServiceAccountTokenProjection,
        Volume, VolumeMount, VolumeProjection,
    },
    apimachinery::pkg::api::resource::Quantity,
};

use super::{CONTAINER, RunSettings, ScratchStorage};

/// The resource for local storage of volumes and logs.
const EPHEMERAL: &str = "ephemeral-storage";
/// Bytes for a Job's log, in addition to its working directory.
const LOG_BYTES: u64 = 64 << 20;
/// An unprivileged user, as in the image.
const USER: i64 = 65_532;
/// Readable by the owner and by the Pod's group.
const FILE_MODE: i32 = 0o440;
/// The lifetime of a token in seconds: the minimum that a cluster allows. The kubelet renews it in
/// time.
const TOKEN_SECONDS: i64 = 600;

/// A mounted volume of a container.
pub(super) struct PodVolumeMount {
    volume: Volume,
    path: &'static str,
    read_only: bool,
}

impl PodVolumeMount {
    /// Mounts all keys of a `ConfigMap`.
    pub(super) fn config_map(name: &str, map: String, path: &'static str) -> Self {
        let source = ConfigMapVolumeSource {
            name: map,
            default_mode: Some(FILE_MODE),
            ..ConfigMapVolumeSource::default()
        };
        Self {
            volume: Volume {
                name: name.to_owned(),
                config_map: Some(source),
                ..Volume::default()
            },
            path,
            read_only: true,
        }
    }

    /// Keys of a Secret, under other names.
    pub(super) fn secret_keys(
        name: &str,
        secret: String,
        keys: &[(&str, &str)],
        path: &'static str,
    ) -> Self {
        let item = |(key, file): &(&str, &str)| KeyToPath {
            key: (*key).to_owned(),
            path: (*file).to_owned(),
            mode: None,
        };
        let source = SecretVolumeSource {
            secret_name: Some(secret),
            items: Some(keys.iter().map(item).collect()),
            default_mode: Some(FILE_MODE),
            ..SecretVolumeSource::default()
        };
        Self {
            volume: Volume {
                name: name.to_owned(),
                secret: Some(source),
                ..Volume::default()
            },
            path,
            read_only: true,
        }
    }

    /// Keys of several Secrets, each in a folder of its own. What is not there is left out, so that
    /// the process can say what is missing: a Pod with a missing Secret would never start.
    pub(super) fn optional_secrets(
        name: &str,
        secrets: Vec<OptionalSecret<'_>>,
        path: &'static str,
    ) -> Self {
        let source = |secret: OptionalSecret<'_>| VolumeProjection {
            secret: Some(SecretProjection {
                items: Some(secret.key_paths()),
                name: secret.name,
                optional: Some(true),
            }),
            ..VolumeProjection::default()
        };
        let source = ProjectedVolumeSource {
            default_mode: Some(FILE_MODE),
            sources: Some(secrets.into_iter().map(source).collect()),
        };
        Self {
            volume: Volume {
                name: name.to_owned(),
                projected: Some(source),
                ..Volume::default()
            },
            path,
            read_only: true,
        }
    }

    /// Mounts selected keys of a `ConfigMap`.
    pub(super) fn config_map_keys(
        name: &str,
        map: String,
        keys: &[&str],
        path: &'static str,
    ) -> Self {
        let item = |key: &&str| KeyToPath {
            key: (*key).to_owned(),
            path: (*key).to_owned(),
            mode: None,
        };
        let source = ConfigMapVolumeSource {
            name: map,
            items: Some(keys.iter().map(item).collect()),
            default_mode: Some(FILE_MODE),
            ..ConfigMapVolumeSource::default()
        };
        Self {
            volume: Volume {
                name: name.to_owned(),
                config_map: Some(source),
                ..Volume::default()
            },
            path,
            read_only: true,
        }
    }

    /// A token of the Pod's ServiceAccount for one audience, which the kubelet renews. The API
    /// server does not accept it.
    pub(super) fn service_account_token(
        name: &str,
        audience: &str,
        file: &str,
        path: &'static str,
    ) -> Self {
        let token = ServiceAccountTokenProjection {
            audience: Some(audience.to_owned()),
            expiration_seconds: Some(TOKEN_SECONDS),
            path: file.to_owned(),
        };
        let source = VolumeProjection {
            service_account_token: Some(token),
            ..VolumeProjection::default()
        };
        let projected = ProjectedVolumeSource {
            default_mode: Some(FILE_MODE),
            sources: Some(vec![source]),
        };
        Self {
            volume: Volume {
                name: name.to_owned(),
                projected: Some(projected),
                ..Volume::default()
            },
            path,
            read_only: true,
        }
    }

    /// An empty directory on the node, limited to this many bytes. The kubelet evicts a Pod that
    /// uses more.
    pub(super) fn scratch_directory(name: &str, bytes: u64, path: &'static str) -> Self {
        let source = EmptyDirVolumeSource {
            size_limit: Some(Quantity(bytes.to_string())),
            ..EmptyDirVolumeSource::default()
        };
        let volume = Volume {
            name: name.to_owned(),
            empty_dir: Some(source),
            ..Volume::default()
        };
        Self {
            volume,
            path,
            read_only: false,
        }
    }

    fn to_volume_mount(&self) -> VolumeMount {
        VolumeMount {
            name: self.volume.name.clone(),
            mount_path: self.path.to_owned(),
            read_only: Some(self.read_only),
            ..VolumeMount::default()
        }
    }
}

/// Keys of a Secret, and the folder for them.
pub(super) struct OptionalSecret<'a> {
    pub(super) name: String,
    pub(super) folder: String,
    pub(super) keys: &'a [&'a str],
}

impl OptionalSecret<'_> {
    fn key_paths(&self) -> Vec<KeyToPath> {
        let item = |key: &&str| KeyToPath {
            key: (*key).to_owned(),
            path: format!("{}/{key}", self.folder),
            mode: None,
        };
        self.keys.iter().map(item).collect()
    }
}

/// A Pod with one container that runs packgate with these arguments.
pub(super) fn build_pod_spec(
    args: Vec<String>,
    mounts: Vec<PodVolumeMount>,
    resources: ResourceRequirements,
    service_account: String,
    setup: &RunSettings,
) -> PodSpec {
    PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        restart_policy: Some("Never".to_owned()),
        service_account_name: Some(service_account),
        security_context: Some(pod_security_context()),
        containers: vec![Container {
            name: CONTAINER.to_owned(),
            image: Some(setup.image.clone()),
            image_pull_policy: Some(setup.image_pull_policy.clone())
                .filter(|policy| !policy.is_empty()),
            args: Some(args),
            resources: Some(resources),
            volume_mounts: Some(mounts.iter().map(PodVolumeMount::to_volume_mount).collect()),
            security_context: Some(container_security_context()),
            ..Container::default()
        }],
        volumes: Some(mounts.into_iter().map(|mount| mount.volume).collect()),
        ..PodSpec::default()
    }
}

fn pod_security_context() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    }
}

fn container_security_context() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            ..Capabilities::default()
        }),
        ..SecurityContext::default()
    }
}

/// The minimum resources of a Job: it streams, whatever the size of the artifacts.
pub(super) fn default_resources() -> ResourceRequirements {
    ResourceRequirements {
        requests: Some(resource_quantities(&[("cpu", "50m"), ("memory", "64Mi")])),
        ..ResourceRequirements::default()
    }
}

/// The resources of a sign Job: it reads a stream and writes no files except its log.
pub(super) fn sign_job_resources() -> ResourceRequirements {
    ResourceRequirements {
        requests: Some(resource_quantities(&[
            ("cpu", "50m"),
            ("memory", "64Mi"),
            (EPHEMERAL, "16Mi"),
        ])),
        limits: Some(resource_quantities(&[
            ("cpu", "1"),
            ("memory", "256Mi"),
            (EPHEMERAL, "64Mi"),
        ])),
        ..ResourceRequirements::default()
    }
}

/// Ephemeral storage of a pack Job, unless the object sets it.
pub(super) fn with_ephemeral_storage(
    mut resources: ResourceRequirements,
    scratch: ScratchStorage,
) -> ResourceRequirements {
    let says = |map: &Option<BTreeMap<String, Quantity>>| {
        map.as_ref().is_some_and(|map| map.contains_key(EPHEMERAL))
    };
    if !says(&resources.requests) && !says(&resources.limits) {
        let bytes = |bytes: u64| Quantity(bytes.to_string());
        resources
            .requests
            .get_or_insert_default()
            .insert(EPHEMERAL.to_owned(), bytes(scratch.needed));
        resources.limits.get_or_insert_default().insert(
            EPHEMERAL.to_owned(),
            bytes(scratch.limit.saturating_add(LOG_BYTES)),
        );
    }
    resources
}

fn resource_quantities(pairs: &[(&str, &str)]) -> BTreeMap<String, Quantity> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Quantity((*value).to_owned())))
        .collect()
}
