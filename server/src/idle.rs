//! Instances that wait for another request. All of a core are looked at together, every [`ROUND`]: a
//! timer for each would go off about as often as requests come, with many clients.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::lock::lock;

/// How long a wait may last, and at most twice that. Much longer, and clients that come and stay idle
/// would cost memory.
const ROUND: Duration = Duration::from_millis(10);

thread_local! {
    /// Those that belong to this core.
    static WAITERS: RefCell<Vec<Weak<Waiter>>> = const { RefCell::new(Vec::new()) };
}

/// Bounds the waits of one instance, which follow each other on one core.
#[derive(Default)]
pub(crate) struct Idle {
    waiter: Option<Arc<Waiter>>,
}

#[derive(Default)]
struct Waiter(Mutex<Wait>);

#[derive(Default)]
enum Wait {
    /// There is none.
    #[default]
    None,
    /// It has begun since the last round.
    New(Waker),
    /// It has lasted for a round.
    Old(Waker),
    /// It has lasted for two, and is over.
    Over,
}

impl Idle {
    /// The outcome of `future`, or `None` if it takes longer than a [`ROUND`].
    pub(crate) async fn wait<F: Future>(&mut self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            let polled = future.as_mut().poll(cx);
            if polled.is_pending() {
                return self.waiter().poll(cx.waker());
            }
            if let Some(waiter) = &self.waiter {
                *lock(&waiter.0) = Wait::None;
            }
            polled.map(Some)
        })
        .await
    }

    fn waiter(&mut self) -> &Waiter {
        self.waiter.get_or_insert_with(|| {
            let waiter = Arc::<Waiter>::default();
            watch(Arc::downgrade(&waiter));
            waiter
        })
    }
}

impl Waiter {
    /// Whether the wait is over, and ready with `None` then; else `waker` hears of it.
    fn poll<T>(&self, waker: &Waker) -> Poll<Option<T>> {
        let mut wait = lock(&self.0);
        match &mut *wait {
            Wait::None => *wait = Wait::New(waker.clone()),
            Wait::New(known) | Wait::Old(known) => known.clone_from(waker),
            Wait::Over => {
                *wait = Wait::None;
                return Poll::Ready(None);
            }
        }
        Poll::Pending
    }

    /// Says that a round has passed.
    fn age(&self) {
        let mut wait = lock(&self.0);
        *wait = match mem::take(&mut *wait) {
            Wait::New(waker) => Wait::Old(waker),
            Wait::Old(waker) => {
                waker.wake();
                Wait::Over
            }
            other => other,
        };
    }
}

/// Looks at `waiter` every [`ROUND`] from now on, until it has gone.
fn watch(waiter: Weak<Waiter>) {
    let is_first = WAITERS.with_borrow_mut(|waiters| {
        waiters.push(waiter);
        waiters.len() == 1
    });
    if is_first {
        tokio::spawn(go_round());
    }
}

/// Looks at all of this core, until there are none.
async fn go_round() {
    let mut is_needed = true;
    while is_needed {
        tokio::time::sleep(ROUND).await;
        is_needed = WAITERS.with_borrow_mut(|waiters| {
            waiters.retain(|waiter| waiter.upgrade().inspect(|waiter| waiter.age()).is_some());
            !waiters.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_when_it_has_lasted_for_a_round() {
        let began = tokio::time::Instant::now();
        assert_eq!(Idle::default().wait(pending::<()>()).await, None);
        assert!((ROUND..=3 * ROUND).contains(&began.elapsed()));
    }

    #[tokio::test(start_paused = true)]
    async fn waits_that_end_in_time_are_never_over_however_many_follow_each_other() {
        let mut idle = Idle::default();
        for _ in 0..100 {
            let soon = tokio::time::sleep(ROUND - Duration::from_millis(1));
            assert_eq!(idle.wait(soon).await, Some(()));
        }
        assert_eq!(idle.wait(ready(1)).await, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_goes_round_when_all_have_gone() {
        let mut idle = Idle::default();
        assert_eq!(idle.wait(pending::<()>()).await, None);
        drop(idle);
        tokio::time::sleep(2 * ROUND).await;
        assert!(WAITERS.with_borrow(Vec::is_empty));
        assert_eq!(Idle::default().wait(pending::<()>()).await, None);
    }
}
