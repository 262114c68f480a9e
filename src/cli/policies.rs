//! Reads policies, and what they refer to, from files.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use serde_json::Value;

use super::{context::Context, exit::CliError, lockfile::Input, trust};
use crate::{
    api::{
        API_VERSION,
        bundle_policy::{ConfigMapData, Parts, PolicyObject, Sources, Usage},
        trust_root::{RootError, Seen, TUF_ROOT_KEY, TrustRoot},
    },
    core::{
        class::{Classified, Reason},
        limits::Limits,
        policy::{Kind, Policy, PolicyError},
        verify,
    },
    service::trust_root::{Repository, Terms},
};

/// The size of one policy file.
const MAX_FILE: usize = 4 << 20;
/// Where cluster-wide kinds look up ConfigMaps.
const SYSTEM_NAMESPACE: &str = "packgate-system";

/// Objects from files: policies and what they need.
#[derive(Default)]
pub(super) struct Policies {
    objects: Vec<(String, PolicyObject)>,
    config_maps: Vec<ConfigMap>,
    trust_roots: Vec<TrustRoot>,
}

/// Trust roots, by name: each as it is, or why it cannot be used.
type Roots = BTreeMap<String, Result<Arc<verify::TrustRoot>, CliError>>;

struct ConfigMap {
    namespace: Option<String>,
    name: String,
    data: ConfigMapData,
}

impl Policies {
    /// Reads the documents of all files. Errors: `InvalidSpec` for anything that is neither a
    /// policy nor something that policies name.
    pub(super) fn read(paths: &[PathBuf]) -> Result<Self, CliError> {
        let mut all = Self::default();
        for path in paths {
            let input = Input::read(path, MAX_FILE, Reason::InvalidSpec)?;
            all.take_file(&input).map_err(|error| input.blame(error))?;
        }
        if all.objects.is_empty() {
            return Err(CliError::invalid(
                "no policy was given: a file with a ClusterBundlePolicy or BundlePolicy is \
                    expected",
            ));
        }
        Ok(all)
    }

