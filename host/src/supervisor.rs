//! The process that stays: it has the names of everything (root, certificates, log), the listeners and the
//! signals, and touches no byte of a client. Workers, one process each, do the serving; `scripts` starts scripts for
//! them.
//!
//! A reload, a root that has come to mean another directory, and a worker that has died are one thing: a new
//! generation. A worker starts with everything opened anew; once it serves, those before it stop accepting
//! and finish what they have begun.

use std::fs;
use std::io::{self, Read, Write};
use std::mem;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitOptions, WaitStatus, kill_process, wait};
use sandserve_host::{ToStarter, explain, reopen_log, say, starter_socket};

use crate::fork::fork;
use crate::scripts::{self, Plan};
use crate::signals::{Signal, Signals};

/// The time that a worker has to start. A handler is compiled in it.
const START: Duration = Duration::from_secs(60);
/// The time that workers have to tidy up when the server ends at once, and then to be gone once they are killed.
/// One that waits for a disk which stalls cannot even be killed.
const TIDY_UP: Duration = Duration::from_secs(1);
/// The time between a start that has failed and the next, which doubles with each up to [`LONGEST_BACK_OFF`].
const BACK_OFF: Duration = Duration::from_secs(1);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);
/// Workers that may finish what they have begun beside the one that serves. The oldest of more are told to end.
const MAX_DRAINING: usize = 8;

/// Words from the supervisor to a worker, a byte each: finish what has begun, and end.
pub(crate) const RETIRE: u8 = b'r';
/// See [`RETIRE`]: finish what has begun within the time of grace, and end.
pub(crate) const STOP: u8 = b's';
/// See [`RETIRE`]: end at once. So does the end of the stream.
pub(crate) const QUIT: u8 = b'q';
/// See [`RETIRE`]: open the log anew.
pub(crate) const REOPEN_LOG: u8 = b'l';
/// Words from a worker to the supervisor: it serves.
pub(crate) const READY: u8 = b'R';
/// See [`READY`]: another worker should take over, as the name of the root means another directory by now, or as
/// a crowd has left much memory behind.
pub(crate) const RENEW: u8 = b'N';

/// The reason why serving has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Ctrl-C.
    Interrupted,
    /// TERM or QUIT; what had begun is finished, or was cut off.
    Terminated,
    /// The terminal is gone.
    HungUp,
    /// The first worker could not serve, and has said why.
    NeverServed,
}

/// The work of a worker, with its end of the stream to the supervisor, the listeners, and its end of the socket to
/// the process that starts its scripts. The work ends the process; one that returns has failed.
pub(crate) type Work<'w> = dyn Fn(UnixStream, Vec<TcpListener>, Option<ToStarter>) + 'w;

/// The things that outlive a worker.
pub(crate) struct Kept {
    pub(crate) signals: Signals,
    pub(crate) listeners: Vec<TcpListener>,
    /// The time that requests have to finish when the server ends.
    pub(crate) grace: Duration,
    /// Reloads make a new generation.
    pub(crate) renews: bool,
    /// Scripts that workers may have started.
    pub(crate) scripts: Option<Plan>,
    /// The listeners were passed to this process, and stay open when it ends.
    pub(crate) are_inherited: bool,
}

/// Keeps a worker serving until a signal ends that.
pub(crate) struct Supervisor<'w> {
    kept: Option<Kept>,
    work: &'w Work<'w>,
    /// The oldest first.
    workers: Vec<Worker>,
    starters: Vec<Starter>,
    scripts: Option<Plan>,
    /// The process belonged to a terminal when it started.
    had_terminal: bool,
    renews: bool,
    grace: Duration,
    ending: Option<Ended>,
    /// A new generation is wanted.
    is_stale: bool,
    failed: Option<Failed>,
}

/// A start that has failed: the next is at `again`.
#[derive(Clone, Copy, Debug)]
struct Failed {
    again: Instant,
    back_off: Duration,
}

/// The process that keeps the one which starts scripts. The keeper has gone when its scripts have.
struct Starter {
    id: Pid,
    /// The stream whose end tells that process to end its scripts.
    stream: Option<UnixStream>,
}

