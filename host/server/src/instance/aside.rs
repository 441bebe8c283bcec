//! Calls that may wait for a disk are made aside (`disk`), the stock functions of `wasi:filesystem` among them.

use std::fs::File;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use wasmtime::component::{Resource, ResourceTable};
use wasmtime::{Error, Result};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtx, WasiFilesystemCtxView};
use wasmtime_wasi::p2::FsError;
use wasmtime_wasi::p2::bindings::filesystem::types::{ErrorCode, PathFlags};

use crate::disk::{self, Storage};
#[cfg(target_os = "linux")]
use crate::instance::beneath;
use crate::transport::socket::Socket;

/// Calls the stock functions for `descriptor` on this thread, which may wait.
pub(crate) fn with_stock<T>(
    descriptor: Descriptor,
    call: impl FnOnce(WasiFilesystemCtxView, Resource<Descriptor>) -> T,
) -> Result<T> {
    let (mut context, mut table) = (WasiFilesystemCtx::default(), ResourceTable::new());
    let descriptor = table.push(descriptor)?;
    let filesystem = WasiFilesystemCtxView {
        ctx: &mut context,
        table: &mut table,
    };
    Ok(call(filesystem, descriptor))
}

/// Makes `call`, which is about files in `storage`, aside. `socket` is the connection that the instance which
/// waits for it serves.
///
/// # Errors
/// [`Stalled`](disk::Stalled).
pub(crate) async fn wait_for<T: Send + 'static>(
    socket: Option<&Socket>,
    storage: Storage,
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let call = disk::aside(storage, call);
    Ok(match socket {
        Some(socket) => socket.wait_for_disk(call).await,
        None => call.await,
    }?)
}

/// Makes `call`, about `path` beneath `directory`, aside: among the calls for `storage`, unless the path turns out
/// to lead to another file system. Returns the outcome, and the storage that it leads to.
///
/// # Errors
/// [`Stalled`](disk::Stalled).
pub(crate) async fn wait_for_path<T: Send + 'static>(
    socket: Option<&Socket>,
    storage: Storage,
    directory: Arc<File>,
    (path_flags, path): (PathFlags, String),
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<(T, Storage)> {
    let look_and_call = move || match storage {
        Storage::Local | Storage::Memory if leads_elsewhere(&directory, path_flags, &path) => {
            Err(call)
        }
        _ => Ok(call()),
    };
    match wait_for(socket, storage, look_and_call).await? {
        Ok(outcome) => Ok((outcome, storage)),
        Err(call) => {
            let outcome = wait_for(socket, Storage::Far, call).await?;
            Ok((outcome, Storage::Far))
        }
    }
}

/// Returns whether `path` leads from `directory` to another file system, or out of it. Waits only for the
/// file system that the directory is on.
fn leads_elsewhere(directory: &File, path_flags: PathFlags, path: &str) -> bool {
    #[cfg(target_os = "linux")]
    return beneath::leads_elsewhere(directory, path_flags, path);
    #[cfg(not(target_os = "linux"))]
    false
}

/// Returns the output of `future`, which never waits: the stock functions block in place
/// (`allow_blocking_current_thread`).
pub(crate) fn at_once<F: Future>(future: F) -> Result<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => Err(Error::msg("a file system call waits")),
    }
}

/// Returns what a stock function has answered.
///
/// # Errors
/// An error that is none of the file system.
pub(crate) fn or_error_code<T>(result: Result<T, FsError>) -> Result<Result<T, ErrorCode>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => error.downcast().map(Err),
    }
}
