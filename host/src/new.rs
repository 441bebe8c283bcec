//! `sandserve new NAME`: a crate with a handler in it, ready to build.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Creates the directory `name` with a handler crate of that name in it, which takes `sandserve` from
/// `path` if there is one.
///
/// # Errors
/// A name that cargo would not take, a directory that is there already or cannot be written.
pub(crate) fn create(name: &str, path: Option<&Path>) -> io::Result<()> {
    let is_letter = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_');
    if !name.starts_with(|char: char| char.is_ascii_alphabetic()) || !name.chars().all(is_letter) {
        let reason = "a crate has a name of letters, digits, `-` and `_`";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    let source = match path {
        Some(path) => format!("path = {:?}", fs::canonicalize(path)?),
        None => format!("version = {:?}", env!("CARGO_PKG_VERSION")),
    };
    let root = PathBuf::from(name);
    fs::create_dir(&root)?;
    fs::create_dir(root.join("src"))?;
    fs::create_dir(root.join(".cargo"))?;
    fs::write(
        root.join(".cargo/config.toml"),
        "[build]\ntarget = \"wasm32-wasip2\"\n",
    )?;
    fs::write(
        root.join("Cargo.toml"),
        MANIFEST.replace("NAME", name).replace("SOURCE", &source),
    )?;
    fs::write(root.join("src/lib.rs"), HANDLER.replace("NAME", name))
}

const MANIFEST: &str = r#"[package]
name = "NAME"
version = "0.1.0"
edition = "2024"

[lib]
crate-type = ["cdylib"]

[dependencies]
sandserve = { SOURCE }

[workspace]
"#;

const HANDLER: &str = r#"//! A handler for `sandserve --handler`, and for `wasmtime serve`.

use std::io::{self, Write};

use sandserve::{BaseHttpRequestHandler, Exchange};

#[derive(Default)]
struct Handler;

impl BaseHttpRequestHandler for Handler {
    fn do_get(&mut self, http: &mut Exchange) -> io::Result<()> {
        let body = format!("Hello from NAME: you asked for {}\n", http.request.path());
        self.send_response(http, 200, None);
        self.send_header(http, "Content-Type", "text/plain");
        self.send_header(http, "Content-Length", &body.len().to_string());
        self.end_headers(http)?;
        http.wfile.write_all(body.as_bytes())
    }
}

sandserve::export!(Handler);
"#;
