//! Privileges that a process on Linux can give up: capabilities, by Landlock, core files, and system calls.

use std::path::PathBuf;
use std::{env, io};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
    path_beneath_rules,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs,
};

use super::{Needs, Places, READING, Step, seccomp};

/// The version of Landlock that has all of the rights to files which are given up.
const FILES: ABI = ABI::V5;
/// The version of Landlock that has rights to TCP.
const TCP: ABI = ABI::V4;
/// The version of Landlock that has scopes.
const SCOPES: ABI = ABI::V6;

/// Files of the system that are read whatever is served: time zones, for the log, and while a worker starts the memory
/// and the processors that there are.
const OF_SYSTEM: [&str; 8] = [
    "/etc/localtime",
    "/etc/zoneinfo",
    "/usr/share/lib/zoneinfo",
    "/usr/share/zoneinfo",
    "/proc/meminfo",
    "/proc/self/cgroup",
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
];

const FILES_STEP: &str = "no file written or run";
const OTHER_FILES_STEP: &str = "no file written elsewhere or run";
const TCP_STEP: &str = "no TCP port bound or connected to";
const OTHERS_STEP: &str = "no other process signalled";
const CALLS_STEP: &str = "no system calls but those of serving";
const CALLS_AND_CODE_STEP: &str = "no system calls but those of serving and of compiling scripts";

pub(super) fn begin(needs: Needs, places: &Places) -> Vec<Step> {
    let (capabilities, dropped) = drop_capabilities(needs);
    let mut steps = vec![
        step("no new privileges", set_no_new_privs(true)),
        step(&capabilities, dropped),
    ];
    if let Some(read) = &places.read {
        steps.push(step(READING, give_up_reading(read, &places.written)));
    }
    // A log is written to by its name, which may lead anywhere by then. A directory that is written to must be one that
    // no other can take the place of.
    if !needs.opens_log && (places.written.is_empty() || places.read.is_some()) {
        let name = match places.written.is_empty() {
            true => FILES_STEP,
            false => OTHER_FILES_STEP,
        };
        steps.push(step(name, give_up_writing(&places.written)));
    }
    steps.extend([
        step(TCP_STEP, give_up_tcp(&places.written)),
        step(OTHERS_STEP, give_up_others(&places.written)),
    ]);
    steps
}

pub(super) fn finish(needs: Needs) -> Vec<Step> {
    let calls = match needs.compiles {
        true => CALLS_AND_CODE_STEP,
        false => CALLS_STEP,
    };
    vec![
        step("no core file", forbid_dumps()),
        // The last, as what comes before makes other calls.
        step(calls, seccomp::give_up(needs)),
    ]
}

fn step<E: Into<io::Error>>(name: &str, done: Result<(), E>) -> Step {
    Step {
        name: name.into(),
        done: done.map_err(Into::into),
    }
}

/// Drops the capabilities that `needs` do not take. Returns which remain, in words.
fn drop_capabilities(needs: Needs) -> (String, io::Result<()>) {
    let kept = match capabilities(None) {
        Ok(has) => kept(has, needs),
        Err(error) => return (named(CapabilitySet::empty()), Err(error.into())),
    };
    let dropped = set_capabilities(None, kept);
    (named(kept.permitted), dropped.map_err(Into::into))
}

fn named(kept: CapabilitySet) -> String {
    let names: Vec<_> = kept.iter_names().map(|(name, _)| name).collect();
    match names.is_empty() {
        true => "no capabilities".into(),
        false => format!("no capabilities but {}", names.join(" and ")),
    }
}

