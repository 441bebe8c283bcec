//! The instances there may be, and who gives one up when there are too few.
//!
//! 1. A request takes an instance that is free: a counter goes down, and nothing else happens.
//! 2. Where none is, it asks, in a line where clients take turns. Instances that are kept for another request of
//!    their client are given up within a round ([`Instances::give_up`]).
//! 3. Where that brings none, an instance is taken back that waits for its client, or one that has computed or slept
//!    for long for a client with more than its share: [`choose`] says which.
//! 4. A request that has none after [`crate::pace::Pace::instance`] goes without.
//! 5. Where there is no memory for another, who asks does the same ([`Instances::make_room`]).

use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};

use crate::lock::lock;
use crate::pace::PRESSED;
use crate::pace::client::Client;
use crate::pace::line::{InLine, Line};
use crate::pace::round::ROUND;

/// Time that a request which asks leaves to instances that are kept for a while, before one is taken back:
/// all of those have been looked at by then.
const STEP: Duration = ROUND.saturating_mul(2);
/// Time from one look of a request that still asks to its next. Thousands may ask, and to serve them takes
/// less than looking more often.
const NEXT_STEPS: Duration = ROUND.saturating_mul(4);
/// Time from one search for instances that sleep to the next: all calls are looked at for it.
const SEARCH: Duration = ROUND.saturating_mul(4);

/// An instance that may be taken back, as [`choose`] sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiter {
    client: Client,
    /// Time that it has waited, beyond what the bytes that were moved meanwhile may take ([`PRESSED`]).
    pub(crate) late: Duration,
    /// The instance does not wait for its client, but has computed or slept for long.
    works: bool,
}

/// Returns which of `waiters` give up their instances. There are `max` instances; the clients `asking` want
/// `wanted` of them. Each client holds as many as `held` says.
///
/// A client may hold as many as there are for each of those that hold one or ask. One that holds fewer loses
/// none while another holds more. Among the rest, those go first whose client is furthest behind. An instance
/// that computes or sleeps goes last, and only for another client, where its own holds more than its share.
pub(crate) fn choose(
    waiters: &[Waiter],
    mut held: HashMap<Client, usize>,
    asking: &[Client],
    max: usize,
    wanted: usize,
) -> Vec<usize> {
    for &client in asking {
        held.entry(client).or_default();
    }
    let share = (max / held.len().max(1)).max(1);
    let mut order: Vec<usize> = (0..waiters.len()).collect();
    order.sort_by_key(|&index| (waiters[index].works, Reverse(waiters[index].late)));
    let mut chosen = Vec::new();
    // A client that is spared in one pass may be the one that holds most in the next.
    loop {
        let most = held.values().copied().max().unwrap_or_default();
        let before = chosen.len();
        order.retain(|&index| {
            let Waiter { client, works, .. } = waiters[index];
            let holds = held.entry(client).or_default();
            let may_lose = match works {
                true => *holds > share && asking.iter().any(|&other| other != client),
                false => *holds >= share || *holds == most,
            };
            let loses = chosen.len() < wanted && may_lose;
            if loses {
                *holds = holds.saturating_sub(1);
                chosen.push(index);
            }
            !loses
        });
        if chosen.len() == before || chosen.len() == wanted {
            return chosen;
        }
    }
}

/// All instances that there may be of one sandbox.
#[derive(Debug)]
pub(crate) struct Instances {
    max: usize,
    free: AtomicUsize,
    /// Requests that ask for an instance. Read by all, and changed only where there is none.
    asking: AtomicUsize,
    ledger: Mutex<Ledger>,
    /// The right to take instances back for memory: one asks for all, as nobody knows how much an instance holds.
    for_memory: Semaphore,
    /// Tells those who look at calls that requests ask in vain.
    in_vain: Notify,
    /// Instances that each client holds, in parts, so that cores do not meet here.
    held: [Mutex<HashMap<Client, usize>>; PARTS],
    /// The moment that times are counted from.
    began: Instant,
}

