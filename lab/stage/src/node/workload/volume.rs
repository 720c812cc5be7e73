//! ConfigMaps and Secrets as directories, and kept as the API server has them.
//!
//! As a kubelet lays them out: the files of one version in a directory of their own, and a link that is
//! moved from one to the next, so that a reader sees one version or the other.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    fs,
    io::Write,
    os::unix::fs::{OpenOptionsExt, symlink},
    path::Path,
};

use anyhow::{Context, Result, bail};
use futures::TryStreamExt;
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{ConfigMap, Secret, Volume},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use serde::de::DeserializeOwned;

use super::template::Identity;

/// The link to the version that counts.
const DATA: &str = "..data";
/// `defaultMode` of a volume that says none.
const MODE: i32 = 0o644;

/// A directory whose files are the entries of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileVolume {
    kind: Kind,
    object: String,
    pub(super) optional: bool,
    pub(super) mode: u32,
    /// Where they are on the node.
    pub(super) path: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    ConfigMap,
    Secret,
}

impl FileVolume {
    /// The volume, if it is one of these.
    pub(super) fn read(volume: &Volume, identity: Identity<'_>) -> Option<Self> {
        let (kind, object, optional, mode) = match (&volume.config_map, &volume.secret) {
            (Some(map), _) => {
                let name = map.name.clone();
                (Kind::ConfigMap, name, map.optional, map.default_mode)
            }
            (_, Some(secret)) => {
                let name = secret.secret_name.clone()?;
                (Kind::Secret, name, secret.optional, secret.default_mode)
            }
            (None, None) => return None,
        };
        let (pod, name) = (identity.pod, &volume.name);
        Some(Self {
            kind,
            object,
            optional: optional == Some(true),
            mode: mode.unwrap_or(MODE).try_into().ok()?,
            path: format!("{}/node/volumes/{pod}/{name}", crate::node::LAB),
        })
    }

    /// Writes the volume as the object is now.
    ///
    /// # Errors
    /// When it is not there and must be, or cannot be written.
    pub(super) async fn fill(&self, client: Client, namespace: &str) -> Result<()> {
        match self.kind {
            Kind::ConfigMap => {
                self.fill_from(Api::<ConfigMap>::namespaced(client, namespace))
                    .await
            }
            Kind::Secret => {
                self.fill_from(Api::<Secret>::namespaced(client, namespace))
                    .await
            }
        }
    }

    /// Follows the object, for ever.
    pub(super) async fn follow(self, client: Client, namespace: &'static str) {
        match self.kind {
            Kind::ConfigMap => {
                self.keep_as(Api::<ConfigMap>::namespaced(client, namespace))
                    .await
            }
            Kind::Secret => {
                self.keep_as(Api::<Secret>::namespaced(client, namespace))
                    .await
            }
        }
    }

    async fn fill_from<K: Files>(&self, objects: Api<K>) -> Result<()> {
        let what = || format!("{:?} {}", self.kind, self.object);
        let object = objects.get_opt(&self.object).await;
        let object = object.with_context(|| format!("cannot read {}", what()))?;
        if object.is_none() && !self.optional {
            bail!("there is no {}", what());
        }
        self.write(object)
    }

    async fn keep_as<K: Files>(&self, objects: Api<K>) {
        let mut versions = Box::pin(watcher::watch_object(objects, &self.object).default_backoff());
        loop {
            match versions.try_next().await {
                Ok(Some(None)) if !self.optional => {}
                Ok(Some(object)) => {
                    if let Err(error) = self.write(object) {
                        tracing::warn!(error = format!("{error:#}"), "a volume is not up to date");
                    }
                }
                Ok(None) => return,
                Err(error) => tracing::warn!(%error, "the watch of a volume was interrupted"),
            }
        }
    }

    fn write<K: Files>(&self, object: Option<K>) -> Result<()> {
        let directory = Path::new(&self.path);
        let version = object.as_ref().and_then(ResourceExt::resource_version);
        let version = format!("..{}", version.unwrap_or_else(|| "none".to_owned()));
        let files = object.map(Files::files).unwrap_or_default();
        publish(directory, &version, &files, self.mode)
            .with_context(|| format!("cannot write {}", directory.display()))
    }
}

/// An object whose entries are files.
trait Files:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + 'static
{
    fn files(self) -> BTreeMap<String, Vec<u8>>;
}

impl Files for ConfigMap {
    fn files(self) -> BTreeMap<String, Vec<u8>> {
        let data = self.data.unwrap_or_default().into_iter();
        data.map(|(name, text)| (name, text.into_bytes())).collect()
    }
}

impl Files for Secret {
    fn files(self) -> BTreeMap<String, Vec<u8>> {
        let data = self.data.unwrap_or_default().into_iter();
        data.map(|(name, bytes)| (name, bytes.0)).collect()
    }
}

fn publish(
    directory: &Path,
    version: &str,
    files: &BTreeMap<String, Vec<u8>>,
    mode: u32,
) -> std::io::Result<()> {
    let before = fs::read_link(directory.join(DATA)).ok();
    if before.as_deref() == Some(Path::new(version)) {
        return Ok(());
    }
    let fresh = directory.join(version);
    fs::create_dir_all(&fresh)?;
    for (name, bytes) in files {
        let mut options = fs::File::options();
        options.create(true).write(true).truncate(true).mode(mode);
        options.open(fresh.join(name))?.write_all(bytes)?;
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
        let files = |pairs: &[(&str, &str)]| -> BTreeMap<String, Vec<u8>> {
            pairs
                .iter()
                .map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_owned()))
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
