//! Instances that wait for another request, and the connections that they wait for. All instances of a core are looked at
//! together, every [`ROUND`].

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::lock::lock;
use crate::pace::instances::Instances;
use crate::pace::round::{self, ROUND};

/// Rounds that a wait may last; it lasts at most one more. With many more, clients that come and stay idle
/// would cost memory.
const SHORT: u32 = 1;
/// Rounds that a wait may last for a client that has come back [`SOON`] after an instance had gone.
const LONG: u32 = 20;
/// Time within which a client comes back soon: as long as a wait of `LONG` rounds.
pub(crate) const SOON: Duration = ROUND.saturating_mul(LONG);

thread_local! {
    /// Instances of this core that wait between requests.
    static WAITERS: RefCell<Vec<Weak<Waiter>>> = const { RefCell::new(Vec::new()) };
    /// Connections of this core.
    static CONNECTIONS: Cell<usize> = const { Cell::new(0) };
}

/// A connection of this core, counted until this is dropped.
pub(crate) struct Counted(());

impl Counted {
    /// Counts one more.
    pub(crate) fn new() -> Self {
        CONNECTIONS.set(CONNECTIONS.get() + 1);
        Counted(())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let _ = CONNECTIONS.try_with(|count| count.set(count.get().saturating_sub(1)));
    }
}

/// Returns how many connections this core has.
pub(crate) fn connections() -> usize {
    CONNECTIONS.get()
}

/// Returns how many instances of this core wait for requests between those they serve, or did until lately.
pub(crate) fn instances() -> usize {
    WAITERS.with_borrow(Vec::len)
}

/// Bounds the waits of one instance, which follow each other on one core.
pub(crate) struct Idle {
    waiter: Arc<Waiter>,
    is_watched: bool,
}

struct Waiter {
    /// All instances that there may be.
    instances: Arc<Instances>,
    /// Rounds that a wait may last, unless others ask for an instance.
    rounds: u32,
    wait: Mutex<Wait>,
}

#[derive(Default)]
enum Wait {
    /// Nobody waits.
    #[default]
    None,
    /// A task waits, and so many rounds have begun since.
    For(Waker, u32),
    Over,
}

impl Idle {
    /// Bounds the waits of an instance out of `instances`, whose client `comes_back` [`SOON`] or not.
    pub(crate) fn new(instances: Arc<Instances>, comes_back: bool) -> Self {
        Idle {
            waiter: Arc::new(Waiter {
                instances,
                rounds: if comes_back { LONG } else { SHORT },
                wait: Mutex::default(),
            }),
            is_watched: false,
        }
    }

    /// Returns whether the instance should rather go to others, who ask for one.
    pub(crate) fn gives_up(&self) -> bool {
        self.waiter.instances.give_up()
    }

    /// Returns the output of `future`, or `None` if it takes too long, or if others ask for the instance.
    pub(crate) async fn wait<F: Future>(&mut self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            let polled = future.as_mut().poll(cx);
            if polled.is_pending() {
                self.watch();
                return self.waiter.poll(cx.waker());
            }
            *lock(&self.waiter.wait) = Wait::None;
            polled.map(Some)
        })
        .await
    }

    /// Has the waits looked at every [`ROUND`] from the first one on.
    fn watch(&mut self) {
        if mem::replace(&mut self.is_watched, true) {
            return;
        }
        let is_first = WAITERS.with_borrow_mut(|waiters| {
            waiters.push(Arc::downgrade(&self.waiter));
            waiters.len() == 1
        });
        if is_first {
            round::begin(go_round, forget_all);
        }
    }
}

impl Waiter {
    /// Polls for the end of the wait: ready with `None` if it is over, else `waker` hears of it.
    fn poll<T>(&self, waker: &Waker) -> Poll<Option<T>> {
        let mut wait = lock(&self.wait);
        match &mut *wait {
            Wait::None => *wait = Wait::For(waker.clone(), 0),
            Wait::For(known, _) => known.clone_from(waker),
            Wait::Over => {
                *wait = Wait::None;
                return Poll::Ready(None);
            }
        }
        Poll::Pending
    }

    /// Notes that a round has begun.
    fn age(&self) {
        let mut wait = lock(&self.wait);
        *wait = match mem::take(&mut *wait) {
            Wait::For(waker, rounds) if rounds < self.rounds && !self.instances.give_up() => {
                Wait::For(waker, rounds + 1)
            }
            Wait::For(waker, _) => {
                waker.wake();
                Wait::Over
            }
            other => other,
        };
    }
}

/// Forgets all waits of this core, which have ended with the runtime: whoever waits next on this thread is the first.
fn forget_all() {
    let _ = WAITERS.try_with(|waiters| waiters.borrow_mut().clear());
}

/// Looks at all waits of this core. Returns false if there are none.
fn go_round() -> bool {
    WAITERS.with_borrow_mut(|waiters| {
        waiters.retain(|waiter| waiter.upgrade().inspect(|waiter| waiter.age()).is_some());
        !waiters.is_empty()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    use crate::pace::client::Client;
    use tokio::time::Instant;

    fn new_idle() -> Idle {
        Idle::new(Instances::new(1), false)
    }

    async fn duration_of_wait(mut idle: Idle) -> Duration {
        let began = Instant::now();
        assert_eq!(idle.wait(pending::<()>()).await, None);
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_when_it_has_lasted_for_a_round() {
        let lasted = duration_of_wait(new_idle()).await;
        assert!((ROUND..=3 * ROUND).contains(&lasted));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_comes_back_soon_is_waited_for_as_long() {
        let lasted = duration_of_wait(Idle::new(Instances::new(1), true)).await;
        assert!((SOON..=SOON + 3 * ROUND).contains(&lasted));
    }

    #[tokio::test(start_paused = true)]
    async fn no_wait_is_long_while_others_ask_for_an_instance() {
        let instances = Instances::new(0);
        let asking = {
            let instances = instances.clone();
            tokio::spawn(async move { instances.take(Client::of(None), SOON).await.is_ok() })
        };
        let lasted = duration_of_wait(Idle::new(instances, true)).await;
        assert!(lasted <= 3 * ROUND, "{lasted:?}");
        asking.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn waits_that_end_in_time_are_never_over_however_many_follow_each_other() {
        let mut idle = new_idle();
        for _ in 0..100 {
            let soon = tokio::time::sleep(ROUND - Duration::from_millis(1));
            assert_eq!(idle.wait(soon).await, Some(()));
        }
        assert_eq!(idle.wait(ready(1)).await, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_goes_round_when_all_have_gone() {
        duration_of_wait(new_idle()).await;
        tokio::time::sleep(2 * ROUND).await;
        assert!(WAITERS.with_borrow(Vec::is_empty));
        duration_of_wait(new_idle()).await;
    }

    #[test]
    fn a_wait_ends_though_another_runtime_ended_in_one() {
        let runtime = || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder
                .enable_all()
                .start_paused(true)
                .build()
                .expect("a runtime")
        };
        let (before, mut left) = (runtime(), new_idle());
        before.block_on(async {
            tokio::select! {
                biased;
                _ = left.wait(pending::<()>()) => {}
                () = ready(()) => {}
            }
        });
        drop(before);
        let wait = duration_of_wait(new_idle());
        let waited = runtime().block_on(async { tokio::time::timeout(100 * ROUND, wait).await });
        assert!(waited.is_ok(), "nobody goes round");
    }
}
