//! The components that the host is built with, as files that other WASI hosts run too, and the sources of the crate
//! that handlers are written with.

/// The file server.
pub const FILE_SERVER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/file_server.wasm"));
/// The file server with the feature `bundle`, which serves what is in its last passive segment: nothing yet.
pub const BUNDLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bundle.wasm"));
/// [`BUNDLE`] with the environment of its host, which not every HTTP host has.
pub const BUNDLE_WITH_ENVIRONMENT: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/bundle_with_environment.wasm"));
/// The file server with the feature `cgi`, which imports scripts from its host.
pub const CGI_SERVER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cgi_server.wasm"));

include!(concat!(env!("OUT_DIR"), "/handler_crate.rs"));
