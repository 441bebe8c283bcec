//! The worker gives up what serving does not take.
//!
//! Scripts are started by another process, which keeps all it has. Systems other than Linux have nothing of this. A step
//! that the system refuses is said, and the server runs.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod linux {
    //! Nothing to give up.

    use super::{Needs, Places, Step};

    pub(super) fn begin(_: Needs, _: &Places) -> Vec<Step> {
        Vec::new()
    }

    pub(super) fn finish(_: Needs) -> Vec<Step> {
        Vec::new()
    }
}
#[cfg(all(
    target_os = "linux",
    any(target_arch = "aarch64", target_arch = "x86_64")
))]
mod seccomp;
#[cfg(all(
    target_os = "linux",
    not(any(target_arch = "aarch64", target_arch = "x86_64"))
))]
mod seccomp {
    //! Nothing is known of the calls of other processors.

    use std::io;

    use super::Needs;

    pub(super) fn give_up(_: Needs) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

use std::io;
use std::path::PathBuf;

use sandserve_host::explain;

use crate::options::Options;

/// The work of a worker that takes more than reading files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Needs {
    /// Files come into being, by uploads or by scripts.
    writes_files: bool,
    /// A log is opened anew once it was moved away, with `--log-file`: it may be that of another user.
    opens_log: bool,
    /// Scripts of WebAssembly are compiled when they are asked for, with `--cgi`.
    compiles: bool,
}

impl Needs {
    fn of(options: &Options) -> Self {
        let mut dirs = options.cgi.iter().flat_map(|cgi| &cgi.dir_access);
        Needs {
            writes_files: options.upload || dirs.any(|dir| dir.writable),
            opens_log: options.log_file.is_some(),
            compiles: options.cgi.is_some(),
        }
    }
}

/// The step after which no file is read but those of [`Places`].
const READING: &str = "no file read but in the directories served";

/// The directories that a worker needs, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Places {
    /// The directories that are read; `None` where any file may be.
    read: Option<Vec<PathBuf>>,
    /// The directories that are written to.
    written: Vec<PathBuf>,
}

impl Places {
    fn of(options: &Options) -> Self {
        let of_scripts = || options.cgi.iter().flat_map(|cgi| &cgi.dir_access);
        let dirs = options.dirs.iter().map(|(path, _)| path);
        let read = [&options.directory].into_iter().chain(dirs);
        let read = read.chain(of_scripts().map(|dir| &dir.path)).cloned();
        let uploads = options.upload.then_some(&options.directory);
        let written = of_scripts().filter(|dir| dir.writable).map(|dir| &dir.path);
        Places {
            // A name may come to mean another directory. That takes another worker, which the one instance cannot have.
            read: (!options.single).then(|| read.collect()),
            written: uploads.into_iter().chain(written).cloned().collect(),
        }
    }
}

/// Something to give up, in the words of the log.
struct Step {
    name: String,
    done: io::Result<()>,
}

/// The things that a worker has given up.
#[derive(Default)]
pub(crate) struct Confinement {
    is_off: bool,
    needs: Needs,
    steps: Vec<Step>,
}

/// Gives up for good what `options` do not take, and the means to gain more, unless they say otherwise. It holds for this
/// thread and those that it makes from now on, and so must come before there are others. A user that the options name was
/// assumed before, and what is read besides the directories served is open: `/proc/self/pagemap`, for all engines.
pub(crate) fn begin(options: &Options) -> Confinement {
    let needs = Needs::of(options);
    let mut steps = Vec::new();
    if options.confine {
        steps.extend(options.user.as_ref().map(|user| Step {
            name: format!("user {user}"),
            done: Ok(()),
        }));
        steps.extend(linux::begin(needs, &Places::of(options)));
    }
    Confinement {
        is_off: !options.confine,
        needs,
        steps,
    }
}

impl Confinement {
    /// Keeps the memory of this process, with its keys, out of core files and from other processes of its user, and gives up
    /// the system calls that serving does not take, for all threads. It must come after all is compiled. The files of this
    /// process in `/proc` may belong to root from now on.
    pub(crate) fn finish(mut self) -> Self {
        if !self.is_off {
            self.steps.extend(linux::finish(self.needs));
        }
        self
    }

    /// Returns whether no file is read but in the directories that the options name.
    pub(crate) fn reads_directories_only(&self) -> bool {
        self.in_force().any(|step| step == READING)
    }

    /// Returns whether the system has refused a step.
    pub(crate) fn lacks(&self) -> bool {
        self.lacking().next().is_some()
    }

    /// Returns what is in force, in words.
    pub(crate) fn in_force(&self) -> impl Iterator<Item = &str> {
        let done = self.steps.iter().filter(|step| step.done.is_ok());
        done.map(|step| &*step.name)
    }

    /// Returns what the system has refused, in words, and why.
    pub(crate) fn lacking(&self) -> impl Iterator<Item = (&str, String)> {
        self.steps.iter().filter_map(|step| {
            let reason = explain(step.done.as_ref().err()?);
            Some((&*step.name, reason))
        })
    }

    /// Returns in one line what is in force and what is not, where the system has anything of this.
    pub(crate) fn told(&self) -> Option<String> {
        if self.is_off {
            return Some("confined: not at all, by --no-confine".into());
        }
        let done: Vec<_> = self.in_force().collect();
        let lacking = self.lacking();
        let failed: Vec<_> = lacking
            .map(|(step, reason)| format!("{step} ({reason})"))
            .collect();
        let done = done.join(", ");
        match (done.is_empty(), failed.is_empty()) {
            (true, true) => None,
            (_, true) => Some(format!("confined: {done}")),
            (true, _) => Some(format!(
                "confined: not at all; failed: {}",
                failed.join(", ")
            )),
            _ => Some(format!("confined: {done}; failed: {}", failed.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_what_is_in_force() {
        let step = |(name, works): &(&str, bool)| Step {
            name: (*name).into(),
            done: match works {
                true => Ok(()),
                false => Err(io::ErrorKind::Unsupported.into()),
            },
        };
        for (steps, told) in [
            (&[][..], None),
            (&[("a", true), ("b", true)], Some("confined: a, b")),
            (
                &[("a", true), ("b", false)],
                Some("confined: a; failed: b (unsupported)"),
            ),
            (
                &[("a", false)],
                Some("confined: not at all; failed: a (unsupported)"),
            ),
        ] {
            let confinement = Confinement {
                is_off: false,
                needs: Needs::default(),
                steps: steps.iter().map(step).collect(),
            };
            assert_eq!(confinement.told().as_deref(), told);
            assert_eq!(
                confinement.lacks(),
                told.is_some_and(|told| told.contains("failed"))
            );
        }
    }
}
