//! The state that the host keeps for one instance: its WASI context, its connection, and the files it
//! streams.

use std::sync::{Arc, Weak};
use std::time::Duration;

use wasmtime::component::{Resource, ResourceTable};
use wasmtime::{ResourceLimiter, Result};
use wasmtime_wasi::p2::pipe::{ClosedInputStream, ClosedOutputStream};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::disk::{Cursor, Root};
use crate::instance::burst::Burst;
use crate::instance::clock::Clock;
use crate::instance::granted::Granted;
use crate::instance::limits::{Limits, MAX_RESOURCES};
use crate::instance::looks::{LookedAt, Told};
use crate::instance::received::ReceivedFiles;
use crate::log::Logged;
use crate::memory::{InstanceMemory, Taken};
use crate::pace::cohort::Step;
use crate::transport::socket::{Reader, Socket, Writer};

/// The state that the host keeps for an instance.
pub(crate) struct State {
    pub(crate) table: ResourceTable,
    pub(crate) wasi: WasiCtx,
    /// The connection that the instance serves.
    pub(crate) attached: Option<Attached>,
    pub(crate) open_streams: OpenStreams,
    pub(crate) looked_at: LookedAt,
    pub(crate) told: Told,
    /// The place of the files that the instance has.
    pub(crate) root: Root,
    /// The directories that the instance is granted, unless its context has them.
    pub(crate) granted: Option<Arc<Granted>>,
    pub(crate) received_files: ReceivedFiles,
    /// Time that the instance has computed since it last waited.
    pub(crate) computing: Duration,
    pub(crate) clock: Arc<Clock>,
    pub(crate) bounds: Bounds,
    /// The step at which the request waited for the others of its cohort last, if it has waited.
    pub(crate) step: Option<Step>,
    /// The count of the bytes that the instance has logged for the request that it serves.
    pub(crate) logged: Option<Arc<Logged>>,
}

/// The part of an instance that another can have: the WASI context, and what its stderr counts.
pub(crate) struct Context {
    pub(crate) wasi: WasiCtx,
    pub(crate) logged: Arc<Logged>,
}

/// Bounds of what an instance may take.
pub(crate) enum Bounds {
    /// The part of an instance that serves a connection, of what all may take together.
    Shared(InstanceMemory),
    /// The bounds of a script, which are its own.
    Script(Limits),
}

impl Bounds {
    /// Returns how many bytes of memory the instance has of what all may take; 0 for a script.
    pub(crate) fn taken(&self) -> u64 {
        match self {
            Bounds::Shared(memory) => memory.bytes(),
            Bounds::Script(_) => 0,
        }
    }

    /// Returns a part of the memory that all may take, for what the host keeps on behalf of the instance; `None` for a
    /// script.
    pub(crate) fn beside(&self) -> Option<Taken> {
        match self {
            Bounds::Shared(memory) => Some(memory.beside()),
            Bounds::Script(_) => None,
        }
    }

    /// Returns the most bytes of memory that the instance may have, if it has asked for more; `None` for a script.
    pub(crate) fn refused(&self) -> Option<usize> {
        match self {
            Bounds::Shared(memory) => memory.refused(),
            Bounds::Script(_) => None,
        }
    }

    /// Returns the limiter that is asked before the instance takes more.
    pub(crate) fn limiter(&mut self) -> &mut dyn ResourceLimiter {
        match self {
            Bounds::Shared(memory) => memory,
            Bounds::Script(limits) => limits,
        }
    }
}

/// A connection, and the numbers of its two streams in the table of resources.
pub(crate) struct Attached {
    pub(crate) socket: Arc<Socket>,
    /// The name of the client, for the log.
    pub(crate) client: Arc<str>,
    pub(crate) input: u32,
    pub(crate) output: u32,
    /// The burst in which the instance waits for the next request, where it may.
    pub(crate) burst: Burst,
}

