//! The sandbox: a component, what it may import, and instances of it.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agreed::settings;
use tokio::sync::watch;
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentType, InstancePre, Lift, Linker, Lower, Resource,
    TypedFunc,
};
use wasmtime::{
    AsContextMut, Config, Enabled, Engine, Error, InstanceAllocationStrategy,
    PoolingAllocationConfig, Result, Store,
};
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};

use crate::cgi::{self, Scripts};
use crate::instance::burst::{Alike, Burst};
use crate::instance::clock::Clock;
use crate::instance::directory;
use crate::instance::epochs;
use crate::instance::filesystem;
use crate::instance::granted::{Directories, Wanted};
use crate::instance::limits::MAX_HANDLES;
use crate::instance::linker;
use crate::instance::preopens;
use crate::instance::stat_at;
use crate::instance::state::{Bounds, Context, State};
use crate::instance::stock;
use crate::instance::streams;
use crate::instance::uploads;
use crate::lock::lock;
use crate::log::{Log, Logged};
use crate::memory::{Budget, InstanceMemory, MAX_MEMORY};
use crate::pace::Pace;
use crate::pace::client::Client;
use crate::pace::guesses::{Guesses, Password};
use crate::pace::instances::{Instances, Permit};
use crate::transport::socket::{Socket, Terms};

/// The interface that a component is served through.
const CONNECTION: &str = "sandserve:http/connection@0.2.0";
/// Most instances that there may be at once, or less where the system does not have the address space.
/// However few, they serve all that come; but where more connections are busy than there are instances,
/// none keeps its own from one request to the next, which takes over twice the CPU. Each adds some 4 us to
/// the start, which sets up its stack.
const MAX_INSTANCES: [u32; 4] = [2048, 512, 64, 8];
/// Most instances that there may be at once where this process starts scripts. Scripts of a server that runs
/// as root take longer to start the more instances there can be, as their address space is copied.
const MAX_CGI_INSTANCES: u32 = 512;
/// The number of core instances, memories and tables that one component may consist of.
const MAX_PARTS: u32 = 8;
/// Bytes of memory that an instance leaves behind for the next in its place.
const KEEP_RESIDENT: usize = 256 * 1024;

/// Most calls that one instance answers, for one connection after the other.
const MAX_CALLS: u32 = 1000;

/// The most that an instance may take, and how many there may be, where nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Most {
    /// Bytes of memory of an instance.
    pub memory: usize,
    /// Calls that one instance answers where it may serve one connection after the other.
    pub calls: u32,
    /// Time of computing without reading a byte of the connection.
    pub computing: Duration,
    /// Instances at once.
    pub instances: u32,
}

/// See [`Most`].
pub const MOST: Most = Most {
    memory: MAX_MEMORY,
    calls: MAX_CALLS,
    computing: epochs::MAX_COMPUTING,
    instances: MAX_INSTANCES[0],
};

/// The connections that may share an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isolation {
    /// Nobody: what a component remembers goes with the connection at the latest.
    Connection,
    /// The connections of one client, one after the other: those from one IPv4 address, or from one IPv6 network of 64
    /// bits. A connection on a Unix socket is a client of its own, unless a trusted proxy says whom it speaks for.
    Client,
}

/// A component ready to be instantiated.
pub struct Sandbox {
    name: String,
    pre: InstancePre<State>,
    serve: ComponentExportIndex,
    directories: Arc<Directories>,
    environment: Vec<(String, String)>,
    /// The most bytes of memory that an instance may have.
    max_memory: usize,
    /// Field lines of responses that are not the component's own, as bytes.
    field_lines: Vec<u8>,
    terms: Arc<Terms>,
    /// Set for a component that may run scripts, which have rules of their own for clients and time.
    runs_scripts: bool,
    /// Instances that the engine has room for.
    max_instances: usize,
    memory: Arc<Budget>,
    /// Guesses of passwords, where the component asks for them.
    guesses: Option<Guesses>,
    isolation: Isolation,
    /// WASI contexts of instances that have gone, for those to come. An instance cannot change its
    /// own, and making one takes longer than making an instance.
    contexts: Arc<Mutex<Vec<Context>>>,
    clock: Arc<Clock>,
}

/// The directories, the environment and the memory that every instance is given.
#[derive(Clone)]
pub struct Grant {
    /// The root first.
    directories: Vec<Wanted>,
    environment: Vec<(String, String)>,
    /// The most bytes of memory.
    memory: usize,
}

