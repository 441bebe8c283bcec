//! Room for scripts: so many run at once, a few more wait for a moment, and who would wait longer is told so. A client
//! that is slow to take what its script says, or to send what that reads, gives way to those who wait.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::lock::lock;
use crate::pace::client::Client;
use crate::pace::instances::choose;
use crate::transport::socket::Socket;

/// The time that a request waits for room. An instance waits with it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time between two looks at clients that might give way, while others wait.
const LOOK: Duration = Duration::from_secs(1);
/// Time by which a client is behind ([`PRESSED`](crate::pace::PRESSED)) that gives way: one that is a little slow is done
/// sooner.
const BEHIND: Duration = Duration::from_secs(2);
/// Requests that may wait, for each script that may run.
const MAX_WAITING: usize = 3;

/// Returns how many scripts there can be room for where each that runs or waits takes one of `instances`.
pub(super) fn max_within(instances: usize) -> usize {
    instances / (1 + MAX_WAITING)
}

/// The room.
pub(super) struct Slots {
    max: usize,
    ledger: Mutex<Ledger>,
}

/// The clients that have room, and those that wait for it.
#[derive(Default)]
struct Ledger {
    running: usize,
    /// Scripts that run, of each client.
    held: HashMap<Client, usize>,
    /// The first come first.
    waiting: VecDeque<Waiting>,
    /// The connections that scripts run for, by a number for each.
    sockets: HashMap<u64, Weak<Socket>>,
    next: u64,
    /// Scripts that are about to end, as their clients give way.
    promised: usize,
    last_look: Option<Instant>,
}

struct Waiting {
    client: Client,
    tell: oneshot::Sender<Slot>,
}

/// The right to run one script.
pub(super) struct Slot {
    /// `None` when it was given back.
    slots: Option<Arc<Slots>>,
    client: Client,
    number: u64,
}

impl Slots {
    /// Returns room for `max` scripts.
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Slots {
            max: max.max(1),
            ledger: Mutex::default(),
        })
    }

    /// Returns how many scripts there is room for.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// Takes room for a script of the client at `address`, or waits for it for a moment; `None` if there is none by
    /// then, or if too many wait already.
    pub(super) async fn take(self: &Arc<Self>, address: &str) -> Option<Slot> {
        let address = address.parse::<IpAddr>().ok();
        let client = Client::of(address.map(|ip| (ip, 0).into()));
        let mut told = match self.take_or_wait(client) {
            Ok(slot) => return Some(slot),
            Err(told) => told,
        };
        let due = Instant::now() + PATIENCE;
        loop {
            let look = due.min(Instant::now() + LOOK);
            match timeout_at(look, &mut told).await {
                Ok(told) => return told.ok(),
                Err(_) if Instant::now() >= due => return None,
                Err(_) => lock(&self.ledger).have_give_way(self.max),
            }
        }
    }

    fn take_or_wait(self: &Arc<Self>, client: Client) -> Result<Slot, oneshot::Receiver<Slot>> {
        let mut ledger = lock(&self.ledger);
        if ledger.running < self.max {
            return Ok(ledger.give(self, client));
        }
        let (tell, told) = oneshot::channel();
        ledger.waiting.retain(|waiting| !waiting.tell.is_closed());
        if ledger.waiting.len() >= self.max.saturating_mul(MAX_WAITING) {
            let clients = ledger.waiting.iter().map(|waiting| waiting.client);
            match gives_way(clients, client) {
                // Its sender is dropped, which tells it.
                Some(index) => drop(ledger.waiting.remove(index)),
                None => return Err(told),
            }
        }
        ledger.waiting.push_back(Waiting { client, tell });
        Err(told)
    }
}

impl Ledger {
    fn give(&mut self, slots: &Arc<Slots>, client: Client) -> Slot {
        self.running += 1;
        *self.held.entry(client).or_default() += 1;
        self.next += 1;
        Slot {
            slots: Some(slots.clone()),
            client,
            number: self.next,
        }
    }

    fn take_back(&mut self, client: Client) {
        self.running -= 1;
        self.promised = self.promised.saturating_sub(1);
        if let Some(held) = self.held.get_mut(&client) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&client);
            }
        }
    }

    /// Ends scripts whose clients are behind, for those that wait: there is room for `max`.
    fn have_give_way(&mut self, max: usize) {
        let now = Instant::now();
        if self.last_look.is_some_and(|last| now < last + LOOK) {
            return;
        }
        self.last_look = Some(now);
        self.waiting.retain(|waiting| !waiting.tell.is_closed());
        let asking: Vec<_> = self.waiting.iter().map(|waiting| waiting.client).collect();
        let sockets = self.sockets.iter();
        let waiters = sockets.filter_map(|(&number, socket)| {
            let socket = socket.upgrade()?;
            let waiter = socket.waiter().filter(|waiter| waiter.late >= BEHIND)?;
            Some(((number, socket), waiter))
        });
        let (sockets, waiters): (Vec<_>, Vec<_>) = waiters.unzip();
        let wanted = asking.len().saturating_sub(self.promised);
        for index in choose(&waiters, self.held.clone(), &asking, max, wanted) {
            let (number, socket) = &sockets[index];
            self.sockets.remove(number);
            self.promised += 1;
            socket.take_back_instance();
        }
    }

    /// Gives room that is free to who waits.
    fn pass_on(&mut self, slots: &Arc<Slots>) {
        while self.running < slots.max {
            let clients = self.waiting.iter().map(|waiting| waiting.client);
            let Some(waiting) =
                next(clients, &self.held).and_then(|index| self.waiting.remove(index))
            else {
                return;
            };
            let slot = self.give(slots, waiting.client);
            if let Err(mut slot) = waiting.tell.send(slot) {
                // It waits no more. Dropping this one would take the lock that is held.
                slot.slots = None;
                self.take_back(slot.client);
            }
        }
    }
}

