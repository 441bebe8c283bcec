//! Signals as events of a descriptor, so that one thread waits for them and for all else.

use std::io;
use std::iter;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::flag;
use signal_hook::iterator::Signals as Forever;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use signal_hook::low_level;

use sandserve_host::bundle::Partial;

/// Signals of this process that are asked for here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// The ways to ask for an end: TERM and QUIT.
    Terminate,
    /// The terminal is gone; or, where it is there or there is none, settings are to be read anew.
    HangUp,
    /// The log is to be opened anew.
    User1,
    /// A child has ended.
    Child,
}

/// The signals that have come.
pub(crate) struct Signals(SignalDelivery<UnixStream, SignalOnly>);

impl Signals {
    /// Takes over the signals of this process. The signals of a terminal stay ignored where they were, as
    /// nohup(1) and shells that start something in the background want it.
    ///
    /// # Errors
    /// Descriptors or handlers that the system does not give.
    pub(crate) fn new() -> io::Result<Signals> {
        let (read, write) = UnixStream::pair()?;
        let mut signals = vec![SIGTERM, SIGUSR1, SIGCHLD];
        signals.extend(of_terminals());
        ignore_file_size()?;
        SignalDelivery::with_pipe(read, write, SignalOnly, signals).map(Signals)
    }

    /// Returns the signals that have come since the last call.
    pub(crate) fn pending(&mut self) -> Vec<Signal> {
        let pending = self.0.pending();
        pending
            .filter_map(|signal| match signal {
                SIGINT => Some(Signal::Interrupt),
                SIGTERM | SIGQUIT => Some(Signal::Terminate),
                SIGHUP => Some(Signal::HangUp),
                SIGUSR1 => Some(Signal::User1),
                SIGCHLD => Some(Signal::Child),
                _ => None,
            })
            .collect()
    }

    /// Gives the signals up in a child of the process that has taken them over. Signals do nothing there
    /// from now on: handlers stay, so that programs that the child starts have the system's defaults again.
    pub(crate) fn give_up(&self) {
        self.0.handle().close();
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_read().as_fd()
    }
}

/// Has an output that is not whole removed before a signal ends this process, as the signal does by default.
///
/// # Errors
/// Descriptors, handlers or a thread that the system does not give.
pub(crate) fn remove_before_end(partial: Arc<Partial>) -> io::Result<()> {
    let mut signals = Forever::new(iter::once(SIGTERM).chain(of_terminals()))?;
    ignore_file_size()?;
    let wait = move || {
        for signal in signals.forever() {
            let _kept = partial.remove();
            let _ = low_level::emulate_default_handler(signal);
        }
    };
    thread::Builder::new().spawn(wait).map(drop)
}

/// Returns the signals of a terminal that are not ignored.
fn of_terminals() -> impl Iterator<Item = i32> {
    let signals = [SIGINT, SIGQUIT, SIGHUP].into_iter();
    signals.filter(|&signal| !is_ignored(signal))
}

/// Turns a file that has become too large into an error of whoever writes to it, where the system would end
/// the process.
fn ignore_file_size() -> io::Result<()> {
    flag::register(SIGXFSZ, Arc::default()).map(drop)
}

/// Returns whether whoever started this process had it ignore `signal`.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
