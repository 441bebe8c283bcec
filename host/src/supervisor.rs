//! The process that stays: it has the names of everything (root, certificates, log), the listeners and the
//! signals, and touches no byte of a client. Workers, one process each, do the serving.
//!
//! A reload, a root that has come to mean another directory, and a worker that has died are one thing: a new
//! generation. A worker starts with everything opened anew; once it serves, those before it stop accepting
//! and finish what they have begun.

use std::fs;
use std::io::{self, Read, Write};
use std::mem;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitOptions, WaitStatus, kill_process, wait};

use sandserve_host::{reopen_log, say};

use crate::signals::{Signal, Signals};

/// The time between two looks at the name of the root.
const LOOK_AT_ROOT: Duration = Duration::from_millis(500);
/// The time that workers have to tidy up when the server ends at once.
const TIDY_UP: Duration = Duration::from_secs(1);
/// The least time between the start of a worker that has died and that of the next.
const BACK_OFF: Duration = Duration::from_secs(1);

/// Words from the supervisor to a worker, a byte each. The end of the stream is [`QUIT`].
pub(crate) const DRAIN: u8 = b'd';
/// See [`DRAIN`]: end at once.
pub(crate) const QUIT: u8 = b'q';
/// See [`DRAIN`]: open the log anew.
pub(crate) const REOPEN_LOG: u8 = b'l';
/// The word of a worker that serves.
pub(crate) const READY: u8 = b'r';

/// Why serving has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Ctrl-C.
    Interrupted,
    /// TERM or QUIT; what had begun is finished, or was cut off at a second signal.
    Terminated,
    /// The terminal is gone.
    HungUp,
    /// The first worker could not serve, and has said why.
    NeverServed,
}

/// The work of a worker, with its end of the stream to the supervisor and the listeners. Returns the exit
/// status of the process.
pub(crate) type Work<'w> = dyn Fn(UnixStream, Vec<TcpListener>) -> u8 + 'w;

/// The things that outlive a worker.
pub(crate) struct Kept<'w> {
    pub(crate) listeners: Vec<TcpListener>,
    /// The listeners go on when this process ends.
    pub(crate) are_inherited: bool,
    /// The directory that workers open by this name.
    pub(crate) root: &'w Path,
    /// Reloads make a new generation.
    pub(crate) renews: bool,
}

/// Keeps a worker serving until a signal ends that.
pub(crate) struct Supervisor<'w> {
    signals: Option<Signals>,
    kept: Kept<'w>,
    work: &'w Work<'w>,
    workers: Vec<Worker>,
    ending: Option<Ended>,
    /// A new generation is wanted.
    is_stale: bool,
    last_start: Option<Instant>,
}

struct Worker {
    id: Pid,
    stream: UnixStream,
    stage: Stage,
    /// The root that the worker has opened, as device and inode.
    root: Option<(u64, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Starting,
    Serving,
    Draining,
}

impl<'w> Supervisor<'w> {
    /// Makes the supervisor of workers that do `work` with what is `kept`.
    ///
    /// # Errors
    /// Signals that cannot be taken over.
    pub(crate) fn new(kept: Kept<'w>, work: &'w Work<'w>) -> io::Result<Self> {
        Ok(Supervisor {
            signals: Some(Signals::new()?),
            kept,
            work,
            workers: Vec::new(),
            ending: None,
            is_stale: false,
            last_start: None,
        })
    }

    /// Serves until a signal ends that. Calls `announce` when the first worker serves.
    ///
    /// # Errors
    /// A process that cannot be started.
    pub(crate) fn run(mut self, announce: impl FnOnce()) -> io::Result<Ended> {
        let mut announce = Some(announce);
        self.start_worker()?;
        loop {
            self.wait_for_event();
            for signal in self.pending_signals() {
                self.handle(signal);
            }
            self.hear_workers();
            if self.is_serving()
                && let Some(announce) = announce.take()
            {
                announce();
            }
            self.reap(announce.is_some());
            if let Some(ended) = self.ending
                && (self.workers.is_empty() || ended != Ended::Terminated)
            {
                self.end_workers();
                return Ok(ended);
            }
            if self.ending.is_none() {
                self.renew();
            }
        }
    }

    fn is_serving(&self) -> bool {
        let mut workers = self.workers.iter();
        workers.any(|worker| worker.stage == Stage::Serving)
    }

    fn is_starting(&self) -> bool {
        let mut workers = self.workers.iter();
        workers.any(|worker| worker.stage == Stage::Starting)
    }

