//! The sandbox: a component, what it may import, and one instance of it for each connection.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentType, InstancePre, Lift, Linker, Lower, Resource,
    ResourceTable, ResourceType, TypedFunc,
};
use wasmtime::{
    Enabled, Engine, Error, InstanceAllocationStrategy, PoolingAllocationConfig, Result, Store,
    StoreContextMut, UpdateDeadline,
};
use wasmtime_wasi::filesystem::WasiFilesystemCtx;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};
use wasmtime_wasi::{FsPerms, WasiCtx};

use crate::engine;
use crate::filesystem;
use crate::log::Log;
use crate::socket::Socket;
use crate::state::{OpenStreams, State};

/// The component that this host was built with, as the file that other WASI hosts run.
pub const FILE_SERVER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sandserve.wasm"));
/// The same, compiled by `build.rs`.
const FILE_SERVER_COMPILED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sandserve.cwasm"));

/// The interface that a component is served through.
const CONNECTION: &str = "sandserve:http/connection@0.1.0";
/// How many instances may run at once; connections beyond that wait for one.
const MAX_INSTANCES: u32 = 1000;
/// How many core instances, memories and tables one component may consist of.
const MAX_PARTS: u32 = 8;
/// How much memory an instance leaves behind for the next in its place, in bytes.
const KEEP_RESIDENT: usize = 256 * 1024;
/// How often running instances let others run.
const TICK: Duration = Duration::from_millis(2);
/// How long an instance may compute without reading or writing a byte of its connection.
const MAX_COMPUTING: Duration = Duration::from_secs(30);

/// A component ready to be instantiated.
pub struct Sandbox {
    name: String,
    pre: InstancePre<State>,
    serve: ComponentExportIndex,
    grant: Grant,
    instances: Arc<Semaphore>,
    clock: Arc<Clock>,
}

/// What every instance is given.
#[derive(Clone)]
pub struct Grant {
    root: WasiFilesystemCtx,
    environment: Vec<(String, String)>,
}

impl Grant {
    /// The directory `root`, read-only, and the variables `environment`.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn new(root: &Path, environment: Vec<(String, String)>) -> Result<Self> {
        // Opening alone would also succeed for one that can be passed through but not listed.
        std::fs::read_dir(root)?;
        let root = WasiCtx::builder()
            .allow_blocking_current_thread(true)
            .preopened_dir(root, "/", FsPerms::ReadOnly)?
            .build()
            .filesystem()
            .clone();
        Ok(Grant { root, environment })
    }
}

impl Sandbox {
    /// The file server that this host was built with.
    ///
    /// # Errors
    /// An engine that cannot be set up on this machine.
    pub fn file_server(grant: Grant) -> Result<Self> {
        let engine = new_engine()?;
        // SAFETY: these bytes are what `build.rs` got from `precompile_component`.
        #[allow(unsafe_code)]
        let component = unsafe { Component::deserialize(&engine, FILE_SERVER_COMPILED) }?;
        Sandbox::new("sandserve", &engine, &component, grant)
    }

    /// A handler, which the log calls `name`: a component built with the `sandserve` crate, as bytes,
    /// compiled here and now.
    ///
    /// # Errors
    /// What is not a component, or lacks the export, or wants more than it is given.
    pub fn handler(name: &str, component: &[u8], grant: Grant) -> Result<Self> {
        if !component.starts_with(b"\0asm\x0d\0\x01\0") {
            return Err(Error::msg("not a WebAssembly component"));
        }
        let engine = new_engine()?;
        let component = Component::from_binary(&engine, component)?;
        Sandbox::new(name, &engine, &component, grant)
    }