impl Grant {
    /// Grants the directory `root`, read-only, and the variables `environment`.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn new(root: &Path, environment: Vec<(String, String)>) -> Result<Self> {
        check(root)?;
        Ok(Grant::by_name(root, environment))
    }

    /// Grants the directory `root` for reading and writing, and the variables `environment`. An instance
    /// may create, replace and remove what is beneath `root`. Files that an instance is receiving, by the
    /// names the file server gives them, go when the instance goes.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn read_write(root: &Path, environment: Vec<(String, String)>) -> Result<Self> {
        check(root)?;
        Ok(Grant::by_name(root, environment).writable())
    }

    /// Grants the directory that has the name `root` when an instance asks for it, read-only, and the variables
    /// `environment`. There need not be one, nor one that can be listed: until then, nothing is found in it.
    pub fn by_name(root: &Path, environment: Vec<(String, String)>) -> Self {
        Grant {
            directories: vec![Wanted::root(root)],
            environment,
            memory: MAX_MEMORY,
        }
    }

    /// Grants the root for writing too, as [`Grant::read_write`] does.
    pub fn writable(mut self) -> Self {
        self.directories.iter_mut().take(1).for_each(Wanted::write);
        self
    }

    /// Grants the directory `directory` too, read-only, by the `name` under which it is shown. A link that leads
    /// from one directory into another is followed.
    pub fn directory(mut self, directory: &Path, name: &str) -> Self {
        self.directories.push(Wanted::more(directory, name));
        self
    }

    /// Grants up to `bytes` of memory, by default 64 MiB. An instance that asks for more gets none.
    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }
}

/// Checks that the directory `root` can be listed.
fn check(root: &Path) -> Result<()> {
    // Opening alone would also succeed for one that can be passed through but not listed.
    std::fs::read_dir(root)?;
    Ok(())
}

impl Sandbox {
    /// Makes a sandbox of a component, which the log calls `name`, as bytes that are compiled already. With
    /// `scripts` the component can ask for them to be run.
    ///
    /// # Errors
    /// An engine that cannot be set up on this machine, and bytes that were compiled for another.
    ///
    /// # Safety
    /// `compiled` comes from `precompile_component` of an engine with the configuration of this crate
    /// `engine`, unchanged.
    #[allow(unsafe_code)]
    pub unsafe fn precompiled(
        name: &str,
        compiled: &[u8],
        grant: Grant,
        scripts: Option<Scripts>,
    ) -> Result<Self> {
        let limit = match &scripts {
            Some(scripts) if scripts.start_here() => MAX_CGI_INSTANCES,
            Some(_) | None => u32::MAX,
        };
        let (engine, max_instances) = new_engine(limit, grant.memory)?;
        // SAFETY: the caller says where the bytes come from.
        let component = unsafe { Component::deserialize(&engine, compiled) }?;
        Sandbox::new(name, &engine, max_instances, &component, grant, scripts)
    }

    /// Makes a sandbox of a handler, which the log calls `name`: a component built with the `sandserve`
    /// crate, as bytes, compiled here and now.
    ///
    /// # Errors
    /// Bytes that are not a component, or lack the export, and a component that wants more than it is
    /// given.
    pub fn handler(name: &str, component: &[u8], grant: Grant) -> Result<Self> {
        if !component.starts_with(b"\0asm\x0d\0\x01\0") {
            return Err(Error::msg(
                "not a WebAssembly component; build one for wasm32-wasip2",
            ));
        }
        let (engine, max_instances) = new_engine(u32::MAX, grant.memory)?;
        let component = Component::from_binary(&engine, component)?;
        Sandbox::new(name, &engine, max_instances, &component, grant, None)
    }

