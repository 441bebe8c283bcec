//! Errors of the system as people read them: the reason, and what to do about it.

use std::fmt::Display;
use std::io;

use rustix::io::Errno;

/// Returns `error` in one line, without the number of the system, and with what to do where that is known.
pub fn explain(error: &io::Error) -> String {
    let reason = reason(error);
    match advice(error) {
        Some(advice) => format!("{reason}; {advice}"),
        None => reason,
    }
}

/// Returns `error` as people read it: in one line, without the number of the system.
pub fn reason(error: impl Display) -> String {
    let text = error.to_string();
    let text = text.split(" (os error ").next().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn advice(error: &io::Error) -> Option<&'static str> {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE) => {
            return Some("raise the limit of open files, for example with `ulimit -n 1024`");
        }
        // Of processes and threads that cannot be started.
        Some(Errno::AGAIN) => return Some("raise the limit of processes, see `ulimit -u`"),
        _ => {}
    }
    Some(match error.kind() {
        io::ErrorKind::OutOfMemory => "raise the limit of memory, see `ulimit -v`",
        io::ErrorKind::NotFound => "check the name",
        io::ErrorKind::PermissionDenied => "give the user of this server the right to it",
        io::ErrorKind::IsADirectory => "name a file",
        io::ErrorKind::NotADirectory => "name a directory",
        io::ErrorKind::StorageFull => "make room on the disk",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_say_what_to_do() {
        for (error, expected) in [
            (
                Errno::NOENT.into(),
                "No such file or directory; check the name",
            ),
            (Errno::ISDIR.into(), "Is a directory; name a file"),
            (
                Errno::MFILE.into(),
                "Too many open files; raise the limit of open files, for example with `ulimit -n 1024`",
            ),
            (Errno::INVAL.into(), "Invalid argument"),
            (io::Error::other("its own words"), "its own words"),
        ] {
            assert_eq!(explain(&error), expected);
        }
    }
}
