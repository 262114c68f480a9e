//! Reads policies, and the objects that they refer to, from files.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use serde_json::Value;

use super::{context::CliContext, error::CliError, input_file::InputFile, trust_root};
use crate::{
    api::{
        API_VERSION,
        bundle_policy::{
            ConfigMapData, ParsedMaterialCache, PolicyObject, PolicyQuotaUsage,
            ResolvedPolicyReferences,
        },
        trust_root::{ConfigMapLookup, TUF_ROOT_KEY, TrustRoot, TrustRootStateError},
    },
    core::{
        limits::InputLimits,
        policy::{Policy, PolicyError, PolicyOrigin},
        reason::{ClassifiedError, Reason},
        verify,
    },
    service::trust_root::{TrustRefreshPolicy, TufRepositoryConfig},
};

/// The size of one policy file.
const MAX_FILE: usize = 4 << 20;
/// The namespace of ConfigMaps for cluster-wide kinds.
const SYSTEM_NAMESPACE: &str = "packgate-system";

/// Objects from files: policies and what they refer to.
#[derive(Default)]
pub(super) struct PolicyFiles {
    objects: Vec<(String, PolicyObject)>,
    config_maps: Vec<ParsedConfigMap>,
    trust_roots: Vec<TrustRoot>,
}

/// Trust roots, by name, or why each cannot be used.
type NamedTrustRoots = BTreeMap<String, Result<Arc<verify::TrustRoot>, CliError>>;

struct ParsedConfigMap {
    namespace: Option<String>,
    name: String,
    data: ConfigMapData,
}

impl PolicyFiles {
    /// Reads the documents of all files. Errors: `InvalidSpec` for anything that is neither a
    /// policy nor an object that policies refer to.
    pub(super) fn read_files(paths: &[PathBuf]) -> Result<Self, CliError> {
        let mut all = Self::default();
        for path in paths {
            let input = InputFile::read_limited(path, MAX_FILE, Reason::InvalidSpec)?;
            all.add_file(&input)
                .map_err(|error| input.prefix_file_name(error))?;
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
    pub(super) fn policy_names(&self) -> impl Iterator<Item = &str> {
        self.objects.iter().map(|(_, object)| object.name())
    }

    /// Compiles every policy. Errors name the file and the field. TUF repositories are contacted
    /// only if that is allowed.
    pub(super) async fn compile_policies(
        &self,
        may_ask: bool,
        context: &CliContext,
    ) -> Result<Vec<Policy>, CliError> {
        let roots = self.load_trust_roots(may_ask, context).await;
        self.compile_each(&roots, PolicyObject::compile_policy)
    }

    /// The same without network access: a policy that needs the content of a TUF repository denies
    /// every use that it governs.
    pub(super) async fn compile_offline(
        &self,
        context: &CliContext,
    ) -> Result<Vec<Policy>, CliError> {
        let roots = self.load_trust_roots(false, context).await;
        self.compile_each(&roots, |object, sources| {
            Ok(object.compile_or_deny_all(sources))
        })
    }

    /// Compiles every policy as far as possible without network access. Errors: the first policy
    /// that could never be used as it is.
    pub(super) async fn check_policies(
        &self,
        context: &CliContext,
    ) -> Result<Vec<Policy>, CliError> {
        let roots = self.load_trust_roots(false, context).await;
        self.compile_each(&roots, |object, sources| {
            match object.compile_policy(sources) {
                Err(error)
                    if error.is_missing_object()
                        && error.reason() == Reason::TrustRootUnavailable =>
                {
                    Ok(object.to_deny_all_policy(error.to_string()))
                }
                other => other,
            }
        })
    }

    fn compile_each(
        &self,
        roots: &NamedTrustRoots,
        compile: impl Fn(&PolicyObject, &ResolvedPolicyReferences) -> Result<Policy, PolicyError>,
    ) -> Result<Vec<Policy>, CliError> {
        let (parts, mut usages) = (
            ParsedMaterialCache::default(),
            BTreeMap::<String, PolicyQuotaUsage>::new(),
        );
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
                policy_namespace(object)
            };
            let usage = usages
                .entry(scope.to_owned())
                .or_insert_with(|| {
                    PolicyQuotaUsage::for_kind(&object.kind().unwrap_or(PolicyOrigin::Cluster))
                })
                .clone();
            let sources = ResolvedPolicyReferences {
                parts: parts.clone(),
                usage,
                ..self.sources_for_namespace(policy_namespace(object), roots)
            };
            let size = object.size();
            let counted = sources
                .usage
                .count_policy(object, size, &sources.config_maps);
            counted
                .and_then(|()| compile(object, &sources))
                .map_err(|error| blame(error.into()))
        };
        self.objects.iter().map(compile).collect()
    }

    fn add_file(&mut self, input: &InputFile) -> Result<(), CliError> {
        let text =
            std::str::from_utf8(&input.bytes).map_err(|e| CliError::invalid(e.to_string()))?;
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(text).map_err(|e| CliError::invalid(e.to_string()))?;
        documents
            .into_iter()
            .filter(|document| !document.is_null())
            .try_for_each(|document| self.add_object(document, &input.name))
    }

