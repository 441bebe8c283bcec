//! How components are compiled. Shared with `build.rs`: code compiled under one configuration does
//! not load under another.

use wasmtime::{Config, Error};

/// The most memory an instance may use, in bytes.
pub(crate) const MAX_MEMORY: u64 = 64 * 1024 * 1024;

/// The configuration for `target`, a triple. Naming it keeps the code to what every processor of
/// that architecture has, wherever it was compiled.
pub(crate) fn config(target: &str) -> Result<Config, Error> {
    let mut config = Config::new();
    config.target(target)?;
    // Handlers are interrupted, so that none keeps a core for itself.
    config.epoch_interruption(true);
    // Small reservations cost a bounds check and save address space: thousands of instances fit.
    config.memory_reservation(MAX_MEMORY);
    config.memory_guard_size(64 * 1024);
    config.memory_may_move(false);
    // Nothing here uses the component model's own concurrency.
    config.concurrency_support(false);
    Ok(config)
}
