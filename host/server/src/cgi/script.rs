//! A script that runs: watched by a task of its own until it has ended, by itself or because it took too
//! long, or because nobody reads it any more.

use std::convert::Infallible;
use std::future::pending;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::io::ioctl_fionread;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::net::unix::pipe;
use tokio::sync::{oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};

use super::errors::Errors;
use super::open::Opened;
use super::pipe::{Input, Output, Pipes, pipes};
use super::slots::Slot;
use super::starter::message::Order;
use super::work::{Activity, Ended, Work};
use super::{End, Refusal, Scripts, program, wasm};
use crate::strikes::{Limit, strike};
use crate::transport::socket::Socket;

/// The time that a script may be silent for a client that has sent its last byte. Such a client may still
/// read, or have gone, and only sending something would tell.
const SILENCE: Duration = Duration::from_secs(2);

/// The resource `script`. Dropping it ends the script.
pub(crate) struct Script {
    ended: Ended,
    activity: Arc<Activity>,
    _held: oneshot::Sender<Infallible>,
}

impl Script {
    /// Notes that the client has all of the answer. Returns whether the script still runs.
    pub(crate) fn note_answered(&self) -> bool {
        self.activity.is_answered.store(true, Ordering::Relaxed);
        !self.ended.is_told()
    }

    /// Returns a handle that tells the end of the script.
    pub(crate) fn ended(&self) -> Ended {
        self.ended.clone()
    }
}

/// A script that was started, as its caller sees it: the resource, its input and its output.
pub(super) type Started = (Script, Input, Output);

/// Starts the script of `order`, which is in `file`, for the client of `socket`, which the log calls `client`.
pub(super) async fn start(
    scripts: &Scripts,
    file: Opened,
    order: Order,
    socket: &Arc<Socket>,
    client: Arc<str>,
) -> Result<Started, Refusal> {
    let Some(slot) = scripts.slots.take(&client).await else {
        strike(&client, Limit::Scripts);
        return Err(Refusal::Busy);
    };
    slot.is_for(socket);
    let path = order.path.clone();
    let (work, pipes) = begin(scripts, file, order, slot).await?;
    let activity = Arc::new(Activity::new());
    let (held, dropped) = oneshot::channel();
    let (tell, ended) = watch::channel(None);
    let ended = Ended(ended);
    let errors = Errors::new(pipes.errors, client, &path);
    let client = TcpStream::from_std(socket.duplicate()?)?;
    let (timeout, max_time) = (scripts.timeout, scripts.max_time);
    let (output, input) = (Arc::new(pipes.output), Arc::new(pipes.input));
    let (from_script, to_script) = (output.clone(), Arc::downgrade(&input));
    let output = Output::new(output, ended.clone(), activity.clone());
    let input = Input::new(input).telling(activity.clone());
    let told = activity.clone();
    tokio::spawn(async move {
        let mut errors = errors;
        let end = tokio::select! {
            end = work => end,
            never = log_all(&mut errors) => match never {},
            () = silence(timeout, &activity, &from_script, &to_script) => End::TimedOut,
            () = over(max_time) => End::TimedOut,
            () = has_gone(&client, &activity) => End::Abandoned,
            _ = dropped => End::Abandoned,
        };
        errors.log_rest();
        tell.send_replace(Some(end));
    });
    let script = Script {
        ended,
        activity: told,
        _held: held,
    };
    Ok((script, input, output))
}

/// Begins the work of a script that there is room for. The room is free when it has ended.
async fn begin(
    scripts: &Scripts,
    file: Opened,
    order: Order,
    slot: Slot,
) -> Result<(Work, Pipes), Refusal> {
    if file.start() == Some(wasm::MAGIC) {
        let (work, pipes) = wasm::start(scripts.programs()?, file, &order).await?;
        return Ok((with(slot, work), pipes));
    }
    let (pipes, ends) = pipes()?;
    let work = match &scripts.starter {
        Some(starter) => starter.start(&order, ends, slot).await?,
        None => {
            let limits = scripts.limits.clone();
            // As root it takes 20 ms, and more for a process with more memory: nobody but its client waits.
            let root = scripts.root.clone().ok_or(Refusal::NotFound)?;
            let start = move || program::start_here((&root, file), &order, ends, &limits);
            let started = spawn_blocking(start).await;
            with(
                slot,
                started.map_err(|error| Refusal::Failed(error.to_string()))??,
            )
        }
    };
    Ok((work, pipes))
}

/// Returns `work` that takes `slot`.
fn with(slot: Slot, work: Work) -> Work {
    Box::pin(async move {
        let _slot = slot;
        work.await
    })
}

async fn log_all(errors: &mut Errors) -> Infallible {
    errors.log_all().await;
    pending().await
}

/// Waits until the script has neither read nor written a byte for as long as `timeout`. Time does not count in which its
/// caller has not taken what it wrote, nor given it the rest of the content that it may wait for.
async fn silence(
    timeout: Duration,
    activity: &Activity,
    output: &pipe::Receiver,
    input: &Weak<pipe::Sender>,
) {
    let holds = |size: rustix::io::Result<u64>| size.is_ok_and(|size| size > 0);
    loop {
        sleep_until(activity.last() + timeout).await;
        if activity.last() + timeout > Instant::now() {
            continue;
        }
        let is_unread = holds(ioctl_fionread(output));
        let is_awaited = || match input.upgrade() {
            Some(input) => !holds(ioctl_fionread(&*input)),
            None => false,
        };
        if !is_unread && !is_awaited() {
            return;
        }
        activity.note();
    }
}

/// Waits for `time`, or for ever.
async fn over(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => pending().await,
    }
}

/// Waits until the client has gone that waits for more of the answer.
async fn has_gone(client: &TcpStream, activity: &Activity) {
    says_no_more(client, activity).await;
    if activity.is_answered.load(Ordering::Relaxed) {
        pending().await
    }
}

/// Waits until the connection of the client fails, or it has sent its last byte and the script has nothing to say to it.
async fn says_no_more(client: &TcpStream, activity: &Activity) {
    // The end of what it sends, whatever has come before and not been read.
    if client.ready(Interest::PRIORITY).await.is_err() {
        return;
    }
    let mut has_failed = pin!(client.ready(Interest::ERROR));
    loop {
        let last = activity.last();
        tokio::select! {
            _ = &mut has_failed => return,
            () = sleep(SILENCE) => {}
        }
        if activity.last() == last {
            return;
        }
    }
}