struct Worker {
    id: Pid,
    /// The process that keeps the worker's starter of scripts.
    starter: Option<Pid>,
    stream: UnixStream,
    /// Set when the stream has come to its end: the worker is about to, too.
    is_silent: bool,
    stage: Stage,
    /// The moment at which the worker is killed, or is not waited for once it is killed.
    deadline: Option<Instant>,
    is_killed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Starting,
    Serving,
    Draining,
}

impl<'w> Supervisor<'w> {
    /// Makes the supervisor of workers that do `work` with what is `kept`.
    pub(crate) fn new(kept: Kept, work: &'w Work<'w>) -> Self {
        Supervisor {
            work,
            workers: Vec::new(),
            starters: Vec::new(),
            scripts: kept.scripts.clone(),
            had_terminal: has_terminal(),
            renews: kept.renews,
            grace: kept.grace,
            kept: Some(kept),
            ending: None,
            is_stale: false,
            failed: None,
        }
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
            if self.is_any(Stage::Serving)
                && let Some(announce) = announce.take()
            {
                announce();
            }
            self.reap(announce.is_some());
            self.kill_late(announce.is_some());
            if let Some(ended) = self.ending {
                if self.workers.is_empty() || ended != Ended::Terminated {
                    self.end_workers();
                    return Ok(ended);
                }
            } else if announce.is_none() {
                self.renew();
            }
        }
    }

    fn is_any(&self, stage: Stage) -> bool {
        self.workers.iter().any(|worker| worker.stage == stage)
    }

    /// Waits for a signal, a word of a worker, or the moment at which something is due.
    fn wait_for_event(&self) {
        let signals = self.kept.iter().map(|kept| kept.signals.as_fd());
        let heard = self.workers.iter().filter(|worker| !worker.is_silent);
        let mut watched: Vec<_> = signals
            .chain(heard.map(|worker| worker.stream.as_fd()))
            .map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN))
            .collect();
        let deadlines = self.workers.iter().filter_map(|worker| worker.deadline);
        let again = self.failed.map(|failed| failed.again);
        let due = deadlines.chain(again).min();
        let timeout = due.map(|due| {
            let left = due.saturating_duration_since(Instant::now());
            // A moment later, when it is over for sure.
            let left = left + Duration::from_millis(10);
            Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        // A signal may interrupt it, which is what was waited for.
        let _ = poll(&mut watched, timeout.as_ref());
    }

    fn pending_signals(&mut self) -> Vec<Signal> {
        let kept = self.kept.as_mut();
        kept.map(|kept| kept.signals.pending()).unwrap_or_default()
    }

    fn handle(&mut self, signal: Signal) {
        match signal {
            Signal::Interrupt => self.ending = Some(Ended::Interrupted),
            Signal::HangUp if self.had_terminal && !has_terminal() => {
                self.ending = Some(Ended::HungUp);
            }
            Signal::HangUp => {
                self.is_stale |= self.renews;
                self.failed = None;
                self.reopen_log();
            }
            // The second time, at once.
            Signal::Terminate if self.ending.is_some() => self.end_workers(),
            Signal::Terminate => {
                self.ending = Some(Ended::Terminated);
                self.close_listeners();
                self.drain(STOP, |_| true);
            }
            Signal::User1 => self.reopen_log(),
            // Whoever has ended is reaped in any case.
            Signal::Child => {}
        }
    }

    /// Leaves the listeners to the workers, which take whoever waits there before they let another server have
    /// the port.
    fn close_listeners(&mut self) {
        self.kept.iter_mut().for_each(|kept| kept.listeners.clear());
    }

    /// Reads the words of workers: the first generation that serves lets those before it finish.
    fn hear_workers(&mut self) {
        let mut ready = None;
        for worker in &mut self.workers {
            let mut words = [0; 16];
            let length = match worker.stream.read(&mut words) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Ok(length) if length > 0 => length,
                _ => {
                    worker.is_silent = true;
                    continue;
                }
            };
            for &word in &words[..length] {
                match (word, worker.stage) {
                    (READY, Stage::Starting) => {
                        worker.stage = Stage::Serving;
                        worker.deadline = None;
                        ready = Some(worker.id);
                    }
                    (RENEW, Stage::Serving) => self.is_stale |= self.renews,
                    _ => {}
                }
            }
        }
        if let Some(ready) = ready {
            self.failed = None;
            let is_before = |worker: &Worker| worker.id != ready && worker.stage == Stage::Serving;
            self.drain(RETIRE, is_before);
            self.end_oldest();
        }
    }

    /// Tells workers to finish what they have begun, and to end.
    fn drain(&mut self, word: u8, chosen: impl Fn(&Worker) -> bool) {
        for worker in self.workers.iter_mut().filter(|worker| chosen(worker)) {
            worker.stage = Stage::Draining;
            worker.deadline = (word == STOP).then(|| Instant::now() + self.grace + TIDY_UP);
            worker.tell(word);
        }
    }

    /// Bounds the workers of generations before.
    fn end_oldest(&mut self) {
        let workers = self.workers.iter();
        let draining = workers.filter(|worker| worker.stage == Stage::Draining);
        let draining: Vec<_> = draining.map(|worker| worker.id).collect();
        let surplus = draining.len().saturating_sub(MAX_DRAINING);
        self.drain(STOP, |worker| {
            draining[..surplus].contains(&worker.id) && worker.deadline.is_none()
        });
    }

    fn reopen_log(&mut self) {
        reopen_log();
        self.workers
            .iter_mut()
            .for_each(|worker| worker.tell(REOPEN_LOG));
    }

    /// Takes note of children that have ended. As process 1, orphans are among them.
    fn reap(&mut self, is_first: bool) {
        while let Ok(Some((id, status))) = wait(WaitOptions::NOHANG) {
            let Some(at) = self.workers.iter().position(|worker| worker.id == id) else {
                self.note_end_of_starter(id, status);
                continue;
            };
            let worker = self.workers.remove(at);
            let signal = status.terminating_signal();
            match worker.stage {
                _ if self.ending.is_some() => {}
                Stage::Draining => {
                    if signal.is_some() {
                        let how = reason(status);
                        say(format_args!("a worker that was finishing has died ({how})"));
                    }
                }
                Stage::Starting => {
                    // A worker that exits has said why.
                    if signal.is_some() {
                        say(format_args!("the worker has died ({})", reason(status)));
                    }
                    self.note_start_failed(is_first);
                }
                Stage::Serving => {
                    let how = reason(status);
                    say(format_args!("a worker has died ({how}) and is replaced"));
                    // One that dies again and again is not replaced again and again.
                    self.wait_before_next();
                }
            }
        }
    }

    /// Takes note of a child that is no worker. A worker whose scripts cannot be started any more makes way for another
    /// generation.
    fn note_end_of_starter(&mut self, id: Pid, status: WaitStatus) {
        self.starters.retain(|starter| starter.id != id);
        let mut workers = self.workers.iter();
        let is_served = workers.any(|worker| {
            worker.starter == Some(id) && matches!(worker.stage, Stage::Starting | Stage::Serving)
        });
        // It ends by itself when its worker has.
        if self.ending.is_none() && is_served && status.exit_status() != Some(0) {
            say("the process that starts scripts has died and is replaced");
            self.is_stale = true;
            self.wait_before_next();
        }
    }

    fn note_start_failed(&mut self, is_first: bool) {
        match is_first {
            true => self.ending = Some(Ended::NeverServed),
            false => self.note_failure(),
        }
    }

    fn note_failure(&mut self) {
        self.wait_before_next();
        say(match self.is_any(Stage::Serving) {
            true => "the server goes on as before",
            false => "nothing is served until a worker starts; another start follows soon",
        });
    }

    fn wait_before_next(&mut self) {
        let before = self.failed.map(|failed| failed.back_off * 2);
        let back_off = before.map_or(BACK_OFF, |before| before.min(LONGEST_BACK_OFF));
        self.failed = Some(Failed {
            again: Instant::now() + back_off,
            back_off,
        });
    }

    /// Kills workers that have taken too long to start or to end, and leaves those behind that cannot be killed.
    fn kill_late(&mut self, is_first: bool) {
        let now = Instant::now();
        let is_late = |worker: &Worker| worker.deadline.is_some_and(|deadline| deadline <= now);
        let is_stuck = |worker: &mut Worker| worker.is_killed && is_late(worker);
        for worker in self.workers.extract_if(.., is_stuck).collect::<Vec<_>>() {
            say("a worker waits for a disk and cannot be killed; it is left behind");
            if worker.stage == Stage::Starting && self.ending.is_none() {
                self.note_start_failed(is_first);
            }
        }
        for worker in self.workers.iter_mut().filter(|worker| is_late(worker)) {
            say(match worker.stage {
                Stage::Starting => "a worker takes too long to start, and is killed",
                Stage::Serving | Stage::Draining => "a worker takes too long to end, and is killed",
            });
            worker.deadline = Some(now + TIDY_UP);
            worker.is_killed = true;
            let _ = kill_process(worker.id, rustix::process::Signal::KILL);
        }
    }

    /// Starts a new generation where one is wanted or none serves, unless a start has failed a moment ago.
    fn renew(&mut self) {
        let now = Instant::now();
        let is_wanted = self.is_stale || !self.is_any(Stage::Serving);
        let waits = self.failed.is_some_and(|failed| failed.again > now);
        if !is_wanted || waits || self.is_any(Stage::Starting) {
            return;
        }
        self.is_stale = false;
        if let Err(error) = self.start_worker() {
            say(format_args!("cannot start a worker: {}", explain(&error)));
            self.note_failure();
        }
    }

    fn start_worker(&mut self) -> io::Result<()> {
        let (starter, to_starter) = self.start_starter()?.unzip();
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let Some(id) = fork()? else {
            // Only the supervisor may hold its ends of the streams: a worker knows by them that it has gone.
            drop(ours);
            let listeners = self.give_up();
            (self.work)(theirs, listeners, to_starter);
            process::exit(1)
        };
        self.workers.push(Worker {
            id,
            starter,
            stream: ours,
            is_silent: false,
            stage: Stage::Starting,
            deadline: Some(Instant::now() + START),
            is_killed: false,
        });
        Ok(())
    }

    /// Starts the process that starts scripts for the next worker, if there are to be any. Returns its keeper, and
    /// the worker's end of the socket to it.
    fn start_starter(&mut self) -> io::Result<Option<(Pid, ToStarter)>> {
        let Some(plan) = &self.scripts else {
            return Ok(None);
        };
        let plan = plan.clone();
        let (ours, theirs) = UnixStream::pair()?;
        let (to_starter, of_worker) = starter_socket()?;
        let Some(id) = fork()? else {
            drop((ours, to_starter));
            self.give_up();
            process::exit(scripts::keep(plan, of_worker, theirs).into())
        };
        self.starters.push(Starter {
            id,
            stream: Some(ours),
        });
        Ok(Some((id, to_starter)))
    }

    /// Gives up in a child what only the supervisor may hold. Returns the listeners.
    fn give_up(&mut self) -> Vec<TcpListener> {
        self.workers.clear();
        self.starters.clear();
        match self.kept.take() {
            None => Vec::new(),
            Some(mut kept) => {
                kept.signals.give_up();
                mem::take(&mut kept.listeners)
            }
        }
    }

    /// Ends all workers: by a word, and those that do not heed it by force.
    fn end_workers(&mut self) {
        // A worker that cannot be killed would go on listening.
        for kept in self.kept.iter().filter(|kept| !kept.are_inherited) {
            for listener in &kept.listeners {
                let _ = rustix::net::shutdown(listener, rustix::net::Shutdown::Both);
            }
        }
        self.close_listeners();
        self.workers.iter_mut().for_each(|worker| worker.tell(QUIT));
        let deadline = Instant::now() + TIDY_UP;
        while !self.workers.is_empty() && Instant::now() < deadline {
            self.reap(false);
            if !self.workers.is_empty() {
                thread::sleep(Duration::from_millis(5));
            }
        }
        for worker in self.workers.drain(..) {
            let _ = kill_process(worker.id, rustix::process::Signal::KILL);
        }
        self.end_starters();
    }

    /// Has everything ended that scripts have started.
    fn end_starters(&mut self) {
        self.starters
            .iter_mut()
            .for_each(|starter| starter.stream = None);
        let deadline = Instant::now() + TIDY_UP;
        while !self.starters.is_empty() && Instant::now() < deadline {
            self.reap(false);
            if !self.starters.is_empty() {
                thread::sleep(Duration::from_millis(5));
            }
        }
        // They go on by themselves where that takes longer.
        self.starters.clear();
    }
}

impl Worker {
    fn tell(&mut self, word: u8) {
        // One that has died is reaped.
        let _ = self.stream.write_all(&[word]);
    }
}

/// Returns whether this process belongs to a terminal that is there.
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