/// Gives up reading files and listing directories, but those beneath `read` and what the system is asked for. What
/// is open stays so, and files are moved beneath those `written`. The right belongs to the directories that have the names
/// now.
fn give_up_reading(read: &[PathBuf], written: &[PathBuf]) -> io::Result<()> {
    let rights = AccessFs::ReadFile | AccessFs::ReadDir;
    let zones = ["TZ", "TZDIR"].into_iter().filter_map(env::var_os);
    let zones = zones.map(|zone| match zone.to_string_lossy().strip_prefix(':') {
        Some(path) => path.into(),
        None => PathBuf::from(zone),
    });
    let zones = zones.filter(|zone| zone.is_absolute());
    let of_system = OF_SYSTEM.iter().map(PathBuf::from);
    let all: Vec<_> = of_system
        .chain(zones)
        .chain(directories(read).cloned())
        .collect();
    enforce(
        CompatLevel::HardRequirement,
        |rules| rules.handle_access(rights),
        path_beneath_rules(all, rights),
        written,
    )
}

/// Gives up writing files, but beneath those `written`, running them, and looking into processes outside. What is open stays
/// so.
fn give_up_writing(written: &[PathBuf]) -> io::Result<()> {
    let writing = AccessFs::from_write(FILES);
    let devices = AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
    enforce(
        CompatLevel::BestEffort,
        |rules| rules.handle_access(writing | AccessFs::Execute),
        path_beneath_rules(directories(written), writing & !devices),
        written,
    )
}

fn give_up_tcp(written: &[PathBuf]) -> io::Result<()> {
    let rights: BitFlags<AccessNet> = AccessNet::from_all(TCP);
    enforce(
        CompatLevel::HardRequirement,
        |rules| rules.handle_access(rights),
        NO_FILES,
        written,
    )
}

/// Gives up signals to processes outside and connections to their abstract sockets.
fn give_up_others(written: &[PathBuf]) -> io::Result<()> {
    let scopes: BitFlags<Scope> = Scope::from_all(SCOPES);
    enforce(
        CompatLevel::HardRequirement,
        |rules| rules.scope(scopes),
        NO_FILES,
        written,
    )
}

/// A right to something beneath a directory, or to a file.
type Granted = Result<PathBeneath<PathFd>, RulesetError>;

/// No such rights.
const NO_FILES: [Granted; 0] = [];

/// Returns those of `paths` that are directories.
fn directories(paths: &[PathBuf]) -> impl Iterator<Item = &PathBuf> {
    paths.iter().filter(|path| path.is_dir())
}

/// Gives up what `handled` names, but for what is `granted`, with Landlock. Files may be moved from one directory to another
/// beneath those `written`: each layer forbids that everywhere else, whatever it is about.
fn enforce(
    level: CompatLevel,
    handled: impl FnOnce(Ruleset) -> Result<Ruleset, RulesetError>,
    granted: impl IntoIterator<Item = Granted>,
    written: &[PathBuf],
) -> io::Result<()> {
    let rules = Ruleset::default().set_compatibility(level);
    let with_moves = |rules: Ruleset| match written.is_empty() {
        true => Ok(rules),
        false => rules
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::Refer),
    };
    let moves = path_beneath_rules(directories(written), AccessFs::Refer);
    let enforced = handled(rules)
        .and_then(with_moves)
        .and_then(Ruleset::create)
        .and_then(|created| created.add_rules(granted))
        .and_then(|created| created.add_rules(moves))
        .and_then(|created| created.restrict_self())
        .map_err(io::Error::other)?;
    match enforced.ruleset {
        RulesetStatus::NotEnforced => Err(io::ErrorKind::Unsupported.into()),
        RulesetStatus::PartiallyEnforced | RulesetStatus::FullyEnforced => Ok(()),
    }
}

