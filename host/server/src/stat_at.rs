//! `descriptor.stat-at` better than the stock one, which opens each step of a path: a listing looks at
//! every entry, so a name is looked at in one system call.

use rustix::fs::{AtFlags, FileType, Stat, statat};
use wasmtime::component::{Linker, Resource, WasmStr};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorStat, ErrorCode, HostDescriptor, PathFlags,
};

use crate::filesystem::{at_once, descriptor_stat, or_error_code};
use crate::state::State;

/// Replaces the function that this module is about.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    let mut types = linker.instance("wasi:filesystem/types@0.2.12")?;
    types.func_wrap("[method]descriptor.stat-at", stat_at)
}

fn stat_at(
    mut store: StoreContextMut<'_, State>,
    (descriptor, path_flags, path): (Resource<Descriptor>, PathFlags, WasmStr),
) -> Result<(Result<DescriptorStat, ErrorCode>,)> {
    let path = path.to_str(&store)?;
    let Descriptor::Dir(directory) = store.data().table.get(&descriptor)? else {
        return Ok((Err(ErrorCode::NotDirectory),));
    };
    let follow = path_flags.contains(PathFlags::SYMLINK_FOLLOW);
    if is_name(&path) {
        match statat(&directory.dir, &*path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if follow && is_link(&stat) => {}
            Ok(stat) => return Ok((Ok(descriptor_stat(stat)),)),
            Err(error) => return Ok((Err(std::io::Error::from(error).into()),)),
        }
    }
    #[cfg(target_os = "linux")]
    if let Some(stat) = crate::filesystem::beneath::stat(&directory.dir, path_flags, &path) {
        return Ok((stat.map(descriptor_stat),));
    }
    let path = path.into_owned();
    let mut filesystem = store.data_mut().filesystem();
    let stat = filesystem.stat_at(descriptor, path_flags, path);
    Ok((or_error_code(at_once(stat)?)?,))
}

/// Whether `path` cannot lead out of a directory, but by a link.
fn is_name(path: &str) -> bool {
    !matches!(path, "" | "." | "..") && !path.contains('/')
}

fn is_link(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
}
