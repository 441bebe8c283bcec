//! The life of one connection: wait for a request, serve it in a sandbox, send, and again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::log;
use crate::sandbox::{Endpoint, Info, Instance, Next, Sandbox};
use crate::socket::Socket;

/// How long a connection may be open without a request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// How long a connection keeps its instance for the next request.
const KEEP_INSTANCE: Duration = Duration::from_millis(250);

/// What a client gets when its handler has failed and nothing was sent yet.
const FAILED: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\n\
    Connection: close\r\nContent-Type: text/plain\r\nContent-Length: 22\r\n\r\nInternal Server Error\n";

/// Serves `stream` until either side closes it or `stopping` turns true.
pub(crate) async fn serve(
    sandbox: Arc<Sandbox>,
    stream: TcpStream,
    client: SocketAddr,
    mut stopping: watch::Receiver<bool>,
) {
    let server = stream.local_addr().unwrap_or(client);
    let info = Info {
        client: endpoint(client),
        server: endpoint(server),
        encrypted: false,
    };
    // Small answers must not wait for acknowledgements of earlier ones.
    let _ = stream.set_nodelay(true);
    let socket = Socket::new(stream);
    let mut instance = None;
    loop {
        tokio::select! {
            biased;
            received = next_request(&socket, &mut instance) => match received {
                Ok(true) => {}
                Ok(false) | Err(_) => return,
            },
            _ = stopping.wait_for(|&stopping| stopping) => return,
        }
        socket.expect_request();
        let next = match serve_ready(&sandbox, &socket, &mut instance, &info).await {
            Ok(next) => next,
            Err(error) => {
                let reason = error.root_cause();
                log::connection(
                    &info.client.address,
                    format_args!("handler failed: {reason}"),
                );
                instance = None;
                if !socket.is_answered() {
                    socket.write(FAILED);
                }
                Next::Linger
            }
        };
        if socket.send().await.is_err() {
            return;
        }
        match next {
            Next::KeepAlive => {}
            Next::Close if !socket.has_unread() => return,
            Next::Close | Next::Linger => {
                drop(instance);
                return socket.linger().await;
            }
        }
    }
}

/// Waits for the next request: true when it begins. The instance goes if that takes long.
async fn next_request(socket: &Socket, instance: &mut Option<Instance>) -> std::io::Result<bool> {
    if instance.is_some() {
        match timeout(KEEP_INSTANCE, socket.receive()).await {
            Ok(received) => return received,
            Err(_) => *instance = None,
        }
    }
    timeout(IDLE_TIMEOUT, socket.receive())
        .await
        .unwrap_or(Ok(false))
}

async fn serve_ready(
    sandbox: &Sandbox,
    socket: &Arc<Socket>,
    instance: &mut Option<Instance>,
    info: &Info,
) -> wasmtime::Result<Next> {
    let instance = match instance {
        Some(instance) => instance,
        None => instance.insert(sandbox.instantiate(socket).await?),
    };
    instance.serve(info.clone()).await
}

fn endpoint(address: SocketAddr) -> Endpoint {
    // A dual-stack listener shows IPv4 peers as `::ffff:192.0.2.1`.
    Endpoint {
        address: address.ip().to_canonical().to_string(),
        port: address.port(),
    }
}
