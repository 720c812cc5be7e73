//! The processors images are made for: their names in Rust, in OCI and in ELF, and what it takes to build
//! for them here.

use std::path::Path;

use clap::ValueEnum;

/// What was asked for on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wanted {
    Amd64,
    Arm64,
    /// Every one this machine can build for.
    All,
}

/// A processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arch {
    Amd64,
    Arm64,
}

impl Arch {
    pub(super) const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    /// The one this runs on.
    pub(super) fn here() -> anyhow::Result<Self> {
        let name = std::env::consts::ARCH;
        let found = Self::ALL.into_iter().find(|arch| arch.rust() == name);
        found.ok_or_else(|| {
            anyhow::anyhow!("images are made for amd64 and arm64, and this machine is a {name}")
        })
    }

    const fn rust(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// Its name in an OCI platform.
    pub(super) const fn oci(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Its number in an ELF header (EM_X86_64, EM_AARCH64).
    pub(super) const fn elf_machine(self) -> u16 {
        match self {
            Self::Amd64 => 62,
            Self::Arm64 => 183,
        }
    }

    /// The Rust target its programs are built for. glibc and not musl: `docs/decisions/0006-static-programs.md`.
    pub(super) fn triple(self) -> String {
        format!("{}-unknown-linux-gnu", self.rust())
    }

    /// The C compiler that links for it when this machine is another one: Debian's name.
    pub(super) fn cross_compiler(self) -> Option<String> {
        let foreign = std::env::consts::ARCH != self.rust();
        foreign.then(|| format!("{}-linux-gnu-gcc", self.rust()))
    }

    /// What this machine lacks to build for it, as a sentence with the command that brings it.
    pub(super) fn missing(self, sysroot: &Path, path: &std::ffi::OsStr) -> Option<String> {
        let (name, triple) = (self.oci(), self.triple());
        if !sysroot
            .join("lib/rustlib")
            .join(&triple)
            .join("lib")
            .exists()
        {
            return Some(format!(
                "{name} cannot be built: Rust's target {triple} is not installed; rustup target add {triple}"
            ));
        }
        let compiler = self.cross_compiler()?;
        let there = std::env::split_paths(path).any(|place| place.join(&compiler).exists());
        let package = compiler.replace("-linux-gnu-gcc", "-linux-gnu");
        (!there).then(|| {
            format!(
                "{name} cannot be built: {compiler} is not in PATH; apt-get install gcc-{package}"
            )
        })
    }
}

/// Sorts what was asked for into what is built and what is told. One asked for by name must be built;
/// `all` leaves out what cannot be.
pub(super) fn choose(
    wanted: Option<Wanted>,
    missing: impl Fn(Arch) -> Option<String>,
) -> anyhow::Result<(Vec<Arch>, Vec<String>)> {
    let one = match wanted {
        None => Arch::here()?,
        Some(Wanted::Amd64) => Arch::Amd64,
        Some(Wanted::Arm64) => Arch::Arm64,
        Some(Wanted::All) => {
            let (built, told): (Vec<_>, Vec<_>) = Arch::ALL
                .into_iter()
                .map(|arch| (arch, missing(arch)))
                .partition(|(_, missing)| missing.is_none());
            let told: Vec<String> = told.into_iter().filter_map(|(_, why)| why).collect();
            anyhow::ensure!(!built.is_empty(), "{}", told.join("; "));
            return Ok((built.into_iter().map(|(arch, _)| arch).collect(), told));
        }
    };
    missing(one).map_or_else(|| Ok((vec![one], vec![])), |why| Err(anyhow::anyhow!(why)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_arm(arch: Arch) -> Option<String> {
        (arch == Arch::Arm64).then(|| "no arm64".to_owned())
    }

    #[test]
    fn all_builds_what_can_be_built_and_tells_the_rest() {
        let (built, told) = choose(Some(Wanted::All), no_arm).unwrap();
        assert_eq!((built, told), (vec![Arch::Amd64], vec!["no arm64".into()]));
        let none = choose(Some(Wanted::All), |_| Some("nothing".into())).unwrap_err();
        assert_eq!(none.to_string(), "nothing; nothing");
    }

    #[test]
    fn one_that_was_asked_for_by_name_must_be_built() {
        let refused = choose(Some(Wanted::Arm64), no_arm).unwrap_err();
        assert_eq!(refused.to_string(), "no arm64");
        let (built, told) = choose(Some(Wanted::Amd64), no_arm).unwrap();
        assert_eq!((built, told), (vec![Arch::Amd64], vec![]));
    }

    #[test]
    fn a_missing_target_and_a_missing_compiler_are_named_with_the_command_that_brings_them() {
        let sysroot = tempfile::tempdir().unwrap();
        let foreign = match Arch::here().unwrap() {
            Arch::Amd64 => Arch::Arm64,
            Arch::Arm64 => Arch::Amd64,
        };
        let target = foreign.missing(sysroot.path(), "".as_ref()).unwrap();
        assert!(target.contains("rustup target add"), "{target}");
        let lib = format!("lib/rustlib/{}/lib", foreign.triple());
        std::fs::create_dir_all(sysroot.path().join(lib)).unwrap();
        let compiler = foreign.missing(sysroot.path(), "".as_ref()).unwrap();
        assert!(compiler.contains("apt-get install gcc-"), "{compiler}");
        let path = sysroot.path().join(foreign.cross_compiler().unwrap());
        std::fs::write(path, "").unwrap();
        assert_eq!(
            foreign.missing(sysroot.path(), sysroot.path().as_os_str()),
            None
        );
    }
}
