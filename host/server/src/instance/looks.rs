//! What an instance has just looked at, so that the system is not asked for it again.

use std::fs::File;
use std::sync::{Arc, Weak};

use rustix::fs::Stat;
use wasmtime_wasi::filesystem::Descriptor;

use crate::instance::types::file_of;

/// The status of the descriptor opened last.
#[derive(Default)]
pub(crate) struct LookedAt(Option<Seen>);

/// A file, and the status that it had.
pub(crate) struct Seen {
    /// The file, held weakly so that it is closed in time; its address is not given to another meanwhile.
    file: Weak<File>,
    pub(crate) stat: Stat,
    told: bool,
}

impl LookedAt {
    pub(crate) fn new(descriptor: &Descriptor, stat: Stat) -> Self {
        LookedAt(Some(Seen {
            file: Arc::downgrade(file_of(descriptor)),
            stat,
            told: false,
        }))
    }

    pub(crate) fn get(&mut self, file: &Arc<File>) -> Option<&mut Seen> {
        (self.0.as_mut()).filter(|seen| seen.file.as_ptr() == Arc::as_ptr(file))
    }

    /// Returns the status of `file` once: who asks again wants to know what has changed.
    pub(crate) fn tell(&mut self, file: &Arc<File>) -> Option<Stat> {
        let seen = self.get(file).filter(|seen| !seen.told)?;
        seen.told = true;
        Some(seen.stat)
    }
}

/// The directory whose entries were looked at on a thread that may wait for the disk. Another look at one of them
/// is answered from memory: a listing takes two system calls for an entry, and not one and the three that ask the kernel
/// for no more than what it has in memory.
#[derive(Debug, Default)]
pub(crate) struct LookedThrough(Weak<File>);

impl LookedThrough {
    /// Returns whether the entries of `directory` that were told of last were all looked at.
    pub(crate) fn is(&self, directory: &Arc<File>) -> bool {
        // The address is not given to another as long as this is here.
        self.0.as_ptr() == Arc::as_ptr(directory)
    }

    /// Notes the directory whose entries were told of last, if all of them were looked at.
    pub(crate) fn note(&mut self, directory: Option<&Arc<File>>) {
        self.0 = directory.map_or_else(Weak::new, Arc::downgrade);
    }
}
