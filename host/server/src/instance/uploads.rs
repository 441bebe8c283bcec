//! Files that an instance is receiving (`file_server::upload` of the handler crate). They are written, moved and removed where a slow disk
//! keeps nobody waiting but their sender. The instance moves or removes them itself, but for one that fails, or that
//! ends with the process: what is left then is removed here.

use std::fs::File;
use std::sync::{Arc, Mutex, Weak};

use agreed::incomplete::is_incomplete;
use rustix::fs::{AtFlags, unlinkat};
use wasmtime::component::{Linker, Resource};
use wasmtime::{AsContextMut, Result, StoreContextMut};
use wasmtime_wasi::filesystem::{Descriptor, OpenMode, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::types::{ErrorCode, HostDescriptor};

use crate::disk;
use crate::instance::filesystem::{at_once, wait_for};
use crate::instance::state::State;
use crate::instance::stock;
use crate::lock::lock;

/// The received files of all instances.
static RECEIVED: Mutex<Vec<Weak<Received>>> = Mutex::new(Vec::new());

/// Replaces the functions that write a file that is being received, and that remove or move it.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    let mut types = linker.instance("wasi:filesystem/types@0.2.12")?;
    types.func_wrap_async("[method]descriptor.write", |store, arguments| {
        Box::new(write(store, arguments))
    })?;
    types.func_wrap_async("[method]descriptor.unlink-file-at", |store, arguments| {
        Box::new(unlink_file_at(store, arguments))
    })?;
    types.func_wrap_async("[method]descriptor.rename-at", |store, arguments| {
        Box::new(rename_at(store, arguments))
    })
}

/// Removes the files that instances are receiving: the process is about to exit under them. A disk that stalls
/// is not waited for.
pub fn remove_received() {
    let received = lock(&RECEIVED);
    for received in received.iter().filter_map(Weak::upgrade) {
        received.remove();
    }
    drop(received);
    disk::settle();
}

/// The files that an instance is receiving. They are removed when the instance goes.
#[derive(Default)]
pub(crate) struct ReceivedFiles(Vec<Arc<Received>>);

impl ReceivedFiles {
    /// Adds a file that is being received.
    pub(crate) fn insert(&mut self, received: Arc<Received>) {
        self.0.push(received);
    }

    /// Forgets the files that have just been moved or removed.
    fn retain_present(&mut self, name: &str) {
        self.0.retain(|received| received.name != name);
    }
}

/// A file that is being received. It is removed when nobody has this value any more.
pub(crate) struct Received {
    directory: Arc<File>,
    name: String,
}

impl Received {
    /// Returns the value that stands for the file `name`, which was just made in `directory`, if it is one
    /// that is being received.
    pub(crate) fn of(directory: &Arc<File>, name: &str) -> Option<Arc<Self>> {
        if name.contains('/') || !is_incomplete(name) {
            return None;
        }
        let received = Arc::new(Received {
            directory: directory.clone(),
            name: name.into(),
        });
        let mut all = lock(&RECEIVED);
        all.retain(|received| received.strong_count() > 0);
        all.push(Arc::downgrade(&received));
        Some(received)
    }

    /// Has the file removed, where that keeps nobody.
    fn remove(&self) {
        let (directory, name) = (self.directory.clone(), self.name.clone());
        disk::later(move || {
            // The file may have been moved meanwhile.
            let _ = unlinkat(&directory, &name, AtFlags::empty());
        });
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Answers `descriptor.write`, beside the thread that serves connections.
async fn write(
    mut store: StoreContextMut<'_, State>,
    (descriptor, bytes, offset): (Resource<Descriptor>, Vec<u8>, u64),
) -> Result<(Result<u64, ErrorCode>,)> {
    let state = store.data_mut();
    let file = match state.table.get(&descriptor)? {
        Descriptor::File(file) if file.open_mode.contains(OpenMode::WRITE) => file.file.clone(),
        _ => return Ok((Err(ErrorCode::BadDescriptor),)),
    };
    let (storage, socket) = (state.root.storage_of(&file), state.socket());
    let write = move || rustix::io::pwrite(&*file, &bytes, offset);
    let written = wait_for(socket.as_deref(), storage, write).await?;
    Ok((written
        .map(|written| written as u64)
        .map_err(|error| std::io::Error::from(error).into()),))
}

type ErrorReturn = Result<(Result<(), ErrorCode>,)>;

async fn unlink_file_at(
    mut store: StoreContextMut<'_, State>,
    (directory, name): (Resource<Descriptor>, String),
) -> ErrorReturn {
    let path = name.clone();
    let unlink = move |mut filesystem: WasiFilesystemCtxView, directory, _| {
        at_once(filesystem.unlink_file_at(directory, path))
    };
    let unlinked = stock::aside(store.as_context_mut(), directory, None, unlink).await?;
    store.data_mut().received_files.retain_present(&name);
    Ok(unlinked)
}

type RenameAt = (Resource<Descriptor>, String, Resource<Descriptor>, String);

async fn rename_at(
    mut store: StoreContextMut<'_, State>,
    (directory, name, new_directory, new_name): RenameAt,
) -> ErrorReturn {
    let path = name.clone();
    let rename = move |mut filesystem: WasiFilesystemCtxView, directory, new_directory| {
        at_once(filesystem.rename_at(directory, path, new_directory, new_name))
    };
    let context = store.as_context_mut();
    let renamed = stock::aside(context, directory, Some(new_directory), rename).await?;
    if renamed.0.is_ok() {
        store.data_mut().received_files.retain_present(&name);
    }
    Ok(renamed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_goes_with_the_instance() {
        let directory = tempfile::tempdir().expect("a directory");
        let names = [".sandserve-upload-1", ".sandserve-upload-2", "other"];
        for name in names {
            File::create(directory.path().join(name)).expect("a file");
        }
        let handle = Arc::new(File::open(directory.path()).expect("a directory"));
        let mut received = ReceivedFiles::default();
        for name in names {
            if let Some(file) = Received::of(&handle, name) {
                received.insert(file);
            }
        }
        let is_there = |name| directory.path().join(name).exists();
        std::fs::rename(
            directory.path().join(names[0]),
            directory.path().join("moved"),
        )
        .expect("moved");
        received.retain_present(names[0]);
        assert!(is_there(names[1]));
        drop(received);
        disk::settle();
        assert_eq!(names.map(is_there), [false, false, true]);
        assert!(is_there("moved"));
    }
}