    fn new(
        name: &str,
        engine: &Engine,
        max_instances: usize,
        component: &Component,
        grant: Grant,
        scripts: Option<Scripts>,
    ) -> Result<Self> {
        let mut linker = Linker::new(engine);
        linker::add_to_linker(&mut linker)?;
        linker.allow_shadowing(true);
        preopens::add_to_linker(&mut linker)?;
        filesystem::add_to_linker(&mut linker)?;
        directory::add_to_linker(&mut linker)?;
        stat_at::add_to_linker(&mut linker)?;
        stock::add_to_linker(&mut linker)?;
        uploads::add_to_linker(&mut linker)?;
        streams::add_to_linker(&mut linker)?;
        linker.allow_shadowing(false);
        linker::add_stubs_to_linker(&mut linker, component)?;
        let runs_scripts = scripts.is_some();
        if let Some(scripts) = scripts {
            cgi::add_to_linker(&mut linker, &Arc::new(scripts.within(max_instances)))?;
        }
        check_version(component)?;
        let memory = Budget::new(None);
        let pre = linker.instantiate_pre(component)?;
        let asks =
            |(name, _): &(String, _)| [settings::AUTH, settings::AUTH_FILE].contains(&&**name);
        let asks_for_passwords = grant.environment.iter().any(asks);
        let serve = component
            .get_export_index(None, CONNECTION)
            .and_then(|interface| component.get_export_index(Some(&interface), "serve"))
            .ok_or_else(|| missing_export(component))?;
        Ok(Sandbox {
            name: name.into(),
            pre,
            serve,
            directories: Arc::new(Directories::open(grant.directories)),
            environment: grant.environment,
            max_memory: grant.memory,
            field_lines: Vec::new(),
            terms: Arc::new(Terms {
                pace: Pace::default(),
                instances: Instances::new(max_instances),
                buffers: memory.of_buffers(),
            }),
            runs_scripts,
            max_instances,
            memory,
            guesses: asks_for_passwords.then(Guesses::default),
            isolation: Isolation::Connection,
            contexts: Arc::default(),
            clock: Clock::start(engine.clone()),
        })
    }

    /// Adds `fields`, as (name, value), to every response, also to that of the host for an instance that
    /// has failed.
    pub fn fields(mut self, fields: &[(String, String)]) -> Self {
        for text in fields
            .iter()
            .flat_map(|(name, value)| [name, ": ", value, "\r\n"])
        {
            // A head is sent as Latin-1.
            let bytes = text.chars().map(|char| u8::try_from(char).unwrap_or(b'?'));
            self.field_lines.extend(bytes);
        }
        self
    }

    /// Allows `max_instances` at once, or as many as the machine has room for.
    pub fn max_instances(self, max_instances: usize) -> Self {
        let instances = Instances::new(max_instances.clamp(1, self.max_instances));
        self.change_terms(|terms| terms.instances = instances)
    }

    /// Lets all instances together, heads that have not yet come, and answers that clients have not yet taken, have
    /// `bytes` of memory, by default half of what the machine or the control group has. Requests beyond that are
    /// answered with 503.
    pub fn memory_budget(mut self, bytes: u64) -> Self {
        self.memory = Budget::new(Some(bytes));
        let buffers = self.memory.of_buffers();
        self.change_terms(|terms| terms.buffers = buffers)
    }

    /// Has clients keep to `pace`.
    pub fn pace(self, pace: Pace) -> Self {
        self.change_terms(|terms| terms.pace = pace)
    }

    /// Says who may share an instance, by default nobody ([`Isolation::Connection`]).
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    fn change_terms(mut self, change: impl FnOnce(&mut Terms)) -> Self {
        change(Arc::make_mut(&mut self.terms));
        self
    }

    /// Returns whether the component may run scripts.
    pub(crate) fn runs_scripts(&self) -> bool {
        self.runs_scripts
    }

    /// Returns whether an instance may serve another connection of its client.
    pub(crate) fn keeps_instances(&self) -> bool {
        self.isolation == Isolation::Client
    }

    /// Returns the directories that every instance is granted.
    pub(crate) fn directories(&self) -> &Arc<Directories> {
        &self.directories
    }

    /// Returns what every connection is served on.
    pub(crate) fn terms(&self) -> &Arc<Terms> {
        &self.terms
    }

    /// Returns the lines of [`Self::fields`], as bytes.
    pub(crate) fn field_lines(&self) -> &[u8] {
        &self.field_lines
    }

    /// Returns the name of the component in the log.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the guesses of the component's clients, if it asks for passwords.
    pub(crate) fn guesses(&self) -> Option<&Guesses> {
        self.guesses.as_ref()
    }

    /// Returns a [`Burst`], which lets an instance wait for more requests that are `alike`, until
    /// `stopping` turns true; longer where the client `comes_back` soon.
    pub(crate) fn new_burst(
        &self,
        comes_back: bool,
        stopping: watch::Receiver<bool>,
        alike: Option<Alike>,
    ) -> Burst {
        let instances = self.terms.instances.clone();
        let is_shared = self.keeps_instances();
        Burst::new(instances, comes_back, stopping, alike, is_shared)
    }

