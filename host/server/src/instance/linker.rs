//! The part of WASI that components are offered: `wasmtime-wasi`, but for the network, where they are denied
//! everything.

use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{Component, Linker, Resource, ResourceType, Type, Val};
use wasmtime::{Error, Result, StoreContextMut};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p2::add_to_linker_proxy_interfaces_async;
use wasmtime_wasi::p2::bindings::{cli, filesystem, random};
use wasmtime_wasi::random::WasiRandom;

use crate::instance::state::State;

/// The package of the network.
const SOCKETS: &str = "wasi:sockets";
/// Packages that are not offered. `wasi:http` belongs to the other way into a component,
/// `wasi:http/incoming-handler`, and nothing calls that here.
const NOT_OFFERED: [&str; 2] = ["wasi:http", SOCKETS];
/// Resources of `wasi:io`, which the interfaces of [`NOT_OFFERED`] only name again.
const OF_IO: [&str; 5] = [
    "error",
    "io-error",
    "input-stream",
    "output-stream",
    "pollable",
];

/// The error of [`SOCKETS`] for a caller that may do nothing.
const DENIED: &str = "access-denied";

/// A resource that is good for nothing, and counts like any other.
struct Nothing;

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

/// Defines what `component` imports of [`NOT_OFFERED`]: the component can be loaded with these imports, and
/// is refused what it asks of them.
pub(crate) fn add_stubs_to_linker(linker: &mut Linker<State>, component: &Component) -> Result<()> {
    let engine = component.engine();
    for (name, import) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(interface) = import.ty else {
            continue;
        };
        let of = name.split('/').next();
        let Some(package) = NOT_OFFERED.into_iter().find(|package| of == Some(package)) else {
            continue;
        };
        let mut stub = linker.instance(name)?;
        for (name, item) in interface.exports(engine) {
            match item.ty {
                ComponentItem::ComponentFunc(_) if package == SOCKETS => {
                    stub.func_new_async(name, |store, function, arguments, results| {
                        Box::new(deny(store, function, arguments, results))
                    })?;
                }
                ComponentItem::ComponentFunc(_) => {
                    stub.func_new(name, move |_, _, _, _| Err(not_offered(package)))?;
                }
                ComponentItem::Resource(_) if !OF_IO.contains(&name) => {
                    stub.resource(name, ResourceType::host::<Nothing>(), |mut store, rep| {
                        let nothing = Resource::<Nothing>::new_own(rep);
                        store.data_mut().table.delete(nothing)?;
                        Ok(())
                    })?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Answers a call of [`SOCKETS`] with the error that says no, or with a resource that is good for nothing.
async fn deny(
    mut store: StoreContextMut<'_, State>,
    function: ComponentFunc,
    arguments: &[Val],
    results: &mut [Val],
) -> Result<()> {
    for argument in arguments {
        if let Val::Resource(lent) = argument {
            // A handle that is lent has to be given back.
            lent.resource_drop_async(&mut store).await?;
        }
    }
    for (result, ty) in results.iter_mut().zip(function.results()) {
        *result = match ty {
            Type::Result(ty) if can_deny(ty.err()) => {
                Val::Result(Err(Some(Box::new(Val::Enum(DENIED.into())))))
            }
            Type::Own(_) => {
                let nothing = store.data_mut().table.push(Nothing)?;
                Val::Resource(nothing.try_into_resource_any(&mut store)?)
            }
            _ => return Err(not_offered(SOCKETS)),
        };
    }
    Ok(())
}

fn can_deny(error: Option<Type>) -> bool {
    matches!(error, Some(Type::Enum(codes)) if codes.names().any(|code| code == DENIED))
}

fn not_offered(package: &str) -> Error {
    Error::msg(format!("{package} is not offered here"))
}
