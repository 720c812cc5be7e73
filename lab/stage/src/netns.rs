//! Network namespaces without names: kept by a descriptor, entered by a thread of their own.

use std::{
    fs::File,
    io,
    os::fd::{BorrowedFd, OwnedFd},
    thread,
};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// A new namespace with nothing in it; it vanishes with the last descriptor and process in it.
///
/// # Errors
/// When the process may not make one.
pub(crate) fn fresh() -> io::Result<OwnedFd> {
    on_a_thread(|| {
        leave(UnshareFlags::NEWNET)?;
        Ok(File::open("/proc/thread-self/ns/net")?.into())
    })
}

/// Runs `work` inside `netns`. Sockets it opens and programs it starts stay there.
///
/// # Errors
/// When the namespace cannot be entered.
pub(crate) fn inside<T: Send>(
    netns: BorrowedFd<'_>,
    work: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    on_a_thread(|| {
        move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))?;
        Ok(work())
    })
}

/// Gives the calling thread namespaces of its own.
///
/// # Errors
/// When the process may not.
#[expect(
    deprecated,
    reason = "deprecated because CLONE_FILES is unsound through it; namespaces are not, and the lab has no unsafe code"
)]
pub(crate) fn leave(what: UnshareFlags) -> io::Result<()> {
    Ok(rustix::thread::unshare(what)?)
}

/// The thread ends in the namespace it entered, so nothing has to be restored.
fn on_a_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let entered = scope.spawn(work).join();
        entered.unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
    })
}