    /// Makes a fresh instance for `client`, when there is room for one.
    ///
    /// # Errors
    /// [`Shortage`](crate::pace::instances::Shortage), [`OutOfMemory`](crate::memory::OutOfMemory), and a component that cannot be
    /// instantiated.
    pub(crate) async fn instantiate(&self, client: Client) -> Result<Instance> {
        let Terms {
            pace, instances, ..
        } = &*self.terms;
        if !self.memory.has_room() {
            let has_room = || self.memory.has_room();
            Box::pin(instances.make_room(client, pace.instance, has_room)).await;
        }
        let permit = instances.take(client, pace.instance).await?;
        let granted = self.directories.granted().await?;
        let recycled = lock(&self.contexts).pop();
        let Context { wasi, logged } = recycled.unwrap_or_else(|| self.new_context());
        let memory = InstanceMemory::new(self.memory.clone(), self.max_memory);
        let bounds = Bounds::Shared(memory);
        let mut state = State::new(wasi, granted.root(), self.clock.clone(), bounds);
        state.granted = Some(granted);
        state.logged = Some(logged);
        let mut store = Store::new(self.pre.engine(), state);
        store.limiter(|state| state.bounds.limiter());
        store.set_max_component_handles(MAX_HANDLES);
        store.epoch_deadline_callback(epochs::interrupt);
        epochs::begin(&mut store.as_context_mut());
        let instance = self.pre.instantiate_async(&mut store).await?;
        let serve = instance.get_typed_func(&mut store, self.serve)?;
        let memory = store.data().bounds.taken();
        Ok(Instance {
            memory,
            calls: 0,
            store: Some(store),
            serve,
            contexts: self.contexts.clone(),
            _permit: permit,
        })
    }

    fn new_context(&self) -> Context {
        let logged = Arc::<Logged>::default();
        let wasi = WasiCtx::builder()
            .envs(&self.environment)
            .stderr(Log(logged.clone()))
            .build();
        Context { wasi, logged }
    }
}

/// Refuses a component that was built for another version of [`CONNECTION`].
///
/// # Errors
/// Such a component; the message names both versions.
fn check_version(component: &Component) -> Result<()> {
    let unversioned = |name: &str| name.split('@').next() == CONNECTION.split('@').next();
    match export(component, unversioned) {
        Some(other) if other != CONNECTION => Err(Error::msg(format!(
            "the component exports {other}, and this host serves {CONNECTION}: build it anew with \
             version {} of the sandserve crate",
            env!("CARGO_PKG_VERSION")
        ))),
        _ => Ok(()),
    }
}

/// Says why a component without [`CONNECTION`] cannot be served.
fn missing_export(component: &Component) -> Error {
    let is_handler = |name: &str| name.starts_with("wasi:http/incoming-handler@");
    let hint = match export(component, is_handler) {
        Some(_) => "it exports wasi:http/incoming-handler only; run it with `wasmtime serve`, or",
        None => "it is no HTTP handler;",
    };
    let build = "build one with the sandserve crate";
    Error::msg(format!(
        "the component does not export {CONNECTION}: {hint} {build}"
    ))
}

/// Returns the name of the first export of `component` that `is_wanted`.
fn export(component: &Component, is_wanted: impl Fn(&str) -> bool) -> Option<String> {
    let ty = component.component_type();
    let mut names = ty.exports(component.engine()).map(|(name, _)| name);
    names.find(|name| is_wanted(name)).map(str::to_owned)
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Sandbox").finish_non_exhaustive()
    }
}

/// Returns the engine for this machine, and how many instances it has room for, at most `limit`. Each may have `memory`
/// bytes.
fn new_engine(limit: u32, memory: usize) -> Result<(Engine, usize)> {
    let mut engine = Err(Error::msg("no room for an instance"));
    for max_instances in MAX_INSTANCES.into_iter().filter(|&max| max <= limit) {
        engine = Engine::new(&engine_config(max_instances, memory)?);
        if let Ok(engine) = engine {
            return Ok((engine, max_instances as usize));
        }
    }
    engine.map(|engine| (engine, 0))
}

/// Returns the configuration components were compiled with, and a pool that makes instances cheap.
fn engine_config(max_instances: u32, memory: usize) -> Result<Config> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(max_instances)
        .total_core_instances(max_instances * MAX_PARTS)
        .total_memories(max_instances)
        .total_tables(max_instances * MAX_PARTS)
        .total_stacks(max_instances)
        // Scripts have bounds of their own.
        .max_memory_size(memory.max(MAX_MEMORY))
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(KEEP_RESIDENT)
        .pagemap_scan(Enabled::Auto);
    let mut config = engine::config(engine::TARGET)?;
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Ok(config)
}

/// The arguments of `serve` of `wit/connection.wit`.
type Arguments = (
    Info,
    Head,
    Resource<DynInputStream>,
    Resource<DynOutputStream>,
);

