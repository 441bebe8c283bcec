//! The components of this repository, as the files that other WASI hosts run too.

/// The file server: the root package.
pub const FILE_SERVER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sandserve.wasm"));
/// The one that runs scripts besides: the package in `cgi/`.
pub const CGI_SERVER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sandserve_cgi.wasm"));