fn forbid_dumps() -> io::Result<()> {
    // A core file that goes to a program is made whatever its limit is, and so the process must not be dumpable either.
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Returns what remains of the capabilities that a worker `has`: none but those that it needs, and none that it hands on.
fn kept(has: CapabilitySets, needs: Needs) -> CapabilitySets {
    let needed = needed(needs);
    CapabilitySets {
        effective: has.effective & needed,
        permitted: has.permitted & needed,
        inheritable: CapabilitySet::empty(),
    }
}

/// Returns the capabilities with which root serves any directory as it always could.
fn needed(needs: Needs) -> CapabilitySet {
    let mut needed = CapabilitySet::DAC_READ_SEARCH;
    if needs.writes_files || needs.opens_log {
        needed |= CapabilitySet::DAC_OVERRIDE;
    }
    if needs.writes_files {
        // In a directory that is sticky, a file is replaced by its owner only.
        needed |= CapabilitySet::FOWNER;
    }
    needed
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{ErrorKind, Result};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::process::Command;
    use std::sync::Barrier;
    use std::thread;

    use rustix::process::{getppid, test_kill_process};

    use super::*;

    /// Returns the kinds of errors of things that a thread has given up, by the name of the step which gives them up.
    fn refused(step: &str, needs: Needs) -> Option<Vec<Result<()>>> {
        let directory = tempfile::tempdir().expect("a directory");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let file = directory.path().join("file");
        fs::write(&file, "content").expect("a file");
        let attempts = || {
            vec![
                (FILES_STEP, fs::write(&file, "other")),
                (FILES_STEP, fs::create_dir(directory.path().join("new"))),
                (FILES_STEP, fs::remove_file(&file)),
                (FILES_STEP, Command::new("true").status().map(drop)),
                (TCP_STEP, TcpListener::bind("127.0.0.1:0").map(drop)),
                (TCP_STEP, TcpStream::connect(address).map(drop)),
                (
                    OTHERS_STEP,
                    test_kill_process(getppid().expect("a parent")).map_err(Into::into),
                ),
            ]
        };
        let confined = || {
            let steps = begin(needs, &Places::default());
            let is_done = |done: &Step| done.name == step && done.done.is_ok();
            // A file that is there is read in any case.
            fs::read(&file).expect("a file");
            let attempts = attempts().into_iter().filter(|(name, _)| *name == step);
            let results = attempts.map(|(_, result)| result).collect();
            steps.iter().any(is_done).then_some(results)
        };
        thread::scope(|scope| scope.spawn(confined).join().expect("no panic"))
    }

    #[test]
    fn a_step_that_is_said_holds() {
        for step in [FILES_STEP, TCP_STEP, OTHERS_STEP] {
            // A kernel may lack it, which is said.
            for result in refused(step, Needs::default()).unwrap_or_default() {
                let kind = result.map_err(|error| error.kind());
                assert_eq!(kind, Err(ErrorKind::PermissionDenied), "{step}");
            }
        }
    }

    /// Returns what a thread finds that may read beneath `inside`, and write where `needs` say so.
    fn confined<T: Send>(needs: Needs, inside: &Path, find: impl Fn() -> T + Send) -> Option<T> {
        let places = Places {
            read: Some(vec![inside.to_owned()]),
            written: needs
                .writes_files
                .then(|| inside.to_owned())
                .into_iter()
                .collect(),
        };
        let found = || {
            let steps = begin(needs, &places);
            let is_done = |done: &Step| done.name == READING && done.done.is_ok();
            // A kernel may lack it, which is said.
            steps.iter().any(is_done).then(find)
        };
        thread::scope(|scope| scope.spawn(found).join().expect("no panic"))
    }

    /// Makes two directories of one parent, each with a file.
    fn two_directories() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let place = tempfile::tempdir().expect("a directory");
        let [inside, outside] = ["inside", "outside"].map(|name| place.path().join(name));
        for directory in [&inside, &outside] {
            fs::create_dir(directory).expect("a directory");
            fs::write(directory.join("file"), "content").expect("a file");
        }
        symlink("../outside/file", inside.join("link")).expect("a link");
        (place, inside, outside)
    }

    fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
        result.err().map(|error| error.kind())
    }

    #[test]
    fn files_outside_are_not_read() {
        let (_place, inside, outside) = two_directories();
        let found = confined(Needs::default(), &inside, || {
            [
                ("inside", kind(fs::read(inside.join("file"))), true),
                ("list inside", kind(fs::read_dir(&inside)), true),
                ("system", kind(fs::read("/proc/meminfo")), true),
                ("outside", kind(fs::read(outside.join("file"))), false),
                ("list outside", kind(fs::read_dir(&outside)), false),
                ("by a link", kind(fs::read(inside.join("link"))), false),
                ("users", kind(fs::read("/etc/passwd")), false),
                ("itself", kind(fs::read("/proc/self/environ")), false),
                ("written", kind(fs::write(inside.join("new"), "")), false),
            ]
        });
        for (what, kind, is_granted) in found.into_iter().flatten() {
            let expected = (!is_granted).then_some(ErrorKind::PermissionDenied);
            assert_eq!(kind, expected, "{what}");
        }
    }

    #[test]
    fn a_directory_that_takes_the_name_is_another() {
        let (place, inside, outside) = two_directories();
        let (confined_now, moved) = (Barrier::new(2), Barrier::new(2));
        thread::scope(|scope| {
            scope.spawn(|| {
                confined_now.wait();
                fs::rename(&inside, place.path().join("moved")).expect("renamed");
                fs::rename(&outside, &inside).expect("renamed");
                moved.wait();
            });
            let found = confined(Needs::default(), &inside, || {
                confined_now.wait();
                moved.wait();
                let first = place.path().join("moved/file");
                (kind(fs::read(first)), kind(fs::read(inside.join("file"))))
            });
            match found {
                Some(found) => assert_eq!(found, (None, Some(ErrorKind::PermissionDenied))),
                None => {
                    confined_now.wait();
                    moved.wait();
                }
            }
        });
    }

    #[test]
    fn who_writes_may_write_there_and_nowhere_else() {
        let (_place, inside, outside) = two_directories();
        let needs = Needs {
            writes_files: true,
            ..Needs::default()
        };
        let found = confined(needs, &inside, || {
            let directory = inside.join("directory");
            [
                ("inside", kind(fs::write(inside.join("new"), "")), true),
                (
                    "replaced",
                    kind(fs::rename(inside.join("new"), inside.join("file"))),
                    true,
                ),
                ("made", kind(fs::create_dir(&directory)), true),
                (
                    "moved",
                    kind(fs::rename(inside.join("file"), directory.join("file"))),
                    true,
                ),
                (
                    "removed",
                    kind(fs::remove_file(directory.join("file"))),
                    true,
                ),
                ("outside", kind(fs::write(outside.join("new"), "")), false),
                ("run", kind(Command::new("true").status()), false),
            ]
        });
        for (what, kind, is_granted) in found.into_iter().flatten() {
            let expected = (!is_granted).then_some(ErrorKind::PermissionDenied);
            assert_eq!(kind, expected, "{what}");
        }
    }

    #[test]
    fn what_is_kept_follows_from_what_is_done() {
        let read = CapabilitySet::DAC_READ_SEARCH;
        let write = CapabilitySet::DAC_OVERRIDE;
        for (writes_files, opens_log, expected) in [
            (false, false, read),
            (false, true, read | write),
            (true, false, read | write | CapabilitySet::FOWNER),
            (true, true, read | write | CapabilitySet::FOWNER),
        ] {
            let needs = Needs {
                writes_files,
                opens_log,
                ..Needs::default()
            };
            let all = CapabilitySets {
                effective: CapabilitySet::all(),
                permitted: CapabilitySet::all(),
                inheritable: CapabilitySet::all(),
            };
            let left = kept(all, needs);
            assert_eq!(left.effective, expected, "{needs:?}");
            assert_eq!(left.permitted, expected, "{needs:?}");
            assert_eq!(left.inheritable, CapabilitySet::empty(), "{needs:?}");
        }
    }

    #[test]
    fn nothing_is_gained() {
        let none = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        };
        let needs = Needs {
            writes_files: true,
            opens_log: true,
            ..Needs::default()
        };
        assert_eq!(kept(none, needs), none);
    }
}
