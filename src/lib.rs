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
//! As the `lib.rs` of a crate of type `cdylib`, built for `wasm32-wasip2`, that is a component for
//! `sandserve --handler` and for `wasmtime serve`; `sandserve new NAME` writes such a crate. A handler that serves files
//! implements [`SimpleHttpRequestHandler`] besides. The `examples` directory has one for each common
//! use of the Python classes.
//!
//! An instance serves one connection, unless `sandserve --single` says otherwise; what a handler
//! should remember between connections is in a `static` then, as it is in the class in Python.
//!
//! # Python's names
//!
//! | Python | here | shown in `tests/handlers` by |
//! | --- | --- | --- |
//! | `client_address` | [`Exchange::client_address`] | `client_address_and_server_are_the_two_ends` |
//! | `server` (`server_name`, `server_port`) | [`Exchange::server`] | `client_address_and_server_are_the_two_ends` |
//! | `connection`, if it is an `ssl.SSLSocket` | [`Exchange::is_encrypted`] | `a_handler_knows_whether_it_is_spoken_to_in_tls` in `tests/tls.rs` |
//! | `close_connection` | [`Exchange::close_connection`] | `close_connection_decides_what_becomes_of_the_connection` |
//! | `requestline` | [`Request::requestline`] | `requestline_command_path_and_request_version_are_what_came` |
//! | `command` | [`Request::command`] | `requestline_command_path_and_request_version_are_what_came` |
//! | `path` | [`Request::path`] | `requestline_command_path_and_request_version_are_what_came` |
//! | `path`, split by `urllib.parse.urlsplit` | [`Request::target`] | `requestline_command_path_and_request_version_are_what_came` |
//! | `request_version` | [`Request::request_version`] | `requestline_command_path_and_request_version_are_what_came` |
//! | `headers` | [`Request::headers`] | `headers_are_found_by_any_case_in_order_and_as_latin_1` |
//! | `rfile` | [`Exchange::rfile`], which gives exactly the content | `rfile_gives_exactly_the_content` |
//! | `rfile`, `wfile` after `send_response(101)` | the connection itself, until the handler returns | `rfile_and_wfile_are_the_connection_after_a_101` |
//! | `wfile` | [`Exchange::wfile`], which is buffered until it is flushed or the request is done | `wfile_sends_when_flushed` |
//! | `server_version`, `sys_version` | [`BaseHttpRequestHandler::server_version`], [`sys_version`](BaseHttpRequestHandler::sys_version) | `version_date_and_address_strings_are_those_of_python` |
//! | `error_message_format`, `error_content_type` | [`BaseHttpRequestHandler::error_message_format`], [`error_content_type`](BaseHttpRequestHandler::error_content_type) | `error_page_shows_its_own_page` |
//! | `protocol_version` | [`BaseHttpRequestHandler::protocol_version`] | `protocol_version_overridden_answers_in_that_version` |
//! | `MessageClass` | [`Headers`] | `headers_are_found_by_any_case_in_order_and_as_latin_1` |
//! | `responses` | [`responses`] | `responses_tells_both_texts` |
//! | `handle`, `handle_one_request`, `handle_expect_100` | the methods of [`BaseHttpRequestHandler`] of these names | `handle_and_its_steps_come_in_order`, `handle_expect_100_asks_for_the_content_or_refuses_it` |
//! | `do_GET`, `do_HEAD`, `do_POST`, `do_PUT`, `do_PATCH`, `do_DELETE`, `do_OPTIONS` | `do_get` and so on; any other command reaches [`do_other`](BaseHttpRequestHandler::do_other) | `handle_and_its_steps_come_in_order` |
//! | `send_error`, `send_response`, `send_response_only`, `send_header`, `end_headers`, `flush_headers` | the methods of these names | `send_error_sends_an_escaped_page_and_closes`, `send_response_begins_with_status_server_and_date`, `send_response_only_sends_a_bare_status_line`, `send_header_writes_latin_1_and_never_splits_a_head`, `flush_headers_sends_what_send_header_holds_back` |
//! | `log_request`, `log_error`, `log_message` | the methods of these names; a message is formatted by who logs it | `log_names_write_lines_that_cannot_be_forged` |
//! | `version_string`, `date_time_string`, `log_date_time_string`, `address_string` | the methods of these names | `version_date_and_address_strings_are_those_of_python` |
//! | `directory`, `index_pages`, `extensions_map` | [`Files`] | `each_step_of_serving_files_can_be_overridden` in `tests/simple_handler.rs` |
//! | `SimpleHTTPRequestHandler.do_GET`, `do_HEAD` | [`simple::do_get`], [`simple::do_head`] | `add_header_silent_and_index_page_change_the_file_server` |
//! | `send_head`, `list_directory`, `translate_path`, `guess_type`, `copyfile` | the methods of [`SimpleHttpRequestHandler`] of these names | `each_step_of_serving_files_can_be_overridden` in `tests/simple_handler.rs` |
//! | `default_request_version`, `parse_request`, `raw_requestline` | left out: HTTP/0.9 is not spoken, and a handler cannot change how requests are read | |
//! | `weekdayname`, `monthname`, `wbufsize`, `rbufsize`, `timeout`, `setup`, `finish` | left out: they belong to how Python does it; the host has the timeouts | |
//! | `CGIHTTPRequestHandler` (`cgi_directories`, `is_cgi`, `run_cgi`) | `cgi::CgiHttpRequestHandler`, with the feature `cgi` | the tests of `--cgi`, in `tests/cgi` |
//! | `is_executable`, `is_python` | left out: how a script is run is the host's to know | |
//!
//! # How it is built
//!
//! A request goes through these modules in this order; each opens with its own steps:
//!
//! | step | module |
//! | --- | --- |
//! | bytes in, from a raw connection or from a WASI HTTP host | `export` |
//! | parse | `http1` |
//! | dispatch | `handler`, of which [`base`] is `BaseHTTPRequestHandler` |
//! | let in who may come in, run scripts, receive files | `file_server` |
//! | map the path, open, decide | `files`, by way of [`simple`] (`SimpleHTTPRequestHandler`) |
//! | bytes out | `http1` |
//! | log | `log` |
//!
//! `settings` is what the host says about how to serve. The package `sandserve-component` makes a component of
//! [`FileServer`].

