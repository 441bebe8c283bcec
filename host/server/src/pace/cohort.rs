//! A cohort: requests that have come together go through the server together. Each waits at some steps until
//! the others have come as far. The code of one request, here, in the sandbox and in the kernel, is several
//! times what the fastest caches hold; the code of one step is there for all but the first to take it (Larus
//! and Parkes, "Using Cohort Scheduling to Enhance Server Performance", 2002).

use std::future::poll_fn;
use std::mem;
use std::task::Poll;

use tokio::runtime;

use crate::pace::idle;
use crate::pace::turns;

/// Most connections that go together.
const SIZE: usize = 32;
/// Times that each connection of a cohort may be woken before the core looks for others.
const STEPS: usize = 4;
/// Most instances on a core among which one waits for others. With more, the data that each of them works on
/// leaves the caches from one step to the next, and nothing is gained.
const MAX_IN_STEP: usize = 256;

/// The steps that a cohort takes together, in the order in which a request comes to them. Each begins code that is
/// not in the caches any more when the step before has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A new instance begins to compute.
    Compute,
    /// The instance opens a file.
    Open,
    /// The instance hands over an answer.
    Answer,
    /// The answer is sent, and the next request looked for.
    Send,
    /// The instance is dropped.
    Drop,
}

/// Makes cohorts of the connections of a core that are ready.
pub(crate) fn configure(builder: &mut runtime::Builder) -> &mut runtime::Builder {
    builder
        .max_io_events_per_tick(SIZE)
        .event_interval((SIZE * STEPS) as u32)
}

/// Waits before `_step`, which every caller names for its reader, until the others of its cohort have come as far as this
/// connection. A connection that is alone goes
/// on at once. So does every one in a flood, where each step would wait for all that has come.
pub(crate) async fn keep_step(_step: Step) {
    let mut waits = idle::instances() <= MAX_IN_STEP && !turns::are_awaited();
    // A task that wakes itself goes on when all others have run that are ready now. `yield_now` would also
    // look for more: at each step, a system call of a connection that is alone.
    poll_fn(|cx| {
        if !mem::take(&mut waits) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    use crate::lock::lock;

    #[tokio::test]
    async fn those_that_are_ready_together_take_each_step_together() {
        let trace = Arc::<Mutex<Vec<(u32, char)>>>::default();
        let tasks = ['a', 'b', 'c'].map(|name| {
            let trace = trace.clone();
            tokio::spawn(async move {
                for (number, step) in (0..).zip([Step::Compute, Step::Open, Step::Send]) {
                    lock(&trace).push((number, name));
                    keep_step(step).await;
                }
            })
        });
        for task in tasks {
            task.await.unwrap();
        }
        let trace = lock(&trace);
        assert_eq!(trace.len(), 9);
        assert!(trace.is_sorted(), "{trace:?}");
    }
}
