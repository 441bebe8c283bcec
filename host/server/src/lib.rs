//! The server of `sandserve`: a listener, one directory, and the sandbox between them.
//!
//! A connection goes through these modules in this order; each opens with its own steps:
//!
//! | step | module |
//! | --- | --- |
//! | accepted, with a place among all | `server`, `listen` |
//! | its life: wait for a request, have it served, send, and again | `connection` |
//! | bytes in and out | `transport`, `tls` |
//! | an instance for a request, kept for a moment or fresh | `kept`, `sandbox`, `instance` |
//! | scripts that an instance asks for | `cgi` |
//!
//! An instance computes; a connection waits. `pace` says who may wait, for what and how long, and whose turn it is.
//! `memory` is what all may have together, `disk` who waits for files. `log` is beside the way, as are `strikes`, its lines
//! of limits, and `explain`, its words for errors. `tidy_up` is the end of the process.

mod cgi;
mod connection;
mod disk;
mod explain;
mod instance;
mod kept;
mod listen;
mod lock;
mod log;
mod memory;
mod pace;
mod sandbox;
mod server;
mod strikes;
mod tidy_up;
mod tls;
mod transport;

pub use cgi::{
    DirAccess, OfWorker, ScriptLimits, ScriptStarter, Scripts, ToStarter, end_children,
    starter_socket,
};
pub use engine::WASMTIME as WASMTIME_VERSION;
pub use explain::{explain, reason};
pub use instance::filesystem::check_file;
pub use listen::descriptors::reserve_descriptors;
pub use listen::passed::inherited;
pub use listen::proxies::{Forwarding, TrustedProxies, TrustedProxy};
pub use listen::unix::{SocketFile, listen_unix};
pub use listen::{Address, listen};
pub use log::{flush_log, log_for, log_json, log_to, reopen_log, say, takes_more};
pub use memory::default_memory_budget;
pub use pace::{Pace, Rate};
pub use sandbox::{Grant, Isolation, MOST, Most, Sandbox};
pub use server::{HttpServer, Load, Shutdown};
pub use tidy_up::TidyUp;
pub use tls::{TlsConfig, TlsError};
