//! The files that an instance has just opened or been told of, so that the system is not asked for them again.

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

/// The entry of a directory that the instance was told of last, if it was looked at on a thread that may wait for the
/// disk. Without it, a listing would take two system calls for an entry that a disk may have.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The directory, held weakly so that it is closed in time; its address is not given to another meanwhile.
    directory: Weak<File>,
    name: String,
    stat: Option<Stat>,
}

impl Told {
    /// Notes that the instance is told of the entry `name` of `directory`, which was looked at if there is a `stat`.
    pub(crate) fn note(&mut self, directory: &Weak<File>, name: &str, stat: Option<Stat>) {
        self.stat = stat;
        if stat.is_some() {
            self.directory.clone_from(directory);
            self.name.clear();
            self.name.push_str(name);
        }
    }

    /// Returns the status of the entry `name` of `directory`, if that is the one.
    pub(crate) fn of(&self, directory: &Arc<File>, name: &str) -> Option<Stat> {
        let is_it = self.directory.as_ptr() == Arc::as_ptr(directory) && self.name == name;
        self.stat.filter(|_| is_it)
    }

    /// Forgets the entry.
    pub(crate) fn forget(&mut self) {
        self.stat = None;
    }
}
