//! The life of one connection: wait for a request, serve it in a sandbox, send, and again.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::sync::{Mutex, MutexGuard, watch};
use tokio::time::error::Elapsed;
use tokio::time::{Sleep, sleep, timeout};
use wasmtime::Error;
use wasmtime::component::ResourceTableError;

use crate::disk::Stalled;
use crate::instance::burst::{Alike, Burst};
use crate::instance::granted::Moved;
use crate::instance::limits::MAX_RESOURCES;
use crate::kept;
use crate::listen::Address;
use crate::listen::connections::{Counted, Place, TooMany};
use crate::listen::forwarded;
use crate::listen::proxies::{Forwarding, TrustedProxies};
use crate::log;
use crate::memory::OutOfMemory;
use crate::pace::Patience;
use crate::pace::client::Client;
use crate::pace::cohort::{self, Step};
use crate::pace::guesses::{Guesses, Turn};
use crate::pace::idle;
use crate::pace::instances::{Shortage, TakenBack};
use crate::pace::turns;
use crate::pace::watch::Abandoned;
use crate::sandbox::{Endpoint, Head, Info, Instance, Next, Sandbox, Served};
use crate::strikes::{Limit, strike};
use crate::tls::TlsConfig;
use crate::tls::fault::Fault;
use crate::transport::refusal::Refusal;
use crate::transport::socket::{Arrived, Prefaced, Progress, Socket};
use crate::transport::tls::Spoken;

/// The response to a client that speaks HTTP in the clear where TLS is spoken.
const NOT_TLS: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\
    Connection: close\r\nContent-Type: text/plain\r\nContent-Length: 48\r\n\r\n\
    Client sent an HTTP request to an HTTPS server.\n";

/// The one instance that serves all connections, a request at a time, once it is made.
pub(crate) type Single = Arc<Mutex<Option<Instance>>>;

/// An accepted connection.
pub(crate) struct Connection {
    sandbox: Arc<Sandbox>,
    socket: Arc<Socket>,
    peer: Party,
    /// The trusted proxies, where the peer is one of them and says whom it speaks for.
    proxy: Option<Arc<TrustedProxies>>,
    tls: Option<TlsConfig>,
    /// The one instance, where one serves all.
    single: Option<Single>,
    place: Place,
}

/// The party that a request is from, for the sandbox and for limits.
struct Party {
    info: Info,
    client: Client,
}

/// The client that a proxy speaks for.
struct Behind {
    party: Party,
    address: IpAddr,
    /// The count of this connection as one of the client's.
    counted: Option<Counted>,
}

