//! `wasi:io/streams` where the host does better than the stock one: the bytes of the connection go straight
//! between it and the memory of the sandbox, and a file goes to it without entering the sandbox at all. Every
//! other stream is left to `wasmtime-wasi`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use wasmtime::component::{Linker, Resource, WasmList};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi::p2::bindings::io::streams::{
    Host, HostInputStream, HostOutputStream, StreamError as WitStreamError,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, StreamError, StreamResult};

use crate::instance::epochs;
use crate::instance::state::{Attached, State};
use crate::pace::cohort::{self, Step};
use crate::transport::socket::{Socket, failed};

/// Replaces the functions of `wasi:io/streams` through which the bytes of a connection go.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    let mut streams = linker.instance("wasi:io/streams@0.2.12")?;
    streams.func_wrap_async("[method]input-stream.read", |store, arguments| {
        Box::new(read(store, arguments))
    })?;
    streams.func_wrap_async("[method]input-stream.blocking-read", |store, arguments| {
        Box::new(blocking_read(store, arguments))
    })?;
    streams.func_wrap("[method]output-stream.check-write", check_write)?;
    streams.func_wrap_async("[method]output-stream.write", |store, arguments| {
        Box::new(write(store, arguments))
    })?;
    streams.func_wrap_async(
        "[method]output-stream.blocking-write-and-flush",
        |store, arguments| Box::new(write_and_flush(store, arguments)),
    )?;
    streams.func_wrap_async(
        "[method]output-stream.blocking-splice",
        |store, arguments| Box::new(blocking_splice(store, arguments)),
    )
}

type StreamReturn<T> = Result<(Result<T, WitStreamError>,)>;

/// Answers `read`. A connection on which nothing is there waits for what comes soon.
async fn read(
    mut store: StoreContextMut<'_, State>,
    (input, size): (Resource<DynInputStream>, u64),
) -> StreamReturn<Vec<u8>> {
    let state = store.data_mut();
    let Some(attached) = connection_in(&mut state.attached, &input) else {
        let read = HostInputStream::read(&mut state.table, input, size);
        return returned(state, read);
    };
    if !attached.burst.goes_on(&attached.socket).await {
        return Ok((Ok(Vec::new()),));
    }
    state.begin_request();
    read_connection(store, size)
}

async fn blocking_read(
    mut store: StoreContextMut<'_, State>,
    (input, size): (Resource<DynInputStream>, u64),
) -> StreamReturn<Vec<u8>> {
    let state = store.data_mut();
    let Some(attached) = connection_in(&mut state.attached, &input) else {
        let read = HostInputStream::blocking_read(&mut state.table, input, size).await;
        return returned(state, read);
    };
    if !attached.socket.has_unread() {
        attached.socket.readable().await;
    }
    read_connection(store, size)
}

fn read_connection(mut store: StoreContextMut<'_, State>, size: u64) -> StreamReturn<Vec<u8>> {
    epochs::begin(&mut store);
    let state = store.data_mut();
    let read = match &state.attached {
        Some(attached) => attached
            .socket
            .read(usize::try_from(size).unwrap_or(usize::MAX)),
        None => Err(StreamError::Closed),
    };
    returned(state, read)
}

fn check_write(
    mut store: StoreContextMut<'_, State>,
    (output,): (Resource<DynOutputStream>,),
) -> StreamReturn<u64> {
    let state = store.data_mut();
    let permit = match connection(state, &output) {
        Some(socket) => socket.check_write().map(|permit| permit as u64),
        None => HostOutputStream::check_write(&mut state.table, output),
    };
    returned(state, permit)
}

