//! The waits for a client: who waits, for what, and how long.
//!
//! | who waits | for what | how long |
//! | --- | --- | --- |
//! | a connection of a proxy | the words that say whose it is | [`Pace::head`] |
//! | a connection | agreeing on keys | [`Pace::handshake`] |
//! | a connection | the first byte of a request | [`Pace::idle`], silently |
//! | a connection | the rest of its head | [`Pace::head`], then 408 |
//! | a connection | its turn at a password (`guesses`) | 10 s, then 429 |
//! | a connection | an instance, and memory for it | [`Pace::instance`], then 503 |
//! | an instance | content that its handler reads | [`Pace::content`], or until others need the instance |
//! | an instance | room for an answer that the outbox does not hold, or has no memory for | [`Pace::reading`], or until others need it |
//! | an instance | anything else, such as a clock | [`Pace::handler`], then 504; 2 s if the client has gone (`watch`) |
//! | an instance | anything, on a connection that is upgraded (101) | [`Pace::idle`] without a byte either way, or until the server stops, or others need the instance or the connection |
//! | an instance | the end of its handler behind that | [`Pace::handler`], then a reset |
//! | an instance | others that compute, or nothing that comes of itself | until others need it, if its client has more than they |
//! | an instance | a disk that has what is not in memory (`disk`) | [`Pace::handler`], then 504, or 2 s and until others need it, then 503 |
//! | an instance | room for a script (`cgi::slots`) | 5 s, then 503 |
//! | an instance | another request, between two that follow closely | a round or a few (`idle`) |
//! | a connection | content that nobody reads | [`Pace::content`], up to [`Pace::skip`] bytes |
//! | a connection | a disk that has more of its answer | [`Pace::handler`], then a reset |
//! | a connection | a client that takes its answer | [`Pace::reading`], then a reset |
//! | a connection | the end of a client that was closed on | [`Pace::linger`] |
//! | a connection | a client that takes the last of an answer which was cut off | [`Pace::linger`], then a reset in any case |
//! | a connection | its first request, or the rest of one, when the server stops | [`Pace::farewell`], silently |
//!
//! Everything else computes. An instance that others need is taken back from who is furthest behind
//! [`PRESSED`] (`instances`), and so is a connection (`connections`), so that the least rate rises with what is asked
//! for.
//!
//! 1. `instances` has those there are, and a `line` in which clients take turns where there are none.
//! 2. `turns` says who computes first where many are ready, and lets newcomers in; `cohort` keeps those in step that are.
//! 3. `idle` lets an instance wait for a request that follows, counted in rounds (`round`).
//! 4. `watch` finds calls that are not worth waiting for, and those that sleep while others ask for an instance.
//! 5. `guesses` says who has to wait with a password.

pub(crate) mod client;
pub(crate) mod cohort;
pub(crate) mod guesses;
pub(crate) mod idle;
pub(crate) mod instances;
pub(crate) mod line;
pub(crate) mod round;
pub(crate) mod turns;
pub(crate) mod watch;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// Bounds of the waits for clients.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pace {
    /// Longest time to agree on keys.
    pub handshake: Duration,
    /// Longest time between two requests, or before the first; and without a byte either way on a connection that is
    /// upgraded (101).
    pub idle: Duration,
    /// Longest time from the first byte of a head to its last.
    pub head: Duration,
    /// Longest time that a request waits for an instance.
    pub instance: Duration,
    /// Least rate of a client that sends content.
    pub content: Rate,
    /// Least rate of a client that takes an answer.
    pub reading: Rate,
    /// Longest time that a handler neither computes nor reads nor writes a byte, where it is not its client
    /// that it waits for. Handlers that run scripts have the time of those. On a connection that is upgraded, the time
    /// to return when that is idle for too long, or the server stops.
    pub handler: Duration,
    /// Most content, in bytes, that is discarded to keep a connection.
    pub skip: u64,
    /// Longest silence of a client that was closed on and has not ended. It may go on sending for as long as it keeps to
    /// [`Pace::content`]: many read an answer only when they have sent all.
    pub linger: Duration,
    /// Most bytes that a client which was closed on may send.
    pub linger_size: u64,
    /// Longest time for a request that is on its way when the server stops: the first of a connection, or
    /// one of which something has come.
    pub farewell: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            // Two round trips, on a bad line or a busy client.
            handshake: Duration::from_secs(10),
            // As nginx has it: browsers come back within a minute.
            idle: Duration::from_secs(75),
            // A head is some packets.
            head: Duration::from_secs(30),
            // Longer than any burst of requests takes to pass, and not so long that a client gives up.
            instance: Duration::from_secs(2),
            // A modem of 1990 is faster by half. The grace is for a line that is lost and found again.
            content: Rate {
                grace: Duration::from_secs(30),
                bytes_per_second: 500,
            },
            // A client may show what it has before it takes more.
            reading: Rate {
                grace: Duration::from_secs(60),
                bytes_per_second: 500,
            },
            // As proxies have it.
            handler: Duration::from_secs(60),
            // To send as much takes about as long as to connect anew.
            skip: 256 * 1024,
            // Packets that are on their way arrive, with some retransmissions (RFC 9112 9.6).
            linger: Duration::from_secs(5),
            // To throw so much away takes less than 0.1 s of a core.
            linger_size: 128 * 1024 * 1024,
            // A client that has connected says why within some round trips.
            farewell: Duration::from_secs(2),
        }
    }
}

