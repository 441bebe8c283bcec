//! The clock of an engine: it interrupts instances that compute.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::Engine;

/// Time after which a running instance lets others run.
pub(crate) const TICK: Duration = Duration::from_micros(2500);
/// Time between two ticks when no instance has run for a while: one may still wake up and compute.
const SLOW_TICK: Duration = Duration::from_secs(1);

/// Moves the engine's epoch on, every [`TICK`] while instances run, and else every [`SLOW_TICK`].
#[derive(Default)]
pub(crate) struct Clock {
    /// An instance has run since the last tick.
    awake: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Clock {
    /// Starts the clock of `engine`, which runs until it is dropped.
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

    /// Notes that an instance runs. Costs nothing when that is known, so that cores do not meet here.
    pub(crate) fn wake(&self) {
        if !self.awake.load(Ordering::Relaxed) {
            self.awake.store(true, Ordering::Relaxed);
            if let Some(thread) = self.thread.get() {
                thread.unpark();
            }
        }
    }
}