impl Connection {
    /// Makes a connection from `stream`, which does not block, and which is spoken to in TLS if there is
    /// `tls`. The client has no address on a Unix socket.
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
            wait: 0,
        };
        let client = place.client();
        let socket = Socket::new(stream, client, sandbox.terms().clone());
        place.occupy(&socket);
        Connection {
            socket,
            sandbox,
            peer: Party { info, client },
            proxy: None,
            tls,
            single: None,
            place,
        }
    }

    /// Marks the peer as one of `proxies`, which speaks for others.
    pub(crate) fn of_proxy(mut self, proxies: Arc<TrustedProxies>) -> Self {
        self.proxy = Some(proxies);
        self
    }

    /// Has requests served by the one instance. A request waits for it when its head is there: a connection on which
    /// nothing is said keeps nobody from it.
    pub(crate) fn of_single(mut self, single: Single) -> Self {
        self.single = Some(single);
        self
    }

    /// Serves the connection until either side closes it or `stopping` turns true: in one instance for each burst of
    /// requests, or in the one that serves all.
    pub(crate) async fn serve(self, mut stopping: watch::Receiver<bool>) {
        let _counted = idle::Counted::new();
        let mut instance = None;
        let mut patience = Patience::new(self.sandbox.terms().pace.idle);
        let stop = stopping.clone();
        let stopped = stopping.wait_for(|&stopping| stopping);
        let mut end = pin!(async { drop(stopped.await) });
        let mut farewell = None;
        // Ready when the server stops and no request is on its way, or not for long any more.
        let mut parting = |cx: &mut Context| self.poll_parting(cx, end.as_mut(), &mut farewell);
        let mut behind = None;
        if self.tls.is_some() || self.has_preface() {
            let greeted = tokio::select! {
                biased;
                greeted = Box::pin(self.greet(&mut behind)) => greeted,
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
                Ok(Arrived::Whole) => Ok(Head::Whole),
                Ok(Arrived::Unfinished) => Ok(Head::Unfinished),
                Ok(Arrived::Late) => Err(Refusal::RequestTimeout),
                Ok(Arrived::Nothing) => {
                    self.tell_struck(self.party(behind.as_deref()));
                    return self.end().await;
                }
                Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                    self.socket.note_struck(Limit::Memory);
                    Err(Refusal::ServiceUnavailable)
                }
                Err(_) => return,
            };
            let in_hand = InHand(Some(&self.socket));
            let outcome = match (head, self.learn_from_head(head.ok(), &mut behind)) {
                (_, Err(TooMany)) => {
                    self.strike(self.party(behind.as_deref()), Limit::PerAddress);
                    self.refuse(Refusal::ServiceUnavailable)
                }
                (Ok(head), Ok(())) => {
                    let following = Following {
                        comes_back: left.is_some_and(|left| left.elapsed() < idle::SOON),
                        stopping: stop.clone(),
                    };
                    let behind = behind.as_deref();
                    // In a box, as are other short or rare states, so that idle connections are small.
                    Box::pin(self.serve_ready(&mut instance, behind, head, following)).await
                }
                (Err(refusal), Ok(())) => {
                    self.tell_struck(self.party(behind.as_deref()));
                    self.refuse(refusal)
                }
            };
            let progress = match outcome {
                Outcome::Reset => Ok(Progress::Done),
                _ => self.socket.send_now(),
            };
            if instance.is_some()
                && !self.keep_for_client(&mut instance, self.party(behind.as_deref()).client)
            {
                cohort::keep_step(Step::Drop).await;
                instance = None;
            }
            left = Some(Instant::now());
            let sent = match progress {
                Ok(Progress::Done) => Ok(()),
                Ok(_) => Box::pin(self.socket.send()).await,
                Err(error) => Err(error),
            };
            in_hand.end();
            if let Err(error) = sent {
                self.tell_struck(self.party(behind.as_deref()));
                // Nor does it wait for what is on its way to a client that takes nothing.
                if error.kind() == io::ErrorKind::TimedOut {
                    self.socket.reset();
                }
                return;
            }
            self.release_client(&mut behind);
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
                // So that the client does not take what it got for the whole.
                Outcome::Cut | Outcome::Next(Next::Reset) => {
                    return Box::pin(self.socket.reset_once_taken()).await;
                }
                Outcome::Reset => return self.socket.reset(),
            }
        }
    }

    /// Leaves `instance` to the next request of `client`, if it may be. Returns whether it is left.
    fn keep_for_client(&self, instance: &mut Option<Instance>, client: Client) -> bool {
        let is_reusable = |instance: &mut Instance| instance.is_reusable();
        if !self.sandbox.keeps_instances() {
            return false;
        }
        let Some(mut instance) = instance.take_if(is_reusable) else {
            return false;
        };
        instance.detach();
        kept::keep(client, instance, &self.sandbox);
        true
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

    /// Returns whether the connection begins with the words of a proxy.
    fn has_preface(&self) -> bool {
        let proxy = self.proxy.as_deref();
        proxy.is_some_and(|proxies| proxies.form() == Forwarding::ProxyProtocol)
    }

    /// Returns the proxies that are believed, if each request tells of its client.
    fn names_clients(&self) -> Option<&Arc<TrustedProxies>> {
        let proxy = self.proxy.as_ref();
        proxy.filter(|proxies| proxies.form() == Forwarding::XForwardedFor)
    }

    /// Returns whom a request is of that comes now: of who is `behind` the proxy, or of the peer itself.
    fn party<'c>(&'c self, behind: Option<&'c Behind>) -> &'c Party {
        behind.map_or(&self.peer, |behind| &behind.party)
    }

    /// Learns whose the request is that has come with `head`. One whose head is not whole is the proxy's own: the
    /// client that it names may be hearsay.
    ///
    /// # Errors
    /// [`TooMany`].
    fn learn_from_head(
        &self,
        head: Option<Head>,
        behind: &mut Option<Box<Behind>>,
    ) -> Result<(), TooMany> {
        let Some(proxies) = self.names_clients() else {
            return Ok(());
        };
        let named = |head: &[u8]| forwarded::client(head, |address| proxies.has(address));
        let address = match head {
            Some(Head::Whole) => self.socket.look_at_head(named),
            Some(Head::Unfinished) | None => None,
        };
        match address {
            Some(address) => self.speak_for(SocketAddr::new(address, 0), behind),
            None => {
                *behind = None;
                self.socket.set_client(self.peer.client);
                Ok(())
            }
        }
    }

    /// Notes that the proxy speaks for `address` from now on.
    ///
    /// # Errors
    /// [`TooMany`].
    fn speak_for(
        &self,
        address: SocketAddr,
        behind: &mut Option<Box<Behind>>,
    ) -> Result<(), TooMany> {
        let client = Client::of(Some(address));
        self.socket.set_client(client);
        let info = Info {
            client: endpoint(address),
            ..self.peer.info.clone()
        };
        let behind = behind.insert(Box::new(Behind {
            party: Party { info, client },
            address: address.ip(),
            counted: None,
        }));
        behind.counted = self.place.count(client)?;
        Ok(())
    }

    /// Counts the connection as the proxy's own again, where requests of several clients come on it.
    fn release_client(&self, behind: &mut Option<Box<Behind>>) {
        if let Some(behind) = behind
            && self.names_clients().is_some()
        {
            behind.counted = None;
            self.socket.set_client(self.peer.client);
        }
    }

    /// Learns from a proxy whose the connection is, and agrees with the client on TLS. False if either fails.
    async fn greet(&self, behind: &mut Option<Box<Behind>>) -> bool {
        if self.has_preface() && !self.learn_from_preface(behind).await {
            return false;
        }
        match &self.tls {
            Some(tls) => self.start_tls(tls, self.party(behind.as_deref())).await,
            None => true,
        }
    }

    /// Learns from a proxy whose the connection is. False if it does not say, or if that client has too many.
    async fn learn_from_preface(&self, behind: &mut Option<Box<Behind>>) -> bool {
        let address = match self.socket.receive_preface().await {
            Ok(Prefaced::By(Some(address))) => address,
            Ok(Prefaced::By(None)) => return true,
            Ok(Prefaced::Wrong) => {
                self.strike(&self.peer, Limit::Preface);
                return false;
            }
            Ok(Prefaced::Nothing) | Err(_) => return false,
        };
        let spoken_for = self.speak_for(address, behind);
        if spoken_for.is_err() {
            self.strike(self.party(behind.as_deref()), Limit::PerAddress);
            // In TLS it would have to agree on keys first.
            if self.tls.is_none() {
                self.refuse(Refusal::ServiceUnavailable);
                if self.socket.send().await.is_ok() {
                    self.socket.linger().await;
                }
            }
        }
        spoken_for.is_ok()
    }

    /// Agrees with the client on TLS. False if it speaks something else, or fails to.
    async fn start_tls(&self, tls: &TlsConfig, party: &Party) -> bool {
        match self.socket.start_tls(tls).await {
            Ok(Spoken::Tls) => true,
            Ok(Spoken::SomethingElse) => {
                self.strike(party, Limit::Tls(Fault::NotTls));
                self.socket.write(NOT_TLS);
                if self.socket.send().await.is_ok() {
                    self.socket.linger().await;
                }
                false
            }
            Err(error) => {
                let struck = self.socket.take_struck();
                if let Some(limit) = struck.or_else(|| Fault::of(&error).map(Limit::Tls)) {
                    self.strike(party, limit);
                }
                // The client may have sent a request already, and closing on that would take the alert from it.
                if error.kind() == io::ErrorKind::InvalidData {
                    self.socket.linger().await;
                }
                false
            }
        }
    }

    /// Logs the limit that the client has come to, if it has come to one.
    fn tell_struck(&self, party: &Party) {
        if let Some(limit) = self.socket.take_struck() {
            self.strike(party, limit);
        }
    }

    fn strike(&self, party: &Party, limit: Limit) {
        strike(&party.info.client.address, limit);
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

    /// Serves what has come, in `instance` or in the one that serves all connections, and what is `following`, if that may
    /// be. A handler that fails is logged.
    async fn serve_ready(
        &self,
        instance: &mut Option<Instance>,
        behind: Option<&Behind>,
        head: Head,
        following: Following,
    ) -> Outcome {
        let party = self.party(behind);
        let Ok(mut the_one) = self.wait_for_single().await else {
            self.strike(party, Limit::NoInstance);
            return self.refuse(Refusal::ServiceUnavailable);
        };
        let instance = the_one.as_deref_mut().unwrap_or(instance);
        let turn = match self.sandbox.guesses() {
            Some(guesses) => Some(Box::pin(self.turn(guesses, party)).await),
            None => None,
        };
        let burst = self.burst(turn.as_ref(), behind, following);
        let info = Info {
            wait: match turn {
                Some(Turn::Wait(seconds)) => seconds,
                _ => 0,
            },
            ..party.info.clone()
        };
        let call = self.call(instance, party.client, burst, head, info);
        let called = match self.sandbox.runs_scripts() {
            true => call.await,
            false => match self.socket.watch(call).await {
                Ok(called) => called,
                Err(abandoned) => Err(abandoned.into()),
            },
        };
        let has_read = self.socket.release_instance();
        let error = match called {
            // It would be called for the same request again, and again.
            Ok(Served {
                next: Next::KeepAlive | Next::Skip(_),
                ..
            }) if !has_read => {
                Error::msg("it has read nothing of a request, and waits for the next")
            }
            Ok(Served { next, password }) => {
                if let (Some(_), Some(instance)) = (&self.single, instance) {
                    instance.detach();
                }
                if let Some(guesses) = self.sandbox.guesses() {
                    guesses.note(party.client, password);
                }
                return Outcome::Next(next);
            }
            Err(error) => error,
        };
        let refused = instance.take().and_then(|it| it.refused_memory());
        let is_answered = self.socket.is_answered();
        // A limit that has taken the connection from its client was told when it did.
        if let Some(Abandoned::Gone | Abandoned::Slow) = error.downcast_ref() {
            return Outcome::Reset;
        }
        if let Some((limit, refusal)) = struck(&error) {
            self.strike(party, limit);
            return match is_answered {
                true => Outcome::Reset,
                false => self.refuse(refusal),
            };
        }
        let (handler, reason) = (self.sandbox.name(), reason_of(&error));
        let memory = refused.map_or_else(String::new, |max| {
            format!("; it had asked for more memory than {max} bytes (--memory)")
        });
        let message = format_args!("handler `{handler}` failed: {reason}{memory}");
        log::connection(&party.info.client.address, message);
        match is_answered {
            true => Outcome::Cut,
            false => self.refuse(Refusal::InternalServerError),
        }
    }

    /// Waits for the one instance, where one serves all: as long as a handler may be silent, since it cannot be taken back
    /// from another client without its state.
    async fn wait_for_single(&self) -> Result<Option<MutexGuard<'_, Option<Instance>>>, Elapsed> {
        match &self.single {
            None => Ok(None),
            Some(single) => {
                let time = self.sandbox.terms().pace.handler;
                timeout(time, single.lock()).await.map(Some)
            }
        }
    }

    /// Answers in place of a sandbox.
    fn refuse(&self, refusal: Refusal) -> Outcome {
        let response = refusal.response(self.sandbox.field_lines());
        self.socket.write(&response);
        Outcome::Next(Next::Linger)
    }

    /// Waits for the turn of a request that may have a password.
    async fn turn<'s>(&self, guesses: &'s Guesses, party: &Party) -> Turn<'s> {
        let has_credentials = self.socket.look_at_head(forwarded::has_credentials);
        let turn = guesses.turn(party.client, has_credentials).await;
        if has_credentials && matches!(turn, Turn::Wait(_)) {
            self.strike(party, Limit::Passwords);
        }
        turn
    }

    /// Returns which requests one call may serve: of one client, and with one password where `turn` is for one.
    fn burst(&self, turn: Option<&Turn>, behind: Option<&Behind>, following: Following) -> Burst {
        // The one instance is for whoever waits for it next.
        if self.single.is_some() {
            return Burst::One;
        }
        let without_credentials = match turn {
            Some(Turn::Guess(_)) => return Burst::One,
            Some(Turn::NoPassword) => true,
            Some(Turn::Proved | Turn::Wait(_)) | None => false,
        };
        // The connection counts as the client's as long as a request is in hand, and no longer.
        if self.names_clients().is_some() && behind.is_some_and(|behind| behind.counted.is_some()) {
            return Burst::One;
        }
        let alike = match self.names_clients() {
            Some(proxies) => Some(Alike::Named {
                proxies: proxies.clone(),
                client: behind.map(|behind| behind.address),
                without_credentials,
            }),
            None => without_credentials.then_some(Alike::WithoutCredentials),
        };
        let Following {
            comes_back,
            stopping,
        } = following;
        self.sandbox.new_burst(comes_back, stopping, alike)
    }

    async fn call(
        &self,
        instance: &mut Option<Instance>,
        client: Client,
        burst: Burst,
        head: Head,
        info: Info,
    ) -> wasmtime::Result<Served> {
        turns::begin(client, self.sandbox.terms().pace.instance).await?;
        let instance = match instance {
            Some(instance) => instance,
            None => match kept::take(client, &self.sandbox) {
                Some(kept) => instance.insert(kept),
                None => {
                    let new = self.sandbox.instantiate(client).await?;
                    cohort::keep_step(Step::Compute).await;
                    instance.insert(new)
                }
            },
        };
        self.socket.note_instance();
        instance.serve(&self.socket, info, head, burst).await
    }
}

