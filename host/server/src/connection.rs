//! The life of one connection: wait for a request, serve it in a sandbox, send, and again.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::burst::Burst;
use crate::cohort;
use crate::idle;
use crate::listen::Address;
use crate::log;
use crate::patience::Patience;
use crate::sandbox::{Endpoint, Info, Instance, Next, Sandbox};
use crate::socket::{Progress, Socket};
use crate::tls::{Spoken, TlsConfig};

/// How long a connection may be open without a request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// What a client gets when its handler has failed and nothing was sent yet: this, the fields of every
/// response, and an empty line with what follows it.
const FAILED: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\n\
    Connection: close\r\nContent-Type: text/plain\r\nContent-Length: 22\r\n";
const FAILED_CONTENT: &[u8] = b"\r\nInternal Server Error\n";

/// What a client gets that speaks HTTP in the clear where TLS is spoken.
const NOT_TLS: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\
    Connection: close\r\nContent-Type: text/plain\r\nContent-Length: 48\r\n\r\n\
    Client sent an HTTP request to an HTTPS server.\n";

/// How long an instance stays with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// As long as requests follow each other closely.
    ForBurst,
    /// To its end and beyond.
    Always,
}

/// An accepted connection.
pub(crate) struct Connection {
    sandbox: Arc<Sandbox>,
    socket: Arc<Socket>,
    info: Info,
    tls: Option<TlsConfig>,
}

impl Connection {
    /// `stream` does not block. It is spoken to in TLS if there is `tls`. The client has no address on a
    /// Unix socket.
    pub(crate) fn new(
        sandbox: Arc<Sandbox>,
        stream: TcpStream,
        client: Option<SocketAddr>,
        tls: Option<TlsConfig>,
    ) -> Self {
        let (client, server) = match client {
            Some(client) => {
                let server = stream.local_addr().unwrap_or(client);
                (endpoint(client), endpoint(server))
            }
            None => (nameless("-"), nameless(&path_of(&stream))),
        };
        let info = Info {
            client,
            server,
            encrypted: tls.is_some(),
        };
        Connection {
            sandbox,
            socket: Socket::new(stream),
            info,
            tls,
        }
    }

    /// Serves it in instances of its own, one for each burst of requests, until either side closes it
    /// or `stopping` turns true.
    pub(crate) async fn serve(self, stopping: watch::Receiver<bool>) {
        self.serve_in(&mut None, Keep::ForBurst, stopping).await;
    }

    /// Serves it in `instance`, made anew where there is none.
    pub(crate) async fn serve_in(
        &self,
        instance: &mut Option<Instance>,
        keep: Keep,
        mut stopping: watch::Receiver<bool>,
    ) {
        let mut patience = Patience::new(IDLE_TIMEOUT);
        let stop = stopping.clone();
        let mut stopped = pin!(stopping.wait_for(|&stopping| stopping));
        if let Some(tls) = &self.tls {
            let greeted = tokio::select! {
                greeted = Box::pin(self.greet(tls)) => greeted,
                _ = &mut stopped => false,
            };
            if !greeted {
                return;
            }
        }
        let mut left: Option<Instant> = None;
        let next = loop {
            let received = tokio::select! {
                biased;
                received = self.next_request(&mut patience) => received,
                _ = &mut stopped => Ok(false),
            };
            match received {
                Ok(true) => {}
                Ok(false) => return self.end().await,
                Err(_) => return,
            }
            let burst = (keep == Keep::ForBurst).then(|| {
                let comes_back = left.is_some_and(|left| left.elapsed() < idle::SOON);
                self.sandbox.new_burst(comes_back, stop.clone())
            });
            // In a box, as are other short or rare states, so that idle connections are small.
            let next = Box::pin(self.serve_ready(instance, burst)).await;
            let progress = self.socket.send_now();
            if keep == Keep::ForBurst {
                cohort::keep_step().await;
                *instance = None;
                left = Some(Instant::now());
            }
            let sent = match progress {
                Ok(Progress::Done) => Ok(()),
                Ok(_) => Box::pin(self.socket.send()).await,
                Err(error) => Err(error),
            };
            if sent.is_err() {
                return;
            }
            match next {
                // Without an end, so that the client does not take what it got for the whole.
                None => return Box::pin(self.socket.linger()).await,
                Some(Next::KeepAlive) => {}
                Some(next) => break next,
            }
        };
        self.end().await;
        if next == Next::Linger || self.socket.has_unread() {
            Box::pin(self.socket.linger()).await;
        }
    }

    /// Agrees with the client on TLS. False if it speaks something else, or fails to.
    async fn greet(&self, tls: &TlsConfig) -> bool {
        match self.socket.start_tls(tls).await {
            Ok(Spoken::Tls) => true,
            Ok(Spoken::SomethingElse) => {
                self.socket.write(NOT_TLS);
                if self.socket.send().await.is_ok() {
                    self.socket.linger().await;
                }
                false
            }
            Err(_) => false,
        }
    }

    /// Tells the client that what it got is all there is.
    async fn end(&self) {
        if self.tls.is_some() {
            // A client that has gone already does not want to know.
            let _ = Box::pin(self.socket.end()).await;
        }
    }

    /// Waits for the next request: true when it begins.
    async fn next_request(&self, patience: &mut Patience) -> io::Result<bool> {
        self.socket.release_memory();
        let received = patience.wait(self.socket.receive_request());
        received.await.unwrap_or(Ok(false))
    }

    /// Serves what has come. A handler that fails is logged, and answered for, unless it has begun to
    /// answer: then nothing comes next.
    async fn serve_ready(
        &self,
        instance: &mut Option<Instance>,
        burst: Option<Burst>,
    ) -> Option<Next> {
        match self.call(instance, burst).await {
            Ok(next) => Some(next),
            Err(error) => {
                *instance = None;
                let (handler, reason) = (self.sandbox.name(), error.root_cause());
                let message = format_args!("handler `{handler}` failed: {reason}");
                log::connection(&self.info.client.address, message);
                if self.socket.is_answered() {
                    return None;
                }
                for part in [FAILED, self.sandbox.field_lines(), FAILED_CONTENT] {
                    self.socket.write(part);
                }
                Some(Next::Linger)
            }
        }
    }

    async fn call(
        &self,
        instance: &mut Option<Instance>,
        burst: Option<Burst>,
    ) -> wasmtime::Result<Next> {
        let instance = match instance {
            Some(instance) => instance,
            None => {
                let new = self.sandbox.instantiate().await?;
                cohort::keep_step().await;
                instance.insert(new)
            }
        };
        instance.serve(&self.socket, self.info.clone(), burst).await
    }
}

fn nameless(address: &str) -> Endpoint {
    Endpoint {
        address: address.into(),
        port: 0,
    }
}

fn path_of(stream: &TcpStream) -> String {
    match Address::of(stream) {
        Ok(Address::Unix(path)) => path.to_string_lossy().into_owned(),
        _ => "-".into(),
    }
}

fn endpoint(address: SocketAddr) -> Endpoint {
    // A dual-stack listener shows IPv4 peers as `::ffff:192.0.2.1`.
    Endpoint {
        address: address.ip().to_canonical().to_string().into(),
        port: address.port(),
    }
}