/// The pace that those who hold an instance, or a connection, are measured by when there are too few.
pub(crate) const PRESSED: Rate = Rate {
    grace: Duration::ZERO,
    // The rate of a telephone in a train.
    bytes_per_second: 64 * 1024,
};

/// The time that a connection is watched while there is no room, before it counts as slow: a line that is lost is
/// mostly found again by then.
pub(crate) const CHANCE: Duration = Duration::from_secs(5);

/// The time that may pass without a byte where there is no least rate: ten years.
const UNBOUNDED: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// A least rate: so many bytes a second, averaged over the time of grace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Time that may pass without a byte.
    pub grace: Duration,
    /// Bytes that buy another second; 0 if the client may take as long as it likes.
    pub bytes_per_second: u32,
}

impl Rate {
    /// The rate of clients that may take as long as they like.
    pub(crate) const NONE: Rate = Rate {
        grace: UNBOUNDED,
        bytes_per_second: 0,
    };

    /// Returns the time that may pass without a byte.
    fn patience(self) -> Duration {
        match self.bytes_per_second {
            0 => UNBOUNDED,
            _ => self.grace,
        }
    }

    /// Returns the time that `bytes` may take.
    pub(crate) fn time_for(&self, bytes: u64) -> Duration {
        let rate = u64::from(self.bytes_per_second.max(1));
        let nanos = bytes % rate * 1_000_000_000 / rate;
        Duration::new(bytes / rate, nanos as u32)
    }
}

/// The time that a client has left to move bytes: never more than the grace, however much it has moved
/// before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    due: Instant,
}

impl Allowance {
    /// Makes an allowance that begins with all of the grace.
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        Allowance {
            due: now + rate.patience(),
        }
    }

    /// Adds the time that `bytes` that were moved have bought.
    pub(crate) fn earn(&mut self, rate: Rate, bytes: u64, now: Instant) {
        let most = now + rate.patience();
        let due = self.due.checked_add(rate.time_for(bytes));
        self.due = due.map_or(most, |due| due.min(most));
    }

    /// Returns the time at which the allowance is used up.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }
}

/// A bound of waits that begin often and end soon: a busy connection never touches the clock. A wait that
/// follows another shares its timer, and so may last up to twice as long.
pub(crate) struct Patience {
    period: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// A wait has begun since the timer was set.
    renewed: bool,
}

impl Patience {
    /// Makes a bound of waits of up to `period`.
    pub(crate) fn new(period: Duration) -> Self {
        Patience {
            period,
            timer: None,
            renewed: false,
        }
    }

    /// Returns the output of `future`, or `None` if it takes longer than the period.
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

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        grace: Duration::from_secs(30),
        bytes_per_second: 500,
    };

    /// Returns after how many seconds a client is too slow for `rate` that moves `bytes` every `period`
    /// seconds; `None` if it is not within the hour.
    fn lasts(rate: Rate, bytes: u64, period: u64) -> Option<u64> {
        let began = Instant::now();
        let mut allowance = Allowance::new(rate, began);
        for second in (period..3600).step_by(period as usize) {
            let now = began + Duration::from_secs(second);
            if allowance.due() <= now {
                return Some((allowance.due() - began).as_secs());
            }
            allowance.earn(rate, bytes, now);
        }
        None
    }

    #[test]
    fn a_client_lasts_as_long_as_it_keeps_the_rate() {
        for (bytes, period, lasted) in [
            (0, 1, Some(30)),
            (1, 1, Some(30)),
            (250, 1, Some(59)),
            (500, 1, None),
            (5000, 10, None),
            (1_000_000, 29, None),
            // However much was moved before.
            (1_000_000_000, 31, Some(30)),
        ] {
            assert_eq!(lasts(RATE, bytes, period), lasted, "{bytes} in {period} s");
        }
    }

    #[test]
    fn a_rate_of_nothing_is_kept_by_every_client() {
        let off = Rate {
            bytes_per_second: 0,
            ..RATE
        };
        assert_eq!(lasts(off, 0, 1), None);
        assert_eq!(lasts(off, 1, 60), None);
    }

    #[test]
    fn the_time_for_bytes_is_exact_and_never_overflows() {
        assert_eq!(RATE.time_for(0), Duration::ZERO);
        assert_eq!(RATE.time_for(750), Duration::from_millis(1500));
        let stuck = Rate {
            bytes_per_second: 0,
            ..RATE
        };
        assert_eq!(stuck.time_for(u64::MAX), Duration::from_secs(u64::MAX));
        let mut allowance = Allowance::new(stuck, Instant::now());
        allowance.earn(stuck, u64::MAX, Instant::now());
    }
}
