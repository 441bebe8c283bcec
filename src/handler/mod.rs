//! The classes of Python's `http.server` as traits, and their methods as functions.
//!
//! 1. `exchange` has what Python keeps in `self`: a request and the response to it.
//! 2. [`base`] reads requests, dispatches each to the method of its name, and has the parts that a response
//!    is made of.
//! 3. [`simple`] answers with files and directories.
//! 4. `cgi`, with the feature of that name, answers with what a script says.

pub mod base;
#[cfg(feature = "cgi")]
pub mod cgi;
pub(crate) mod exchange;
pub mod simple;
