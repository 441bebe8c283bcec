//! What Linux takes away from a process that asks for it.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs,
};

use super::Needs;

pub(super) fn give_up_privileges(needs: Needs) -> io::Result<()> {
    set_no_new_privs(true)?;
    let has = capabilities(None)?;
    Ok(set_capabilities(None, kept(has, needs))?)
}

pub(super) fn forbid_dumps() -> io::Result<()> {
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
    use super::*;

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
        };
        assert_eq!(kept(none, needs), none);
    }
}
