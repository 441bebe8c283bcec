//! A file that is in its place when it is whole, and never in part.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Mutex, MutexGuard, PoisonError};

use agreed::incomplete::PREFIX;

use crate::explain;

/// The number of names that are tried for a file.
const MAX_ATTEMPTS: u32 = 1000;

/// The name that an output has until it is whole; none before and after.
#[derive(Debug, Default)]
pub struct Partial(Mutex<Option<PathBuf>>);

impl Partial {
    /// Removes an output that is not whole. None is begun or finished while the result is kept: a signal that ends the
    /// process keeps it until then.
    pub fn remove(&self) -> impl Sized {
        let mut name = self.lock();
        if let Some(name) = name.take() {
            let _ = fs::remove_file(name);
        }
        name
    }

    fn lock(&self) -> MutexGuard<'_, Option<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file that is being written, beside its place.
#[derive(Debug)]
pub(crate) struct Output<'p> {
    file: File,
    partial: &'p Partial,
    path: PathBuf,
}

impl<'p> Output<'p> {
    /// Begins the file that will be at `path`, in the place of one that may be there.
    ///
    /// # Errors
    /// In one line, why it cannot be written, as do the others.
    pub(crate) fn create(path: &Path, partial: &'p Partial) -> Result<Self, String> {
        match fs::metadata(path) {
            _ if path.file_name().is_none() => return Err(cannot(path, "it is a directory")),
            Ok(metadata) if metadata.is_dir() => return Err(cannot(path, "it is a directory")),
            // A device or a FIFO would be gone.
            Ok(metadata) if !metadata.is_file() => return Err(cannot(path, "it is no file")),
            Ok(_) | Err(_) => {}
        }
        let mut name = partial.lock();
        let (file, beside) = create_beside(path).map_err(|error| cannot(path, &explain(&error)))?;
        *name = Some(beside);
        drop(name);
        Ok(Output {
            file,
            partial,
            path: path.to_owned(),
        })
    }

    /// Writes `bytes` behind all that was written.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let written = self.file.write_all(bytes);
        written.map_err(|error| cannot(&self.path, &explain(&error)))
    }

    /// Writes `bytes` in the place of those from `position` on. Nothing is written after that.
    pub(crate) fn write_at(&mut self, position: u64, bytes: &[u8]) -> Result<(), String> {
        let sought = self.file.seek(SeekFrom::Start(position));
        sought.map_err(|error| cannot(&self.path, &explain(&error)))?;
        self.write(bytes)
    }

    /// Moves the file to its place. Returns its size.
    pub(crate) fn finish(self) -> Result<u64, String> {
        let mut name = self.partial.lock();
        let moved = self.file.metadata().and_then(|metadata| {
            if let Some(beside) = &*name {
                fs::rename(beside, &self.path)?;
            }
            Ok(metadata.len())
        });
        let size = moved.map_err(|error| cannot(&self.path, &explain(&error)))?;
        *name = None;
        drop(name);
        Ok(size)
    }
}

impl Drop for Output<'_> {
    /// Removes what is not whole.
    fn drop(&mut self) {
        drop(self.partial.remove());
    }
}

/// Creates a file in the directory of `path`, by a name that is not served or bundled if it is left there.
fn create_beside(path: &Path) -> io::Result<(File, PathBuf)> {
    let mut attempt = 0;
    loop {
        let name = format!("{PREFIX}{}-{attempt}", process::id());
        let partial = path.with_file_name(name);
        let created = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&partial);
        match created {
            // In a container, processes that were killed had the same number.
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists && attempt < MAX_ATTEMPTS =>
            {
                attempt += 1;
            }
            created => return created.map(|file| (file, partial)),
        }
    }
}

fn cannot(path: &Path, reason: &str) -> String {
    format!("cannot write `{}`: {reason}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_of_the_same_number_has_left_is_not_in_the_way() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("site.wasm");
        let [of_left, partial] = [Partial::default(), Partial::default()];
        let left = Output::create(&path, &of_left).expect("a file");
        let mut output = Output::create(&path, &partial).expect("another file");
        output.write(b"whole").expect("written");
        assert_eq!(output.finish(), Ok(5));
        assert_eq!(fs::read(&path).expect("a file"), b"whole");
        drop(left);
        assert_eq!(
            fs::read_dir(directory.path()).expect("a directory").count(),
            1
        );
    }
}