impl State {
    pub(crate) fn new(wasi: WasiCtx, root: Root, clock: Arc<Clock>, bounds: Bounds) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        State {
            table,
            wasi,
            attached: None,
            open_streams: OpenStreams::default(),
            looked_at: LookedAt::default(),
            told: Told::default(),
            root,
            granted: None,
            received_files: ReceivedFiles::default(),
            computing: Duration::ZERO,
            clock,
            bounds,
            step: None,
            logged: None,
        }
    }

    /// Returns whether the request comes to `step` now: a step that is taken again, to open one file after the other, is
    /// not waited at again.
    pub(crate) fn comes_to(&mut self, step: Step) -> bool {
        self.step.replace(step) != Some(step)
    }

    /// Returns the connection that the instance serves.
    pub(crate) fn socket(&self) -> Option<Arc<Socket>> {
        let attached = self.attached.as_ref()?;
        Some(attached.socket.clone())
    }

    /// Returns the context for another instance, if it may be used again.
    pub(crate) fn into_context(self) -> Option<Context> {
        let State {
            table,
            wasi,
            attached,
            logged,
            ..
        } = self;
        // Streams leave their unfinished lines when they go.
        drop(table);
        let logged = logged?;
        logged.begin(client_of(&attached));
        Some(Context { wasi, logged })
    }

    /// Notes that the instance has the next request.
    pub(crate) fn begin_request(&mut self) {
        self.told = Told::default();
        self.step = None;
        if let Some(logged) = &self.logged {
            logged.begin(client_of(&self.attached));
        }
    }

    /// Attaches the streams of `socket`, whose client the log calls `client`.
    pub(crate) fn attach(
        &mut self,
        socket: &Arc<Socket>,
        client: &Arc<str>,
        burst: Burst,
    ) -> Result<(u32, u32)> {
        self.begin_request();
        if let Some(attached) = &mut self.attached
            && Arc::ptr_eq(&attached.socket, socket)
        {
            attached.client = client.clone();
            attached.burst = burst;
            return Ok((attached.input, attached.output));
        }
        self.detach();
        let input: DynInputStream = Box::new(Reader(socket.clone()));
        let output: DynOutputStream = Box::new(Writer(socket.clone()));
        let (input, output) = (
            self.table.push(input)?.rep(),
            self.table.push(output)?.rep(),
        );
        self.attached = Some(Attached {
            socket: socket.clone(),
            client: client.clone(),
            input,
            output,
            burst,
        });
        Ok((input, output))
    }

    pub(crate) fn detach(&mut self) {
        self.begin_request();
        if let Some(Attached { input, output, .. }) = self.attached.take() {
            take_away::<DynInputStream>(&mut self.table, input, || Box::new(ClosedInputStream));
            take_away::<DynOutputStream>(&mut self.table, output, || Box::new(ClosedOutputStream));
        }
    }
}

/// Takes a stream of a connection out of `table`. Where the instance has kept something that depends on it, a stream that
/// is `closed` takes its place: it would hold the connection open.
fn take_away<T: Send + 'static>(table: &mut ResourceTable, rep: u32, closed: impl FnOnce() -> T) {
    if table.delete(Resource::<T>::new_own(rep)).is_err()
        && let Ok(stream) = table.get_mut(&Resource::<T>::new_borrow(rep))
    {
        *stream = closed();
    }
}

fn client_of(attached: &Option<Attached>) -> &str {
    attached.as_ref().map_or("-", |attached| &attached.client)
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

/// The file streams that a sandbox has open, by their number in its table of resources. A number may
/// be given again once its stream is gone, and then the entry here is dead.
#[derive(Default)]
pub(crate) struct OpenStreams(Vec<(u32, Weak<Cursor>)>);

impl OpenStreams {
    pub(crate) fn insert(&mut self, rep: u32, cursor: Weak<Cursor>) {
        self.0
            .retain(|(other, cursor)| *other != rep && cursor.strong_count() > 0);
        self.0.push((rep, cursor));
    }

    pub(crate) fn get(&self, rep: u32) -> Option<Arc<Cursor>> {
        self.0.iter().find(|(other, _)| *other == rep)?.1.upgrade()
    }
}