/// Parts that holdings are counted in.
const PARTS: usize = 16;

thread_local! {
    /// The part of this core.
    static PART: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % PARTS
    };
}

/// The requests that wait and ask, and the instances that wait.
#[derive(Debug, Default)]
struct Ledger {
    waits: HashMap<u64, Arc<Wait>>,
    next: u64,
    /// Requests that wait for an instance that is free.
    line: Line,
    /// Requests that ask for an instance, of each client.
    asking: HashMap<Client, usize>,
    /// Requests that ask, of all clients.
    wanted: usize,
    /// The time at which it is worth while to look again for somebody who waits.
    next_look: Duration,
    /// The time at which it is worth while to search again for instances that sleep.
    next_search: Duration,
    /// Instances that will be free because somebody asked.
    promised: usize,
}

/// The right to one instance.
#[derive(Debug)]
pub(crate) struct Permit {
    instances: Arc<Instances>,
    client: Client,
    part: usize,
}

impl Permit {
    /// Notes that `client` holds an instance, which has been counted as taken.
    fn new(instances: &Arc<Instances>, client: Client) -> Self {
        let part = PART.with(|&part| part);
        *lock(&instances.held[part]).entry(client).or_default() += 1;
        Permit {
            instances: instances.clone(),
            client,
            part,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Permit {
            instances,
            client,
            part,
        } = self;
        if let Entry::Occupied(mut held) = lock(&instances.held[*part]).entry(*client) {
            *held.get_mut() -= 1;
            if *held.get() == 0 {
                held.remove();
            }
        }
        instances.release();
    }
}

impl Instances {
    /// Returns `max` instances, all free.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Instances {
            max,
            free: AtomicUsize::new(max),
            asking: AtomicUsize::new(0),
            ledger: Mutex::default(),
            for_memory: Semaphore::new(1),
            in_vain: Notify::new(),
            held: Default::default(),
            began: Instant::now(),
        })
    }

    /// Takes an instance for a request of `client`, or waits for one, at most for `patience`.
    ///
    /// # Errors
    /// [`Shortage`] if there is no instance by then.
    pub(crate) async fn take(
        self: &Arc<Self>,
        client: Client,
        patience: Duration,
    ) -> Result<Permit, Shortage> {
        // Requests that ask already come first.
        match !self.are_short() && self.take_free() {
            true => Ok(Permit::new(self, client)),
            false => Box::pin(self.ask(client, patience)).await,
        }
    }

    async fn ask(self: &Arc<Self>, client: Client, patience: Duration) -> Result<Permit, Shortage> {
        let asking = Asking::new(self, client);
        let waiting = asking.join_line();
        // An instance may have been given back meanwhile.
        self.hand_over();
        let due = Instant::now() + patience;
        let mut step = STEP;
        while Instant::now() < due {
            let until = due.min(Instant::now() + step);
            if timeout_at(until, waiting.called()).await.is_ok() {
                break;
            }
            self.take_back();
            step = NEXT_STEPS;
        }
        match waiting.leave() {
            true => Ok(Permit::new(self, client)),
            false => Err(Shortage),
        }
    }

    /// Counts one more instance as taken if one is free. Returns whether one was.
    fn take_free(&self) -> bool {
        let less = |free: usize| free.checked_sub(1);
        let ordering = Ordering::SeqCst;
        self.free.fetch_update(ordering, ordering, less).is_ok()
    }

    /// Counts one instance as free, which somebody may wait for.
    fn release(&self) {
        self.free.fetch_add(1, Ordering::SeqCst);
        if self.are_short() {
            self.hand_over();
        }
    }

    /// Calls as many requests in line as there are free instances.
    fn hand_over(&self) {
        let mut ledger = lock(&self.ledger);
        while self.take_free() {
            if !ledger.line.call_next() {
                self.free.fetch_add(1, Ordering::SeqCst);
                return;
            }
        }
    }

    /// Takes instances back from those that wait for their clients until what they held is enough for a request of
    /// `client` to begin, which `is_enough` tells, or for as long as `patience`.
    pub(crate) async fn make_room(
        &self,
        client: Client,
        patience: Duration,
        is_enough: impl Fn() -> bool,
    ) {
        let due = Instant::now() + patience;
        while !is_enough() && Instant::now() < due {
            let turn = self.for_memory.try_acquire();
            let _asking = turn.is_ok().then(|| Asking::new(self, client));
            self.take_back();
            sleep(ROUND).await;
        }
    }

    /// Returns how many instances are taken.
    pub(crate) fn taken(&self) -> usize {
        self.max.saturating_sub(self.free.load(Ordering::Relaxed))
    }

    /// Returns whether requests ask for an instance.
    pub(crate) fn are_short(&self) -> bool {
        self.asking.load(Ordering::SeqCst) > 0
    }

    /// Returns whether an instance that is kept for a request that may come should rather be given up: as
    /// many are as requests ask.
    pub(crate) fn give_up(&self) -> bool {
        self.are_short() && lock(&self.ledger).promise()
    }

    /// Returns how many instances each client holds.
    fn held(&self) -> HashMap<Client, usize> {
        let mut all = HashMap::new();
        for part in &self.held {
            for (&client, held) in &*lock(part) {
                *all.entry(client).or_default() += held;
            }
        }
        all
    }

    /// Waits until requests ask in vain: somewhere instances may sleep of which nobody here knows.
    pub(crate) async fn asked_in_vain(&self) {
        self.in_vain.notified().await;
    }

    /// Takes back as many instances as are asked for and are not on their way already.
    pub(crate) fn take_back(&self) {
        let mut ledger = lock(&self.ledger);
        let wanted = ledger.wanted.saturating_sub(ledger.promised);
        let now = self.began.elapsed();
        if wanted == 0 || now < ledger.next_look {
            return;
        }
        let waits = ledger.waits.iter();
        let waiters = waits.filter_map(|(&id, wait)| Some((id, wait.waiter(now)?)));
        let (ids, waiters): (Vec<_>, Vec<_>) = waiters.unzip();
        let asking: Vec<_> = ledger.asking.keys().copied().collect();
        let chosen = choose(&waiters, self.held(), &asking, self.max, wanted);
        ledger.promised += chosen.len();
        for wait in chosen
            .iter()
            .filter_map(|&index| ledger.waits.remove(&ids[index]))
        {
            wait.end();
        }
        ledger.next_look = now + ROUND;
        if chosen.len() < wanted && now >= ledger.next_search {
            ledger.next_search = now + SEARCH;
            self.in_vain.notify_waiters();
        }
    }

    /// Registers an instance of `client` that begins to wait for it, or to compute or sleep for long.
    pub(crate) fn register(self: &Arc<Self>, client: Client) -> Holding {
        let mut ledger = lock(&self.ledger);
        let wait = Arc::new(Wait {
            client,
            state: Mutex::default(),
        });
        let id = ledger.next;
        ledger.next += 1;
        ledger.waits.insert(id, wait.clone());
        Holding {
            instances: self.clone(),
            id,
            wait,
        }
    }
}

