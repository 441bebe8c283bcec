//! The import `sandserve:http/cgi`: scripts that a component asks for, run outside of it. The component decides which
//! script is asked for and what becomes of its output (`handler::cgi` of the handler crate).
//!
//! 1. `open` finds the file of a script that is asked for beneath the root, where no link leads out.
//! 2. The script waits for a slot (`slots`).
//! 3. A program is started by the `starter`, a small process, or by this one where there is none (`program`), by its
//!    `name` where that is safe; a script that is WebAssembly runs in a sandbox of its own (`wasm`).
//! 4. `script` watches it until it ends, or is ended; its streams are in `pipe`, what it says of errors
//!    in `errors`, and what these know of it in `work`.

mod errors;
mod name;
mod open;
mod pipe;
mod program;
mod script;
mod slots;
mod starter;
mod wasm;
mod work;

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use wasmtime::component::{ComponentType, Linker, Lower, Resource, ResourceType};
use wasmtime::error::Context;
use wasmtime::{Error, Result, StoreContextMut};
use wasmtime_wasi::filesystem::WasiFilesystemCtx;
use wasmtime_wasi::p2::bindings::filesystem::types::PathFlags;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};
use wasmtime_wasi::{FsPerms, WasiCtx};

use crate::instance::aside::wait_for_path;
use crate::instance::state::{Attached, State};
use script::Script;
use slots::Slots;
use starter::message::Order;
use wasm::Programs;

pub use program::ScriptLimits;
pub(crate) use program::end_all;
pub use starter::{OfWorker, ScriptStarter, ToStarter, end_children, starter_socket};

const INTERFACE: &str = "sandserve:http/cgi@0.2.0";
/// Scripts that run at once, where nothing else is said: enough to keep the cores busy with scripts that wait for
/// something else most of the time, and few enough for a small machine.
const MAX_SCRIPTS: usize = 64;

/// The scripts beneath a directory, with the means to run them and the time that each has.
pub struct Scripts {
    /// The directory that scripts are beneath; `None` where it was not there.
    root: Option<Arc<File>>,
    path: String,
    timeout: Duration,
    max_time: Option<Duration>,
    slots: Arc<Slots>,
    limits: ScriptLimits,
    /// The process that starts scripts which are programs, if that is another than this.
    starter: Option<ToStarter>,
    /// The directories that WebAssembly has.
    files: WasiFilesystemCtx,
    programs: OnceLock<Programs>,
}

/// A directory that WebAssembly scripts have (`--cgi-dir-access`).
#[derive(Clone, Debug)]
pub struct DirAccess {
    /// The path of the directory on the host.
    pub path: PathBuf,
    /// The name by which scripts know the directory.
    pub name: String,
    /// Set where scripts may change what is in the directory.
    pub writable: bool,
}

impl Scripts {
    /// Returns the scripts beneath `root`, each of which is ended when it has been silent for `timeout`. Scripts that are
    /// WebAssembly may use `directories`. Where `root` is not there, no script is found.
    ///
    /// # Errors
    /// One of the `directories` that cannot be opened, and a system that cannot open a file beneath one without being
    /// led out of it: this takes Linux 5.6.
    pub fn new(root: &Path, timeout: Duration, directories: &[DirAccess]) -> Result<Self> {
        let path = root.canonicalize().or_else(|_| std::path::absolute(root))?;
        let root = open::open_root(root)?;
        let mut wasi = WasiCtx::builder();
        for directory in directories {
            let perms = match directory.writable {
                true => FsPerms::ReadWrite,
                false => FsPerms::ReadOnly,
            };
            let cannot = || format!("cannot open `{}`", directory.path.display());
            wasi.preopened_dir(&directory.path, &directory.name, perms)
                .with_context(cannot)?;
        }
        Ok(Scripts {
            root: root.map(Arc::new),
            path: path.to_string_lossy().into_owned(),
            timeout,
            max_time: None,
            slots: Slots::new(MAX_SCRIPTS),
            limits: ScriptLimits::default(),
            starter: None,
            files: wasi.build().filesystem().clone(),
            programs: OnceLock::new(),
        })
    }

    /// Lets `max` scripts run at once, by default 64. Three times as many may wait for a moment.
    pub fn max_scripts(mut self, max: usize) -> Self {
        self.slots = Slots::new(max);
        self
    }

    /// Ends scripts that have run for `time`, whatever they do.
    pub fn max_time(mut self, time: Duration) -> Self {
        self.max_time = Some(time);
        self
    }

    /// Puts limits on each script that is a program, as long as this process starts them.
    pub fn limits(mut self, limits: ScriptLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Has programs started by another process, beneath the root and within the limits that are known there.
    pub fn starter(mut self, starter: ToStarter) -> Self {
        self.starter = Some(starter);
        self
    }

    /// Lets no more scripts run and wait than half of `instances`, as each takes one: the other half serves
    /// files.
    pub(crate) fn within(self, instances: usize) -> Self {
        let max = slots::max_within(instances / 2).min(self.slots.max());
        self.max_scripts(max)
    }

    /// Returns whether programs are children of this process.
    pub(crate) fn start_here(&self) -> bool {
        self.starter.is_none()
    }

    /// Returns the scripts that are WebAssembly, set up when the first of them is asked for.
    ///
    /// # Errors
    /// [`Refusal::Failed`] if they cannot be set up.
    fn programs(&self) -> Result<&Programs, Refusal> {
        if let Some(programs) = self.programs.get() {
            return Ok(programs);
        }
        let programs = Programs::new(self.files.clone());
        let programs = programs.map_err(|error| Refusal::Failed(format!("{error:#}")))?;
        Ok(self.programs.get_or_init(|| programs))
    }
}

impl fmt::Debug for Scripts {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Scripts").finish_non_exhaustive()
    }
}

