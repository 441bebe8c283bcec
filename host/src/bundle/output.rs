//! A file that is in its place when it is whole, and never in part.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process;

use agreed::incomplete::PREFIX;

use crate::explain;

/// The number of names that are tried for a file.
const MAX_ATTEMPTS: u32 = 1000;

/// A file that is being written, beside its place.
#[derive(Debug)]
pub(crate) struct Output {
    file: File,
    /// The name that it has until it is whole.
    partial: Option<PathBuf>,
    path: PathBuf,
}

impl Output {
    /// Begins the file that will be at `path`, in the place of one that may be there.
    ///
    /// # Errors
    /// In one line, why it cannot be written, as do the others.
    pub(crate) fn create(path: &Path) -> Result<Output, String> {
        match fs::metadata(path) {
            _ if path.file_name().is_none() => return Err(cannot(path, "it is a directory")),
            Ok(metadata) if metadata.is_dir() => return Err(cannot(path, "it is a directory")),
            // A device or a FIFO would be gone.
            Ok(metadata) if !metadata.is_file() => return Err(cannot(path, "it is no file")),
            Ok(_) | Err(_) => {}
        }
        let (file, partial) =
            create_beside(path).map_err(|error| cannot(path, &explain(&error)))?;
        Ok(Output {
            file,
            partial: Some(partial),
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
    pub(crate) fn finish(mut self) -> Result<u64, String> {
        let path = self.path.clone();
        let finished = || {
            let size = self.file.metadata()?.len();
            if let Some(partial) = &self.partial {
                fs::rename(partial, &path)?;
            }
            Ok(size)
        };
        let size = finished().map_err(|error| cannot(&path, &explain(&error)))?;
        self.partial = None;
        Ok(size)
    }
}

impl Drop for Output {
    /// Removes what is not whole.
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            let _ = fs::remove_file(partial);
        }
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
        let left = Output::create(&path).expect("a file");
        let mut output = Output::create(&path).expect("another file");
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
