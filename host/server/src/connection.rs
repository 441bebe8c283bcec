//! The life of one connection: wait for a request, serve it in a sandbox, send, and again.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::sync::watch;
use tokio::time::{Sleep, sleep};

use crate::burst::Burst;
use crate::cohort;
use crate::connections::Place;
use crate::disk::Stalled;
use crate::idle;
use crate::instances::{Shortage, TakenBack};
use crate::listen::Address;
use crate::log;
use crate::memory::OutOfMemory;
use crate::pace::Patience;
use crate::refusal::Refusal;
use crate::sandbox::{Endpoint, Head, Info, Instance, Next, Sandbox};
use crate::socket::{Arrived, Progress, Socket};
use crate::strikes::{Limit, strike};
use crate::tls::{Spoken, TlsConfig};
use crate::watch::Abandoned;

/// The response to a client that speaks HTTP in the clear where TLS is spoken.
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
    _place: Place,
}

impl Connection {
    /// `stream` does not block. It is spoken to in TLS if there is `tls`. The client has no address on a
    /// Unix socket.
    pub(crate) fn new(
        sandbox: Arc<Sandbox>,
        stream: TcpStream,
        client: Option<SocketAddr>,
        tls: Option<TlsConfig>,
        mut place: Place,
    ) -> Self {
        let (name, server) = match client {
            Some(client) => {
                let server = stream.local_addr().unwrap_or(client);
                (endpoint(client), endpoint(server))
            }
            None => (nameless("-"), nameless(&path_of(&stream))),
        };
        let info = Info {
            client: name,
            server,
            encrypted: tls.is_some(),
        };
        let socket = Socket::new(stream, place.client(), sandbox.terms().clone());
        place.occupy(&socket);
        Connection {
            socket,
            sandbox,
            info,
            tls,
            _place: place,
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
        let mut patience = Patience::new(self.sandbox.terms().pace.idle);
        let stop = stopping.clone();
        let stopped = stopping.wait_for(|&stopping| stopping);
        let mut end = pin!(async { drop(stopped.await) });
        let mut farewell = None;
        // Ready when the server stops and no request is on its way, or not for long any more.
        let mut parting = |cx: &mut Context| self.poll_parting(cx, end.as_mut(), &mut farewell);
        if let Some(tls) = &self.tls {
            let greeted = tokio::select! {
                biased;
                greeted = Box::pin(self.greet(tls)) => greeted,
                () = poll_fn(&mut parting) => false,
            };
            if !greeted {
                return;
            }
            self.socket.rest(Instant::now());
        }
        let mut left: Option<Instant> = None;
        let mut to_skip = 0;
        loop {
            let received = tokio::select! {
                biased;
                received = self.next_request(&mut patience, to_skip, left) => received,
                () = poll_fn(&mut parting) => Ok(Arrived::Nothing),
            };
            let head = match received {
                Ok(Arrived::Whole) => Some(Head::Whole),
                Ok(Arrived::Unfinished) => Some(Head::Unfinished),
                Ok(Arrived::Late) => None,
                Ok(Arrived::Nothing) => {
                    self.tell_struck();
                    return self.end().await;
                }
                Err(_) => return,
            };
            let outcome = match head {
                Some(head) => {
                    let burst = (keep == Keep::ForBurst).then(|| {
                        let comes_back = left.is_some_and(|left| left.elapsed() < idle::SOON);
                        self.sandbox.new_burst(comes_back, stop.clone())
                    });
                    // In a box, as are other short or rare states, so that idle connections are small.
                    Box::pin(self.serve_ready(instance, burst, head)).await
                }
                None => {
                    self.tell_struck();
                    self.refuse(Refusal::RequestTimeout)
                }
            };
            let progress = match outcome {
                Outcome::Reset => Ok(Progress::Done),
                _ => self.socket.send_now(),
            };
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
            if let Err(error) = sent {
                self.tell_struck();
                // Nor does it wait for what is on its way to a client that takes nothing.
                if error.kind() == io::ErrorKind::TimedOut {
                    self.socket.reset();
                }
                return;
            }
            match outcome {
                Outcome::Next(Next::KeepAlive) => to_skip = 0,
                Outcome::Next(Next::Skip(size)) if size <= self.sandbox.terms().pace.skip => {
                    to_skip = size;
                }
                Outcome::Next(Next::Close) => {
                    self.end().await;
                    if self.socket.has_unread() {
                        Box::pin(self.socket.linger()).await;
                    }
                    return;
                }
                Outcome::Next(Next::Skip(_) | Next::Linger) => {
                    self.end().await;
                    return Box::pin(self.socket.linger()).await;
                }
                // Without an end, so that the client does not take what it got for the whole.
                Outcome::Cut => return Box::pin(self.socket.linger()).await,
                Outcome::Reset => return self.socket.reset(),
            }
        }
    }

    /// Waits for the server to stop, which `end` does, and then for a request that is on its way, at most until
    /// `farewell` is over.
    fn poll_parting(
        &self,
        cx: &mut Context,
        end: Pin<&mut impl Future<Output = ()>>,
        farewell: &mut Option<Pin<Box<Sleep>>>,
    ) -> Poll<()> {
        if farewell.is_none() {
            ready!(end.poll(cx));
        }
        let time = self.sandbox.terms().pace.farewell;
        let farewell = farewell.get_or_insert_with(|| Box::pin(sleep(time)));
        match self.socket.is_at_rest() {
            true => Poll::Ready(()),
            false => farewell.as_mut().poll(cx),
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
            Err(_) => {
                self.tell_struck();
                false
            }
        }
    }

    /// Logs the limit that the client has come to, if it has come to one.
    fn tell_struck(&self) {
        if let Some(limit) = self.socket.take_struck() {
            self.strike(limit);
        }
    }

    fn strike(&self, limit: Limit) {
        strike(&self.info.client.address, limit);
    }

    /// Tells the client that what it got is all there is.
    async fn end(&self) {
        if self.tls.is_some() {
            // A client that has gone already does not want to know.
            let _ = Box::pin(self.socket.end()).await;
        }
    }

    /// Waits for the next request, behind `to_skip` bytes of content that nobody has read. There is nothing else
    /// to be done since `left`, where an answer has left.
    async fn next_request(
        &self,
        patience: &mut Patience,
        to_skip: u64,
        left: Option<Instant>,
    ) -> io::Result<Arrived> {
        self.socket.release_memory();
        if to_skip > 0 && !Box::pin(self.socket.skip(to_skip)).await? {
            return Ok(Arrived::Nothing);
        }
        if let Some(left) = left {
            self.socket.rest(left);
        }
        match patience.wait(self.socket.receive()).await {
            Some(Ok(true)) => self.socket.receive_request().await,
            Some(Err(error)) => Err(error),
            Some(Ok(false)) | None => Ok(Arrived::Nothing),
        }
    }

    /// Serves what has come. A handler that fails is logged.
    async fn serve_ready(
        &self,
        instance: &mut Option<Instance>,
        burst: Option<Burst>,
        head: Head,
    ) -> Outcome {
        let call = self.call(instance, burst, head);
        let called = match self.sandbox.runs_scripts() {
            true => call.await,
            false => match self.socket.watch(call).await {
                Ok(called) => called,
                Err(abandoned) => Err(abandoned.into()),
            },
        };
        self.socket.release_instance();
        let error = match called {
            Ok(next) => return Outcome::Next(next),
            Err(error) => error,
        };
        *instance = None;
        let is_answered = self.socket.is_answered();
        if error.is::<Shortage>() {
            self.strike(Limit::NoInstance);
            return self.refuse(Refusal::ServiceUnavailable);
        }
        if error.is::<TakenBack>() {
            self.strike(Limit::TakenBack);
            return match is_answered {
                true => Outcome::Reset,
                false => self.refuse(Refusal::RequestTimeout),
            };
        }
        if error.is::<OutOfMemory>() {
            self.strike(Limit::Memory);
            return match is_answered {
                true => Outcome::Reset,
                false => self.refuse(Refusal::ServiceUnavailable),
            };
        }
        if let Some(stalled) = error.downcast_ref() {
            self.strike(Limit::Disk);
            return match (is_answered, stalled) {
                (true, _) => Outcome::Reset,
                (false, Stalled::Busy) => self.refuse(Refusal::ServiceUnavailable),
                (false, Stalled::Silent) => self.refuse(Refusal::GatewayTimeout),
            };
        }
        match error.downcast_ref() {
            Some(Abandoned::Gone) => return Outcome::Reset,
            Some(Abandoned::Silent) => {
                self.strike(Limit::Handler);
                return match is_answered {
                    true => Outcome::Reset,
                    false => self.refuse(Refusal::GatewayTimeout),
                };
            }
            None => {}
        }
        let (handler, reason) = (self.sandbox.name(), error.root_cause());
        let message = format_args!("handler `{handler}` failed: {reason}");
        log::connection(&self.info.client.address, message);
        match is_answered {
            true => Outcome::Cut,
            false => self.refuse(Refusal::InternalServerError),
        }
    }

    /// Answers in place of a sandbox.
    fn refuse(&self, refusal: Refusal) -> Outcome {
        let response = refusal.response(self.sandbox.field_lines());
        self.socket.write(&response);
        Outcome::Next(Next::Linger)
    }

    async fn call(
        &self,
        instance: &mut Option<Instance>,
        burst: Option<Burst>,
        head: Head,
    ) -> wasmtime::Result<Next> {
        let instance = match instance {
            Some(instance) => instance,
            None => {
                let new = self.sandbox.instantiate(self.socket.client()).await?;
                cohort::keep_step().await;
                instance.insert(new)
            }
        };
        let info = self.info.clone();
        instance.serve(&self.socket, info, head, burst).await
    }
}

/// The result of serving a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// There is an answer.
    Next(Next),
    /// The answer is not whole, and the sandbox has failed.
    Cut,
    /// The answer is not whole, and was ended for others, or not waited for.
    Reset,
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
