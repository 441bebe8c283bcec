//! Bounds of what an instance may hold of the host, and of the memory and the tables that a script may take.

use std::os::fd::RawFd;
use std::sync::LazyLock;

use rustix::process::Resource::Nofile;
use rustix::process::getrlimit;
use wasmtime::ResourceLimiter;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;

/// Most resources that an instance may hold at once, files, streams and pollables together: as many as a process has open
/// files where nothing else is said. A file that is read is up to three.
pub(crate) const MAX_RESOURCES: usize = 1024;
/// Most handles that an instance may hold, those of its own resources among them. A handle that is lent counts twice.
pub(crate) const MAX_HANDLES: usize = 4 * MAX_RESOURCES;
/// Resources that every instance may hold, also where descriptors run short: more than the file server ever has.
const FEW_RESOURCES: u32 = 32;

/// The most memory that a script may use, in bytes, and the most elements of its tables.
const MAX_MEMORY: usize = 64 * 1024 * 1024;
const MAX_ELEMENTS: usize = 1024 * 1024;

/// Memory in bytes and table elements that a script has taken, all its memories and tables together.
#[derive(Default)]
pub(crate) struct Limits {
    memory: usize,
    elements: usize,
}

impl ResourceLimiter for Limits {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(grow(&mut self.memory, current, desired, MAX_MEMORY))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(grow(&mut self.elements, current, desired, MAX_ELEMENTS))
    }
}

/// Gives an instance the resource `value`, which is `table`'s.
///
/// # Errors
/// [`ErrorCode::InsufficientMemory`], as WASI has no other word for it, where the instance holds [`MAX_RESOURCES`].
pub(crate) fn hold<T: Send + 'static>(
    table: &mut ResourceTable,
    value: T,
) -> Result<Resource<T>, ErrorCode> {
    table.push(value).map_err(|_| ErrorCode::InsufficientMemory)
}

/// Gives an instance the resource `value`, for which `descriptor` was opened.
///
/// # Errors
/// [`ErrorCode::InsufficientMemory`] where the instance holds [`MAX_RESOURCES`], or where so many descriptors are open
/// that others need the rest.
pub(crate) fn hold_opened<T: Send + 'static>(
    table: &mut ResourceTable,
    value: T,
    descriptor: RawFd,
) -> Result<Resource<T>, ErrorCode> {
    /// Descriptors that this process may have.
    static OPEN_FILES: LazyLock<u64> =
        LazyLock::new(|| getrlimit(Nofile).current.unwrap_or(u64::MAX));
    let held = hold(table, value)?;
    let descriptor = u64::try_from(descriptor).unwrap_or(0);
    if is_within_share(descriptor, held.rep(), *OPEN_FILES) {
        return Ok(held);
    }
    let _ = table.delete(held);
    Err(ErrorCode::InsufficientMemory)
}

/// Returns whether a file may stay open that has got this `descriptor` of `open_files`, the lowest that was free, and is
/// the resource `number` of its instance, likewise. Who holds many has to leave half of all to connections. Who holds few
/// leaves the last eighth to the process.
fn is_within_share(descriptor: u64, number: u32, open_files: u64) -> bool {
    let share = match number < FEW_RESOURCES {
        true => open_files - open_files / 8,
        false => open_files / 2,
    };
    descriptor < share
}

fn grow(taken: &mut usize, current: usize, desired: usize, max: usize) -> bool {
    let total = taken.saturating_add(desired.saturating_sub(current));
    if total <= max {
        *taken = total;
    }
    total <= max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_many_files_leaves_half_of_all_descriptors_and_who_holds_few_an_eighth() {
        for (descriptor, number, open_files, stays) in [
            (3, 0, 1024, true),
            (511, 1023, 1024, true),
            (512, 1023, 1024, false),
            (512, FEW_RESOURCES, 1024, false),
            (512, FEW_RESOURCES - 1, 1024, true),
            (895, 3, 1024, true),
            (896, 3, 1024, false),
            (1_000_000, 1023, u64::MAX, true),
        ] {
            let is_within = is_within_share(descriptor, number, open_files);
            assert_eq!(is_within, stays, "{descriptor} {number} of {open_files}");
        }
    }
}
