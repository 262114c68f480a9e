//! The files with registry credentials of this machine: docker's and podman's.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{error::CliError, global_args::GlobalArgs, input_file::InputFile};
use crate::{
    core::reason::Reason,
    oci::credentials::{CredentialChain, CredentialStore, DockerConfig, RegistryCredentialError},
};

/// The maximum size in bytes of a file with credentials.
const MAX_CREDENTIAL_FILE: usize = 4 << 20;

/// A file that may have credentials.
#[derive(Debug, PartialEq, Eq)]
struct CredentialFile {
    path: PathBuf,
    /// The older form, which has entries only.
    is_dockercfg: bool,
}

/// The credentials of the file that the user names, or else of all files of docker and podman.
pub(super) fn load_credentials(global: &GlobalArgs) -> Result<Arc<dyn CredentialStore>, CliError> {
    if let Some(path) = named_file(global) {
        return Ok(Arc::new(read_config(&CredentialFile {
            path: path.to_owned(),
            is_dockercfg: false,
        })?));
    }
    let mut stores: Vec<Arc<dyn CredentialStore>> = Vec::new();
    for file in default_files(global) {
        if file.path.exists() {
            stores.push(Arc::new(read_config(&file)?));
        }
    }
    Ok(Arc::new(CredentialChain::new(stores)))
}

fn named_file(global: &GlobalArgs) -> Option<&Path> {
    filled(global.registry_config.as_ref()).or_else(|| filled(global.registry_auth_file.as_ref()))
}

/// A variable that is empty is the same as none.
fn filled<T: AsRef<OsStr>>(path: Option<&T>) -> Option<&Path> {
    let path = path.map(AsRef::as_ref).filter(|path| !path.is_empty());
    path.map(Path::new)
}

/// In podman's order (containers-auth.json(5)), which ends with docker's.
fn default_files(global: &GlobalArgs) -> Vec<CredentialFile> {
    let home = filled(global.home.as_ref());
    let runtime = filled(global.xdg_runtime_dir.as_ref());
    let own = filled(global.xdg_config_home.as_ref())
        .map(ToOwned::to_owned)
        .or_else(|| home.map(|home| home.join(".config")));
    let docker = filled(global.docker_config_dir.as_ref())
        .map(ToOwned::to_owned)
        .or_else(|| home.map(|home| home.join(".docker")));
    let podman = [runtime.map(ToOwned::to_owned), own];
    let podman = podman
        .into_iter()
        .flatten()
        .map(|folder| folder.join("containers/auth.json"));
    let current = podman.chain(docker.map(|folder| folder.join("config.json")));
    let mut files: Vec<CredentialFile> = current
        .map(|path| CredentialFile {
            path,
            is_dockercfg: false,
        })
        .collect();
    files.extend(home.map(|home| CredentialFile {
        path: home.join(".dockercfg"),
        is_dockercfg: true,
    }));
    files
}

fn read_config(file: &CredentialFile) -> Result<DockerConfig, CliError> {
    let input = InputFile::read_limited(&file.path, MAX_CREDENTIAL_FILE, Reason::InvalidSpec)
        .map_err(|error| CliError::invalid(error.message))?;
    let parse: fn(&[u8]) -> Result<DockerConfig, RegistryCredentialError> = if file.is_dockercfg {
        DockerConfig::parse_dockercfg
    } else {
        DockerConfig::parse
    };
    let config =
        parse(&input.bytes).map_err(|error| input.prefix_file_name(CliError::from(error)))?;
    Ok(config
        .with_source(file.path.display().to_string())
        .allow_helpers())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        global: GlobalArgs,
    }

    /// The environment of the test must not count.
    fn arguments(values: [&str; 6]) -> GlobalArgs {
        let mut global = Arguments::parse_from(["packgate"]).global;
        let [config, auth_file, runtime, own, docker, home] = values;
        global.registry_config = Some(config.into());
        global.registry_auth_file = Some(auth_file.into());
        global.xdg_runtime_dir = Some(runtime.into());
        global.xdg_config_home = Some(own.into());
        global.docker_config_dir = Some(docker.into());
        global.home = Some(home.into());
        global
    }

    #[test]
    fn files_are_looked_for_in_podmans_order() {
        for (values, paths) in [
            (
                ["", "", "/run", "/xdg", "/docker", "/home/a"],
                vec![
                    "/run/containers/auth.json",
                    "/xdg/containers/auth.json",
                    "/docker/config.json",
                    "/home/a/.dockercfg",
                ],
            ),
            (
                ["", "", "", "", "", "/home/a"],
                vec![
                    "/home/a/.config/containers/auth.json",
                    "/home/a/.docker/config.json",
                    "/home/a/.dockercfg",
                ],
            ),
            (["", "", "", "", "", ""], vec![]),
        ] {
            let global = arguments(values);
            assert_eq!(named_file(&global), None);
            let files = default_files(&global);
            let found: Vec<_> = files
                .iter()
                .map(|f| f.path.to_str().expect("text"))
                .collect();
            assert_eq!(found, paths);
        }
    }

    #[test]
    fn a_named_file_is_the_only_one() {
        for (config, auth_file, expected) in [("/a", "/b", "/a"), ("", "/b", "/b")] {
            let global = arguments([config, auth_file, "/run", "", "", "/home/a"]);
            assert_eq!(named_file(&global), Some(Path::new(expected)));
            let error = load_credentials(&global).err().expect("no such file");
            assert_eq!(error.reason, Reason::InvalidSpec);
            assert!(error.message.contains(expected), "{}", error.message);
        }
    }
}