    /// Names of the policies, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.objects.iter().map(|(_, object)| object.name())
    }

    /// Compiles every policy. The message names the file and the field. TUF repositories are asked
    /// only if they may be.
    pub(super) async fn compile(
        &self,
        may_ask: bool,
        context: &Context,
    ) -> Result<Vec<Policy>, CliError> {
        let roots = self.roots(may_ask, context).await;
        self.each(&roots, PolicyObject::compile)
    }

    /// The same without asking anybody: a policy that misses what only a TUF repository can give
    /// refuses all that it governs.
    pub(super) async fn known(&self, context: &Context) -> Result<Vec<Policy>, CliError> {
        let roots = self.roots(false, context).await;
        self.each(&roots, |object, sources| {
            Ok(object.compile_or_refuse(sources))
        })
    }

    /// Every policy as far as it can be known without asking anybody. Errors: the first that could
    /// never be used as it is.
    pub(super) async fn check(&self, context: &Context) -> Result<Vec<Policy>, CliError> {
        let roots = self.roots(false, context).await;
        self.each(&roots, |object, sources| match object.compile(sources) {
            Err(error) if error.is_missing() && error.reason() == Reason::TrustRootUnavailable => {
                Ok(object.unusable(error.to_string()))
            }
            other => other,
        })
    }

    fn each(
        &self,
        roots: &Roots,
        compile: impl Fn(&PolicyObject, &Sources) -> Result<Policy, PolicyError>,
    ) -> Result<Vec<Policy>, CliError> {
        let (parts, mut usages) = (Parts::default(), BTreeMap::<String, Usage>::new());
        let compile = |(file, object): &(String, PolicyObject)| -> Result<Policy, CliError> {
            let blame = |error: CliError| {
                CliError::new(
                    error.reason,
                    format!("{file}: policy {}: {}", object.name(), error.message),
                )
            };
            let scope = if let PolicyObject::Cluster(_) = object {
                ""
            } else {
                namespace(object)
            };
            let usage = usages
                .entry(scope.to_owned())
                .or_insert_with(|| Usage::of(&object.kind().unwrap_or(Kind::Cluster)))
                .clone();
            let sources = Sources {
                parts: parts.clone(),
                usage,
                ..self.sources(namespace(object), roots)
            };
            let size = object.size();
            let counted = sources.usage.count(object, size, &sources);
            counted
                .and_then(|()| compile(object, &sources))
                .map_err(|error| blame(error.into()))
        };
        self.objects.iter().map(compile).collect()
    }

    fn take_file(&mut self, input: &Input) -> Result<(), CliError> {
        let text =
            std::str::from_utf8(&input.bytes).map_err(|e| CliError::invalid(e.to_string()))?;
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(text).map_err(|e| CliError::invalid(e.to_string()))?;
        documents
            .into_iter()
            .filter(|document| !document.is_null())
            .try_for_each(|document| self.take(document, &input.name))
    }

    fn take(&mut self, object: Value, file: &str) -> Result<(), CliError> {
        if PolicyObject::is_policy(&object) {
            self.objects
                .push((file.to_owned(), PolicyObject::read(object)?));
            return Ok(());
        }
        match (object["apiVersion"].as_str(), object["kind"].as_str()) {
            (Some("v1"), Some("List")) => match object["items"].as_array() {
                Some(items) => items
                    .iter()
                    .try_for_each(|item| self.take(item.clone(), file)),
                None => Err(CliError::invalid("a List must have items")),
            },
            (Some("v1"), Some("ConfigMap")) => {
                self.config_maps.push(config_map(&object)?);
                Ok(())
            }
            (Some(API_VERSION), Some("TrustRoot")) => {
                let root = serde_json::from_value(object)
                    .map_err(|e| CliError::invalid(format!("TrustRoot: {e}")))?;
                self.trust_roots.push(root);
                Ok(())
            }
            // It carries no rule of its own; policies that select namespaces are not supported yet.
            (Some("v1"), Some("Namespace")) => Ok(()),
            _ => Err(CliError::invalid(format!(
                "{} {} is neither a policy nor something that a policy names",
                object["apiVersion"], object["kind"]
            ))),
        }
    }

    /// What a policy in `namespace` may refer to.
    fn sources(&self, namespace: &str, roots: &Roots) -> Sources {
        let here = |map: &&ConfigMap| map.namespace.as_deref().is_none_or(|own| own == namespace);
        let config_maps = self
            .config_maps
            .iter()
            .filter(here)
            .map(|map| (map.name.clone(), map.data.clone()))
            .collect();
        let mut sources = Sources {
            config_maps,
            ..Sources::default()
        };
        for (name, root) in roots {
            match root {
                Ok(root) => drop(sources.trust_roots.insert(name.clone(), Arc::clone(root))),
                Err(error) => drop(
                    sources
                        .lost_roots
                        .insert(name.clone(), (error.reason, error.message.clone())),
                ),
            }
        }
        sources
    }

    /// Every trust root that a policy names.
    async fn roots(&self, may_ask: bool, context: &Context) -> Roots {
        let named: BTreeSet<String> = self
            .objects
            .iter()
            .flat_map(|(_, object)| object.needs().trust_roots)
            .collect();
        let mut roots = Roots::new();
        for root in self
            .trust_roots
            .iter()
            .filter(|root| named.contains(root.name()))
        {
            roots.insert(
                root.name().to_owned(),
                self.root(root, may_ask, context).await.map(Arc::new),
            );
        }
        roots
    }

    async fn root(
        &self,
        root: &TrustRoot,
        may_ask: bool,
        context: &Context,
    ) -> Result<verify::TrustRoot, CliError> {
        root.check()?;
        if root.given().is_some() {
            let found = root
                .find(|name| self.system_map(name), context.clock().now())
                .map_err(not_given)?;
            return Ok(verify::TrustRoot::parse(
                found.text.as_bytes(),
                &Limits::DEFAULT,
            )?);
        }
        let repository = match (&root.spec.tuf, root.first_root()) {
            (Some(tuf), Some(name)) => {
                Repository::new(&tuf.url, self.first_root(name)?.as_bytes())?
            }
            _ => Repository::public_good()?,
        };
        let terms = Terms {
            interval: root.interval()?,
            max_staleness: root.max_staleness()?,
            may_ask,
        };
        trust::fetch(&repository, terms, context).await
    }

    fn first_root(&self, name: &str) -> Result<&str, CliError> {
        let missing = || {
            not_given(RootError::Missing {
                name: name.to_owned(),
                key: TUF_ROOT_KEY,
            })
        };
        match self.system_map(name) {
            Seen::There(data) => data
                .get(TUF_ROOT_KEY)
                .map(String::as_str)
                .ok_or_else(missing),
            Seen::Unknown | Seen::Absent => Err(missing()),
        }
    }

    fn system_map(&self, name: &str) -> Seen<'_> {
        let here = |config: &&ConfigMap| {
            config.name == name
                && config
                    .namespace
                    .as_deref()
                    .is_none_or(|own| own == SYSTEM_NAMESPACE)
        };
        self.config_maps
            .iter()
            .find(here)
            .map_or(Seen::Absent, |config| Seen::There(config.data.data()))
    }
}

/// Of files it is the caller's fault if something is missing.
fn not_given(error: RootError) -> CliError {
    match error {
        RootError::Missing { name, key } => {
            CliError::invalid(format!("no ConfigMap {name} with the key {key} was given"))
        }
        other => other.into(),
    }
}

fn namespace(object: &PolicyObject) -> &str {
    match object {
        PolicyObject::Cluster(_) => SYSTEM_NAMESPACE,
        PolicyObject::Namespaced(policy) => {
            policy.metadata.namespace.as_deref().unwrap_or_default()
        }
    }
}

fn name_of(object: &Value) -> Result<String, CliError> {
    object["metadata"]["name"]
        .as_str()
        .map(ToOwned::to_owned)
        .ok_or_else(|| CliError::invalid(format!("{} has no metadata.name", object["kind"])))
}

fn config_map(object: &Value) -> Result<ConfigMap, CliError> {
    let data: BTreeMap<String, String> = serde_json::from_value(object["data"].clone())
        .map_err(|e| CliError::invalid(format!("ConfigMap data: {e}")))?;
    Ok(ConfigMap {
        namespace: object["metadata"]["namespace"]
            .as_str()
            .map(ToOwned::to_owned),
        name: name_of(object)?,
        data: data.into(),
    })
}
