//! Sources to programs, with the distribution's Go and what the source package leaves out.
//!
//! Upstream's own build fetches and generates much more; three changes and one generated file are what
//! these programs need. Nothing is fetched here.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, bail, ensure};

use super::{COMPILED, Cache, VERSION, packages, say, version};
use crate::build::must;

/// The vendored copy predates Go 1.18: with it everything builds, and the API server dies at the first
/// server-side apply of a custom resource. The distribution's copy is put over it.
const REFLECT2: &str = "github.com/modern-go/reflect2";
/// Files of the old copy that the new one does not have.
const REFLECT2_OLD: [&str; 3] = ["go_above_17.go", "go_below_17.go", "go_below_19.go"];

/// cAdvisor waits five times a second for a docker that is not there, at every start of a kubelet.
const DOCKER: &str = "vendor/github.com/google/cadvisor/container/docker/factory.go";
const DOCKER_WAITS: (&str, &str) = ("const rootDirRetries = 5", "const rootDirRetries = 0");

/// The one generated file that the source package lacks, and where its generator is.
const OPENAPI: &str = "pkg/generated/openapi/zz_generated.openapi.go";
const OPENAPI_GEN: &str = "./vendor/k8s.io/kube-openapi/cmd/openapi-gen";
/// Packages that ask for it by this mark, below these directories, but for those.
const OPENAPI_MARK: &str = "+k8s:openapi-gen=";
const OPENAPI_ROOTS: [&str; 2] = ["pkg", "vendor/k8s.io"];
const OPENAPI_NOT: [&str; 3] = [
    "vendor/k8s.io/code-generator/",
    "vendor/k8s.io/sample-apiserver/",
    "vendor/k8s.io/sample-controller/",
];
/// Lines of the generator's report: as many as in the tree it was made for.
const VIOLATIONS: usize = 617;

/// The package that all others are below.
const PACKAGE: &str = "k8s.io/kubernetes";

/// Compiles every program to `bin`.
pub(super) fn programs(cache: &Cache) -> anyhow::Result<()> {
    cache.step("src", "unpacking and mending the sources", |draft| {
        sources(cache, draft)
    })?;
    // Go before modules finds packages by their path; the link makes this one found.
    let here = cache.at("gopath").join("src").join(PACKAGE);
    fs::create_dir_all(here.parent().unwrap_or(&here)).context("making GOPATH")?;
    if !here.exists() {
        symlink(tree(&cache.at("src")), &here).context("linking the sources into GOPATH")?;
    }
    generate(cache, &here)?;
    let bin = cache.programs();
    fs::create_dir_all(&bin).with_context(|| format!("making {}", bin.display()))?;
    for (program, seconds) in COMPILED {
        let done = bin.join(program);
        if done.exists() {
            continue;
        }
        let begun = Instant::now();
        say(&format!("compiling {program} (about {seconds} s)"));
        let draft = bin.join(format!(".{program}.draft"));
        let mut go = go(cache, &here);
        // Without a version clients that parse it are confused.
        go.args(["build", "-ldflags", &linker_flags(), "-o"])
            .arg(&draft);
        go.arg(format!("./cmd/{program}"));
        must(go, &format!("compiling {program}"))?;
        fs::rename(&draft, &done).with_context(|| format!("finishing {program}"))?;
        say(&format!(
            "compiled {program} in {} s",
            begun.elapsed().as_secs()
        ));
    }
    Ok(())
}

fn tree(src: &Path) -> PathBuf {
    src.join(format!("kubernetes-{}", version()))
}

fn sources(cache: &Cache, draft: &Path) -> anyhow::Result<()> {
    let mut tar = Command::new("tar");
    tar.arg("xzf")
        .arg(packages::upstream(cache)?)
        .arg("-C")
        .arg(draft);
    must(tar, "unpacking the sources")?;
    let tree = tree(draft);
    ensure!(tree.is_dir(), "the source package is not {}", version());
    let vendored = tree.join("vendor").join(REFLECT2);
    let newer = cache.at("root/usr/share/gocode/src").join(REFLECT2);
    for entry in fs::read_dir(&newer).with_context(|| format!("reading {}", newer.display()))? {
        let file = entry?;
        let name = file.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(".go") || name.ends_with(".s") {
            fs::copy(file.path(), vendored.join(&*name))
                .with_context(|| format!("copying {name}"))?;
        }
    }
    for old in REFLECT2_OLD {
        fs::remove_file(vendored.join(old)).with_context(|| format!("removing {old}"))?;
    }
    let file = tree.join(DOCKER);
    let text = fs::read_to_string(&file).with_context(|| format!("reading {DOCKER}"))?;
    let (before, after) = DOCKER_WAITS;
    ensure!(text.contains(before), "{DOCKER} is not as expected");
    fs::write(&file, text.replace(before, after)).with_context(|| format!("writing {DOCKER}"))
}