/// An answer that is made or sent. Where it is dropped before it has ended, as the server ends, the client is not to take what
/// it got for the whole.
struct InHand<'s>(Option<&'s Socket>);

impl InHand<'_> {
    fn end(mut self) {
        self.0 = None;
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        if let Some(socket) = self.0.filter(|socket| socket.is_answered()) {
            socket.reset();
        }
    }
}

/// Requests that may follow in one call.
struct Following {
    /// The client has come back soon.
    comes_back: bool,
    /// Turns true when there are to be none any more.
    stopping: watch::Receiver<bool>,
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

/// Returns the reason of a call that failed with `error`, for people.
fn reason_of(error: &Error) -> String {
    match error.downcast_ref() {
        Some(ResourceTableError::Full) => {
            format!("it held {MAX_RESOURCES} files, streams and the like, and asked for more")
        }
        _ => error.root_cause().to_string(),
    }
}

/// Returns the limit that ended a call with `error`, if one did, and what the client is told that has no answer.
fn struck(error: &Error) -> Option<(Limit, Refusal)> {
    let (abandoned, stalled) = (error.downcast_ref(), error.downcast_ref());
    Some(match error {
        _ if error.is::<Shortage>() => (Limit::NoInstance, Refusal::ServiceUnavailable),
        _ if error.is::<TakenBack>() => (Limit::TakenBack, Refusal::RequestTimeout),
        _ if error.is::<OutOfMemory>() => (Limit::Memory, Refusal::ServiceUnavailable),
        _ if abandoned == Some(&Abandoned::Overtaken) => {
            (Limit::Overtaken, Refusal::ServiceUnavailable)
        }
        _ if stalled == Some(&Stalled::Busy) => (Limit::Disk, Refusal::ServiceUnavailable),
        _ if stalled == Some(&Stalled::Silent) => (Limit::Disk, Refusal::GatewayTimeout),
        _ if error.is::<Moved>() => (Limit::Moved, Refusal::ServiceUnavailable),
        _ if abandoned == Some(&Abandoned::Silent) => (Limit::Handler, Refusal::GatewayTimeout),
        _ => return None,
    })
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
