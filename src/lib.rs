//! Python's `http.server` as a WebAssembly component.
//!
//! A request goes through these modules in this order:
//!
//! | step | module |
//! | --- | --- |
//! | bytes in, from a raw connection or from a WASI HTTP host | [`connection`], [`incoming_handler`], [`rfile`] |
//! | parse | [`request`], [`chunked`] |
//! | dispatch | [`base`] (`BaseHTTPRequestHandler`) |
//! | serve files | [`simple`] (`SimpleHTTPRequestHandler`) |
//! | map the path | [`path`] |
//! | open beneath the root | [`mod@open`] |
//! | decide | [`conditional`], [`content_type`], [`listing`] |
//! | bytes out | [`exchange`], [`wfile`], [`log`] |
//!
//! [`component`] makes a component of a handler. With the default feature `component` this crate is
//! one itself, the file server.

pub mod base;
#[allow(unsafe_code, missing_docs, clippy::all, reason = "generated")]
pub mod bindings;
pub mod chunked;
pub mod component;
pub mod conditional;
pub mod connection;
pub mod content_type;
pub mod date;
pub mod exchange;
pub mod html;
pub mod incoming_handler;
pub mod listing;
pub mod log;
pub mod open;
pub mod path;
pub mod request;
pub mod rfile;
pub mod settings;
pub mod simple;
pub mod status;
pub mod wfile;

#[cfg(all(feature = "component", target_family = "wasm"))]
#[allow(unsafe_code, reason = "generated")]
mod exports {
    type FileServer = crate::component::Component<crate::component::FileServer>;
    crate::bindings::export_component!(FileServer with_types_in crate::bindings);
}