/// Writes the generated file, last of all what it is recognised by.
fn generate(cache: &Cache, here: &Path) -> anyhow::Result<()> {
    cache.step("tools", "generating the API's description", |draft| {
        let generator = draft.join("openapi-gen");
        let mut build = go(cache, here);
        build.args(["build", "-o"]).arg(&generator).arg(OPENAPI_GEN);
        must(build, "compiling openapi-gen")?;
        let mut inputs = BTreeSet::new();
        for start in OPENAPI_ROOTS {
            marked(here, Path::new(start), &mut inputs)?;
        }
        let report = draft.join("violations");
        let inputs: Vec<String> = inputs
            .iter()
            .map(|path| format!("{PACKAGE}/{path}"))
            .collect();
        let mut generate = Command::new(&generator);
        environment(&mut generate, cache, here);
        generate.args(["--logtostderr", "-i", &inputs.join(",")]);
        generate.args(["-p", &format!("{PACKAGE}/pkg/generated/openapi")]);
        generate.args(["-O", "zz_generated.openapi"]);
        generate.args(["-h", "hack/boilerplate/boilerplate.generatego.txt"]);
        generate.arg("-r").arg(&report);
        must(generate, "openapi-gen")?;
        let lines = fs::read_to_string(&report)
            .context("reading the report")?
            .lines()
            .count();
        ensure!(
            here.join(OPENAPI).exists(),
            "openapi-gen wrote no {OPENAPI}"
        );
        if lines != VIOLATIONS {
            bail!("openapi-gen reports {lines} lines and not {VIOLATIONS}: it saw other packages");
        }
        Ok(())
    })?;
    Ok(())
}

/// Directories with a file that asks to be described, relative to `here`. Follows links: packages of
/// k8s.io are links into the staging area.
fn marked(here: &Path, directory: &Path, found: &mut BTreeSet<String>) -> anyhow::Result<()> {
    let place = here.join(directory);
    for entry in fs::read_dir(&place).with_context(|| format!("reading {}", place.display()))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let relative = directory.join(&name);
        let spoken = relative.to_string_lossy().into_owned();
        if path.is_dir() {
            if !OPENAPI_NOT.contains(&format!("{spoken}/").as_str()) {
                marked(here, &relative, found)?;
            }
            continue;
        }
        let source = name.ends_with(".go") && !name.ends_with("_test.go");
        if source
            && !name.contains("zz_generated")
            && String::from_utf8_lossy(&fs::read(&path)?).contains(OPENAPI_MARK)
        {
            found.insert(directory.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

fn linker_flags() -> String {
    let (major, minor, _) = VERSION;
    let mut flags = "-s -w".to_owned();
    for package in ["component-base/version", "client-go/pkg/version"] {
        for (name, value) in [
            ("gitVersion", format!("v{}", version())),
            ("gitMajor", major.to_string()),
            ("gitMinor", minor.to_string()),
            ("gitTreeState", "archive".to_owned()),
        ] {
            flags += &format!(" -X {PACKAGE}/vendor/k8s.io/{package}.{name}={value}");
        }
    }
    flags
}

fn go(cache: &Cache, here: &Path) -> Command {
    let mut go = Command::new(cache.at("root/usr/lib/go-1.19/bin/go"));
    environment(&mut go, cache, here);
    go
}

fn environment(command: &mut Command, cache: &Cache, here: &Path) {
    let goroot = cache.at("root/usr/lib/go-1.19");
    let path = std::env::var("PATH").unwrap_or_default();
    command.current_dir(here);
    // Go takes the directory it was entered by from here.
    command.env("PWD", here);
    command.env("PATH", format!("{}:{path}", goroot.join("bin").display()));
    command
        .env("GOROOT", &goroot)
        .env("GOPATH", cache.at("gopath"));
    command
        .env("GOCACHE", cache.at("gocache"))
        .env("GO111MODULE", "off");
    command
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "");
}
