//! The host of `sandserve`: a listener, one read-only directory, and the sandbox between them.
//!
//! A connection goes through these modules in this order: [`listen`], [`server`] (accept),
//! `connection` (its life), [`sandbox`] (an instance to serve it), [`socket`] and `filesystem` (what
//! the instance sees of the world), `log`.

mod connection;
mod engine;
mod filesystem;
pub mod listen;
mod log;
pub mod sandbox;
pub mod server;
pub mod socket;

pub use listen::listen;
pub use sandbox::{FILE_SERVER, Grant, Sandbox};
pub use server::{HttpServer, Shutdown};
