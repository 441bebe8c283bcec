//! A file that is in its place when it is whole, and never in part.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process;

use agreed::incomplete::PREFIX;

use crate::explain;

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
        if path.is_dir() || path.file_name().is_none() {
            return Err(cannot(path, "it is a directory"));
        }
        // What is left of a process that was killed is not served or bundled.
        let partial = path.with_file_name(format!("{PREFIX}{}", process::id()));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&partial)
            .map_err(|error| cannot(path, &explain(&error)))?;
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

fn cannot(path: &Path, reason: &str) -> String {
    format!("cannot write `{}`: {reason}", path.display())
}
