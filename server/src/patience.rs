//! A timeout for waits that begin often and end soon: a busy connection never touches the clock.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// Bounds waits. One that follows another of the same length shares its timer, and so may last up to
/// twice as long.
#[derive(Default)]
pub(crate) struct Patience {
    timer: Option<Timer>,
    /// A wait has begun since the timer was set.
    renewed: bool,
}

struct Timer {
    period: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl Patience {
    /// The outcome of `future`, or `None` if it takes longer than `period`.
    pub(crate) async fn wait<F: Future>(
        &mut self,
        period: Duration,
        future: F,
    ) -> Option<F::Output> {
        let mut future = pin!(future);
        self.renewed = true;
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.poll_expired(cx, period).map(|()| None),
        })
        .await
    }

    fn poll_expired(&mut self, cx: &mut Context, period: Duration) -> Poll<()> {
        let timer = match &mut self.timer {
            Some(timer) => timer,
            none => none.insert(Timer {
                period: Duration::ZERO,
                sleep: Box::pin(sleep(period)),
            }),
        };
        if timer.period != period {
            timer.period = period;
            timer.sleep.as_mut().reset(Instant::now() + period);
            self.renewed = false;
        }
        loop {
            ready!(timer.sleep.as_mut().poll(cx));
            if !std::mem::take(&mut self.renewed) {
                return Poll::Ready(());
            }
            timer.sleep.as_mut().reset(Instant::now() + period);
        }
    }
}
