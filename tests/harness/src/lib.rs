//! What the black-box tests share: a directory to serve, a server process, and HTTP as raw bytes.

mod http;
mod server;
mod site;

pub use http::{Response, connect, exchange, exchange_with, get, request, responses};
pub use server::Server;
pub use site::Site;