impl Ledger {
    /// Returns whether another instance should be free for somebody who asks, and counts on it.
    fn promise(&mut self) -> bool {
        let is_wanted = self.promised < self.wanted;
        self.promised += usize::from(is_wanted);
        is_wanted
    }
}

/// A request that asks for an instance, or for the memory of one, as long as it does.
struct Asking<'i> {
    instances: &'i Instances,
    client: Client,
}

impl<'i> Asking<'i> {
    fn new(instances: &'i Instances, client: Client) -> Self {
        let mut ledger = lock(&instances.ledger);
        *ledger.asking.entry(client).or_default() += 1;
        ledger.wanted += 1;
        drop(ledger);
        instances.asking.fetch_add(1, Ordering::SeqCst);
        Asking { instances, client }
    }

    /// Takes a place in the line of requests that wait for an instance.
    fn join_line(&self) -> Waiting<'i> {
        Waiting {
            instances: self.instances,
            place: lock(&self.instances.ledger).line.join(self.client),
        }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut ledger = lock(&self.instances.ledger);
        if let Entry::Occupied(mut asking) = ledger.asking.entry(self.client) {
            *asking.get_mut() -= 1;
            if *asking.get() == 0 {
                asking.remove();
            }
        }
        ledger.wanted -= 1;
        ledger.promised = ledger.promised.saturating_sub(1);
        drop(ledger);
        self.instances.asking.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A request in the line of those that wait for an instance.
struct Waiting<'i> {
    instances: &'i Instances,
    place: InLine,
}

