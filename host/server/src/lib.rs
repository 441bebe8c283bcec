//! The server of `sandserve`: a listener, one directory, and the sandbox between them.
//!
//! A connection goes through these modules in this order: `listen` (or `unix_socket`, or `inherited`
//! from whoever started the process), `server` (accept), `connections` (room for it), `connection` (its life), `sandbox` (an
//! instance to serve it), then what the instance sees of the world: `wasi`, and where this host does
//! better `filesystem`, `directory`, `stat_at`, `stock`, `received` and `streams`; behind them `open_files` (what
//! need not be opened again), `disk` (calls that may wait), `socket` (bytes that have come or will go), `head` (where a head ends),
//! `outbox` (what has not left), `transport` (in the clear or through `tls`) and `stream` (system calls).
//!
//! An instance computes; a connection waits. `pace` says who may wait for a client, for what and how long,
//! `instances` who gives up an instance when there are too few, `turns` who computes first where many are ready (both
//! by a `line` in which clients take turns), `watch` which
//! calls are not worth waiting for, and `refusal` what the host says then.
//! How long an instance stays with a connection is a matter of `burst` and `idle`, counted in rounds
//! (`round`), as is how long a file stays open; `memory` is what all instances may have. `cohort` keeps connections in step that are ready at
//! once. `proxies` says which peers are believed that speak for others, by a `preface` or a field that is
//! `forwarded`, and `guesses` who has to wait as its passwords were wrong. `cgi` runs scripts for a component that may
//! ask for them. `log` is beside the way, as are `strikes`, its lines of limits, and `json`, which looks at lines of
//! handlers.

mod burst;
mod cgi;
mod clock;
mod cohort;
mod connection;
mod connections;
mod directory;
mod disk;
mod filesystem;
mod forwarded;
mod guesses;
mod head;
mod idle;
mod inherited;
mod instances;
mod json;
mod limits;
mod line;
mod listen;
mod lock;
mod log;
mod memory;
#[cfg(target_os = "linux")]
mod open_files;
mod outbox;
mod pace;
mod preface;
mod proxies;
mod received;
mod refusal;
mod round;
mod sandbox;
mod server;
mod socket;
mod stat_at;
mod state;
mod stock;
mod stream;
mod streams;
mod strikes;
mod tls;
mod transport;
mod turns;
mod unix_socket;
mod wasi;
mod watch;

pub use cgi::{
    DirAccess, OfWorker, ScriptLimits, ScriptStarter, Scripts, ToStarter, end_all as end_scripts,
    end_children, starter_socket,
};
pub use filesystem::check_file;
pub use inherited::inherited;
pub use listen::{Address, listen};
pub use log::{flush_log, log_json, log_to, reopen_log, say, takes_more};
pub use pace::{Pace, Rate};
pub use proxies::{Forwarding, TrustedProxies, TrustedProxy};
pub use received::remove_received;
pub use sandbox::{Grant, Sandbox};
pub use server::{HttpServer, Load, Shutdown};
pub use strikes::log_strikes;
pub use tls::{TlsConfig, TlsError};
pub use unix_socket::{SocketFile, listen_unix};
