//! The file server as a component for any WASI HTTP host, and for the host of `sandserve`. With the feature
//! `cgi` it runs scripts, and only that host can load it.

#[cfg(target_family = "wasm")]
mod heap;

sandserve::export!(sandserve::FileServer);
