//! Requests that have come together go through the server together: each waits at some steps until the
//! others have come as far. The code of one request, here, in the sandbox and in the kernel, is several
//! times what the fastest caches hold; that of one step is there for all but the first to take it
//! (Larus and Parkes, "Using Cohort Scheduling to Enhance Server Performance", 2002).

use std::future::poll_fn;
use std::mem;
use std::ops::RangeInclusive;
use std::task::Poll;

use tokio::runtime;

use crate::idle;

/// How many connections at most go together.
const SIZE: usize = 32;
/// How often each of them may be woken before the core looks for others.
const STEPS: usize = 4;
/// With how many instances on its core one waits for others. With more, what each of them works on
/// leaves the caches from one step to the next, and nothing is gained.
const INSTANCES: RangeInclusive<usize> = 2..=256;

/// Makes cohorts of the connections of a core that are ready.
pub(crate) fn configure(builder: &mut runtime::Builder) -> &mut runtime::Builder {
    builder
        .max_io_events_per_tick(SIZE)
        .event_interval((SIZE * STEPS) as u32)
}

/// Waits until the others of its cohort have come as far as this instance, if there are any.
pub(crate) async fn keep_step() {
    let mut waits = INSTANCES.contains(&idle::instances());
    // Who wakes itself goes on when all others have run that are ready now.
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
    use std::pin::pin;
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Waker};

    use tokio::sync::Semaphore;

    use crate::idle::Idle;
    use crate::lock::lock;

    /// An instance of this core that has waited for a request.
    async fn new_instance() -> Idle {
        let mut idle = Idle::new(Arc::new(Semaphore::new(1)), false);
        idle.wait(tokio::task::yield_now()).await;
        idle
    }

    #[tokio::test]
    async fn those_that_are_ready_together_take_each_step_together() {
        let trace = Arc::<Mutex<Vec<(u32, char)>>>::default();
        let _instances = (new_instance().await, new_instance().await);
        let tasks = ['a', 'b', 'c'].map(|name| {
            let trace = trace.clone();
            tokio::spawn(async move {
                for step in 0..3 {
                    lock(&trace).push((step, name));
                    keep_step().await;
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

    #[tokio::test]
    async fn an_instance_that_is_alone_does_not_wait() {
        let _instance = new_instance().await;
        let step = pin!(keep_step());
        let polled = step.poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_ready());
    }
}
