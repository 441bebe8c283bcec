//! The directories that a component finds: those that it was granted, in place of the stock function's.

use wasmtime::component::{Linker, Resource};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::preopens;

use crate::disk::{self, Storage};
use crate::instance::granted::Directory;
use crate::instance::state::State;

/// Replaces `get-directories`.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    let mut preopens = linker.instance("wasi:filesystem/preopens@0.2.12")?;
    preopens.func_wrap("get-directories", get_directories)
}

type Preopens = Vec<(Resource<Descriptor>, String)>;

/// Answers `get-directories`: scripts, which are granted nothing here, have a context of their own.
fn get_directories(mut store: StoreContextMut<'_, State>, (): ()) -> Result<(Preopens,)> {
    let state = store.data_mut();
    let Some(granted) = state.granted.clone() else {
        return Ok((preopens::Host::get_directories(&mut state.filesystem())?,));
    };
    let mut found = Vec::with_capacity(granted.directories.len());
    for Directory { dir, name, storage } in &granted.directories {
        if !storage.is_like(state.root) {
            disk::mark(&dir.dir, Storage::Far);
        }
        let descriptor = state.table.push(Descriptor::Dir(dir.clone()))?;
        found.push((descriptor, name.clone()));
    }
    Ok((found,))
}
