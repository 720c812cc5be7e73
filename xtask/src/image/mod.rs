//! `cargo xtask image`: the images as OCI archives, without a container daemon and the same bytes each
//! time, each with a list of what is inside and its digests.
//!
//! Nothing is fetched: programs are built from the sources, roots are those of the distribution's package.

mod arch;
mod certificates;
mod layer;
mod oci;
mod programs;
mod sbom;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde_json::{Value, json};

pub(crate) use arch::Wanted;

use self::{arch::Arch, layer::File, oci::About, programs::Program, sbom::Package};
use crate::build::target;

/// Version of the programs, and with a `v` the images' tag, unless another one is asked for.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What is made besides the programs.
struct Order<'a> {
    version: &'a str,
    archs: &'a [Arch],
    roots: &'a [u8],
    out: &'a Path,
}

/// Where images are looked for when a name says nothing else; containerd keeps whole names.
const REPOSITORY: &str = "docker.io/terway-rs";

/// An image.
struct Spec {
    title: &'static str,
    programs: &'static [Program],
    entrypoint: &'static [&'static str],
    command: &'static [&'static str],
    /// Whether its programs speak TLS to others than the cluster.
    roots: bool,
}

/// What ships, and what the lab's pods are made of.
const IMAGES: [Spec; 3] = [
    Spec {
        title: "terway",
        programs: &[
            ("terwayd", "terwayd"),
            ("terway-cni", "terway"),
            ("terway-cli", "terway-cli"),
        ],
        entrypoint: &[],
        command: &["terwayd"],
        roots: true,
    },
    Spec {
        title: "controlplane",
        programs: &[("terway-controlplane", "terway-controlplane")],
        entrypoint: &[],
        command: &["terway-controlplane"],
        roots: true,
    },
    Spec {
        title: "probe",
        programs: &[("terway-probe", "terway-probe")],
        entrypoint: &["/usr/local/bin/terway-probe"],
        command: &["pause"],
        roots: false,
    },
];

/// Writes every image to `out`, as another release's if a `version` is given.
pub(crate) fn run(
    wanted: Option<Wanted>,
    out: Option<PathBuf>,
    version: Option<&str>,
) -> anyhow::Result<()> {
    let sysroot = programs::sysroot()?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let (archs, told) = arch::choose(wanted, |arch| arch.missing(&sysroot, &path))?;
    for sentence in told {
        eprintln!("xtask: {sentence}");
    }
    // What cannot work is found before minutes are spent on building.
    let roots = certificates::bundle(Path::new(certificates::DIRECTORY))?;
    let out = out.unwrap_or_else(|| target().join("images"));
    fs::create_dir_all(&out).with_context(|| format!("making {}", out.display()))?;
    let order = Order {
        version: version.unwrap_or(VERSION),
        archs: &archs,
        roots: &roots,
        out: &out,
    };
    let mut sums = BTreeMap::new();
    let mut images = Vec::new();
    for spec in &IMAGES {
        images.push(image(spec, &order, &mut sums)?);
    }
    let listing = format!("{:#}\n", Value::from(images));
    keep(&out, "images.json".into(), listing.into_bytes(), &mut sums)?;
    let lines: String = sums
        .iter()
        .map(|(file, sum)| format!("{sum}  {file}\n"))
        .collect();
    fs::write(out.join("SHA256SUMS"), lines).context("writing SHA256SUMS")?;
    Ok(())
}

/// Makes one image and what goes with it; returns what is said of it in `images.json`.
fn image(
    spec: &Spec,
    order: &Order<'_>,
    sums: &mut BTreeMap<String, String>,
) -> anyhow::Result<Value> {
    let Order { version, out, .. } = *order;
    let name = format!("{REPOSITORY}/{}:v{version}", spec.title);
    let checksums = sbom::checksums()?;
    let mut platforms = Vec::new();
    for arch in order.archs {
        eprintln!("xtask: building {} for {}", spec.title, arch.oci());
        platforms.push((*arch, layers(spec, *arch, order)?));
        let packages = packages(spec, *arch)?;
        let document = sbom::document(&name, version, &packages, &checksums);
        let file = format!("{}-{}.cdx.json", spec.title, arch.oci());
        keep(out, file, format!("{document:#}\n").into_bytes(), sums)?;
    }
    let about = About {
        name: &name,
        title: spec.title,
        version,
        entrypoint: spec.entrypoint,
        command: spec.command,
    };
    let archive = oci::archive(about, platforms).context("putting the archive together")?;
    let size = archive.bytes.len();
    let file = format!("{}.tar", spec.title);
    keep(out, file.clone(), archive.bytes, sums)?;
    println!(
        "{name} {} {} ({:.1} MiB)",
        archive.digest,
        out.join(&file).display(),
        size as f64 / f64::from(1 << 20)
    );
    let platforms = archive.platforms.into_iter();
    let platforms: Vec<Value> = platforms
        .map(|(arch, digest)| json!({ "architecture": arch.oci(), "digest": digest }))
        .collect();
    Ok(json!({ "name": name, "digest": archive.digest, "archive": file, "platforms": platforms }))
}

/// What changes seldom comes first: a node that has it does not fetch it again.
fn layers(spec: &Spec, arch: Arch, order: &Order<'_>) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut layers = Vec::new();
    if spec.roots {
        let file = File::data(order.roots.to_vec());
        layers.push(BTreeMap::from([(certificates::IN_IMAGE.to_owned(), file)]));
    }
    let built = programs::build(arch, spec.programs, order.version)?;
    let mut files = BTreeMap::new();
    for (path, (_, program)) in built.iter().zip(spec.programs) {
        let file = File::program(programs::read(path, arch)?);
        files.insert(format!("usr/local/bin/{program}"), file);
    }
    layers.push(files);
    let tars: Result<_, _> = layers.iter().map(layer::tar).collect();
    tars.context("putting a layer together")
}

/// What is in the image: cargo's packages, the C library, and the roots.
fn packages(spec: &Spec, arch: Arch) -> anyhow::Result<BTreeSet<Package>> {
    let mut packages = sbom::linked(arch, spec.programs)?;
    let here = Arch::here()? == arch;
    // The C library of another processor comes from Debian's cross packages.
    let library = if here {
        "libc6-dev".to_owned()
    } else {
        format!("libc6-dev-{}-cross", arch.oci())
    };
    let mut debian = vec![library];
    debian.extend(spec.roots.then(|| certificates::PACKAGE.to_owned()));
    for name in debian {
        packages.insert(Package {
            version: certificates::version(&name)?,
            name,
            license: String::new(),
            origin: "pkg:deb/debian/",
        });
    }
    Ok(packages)
}

/// Writes a file whole or not at all, and remembers its checksum.
fn keep(
    out: &Path,
    name: String,
    bytes: Vec<u8>,
    sums: &mut BTreeMap<String, String>,
) -> anyhow::Result<()> {
    let path = out.join(&name);
    let draft = path.with_extension("draft");
    fs::write(&draft, &bytes)
        .and_then(|()| fs::rename(&draft, &path))
        .with_context(|| format!("writing {}", path.display()))?;
    sums.insert(name, oci::hex(&bytes));
    Ok(())
}
