//! Calls of instances from which nothing comes: that of a handler that sleeps, or whose client has gone. All of a
//! core are looked at together, once a second, so that a call which ends sooner costs nothing here. Where others ask for
//! instances in vain, two glances find at once those that sleep.

use std::error::Error;
use std::fmt;
use std::task::Waker;
use std::time::Duration;

/// Time between two looks at the calls of a core.
pub(crate) const PERIOD: Duration = Duration::from_secs(1);
/// Longest time that a call may be silent for a client that has sent its last byte: the client may still
/// read, or have gone, and only sending something would tell. Two seconds at least have passed at the third
/// look.
const GONE: Duration = PERIOD.saturating_mul(3);

/// A client, as far as the system knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The client may send more.
    There,
    /// The client has sent its last byte.
    Ended,
    /// The client takes nothing any more.
    Gone,
}

/// A call as it was when it was last looked at.
#[derive(Debug)]
pub(crate) struct Call {
    waker: Waker,
    /// The bytes that had been moved by then.
    moved: u64,
    /// The ticks that the instance had computed by then.
    computed: u64,
    /// The bytes and the ticks at the last glance, if there was one.
    glimpsed: Option<(u64, u64)>,
    /// The time since a byte was moved or a tick was computed.
    silent: Duration,
    /// The time for which the call has been told to come to its end.
    dismissed: Duration,
    abandoned: Option<Abandoned>,
}

/// The reason for which a call is not waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abandoned {
    /// The client has gone.
    Gone,
    /// Nothing has come of the call for as long as a handler may be silent, or it goes on though its upgraded connection
    /// counts as ended.
    Silent,
    /// Others needed the instance of the call.
    Overtaken,
    /// Others needed the connection, and its client moved few bytes.
    Slow,
}

impl Call {
    /// Notes a call of the task that `waker` wakes.
    pub(crate) fn new(waker: Waker) -> Self {
        Call {
            waker,
            moved: 0,
            computed: 0,
            glimpsed: None,
            silent: Duration::ZERO,
            dismissed: Duration::ZERO,
            abandoned: None,
        }
    }

    /// Notes at a look the bytes that have been `moved` and the ticks that have been `computed`. Returns whether no
    /// byte has been moved since the last look.
    pub(crate) fn note(&mut self, moved: u64, computed: u64) -> bool {
        let is_mute = self.moved == moved;
        let is_silent = is_mute && self.computed == computed;
        (self.moved, self.computed) = (moved, computed);
        self.silent = match is_silent {
            true => self.silent + PERIOD,
            false => Duration::ZERO,
        };
        is_mute
    }

    /// Notes at a glance, which is sooner than a look, the bytes that have been `moved` and the ticks that have been
    /// `computed`. Returns whether they are what they were at the glance before.
    pub(crate) fn glimpse(&mut self, moved: u64, computed: u64) -> bool {
        let before = self.glimpsed.replace((moved, computed));
        before == self.glimpsed
    }

    /// Abandons the call if there is a reason to, for a handler that may be silent for `time`. Returns whether there
    /// is a reason.
    pub(crate) fn abandon(&mut self, peer: Peer, time: Duration) -> bool {
        self.abandon_for(reason(peer, self.silent, time))
    }

    /// Returns the time since a byte was moved or a tick was computed.
    pub(crate) fn silent(&self) -> Duration {
        self.silent
    }

    /// Notes at a look that the call, of an upgraded connection, should come to its end, and abandons it if it has been
    /// told so for longer than `time`. Returns whether it has.
    pub(crate) fn abandon_dismissed(&mut self, time: Duration) -> bool {
        self.dismissed += PERIOD;
        let is_over = self.dismissed > time;
        self.abandon_for(is_over.then_some(Abandoned::Silent))
    }

    /// Abandons the call, as others need the connection of its client.
    pub(crate) fn abandon_slow(&mut self) {
        self.abandon_for(Some(Abandoned::Slow));
    }

    fn abandon_for(&mut self, reason: Option<Abandoned>) -> bool {
        self.abandoned = reason;
        if self.abandoned.is_some() {
            self.waker.wake_by_ref();
        }
        self.abandoned.is_some()
    }

    /// Returns the waker of the task that makes the call.
    pub(crate) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Returns the reason for which the call was abandoned, if it was.
    pub(crate) fn abandoned(&self) -> Option<Abandoned> {
        self.abandoned
    }
}

/// Returns the reason to abandon a call that has been `silent` for so long, if there is one. One that computes for a
/// client that has sent its last byte goes on, as that client may well read the answer.
fn reason(peer: Peer, silent: Duration, time: Duration) -> Option<Abandoned> {
    match peer {
        Peer::Gone => Some(Abandoned::Gone),
        Peer::Ended if silent >= GONE => Some(Abandoned::Gone),
        Peer::Ended | Peer::There => (silent >= time).then_some(Abandoned::Silent),
    }
}

impl fmt::Display for Abandoned {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Abandoned::Gone => "the client has gone",
            Abandoned::Silent => "nothing came of the call",
            Abandoned::Overtaken => "others needed the instance of the call",
            Abandoned::Slow => "others needed the connection of the call",
        })
    }
}

impl Error for Abandoned {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_abandoned_when_nobody_is_there_or_nothing_comes() {
        let time = Duration::from_secs(60);
        for (peer, silent, abandoned) in [
            (Peer::There, 1, None),
            (Peer::There, 59, None),
            (Peer::There, 60, Some(Abandoned::Silent)),
            (Peer::Ended, 2, None),
            (Peer::Ended, 3, Some(Abandoned::Gone)),
            (Peer::Gone, 0, Some(Abandoned::Gone)),
        ] {
            let silent = Duration::from_secs(silent);
            assert_eq!(reason(peer, silent, time), abandoned, "{peer:?} {silent:?}");
        }
    }

    #[test]
    fn a_call_that_gets_further_is_not_silent_and_one_that_computes_is_mute() {
        let mut call = Call::new(Waker::noop().clone());
        for _ in 0..3 {
            assert!(call.note(0, 0));
        }
        assert!(call.note(0, 1));
        assert_eq!(call.silent, Duration::ZERO);
        assert!(call.note(0, 1));
        assert_eq!(call.silent, PERIOD);
        assert!(!call.note(1, 1));
        assert_eq!(call.silent, Duration::ZERO);
        assert!(call.abandon(Peer::Gone, Duration::MAX));
        assert_eq!(call.abandoned(), Some(Abandoned::Gone));
    }

    #[test]
    fn a_call_is_the_same_at_two_glances_that_has_not_got_further() {
        let mut call = Call::new(Waker::noop().clone());
        for (moved, computed, is_the_same) in [
            (0, 0, false),
            (0, 0, true),
            (0, 1, false),
            (1, 1, false),
            (1, 1, true),
        ] {
            let found = call.glimpse(moved, computed);
            assert_eq!(found, is_the_same, "{moved} {computed}");
        }
    }

    #[test]
    fn a_call_that_goes_on_though_it_was_told_not_to_is_abandoned_after_a_while() {
        let mut call = Call::new(Waker::noop().clone());
        for (moved, is_over) in [(1, false), (2, false), (3, true)] {
            call.note(moved, 0);
            assert_eq!(call.abandon_dismissed(2 * PERIOD), is_over);
        }
        assert_eq!(call.abandoned(), Some(Abandoned::Silent));
    }
}
