//! The order in which instances compute where many are ready on a core at once.
//!
//! 1. A call begins at once as long as few have begun since the core last looked at everything that is ready
//!    ([`begin`]). Mostly a counter goes down, and nothing else happens.
//! 2. Further ones wait in line, where clients take turns. As many begin each time as are done within [`LOOK`].
//! 3. A call that goes on computing waits in line as well, another one, of which one is called each time ([`go_on`]).
//!
//! So the request of a client that asks for little is soon computed, however many calls others have, and however
//! long those take.

use std::cell::RefCell;
use std::future::poll_fn;
use std::mem;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::pace::client::Client;
use crate::pace::instances::Shortage;
use crate::pace::line::Line;

/// Calls that begin at most before the core looks at what else is ready: as many as go in step (`cohort`).
const AT_ONCE: usize = 32;
/// Calls that begin at least: where something else takes long, as large answers do, calls are not to wait for it.
const LEAST: usize = 8;
/// Calls that begin at least where one has computed for a tick. 128 that loop had a client wait for 84 to 160 ms with four.
const LEAST_BUSY: usize = 2;
/// CPU time for the calls that begin between two looks. A request that has just come goes through some looks: where calls of
/// 0.5 ms began 32 at a time, it waited for 70 ms.
const LOOK: Duration = Duration::from_millis(2);

thread_local! {
    /// The turns of this core.
    static TURNS: RefCell<Turns> = RefCell::default();
}

#[derive(Debug)]
struct Turns {
    beginning: Line,
    going_on: Line,
    /// Calls that may begin until the core has looked at what else is ready.
    free: usize,
    /// Calls that have begun, and requests that have followed in one, since the last look.
    begun: usize,
    /// The CPU time that the core had taken by then.
    spent: Duration,
    /// A call has computed for a tick since.
    is_busy: bool,
    /// Somebody calls those in line.
    is_called: bool,
    newcomers: Newcomers,
}

/// The task that accepts connections, where many calls are in line. The event loop tells it of newcomers only in its turn
/// among all connections that are ready: beside 2,000 that were busy, newcomers waited for 90 ms.
#[derive(Debug)]
enum Newcomers {
    /// The task hears of the next look.
    Awaited(Waker),
    /// There was a look, and so many newcomers may come in.
    Welcome(usize),
}

impl Default for Turns {
    fn default() -> Self {
        Turns {
            beginning: Line::default(),
            going_on: Line::default(),
            free: LEAST,
            begun: 0,
            spent: Duration::ZERO,
            is_busy: false,
            is_called: false,
            newcomers: Newcomers::Welcome(0),
        }
    }
}

/// Waits until a call for `client` may begin, at most for `patience`.
///
/// # Errors
/// [`Shortage`] if it may not by then.
pub(crate) async fn begin(client: Client, patience: Duration) -> Result<(), Shortage> {
    match TURNS.with_borrow_mut(Turns::take) {
        true => Ok(()),
        false => {
            let waiting = wait(|turns| &mut turns.beginning, client);
            let called = Box::pin(timeout(patience, waiting)).await;
            called.map_err(|_| Shortage)
        }
    }
}

/// Notes that a request follows in a call that goes on: its time is not that of the calls that begin.
pub(crate) fn note_following() {
    TURNS.with_borrow_mut(|turns| turns.begun += 1);
}

/// Returns whether more calls are ready to begin than the core begins at once.
pub(crate) fn are_awaited() -> bool {
    TURNS.with_borrow(|turns| !turns.beginning.is_empty())
}

/// Waits until a call for `client` that has computed for a while may go on.
pub(crate) async fn go_on(client: Client) {
    wait(|turns| &mut turns.going_on, client).await;
}

/// Polls for a look at what is ready, while calls are in line, and returns what `accept` does then. `None` from `accept` means
/// that there is nobody.
pub(crate) fn poll_newcomer<T>(cx: &Context, accept: impl FnOnce() -> Option<T>) -> Poll<T> {
    let is_welcome = TURNS.with_borrow_mut(|turns| turns.welcome_one());
    let newcomer = if is_welcome { accept() } else { None };
    if newcomer.is_none() {
        let awaited = Newcomers::Awaited(cx.waker().clone());
        TURNS.with_borrow_mut(|turns| turns.newcomers = awaited);
    }
    newcomer.map_or(Poll::Pending, Poll::Ready)
}

/// Notes that a call has computed for a tick. No other call begins before the core has looked at what is
/// ready.
pub(crate) fn note_tick() {
    TURNS.with_borrow_mut(|turns| {
        turns.is_busy = true;
        turns.free = 0;
    });
}

async fn wait(line: impl FnOnce(&mut Turns) -> &mut Line, client: Client) {
    let (waiting, is_called) = TURNS.with_borrow_mut(|turns| {
        let waiting = line(turns).join(client);
        (waiting, mem::replace(&mut turns.is_called, true))
    });
    if !is_called {
        tokio::spawn(call(Calling));
    }
    poll_fn(|cx| waiting.poll_called(cx)).await;
}

/// Calls those in line: some of them whenever everything else has run that is ready.
async fn call(_calling: Calling) {
    while TURNS.with_borrow_mut(|turns| turns.call(time_spent())) {
        yield_now().await;
    }
}

/// The task that calls those in line, until this is dropped, be it with the runtime.
struct Calling;

impl Drop for Calling {
    fn drop(&mut self) {
        let _ = TURNS.try_with(|turns| turns.borrow_mut().is_called = false);
    }
}