    /// Waits for a signal, a word of a worker, or the next look at the root.
    fn wait_for_event(&self) {
        let signals = self.signals.iter().map(AsFd::as_fd);
        let workers = self.workers.iter().map(|worker| worker.stream.as_fd());
        let mut watched: Vec<_> = signals
            .chain(workers)
            .map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN))
            .collect();
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: LOOK_AT_ROOT.subsec_nanos().into(),
        };
        // A signal may interrupt it, which is what was waited for.
        let _ = poll(&mut watched, Some(&timeout));
    }

    fn pending_signals(&mut self) -> Vec<Signal> {
        self.signals
            .as_mut()
            .map(Signals::pending)
            .unwrap_or_default()
    }

    fn handle(&mut self, signal: Signal) {
        match signal {
            Signal::Interrupt => self.ending = Some(Ended::Interrupted),
            Signal::HangUp if has_terminal() => self.ending = Some(Ended::HungUp),
            Signal::HangUp => {
                self.is_stale |= self.kept.renews;
                self.reopen_log();
            }
            // The second time, at once.
            Signal::Terminate if self.ending.is_some() => self.end_workers(),
            Signal::Terminate => {
                self.ending = Some(Ended::Terminated);
                self.close_listeners();
                self.drain(|_| true);
            }
            Signal::User1 => self.reopen_log(),
            // Whoever has ended is reaped in any case.
            Signal::Child => {}
        }
    }

    /// Lets another server have the port.
    fn close_listeners(&mut self) {
        for listener in self.kept.listeners.drain(..) {
            if !self.kept.are_inherited {
                let _ = rustix::net::shutdown(&listener, rustix::net::Shutdown::Both);
            }
        }
    }

    /// Reads the words of workers: the first generation that serves lets those before it finish.
    fn hear_workers(&mut self) {
        let mut ready = None;
        for worker in &mut self.workers {
            let mut word = [0];
            let is_ready = matches!(worker.stream.read(&mut word), Ok(1)) && word[0] == READY;
            if is_ready && worker.stage == Stage::Starting {
                worker.stage = Stage::Serving;
                ready = Some(worker.id);
            }
        }
        if let Some(ready) = ready {
            self.drain(|worker| worker.id != ready && worker.stage == Stage::Serving);
        }
    }

    fn drain(&mut self, chosen: impl Fn(&Worker) -> bool) {
        for worker in self.workers.iter_mut().filter(|worker| chosen(worker)) {
            worker.stage = Stage::Draining;
            // One that has died is reaped.
            let _ = worker.stream.write_all(&[DRAIN]);
        }
    }

    fn reopen_log(&mut self) {
        reopen_log();
        self.tell(REOPEN_LOG);
    }

    fn tell(&mut self, word: u8) {
        for worker in &mut self.workers {
            let _ = worker.stream.write_all(&[word]);
        }
    }

    /// Takes note of children that have ended. As process 1, orphans are among them.
    fn reap(&mut self, is_first: bool) {
        while let Ok(Some((id, status))) = wait(WaitOptions::NOHANG) {
            let Some(at) = self.workers.iter().position(|worker| worker.id == id) else {
                continue;
            };
            let worker = self.workers.remove(at);
            match worker.stage {
                Stage::Draining => {}
                _ if self.ending.is_some() => {}
                Stage::Starting if is_first => {
                    // A worker that exits has said why.
                    if status.terminating_signal().is_some() {
                        say(format_args!("the worker has died ({})", reason(status)));
                    }
                    self.ending = Some(Ended::NeverServed);
                }
                Stage::Starting => say("the server goes on as before"),
                Stage::Serving => {
                    let how = reason(status);
                    say(format_args!("a worker has died ({how}) and is replaced"));
                    self.is_stale = true;
                }
            }
        }
    }

    /// Starts a new generation where one is wanted, or where the root has come to mean another directory.
    fn renew(&mut self) {
        if self.is_starting() {
            return;
        }
        let newest = self.workers.iter().rev();
        let mut serving = newest.filter(|worker| worker.stage == Stage::Serving);
        let served = serving.next().and_then(|worker| worker.root);
        let now = identity(self.kept.root);
        let has_moved = self.kept.renews && now.is_some() && served.is_some() && now != served;
        let is_soon = |start: Instant| start.elapsed() < BACK_OFF;
        let waits = !self.is_serving() && self.last_start.is_some_and(is_soon);
        if (!self.is_stale && !has_moved) || waits {
            return;
        }
        self.is_stale = false;
        if let Err(error) = self.start_worker() {
            say(format_args!("cannot start a worker: {error}"));
            self.is_stale = true;
        }
    }

    fn start_worker(&mut self) -> io::Result<()> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let root = identity(self.kept.root);
        let Some(id) = fork()? else {
            // Only the supervisor may hold its ends of the streams: a worker knows by them that it has gone.
            drop(ours);
            self.workers.clear();
            self.signals.take().into_iter().for_each(Signals::give_up);
            let listeners = mem::take(&mut self.kept.listeners);
            process::exit((self.work)(theirs, listeners).into())
        };
        self.last_start = Some(Instant::now());
        self.workers.push(Worker {
            id,
            stream: ours,
            stage: Stage::Starting,
            root,
        });
        Ok(())
    }

    /// Ends all workers: by a word, and those that do not heed it by force.
    fn end_workers(&mut self) {
        self.close_listeners();
        self.tell(QUIT);
        let deadline = Instant::now() + TIDY_UP;
        while !self.workers.is_empty() && Instant::now() < deadline {
            self.reap(false);
            if !self.workers.is_empty() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        for worker in self.workers.drain(..) {
            let _ = kill_process(worker.id, rustix::process::Signal::KILL);
        }
    }
}

/// Makes a child process that goes on from here. Returns its id to the parent, and `None` to the child.
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: this process has one thread, so that the child has every lock and all memory as they were.
    #[allow(unsafe_code)]
    let id = unsafe { libc::fork() };
    match id {
        ..0 => Err(io::Error::last_os_error()),
        id => Ok(Pid::from_raw(id)),
    }
}

/// Returns which directory `path` is now, as device and inode, if it is one.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_dir)?;
    Some((metadata.dev(), metadata.ino()))
}

/// Returns whether this process belongs to a terminal.
fn has_terminal() -> bool {
    fs::File::open("/dev/tty").is_ok()
}

fn reason(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(status), _) => format!("status {status}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no reason known".into(),
    }
}
