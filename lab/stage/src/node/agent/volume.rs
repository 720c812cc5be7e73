//! ConfigMaps as directories, and kept as the API server has them.
//!
//! As a kubelet lays them out: the files of one version in a directory of their own, and a link that is
//! moved from one to the next, so that a reader sees one version or the other.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    os::unix::fs::{OpenOptionsExt, symlink},
    path::Path,
};

use anyhow::{Context, Result, bail};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};

use super::template::{ConfigVolume, volume_path};

/// The link to the version that counts.
const DATA: &str = "..data";

/// Writes the volume as the ConfigMap is now.
///
/// # Errors
/// When it is not there and must be, or cannot be written.
pub(super) async fn fill(client: &Client, namespace: &str, volume: &ConfigVolume) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let map = maps.get_opt(&volume.config_map).await;
    let map = map.with_context(|| format!("cannot read ConfigMap {}", volume.config_map))?;
    if map.is_none() && !volume.optional {
        bail!("there is no ConfigMap {namespace}/{}", volume.config_map);
    }
    write(volume, map)
}

/// Follows the ConfigMap, for ever.
pub(super) async fn follow(client: Client, namespace: String, volume: ConfigVolume) {
    let maps: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let mut versions = Box::pin(watcher::watch_object(maps, &volume.config_map).default_backoff());
    loop {
        match versions.try_next().await {
            Ok(Some(None)) if !volume.optional => {}
            Ok(Some(map)) => {
                if let Err(error) = write(&volume, map) {
                    tracing::warn!(error = format!("{error:#}"), "a volume is not up to date");
                }
            }
            Ok(None) => return,
            Err(error) => tracing::warn!(%error, "the watch of a ConfigMap was interrupted"),
        }
    }
}

fn write(volume: &ConfigVolume, map: Option<ConfigMap>) -> Result<()> {
    let directory = volume_path(&volume.name);
    let directory = Path::new(&directory);
    let version = map
        .as_ref()
        .and_then(|map| map.metadata.resource_version.clone());
    let version = format!("..{}", version.unwrap_or_else(|| "none".to_owned()));
    let files = map.and_then(|map| map.data).unwrap_or_default();
    publish(directory, &version, &files, volume.mode)
        .with_context(|| format!("cannot write {}", directory.display()))
}

fn publish(
    directory: &Path,
    version: &str,
    files: &BTreeMap<String, String>,
    mode: u32,
) -> std::io::Result<()> {
    let before = fs::read_link(directory.join(DATA)).ok();
    if before.as_deref() == Some(Path::new(version)) {
        return Ok(());
    }
    let fresh = directory.join(version);
    fs::create_dir_all(&fresh)?;
    for (name, text) in files {
        let mut options = fs::File::options();
        options.create(true).write(true).truncate(true).mode(mode);
        options.open(fresh.join(name))?.write_all(text.as_bytes())?;
        let link = directory.join(name);
        if link.symlink_metadata().is_err() {
            symlink(Path::new(DATA).join(name), link)?;
        }
    }
    let next = directory.join("..data_tmp");
    let _ = fs::remove_file(&next);
    symlink(version, &next)?;
    fs::rename(&next, directory.join(DATA))?;
    // What the new version does not have any more, and the old version itself.
    for entry in fs::read_dir(directory)?.flatten() {
        let name = entry.file_name();
        let stays = name.to_string_lossy().starts_with("..");
        if !stays && !entry.path().exists() {
            fs::remove_file(entry.path())?;
        }
    }
    match before {
        Some(before) => fs::remove_dir_all(directory.join(before)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_one_version_or_the_other() {
        let directory = std::env::temp_dir().join(format!("lab-volume-{}", std::process::id()));
        let files = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs
                .iter()
                .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
                .collect()
        };
        fs::create_dir_all(&directory).unwrap();
        publish(&directory, "..1", &files(&[("a", "1"), ("b", "1")]), 0o400).unwrap();
        assert_eq!(fs::read_to_string(directory.join("b")).unwrap(), "1");
        publish(&directory, "..2", &files(&[("a", "2")]), 0o400).unwrap();
        assert_eq!(fs::read_to_string(directory.join("a")).unwrap(), "2");
        assert!(!directory.join("b").exists() && !directory.join("..1").exists());
        publish(&directory, "..none", &files(&[]), 0o400).unwrap();
        let left = fs::read_dir(&directory).unwrap().count();
        assert_eq!(left, 2, "the link and what it points to");
        fs::remove_dir_all(directory).unwrap();
    }
}
