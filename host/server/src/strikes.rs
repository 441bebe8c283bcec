//! Limits that strike, in the log: once for each client and limit, then as a count, so that an operator sees an
//! attack and the attack does not fill the log.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::mem;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::explain::explain;
use crate::lock::lock;
use crate::log;
use crate::tls::fault::Fault;

/// The time that is counted over before the next line.
const PERIOD: Duration = Duration::from_secs(60);
/// Clients and limits that are counted apart. The rest are counted together, each limit for itself.
const MAX_COUNTED: usize = 1024;
/// The name of the rest.
const OTHERS: &str = "-";

/// A limit that a client has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Limit {
    /// The time to agree on keys.
    Handshake,
    /// A handshake that failed.
    Tls(Fault),
    /// The time for the head of a request.
    Head,
    /// The rate of content.
    Content,
    /// The rate at which an answer is taken.
    Reading,
    /// The instances there may be, for who asked for one.
    NoInstance,
    /// The instances there may be, for who had one and was waited for.
    TakenBack,
    /// The instances there may be, for who had more than others and kept one at work for long.
    Overtaken,
    /// The time for a handler of which nothing comes.
    Handler,
    /// The memory that all instances have together.
    Memory,
    /// The scripts that may run at once.
    Scripts,
    /// The time or the threads for a disk.
    Disk,
    /// The directory, where another process is about to serve the one that has its name now.
    Moved,
    /// The connections there may be, for who had one that was idle.
    Idle,
    /// The connections there may be, for who had one and moved few bytes.
    Slow,
    /// The connections there may be, where none was idle or slow.
    Connections,
    /// The connections that one client may have.
    PerAddress,
    /// The time for a trusted proxy to say whose a connection is, or what it said instead.
    Preface,
    /// The wrong passwords that a client may send without having to wait.
    Passwords,
    /// The resources of the system for connections to come: the error by its number.
    Accepting(i32),
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match *self {
            Limit::Handshake => "no TLS handshake in time",
            Limit::Tls(fault) => return fault.fmt(f),
            Limit::Head => "no whole request in time",
            Limit::Content => "content came too slowly",
            Limit::Reading => "an answer was read too slowly",
            Limit::NoInstance => "no instance was free in time",
            Limit::TakenBack => "others needed an instance that waited for this client",
            Limit::Overtaken => "others needed an instance that had worked long for this client",
            Limit::Handler => "nothing came from the handler in time",
            Limit::Memory => "the memory of all instances was used up",
            Limit::Scripts => "no script could run in time: the limit of scripts is reached",
            Limit::Disk => "the disk did not answer in time",
            Limit::Moved => "the directory has become another, which the next worker serves",
            Limit::Idle => "others needed a connection that was idle",
            Limit::Slow => "others needed a connection that moved few bytes",
            Limit::Connections => "cannot accept connections: the limit of connections is reached",
            Limit::PerAddress => "too many connections of one address",
            Limit::Preface => "no PROXY protocol from a trusted proxy",
            Limit::Passwords => "too many wrong passwords",
            Limit::Accepting(error) => {
                let reason = explain(&io::Error::from_raw_os_error(error));
                return write!(f, "cannot accept connections: {reason}");
            }
        })
    }
}

/// Logs that `limit` has struck `client`, or counts it.
pub(crate) fn strike(client: &str, limit: Limit) {
    let mut strikes = lock(&STRIKES);
    let strikes = strikes.get_or_insert_default();
    if let Some((client, message)) = strikes.note(client, limit, Instant::now()) {
        log::connection(&client, message);
    }
    if !strikes.is_swept {
        // A thread, as runtimes end before the process does. Without one, the next strike tries again.
        let sweeping = thread::Builder::new().name("strikes".into()).spawn(sweep);
        strikes.is_swept = sweeping.is_ok();
    }
}

/// Logs the counts of strikes that no line was written of yet: for a process that is about to end.
pub(crate) fn log_counts() {
    let mut strikes = lock(&STRIKES);
    let counted = strikes
        .as_mut()
        .map(|strikes| strikes.take(Instant::now(), Duration::ZERO));
    for (client, message) in counted.into_iter().flatten() {
        log::connection(&client, message);
    }
}

static STRIKES: Mutex<Option<Strikes>> = Mutex::new(None);

/// Logs counts that are due, until there are none.
fn sweep() {
    loop {
        thread::sleep(PERIOD);
        let mut strikes = lock(&STRIKES);
        let strikes = strikes.get_or_insert_default();
        for (client, message) in strikes.take(Instant::now(), PERIOD) {
            log::connection(&client, message);
        }
        if strikes.counted.is_empty() {
            strikes.is_swept = false;
            return;
        }
    }
}

