//! The process that starts scripts, and its keeper: two for each generation of the worker, made by the supervisor
//! and as small as that.
//!
//! No process of a script outlives the server, wherever it has gone: into a session of its own, or to another
//! parent. Orphans become children of the starter, which ends them when its worker has died. If the starter itself
//! is killed, they become children of the keeper, which ends them then; if that is killed, or the supervisor, the
//! starter does. Neither the supervisor nor the first process of the system gets any, so that none is ended that is
//! not of a script.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, recv};
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, set_child_subreaper, wait,
};
use sandserve_host::{OfWorker, ScriptLimits, ScriptStarter, end_children, explain, say};
use signal_hook::consts::SIGCHLD;
use signal_hook::low_level::pipe;

use crate::fork::fork;
use crate::user::User;

/// Names of the two processes, as ps(1) shows them: 15 bytes at most.
const KEEPER: &str = "scripts-keeper";
const STARTER: &str = "scripts-starter";
/// The time that a starter has to end all that scripts have started, before it is killed.
const TIDY_UP: Duration = Duration::from_secs(3);

/// Scripts that a starter starts.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The directory that scripts are beneath, by its name.
    pub(crate) root: PathBuf,
    pub(crate) limits: ScriptLimits,
    pub(crate) max_scripts: usize,
    /// The user that scripts run as, where one is named.
    pub(crate) user: Option<User>,
}

/// Keeps a starter for `worker` until that has ended or `supervisor` is at its end: the work of a process of its own,
/// with one thread. Returns the exit status, which is 0 if the starter has ended as it should.
pub(crate) fn keep(plan: Plan, worker: OfWorker, supervisor: UnixStream) -> u8 {
    name(KEEPER);
    match kept(plan, worker, supervisor) {
        Ok(status) => u8::from(status.exit_status() != Some(0)),
        Err(error) => {
            say(format_args!("cannot start scripts: {}", explain(&error)));
            1
        }
    }
}

fn kept(plan: Plan, worker: OfWorker, supervisor: UnixStream) -> io::Result<WaitStatus> {
    set_child_subreaper(Some(getpid()))?;
    let (ours, theirs) = UnixStream::pair()?;
    let Some(starter) = fork()? else {
        drop((ours, supervisor));
        process::exit(start(plan, worker, theirs).into())
    };
    drop((worker, theirs));
    let status = wait_for(starter, supervisor, ours);
    end_children();
    status
}

/// Waits for the end of the `starter`, which is told when the `supervisor` has gone: by the end of `stream`.
fn wait_for(starter: Pid, supervisor: UnixStream, stream: UnixStream) -> io::Result<WaitStatus> {
    let child_ended = children_ending()?;
    let mut stream = Some(stream);
    let mut deadline = None;
    loop {
        while let Ok(Some((id, status))) = wait(WaitOptions::NOHANG) {
            if id == starter {
                return Ok(status);
            }
        }
        let mut watched = vec![PollFd::new(&child_ended, PollFlags::IN)];
        if stream.is_some() {
            watched.push(PollFd::new(&supervisor, PollFlags::IN));
        }
        let left = deadline.map(|deadline: Instant| Timespec {
            tv_sec: deadline.saturating_duration_since(Instant::now()).as_secs() as i64 + 1,
            tv_nsec: 0,
        });
        // A signal may interrupt it, which is what was waited for.
        let _ = poll(&mut watched, left.as_ref());
        let has_gone = watched
            .get(1)
            .is_some_and(|watched| !watched.revents().is_empty());
        let _ = recv(&child_ended, &mut [0; 64], RecvFlags::DONTWAIT);
        if has_gone {
            stream = None;
            deadline = Some(Instant::now() + TIDY_UP);
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            let _ = kill_process(starter, Signal::KILL);
        }
    }
}

fn start(plan: Plan, worker: OfWorker, keeper: UnixStream) -> u8 {
    name(STARTER);
    if let Err(message) = plan.user.as_ref().map_or(Ok(()), User::assume) {
        say(message);
        return 1;
    }
    let starter = ScriptStarter::new(&plan.root, plan.limits, plan.max_scripts);
    // The worker says why a directory cannot be opened.
    let Ok(starter) = starter else {
        return 0;
    };
    let served = children_ending()
        .and_then(|child_ended| starter.serve(worker, keeper.as_fd(), child_ended.as_fd()));
    match served {
        Ok(()) => 0,
        Err(error) => {
            say(format_args!(
                "cannot start scripts any more: {}",
                explain(&error)
            ));
            1
        }
    }
}

/// Returns a stream that can be read from when a child of this process has ended.
fn children_ending() -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    pipe::register(SIGCHLD, theirs)?;
    Ok(ours)
}

/// Names this process, for people.
fn name(name: &str) {
    // Only people would miss it.
    let _ = fs::write("/proc/self/comm", name);
}
