//! `wasmtime serve`, the real command, so that the tests need no installed wasmtime.

use clap::Parser;
use wasmtime_cli::commands::ServeCommand;

fn main() -> wasmtime::Result<()> {
    ServeCommand::parse().execute()
}
