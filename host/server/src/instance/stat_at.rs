//! A `descriptor.stat-at` better than the stock one, which opens each step of a path: a listing looks at
//! every entry, so a name is looked at in one system call.

use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Stat, statat};
use wasmtime::component::{Linker, Resource, WasmStr};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi::filesystem::{Descriptor, Dir};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorStat, ErrorCode, HostDescriptor, PathFlags,
};

use crate::instance::aside::{at_once, or_error_code, wait_for_path, with_stock};
#[cfg(target_os = "linux")]
use crate::instance::beneath;
#[cfg(target_os = "linux")]
use crate::instance::granted;
use crate::instance::granted::Granted;
use crate::instance::names::{for_stock, of_system};
use crate::instance::state::State;
use crate::instance::types::{Now, descriptor_stat};

/// Replaces `descriptor.stat-at`.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    let mut types = linker.instance("wasi:filesystem/types@0.2.12")?;
    types.func_wrap_async("[method]descriptor.stat-at", |store, arguments| {
        Box::new(stat_at(store, arguments))
    })
}

async fn stat_at(
    mut store: StoreContextMut<'_, State>,
    (descriptor, path_flags, path): (Resource<Descriptor>, PathFlags, WasmStr),
) -> Result<(Result<DescriptorStat, ErrorCode>,)> {
    let path = path.to_str(&store)?;
    let state = store.data();
    let Descriptor::Dir(directory) = state.table.get(&descriptor)? else {
        return Ok((Err(ErrorCode::NotDirectory),));
    };
    if !path_flags.contains(PathFlags::SYMLINK_FOLLOW)
        && let Some(stat) = state.told.of(&directory.dir, &path)
    {
        drop(path);
        // A second look is for a change.
        store.data_mut().told.forget();
        return Ok((Ok(descriptor_stat(stat)),));
    }
    let storage = state.root.storage_of(&directory.dir);
    #[cfg(target_os = "linux")]
    let now = beneath::stat_now(&directory.dir, path_flags, &path, storage);
    #[cfg(not(target_os = "linux"))]
    let now = Now::InPlace;
    let aside = match now {
        Now::Ready(stat) => return Ok((stat.map(descriptor_stat),)),
        Now::Aside(storage) => Some(storage),
        Now::InPlace => None,
    };
    let (directory, path) = (directory.clone(), path.into_owned());
    let (to, way) = (directory.dir.clone(), (path_flags, path.clone()));
    let granted = state.granted.clone();
    let stat = move || stat_waiting(granted, directory, path_flags, path);
    let socket = state.socket();
    Ok((match aside {
        Some(storage) => {
            let call = wait_for_path(socket.as_deref(), storage, to, way, stat);
            let (stat, _) = Box::pin(call).await?;
            stat?
        }
        None => stat()?,
    },))
}

/// Looks at what `path` in `directory` names. Waits for the disk if need be.
fn stat_waiting(
    granted: Option<Arc<Granted>>,
    directory: Dir,
    path_flags: PathFlags,
    path: String,
) -> Result<Result<DescriptorStat, ErrorCode>> {
    #[cfg(not(target_os = "linux"))]
    drop(granted);
    let follow = path_flags.contains(PathFlags::SYMLINK_FOLLOW);
    if is_name(&path) {
        let stat = of_system(&path)
            .and_then(|name| statat(&directory.dir, &*name, AtFlags::SYMLINK_NOFOLLOW));
        match stat {
            Ok(stat) if follow && is_link(&stat) => {}
            Ok(stat) => return Ok(Ok(descriptor_stat(stat))),
            Err(error) => return Ok(Err(std::io::Error::from(error).into())),
        }
    }
    #[cfg(target_os = "linux")]
    if let Some(stat) = granted::stat(granted.as_deref(), &directory, path_flags, &path) {
        return Ok(stat.map(descriptor_stat));
    }
    with_stock(Descriptor::Dir(directory), |mut filesystem, directory| {
        let path = match for_stock(path) {
            Ok(path) => path,
            Err(error) => return Ok(Err(error)),
        };
        or_error_code(at_once(filesystem.stat_at(directory, path_flags, path))?)
    })?
}

/// Returns whether `path` is one name, and so cannot lead out of a directory but by a link.
fn is_name(path: &str) -> bool {
    !matches!(path, "" | "." | "..") && !path.contains('/')
}

fn is_link(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
}
