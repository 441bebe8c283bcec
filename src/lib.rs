//! Python's `http.server` as a WebAssembly component.
//!
//! A request goes through these modules in this order:
//!
//! | step | module |
//! | --- | --- |
//! | bytes in, from a raw connection or from a WASI HTTP host | `connection`, `incoming_handler`, `rfile` |
//! | parse | `parse`, `request`, `chunked` |
//! | dispatch | [`base`] (`BaseHTTPRequestHandler`) |
//! | serve files | [`simple`] (`SimpleHTTPRequestHandler`) |
//! | map the path | `path` |
//! | open beneath the root | `open` |
//! | decide | `conditional`, `content_type`, `listing` |
//! | bytes out | `exchange`, `wfile`, `log` |
//!
//! `component` makes a component of a handler. With the default feature `component` this crate is
//! one itself, the file server.

pub mod base;
#[allow(
    clippy::all,
    missing_docs,
    unreachable_pub,
    unsafe_code,
    reason = "generated"
)]
#[doc(hidden)]
pub mod bindings;
mod chunked;
mod component;
mod conditional;
mod connection;
mod content_type;
mod date;
mod exchange;
mod html;
mod incoming_handler;
mod listing;
mod log;
mod open;
mod parse;
mod path;
mod request;
mod rfile;
mod settings;
pub mod simple;
mod status;
mod wfile;

pub use base::BaseHttpRequestHandler;
pub use component::{Component, FileServer};
pub use exchange::{Endpoint, Exchange};
pub use open::File;
pub use request::{Framing, Headers, Request, Version};
pub use rfile::Rfile;
pub use simple::{Content, Files, SimpleHttpRequestHandler};
pub use status::responses;
pub use wfile::Wfile;

#[cfg(feature = "component")]
export!(FileServer);