    fn add_object(&mut self, object: Value, file: &str) -> Result<(), CliError> {
        if PolicyObject::is_policy(&object) {
            self.objects
                .push((file.to_owned(), PolicyObject::from_json(object)?));
            return Ok(());
        }
        match (object["apiVersion"].as_str(), object["kind"].as_str()) {
            (Some("v1"), Some("List")) => match object["items"].as_array() {
                Some(items) => items
                    .iter()
                    .try_for_each(|item| self.add_object(item.clone(), file)),
                None => Err(CliError::invalid("a List must have items")),
            },
            (Some("v1"), Some("ConfigMap")) => {
                self.config_maps.push(parse_config_map(&object)?);
                Ok(())
            }
            (Some(API_VERSION), Some("TrustRoot")) => {
                let root = serde_json::from_value(object)
                    .map_err(|e| CliError::invalid(format!("TrustRoot: {e}")))?;
                self.trust_roots.push(root);
                Ok(())
            }
            // It has no rules of its own; policies that select namespaces are not supported yet.
            (Some("v1"), Some("Namespace")) => Ok(()),
            _ => Err(CliError::invalid(format!(
                "{} {} is neither a policy nor something that a policy names",
                object["apiVersion"], object["kind"]
            ))),
        }
    }

    /// The objects that a policy in `namespace` may refer to.
    fn sources_for_namespace(
        &self,
        namespace: &str,
        roots: &NamedTrustRoots,
    ) -> ResolvedPolicyReferences {
        let here =
            |map: &&ParsedConfigMap| map.namespace.as_deref().is_none_or(|own| own == namespace);
        let config_maps = self
            .config_maps
            .iter()
            .filter(here)
            .map(|map| (map.name.clone(), map.data.clone()))
            .collect();
        let mut sources = ResolvedPolicyReferences {
            config_maps,
            ..ResolvedPolicyReferences::default()
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

    /// Every trust root that a policy refers to.
    async fn load_trust_roots(&self, may_ask: bool, context: &CliContext) -> NamedTrustRoots {
        let named: BTreeSet<String> = self
            .objects
            .iter()
            .flat_map(|(_, object)| object.referenced_names().trust_roots)
            .collect();
        let mut roots = NamedTrustRoots::new();
        for root in self
            .trust_roots
            .iter()
            .filter(|root| named.contains(root.name()))
        {
            roots.insert(
                root.name().to_owned(),
                self.load_trust_root(root, may_ask, context)
                    .await
                    .map(Arc::new),
            );
        }
        roots
    }

    async fn load_trust_root(
        &self,
        root: &TrustRoot,
        may_ask: bool,
        context: &CliContext,
    ) -> Result<verify::TrustRoot, CliError> {
        root.validate_spec()?;
        if root.user_config_map_name().is_some() {
            let found = root
                .find_active_root(|name| self.system_config_map(name), context.clock().now())
                .map_err(missing_input_error)?;
            return Ok(verify::TrustRoot::parse(
                found.text.as_bytes(),
                &InputLimits::DEFAULT,
            )?);
        }
        let repository = match (&root.spec.tuf, root.tuf_root_config_map_name()) {
            (Some(tuf), Some(name)) => {
                TufRepositoryConfig::new(&tuf.url, self.first_tuf_root(name)?.as_bytes())?
            }
            _ => TufRepositoryConfig::public_good()?,
        };
        let terms = TrustRefreshPolicy {
            interval: root.refresh_interval()?,
            max_staleness: root.max_staleness()?,
            may_ask,
        };
        trust_root::fetch_trust_root(&repository, terms, context).await
    }

    fn first_tuf_root(&self, name: &str) -> Result<&str, CliError> {
        let missing = || {
            missing_input_error(TrustRootStateError::Missing {
                name: name.to_owned(),
                key: TUF_ROOT_KEY,
            })
        };
        match self.system_config_map(name) {
            ConfigMapLookup::Present(data) => data
                .get(TUF_ROOT_KEY)
                .map(String::as_str)
                .ok_or_else(missing),
            ConfigMapLookup::Unknown | ConfigMapLookup::Absent => Err(missing()),
        }
    }

    fn system_config_map(&self, name: &str) -> ConfigMapLookup<'_> {
        let here = |config: &&ParsedConfigMap| {
            config.name == name
                && config
                    .namespace
                    .as_deref()
                    .is_none_or(|own| own == SYSTEM_NAMESPACE)
        };
        self.config_maps
            .iter()
            .find(here)
            .map_or(ConfigMapLookup::Absent, |config| {
                ConfigMapLookup::Present(config.data.data())
            })
    }
}

/// Missing objects in files are an input error.
fn missing_input_error(error: TrustRootStateError) -> CliError {
    match error {
        TrustRootStateError::Missing { name, key } => {
            CliError::invalid(format!("no ConfigMap {name} with the key {key} was given"))
        }
        other => other.into(),
    }
}

fn policy_namespace(object: &PolicyObject) -> &str {
    match object {
        PolicyObject::Cluster(_) => SYSTEM_NAMESPACE,
        PolicyObject::Namespaced(policy) => {
            policy.metadata.namespace.as_deref().unwrap_or_default()
        }
    }
}

fn object_name(object: &Value) -> Result<String, CliError> {
    object["metadata"]["name"]
        .as_str()
        .map(ToOwned::to_owned)
        .ok_or_else(|| CliError::invalid(format!("{} has no metadata.name", object["kind"])))
}

fn parse_config_map(object: &Value) -> Result<ParsedConfigMap, CliError> {
    let data: BTreeMap<String, String> = serde_json::from_value(object["data"].clone())
        .map_err(|e| CliError::invalid(format!("ConfigMap data: {e}")))?;
    Ok(ParsedConfigMap {
        namespace: object["metadata"]["namespace"]
            .as_str()
            .map(ToOwned::to_owned),
        name: object_name(object)?,
        data: data.into(),
    })
}