impl Waiting<'_> {
    /// Waits until an instance is free, which nobody else takes.
    async fn called(&self) {
        poll_fn(|cx| self.place.poll_called(cx)).await;
    }

    /// Leaves the line. Returns whether an instance is the request's.
    fn leave(&self) -> bool {
        self.place.leave()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // A request that has not left was dropped, maybe when it had been called.
        if self.leave() {
            self.instances.release();
        }
    }
}

/// An instance that waits for its client now and then, from its first wait to the end of its call.
#[derive(Debug)]
pub(crate) struct Holding {
    instances: Arc<Instances>,
    id: u64,
    wait: Arc<Wait>,
}

impl Holding {
    /// Notes that the instance waits; `moved` is how many bytes its client has moved so far. Ready if the
    /// instance has been taken back, else `cx` is woken when it is.
    pub(crate) fn poll_taken_back(&self, cx: &Context, moved: u64) -> Poll<()> {
        let mut state = lock(&self.wait.state);
        if state.is_over {
            return Poll::Ready(());
        }
        let now = self.instances.began.elapsed();
        if mem::take(&mut state.works) {
            state.since = None;
        }
        state.since.get_or_insert(now);
        state.moved = moved;
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => state.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Notes that the instance computes or sleeps for long, in a task that `waker` wakes; `moved` is how many
    /// bytes its client has moved so far. Returns whether the instance has been taken back.
    pub(crate) fn works(&self, moved: u64, waker: Option<&Waker>) -> bool {
        let mut state = lock(&self.wait.state);
        let now = self.instances.began.elapsed();
        state.since.get_or_insert(now);
        if let Some(waker) = waker {
            state.waker = Some(waker.clone());
        }
        state.works = true;
        state.moved = moved;
        state.is_over
    }

    /// Notes that the instance does not wait any more; `moved` is how many bytes its client has moved so far.
    pub(crate) fn go_on(&self, moved: u64) {
        let mut state = lock(&self.wait.state);
        let now = self.instances.began.elapsed();
        if let Some(since) = state.since.take() {
            state.waited += now.saturating_sub(since);
        }
        state.moved = moved;
    }

    /// Returns how far the client is behind that the instance waits for; `None` if it waits for none.
    pub(crate) fn waiter(&self) -> Option<Waiter> {
        let waiter = self.wait.waiter(self.instances.began.elapsed());
        waiter.filter(|waiter| !waiter.works)
    }

    /// Takes the instance back.
    pub(crate) fn take_back(&self) {
        lock(&self.instances.ledger).waits.remove(&self.id);
        self.wait.end();
    }

    /// Returns whether the instance waits for its client.
    pub(crate) fn is_waiting(&self) -> bool {
        let state = lock(&self.wait.state);
        state.since.is_some() && !state.works
    }

    /// Returns whether the instance was taken back while it did not wait for its client.
    pub(crate) fn is_overtaken(&self) -> bool {
        let state = lock(&self.wait.state);
        state.is_over && state.works
    }

    /// Returns whether the instance was taken back.
    pub(crate) fn is_over(&self) -> bool {
        lock(&self.wait.state).is_over
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        lock(&self.instances.ledger).waits.remove(&self.id);
    }
}

#[derive(Debug)]
struct Wait {
    client: Client,
    state: Mutex<WaitState>,
}

#[derive(Debug, Default)]
struct WaitState {
    /// The time at which the current wait began, or at which the instance was first seen to compute or sleep
    /// for long.
    since: Option<Duration>,
    /// The instance does not wait for its client, but computes or sleeps.
    works: bool,
    /// The time of all waits before, together.
    waited: Duration,
    /// Bytes that were moved.
    moved: u64,
    /// The task that is to hear that the instance was taken back.
    waker: Option<Waker>,
    is_over: bool,
}

impl Wait {
    /// Returns how late the client is at `now`; `None` if the instance may not be taken back.
    fn waiter(&self, now: Duration) -> Option<Waiter> {
        let state = lock(&self.state);
        let waited = state.waited + now.saturating_sub(state.since?);
        Some(Waiter {
            client: self.client,
            late: waited.saturating_sub(PRESSED.time_for(state.moved)),
            works: state.works,
        })
    }

