//! The configuration under which components are compiled and run. The build of the host and the server
//! share it: code compiled under one configuration does not load under another.

use wasmtime::{Config, Error};

/// The version of wasmtime.
pub const WASMTIME: &str = wasmtime_environ::VERSION;
/// The triple that this package is built for.
pub const TARGET: &str = env!("SANDSERVE_TARGET");

/// Returns the configuration for `target`, a triple. Naming the target keeps the code to instructions that
/// every processor of that architecture has, wherever it was compiled.
///
/// # Errors
/// A target that wasmtime cannot compile for.
pub fn config(target: &str) -> Result<Config, Error> {
    let mut config = Config::new();
    config.target(target)?;
    // Handlers are interrupted, so that none keeps a core for itself.
    config.epoch_interruption(true);
    // All that a 32-bit address can reach, and guarded: then no access has to be checked, which is a
    // tenth of the time spent in the sandbox. It is address space, not memory.
    config.memory_reservation(4 << 30);
    config.memory_guard_size(32 << 20);
    config.memory_may_move(false);
    // Nothing here uses the component model's own concurrency.
    config.concurrency_support(false);
    Ok(config)
}
