//! The stock functions of `wasi:filesystem` that take a path, called where they keep nobody else waiting.

use agreed::file_names;
use wasmtime::component::{Linker, Resource};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView};
use wasmtime_wasi::p2::FsError;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    ErrorCode, HostDescriptor, NewTimestamp, PathFlags,
};

use crate::instance::aside::{at_once, or_error_code, wait_for, with_stock};
use crate::instance::names::for_stock;
use crate::instance::state::State;
use crate::instance::types::file_of;

type Here = Resource<Descriptor>;

/// Replaces the functions of `wasi:filesystem` that take a path and that no other module replaces.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    let mut types = linker.instance("wasi:filesystem/types@0.2.12")?;
    types.func_wrap_async(
        "[method]descriptor.create-directory-at",
        |store, (here, path): (Here, String)| {
            Box::new(aside(store, here, None, |mut filesystem, here, _| {
                at_once(async { filesystem.create_directory_at(here, for_stock(path)?).await })
            }))
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.remove-directory-at",
        |store, (here, path): (Here, String)| {
            Box::new(aside(store, here, None, |mut filesystem, here, _| {
                at_once(async { filesystem.remove_directory_at(here, for_stock(path)?).await })
            }))
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.readlink-at",
        |store, (here, path): (Here, String)| {
            Box::new(aside(store, here, None, |mut filesystem, here, _| {
                at_once(async {
                    let target = filesystem.readlink_at(here, for_stock(path)?).await?;
                    Ok(file_names::from_bytes(target.as_bytes()).into_owned())
                })
            }))
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.symlink-at",
        |store, (here, old, new): (Here, String, String)| {
            Box::new(aside(store, here, None, |mut filesystem, here, _| {
                at_once(async {
                    let (old, new) = (for_stock(old)?, for_stock(new)?);
                    filesystem.symlink_at(here, old, new).await
                })
            }))
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.link-at",
        |store, (here, flags, old, there, new): (Here, PathFlags, String, Here, String)| {
            let call = move |mut filesystem: WasiFilesystemCtxView, here, there| {
                at_once(async {
                    let (old, new) = (for_stock(old)?, for_stock(new)?);
                    filesystem.link_at(here, flags, old, there, new).await
                })
            };
            Box::new(aside(store, here, Some(there), call))
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.set-times-at",
        |store, (here, flags, path, accessed, modified): SetTimesAt| {
            let call = move |mut filesystem: WasiFilesystemCtxView, here, _| {
                at_once(async {
                    let path = for_stock(path)?;
                    filesystem
                        .set_times_at(here, flags, path, accessed, modified)
                        .await
                })
            };
            Box::new(aside(store, here, None, call))
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.metadata-hash-at",
        |store, (here, flags, path): (Here, PathFlags, String)| {
            Box::new(aside(store, here, None, move |mut filesystem, here, _| {
                at_once(async {
                    let path = for_stock(path)?;
                    filesystem.metadata_hash_at(here, flags, path).await
                })
            }))
        },
    )
}

type SetTimesAt = (Here, PathFlags, String, NewTimestamp, NewTimestamp);

/// Makes `call` with the stock functions aside, for what `here` and `there`, or `here` once more, stand for.
pub(crate) async fn aside<T: Send + 'static>(
    mut store: StoreContextMut<'_, State>,
    here: Here,
    there: Option<Here>,
    call: impl FnOnce(WasiFilesystemCtxView, Here, Here) -> Result<Result<T, FsError>> + Send + 'static,
) -> Result<(Result<T, ErrorCode>,)> {
    let state = store.data_mut();
    let there = state.table.get(there.as_ref().unwrap_or(&here))?.clone();
    let here = state.table.get(&here)?.clone();
    let (storage, socket) = (state.root.storage_of(file_of(&here)), state.socket());
    let call = move || {
        with_stock(here, |filesystem, here| {
            let there = filesystem.table.push(there)?;
            or_error_code(call(filesystem, here, there)?)
        })?
    };
    Ok((wait_for(socket.as_deref(), storage, call).await??,))
}
