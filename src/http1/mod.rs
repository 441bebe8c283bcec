//! HTTP/1.1 as bytes and words (RFC 9110, RFC 9112): what comes in, and what goes out.
//!
//! 1. `rfile` reads the bytes of a head, and then those of the content, which may come in chunks (`chunked`).
//! 2. `parse` makes a `request` of the head, with its `target` in parts, or says why it is refused; `authority` is the host
//!    and the port that a request is for.
//! 3. `weights` and `date` read the values of fields that many decide by.
//! 4. `status` has the words of a status line, and `wfile` sends the answer.
//!
//! `body` stands in the place of the connection where a host has parsed the request. Both move bytes by `streams` of WASI.

pub(crate) mod authority;
pub(crate) mod body;
pub(crate) mod chunked;
pub(crate) mod date;
pub(crate) mod parse;
pub(crate) mod request;
pub(crate) mod rfile;
pub(crate) mod status;
pub(crate) mod streams;
pub(crate) mod target;
pub(crate) mod weights;
pub(crate) mod wfile;
