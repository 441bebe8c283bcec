//! What of WASI components are offered: `wasmtime-wasi`, but for the network. They have no business
//! there, and an import that nothing calls does not keep a component from being loaded.

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, ResourceType};
use wasmtime::{Error, Result};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p2::add_to_linker_proxy_interfaces_async;
use wasmtime_wasi::p2::bindings::{cli, filesystem, random};
use wasmtime_wasi::random::WasiRandom;

use crate::state::State;

/// Interfaces that are not offered. `wasi:http` belongs to the other way into a component,
/// `wasi:http/incoming-handler`, and nothing calls that here.
const NOT_OFFERED: [&str; 2] = ["wasi:http/", "wasi:sockets/"];
/// Resources of `wasi:io`, which these interfaces only name again.
const OF_IO: [&str; 5] = [
    "error",
    "io-error",
    "input-stream",
    "output-stream",
    "pollable",
];

/// Defines the world `wasi:cli/imports` without its `wasi:sockets`.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    let l = linker;
    add_to_linker_proxy_interfaces_async(l)?;
    filesystem::types::add_to_linker::<_, WasiFilesystem>(l, State::filesystem)?;
    filesystem::preopens::add_to_linker::<_, WasiFilesystem>(l, State::filesystem)?;
    random::insecure::add_to_linker::<_, WasiRandom>(l, |state| state.ctx().ctx.random())?;
    random::insecure_seed::add_to_linker::<_, WasiRandom>(l, |state| state.ctx().ctx.random())?;
    cli::exit::add_to_linker::<_, WasiCli>(l, State::cli)?;
    cli::environment::add_to_linker::<_, WasiCli>(l, State::cli)?;
    cli::terminal_input::add_to_linker::<_, WasiCli>(l, State::cli)?;
    cli::terminal_output::add_to_linker::<_, WasiCli>(l, State::cli)?;
    cli::terminal_stdin::add_to_linker::<_, WasiCli>(l, State::cli)?;
    cli::terminal_stdout::add_to_linker::<_, WasiCli>(l, State::cli)?;
    cli::terminal_stderr::add_to_linker::<_, WasiCli>(l, State::cli)
}

/// Defines what `component` imports of [`NOT_OFFERED`]: calling it is a trap.
pub(crate) fn add_stubs_to_linker(linker: &mut Linker<State>, component: &Component) -> Result<()> {
    let engine = component.engine();
    for (name, import) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(interface) = import.ty else {
            continue;
        };
        let Some(package) = NOT_OFFERED
            .iter()
            .find(|package| name.starts_with(**package))
        else {
            continue;
        };
        let mut stub = linker.instance(name)?;
        for (name, item) in interface.exports(engine) {
            match item.ty {
                ComponentItem::ComponentFunc(_) => {
                    stub.func_new(name, |_, _, _, _| {
                        let package = package.trim_end_matches('/');
                        Err(Error::msg(format!("{package} is not offered here")))
                    })?;
                }
                ComponentItem::Resource(_) if !OF_IO.contains(&name) => {
                    stub.resource(name, ResourceType::host::<()>(), |_, _| Ok(()))?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}
