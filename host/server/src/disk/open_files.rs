//! Files that were opened a moment ago, and how much of them was seen in memory. To look whether a path still
//! names one of them takes a fraction of the time of opening it again. They are kept for one to two rounds:
//! so short that nobody notices.
//!
//! A directory on the path might have become a link out of the directory meanwhile. But only a file that was
//! just opened beneath the directory is ever found, and none is found for longer than two rounds.

use std::cell::RefCell;
use std::mem;
use std::sync::Arc;

use agreed::file_names;
use rustix::fs::{AtFlags, Stat, statat};
use wasmtime_wasi::filesystem::File;

use crate::pace::round;

/// Most files that are kept on each core.
const MAX_FILES: usize = 16;

thread_local! {
    /// The kept files of this core.
    static OPEN_FILES: RefCell<Vec<OpenFile>> = const { RefCell::new(Vec::new()) };
}

struct OpenFile {
    directory: Arc<std::fs::File>,
    path: String,
    file: File,
    stat: Stat,
    /// Bytes from the start of the file on that were seen in memory.
    seen: u64,
    is_old: bool,
}

/// Returns the file that `path` names in `directory`, and its status now. `None` if it is not one that was
/// kept, has changed in any way since, or is named by a symbolic link.
pub(crate) fn find(directory: &Arc<std::fs::File>, path: &str) -> Option<(File, Stat)> {
    OPEN_FILES.with_borrow(|files| {
        let kept = files
            .iter()
            .find(|kept| kept.path == path && Arc::ptr_eq(&kept.directory, directory))?;
        let name = file_names::to_bytes(path)?;
        let stat = statat(directory, &*name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        is_unchanged(&kept.stat, &stat).then(|| (kept.file.clone(), stat))
    })
}

/// Keeps `file`, opened as `path` of `directory` and seen to be `stat`, open for a moment.
pub(crate) fn keep(directory: &Arc<std::fs::File>, path: &str, file: &File, stat: Stat) {
    let is_first = OPEN_FILES.with_borrow_mut(|files| {
        let was_empty = files.is_empty();
        files.retain(|kept| kept.path != path);
        if files.len() < MAX_FILES {
            files.push(OpenFile {
                directory: directory.clone(),
                path: path.into(),
                file: file.clone(),
                stat,
                seen: 0,
                is_old: false,
            });
        }
        was_empty
    });
    if is_first {
        round::begin(close_old, close_all);
    }
}

/// Returns how many bytes from the start of `file`, if it is kept, were seen in memory.
pub(crate) fn seen(file: &Arc<std::fs::File>) -> u64 {
    OPEN_FILES.with_borrow(|files| {
        let mut files = files.iter();
        let kept = files.find(|kept| Arc::ptr_eq(&kept.file.file, file));
        kept.map_or(0, |kept| kept.seen)
    })
}

/// Notes that the first `size` bytes of `file` were seen in memory.
pub(crate) fn note_seen(file: &Arc<std::fs::File>, size: u64) {
    OPEN_FILES.with_borrow_mut(|files| {
        let mut files = files.iter_mut();
        if let Some(kept) = files.find(|kept| Arc::ptr_eq(&kept.file.file, file)) {
            kept.seen = kept.seen.max(size);
        }
    });
}

/// Returns whether `before` and `now` are of one file, whose content and permissions are as they were: a
/// change of these changes `st_ctime`. No other file has its number while it is open.
fn is_unchanged(before: &Stat, now: &Stat) -> bool {
    let identity = |stat: &Stat| (stat.st_dev, stat.st_ino, stat.st_ctime, stat.st_ctime_nsec);
    identity(before) == identity(now)
}

/// Closes the kept files that were here a round ago. Returns false if none are left.
fn close_old() -> bool {
    OPEN_FILES.with_borrow_mut(|files| {
        files.retain_mut(|file| !mem::replace(&mut file.is_old, true));
        !files.is_empty()
    })
}

/// Closes all kept files: the runtime of this core has ended, and nobody closes them later.
fn close_all() {
    let files = OPEN_FILES.try_with(|files| mem::take(&mut *files.borrow_mut()));
    drop(files);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    use rustix::fs::fstat;
    use wasmtime_wasi::FsPerms;
    use wasmtime_wasi::filesystem::OpenMode;

    use crate::pace::round::ROUND;

    fn directory_with_file() -> (tempfile::TempDir, Arc<fs::File>) {
        let directory = tempfile::tempdir().unwrap();
        let opened = Arc::new(fs::File::open(&directory).unwrap());
        fs::write(directory.path().join("file"), "content").unwrap();
        (directory, opened)
    }

    fn open_and_keep(directory: &Arc<fs::File>, path: &Path) {
        let file = fs::File::open(path).unwrap();
        let stat = fstat(&file).unwrap();
        let file = File::new(file, FsPerms::ReadOnly, OpenMode::READ, true);
        keep(directory, "file", &file, stat);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_kept_for_a_moment() {
        let (path, directory) = directory_with_file();
        open_and_keep(&directory, &path.path().join("file"));
        let (_, stat) = find(&directory, "file").unwrap();
        assert_eq!(stat.st_size, 7);
        tokio::time::sleep(3 * ROUND).await;
        assert!(find(&directory, "file").is_none());
        assert!(OPEN_FILES.with_borrow(Vec::is_empty));
        // The next file is kept for a moment as well.
        open_and_keep(&directory, &path.path().join("file"));
        assert!(find(&directory, "file").is_some());
        tokio::time::sleep(3 * ROUND).await;
        assert!(OPEN_FILES.with_borrow(Vec::is_empty));
    }

    #[test]
    fn a_file_is_not_kept_beyond_its_runtime() {
        let (path, directory) = directory_with_file();
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().unwrap();
        runtime.block_on(async { open_and_keep(&directory, &path.path().join("file")) });
        assert!(find(&directory, "file").is_some());
        drop(runtime);
        assert!(OPEN_FILES.with_borrow(Vec::is_empty));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_seen_of_a_kept_file_is_known_for_as_long() {
        let (path, directory) = directory_with_file();
        open_and_keep(&directory, &path.path().join("file"));
        let (kept, _) = find(&directory, "file").unwrap();
        assert_eq!(seen(&kept.file), 0);
        note_seen(&kept.file, 7);
        note_seen(&kept.file, 3);
        assert_eq!(seen(&kept.file), 7);
        tokio::time::sleep(3 * ROUND).await;
        assert_eq!(seen(&kept.file), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_its_path_no_longer_names_is_not_found() {
        let (path, directory) = directory_with_file();
        let (file, other) = (path.path().join("file"), path.path().join("other"));
        open_and_keep(&directory, &file);
        fs::write(&other, "content").unwrap();
        fs::rename(&other, &file).unwrap();
        assert!(find(&directory, "file").is_none(), "replaced");
        open_and_keep(&directory, &file);
        fs::remove_file(&file).unwrap();
        assert!(find(&directory, "file").is_none(), "removed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_to_it_does_not_stand_for_it() {
        let (path, directory) = directory_with_file();
        let (file, moved) = (path.path().join("file"), path.path().join("moved"));
        fs::hard_link(&file, &moved).unwrap();
        open_and_keep(&directory, &file);
        assert!(find(&directory, "file").is_some());
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink(&moved, &file).unwrap();
        open_and_keep(&directory, &file);
        assert!(find(&directory, "file").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_path_of_another_directory_is_another_file() {
        let (path, directory) = directory_with_file();
        let (_other_path, other) = directory_with_file();
        open_and_keep(&directory, &path.path().join("file"));
        assert!(find(&other, "file").is_none());
        assert!(find(&directory, "file").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn not_many_are_kept() {
        let (path, directory) = directory_with_file();
        let file = fs::File::open(path.path().join("file")).unwrap();
        let stat = fstat(&file).unwrap();
        let file = File::new(file, FsPerms::ReadOnly, OpenMode::READ, true);
        for number in 0..2 * MAX_FILES {
            keep(&directory, &number.to_string(), &file, stat);
        }
        assert_eq!(OPEN_FILES.with_borrow(Vec::len), MAX_FILES);
    }
}
