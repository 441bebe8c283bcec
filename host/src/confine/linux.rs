//! Privileges that a process on Linux can give up: capabilities, by Landlock, core files, and system calls.

use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetError, RulesetStatus, Scope,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs,
};

use super::{Needs, Step, seccomp};

/// The version of Landlock that has all of the rights to files which are given up.
const FILES: ABI = ABI::V5;
/// The version of Landlock that has rights to TCP.
const TCP: ABI = ABI::V4;
/// The version of Landlock that has scopes.
const SCOPES: ABI = ABI::V6;

const FILES_STEP: &str = "no file written or run";
const TCP_STEP: &str = "no TCP port bound or connected to";
const OTHERS_STEP: &str = "no other process signalled";
const CALLS_STEP: &str = "no system calls but those of serving";
const CALLS_AND_CODE_STEP: &str = "no system calls but those of serving and of compiling scripts";

pub(super) fn begin(needs: Needs) -> Vec<Step> {
    let (capabilities, dropped) = drop_capabilities(needs);
    let mut steps = vec![
        step("no new privileges", set_no_new_privs(true)),
        step(&capabilities, dropped),
    ];
    // A right to write must be granted by name, and names come to mean other directories.
    if !needs.writes_files && !needs.opens_log {
        steps.push(step(FILES_STEP, give_up_files()));
    }
    steps.extend([
        step(TCP_STEP, give_up_tcp()),
        step(OTHERS_STEP, give_up_others()),
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

/// Gives up writing and running files, and looking into processes outside. What is open stays so.
fn give_up_files() -> io::Result<()> {
    let rights = AccessFs::from_write(FILES) | AccessFs::Execute;
    enforce(CompatLevel::BestEffort, |rules| rules.handle_access(rights))
}

fn give_up_tcp() -> io::Result<()> {
    let rights: BitFlags<AccessNet> = AccessNet::from_all(TCP);
    enforce(CompatLevel::HardRequirement, |rules| {
        rules.handle_access(rights)
    })
}

/// Gives up signals to processes outside and connections to their abstract sockets.
fn give_up_others() -> io::Result<()> {
    let scopes: BitFlags<Scope> = Scope::from_all(SCOPES);
    enforce(CompatLevel::HardRequirement, |rules| rules.scope(scopes))
}

/// Gives up what `handled` names, with Landlock.
fn enforce(
    level: CompatLevel,
    handled: impl FnOnce(Ruleset) -> Result<Ruleset, RulesetError>,
) -> io::Result<()> {
    let rules = Ruleset::default().set_compatibility(level);
    let enforced = handled(rules)
        .and_then(Ruleset::create)
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
    use std::process::Command;
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
            let steps = begin(needs);
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

    #[test]
    fn who_writes_may_write() {
        let needs = Needs {
            writes_files: true,
            ..Needs::default()
        };
        assert!(refused(FILES_STEP, needs).is_none());
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