impl Turns {
    /// Lets a call begin if one more may. Returns whether it may.
    fn take(&mut self) -> bool {
        let is_free = self.free > 0 && self.beginning.is_empty();
        self.free -= usize::from(is_free);
        self.begun += usize::from(is_free);
        is_free
    }

    /// Lets a newcomer in if one more may come. Returns whether one may.
    fn welcome_one(&mut self) -> bool {
        match &mut self.newcomers {
            Newcomers::Welcome(left) if *left > 0 => {
                *left -= 1;
                true
            }
            Newcomers::Welcome(_) | Newcomers::Awaited(_) => false,
        }
    }

    /// Calls some of those in line; the core has `spent` so much CPU time until now. Returns false if nobody is in line.
    fn call(&mut self, spent: Duration) -> bool {
        let begun = mem::take(&mut self.begun);
        let before = mem::replace(&mut self.spent, spent);
        let is_busy = mem::take(&mut self.is_busy);
        self.free = at_once(begun, spent.saturating_sub(before), is_busy);
        let newcomers = mem::replace(&mut self.newcomers, Newcomers::Welcome(AT_ONCE));
        if let Newcomers::Awaited(waker) = newcomers {
            waker.wake();
        }
        let mut is_left = self.going_on.call_next();
        while self.free > 0 && self.beginning.call_next() {
            self.free -= 1;
            self.begun += 1;
            is_left = true;
        }
        is_left
    }
}

/// Returns the CPU time that this core has spent on everything.
fn time_spent() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.try_into().unwrap_or_default()
}

/// Returns how many calls may begin between two looks where `begun` calls, and all else meanwhile, took the CPU time `spent`;
/// `is_busy` says whether a call computed for a tick.
fn at_once(begun: usize, spent: Duration, is_busy: bool) -> usize {
    let least = if is_busy { LEAST_BUSY } else { LEAST };
    let fit = begun as u128 * LOOK.as_nanos() / spent.as_nanos().max(1);
    fit.clamp(least as u128, AT_ONCE as u128) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    use crate::lock::lock;

    const PATIENCE: Duration = Duration::from_secs(2);
    const A: Client = Client::V4([192, 0, 2, 1]);
    const B: Client = Client::V4([192, 0, 2, 2]);

    #[test]
    fn fewer_calls_begin_at_once_where_they_take_long() {
        for (begun, micros, is_busy, after) in [
            (32, 32 * 20, false, 32),
            (32, 32 * 500, false, 8),
            (8, 8 * 100, false, 20),
            (8, 8 * 20, false, 32),
            (32, 0, false, 32),
            (1, 30_000_000, false, 8),
            (0, 2500, true, 2),
            (4, 4 * 5000, true, 2),
            (32, 32 * 100, true, 20),
        ] {
            let spent = Duration::from_micros(micros);
            let found = at_once(begun, spent, is_busy);
            assert_eq!(found, after, "{begun} {micros} {is_busy}");
        }
    }

    #[tokio::test]
    async fn a_call_of_a_client_with_few_does_not_wait_for_all_of_another() {
        let order = Arc::<Mutex<Vec<Client>>>::default();
        let calls = (0..10 * AT_ONCE).map(|_| A).chain([B]).map(|client| {
            let order = order.clone();
            tokio::spawn(async move {
                begin(client, PATIENCE).await.expect("a turn");
                lock(&order).push(client);
            })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.expect("no panic");
        }
        let order = lock(&order);
        let place = order.iter().position(|&client| client == B);
        assert!(place.is_some_and(|place| place <= 2 * AT_ONCE), "{place:?}");
    }

    #[tokio::test]
    async fn of_calls_that_go_on_one_computes_between_two_looks_at_what_is_ready() {
        let others = Arc::<Mutex<usize>>::default();
        let long = (0..8).map(|_| {
            let others = others.clone();
            tokio::spawn(async move {
                go_on(A).await;
                let mut others = lock(&others);
                mem::take(&mut *others)
            })
        });
        let long: Vec<_> = long.collect();
        let counting = tokio::spawn(async move {
            loop {
                *lock(&others) += 1;
                tokio::task::yield_now().await;
            }
        });
        for (number, call) in long.into_iter().enumerate() {
            let looks = call.await.expect("no panic");
            assert!(looks > 0 || number == 0, "{number}");
        }
        counting.abort();
    }

    #[test]
    fn at_each_look_some_newcomers_are_let_in() {
        let cx = Context::from_waker(Waker::noop());
        let let_in = || (0..).take_while(|_| poll_newcomer(&cx, || Some(())).is_ready());
        assert_eq!(let_in().count(), 0);
        for _ in 0..2 {
            TURNS.with_borrow_mut(|turns| turns.call(Duration::ZERO));
            assert!(poll_newcomer(&cx, || None::<()>).is_pending(), "nobody");
            assert_eq!(let_in().count(), 0, "there was nobody");
            TURNS.with_borrow_mut(|turns| turns.call(Duration::ZERO));
            assert_eq!(let_in().count(), AT_ONCE);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_has_no_turn_in_time_does_not_begin() {
        note_tick();
        let nobody = Calling;
        TURNS.with_borrow_mut(|turns| turns.is_called = true);
        assert_eq!(begin(A, PATIENCE).await, Err(Shortage));
        drop(nobody);
        assert_eq!(begin(A, PATIENCE).await, Ok(()));
    }
}