/// A client and a message.
type Line = (String, String);

#[derive(Debug, Default)]
struct Strikes {
    counted: HashMap<(String, Limit), Count>,
    /// There is a thread that sweeps.
    is_swept: bool,
}

#[derive(Debug)]
struct Count {
    since: Instant,
    /// Strikes that no line was written of.
    more: u64,
}

impl Strikes {
    /// Counts a strike at `now`. Returns the line, if it is the first for a while.
    fn note(&mut self, client: &str, limit: Limit, now: Instant) -> Option<Line> {
        let key = (client.to_owned(), limit);
        let is_full = self.counted.len() >= MAX_COUNTED && !self.counted.contains_key(&key);
        let key = match is_full {
            true => (OTHERS.to_owned(), limit),
            false => key,
        };
        if let Some(count) = self.counted.get_mut(&key) {
            count.more += 1;
            return None;
        }
        let line = (key.0.clone(), limit.to_string());
        self.counted.insert(
            key,
            Count {
                since: now,
                more: 0,
            },
        );
        Some(line)
    }

    /// Returns the lines of counts that are as old as `least` at `now`, and forgets clients that have kept to their
    /// limits since.
    fn take(&mut self, now: Instant, least: Duration) -> Vec<Line> {
        let mut lines = Vec::new();
        self.counted.retain(|(client, limit), count| {
            let age = now.saturating_duration_since(count.since);
            if age < least {
                return true;
            }
            let more = mem::take(&mut count.more);
            count.since = now;
            if more > 0 {
                let seconds = age.as_secs().max(1);
                let message = format!("{limit}: {more} more times in {seconds} s");
                lines.push((client.clone(), message));
            }
            more > 0
        });
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_named_once_and_then_counted() {
        let mut strikes = Strikes::default();
        let now = Instant::now();
        let a = |message: &str| ("a".to_owned(), message.to_owned());
        let first = strikes.note("a", Limit::Head, now);
        assert_eq!(first, Some(a("no whole request in time")));
        for _ in 0..5 {
            assert_eq!(strikes.note("a", Limit::Head, now), None);
        }
        assert!(strikes.note("a", Limit::Reading, now).is_some());
        assert!(strikes.note("b", Limit::Head, now).is_some());
        assert_eq!(strikes.take(now, PERIOD), []);
        let later = now + PERIOD;
        assert_eq!(
            strikes.take(later, PERIOD),
            [a("no whole request in time: 5 more times in 60 s")]
        );
        assert_eq!(strikes.counted.len(), 1);
        assert_eq!(strikes.take(later + PERIOD, PERIOD), []);
        assert!(strikes.counted.is_empty());
        assert!(strikes.note("a", Limit::Head, later).is_some());
    }

    #[test]
    fn at_the_end_a_count_is_told_that_is_not_due() {
        let mut strikes = Strikes::default();
        let now = Instant::now();
        for client in ["a", "a", "a", "b"] {
            strikes.note(client, Limit::Head, now);
        }
        let message = "no whole request in time: 2 more times in 7 s".to_owned();
        let end = now + Duration::from_secs(7);
        assert_eq!(
            strikes.take(end, Duration::ZERO),
            [("a".to_owned(), message)]
        );
        assert_eq!(strikes.take(end, Duration::ZERO), []);
    }

    #[test]
    fn what_the_system_lacks_is_said_in_words() {
        let files = rustix::io::Errno::MFILE.raw_os_error();
        let message = Limit::Accepting(files).to_string();
        assert!(
            message.starts_with("cannot accept connections: "),
            "{message}"
        );
        assert!(!message.contains("os error"), "{message}");
    }

    #[test]
    fn a_crowd_is_counted_together() {
        let mut strikes = Strikes::default();
        let now = Instant::now();
        let lines = (0..3000)
            .filter_map(|number| strikes.note(&number.to_string(), Limit::Head, now))
            .count();
        assert_eq!(lines, MAX_COUNTED + 1);
        assert_eq!(strikes.counted.len(), MAX_COUNTED + 1);
        let due = strikes.take(now + PERIOD, PERIOD);
        assert_eq!(
            due,
            [(
                OTHERS.to_owned(),
                format!(
                    "no whole request in time: {} more times in 60 s",
                    3000 - MAX_COUNTED - 1
                )
            )]
        );
    }
}
