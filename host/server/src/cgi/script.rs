//! A script that runs: watched by a task of its own until it has ended, by itself or because it took too
//! long, or because nobody reads it any more.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::errors::Errors;
use super::open::Opened;
use super::pipe::{Input, Output, Pipes, pipes};
use super::slots::Slot;
use super::starter::Order;
use super::{End, Refusal, Scripts, program, wasm};
use crate::strikes::{Limit, strike};
use crate::transport::socket::Socket;

/// The time that a script may be silent for a client that has sent its last byte. Such a client may still
/// read, or have gone, and only sending something would tell.
const SILENCE: Duration = Duration::from_secs(2);

/// The resource `script`. Dropping it ends the script.
pub(crate) struct Script {
    ended: Ended,
    _held: oneshot::Sender<Infallible>,
}

impl Script {
    /// Returns a handle that tells the end of the script.
    pub(crate) fn ended(&self) -> Ended {
        self.ended.clone()
    }
}

/// A handle that tells the end of a script.
#[derive(Clone)]
pub(crate) struct Ended(watch::Receiver<Option<End>>);

impl Ended {
    /// Returns whether the script has ended.
    pub(super) fn is_told(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Waits until the script has ended, and returns how.
    pub(super) async fn wait(mut self) -> End {
        match self.0.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or(End::Abandoned),
            Err(_) => End::Abandoned,
        }
    }
}

/// A script at work: how it ends. Dropping it ends the script.
pub(super) type Work = Pin<Box<dyn Future<Output = End> + Send>>;

/// A script that was started, as its caller sees it: the resource, its input and its output.
pub(super) type Started = (Script, Input, Output);

/// Starts the script at `path`, which is in `file`, for the client of `socket`, which the log calls `client`.
pub(super) async fn start(
    scripts: &Scripts,
    (file, path): (Opened, &str),
    arguments: &[String],
    environment: &[(String, String)],
    socket: &Socket,
    client: Arc<str>,
) -> Result<Started, Refusal> {
    let Some(slot) = scripts.slots.take(&client).await else {
        strike(&client, Limit::Scripts);
        return Err(Refusal::Busy);
    };
    let (work, pipes) = begin(scripts, (file, path), arguments, environment, slot).await?;
    let is_active = Arc::new(AtomicBool::new(false));
    let (held, dropped) = oneshot::channel();
    let (tell, ended) = watch::channel(None);
    let ended = Ended(ended);
    let errors = Errors::new(pipes.errors, client, path);
    let client = TcpStream::from_std(socket.duplicate()?)?;
    let timeout = scripts.timeout;
    let output = Output::new(pipes.output, ended.clone(), is_active.clone());
    tokio::spawn(async move {
        let mut errors = errors;
        let end = tokio::select! {
            end = work => end,
            never = log_all(&mut errors) => match never {},
            () = sleep(timeout) => End::TimedOut,
            () = has_gone(&client, &is_active) => End::Abandoned,
            _ = dropped => End::Abandoned,
        };
        errors.log_rest();
        tell.send_replace(Some(end));
    });
    let script = Script { ended, _held: held };
    Ok((script, Input::new(Arc::new(pipes.input)), output))
}

/// Begins the work of a script that there is room for. The room is free when it has ended.
async fn begin(
    scripts: &Scripts,
    (file, path): (Opened, &str),
    arguments: &[String],
    environment: &[(String, String)],
    slot: Slot,
) -> Result<(Work, Pipes), Refusal> {
    if file.start() == Some(wasm::MAGIC) {
        let name = path.trim_start_matches('.');
        let programs = scripts.programs()?;
        let (work, pipes) = wasm::start(programs, file, name, arguments, environment).await?;
        return Ok((with(slot, work), pipes));
    }
    let own = |(name, value): &(String, String)| (name.into(), value.into());
    let order = Order {
        path: path.to_owned(),
        arguments: arguments.iter().map(Into::into).collect(),
        environment: environment.iter().map(own).collect(),
    };
    let (pipes, ends) = pipes()?;
    let work = match &scripts.starter {
        Some(starter) => starter.start(&order, ends, slot).await?,
        None => {
            let limits = scripts.limits.clone();
            // As root it takes 20 ms, and more for a process with more memory: nobody but its client waits.
            let start = move || program::start_here(file, &order, ends, &limits);
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

/// Waits until the client has gone: until its connection fails, or it has sent its last byte and the
/// script has nothing to say to it.
async fn has_gone(client: &TcpStream, is_active: &AtomicBool) {
    // The end of what it sends, whatever has come before and not been read.
    if client.ready(Interest::PRIORITY).await.is_err() {
        return;
    }
    let mut has_failed = pin!(client.ready(Interest::ERROR));
    loop {
        is_active.store(false, Ordering::Relaxed);
        tokio::select! {
            _ = &mut has_failed => return,
            () = sleep(SILENCE) => {}
        }
        if !is_active.load(Ordering::Relaxed) {
            return;
        }
    }
}
