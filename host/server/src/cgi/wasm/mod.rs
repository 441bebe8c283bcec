//! Scripts that are WebAssembly: components of the world `wasi:cli/command` and core modules of WASI
//! preview 1, each run in a fresh sandbox that has its variables and its streams, and no files but those
//! it was granted.

mod programs;

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::pipe;
use wasmtime::{Engine, Error, ResourceLimiter, Result, Store, StoreContextMut};
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::filesystem::WasiFilesystemCtx;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::{InputStream, OutputStream};
use wasmtime_wasi::{I32Exit, WasiCtx, WasiCtxBuilder, WasiView};

use super::open::Opened;
use super::pipe::{Input, Pipes, Source, pipes};
use super::starter::message::Order;
use super::work::Work;
use super::{End, Refusal};
use crate::disk::Root;
use crate::instance::clock::Clock;
use crate::instance::epochs::let_others_run;
use crate::instance::limits::{Limits, MAX_HANDLES};
use crate::instance::state::{Bounds, State};
use crate::pace::client::Client;
use crate::pace::turns;

use programs::Program;
pub(super) use programs::Programs;

/// The first bytes of WebAssembly.
pub(super) const MAGIC: &[u8] = b"\0asm";

/// Starts the script `file` as `order` says. WASI has text only: bytes that are none are replaced.
pub(super) async fn start(
    programs: &Programs,
    file: Opened,
    order: &Order,
) -> Result<(Work, Pipes), Refusal> {
    let program = programs.get(file).await?;
    let (pipes, ends) = pipes()?;
    let mut wasi = WasiCtx::builder();
    let variables = order.environment.iter();
    let variables =
        variables.map(|(name, value)| (name.to_string_lossy(), value.to_string_lossy()));
    let arguments = order
        .arguments
        .iter()
        .map(|argument| argument.to_string_lossy());
    wasi.arg(order.path.trim_start_matches('.'))
        .args(&arguments.collect::<Vec<_>>())
        .envs(&variables.collect::<Vec<_>>())
        .stdin(Stdin(Arc::new(pipe::Receiver::from_owned_fd(ends.stdin)?)))
        .stdout(Stdout(Arc::new(pipe::Sender::from_owned_fd(ends.stdout)?)))
        .stderr(Stdout(Arc::new(pipe::Sender::from_owned_fd(ends.stderr)?)));
    let (files, clock) = (programs.files.clone(), programs.clock.clone());
    let work = async move {
        let ran = match &*program {
            Program::Component(pre) => {
                let mut wasi = wasi.build();
                *wasi.filesystem() = files;
                let bounds = Bounds::Script(Limits::default());
                let state = State::new(wasi, Root::none(), clock.clone(), bounds);
                run_component(pre, store(pre.engine(), state, clock)).await
            }
            Program::Module(pre) => {
                let state = Module::new(wasi, files);
                run_module(pre, store(pre.module().engine(), state, clock)).await
            }
        };
        ran.unwrap_or_else(end)
    };
    Ok((Box::pin(work), pipes))
}

async fn run_component(pre: &programs::ComponentPre, mut store: Store<State>) -> Result<End> {
    let command = pre.instantiate_async(&mut store).await?;
    let ran = command.wasi_cli_run().call_run(&mut store).await?;
    Ok(End::Exited(u8::from(ran.is_err())))
}

async fn run_module(pre: &programs::ModulePre, mut store: Store<Module>) -> Result<End> {
    let instance = pre.instantiate_async(&mut store).await?;
    let start = instance.get_typed_func::<(), ()>(&mut store, programs::START)?;
    start.call_async(&mut store, ()).await?;
    Ok(End::Exited(0))
}

/// Returns the end of a script that `error` stands for: an exit with a code, or a trap.
fn end(error: Error) -> End {
    match error.downcast_ref::<I32Exit>() {
        Some(&I32Exit(code)) => End::Exited(code as u8),
        None => End::Trapped(error.root_cause().to_string()),
    }
}

/// Returns a store whose code lets others run at every tick.
fn store<T: Limited + 'static>(engine: &Engine, state: T, clock: Arc<Clock>) -> Store<T> {
    let mut store = Store::new(engine, state);
    store.limiter(|state| state.limiter());
    store.set_max_component_handles(MAX_HANDLES);
    clock.wake();
    // Each takes its turn with all that compute for long.
    let client = Client::of(None);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_: StoreContextMut<T>| {
        clock.wake();
        Ok(let_others_run(turns::go_on(client)))
    });
    store
}

/// The state that the host keeps for a core module.
pub(super) struct Module {
    wasi: WasiP1Ctx,
    limits: Limits,
}

impl Module {
    fn new(mut wasi: WasiCtxBuilder, files: WasiFilesystemCtx) -> Self {
        let mut wasi = wasi.build_p1();
        *wasi.ctx().ctx.filesystem() = files;
        Module {
            wasi,
            limits: Limits::default(),
        }
    }
}

trait Limited: Send {
    fn limiter(&mut self) -> &mut dyn ResourceLimiter;
}

impl Limited for State {
    fn limiter(&mut self) -> &mut dyn ResourceLimiter {
        self.bounds.limiter()
    }
}

impl Limited for Module {
    fn limiter(&mut self) -> &mut dyn ResourceLimiter {
        &mut self.limits
    }
}

struct Stdin(Arc<pipe::Receiver>);

impl IsTerminal for Stdin {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Stdin {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(tokio::io::empty())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(Source(self.0.clone()))
    }
}

struct Stdout(Arc<pipe::Sender>);

impl IsTerminal for Stdout {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stdout {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::empty())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Input::new(self.0.clone()))
    }
}
