//! The images of an object, read from its raw JSON: types of one Kubernetes version would drop the
//! fields of the next.

use serde_json::Value;

use crate::core::{
    policy::ReferenceUse,
    pull_secret_names::{DEFAULT_SERVICE_ACCOUNT, PullSecretNames},
};

/// The maximum number of images of one object.
pub(crate) const MAX_USES: usize = 256;

/// One image of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkloadImage {
    /// The path of the field, such as `spec.volumes[0].image.reference`.
    pub field: String,
    /// The reference as written; empty if there is none.
    pub reference: String,
    /// How the image is used.
    pub used_as: ReferenceUse,
}

/// Where objects of a kind contain the Pod's specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WorkloadKind {
    path: &'static [&'static str],
    /// A Pod runs immediately; a template may omit an image that another component fills in.
    is_template: bool,
}

impl WorkloadKind {
    /// The kinds with images to evaluate, by group and kind. `None` for all others.
    pub(crate) fn for_kind(group: &str, kind: &str) -> Option<Self> {
        Some(match (group, kind) {
            ("", "Pod") => Self {
                path: &["spec"],
                is_template: false,
            },
            ("apps", "Deployment") => Self {
                path: &["spec", "template", "spec"],
                is_template: true,
            },
            ("batch", "CronJob") => Self {
                path: &["spec", "jobTemplate", "spec", "template", "spec"],
                is_template: true,
            },
            _ => return None,
        })
    }

    /// Every image of the object, in the order of its fields.
    pub(crate) fn images_in(self, object: &Value) -> Vec<WorkloadImage> {
        let Some(pod) = self.pod_spec(object) else {
            return Vec::new();
        };
        let prefix = self.path.join(".");
        let volumes = indexed_items(pod, "volumes").filter_map(|(at, volume)| {
            let image = volume.get("image").filter(|image| !image.is_null())?;
            Some((
                format!("{prefix}.volumes[{at}].image.reference"),
                image.get("reference"),
                ReferenceUse::ImageVolume,
            ))
        });
        let containers = ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .flat_map(|list| {
                let prefix = &prefix;
                indexed_items(pod, list).map(move |(at, container)| {
                    (
                        format!("{prefix}.{list}[{at}].image"),
                        container.get("image"),
                        ReferenceUse::Container,
                    )
                })
            });
        let all = volumes
            .chain(containers)
            .map(|(field, value, used_as)| WorkloadImage {
                field,
                reference: reference_text(value),
                used_as,
            });
        all.filter(|image| !(self.is_template && image.reference.is_empty()))
            .collect()
    }

    /// The Secrets that the images of the object are pulled with: those of the ServiceAccount where
    /// a template has none, because the API server adds them to its Pods. A Pod itself has got them
    /// already.
    pub(crate) fn pull_secrets_in(self, object: &Value) -> PullSecretNames {
        let pod = self.pod_spec(object).unwrap_or(&Value::Null);
        let mut secrets: Vec<String> = Vec::new();
        for (_, reference) in indexed_items(pod, "imagePullSecrets") {
            let name = reference.get("name").and_then(Value::as_str);
            if let Some(name) = name.filter(|name| !name.is_empty())
                && !secrets.iter().any(|known| known == name)
            {
                secrets.push(name.to_owned());
            }
        }
        let account = pod.get("serviceAccountName").and_then(Value::as_str);
        let account = account.filter(|name| !name.is_empty());
        let pod_account = account.unwrap_or(DEFAULT_SERVICE_ACCOUNT).to_owned();
        PullSecretNames {
            service_account: (self.is_template && secrets.is_empty()).then(|| pod_account.clone()),
            secrets,
            pod_service_account: Some(pod_account),
        }
    }

    fn pod_spec(self, object: &Value) -> Option<&Value> {
        self.path
            .iter()
            .try_fold(object, |value, key| value.get(key))
    }

    /// The images that an update adds: those that the old object used in the same way were
    /// evaluated when they were added. An unchanged reference is not evaluated again, so that
    /// running workloads can be scaled, labelled and deleted.
    pub(crate) fn added_images(self, object: &Value, old: Option<&Value>) -> Vec<WorkloadImage> {
        let before = old.map(|old| self.images_in(old)).unwrap_or_default();
        let known = |image: &WorkloadImage| {
            before
                .iter()
                .any(|old| (old.used_as, &old.reference) == (image.used_as, &image.reference))
        };
        self.images_in(object)
            .into_iter()
            .filter(|image| !known(image))
            .collect()
    }
}

fn indexed_items<'a>(pod: &'a Value, list: &str) -> impl Iterator<Item = (usize, &'a Value)> {
    pod.get(list)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .enumerate()
}

