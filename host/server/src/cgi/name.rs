//! The name by which a script is run, which the script finds in `$0`.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Stat, lstat};
use rustix::process::geteuid;

use super::open::Opened;

/// Permission of the group, and of all others, to write.
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

/// Returns the real path of the script in `file`, beneath `root`, where nobody can give that name to another file who
/// cannot have the script do as they like anyway; `None` elsewhere. Whatever runs a script opens it by its name once more,
/// and must not find a file outside by then.
pub(super) fn real_path(root: &File, file: &Opened) -> Option<PathBuf> {
    let (root, path) = (linked(root)?, linked(file.file())?);
    let is_it = |stat: &Stat| {
        let own = file.stat();
        (stat.st_dev, stat.st_ino) == (own.st_dev, own.st_ino)
    };
    if !path.starts_with(&root) || !lstat(&path).is_ok_and(|stat| is_it(&stat)) {
        return None;
    }
    let user = geteuid().as_raw();
    let all_are_safe = path
        .ancestors()
        .skip(1)
        .take_while(|directory| directory.starts_with(&root))
        .all(|directory| lstat(directory).is_ok_and(|stat| is_safe(&stat, file.stat(), user)));
    all_are_safe.then_some(path)
}

/// Returns the path of an open file.
fn linked(file: &File) -> Option<PathBuf> {
    fs::read_link(Path::new("/proc/self/fd").join(file.as_raw_fd().to_string())).ok()
}

/// Returns whether whoever can change the names in `directory` could also write to `script`, or is root or the `user`
/// that the server runs as.
fn is_safe(directory: &Stat, script: &Stat, user: u32) -> bool {
    let is_trusted = [0, user, script.st_uid].contains(&directory.st_uid);
    let may = |stat: &Stat, who: u32| stat.st_mode & who != 0;
    let group = !may(directory, GROUP_WRITES)
        || (may(script, GROUP_WRITES) && script.st_gid == directory.st_gid);
    let others = !may(directory, OTHERS_WRITE) || may(script, OTHERS_WRITE);
    is_trusted && group && others
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_safe_where_no_others_can_change_its_names() {
        const USER: u32 = 1000;
        let stat = |(mode, uid, gid): (u32, u32, u32)| {
            let mut stat = lstat("/").expect("a directory");
            (stat.st_mode, stat.st_uid, stat.st_gid) = (mode, uid, gid);
            stat
        };
        for (directory, script, expected) in [
            ((0o40755, 0, 0), (0o100755, 0, 0), true),
            ((0o40755, USER, USER), (0o100755, USER, USER), true),
            ((0o40755, 0, 0), (0o100755, 33, 33), true),
            // The owner of the script may have it do anything.
            ((0o40755, 33, 33), (0o100755, 33, 33), true),
            ((0o40755, 33, 33), (0o100755, USER, USER), false),
            ((0o40775, USER, 50), (0o100755, USER, 50), false),
            ((0o40775, USER, 50), (0o100775, USER, 50), true),
            ((0o40775, USER, 50), (0o100775, USER, 51), false),
            ((0o41777, 0, 0), (0o100755, USER, USER), false),
            ((0o40777, USER, USER), (0o100777, USER, USER), true),
        ] {
            let found = is_safe(&stat(directory), &stat(script), USER);
            assert_eq!(found, expected, "{directory:?} {script:?}");
        }
    }
}