/// The reason why a script does not run (`refusal` of `wit/cgi.wit`).
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lower)]
#[component(variant)]
pub(crate) enum Refusal {
    #[component(name = "not-found")]
    NotFound,
    #[component(name = "not-executable")]
    NotExecutable,
    #[component(name = "busy")]
    Busy,
    #[component(name = "failed")]
    Failed(String),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Refusal::Failed(error.to_string())
    }
}

/// The way a script has ended (`end` of `wit/cgi.wit`).
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lower)]
#[component(variant)]
pub(crate) enum End {
    #[component(name = "exited")]
    Exited(u8),
    #[component(name = "signalled")]
    Signalled(u8),
    #[component(name = "trapped")]
    Trapped(String),
    #[component(name = "timed-out")]
    TimedOut,
    #[component(name = "abandoned")]
    Abandoned,
}

/// Returns how a program has ended.
fn end(status: ExitStatus) -> End {
    let number = |number: Option<i32>| number.and_then(|number| u8::try_from(number).ok());
    match number(status.code()) {
        Some(code) => End::Exited(code),
        None => End::Signalled(number(status.signal()).unwrap_or_default()),
    }
}

/// The resources that a script and its caller share (`running` of `wit/cgi.wit`).
#[derive(ComponentType, Lower)]
#[component(record)]
struct Running {
    script: Resource<Script>,
    stdin: Resource<DynOutputStream>,
    stdout: Resource<DynInputStream>,
}

/// Defines the import.
pub(crate) fn add_to_linker(linker: &mut Linker<State>, scripts: &Arc<Scripts>) -> Result<()> {
    let mut cgi = linker.instance(INTERFACE)?;
    cgi.resource(
        "script",
        ResourceType::host::<Script>(),
        |mut store, rep| {
            let script = Resource::<Script>::new_own(rep);
            store.data_mut().table.delete(script)?;
            Ok(())
        },
    )?;
    cgi.func_wrap_async("[method]script.wait", |store, (script,)| {
        Box::new(wait(store, script))
    })?;
    cgi.func_wrap("[method]script.answered", answered)?;
    let here = scripts.clone();
    cgi.func_wrap("root", move |_, ()| Ok((here.path.clone(),)))?;
    let here = scripts.clone();
    cgi.func_wrap_async("start", move |store, arguments| {
        let here = here.clone();
        Box::new(start(store, here, arguments))
    })
}

/// Path, arguments and environment.
type Start = (String, Vec<Vec<u8>>, Vec<(String, Vec<u8>)>);

async fn start(
    mut store: StoreContextMut<'_, State>,
    scripts: Arc<Scripts>,
    (path, arguments, environment): Start,
) -> Result<(Result<Running, Refusal>,)> {
    let Some(Attached { socket, client, .. }) = &store.data().attached else {
        return Err(Error::msg("a script without a connection"));
    };
    let (socket, client) = (socket.clone(), client.clone());
    let Some(root) = scripts.root.clone() else {
        return Ok((Err(Refusal::NotFound),));
    };
    let (to, name) = (root.clone(), path.clone());
    let storage = store.data().root.storage_of(&root);
    let way = (PathFlags::SYMLINK_FOLLOW, path.clone());
    let find = move || open::open(&root, &name);
    let (found, _) = wait_for_path(Some(&socket), storage, to, way, find).await?;
    let file = match found {
        Ok(file) => file,
        Err(refusal) => return Ok((Err(refusal),)),
    };
    let order = Order {
        path,
        arguments: arguments.into_iter().map(OsString::from_vec).collect(),
        environment: environment
            .into_iter()
            .map(|(name, value)| (name.into(), OsString::from_vec(value)))
            .collect(),
    };
    let started = script::start(&scripts, file, order, &socket, client);
    let (script, stdin, stdout) = match started.await {
        Ok(started) => started,
        Err(refusal) => return Ok((Err(refusal),)),
    };
    let (stdin, stdout): (DynOutputStream, DynInputStream) = (Box::new(stdin), Box::new(stdout));
    let table = &mut store.data_mut().table;
    Ok((Ok(Running {
        script: table.push(script)?,
        stdin: table.push(stdin)?,
        stdout: table.push(stdout)?,
    }),))
}

fn answered(
    mut store: StoreContextMut<'_, State>,
    (script,): (Resource<Script>,),
) -> Result<(bool,)> {
    let script = store.data_mut().table.get(&script)?;
    Ok((script.note_answered(),))
}

async fn wait(mut store: StoreContextMut<'_, State>, script: Resource<Script>) -> Result<(End,)> {
    let ended = store.data_mut().table.get(&script)?.ended();
    Ok((ended.wait().await,))
}