/// A value that is not a string cannot be parsed as a reference, so every policy that governs the
/// use denies it.
fn reference_text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Value {
        json!({
            "volumes": [
                {"name": "a", "emptyDir": {}},
                {"name": "b", "image": {"reference": "r.example.com/v@sha256:1"}},
                {"name": "c", "image": {}},
            ],
            "containers": [{"name": "main", "image": "r.example.com/c"}],
            "initContainers": [{"name": "first", "image": "r.example.com/i"}],
            "ephemeralContainers": [{"name": "debug", "image": "r.example.com/e"}],
        })
    }

    fn shown(uses: &[WorkloadImage]) -> Vec<(&str, &str, ReferenceUse)> {
        uses.iter()
            .map(|image| {
                (
                    image.field.as_str(),
                    image.reference.as_str(),
                    image.used_as,
                )
            })
            .collect()
    }

    #[test]
    fn every_image_of_a_pod_is_found() {
        let uses = WorkloadKind::for_kind("", "Pod")
            .expect("a workload")
            .images_in(&json!({"spec": pod()}));
        let expected = [
            (
                "spec.volumes[1].image.reference",
                "r.example.com/v@sha256:1",
                ReferenceUse::ImageVolume,
            ),
            (
                "spec.volumes[2].image.reference",
                "",
                ReferenceUse::ImageVolume,
            ),
            (
                "spec.initContainers[0].image",
                "r.example.com/i",
                ReferenceUse::Container,
            ),
            (
                "spec.containers[0].image",
                "r.example.com/c",
                ReferenceUse::Container,
            ),
            (
                "spec.ephemeralContainers[0].image",
                "r.example.com/e",
                ReferenceUse::Container,
            ),
        ];
        assert_eq!(shown(&uses), expected);
    }

    #[test]
    fn pull_secrets_are_those_that_the_kubelet_uses() {
        let secrets = json!([{"name": "b"}, {"name": "a"}, {"name": "b"}, {"name": ""}, {}]);
        for (group, kind, spec, expected, account) in [
            (
                "",
                "Pod",
                json!({"imagePullSecrets": secrets}),
                vec!["b", "a"],
                None,
            ),
            (
                "",
                "Pod",
                json!({"serviceAccountName": "own"}),
                vec![],
                None,
            ),
            (
                "apps",
                "Deployment",
                json!({"imagePullSecrets": secrets, "serviceAccountName": "own"}),
                vec!["b", "a"],
                None,
            ),
            (
                "apps",
                "Deployment",
                json!({"serviceAccountName": "own"}),
                vec![],
                Some("own"),
            ),
            (
                "apps",
                "Deployment",
                json!({"serviceAccountName": ""}),
                vec![],
                Some("default"),
            ),
            ("apps", "Deployment", json!({}), vec![], Some("default")),
        ] {
            let object = match kind {
                "Pod" => json!({"spec": spec}),
                _ => json!({"spec": {"template": {"spec": spec}}}),
            };
            let found = WorkloadKind::for_kind(group, kind)
                .expect(kind)
                .pull_secrets_in(&object);
            assert_eq!(found.secrets, expected, "{kind} {spec}");
            assert_eq!(found.service_account.as_deref(), account, "{kind} {spec}");
            let named = spec["serviceAccountName"].as_str().unwrap_or_default();
            let expected = if named.is_empty() { "default" } else { named };
            assert_eq!(
                found.pod_service_account.as_deref(),
                Some(expected),
                "{kind} {spec}"
            );
        }
    }

    #[test]
    fn templates_lie_deeper_and_may_leave_images_out() {
        let deployment = json!({"spec": {"template": {"spec": pod()}}});
        let uses = WorkloadKind::for_kind("apps", "Deployment")
            .expect("a workload")
            .images_in(&deployment);
        assert_eq!(uses.len(), 4, "{uses:?}");
        assert_eq!(
            uses[0].field,
            "spec.template.spec.volumes[1].image.reference"
        );
        let cron = json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": pod()}}}}});
        let uses = WorkloadKind::for_kind("batch", "CronJob")
            .expect("a workload")
            .images_in(&cron);
        assert_eq!(
            uses[0].field,
            "spec.jobTemplate.spec.template.spec.volumes[1].image.reference"
        );
        assert_eq!(WorkloadKind::for_kind("apps", "Pod"), None);
    }

    #[test]
    fn only_what_an_update_adds_is_judged() {
        let workload = WorkloadKind::for_kind("", "Pod").expect("a workload");
        let old = json!({
            "spec": {
                "containers": [{"image": "a"}, {"image": "b"}],
                "volumes": [{"image": {"reference": "c"}}],
            },
        });
        assert_eq!(workload.added_images(&old, Some(&old)), []);
        let moved = json!({
            "spec": {
                "containers": [{"image": "b"}],
                "initContainers": [{"image": "a"}],
                "volumes": [{"image": {"reference": "c"}}],
            },
        });
        assert_eq!(
            workload.added_images(&moved, Some(&old)),
            [],
            "the same images in other places"
        );
        let new = json!({
            "spec": {
                "containers": [{"image": "a"}, {"image": "c"}],
                "volumes": [{"image": {"reference": "a"}}],
            },
        });
        let added = workload.added_images(&new, Some(&old));
        assert_eq!(
            shown(&added),
            [
                (
                    "spec.volumes[0].image.reference",
                    "a",
                    ReferenceUse::ImageVolume
                ),
                ("spec.containers[1].image", "c", ReferenceUse::Container)
            ]
        );
        assert_eq!(
            workload.added_images(&new, None).len(),
            3,
            "a creation is judged in full"
        );
    }

    #[test]
    fn what_is_no_text_stays_there_to_be_refused() {
        let uses = WorkloadKind::for_kind("", "Pod")
            .expect("a workload")
            .images_in(&json!({"spec": {"containers": [{"image": {"a": 1}}, {"image": null}]}}));
        assert_eq!(
            shown(&uses),
            [
                (
                    "spec.containers[0].image",
                    "{\"a\":1}",
                    ReferenceUse::Container
                ),
                ("spec.containers[1].image", "", ReferenceUse::Container)
            ]
        );
    }
}
