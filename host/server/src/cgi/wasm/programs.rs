//! Scripts ready to be instantiated: compiled once, and known by what is in them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::digest::{Digest, SHA256, digest};
use wasmtime::{Engine, Error, InstancePre, Linker, Module as CoreModule, Result, component};
use wasmtime_wasi::filesystem::WasiFilesystemCtx;
use wasmtime_wasi::p1;
use wasmtime_wasi::p2::bindings::CommandPre;

use super::Module;
use crate::cgi::Refusal;
use crate::cgi::open::{Identity, Opened};
use crate::instance::clock::Clock;
use crate::instance::linker;
use crate::instance::state::State;
use crate::lock::lock;

pub(super) type ComponentPre = CommandPre<State>;
pub(super) type ModulePre = InstancePre<Module>;

/// The function that a module exports to be run.
pub(super) const START: &str = "_start";
/// The first bytes of a component; a module has another version.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
/// The number of programs that are kept compiled. With more, all are forgotten, and come again as they are
/// asked for.
const MAX_KEPT: usize = 64;
/// The age that a file must have for its times to tell whether it has changed.
const SETTLED: Duration = Duration::from_secs(2);

/// A script, compiled.
pub(super) enum Program {
    Component(ComponentPre),
    Module(ModulePre),
}

/// The programs that have been asked for.
pub(crate) struct Programs {
    engine: Engine,
    components: component::Linker<State>,
    modules: Linker<Module>,
    kept: Mutex<Kept>,
    /// Held while something is compiled, so that nothing is compiled twice.
    compiling: tokio::sync::Mutex<()>,
    /// The directories that every script has.
    pub(super) files: WasiFilesystemCtx,
    pub(super) clock: Arc<Clock>,
}

#[derive(Default)]
struct Kept {
    by_content: HashMap<Content, Arc<Program>>,
    /// The content of each file that was looked at, by the identity of the file.
    content: HashMap<Identity, Content>,
}

/// The hash of a file.
type Content = [u8; 32];

impl Programs {
    /// Returns a collection of no programs yet; each will have `files`.
    ///
    /// # Errors
    /// An engine that cannot be set up on this machine.
    pub(crate) fn new(files: WasiFilesystemCtx) -> Result<Self> {
        let engine = Engine::new(&engine::config(engine::TARGET)?)?;
        let mut components = component::Linker::new(&engine);
        linker::add_to_linker(&mut components)?;
        let mut modules = Linker::new(&engine);
        p1::add_to_linker_async(&mut modules, |state: &mut Module| &mut state.wasi)?;
        Ok(Programs {
            clock: Clock::start(engine.clone()),
            engine,
            components,
            modules,
            kept: Mutex::default(),
            compiling: tokio::sync::Mutex::default(),
            files,
        })
    }

    /// Returns the program in `file`.
    pub(super) async fn get(&self, file: Opened) -> Result<Arc<Program>, Refusal> {
        let identity = file.identity();
        if let Some(program) = self.lock().find(&identity) {
            return Ok(program);
        }
        let bytes = file.read()?;
        let content = hash(&bytes);
        let _compiling = self.compiling.lock().await;
        let known = self.lock().by_content.get(&content).cloned();
        let program = match known {
            Some(program) => program,
            None => {
                let refused = |error: Error| Refusal::Failed(format!("{error:#}"));
                Arc::new(self.compile(bytes).await.map_err(refused)?)
            }
        };
        self.lock().keep(identity, content, &program);
        Ok(program)
    }

    /// Compiles on another thread, as this one has connections to serve.
    async fn compile(&self, bytes: Vec<u8>) -> Result<Program> {
        let engine = self.engine.clone();
        if bytes.starts_with(COMPONENT) {
            let compile = move || component::Component::from_binary(&engine, &bytes);
            let component = tokio::task::spawn_blocking(compile).await??;
            let mut linker = self.components.clone();
            linker::add_stubs_to_linker(&mut linker, &component)?;
            let pre = linker.instantiate_pre(&component)?;
            return Ok(Program::Component(CommandPre::new(pre)?));
        }
        let compile = move || CoreModule::from_binary(&engine, &bytes);
        let module = tokio::task::spawn_blocking(compile).await??;
        if module.get_export(START).is_none() {
            return Err(Error::msg("it is no program: it does not export _start"));
        }
        self.modules.instantiate_pre(&module).map(Program::Module)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        lock(&self.kept)
    }
}

impl Kept {
    fn find(&self, identity: &Identity) -> Option<Arc<Program>> {
        let content = self.content.get(identity)?;
        self.by_content.get(content).cloned()
    }

    fn keep(&mut self, identity: Identity, content: Content, program: &Arc<Program>) {
        if self.by_content.len().max(self.content.len()) >= MAX_KEPT {
            *self = Kept::default();
        }
        self.by_content.insert(content, program.clone());
        let seconds = u64::try_from(identity.changed.0).unwrap_or_default();
        let changed = UNIX_EPOCH + Duration::from_secs(seconds);
        let age = SystemTime::now().duration_since(changed);
        if age.is_ok_and(|age| age >= SETTLED) {
            self.content.insert(identity, content);
        }
    }
}

fn hash(bytes: &[u8]) -> Content {
    let mut content = Content::default();
    let hash: Digest = digest(&SHA256, bytes);
    content.copy_from_slice(hash.as_ref());
    content
}