    fn new(name: &str, engine: &Engine, component: &Component, grant: Grant) -> Result<Self> {
        let mut linker = Linker::new(engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        filesystem::add_to_linker(&mut linker)?;
        stub_http(&mut linker, component)?;
        let pre = linker.instantiate_pre(component)?;
        let serve = component
            .get_export_index(None, CONNECTION)
            .and_then(|interface| component.get_export_index(Some(&interface), "serve"))
            .ok_or_else(|| missing_export(component))?;
        Ok(Sandbox {
            name: name.into(),
            pre,
            serve,
            grant,
            instances: Arc::new(Semaphore::new(MAX_INSTANCES as usize)),
            clock: Clock::start(engine.clone()),
        })
    }

    /// What the log calls it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A fresh instance, when there is room for one.
    ///
    /// # Errors
    /// A component that cannot be instantiated.
    pub(crate) async fn instantiate(&self) -> Result<Instance> {
        let permit = self.instances.clone().acquire_owned().await?;
        let mut wasi = WasiCtx::builder()
            .envs(&self.grant.environment)
            .stderr(Log)
            .build();
        *wasi.filesystem() = self.grant.root.clone();
        let state = State {
            table: ResourceTable::new(),
            wasi,
            attached: None,
            open_streams: OpenStreams::default(),
            computing: Duration::ZERO,
        };
        let mut store = Store::new(self.pre.engine(), state);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(interrupt);
        let _running = self.clock.run();
        let instance = self.pre.instantiate_async(&mut store).await?;
        let serve = instance.get_typed_func(&mut store, self.serve)?;
        Ok(Instance {
            store,
            serve,
            clock: self.clock.clone(),
            _permit: permit,
        })
    }
}

/// Says why a component without [`CONNECTION`] cannot be served.
fn missing_export(component: &Component) -> Error {
    let ty = component.component_type();
    let mut exports = ty.exports(component.engine()).map(|(name, _)| name);
    let hint = match exports.any(|name| name.starts_with("wasi:http/incoming-handler@")) {
        true => "it exports wasi:http/incoming-handler only; run it with `wasmtime serve`, or",
        false => "it is no HTTP handler;",
    };
    let build = "build one with the sandserve crate";
    Error::msg(format!(
        "the component does not export {CONNECTION}: {hint} {build}"
    ))
}

/// Defines the imports that belong to the other way in, `wasi:http/incoming-handler`. Nothing calls
/// that export here, so nothing calls these.
fn stub_http(linker: &mut Linker<State>, component: &Component) -> Result<()> {
    // Resources of `wasi:io`, which `wasi:http` only names again.
    const ALIASES: [&str; 5] = [
        "error",
        "io-error",
        "input-stream",
        "output-stream",
        "pollable",
    ];
    let engine = component.engine();
    for (name, import) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(interface) = import.ty else {
            continue;
        };
        if !name.starts_with("wasi:http/") {
            continue;
        }
        let mut stub = linker.instance(name)?;
        for (name, item) in interface.exports(engine) {
            match item.ty {
                ComponentItem::ComponentFunc(_) => {
                    stub.func_new(name, |_, _, _, _| {
                        Err(Error::msg("wasi:http is not offered here"))
                    })?;
                }
                ComponentItem::Resource(_) if !ALIASES.contains(&name) => {
                    stub.resource(name, ResourceType::host::<()>(), |_, _| Ok(()))?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Sandbox").finish_non_exhaustive()
    }
}

/// The engine for this machine: the configuration components were compiled with, and a pool that
/// makes instances cheap.
fn new_engine() -> Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(MAX_INSTANCES)
        .total_core_instances(MAX_INSTANCES * MAX_PARTS)
        .total_memories(MAX_INSTANCES)
        .total_tables(MAX_INSTANCES * MAX_PARTS)
        .total_stacks(MAX_INSTANCES)
        .max_memory_size(engine::MAX_MEMORY as usize)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(KEEP_RESIDENT)
        .pagemap_scan(Enabled::Auto);
    let mut config = engine::config(env!("SANDSERVE_TARGET"))?;
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

/// One instance of the component.
pub(crate) struct Instance {
    store: Store<State>,
    serve: TypedFunc<(Info, Resource<DynInputStream>, Resource<DynOutputStream>), (Next,)>,
    clock: Arc<Clock>,
    _permit: OwnedSemaphorePermit,
}

impl Instance {
    /// Serves what is ready on the connection `socket`.
    ///
    /// # Errors
    /// A trap: the instance has failed, and cannot be called again.
    pub(crate) async fn serve(&mut self, socket: &Arc<Socket>, info: Info) -> Result<Next> {
        let _running = self.clock.run();
        let state = self.store.data_mut();
        state.computing = Duration::ZERO;
        let (input, output) = state.attach(socket)?;
        self.store.set_epoch_deadline(1);
        let arguments = (
            info,
            Resource::new_borrow(input),
            Resource::new_borrow(output),
        );
        let (next,) = self.serve.call_async(&mut self.store, arguments).await?;
        Ok(next)
    }

    /// Takes the connection away, which the instance has finished with.
    pub(crate) fn detach(&mut self) {
        self.store.data_mut().detach();
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Instance").finish_non_exhaustive()
    }
}

/// Who is on the two ends of a connection (`info` of `wit/connection.wit`).
#[derive(Clone, Debug, ComponentType, Lower)]
#[component(record)]
pub(crate) struct Info {
    /// The peer.
    pub(crate) client: Endpoint,
    /// Us.
    pub(crate) server: Endpoint,
    /// Whether the bytes are encrypted between the two.
    pub(crate) encrypted: bool,
}

/// An IP address and a port.
#[derive(Clone, Debug, ComponentType, Lower)]
#[component(record)]
pub(crate) struct Endpoint {
    /// The address in its usual notation.
    pub(crate) address: String,
    /// The port.
    pub(crate) port: u16,
}

/// What to do with a connection (`next` of `wit/connection.wit`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code, reason = "made by the component")]
pub(crate) enum Next {
    /// Wait for the next request.
    #[component(name = "keep-alive")]
    KeepAlive,
    /// Close.
    #[component(name = "close")]
    Close,
    /// Close when the peer has stopped sending.
    #[component(name = "linger")]
    Linger,
}

/// Called on an instance that has run for a tick.
fn interrupt(mut store: StoreContextMut<State>) -> Result<UpdateDeadline> {
    let state = store.data_mut();
    state.computing += TICK;
    if state.computing > MAX_COMPUTING {
        let seconds = MAX_COMPUTING.as_secs();
        return Err(Error::msg(format!(
            "no answer after {seconds} seconds of computing"
        )));
    }
    Ok(UpdateDeadline::YieldCustom(
        1,
        Box::pin(tokio::task::yield_now()),
    ))
}

/// Moves the engine's epoch on while instances run, and sleeps while none does.
struct Clock {
    running: AtomicUsize,
    asleep: AtomicBool,
    thread: Thread,
}

impl Clock {
    fn start(engine: Engine) -> Arc<Self> {
        let (send, receive) = std::sync::mpsc::channel::<Arc<Clock>>();
        let thread = thread::spawn(move || {
            let Ok(clock) = receive.recv() else { return };
            let clock = Arc::downgrade(&clock);
            while let Some(clock) = clock.upgrade() {
                clock.tick(&engine);
            }
        });
        let clock = Arc::new(Clock {
            running: AtomicUsize::new(0),
            asleep: AtomicBool::new(false),
            thread: thread.thread().clone(),
        });
        let _ = send.send(clock.clone());
        clock
    }

    fn tick(&self, engine: &Engine) {
        if self.running.load(Ordering::SeqCst) > 0 {
            thread::sleep(TICK);
            engine.increment_epoch();
            return;
        }
        self.asleep.store(true, Ordering::SeqCst);
        if self.running.load(Ordering::SeqCst) == 0 {
            thread::park_timeout(Duration::from_secs(1));
        }
        self.asleep.store(false, Ordering::SeqCst);
    }

    /// Keeps the clock going until the value returned is dropped.
    fn run(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Running(self.clone())
    }
}

struct Running(Arc<Clock>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}
