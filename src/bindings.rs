//! The world of `wit/` that is built for, with the types of the `wasi` crate throughout. What is
//! included was made by wit-bindgen: `cargo test -p bindings` makes it anew where `wit/` has changed.

#[cfg(not(feature = "cgi"))]
include!("bindings/file_server.rs");
#[cfg(feature = "cgi")]
include!("bindings/cgi_server.rs");
