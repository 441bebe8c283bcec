//! `HTTPServer`: accepts connections on every core and serves each in a sandbox.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::connection;
use crate::log;
use crate::sandbox::Sandbox;

/// How long connections may finish what they are at when the server shuts down.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait when no connection can be accepted for want of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A server bound to an address.
#[derive(Debug)]
pub struct HttpServer {
    listeners: Vec<TcpListener>,
    address: SocketAddr,
    sandbox: Arc<Sandbox>,
    stopping: watch::Sender<bool>,
}

/// Stops a server from another thread.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Sender<bool>);

impl Shutdown {
    /// Accepts no more connections, and lets those that are answering a request finish.
    pub fn shutdown(&self) {
        self.0.send_replace(true);
    }
}

impl HttpServer {
    /// A server that answers connections to `listeners`, which share one address, from `sandbox`.
    /// Each listener gets a thread.
    ///
    /// # Errors
    /// Listeners that are none, or have no address.
    pub fn new(listeners: Vec<TcpListener>, sandbox: Sandbox) -> io::Result<Self> {
        let first = listeners.first().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(HttpServer {
            address: first.local_addr()?,
            listeners,
            sandbox: Arc::new(sandbox),
            stopping: watch::Sender::new(false),
        })
    }

    /// The address it listens on.
    pub fn server_address(&self) -> SocketAddr {
        self.address
    }

    /// What ends [`Self::serve_forever`].
    pub fn shutdown_handle(&self) -> Shutdown {
        Shutdown(self.stopping.clone())
    }

    /// Serves until it is shut down, and then until the connections have finished, at most ten
    /// seconds.
    ///
    /// # Errors
    /// A thread that cannot be set up.
    pub fn serve_forever(self) -> io::Result<()> {
        let HttpServer {
            listeners,
            sandbox,
            stopping,
            ..
        } = &self;
        thread::scope(|scope| {
            let workers: Vec<_> = listeners
                .iter()
                .map(|listener| scope.spawn(|| run_worker(listener, sandbox, stopping.subscribe())))
                .collect();
            workers.into_iter().try_for_each(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("a worker panicked")))
            })
        })
    }
}

/// One core: a runtime of its own, and connections that never leave it.
fn run_worker(
    listener: &TcpListener,
    sandbox: &Arc<Sandbox>,
    mut stopping: watch::Receiver<bool>,
) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
        let mut connections = JoinSet::new();
        let stop = stopping.clone();
        tokio::select! {
            () = accept(&listener, &mut connections, sandbox, &stop) => {}
            _ = stopping.wait_for(|&stopping| stopping) => {}
        }
        drop(listener);
        let drained = async { while connections.join_next().await.is_some() {} };
        // What has not finished by then is cut off with the runtime.
        let _ = timeout(DRAIN_TIMEOUT, drained).await;
        Ok(())
    })
}

/// Accepts connections for ever.
async fn accept(
    listener: &tokio::net::TcpListener,
    connections: &mut JoinSet<()>,
    sandbox: &Arc<Sandbox>,
    stopping: &watch::Receiver<bool>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                connections.spawn(connection::serve(
                    sandbox.clone(),
                    stream,
                    client,
                    stopping.clone(),
                ));
            }
            // The client has gone already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                log::connection("-", format_args!("cannot accept connections: {error}"));
                sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}
