//! Files that an instance is receiving (`file_server::upload` of the handler crate). They are written, moved and
//! removed where a slow disk keeps nobody waiting but their sender. The instance moves or removes them itself, but for
//! one that fails, or that ends with the process: what is left then is removed here.

use wasmtime::component::{Linker, Resource};
use wasmtime::{AsContextMut, Result, StoreContextMut};
use wasmtime_wasi::filesystem::{Descriptor, OpenMode, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::types::{ErrorCode, HostDescriptor};

use crate::instance::aside::{at_once, wait_for};
use crate::instance::names::for_stock;
use crate::instance::state::State;
use crate::instance::stock;

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
        at_once(async { filesystem.unlink_file_at(directory, for_stock(path)?).await })
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
        at_once(async {
            let (path, new_name) = (for_stock(path)?, for_stock(new_name)?);
            filesystem
                .rename_at(directory, path, new_directory, new_name)
                .await
        })
    };
    let context = store.as_context_mut();
    let renamed = stock::aside(context, directory, Some(new_directory), rename).await?;
    if renamed.0.is_ok() {
        store.data_mut().received_files.retain_present(&name);
    }
    Ok(renamed)
}
