//! The files that instances are receiving: each is removed when nobody has it any more, unless it was moved.

use std::fs::File;
use std::sync::{Arc, Mutex, Weak};

use agreed::incomplete::is_incomplete;
use rustix::fs::{AtFlags, unlinkat};

use crate::disk;
use crate::lock::lock;

/// The received files of all instances.
static RECEIVED: Mutex<Vec<Weak<Received>>> = Mutex::new(Vec::new());

/// Removes the files that instances are receiving: the process is about to exit under them. A disk that stalls
/// is not waited for.
pub(crate) fn remove_all() {
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

    /// Returns whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets the files that have just been moved or removed.
    pub(crate) fn retain_present(&mut self, name: &str) {
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
