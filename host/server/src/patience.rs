//! A timeout for waits that begin often and end soon: a busy connection never touches the clock.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// Bounds waits. One that follows another shares its timer, and so may last up to twice as long.
pub(crate) struct Patience {
    period: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// A wait has begun since the timer was set.
    renewed: bool,
}

impl Patience {
    /// For waits of up to `period`.
    pub(crate) fn new(period: Duration) -> Self {
        Patience {
            period,
            timer: None,
            renewed: false,
        }
    }

    /// The outcome of `future`, or `None` if it takes longer than the period.
    pub(crate) async fn wait<F: Future>(&mut self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        self.renewed = true;
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.poll_expired(cx).map(|()| None),
        })
        .await
    }

    fn poll_expired(&mut self, cx: &mut Context) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| {
            self.renewed = false;
            Box::pin(sleep(self.period))
        });
        loop {
            ready!(timer.as_mut().poll(cx));
            if !std::mem::take(&mut self.renewed) {
                return Poll::Ready(());
            }
            timer.as_mut().reset(Instant::now() + self.period);
        }
    }
}
