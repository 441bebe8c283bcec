//! One instance, and all that it has of the world.
//!
//! 1. `state` is what belongs to it, and `limits` what it may take.
//! 2. `linker` defines what it may import: WASI, and where this host does better `filesystem`, `directory`, `stat_at`,
//!    `stock` (files), `uploads` (files that it receives) and `streams` (its connection).
//! 3. `epochs` interrupt it while it computes, and `burst` lets it wait for the next request.

pub(crate) mod burst;
pub(crate) mod directory;
pub(crate) mod epochs;
pub(crate) mod filesystem;
pub(crate) mod limits;
pub(crate) mod linker;
pub(crate) mod stat_at;
pub(crate) mod state;
pub(crate) mod stock;
pub(crate) mod streams;
pub(crate) mod uploads;
