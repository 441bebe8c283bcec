//! A CGI script as WebAssembly, in Rust: an ordinary program that reads its variables and its standard
//! input and prints a response. Built for wasm32-wasip2 it is a component, run by `sandserve --cgi`.

use std::env;
use std::io::{self, Read};

fn main() -> io::Result<()> {
    let mut content = String::new();
    io::stdin().read_to_string(&mut content)?;
    let variable = |name| env::var(name).unwrap_or_default();
    println!("Content-Type: text/plain");
    println!();
    println!("{} {}", variable("REQUEST_METHOD"), variable("SCRIPT_NAME"));
    println!("path info: {}", variable("PATH_INFO"));
    println!("query: {}", variable("QUERY_STRING"));
    println!("arguments: {:?}", env::args().skip(1).collect::<Vec<_>>());
    println!("content: {content}");
    Ok(())
}
