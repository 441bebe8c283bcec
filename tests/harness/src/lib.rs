//! The common ground of the black-box tests: a directory to serve, a server process, and HTTP as raw bytes.

mod answers;
mod crowd;
mod example;
mod html;
mod http;
pub mod process;
mod server;
mod site;

pub use answers::{ANSWERS, told};
pub use crowd::{CROWD, expect_crowd};
pub use example::example;
pub use html::{escape, links};
pub use http::{
    Response, answer, ask, connect, connect_from, exchange, exchange_with, get, read_head,
    read_response, request, responses, transcript, try_exchange,
};
pub use server::Server;
pub use site::{Site, names};
