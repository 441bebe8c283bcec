//! Time that instances compute: they let others run, and do not compute for ever.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::{Engine, Error, Result, StoreContextMut, UpdateDeadline};

use crate::state::State;

/// How often running instances let others run.
const TICK: Duration = Duration::from_millis(5);
/// The same when none has run for a while: one may still wake up and compute.
const SLOW_TICK: Duration = Duration::from_secs(1);
/// How long an instance may compute without reading a byte of its connection.
const MAX_COMPUTING: Duration = Duration::from_secs(30);

/// Moves the engine's epoch on, every [`TICK`] while instances run, and else every [`SLOW_TICK`].
#[derive(Default)]
pub(crate) struct Clock {
    /// Whether an instance has run since the last tick.
    awake: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Clock {
    /// The clock of `engine`, until it is dropped.
    pub(crate) fn start(engine: Engine) -> Arc<Self> {
        let clock = Arc::<Clock>::default();
        let ticking = Arc::downgrade(&clock);
        let thread = thread::spawn(move || {
            while let Some(clock) = ticking.upgrade() {
                if clock.awake.swap(false, Ordering::Relaxed) {
                    thread::sleep(TICK);
                } else {
                    thread::park_timeout(SLOW_TICK);
                }
                engine.increment_epoch();
            }
        });
        let _ = clock.thread.set(thread.thread().clone());
        clock
    }

    /// Says that an instance runs. Costs nothing when that is known, so that cores do not meet here.
    pub(crate) fn wake(&self) {
        if !self.awake.load(Ordering::Relaxed) {
            self.awake.store(true, Ordering::Relaxed);
            if let Some(thread) = self.thread.get() {
                thread.unpark();
            }
        }
    }
}

/// The instance of `store` begins to compute, or has waited and goes on.
pub(crate) fn begin(store: &mut StoreContextMut<State>) {
    let state = store.data_mut();
    state.computing = Duration::ZERO;
    state.clock.wake();
    store.set_epoch_deadline(1);
}

/// Called on an instance that has run for a tick.
pub(crate) fn interrupt(mut store: StoreContextMut<State>) -> Result<UpdateDeadline> {
    let state = store.data_mut();
    state.clock.wake();
    state.computing += TICK;
    if let Some(attached) = &state.attached {
        attached.socket.note_computing();
    }
    if state.computing > MAX_COMPUTING {
        let seconds = MAX_COMPUTING.as_secs();
        return Err(Error::msg(format!(
            "no answer after {seconds} seconds of computing"
        )));
    }
    Ok(let_others_run())
}

/// Goes on for a tick when others have run.
pub(crate) fn let_others_run() -> UpdateDeadline {
    UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))
}
