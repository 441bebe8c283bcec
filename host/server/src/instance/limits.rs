//! Bounds of the memory and the tables that a script may take.

use wasmtime::{ResourceLimiter, Result};

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
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        Ok(grow(&mut self.memory, current, desired, MAX_MEMORY))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        Ok(grow(&mut self.elements, current, desired, MAX_ELEMENTS))
    }
}

fn grow(taken: &mut usize, current: usize, desired: usize, max: usize) -> bool {
    let total = taken.saturating_add(desired.saturating_sub(current));
    if total <= max {
        *taken = total;
    }
    total <= max
}