impl Slot {
    /// Notes that the script is run for the client of `socket`.
    pub(super) fn is_for(&self, socket: &Arc<Socket>) {
        if let Some(slots) = &self.slots {
            let socket = Arc::downgrade(socket);
            lock(&slots.ledger).sockets.insert(self.number, socket);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(slots) = self.slots.take() {
            let mut ledger = lock(&slots.ledger);
            ledger.sockets.remove(&self.number);
            ledger.take_back(self.client);
            ledger.pass_on(&slots);
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}

/// Returns which of the `waiting` clients is next: the one that has the fewest scripts, as `held` says, and among
/// those the first.
fn next(waiting: impl Iterator<Item = Client>, held: &HashMap<Client, usize>) -> Option<usize> {
    let holds = |client| held.get(&client).copied().unwrap_or_default();
    let numbered = waiting.enumerate();
    let next = numbered.min_by_key(|&(index, client)| (holds(client), index));
    next.map(|(index, _)| index)
}

/// Returns which of the `waiting` gives way to another `client` where no more can wait: the last of the client that
/// waits most often, if that is more often than this one would.
fn gives_way(waiting: impl Iterator<Item = Client>, client: Client) -> Option<usize> {
    // How often each waits, and where it does so last.
    let mut counts: HashMap<Client, (usize, usize)> = HashMap::new();
    for (index, client) in waiting.enumerate() {
        let (count, last) = counts.entry(client).or_default();
        (*count, *last) = (*count + 1, index);
    }
    let own = counts.get(&client).map_or(0, |&(count, _)| count);
    let (count, last) = counts.into_values().max()?;
    (count > own + 1).then_some(last)
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const A: Client = Client::V4([1; 4]);
    const B: Client = Client::V4([2; 4]);
    const C: Client = Client::V4([3; 4]);

    #[test]
    fn who_has_fewest_is_next() {
        // The clients that wait, the scripts that each holds, and the index of the one that is next.
        type Case<'c> = (&'c [Client], &'c [(Client, usize)], Option<usize>);
        let cases: [Case; 5] = [
            (&[], &[(A, 1)], None),
            (&[A, A], &[(A, 3)], Some(0)),
            (&[A, A, B], &[(A, 3)], Some(2)),
            (&[A, B, C], &[(A, 3), (B, 1), (C, 1)], Some(1)),
            (&[A, B], &[(A, 2), (B, 2)], Some(0)),
        ];
        for (waiting, held, expected) in cases {
            let held = held.iter().copied().collect();
            assert_eq!(
                next(waiting.iter().copied(), &held),
                expected,
                "{waiting:?}"
            );
        }
    }

    #[test]
    fn who_waits_most_often_gives_way() {
        let cases: [(&[Client], Client, Option<usize>); 5] = [
            (&[A, A, A], A, None),
            (&[A, A, A], B, Some(2)),
            (&[A, B, A, B], C, Some(3)),
            (&[A, B, A], B, None),
            (&[A, B], C, None),
        ];
        for (waiting, client, expected) in cases {
            let found = gives_way(waiting.iter().copied(), client);
            assert_eq!(found, expected, "{waiting:?} {client:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn room_is_passed_on_and_who_waits_too_long_has_none() {
        let slots = Slots::new(1);
        let first = slots.take("127.0.0.1").await.expect("room");
        let mut second = Box::pin(slots.take("127.0.0.1"));
        assert!(timeout(PATIENCE / 2, &mut second).await.is_err());
        drop(first);
        let second = second.await.expect("room");
        assert!(slots.take("127.0.0.2").await.is_none());
        drop(second);
        assert!(slots.take("127.0.0.2").await.is_some());
        assert_eq!(lock(&slots.ledger).running, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_wait_than_may_and_who_leaves_is_forgotten() {
        let slots = Slots::new(1);
        let first = slots.take("127.0.0.1").await.expect("room");
        let mut waiting: Vec<_> = (0..MAX_WAITING)
            .map(|_| slots.take_or_wait(A).expect_err("it waits"))
            .collect();
        let one_more = slots.take_or_wait(A).expect_err("no room");
        assert!(one_more.await.is_err(), "refused at once");
        waiting.remove(0);
        let in_its_place = slots.take_or_wait(B).expect_err("it waits");
        drop(first);
        // None of them has any yet: the first come.
        for told in waiting.into_iter().chain([in_its_place]) {
            drop(told.await.expect("room"));
        }
        assert_eq!(lock(&slots.ledger).running, 0);
    }
}
