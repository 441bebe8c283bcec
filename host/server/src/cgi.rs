//! The import `sandserve:http/cgi`: scripts that a component asks for, run outside of it. What they are
//! asked for is the component's to decide (`src/cgi.rs`); where they may be, how they run and when they
//! end is decided here.

mod errors;
mod open;
mod pipe;
mod program;
mod script;
mod wasm;

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use wasmtime::component::{ComponentType, Linker, Lower, Resource, ResourceType};
use wasmtime::error::Context;
use wasmtime::{Error, Result, StoreContextMut};
use wasmtime_wasi::filesystem::WasiFilesystemCtx;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};
use wasmtime_wasi::{FsPerms, WasiCtx};

use crate::state::{Attached, State};
use script::Script;
use wasm::Programs;

pub use program::end_all;

const INTERFACE: &str = "sandserve:http/cgi@0.2.0";

/// What runs scripts, and for how long.
pub struct Scripts {
    /// The directory that they are beneath.
    root: File,
    path: String,
    timeout: Duration,
    /// The directories that WebAssembly has.
    files: WasiFilesystemCtx,
    programs: OnceLock<Programs>,
}

/// A directory that WebAssembly scripts have (`--cgi-dir-access`).
#[derive(Clone, Debug)]
pub struct DirAccess {
    /// Where it is.
    pub path: PathBuf,
    /// What scripts call it.
    pub name: String,
    /// Whether they may change what is in it.
    pub writable: bool,
}

impl Scripts {
    /// Scripts beneath `root`, each of which is ended after `timeout`. Those that are WebAssembly may
    /// use `directories`.
    ///
    /// # Errors
    /// A directory that cannot be opened, and a system that cannot open a file beneath one without
    /// being led out of it: this takes Linux 5.6.
    pub fn new(root: &Path, timeout: Duration, directories: &[DirAccess]) -> Result<Self> {
        let path = root.canonicalize()?.to_string_lossy().into_owned();
        let root = File::open(root)?;
        open::check_system(&root)?;
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
            root,
            path,
            timeout,
            files: wasi.build().filesystem().clone(),
            programs: OnceLock::new(),
        })
    }

    /// Those that are WebAssembly, set up when the first of them is asked for.
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

/// Why a script does not run (`refusal` of `wit/cgi.wit`).
#[derive(Clone, Debug, ComponentType, Lower)]
#[component(variant)]
pub(crate) enum Refusal {
    #[component(name = "not-found")]
    NotFound,
    #[component(name = "not-executable")]
    NotExecutable,
    #[component(name = "failed")]
    Failed(String),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Refusal::Failed(error.to_string())
    }
}

/// How a script has ended (`end` of `wit/cgi.wit`).
#[derive(Clone, Debug, ComponentType, Lower)]
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

/// What a script and its caller hold together (`running` of `wit/cgi.wit`).
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
    let here = scripts.clone();
    cgi.func_wrap("root", move |_, ()| Ok((here.path.clone(),)))?;
    let here = scripts.clone();
    cgi.func_wrap_async("start", move |store, arguments| {
        let here = here.clone();
        Box::new(start(store, here, arguments))
    })
}

type Start = (String, Vec<String>, Vec<(String, String)>);

async fn start(
    mut store: StoreContextMut<'_, State>,
    scripts: Arc<Scripts>,
    (path, arguments, environment): Start,
) -> Result<(Result<Running, Refusal>,)> {
    let Some(Attached { socket, client, .. }) = &store.data().attached else {
        return Err(Error::msg("a script without a connection"));
    };
    let (socket, client) = (socket.clone(), client.clone());
    let started = script::start(&scripts, &path, &arguments, &environment, &socket, client);
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

async fn wait(mut store: StoreContextMut<'_, State>, script: Resource<Script>) -> Result<(End,)> {
    let ended = store.data_mut().table.get(&script)?.ended();
    Ok((ended.wait().await,))
}
