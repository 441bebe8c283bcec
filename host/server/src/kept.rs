//! Instances that stay for a moment when a connection has no use for them: each for the next request of its client, on
//! this connection or another, and for nobody else. To make an instance, to drop it, and to go through the start of a
//! component takes more than all else that is done for a small file on a new connection.

use std::cell::RefCell;
use std::mem;
use std::sync::Arc;

use crate::pace::client::Client;
use crate::pace::instances::Instances;
use crate::pace::round;
use crate::sandbox::{Instance, Sandbox};

/// Rounds that an instance stays: about a second. A browser that loads a page comes back in that time, and who has
/// looked once does not hold much for long.
const ROUNDS: u32 = 100;
/// Most instances that stay on a core: a few megabytes.
const MAX_KEPT: usize = 64;
/// Most instances that stay on a core for one client that has them all. A proxy with 500 connections has more in hand at
/// once than [`MAX_KEPT`], and would take half as much CPU again if some of them were made anew each time.
const MAX_OF_ONE: usize = 256;

/// The instances of a core that stay.
#[derive(Default)]
struct All {
    /// The one that came last is the last.
    kept: Vec<Kept>,
    /// A task looks at them.
    is_watched: bool,
}

/// An instance that stays.
struct Kept {
    client: Client,
    instance: Instance,
    /// All instances that there may be.
    instances: Arc<Instances>,
    /// Rounds that it has stayed.
    rounds: u32,
}

thread_local! {
    static ALL: RefCell<All> = const {
        RefCell::new(All {
            kept: Vec::new(),
            is_watched: false,
        })
    };
}

/// Keeps `instance` of `sandbox` for `client`. The one that has stayed longest goes where there are too many.
pub(crate) fn keep(client: Client, instance: Instance, sandbox: &Sandbox) {
    let kept = Kept {
        client,
        instance,
        instances: sandbox.terms().instances.clone(),
        rounds: 0,
    };
    let (surplus, was_watched) = ALL.with_borrow_mut(|all| {
        let oldest = all.kept.first().map(|kept| kept.client);
        let max = match oldest == Some(client) {
            true => MAX_OF_ONE,
            false => MAX_KEPT,
        };
        let surplus = (all.kept.len() >= max).then(|| all.kept.remove(0));
        all.kept.push(kept);
        (surplus, mem::replace(&mut all.is_watched, true))
    });
    drop(surplus);
    if !was_watched {
        round::begin(look, drop_all);
    }
}

/// Takes the instance of `sandbox` that came last of those that are kept for `client`.
pub(crate) fn take(client: Client, sandbox: &Sandbox) -> Option<Instance> {
    ALL.with_borrow_mut(|All { kept, .. }| {
        let is_it = |kept: &Kept| kept.client == client && kept.instance.is_of(sandbox);
        let at = kept.iter().rposition(is_it)?;
        Some(kept.remove(at).instance)
    })
}

/// Drops the instances of this core that have stayed for long, and those that others ask for. Returns false if none is
/// left.
fn look() -> bool {
    let gone: Vec<_> = ALL.with_borrow_mut(|All { kept, .. }| {
        let is_over = |kept: &mut Kept| {
            kept.rounds += 1;
            kept.rounds > ROUNDS || kept.instances.give_up()
        };
        kept.extract_if(.., is_over).collect()
    });
    drop(gone);
    ALL.with_borrow_mut(|all| {
        all.is_watched = !all.kept.is_empty();
        all.is_watched
    })
}

/// Drops all instances of this core: nobody comes back on this thread when the runtime has ended.
fn drop_all() {
    let left = ALL.try_with(|all| mem::take(&mut *all.borrow_mut()));
    drop(left);
}
