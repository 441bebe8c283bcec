//! `--user`: the user that serves and runs scripts, where root starts the server.
//!
//! The supervisor stays root: a new worker can read a key again, and a new log is made for the user.

use std::collections::BTreeSet;
use std::fmt;

/// A user of the system, and the groups that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// The user, and the group if that was named, as they were given.
    given: String,
    pub(crate) id: u32,
    pub(crate) group: u32,
    /// All groups, `group` among them.
    groups: BTreeSet<u32>,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.given)
    }
}

impl User {
    /// Finds the user that is `given`: by name, or else by number.
    ///
    /// # Errors
    /// In one line, why this process cannot become that user.
    pub(crate) fn find(given: &str) -> Result<User, String> {
        system::find(given).map_err(|reason| cannot(given, &reason))
    }

    /// Becomes this user for good. Must come before the process has more than one thread.
    ///
    /// # Errors
    /// In one line, why that failed. What the process is then is not known.
    pub(crate) fn assume(&self) -> Result<(), String> {
        system::assume(self).map_err(|reason| cannot(&self.given, &reason))
    }
}

fn cannot(given: &str, reason: &str) -> String {
    format!("cannot serve as user `{}`: {reason}", given.escape_debug())
}

#[cfg(not(target_os = "linux"))]
mod system {
    //! No user but the one that there is.

    use super::User;

    const NOT_HERE: &str = "only Linux has this; leave out --user";

    pub(super) fn find(_: &str) -> Result<User, String> {
        Err(NOT_HERE.into())
    }

    pub(super) fn assume(_: &User) -> Result<(), String> {
        Err(NOT_HERE.into())
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::collections::BTreeSet;
    use std::io;

    use agreed::syntax;
    use rustix::process::{Gid, Uid, getegid, geteuid, getgid, getgroups, getuid};
    use rustix::thread::{
        CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_thread_groups,
        set_thread_res_gid, set_thread_res_uid,
    };
    use sandserve_host::explain;
    use uzers::{get_group_by_name, get_user_by_name, get_user_by_uid, get_user_groups};

    use super::User;

    const NO_CAPABILITIES: CapabilitySets = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };

    pub(super) fn find(given: &str) -> Result<User, String> {
        let named = syntax::user(given)?;
        let (id, account) = user(named.name)?;
        let group = match (named.group, &account) {
            (Some(name), _) => group(name)?,
            (None, Some(account)) => account.primary_group_id(),
            (None, None) => {
                return Err(format!(
                    "the system knows no group of it; name one, for example {id}:{id}"
                ));
            }
        };
        if id == 0 {
            return Err("it has all rights; name another, or leave out --user".into());
        }
        may_change()?;
        let groups = account.and_then(|account| get_user_groups(account.name(), group));
        let more = groups.into_iter().flatten().map(|group| group.gid());
        Ok(User {
            given: given.into(),
            id,
            group,
            groups: BTreeSet::from_iter(more.chain([group])),
        })
    }

    /// Returns the number of the user `name`, and the account if the system has one.
    fn user(name: &str) -> Result<(u32, Option<uzers::User>), String> {
        if let Some(account) = get_user_by_name(name) {
            return Ok((account.uid(), Some(account)));
        }
        let id = number(name).ok_or("there is no such user; name another, or a number")?;
        Ok((id, get_user_by_uid(id)))
    }

    fn group(name: &str) -> Result<u32, String> {
        let group = get_group_by_name(name).map(|group| group.gid());
        group.or_else(|| number(name)).ok_or_else(|| {
            let name = name.escape_debug();
            format!("there is no group `{name}`; name another, or a number")
        })
    }

    /// Returns the number of a user or a group. The largest means none (setresuid(2)).
    fn number(text: &str) -> Option<u32> {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = is_number.then(|| text.parse().ok())??;
        (number != u32::MAX).then_some(number)
    }

    fn may_change() -> Result<(), String> {
        if !geteuid().is_root() {
            return Err(
                "only root can become another user; start the server as root, or leave out --user"
                    .into(),
            );
        }
        let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
        match capabilities(None) {
            Ok(has) if !has.effective.contains(needed) => Err(
                "this root may not become another user (CAP_SETUID, CAP_SETGID); leave out --user"
                    .into(),
            ),
            _ => Ok(()),
        }
    }

    pub(super) fn assume(user: &User) -> Result<(), String> {
        let (id, group) = (Uid::from_raw(user.id), Gid::from_raw(user.group));
        let become_user = || {
            let groups: Vec<_> = user.groups.iter().copied().map(Gid::from_raw).collect();
            set_thread_groups(&groups)?;
            set_thread_res_gid(group, group, group)?;
            set_thread_res_uid(id, id, id)?;
            set_capabilities(None, NO_CAPABILITIES)?;
            let has_groups: BTreeSet<_> = getgroups()?.into_iter().map(Gid::as_raw).collect();
            let is_user = [getuid(), geteuid()] == [id; 2] && [getgid(), getegid()] == [group; 2];
            let can_go_back = set_thread_res_uid(None, Uid::ROOT, None).is_ok();
            let has_nothing = capabilities(None)? == NO_CAPABILITIES && !can_go_back;
            Ok::<_, io::Error>(is_user && has_groups == user.groups && has_nothing)
        };
        match become_user() {
            Ok(true) => Ok(()),
            Ok(false) => Err("the system has kept some of the rights of before".into()),
            Err(error) => Err(explain(&error)),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_user_is_found_by_name_or_number() {
            for (name, expected) in [
                ("root", Some((0, true))),
                ("0", Some((0, true))),
                ("4123456789", Some((4_123_456_789, false))),
                ("4294967295", None),
                ("-1", None),
                ("+1", None),
                ("no such user", None),
            ] {
                let found = user(name).map(|(id, account)| (id, account.is_some()));
                assert_eq!(found.ok(), expected, "{name}");
            }
            assert_eq!(group("root"), Ok(0));
            assert_eq!(group("4123456789"), Ok(4_123_456_789));
            assert!(group("no such group").is_err());
        }

        #[test]
        fn nobody_becomes_root_or_has_no_group() {
            for given in ["root", "0", "0:0", "4123456789"] {
                assert!(find(given).is_err(), "{given}");
            }
        }
    }
}
