//! An OCI image as bytes: layers, configuration, manifests and index, in one archive that
//! `ctr images import` takes (OCI image layout 1.0.0). Pure: the same content gives the same bytes.
//!
//! Layers are not compressed: a registry's client does that, and a compressor's version would be in every digest.

use std::{collections::BTreeMap, io};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    arch::Arch,
    layer::{self, File},
};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// When everything in an image was made, as far as it says. Any other date would be part of its digest.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// What an image is for its users.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    /// Registry, repository and tag.
    pub(super) name: &'a str,
    pub(super) title: &'a str,
    pub(super) version: &'a str,
    /// The program that always runs, if there is one, and what is run without further words.
    pub(super) entrypoint: &'a [&'a str],
    pub(super) command: &'a [&'a str],
}

/// An image in its archive.
pub(super) struct Archive {
    pub(super) bytes: Vec<u8>,
    /// Digest of the image's index, by which it can be pinned.
    pub(super) digest: String,
    /// Digest of each platform's manifest.
    pub(super) platforms: Vec<(Arch, String)>,
}

/// `sha256:` and the digest of `bytes`.
pub(super) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(bytes))
}

/// SHA-256 of `bytes` as `sha256sum` prints it.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Content by its digest.
#[derive(Default)]
struct Blobs(BTreeMap<String, File>);

impl Blobs {
    /// Keeps `bytes` and describes them.
    fn add(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let descriptor = json!({
            "mediaType": media_type,
            "digest": digest(&bytes),
            "size": bytes.len(),
        });
        let path = format!("blobs/sha256/{}", hex(&bytes));
        self.0.insert(path, File::data(bytes));
        descriptor
    }

    fn add_json(&mut self, media_type: &str, document: &Value) -> Value {
        self.add(media_type, document.to_string().into_bytes())
    }
}

/// Puts an image together from the layers of each platform.
pub(super) fn archive(
    about: About<'_>,
    platforms: Vec<(Arch, Vec<Vec<u8>>)>,
) -> io::Result<Archive> {
    let mut blobs = Blobs::default();
    let mut manifests = Vec::new();
    let mut digests = Vec::new();
    for (arch, layers) in platforms {
        let mut manifest = platform(&mut blobs, about, arch, layers);
        manifest["platform"] = json!({ "architecture": arch.oci(), "os": "linux" });
        digests.push((arch, text(&manifest["digest"])));
        manifests.push(manifest);
    }
    let annotations = json!({
        "org.opencontainers.image.title": about.title,
        "org.opencontainers.image.version": about.version,
        "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
        "org.opencontainers.image.source": env!("CARGO_PKG_REPOSITORY"),
    });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": manifests,
        "annotations": annotations,
    });
    let mut image = blobs.add_json(INDEX, &index);
    let digest = text(&image["digest"]);
    let tag = about.name.rsplit(':').next().unwrap_or_default();
    image["annotations"] = json!({
        "io.containerd.image.name": about.name,
        "org.opencontainers.image.ref.name": tag,
    });
    let layout = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [image] });
    let mut files = blobs.0;
    files.insert("index.json".into(), File::data(layout.to_string().into()));
    let version = json!({ "imageLayoutVersion": "1.0.0" });
    files.insert("oci-layout".into(), File::data(version.to_string().into()));
    Ok(Archive {
        bytes: layer::tar(&files)?,
        digest,
        platforms: digests,
    })
}

/// One platform's layers, configuration and manifest; describes the manifest.
fn platform(blobs: &mut Blobs, about: About<'_>, arch: Arch, layers: Vec<Vec<u8>>) -> Value {
    // Without compression a layer's digest is also that of its content.
    let contents: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    let mut config = json!({
        "User": "0:0",
        "Env": ["PATH=/usr/local/bin"],
        "WorkingDir": "/",
    });
    for (key, words) in [("Entrypoint", about.entrypoint), ("Cmd", about.command)] {
        if !words.is_empty() {
            config[key] = json!(words);
        }
    }
    let config = json!({
        "created": CREATED,
        "architecture": arch.oci(),
        "os": "linux",
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": contents },
    });
    let config = blobs.add_json(CONFIG, &config);
    let layers: Vec<Value> = layers
        .into_iter()
        .map(|layer| blobs.add(LAYER, layer))
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config,
        "layers": layers,
    });
    blobs.add_json(MANIFEST, &manifest)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const ABOUT: About<'static> = About {
        name: "docker.io/terway-rs/terway:v1.2.3",
        title: "terway",
        version: "1.2.3",
        entrypoint: &[],
        command: &["terwayd"],
    };

    fn image() -> Archive {
        let file = BTreeMap::from([("usr/local/bin/x".to_owned(), File::program(b"x".to_vec()))]);
        let layer = layer::tar(&file).unwrap();
        let platforms = Arch::ALL.map(|arch| (arch, vec![layer.clone()])).to_vec();
        archive(ABOUT, platforms).unwrap()
    }

    fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut tar = tar::Archive::new(archive);
        let entries = tar.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (entry.path().unwrap().display().to_string(), bytes)
        });
        entries.collect()
    }

    #[test]
    fn made_twice_it_is_the_same_bytes() {
        let (one, other) = (image(), image());
        assert_eq!(one.digest, other.digest);
        assert!(one.bytes == other.bytes);
    }

    /// Follows every descriptor from the index down: size and digest are those of what is there.
    fn follow(files: &BTreeMap<String, Vec<u8>>, descriptor: &Value) -> Value {
        let name = text(&descriptor["digest"]).replace(':', "/");
        let bytes = &files[&format!("blobs/{name}")];
        assert_eq!(descriptor["size"], bytes.len());
        assert_eq!(descriptor["digest"], digest(bytes));
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    #[test]
    fn everything_in_it_is_what_its_descriptors_say() {
        let image = image();
        let files = files(&image.bytes);
        assert_eq!(files["oci-layout"], br#"{"imageLayoutVersion":"1.0.0"}"#);
        let layout: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let named = &layout["manifests"][0];
        let names = &named["annotations"];
        assert_eq!(names["io.containerd.image.name"], ABOUT.name);
        assert_eq!(names["org.opencontainers.image.ref.name"], "v1.2.3");
        assert_eq!(named["digest"], image.digest);
        let index = follow(&files, named);
        for (at, (arch, digest)) in image.platforms.iter().enumerate() {
            let descriptor = &index["manifests"][at];
            assert_eq!(descriptor["digest"], *digest);
            assert_eq!(descriptor["platform"]["architecture"], arch.oci());
            let manifest = follow(&files, descriptor);
            let config = follow(&files, &manifest["config"]);
            assert_eq!(config["architecture"], arch.oci());
            assert_eq!(config["config"]["Cmd"][0], "terwayd");
            assert_eq!(
                config["rootfs"]["diff_ids"][0],
                manifest["layers"][0]["digest"]
            );
            follow(&files, &manifest["layers"][0]);
        }
    }

    #[test]
    fn the_digest_is_sha_256() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hex(b""), empty);
        assert_eq!(digest(b""), format!("sha256:{empty}"));
    }
}