/// One instance of the component.
pub(crate) struct Instance {
    /// `None` only while it is dropped.
    store: Option<Store<State>>,
    serve: TypedFunc<Arguments, (Served,)>,
    contexts: Arc<Mutex<Vec<Context>>>,
    /// The bytes of memory that it began with.
    memory: u64,
    calls: u32,
    _permit: Permit,
}

impl Instance {
    /// Serves what is ready on the connection `socket`, which begins with `head`, and what comes soon
    /// enough for `burst`.
    ///
    /// # Errors
    /// A trap: the instance has failed, or was taken back, or got no memory, and cannot be called again.
    pub(crate) async fn serve(
        &mut self,
        socket: &Arc<Socket>,
        info: Info,
        head: Head,
        burst: Burst,
    ) -> Result<Served> {
        let Some(store) = &mut self.store else {
            return Err(Error::msg("the instance has gone"));
        };
        self.calls += 1;
        let (input, output) = store
            .data_mut()
            .attach(socket, &info.client.address, burst)?;
        epochs::begin(&mut store.as_context_mut());
        let arguments = (
            info,
            head,
            Resource::new_borrow(input),
            Resource::new_borrow(output),
        );
        let (served,) = self.serve.call_async(store, arguments).await?;
        Ok(served)
    }

    /// Returns whether this is an instance of `sandbox`.
    pub(crate) fn is_of(&self, sandbox: &Sandbox) -> bool {
        Arc::ptr_eq(&self.contexts, &sandbox.contexts)
    }

    /// Returns whether the instance, which has answered, is as good as a fresh one: it holds little memory, no file that
    /// it was receiving, and what a component may leave behind with each call has not added up.
    pub(crate) fn is_reusable(&self) -> bool {
        let Some(store) = &self.store else {
            return false;
        };
        let state = store.data();
        let more = state.bounds.taken().saturating_sub(self.memory);
        self.calls < MAX_CALLS && more <= KEEP_RESIDENT as u64 && state.received_files.is_empty()
    }

    /// Returns the most bytes of memory that the instance may have, if it has asked for more.
    pub(crate) fn refused_memory(&self) -> Option<usize> {
        self.store.as_ref()?.data().bounds.refused()
    }

    /// Takes the connection away, which the instance has finished with.
    pub(crate) fn detach(&mut self) {
        if let Some(store) = &mut self.store {
            store.data_mut().detach();
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let store = self.store.take();
        let context = store.and_then(|store| store.into_data().into_context());
        lock(&self.contexts).extend(context);
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Instance").finish_non_exhaustive()
    }
}

/// The parties on the two ends of a connection (`info` of `wit/connection.wit`).
#[derive(Clone, Debug, ComponentType, Lower)]
#[component(record)]
pub(crate) struct Info {
    /// The peer's end.
    pub(crate) client: Endpoint,
    /// The server's end.
    pub(crate) server: Endpoint,
    /// Set where the bytes are encrypted between the two.
    pub(crate) encrypted: bool,
    /// Seconds that the peer has to wait until a password is looked at.
    pub(crate) wait: u32,
}

/// An IP address and a port.
#[derive(Clone, Debug, ComponentType, Lower)]
#[component(record)]
pub(crate) struct Endpoint {
    /// The address in its usual notation.
    pub(crate) address: Arc<str>,
    /// The port.
    pub(crate) port: u16,
}

/// The part of a head that has come (`head` of `wit/connection.wit`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum Head {
    /// All of the head.
    #[component(name = "whole")]
    Whole,
    /// All that will be had of the head.
    #[component(name = "unfinished")]
    Unfinished,
}

/// The outcome of a call (`served` of `wit/connection.wit`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Served {
    /// The next step for the connection.
    pub(crate) next: Next,
    /// The password that was looked at last.
    pub(crate) password: Password,
}

/// The next step for a connection (`next` of `wit/connection.wit`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift)]
#[component(variant)]
#[allow(dead_code, reason = "made by the component")]
pub(crate) enum Next {
    /// Wait for the next request.
    #[component(name = "keep-alive")]
    KeepAlive,
    /// Wait for the next request, behind so many bytes of content.
    #[component(name = "skip")]
    Skip(u64),
    /// Close.
    #[component(name = "close")]
    Close,
    /// Close when the peer has stopped sending.
    #[component(name = "linger")]
    Linger,
    /// Reset the connection, as the answer is not whole.
    #[component(name = "reset")]
    Reset,
}
