//! One instance, and all that it has of the world.
//!
//! 1. `state` is what belongs to it: what it has just looked at (`looks`), the files that it is receiving (`received`),
//!    what it may take (`limits`), and the `clock` that it computes by.
//! 2. `granted` opens the directories that it has. `linker` defines what it may import: WASI, and where this host does
//!    better `preopens`, `filesystem`, `directory`, `stat_at`, `stock` (files), `uploads` (files that it receives) and
//!    `streams` (its connection). Those of files resolve paths `beneath` a directory, give and take `names` that are not
//!    UTF-8, make `aside` what may wait for a disk, and answer in the `types` of WASI.
//! 3. `epochs` interrupt it while it computes, and `burst` lets it wait for the next request.

pub(crate) mod aside;
#[cfg(target_os = "linux")]
pub(crate) mod beneath;
pub(crate) mod burst;
pub(crate) mod clock;
pub(crate) mod directory;
pub(crate) mod epochs;
pub(crate) mod filesystem;
pub(crate) mod granted;
pub(crate) mod limits;
pub(crate) mod linker;
pub(crate) mod looks;
pub(crate) mod names;
pub(crate) mod preopens;
pub(crate) mod received;
pub(crate) mod stat_at;
pub(crate) mod state;
pub(crate) mod stock;
pub(crate) mod streams;
pub(crate) mod types;
pub(crate) mod uploads;
