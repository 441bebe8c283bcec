//! The order in which instances compute where many are ready on a core at once.
//!
//! 1. A call begins at once as long as few have begun since the core last looked at everything that is ready
//!    ([`begin`]). Mostly a counter goes down, and nothing else happens.
//! 2. Further ones wait in line, where clients take turns. As many begin each time as are done within a tick of the
//!    clock.
//! 3. A call that goes on computing waits in line as well, another one, of which one is called each time ([`go_on`]).
//!
//! So the request of a client that asks for little is soon computed, however many calls others have, and however
//! long those take.

use std::cell::RefCell;
use std::future::poll_fn;
use std::mem;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::timeout;

use crate::pace::client::Client;
use crate::pace::instances::Shortage;
use crate::pace::line::Line;

/// Calls that begin at most before the core looks at what else is ready: as many as go in step (`cohort`).
const AT_ONCE: usize = 32;
/// Calls that begin at least, though they take long. With fewer, short calls behind them would wait for
/// nothing.
const LEAST: usize = 4;

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
    /// Calls that may begin between two looks.
    at_once: usize,
    /// A call has computed for a tick since the last look.
    is_busy: bool,
    /// Somebody calls those in line.
    is_called: bool,
}

impl Default for Turns {
    fn default() -> Self {
        Turns {
            beginning: Line::default(),
            going_on: Line::default(),
            free: AT_ONCE,
            at_once: AT_ONCE,
            is_busy: false,
            is_called: false,
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

/// Returns whether more calls are ready to begin than the core begins at once.
pub(crate) fn are_awaited() -> bool {
    TURNS.with_borrow(|turns| !turns.beginning.is_empty())
}

/// Waits until a call for `client` that has computed for a while may go on.
pub(crate) async fn go_on(client: Client) {
    wait(|turns| &mut turns.going_on, client).await;
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
    while TURNS.with_borrow_mut(Turns::call) {
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
        is_free
    }

    /// Calls some of those in line. Returns false if nobody is in line.
    fn call(&mut self) -> bool {
        self.at_once = next_at_once(self.at_once, self.is_busy);
        self.is_busy = false;
        self.free = self.at_once;
        let mut is_left = self.going_on.call_next();
        while self.free > 0 && self.beginning.call_next() {
            self.free -= 1;
            is_left = true;
        }
        is_left
    }
}

/// Returns how many calls may begin until the next look. Until the last one, `before` could begin; `is_busy`
/// says whether one of these was busy for a tick.
fn next_at_once(before: usize, is_busy: bool) -> usize {
    match is_busy {
        true => (before / 4).max(LEAST),
        false => (before * 2).min(AT_ONCE),
    }
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
        for (before, is_busy, after) in [
            (32, false, 32),
            (32, true, 8),
            (8, true, 4),
            (4, true, 4),
            (4, false, 8),
            (20, false, 32),
        ] {
            assert_eq!(next_at_once(before, is_busy), after, "{before} {is_busy}");
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
