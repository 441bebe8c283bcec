//! Scripts that are WebAssembly: components of the world `wasi:cli/command` and core modules of WASI
//! preview 1, each run in a fresh sandbox that has its variables and its streams, and no files but those
//! it was granted.

mod programs;

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::pipe;
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Error, ResourceLimiter, Result, Store, StoreContextMut};
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::filesystem::WasiFilesystemCtx;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::{InputStream, OutputStream};
use wasmtime_wasi::{I32Exit, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::open::Opened;
use super::pipe::{Input, Pipes, Source, pipe};
use super::script::Work;
use super::{End, Refusal};
use crate::clock::{Clock, let_others_run};

use programs::Program;
pub(super) use programs::Programs;

/// What WebAssembly begins with.
pub(super) const MAGIC: &[u8] = b"\0asm";

/// The most memory that a script may use, in bytes, and the most elements of its tables.
const MAX_MEMORY: usize = 64 * 1024 * 1024;
const MAX_ELEMENTS: usize = 1024 * 1024;

/// Starts the script `file`, which is called `name`.
pub(super) async fn start(
    programs: &Programs,
    file: Opened,
    name: &str,
    arguments: &[String],
    environment: &[(String, String)],
) -> Result<(Work, Pipes), Refusal> {
    let program = programs.get(file).await?;
    let (stdin, input) = pipe()?;
    let (output, stdout) = pipe()?;
    let (errors, stderr) = pipe()?;
    let mut wasi = WasiCtx::builder();
    wasi.arg(name)
        .args(arguments)
        .envs(environment)
        .stdin(Stdin(Arc::new(pipe::Receiver::from_owned_fd(stdin)?)))
        .stdout(Stdout(Arc::new(pipe::Sender::from_owned_fd(stdout)?)))
        .stderr(Stdout(Arc::new(pipe::Sender::from_owned_fd(stderr)?)));
    let pipes = Pipes {
        input: pipe::Sender::from_owned_fd(input)?,
        output: pipe::Receiver::from_owned_fd(output)?,
        errors: pipe::Receiver::from_owned_fd(errors)?,
    };
    let (files, clock) = (programs.files.clone(), programs.clock.clone());
    let work = async move {
        let ran = match &*program {
            Program::Component(pre) => {
                let state = Component::new(wasi, files);
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

async fn run_component(pre: &programs::ComponentPre, mut store: Store<Component>) -> Result<End> {
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

/// What an error says of the end of a script: that it has exited, for one.
fn end(error: Error) -> End {
    match error.downcast_ref::<I32Exit>() {
        Some(&I32Exit(code)) => End::Exited(code as u8),
        None => End::Trapped(error.root_cause().to_string()),
    }
}

/// A store whose code lets others run at every tick.
fn store<T: Limited + 'static>(engine: &Engine, state: T, clock: Arc<Clock>) -> Store<T> {
    let mut store = Store::new(engine, state);
    store.limiter(|state| state.limits());
    clock.wake();
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_: StoreContextMut<T>| {
        clock.wake();
        Ok(let_others_run())
    });
    store
}

/// What a component has of the host.
pub(super) struct Component {
    wasi: WasiCtx,
    table: ResourceTable,
    limits: Limits,
}

impl Component {
    fn new(mut wasi: WasiCtxBuilder, files: WasiFilesystemCtx) -> Self {
        let mut wasi = wasi.build();
        *wasi.filesystem() = files;
        Component {
            wasi,
            table: ResourceTable::new(),
            limits: Limits::default(),
        }
    }
}

impl WasiView for Component {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

/// What a core module has of the host.
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
    fn limits(&mut self) -> &mut Limits;
}

impl Limited for Component {
    fn limits(&mut self) -> &mut Limits {
        &mut self.limits
    }
}

impl Limited for Module {
    fn limits(&mut self) -> &mut Limits {
        &mut self.limits
    }
}

/// How much of everything a script has taken, all its memories and tables together.
#[derive(Default)]
struct Limits {
    memory: usize,
    elements: usize,
}

impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        Ok(grow(&mut self.memory, current, desired, MAX_MEMORY))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        Ok(grow(&mut self.elements, current, desired, MAX_ELEMENTS))
    }
}

fn grow(taken: &mut usize, current: usize, desired: usize, max: usize) -> bool {
    let total = taken.saturating_add(desired.saturating_sub(current));
    if total <= max {
        *taken = total;
    }
    total <= max
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
