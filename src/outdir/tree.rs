//! Files, folders and links below one folder. Nothing is written through a symbolic link, and
//! nothing is overwritten.

use std::{
    fs::File,
    io::{self, ErrorKind},
};

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt, Permissions, PermissionsExt};

use super::OutDirError;
use crate::core::{bundle_path::BundlePath, lockfile::BundleFileMode};

/// The mode of every folder.
pub(super) const FOLDER_MODE: u32 = 0o755;

/// Creates a file that does not exist yet, with exactly this mode.
pub(super) fn create_file(
    root: &Dir,
    path: &BundlePath,
    mode: BundleFileMode,
) -> Result<File, OutDirError> {
    let (folder, name) = open_parent(root, path)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let file = folder
        .open_with(name, &options)
        .map_err(|error| write_error(path, &error))?;
    file.set_permissions(Permissions::from_mode(mode.permission_bits()))
        .map_err(|error| write_error(path, &error))?;
    Ok(file.into_std())
}

/// Creates a folder, unless it exists.
pub(super) fn create_folder(root: &Dir, path: &BundlePath) -> Result<(), OutDirError> {
    let (folder, name) = open_parent(root, path)?;
    open_or_create_folder(&folder, name, path).map(|_| ())
}

/// Creates a symbolic link that does not exist yet. `core::unpack` decides where it may lead.
pub(super) fn create_link(root: &Dir, path: &BundlePath, target: &str) -> Result<(), OutDirError> {
    let (folder, name) = open_parent(root, path)?;
    folder
        .symlink(target, name)
        .map_err(|error| write_error(path, &error))
}

fn open_parent<'a>(root: &Dir, path: &'a BundlePath) -> Result<(Dir, &'a str), OutDirError> {
    let mut folder = root
        .try_clone()
        .map_err(|error| write_error(path, &error))?;
    let (parents, name) = path
        .as_str()
        .rsplit_once('/')
        .map_or((None, path.as_str()), |(parents, name)| {
            (Some(parents), name)
        });
    for segment in parents.into_iter().flat_map(|parents| parents.split('/')) {
        folder = open_or_create_folder(&folder, segment, path)?;
    }
    Ok((folder, name))
}

fn open_or_create_folder(folder: &Dir, name: &str, path: &BundlePath) -> Result<Dir, OutDirError> {
    match folder.symlink_metadata(name) {
        Ok(found) if found.is_dir() => folder
            .open_dir(name)
            .map_err(|error| write_error(path, &error)),
        Ok(_) => Err(OutDirError::NoFolder {
            path: path.clone(),
            above: name.into(),
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make_folder(folder, name).map_err(|error| write_error(path, &error))
        }
        Err(error) => Err(write_error(path, &error)),
    }
}

fn make_folder(folder: &Dir, name: &str) -> io::Result<Dir> {
    folder.create_dir(name)?;
    folder.set_permissions(name, Permissions::from_mode(FOLDER_MODE))?;
    folder.open_dir(name)
}

fn write_error(path: &BundlePath, error: &io::Error) -> OutDirError {
    match error.kind() {
        ErrorKind::AlreadyExists => OutDirError::Collision(path.clone()),
        ErrorKind::InvalidFilename => OutDirError::Name(path.clone()),
        _ => OutDirError::storage_error(path, error),
    }
}
