//! The host of `sandserve`: the server, and the components that it was built with.
//!
//! A test suite can have a server of its own:
//!
//! ```
//! use sandserve_host::{Grant, HttpServer, file_server};
//!
//! let sandbox = file_server(Grant::new(".".as_ref(), vec![])?)?;
//! let server = HttpServer::bind("127.0.0.1:0", sandbox)?;
//! let client = std::net::TcpStream::connect(server.server_address())?;
//! drop(client);
//! server.handle_request()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod bundle;

pub use sandserve_components::{CGI_SERVER, FILE_SERVER};
pub use sandserve_server::*;

/// [`FILE_SERVER`], compiled by `build.rs`.
const FILE_SERVER_COMPILED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/file_server.cwasm"));
/// [`CGI_SERVER`], compiled by `build.rs`.
const CGI_SERVER_COMPILED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cgi_server.cwasm"));

/// Returns the file server that this host was built with.
///
/// # Errors
/// An engine that cannot be set up on this machine.
pub fn file_server(grant: Grant) -> wasmtime::Result<Sandbox> {
    built_in(FILE_SERVER_COMPILED, grant, None)
}

/// Returns the file server with `scripts` besides: another component, which alone can ask for them.
///
/// # Errors
/// An engine that cannot be set up on this machine.
pub fn cgi_server(grant: Grant, scripts: Scripts) -> wasmtime::Result<Sandbox> {
    built_in(CGI_SERVER_COMPILED, grant, Some(scripts))
}

fn built_in(compiled: &[u8], grant: Grant, scripts: Option<Scripts>) -> wasmtime::Result<Sandbox> {
    // SAFETY: these bytes are what `build.rs` got from `precompile_component`.
    #[allow(unsafe_code)]
    unsafe {
        Sandbox::precompiled("sandserve", compiled, grant, scripts)
    }
}