    fn end(&self) {
        let mut state = lock(&self.state);
        state.is_over = true;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

/// An error: there was no instance in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shortage;

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("no instance is free")
    }
}

impl Error for Shortage {}

/// An error: the instance waited for its client, and others needed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TakenBack;

impl fmt::Display for TakenBack {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("the instance was taken back")
    }
}

impl Error for TakenBack {}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Client = Client::V4([192, 0, 2, 1]);
    const B: Client = Client::V4([192, 0, 2, 2]);
    const C: Client = Client::V6([0x20, 1, 0xd, 0xb8, 0, 0, 0, 1]);

    #[test]
    fn the_client_furthest_behind_gives_up_its_instance_unless_it_holds_its_share_only() {
        // The clients that wait, and how late each is; the clients that ask; how many instances there are;
        // how many are wanted; which give one up.
        type Case<'c> = (&'c [(Client, u64)], &'c [Client], usize, usize, &'c [usize]);
        let cases: &[Case] = &[
            (&[], &[A], 4, 1, &[]),
            (&[(A, 0)], &[A], 1, 1, &[0]),
            (&[(A, 0)], &[B], 1, 1, &[0]),
            (&[(A, 0)], &[B], 1, 2, &[0]),
            (&[(A, 1), (A, 3), (A, 2)], &[B], 3, 1, &[1]),
            (&[(A, 1), (A, 3), (A, 2)], &[A], 3, 2, &[1, 2]),
            // B holds less than a third, and another holds more.
            (&[(A, 1), (A, 2), (A, 3), (A, 1), (B, 9)], &[C], 6, 1, &[2]),
            (
                &[(A, 1), (A, 2), (A, 3), (A, 1), (B, 9)],
                &[C],
                6,
                3,
                &[2, 1, 0],
            ),
            // At last it holds as many as any.
            (&[(A, 1), (A, 2), (B, 9)], &[C], 6, 2, &[1, 2]),
            // B holds its share of three: it is like any other.
            (&[(A, 1), (A, 2), (B, 9), (B, 1)], &[C], 6, 1, &[2]),
            // Nobody holds more.
            (&[(A, 5), (B, 9)], &[C], 64, 1, &[1]),
            // More clients than instances: one each is a share.
            (
                &[(A, 1), (B, 2)],
                &[C, Client::Alone(1), Client::Alone(2)],
                2,
                1,
                &[1],
            ),
        ];
        for &(waiters, asking, max, wanted, chosen) in cases {
            let late = |&(client, late)| Waiter {
                client,
                late: Duration::from_secs(late),
                works: false,
            };
            let waiters: Vec<_> = waiters.iter().map(late).collect();
            let held = held(&waiters);
            assert_eq!(
                choose(&waiters, held, asking, max, wanted),
                chosen,
                "{waiters:?}"
            );
        }
    }

    fn held(waiters: &[Waiter]) -> HashMap<Client, usize> {
        let mut held = HashMap::new();
        for waiter in waiters {
            *held.entry(waiter.client).or_default() += 1;
        }
        held
    }

    #[test]
    fn an_instance_at_work_is_taken_back_for_others_from_who_has_more_than_its_share() {
        let seconds = Duration::from_secs;
        let waits = |client, late| Waiter {
            client,
            late: seconds(late),
            works: false,
        };
        let works = |client, late| Waiter {
            works: true,
            ..waits(client, late)
        };
        // The instances that may be taken back; who holds others; who asks; how many there are; how many are wanted; who
        // gives one up.
        type Case<'c> = (
            &'c [Waiter],
            &'c [(Client, usize)],
            &'c [Client],
            usize,
            usize,
            &'c [usize],
        );
        let cases: &[Case] = &[
            // All of one client, which asks for more.
            (&[works(A, 9); 4], &[], &[A], 4, 1, &[]),
            (&[works(A, 9); 4], &[(B, 1)], &[A], 5, 1, &[]),
            // Another asks.
            (&[works(A, 8), works(A, 9)], &[], &[B], 2, 1, &[1]),
            (&[works(A, 8), works(A, 9)], &[], &[B], 2, 2, &[1]),
            // An instance that waits goes first, though it is less late.
            (&[works(A, 9), waits(A, 1)], &[], &[B], 2, 1, &[1]),
            // B, which holds less than others, loses none.
            (&[waits(B, 9)], &[(A, 5)], &[C], 6, 1, &[]),
            (&[waits(B, 9), works(A, 1)], &[(A, 4)], &[C], 6, 2, &[1]),
            // All have their share.
            (
                &[works(A, 9), works(B, 9)],
                &[(A, 1), (B, 1), (C, 2)],
                &[C],
                6,
                1,
                &[],
            ),
        ];
        for &(waiters, others, asking, max, wanted, chosen) in cases {
            let mut held = held(waiters);
            for &(client, count) in others {
                *held.entry(client).or_default() += count;
            }
            assert_eq!(
                choose(waiters, held, asking, max, wanted),
                chosen,
                "{waiters:?}"
            );
        }
    }

    /// Waits as an instance does, until it is taken back.
    async fn wait(holding: &Holding, moved: u64) {
        poll_fn(|cx| holding.poll_taken_back(cx, moved)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_is_taken_back_for_each_that_asks_and_no_more() {
        let instances = Instances::new(3);
        let patience = Duration::from_secs(2);
        let mut waiting = Vec::new();
        for moved in [3_000_000, 0, 2_000_000] {
            let permit = instances.take(A, patience).await.expect("free");
            let holding = instances.register(A);
            waiting.push(tokio::spawn(async move {
                wait(&holding, moved).await;
                drop((permit, holding));
                moved
            }));
        }
        assert!(!instances.are_short());
        let taken = instances.take(B, patience).await;
        assert!(taken.is_ok());
        assert_eq!(waiting.remove(1).await.expect("ended"), 0);
        assert!(!instances.are_short());
        tokio::time::sleep(patience).await;
        assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
        let (one, another) = tokio::join!(instances.take(B, patience), instances.take(C, patience));
        assert!(one.is_ok() && another.is_ok());
        // Requests that compute keep their instances.
        let began = Instant::now();
        assert_eq!(instances.take(A, patience).await.err(), Some(Shortage));
        assert!(began.elapsed() >= patience);
        assert!(lock(&instances.ledger).waits.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_made_one_instance_after_the_other_however_many_want_it() {
        let instances = Instances::new(100);
        let patience = Duration::from_secs(2);
        let enough = 90;
        let mut waiting = Vec::new();
        for _ in 0..100 {
            let permit = instances.take(A, patience).await.expect("free");
            let holding = instances.register(A);
            waiting.push(tokio::spawn(async move {
                wait(&holding, 0).await;
                drop((permit, holding));
            }));
        }
        tokio::task::yield_now().await;
        let asking = [(); 50].map(|()| {
            let instances = instances.clone();
            tokio::spawn(async move {
                let is_enough = || instances.taken() <= enough;
                instances.make_room(B, patience, is_enough).await;
            })
        });
        for asking in asking {
            asking.await.expect("ended");
        }
        assert!(
            (enough - 2..=enough).contains(&instances.taken()),
            "{}",
            instances.taken()
        );
        assert!(lock(&instances.ledger).line.is_empty());
        waiting.iter().for_each(|waiting| waiting.abort());
    }

    #[tokio::test(start_paused = true)]
    async fn clients_that_ask_take_turns() {
        let instances = Instances::new(1);
        let patience = Duration::from_secs(2);
        let permit = instances.take(A, patience).await.expect("free");
        let order = Arc::<Mutex<Vec<Client>>>::default();
        let asking: Vec<_> = [A, A, A, A, B]
            .map(|client| {
                let (instances, order) = (instances.clone(), order.clone());
                tokio::spawn(async move {
                    let _permit = instances.take(client, patience).await.expect("one");
                    lock(&order).push(client);
                })
            })
            .into();
        tokio::task::yield_now().await;
        assert_eq!(instances.taken(), 1);
        drop(permit);
        for asking in asking {
            asking.await.expect("ended");
        }
        assert_eq!(*lock(&order), [A, B, A, A, A]);
        assert_eq!(instances.taken(), 0);
        assert!(instances.held().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_when_it_was_called_gives_the_instance_to_the_next() {
        let instances = Instances::new(1);
        let patience = Duration::from_secs(2);
        let permit = instances.take(A, patience).await.expect("free");
        let asking = [A, B].map(|client| {
            let instances = instances.clone();
            tokio::spawn(async move { instances.take(client, patience).await.is_ok() })
        });
        tokio::task::yield_now().await;
        drop(permit);
        let [gone, next] = asking;
        gone.abort();
        assert!(gone.await.is_err(), "it has gone");
        assert!(next.await.expect("ended"));
        assert_eq!(instances.taken(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_at_work_hears_that_it_was_taken_back() {
        let instances = Instances::new(2);
        let patience = Duration::from_secs(2);
        let permits = [
            instances.take(A, patience).await,
            instances.take(A, patience).await,
        ];
        let holding = instances.register(A);
        assert!(!holding.works(0, None));
        assert!(!holding.is_waiting());
        let asking = {
            let instances = instances.clone();
            tokio::spawn(async move { instances.take(B, patience).await.is_ok() })
        };
        tokio::time::sleep(patience / 2).await;
        assert!(holding.works(0, None));
        drop(permits);
        assert!(asking.await.expect("ended"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_instance_to_take_back_has_those_that_sleep_searched_for() {
        let instances = Instances::new(1);
        let patience = Duration::from_secs(2);
        let permit = instances.take(A, patience).await.expect("free");
        let holding = instances.register(A);
        let asking = {
            let instances = instances.clone();
            tokio::spawn(async move { instances.take(B, patience).await.is_ok() })
        };
        let began = Instant::now();
        instances.asked_in_vain().await;
        assert!(began.elapsed() <= 2 * STEP);
        // Holds all there are, and no more than its share, until another asks.
        holding.works(0, None);
        drop(permit);
        assert!(asking.await.expect("ended"));
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_give_up_what_they_keep_as_ask() {
        let instances = Instances::new(1);
        let patience = Duration::from_secs(2);
        let permit = instances.take(A, patience).await.expect("free");
        assert!(!instances.give_up(), "nobody asks");
        let asking = {
            let instances = instances.clone();
            tokio::spawn(async move { instances.take(B, patience).await.is_ok() })
        };
        tokio::task::yield_now().await;
        assert!(instances.give_up());
        assert!(!instances.give_up(), "one is enough");
        drop(permit);
        assert!(asking.await.expect("ended"));
        assert!(!instances.give_up(), "nobody asks any more");
    }
}