#[allow(
    clippy::all,
    missing_docs,
    unreachable_pub,
    unsafe_code,
    reason = "generated"
)]
#[doc(hidden)]
pub mod bindings;
mod export;
mod file_server;
mod files;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod handler;
mod http1;
mod log;
#[cfg(test)]
mod properties;
mod settings;
mod text;

#[cfg(all(feature = "wasi3", any(feature = "bundle", feature = "cgi")))]
compile_error!("the feature `wasi3` goes with neither `bundle` nor `cgi`");

pub use export::Component;
pub use file_server::FileServer;
pub use files::Files;
pub use files::conditions::EntityTags;
pub use files::filesystem::Descriptor;
pub use files::listing::Listing;
pub use files::multipart::Multipart;
pub use files::open::File;
pub use files::path::LocalPath;
pub use files::ranges::ByteRange;
pub use handler::base::{self, BaseHttpRequestHandler};
#[cfg(feature = "cgi")]
pub use handler::cgi::{self, CgiHttpRequestHandler};
pub use handler::exchange::{Endpoint, Exchange};
pub use handler::simple::{self, Content, SimpleHttpRequestHandler};
pub use http1::request::{Framing, Headers, Request, Version};
pub use http1::rfile::Rfile;
pub use http1::status::responses;
pub use http1::target::Target;
pub use http1::wfile::Wfile;
#[cfg(feature = "wasi3")]
#[doc(hidden)]
pub use wasip3;
