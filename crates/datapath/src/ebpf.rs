//! An eBPF object in the kernel: its programs loaded, its maps taken out by name and type.
//!
//! Knows no program's purpose and no map's layout.

use std::os::fd::{AsFd, BorrowedFd};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{Map, MapError},
    programs::{ProgramError, SchedClassifier},
};

use crate::{
    error::{Error, Result},
    filter::Hook,
};

/// BPF_ANY (include/uapi/linux/bpf.h): make the entry or replace it.
pub(crate) const ANY: u64 = 0;

/// A loaded object. The kernel keeps programs and maps as long as this or a filter holds them.
pub(crate) struct Loaded(Ebpf);

impl Loaded {
    /// Loads `object` and its programs for `hooks`, with empty maps.
    pub(crate) fn load(object: &[u8], hooks: &[Hook]) -> Result<Self> {
        let mut object = EbpfLoader::new().load(object).map_err(failed("object"))?;
        for hook in hooks {
            let loaded = classifier(&mut object, *hook).and_then(SchedClassifier::load);
            loaded.map_err(failed("programs"))?;
        }
        Ok(Self(object))
    }

    /// Descriptor and id of the program for `hook`.
    pub(crate) fn program(&mut self, hook: Hook) -> Result<(BorrowedFd<'_>, u32)> {
        let program = classifier(&mut self.0, hook).map_err(failed("programs"))?;
        let id = program.info().map_err(failed("programs"))?.id();
        Ok((program.fd().map_err(failed("programs"))?.as_fd(), id))
    }

    /// Takes a map out; its type checks that the sizes agree with the object's.
    pub(crate) fn take<M: TryFrom<Map, Error = MapError>>(
        &mut self,
        map: &'static str,
    ) -> Result<M> {
        let missing = || MapError::InvalidName { name: map.into() };
        let taken = self.0.take_map(map).ok_or_else(missing);
        taken.and_then(M::try_from).map_err(failed("maps"))
    }
}

fn classifier(
    object: &mut Ebpf,
    hook: Hook,
) -> std::result::Result<&mut SchedClassifier, ProgramError> {
    let program = object.program_mut(hook.program);
    program.ok_or(ProgramError::NotLoaded)?.try_into()
}

fn failed<E: Into<EbpfError>>(step: &'static str) -> impl FnOnce(E) -> Error {
    move |source| Error::Bpf {
        step,
        source: Box::new(source.into()),
    }
}

pub(crate) fn map_failed(doing: String, map: &'static str) -> impl FnOnce(MapError) -> Error {
    move |source| Error::Map {
        doing,
        map,
        source: Box::new(source),
    }
}

/// Removing what is not there leaves the map as wanted.
pub(crate) fn absent(
    removed: std::result::Result<(), MapError>,
) -> std::result::Result<(), MapError> {
    match removed {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(())
        }
        other => other,
    }
}
