//! Python's `http.server` as a WebAssembly component, and a crate to write handlers with.
//!
//! A handler is a type that implements [`BaseHttpRequestHandler`], whose methods are those of Python's
//! class under their own names in snake case. What Python keeps in `self`, such as `path`, `headers`,
//! `rfile` and `wfile`, is in the [`Exchange`] that every method gets. A method that is not overridden
//! does what Python's does; one that is calls the function of its name in [`base`] where Python's
//! would call `super()`.
//!
//! ```
//! use std::io::{self, Write};
//!
//! use sandserve::{BaseHttpRequestHandler, Exchange};
//!
//! #[derive(Default)]
//! struct Hello;
//!
//! impl BaseHttpRequestHandler for Hello {
//!     fn do_get(&mut self, http: &mut Exchange) -> io::Result<()> {
//!         let body = format!("You asked for {}\n", http.request.path());
//!         self.send_response(http, 200, None);
//!         self.send_header(http, "Content-Type", "text/plain");
//!         self.send_header(http, "Content-Length", &body.len().to_string());
//!         self.end_headers(http)?;
//!         http.wfile.write_all(body.as_bytes())
//!     }
//! }
//!
//! sandserve::export!(Hello);
//! ```
//!
//! As the `lib.rs` of a crate of type `cdylib`, with `sandserve = { default-features = false }` among
//! its dependencies and built for `wasm32-wasip2`, that is a component for `sandserve --handler` and
//! for `wasmtime serve`; `sandserve new NAME` writes such a crate. A handler that serves files
//! implements [`SimpleHttpRequestHandler`] besides. The `examples` directory has one for each common
//! use of the Python classes.
//!
//! An instance serves one connection, unless `sandserve --single` says otherwise; what a handler
//! should remember between connections is in a `static` then, as it is in the class in Python.
//!
//! # Python's names
//!
//! | Python | here |
//! | --- | --- |
//! | `client_address` | [`Exchange::client_address`] |
//! | `server` (`server_name`, `server_port`) | [`Exchange::server`] |
//! | `close_connection` | [`Exchange::close_connection`] |
//! | `requestline` | [`Request::requestline`] |
//! | `command` | [`Request::command`] |
//! | `path` | [`Request::path`] |
//! | `request_version` | [`Request::request_version`] |
//! | `headers` | [`Request::headers`] |
//! | `rfile` | [`Exchange::rfile`], which gives exactly the content |
//! | `wfile` | [`Exchange::wfile`], which is buffered until it is flushed or the request is done |
//! | `server_version`, `sys_version` | [`BaseHttpRequestHandler::server_version`], [`sys_version`](BaseHttpRequestHandler::sys_version) |
//! | `error_message_format`, `error_content_type` | [`BaseHttpRequestHandler::error_message_format`], [`error_content_type`](BaseHttpRequestHandler::error_content_type) |
//! | `protocol_version` | [`BaseHttpRequestHandler::protocol_version`] |
//! | `MessageClass` | [`Headers`] |
//! | `responses` | [`responses`] |
//! | `handle`, `handle_one_request`, `handle_expect_100` | the methods of [`BaseHttpRequestHandler`] of these names |
//! | `do_GET`, `do_HEAD`, `do_POST`, `do_PUT`, `do_PATCH`, `do_DELETE`, `do_OPTIONS` | `do_get` and so on; any other command reaches [`do_other`](BaseHttpRequestHandler::do_other) |
//! | `send_error`, `send_response`, `send_response_only`, `send_header`, `end_headers`, `flush_headers` | the methods of these names |
//! | `log_request`, `log_error`, `log_message` | the methods of these names; a message is formatted by who logs it |
//! | `version_string`, `date_time_string`, `log_date_time_string`, `address_string` | the methods of these names |
//! | `directory`, `index_pages`, `extensions_map` | [`Files`] |
//! | `SimpleHTTPRequestHandler.do_GET`, `do_HEAD` | [`simple::do_get`], [`simple::do_head`] |
//! | `send_head`, `list_directory`, `translate_path`, `guess_type`, `copyfile` | the methods of [`SimpleHttpRequestHandler`] of these names |
//! | `default_request_version`, `parse_request`, `raw_requestline` | left out: HTTP/0.9 is not spoken, and a handler cannot change how requests are read |
//! | `weekdayname`, `monthname`, `wbufsize`, `rbufsize`, `timeout`, `setup`, `finish` | left out: they belong to how Python does it; the host has the timeouts |
//! | `CGIHTTPRequestHandler` | left out: a component cannot start programs |
//!
//! # How it is built
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
