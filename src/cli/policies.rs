//! Reads policies, and what they refer to, from files.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use serde_json::Value;

use super::{exit::CliError, lockfile::Input};
use crate::{
    api::{
        API_VERSION,
        bundle_policy::{PolicyObject, Sources},
    },
    core::{class::Reason, limits::Limits, policy::Policy, verify::TrustRoot},
};

/// The size of one policy file.
const MAX_FILE: usize = 4 << 20;
/// Where cluster-wide kinds look up ConfigMaps.
const SYSTEM_NAMESPACE: &str = "packgate-system";
/// The key of a ConfigMap that holds a trusted root.
const TRUSTED_ROOT: &str = "trusted_root.json";

/// Objects from files: policies and what they need.
#[derive(Default)]
pub(super) struct Policies {
    objects: Vec<(String, PolicyObject)>,
    config_maps: Vec<ConfigMap>,
    trust_roots: Vec<(String, String)>,
}

struct ConfigMap {
    namespace: Option<String>,
    name: String,
    data: BTreeMap<String, String>,
}

impl Policies {
    /// Reads the documents of all files. Errors: `InvalidSpec` for anything that is neither a policy nor something that policies name.
    pub(super) fn read(paths: &[PathBuf]) -> Result<Self, CliError> {
        let mut all = Self::default();
        for path in paths {
            let input = Input::read(path, MAX_FILE, Reason::InvalidSpec)?;
            all.take_file(&input).map_err(|error| input.blame(error))?;
        }
        if all.objects.is_empty() {
            return Err(CliError::invalid("no policy was given: a file with a ClusterBundlePolicy or BundlePolicy is expected"));
        }
        Ok(all)
    }

    /// Names of the policies, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.objects.iter().map(|(_, object)| object.name())
    }

    /// Compiles every policy. The message names the file and the field.
    pub(super) fn compile(&self) -> Result<Vec<Policy>, CliError> {
        let compile = |(file, object): &(String, PolicyObject)| {
            let sources = self.sources(namespace(object))?;
            let blame = |error: CliError| CliError::new(error.reason, format!("{file}: policy {}: {}", object.name(), error.message));
            object.compile(&sources).map_err(|error| blame(error.into()))
        };
        self.objects.iter().map(compile).collect()
    }

    fn take_file(&mut self, input: &Input) -> Result<(), CliError> {
        let text = std::str::from_utf8(&input.bytes).map_err(|e| CliError::invalid(e.to_string()))?;
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|e| CliError::invalid(e.to_string()))?;
        documents.into_iter().filter(|document| !document.is_null()).try_for_each(|document| self.take(document, &input.name))
    }

    fn take(&mut self, object: Value, file: &str) -> Result<(), CliError> {
        if PolicyObject::is_policy(&object) {
            self.objects.push((file.to_owned(), PolicyObject::read(object)?));
            return Ok(());
        }
        match (object["apiVersion"].as_str(), object["kind"].as_str()) {
            (Some("v1"), Some("List")) => match object["items"].as_array() {
                Some(items) => items.iter().try_for_each(|item| self.take(item.clone(), file)),
                None => Err(CliError::invalid("a List must have items")),
            },
            (Some("v1"), Some("ConfigMap")) => {
                self.config_maps.push(config_map(&object)?);
                Ok(())
            }
            (Some(API_VERSION), Some("TrustRoot")) => {
                self.trust_roots.push(trust_root(&object)?);
                Ok(())
            }
            // It carries no rule of its own; policies that select namespaces are not supported yet.
            (Some("v1"), Some("Namespace")) => Ok(()),
            _ => Err(CliError::invalid(format!("{} {} is neither a policy nor something that a policy names", object["apiVersion"], object["kind"]))),
        }
    }

    /// What a policy in `namespace` may refer to.
    fn sources(&self, namespace: &str) -> Result<Sources, CliError> {
        let here = |map: &&ConfigMap| map.namespace.as_deref().is_none_or(|own| own == namespace);
        let config_maps = self.config_maps.iter().filter(here).map(|map| (map.name.clone(), map.data.clone())).collect();
        let trust_roots = self
            .trust_roots
            .iter()
            .map(|(name, map)| Ok((name.clone(), Arc::new(self.trusted_root(name, map)?))))
            .collect::<Result<_, CliError>>()?;
        Ok(Sources { config_maps, trust_roots })
    }

    fn trusted_root(&self, name: &str, map: &str) -> Result<TrustRoot, CliError> {
        let here = |config: &&ConfigMap| config.name == map && config.namespace.as_deref().is_none_or(|own| own == SYSTEM_NAMESPACE);
        let json = self.config_maps.iter().find(here).and_then(|config| config.data.get(TRUSTED_ROOT));
        let json = json.ok_or_else(|| CliError::invalid(format!("TrustRoot {name}: no ConfigMap {map} with the key {TRUSTED_ROOT} was given")))?;
        Ok(TrustRoot::parse(json.as_bytes(), &Limits::DEFAULT)?)
    }
}

fn namespace(object: &PolicyObject) -> &str {
    match object {
        PolicyObject::Cluster(_) => SYSTEM_NAMESPACE,
        PolicyObject::Namespaced(policy) => policy.metadata.namespace.as_deref().unwrap_or_default(),
    }
}

fn name_of(object: &Value) -> Result<String, CliError> {
    object["metadata"]["name"].as_str().map(ToOwned::to_owned).ok_or_else(|| CliError::invalid(format!("{} has no metadata.name", object["kind"])))
}

fn config_map(object: &Value) -> Result<ConfigMap, CliError> {
    let data = serde_json::from_value(object["data"].clone()).map_err(|e| CliError::invalid(format!("ConfigMap data: {e}")))?;
    Ok(ConfigMap { namespace: object["metadata"]["namespace"].as_str().map(ToOwned::to_owned), name: name_of(object)?, data })
}

/// Name of a TrustRoot, and the ConfigMap that holds it.
fn trust_root(object: &Value) -> Result<(String, String), CliError> {
    let map = object["spec"]["trustedRoot"]["configMapRef"]["name"].as_str();
    let map = map.ok_or_else(|| CliError::invalid("TrustRoot: only spec.trustedRoot.configMapRef can be read from files"))?;
    Ok((name_of(object)?, map.to_owned()))
}