/// Answers `write`. Waits while too many bytes wait to leave, as who writes to the connection need not have
/// asked.
async fn write(
    mut store: StoreContextMut<'_, State>,
    (output, bytes): (Resource<DynOutputStream>, WasmList<u8>),
) -> StreamReturn<()> {
    if let Some(socket) = connection(store.data(), &output) {
        let socket = socket.clone();
        let write = |rest: &[u8]| Ok(socket.write_some(rest));
        let written = write_to_connection(&mut store, &socket, &bytes, write).await;
        return returned(store.data_mut(), written.map_err(failed));
    }
    let bytes = bytes.as_le_slice(&store).to_vec();
    let state = store.data_mut();
    let written = HostOutputStream::write(&mut state.table, output, bytes);
    returned(state, written)
}

/// Answers `blocking-write-and-flush`. What a client does not take at once does not keep the sandbox, but
/// leaves when it waits or returns; unless there is too much of it.
async fn write_and_flush(
    mut store: StoreContextMut<'_, State>,
    (output, bytes): (Resource<DynOutputStream>, WasmList<u8>),
) -> StreamReturn<()> {
    if let Some(socket) = connection(store.data(), &output) {
        let socket = socket.clone();
        cohort::keep_step(Step::Answer).await;
        let write = |rest: &[u8]| socket.write_now(rest);
        let written = write_to_connection(&mut store, &socket, &bytes, write).await;
        return returned(store.data_mut(), written.map_err(failed));
    }
    let bytes = bytes.as_le_slice(&store).to_vec();
    let state = store.data_mut();
    let table = &mut state.table;
    let written = HostOutputStream::blocking_write_and_flush(table, output, bytes).await;
    returned(state, written)
}

/// Passes `bytes` from the memory of the sandbox to `write`, which takes what there is room for.
async fn write_to_connection(
    store: &mut StoreContextMut<'_, State>,
    socket: &Socket,
    bytes: &WasmList<u8>,
    write: impl Fn(&[u8]) -> io::Result<usize>,
) -> io::Result<()> {
    let mut written = 0;
    loop {
        socket.make_room().await?;
        let rest = &bytes.as_le_slice(&*store)[written..];
        let now = write(rest)?;
        if now == rest.len() {
            return Ok(());
        }
        written += now;
        // Other connections of this core get their turn.
        tokio::task::yield_now().await;
    }
}

/// Answers `blocking-splice`. A file that goes to the connection is handed to the kernel.
async fn blocking_splice(
    mut store: StoreContextMut<'_, State>,
    (output, input, length): (Resource<DynOutputStream>, Resource<DynInputStream>, u64),
) -> StreamReturn<u64> {
    let state = store.data_mut();
    let spliced = match (
        connection(state, &output).cloned(),
        state.open_streams.get(input.rep()),
    ) {
        (Some(socket), Some(cursor)) => {
            let position = cursor.position.load(Ordering::Relaxed);
            match socket.splice(&cursor, position, length).await {
                Ok(0) if length > 0 => Err(StreamError::Closed),
                Ok(spliced) => {
                    cursor.position.store(position + spliced, Ordering::Relaxed);
                    Ok(spliced)
                }
                Err(error) => Err(failed(error)),
            }
        }
        _ => HostOutputStream::blocking_splice(&mut state.table, output, input, length).await,
    };
    returned(state, spliced)
}

/// Returns the connection, if it is what `input` reads from.
fn connection_in<'s>(
    attached: &'s mut Option<Attached>,
    input: &Resource<DynInputStream>,
) -> Option<&'s mut Attached> {
    attached
        .as_mut()
        .filter(|attached| attached.input == input.rep())
}

/// Returns the connection, if it is what `output` writes to.
fn connection<'s>(state: &'s State, output: &Resource<DynOutputStream>) -> Option<&'s Arc<Socket>> {
    let attached = state.attached.as_ref()?;
    (attached.output == output.rep()).then_some(&attached.socket)
}

fn returned<T>(state: &mut State, result: StreamResult<T>) -> StreamReturn<T> {
    Ok((match result {
        Ok(value) => Ok(value),
        Err(error) => Err(state.table.convert_stream_error(error)?),
    },))
}
