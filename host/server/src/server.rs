//! `HTTPServer` and `ThreadingHTTPServer`: accepts connections, and serves each in a sandbox.

use std::fmt;
use std::future::{pending, poll_fn, ready};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::task::{self, Context, Poll};
use std::thread;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::runtime::{self, Runtime};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::connection::{Connection, Single};
use crate::instance::granted::Directories;
use crate::listen::connections::{self, Connections, Place, TooMany};
use crate::listen::descriptors::reserve_descriptors;
use crate::listen::proxies::TrustedProxies;
use crate::listen::{Address, listen_on};
use crate::log;
use crate::pace::client::Client;
use crate::pace::cohort;
use crate::pace::turns;
use crate::sandbox::Sandbox;
use crate::strikes::{Limit, strike};
use crate::tls::TlsConfig;
use crate::transport::refusal::{Refusal, turn_away};
use crate::transport::socket::Terms;

/// The time that connections have to finish when the server shuts down, unless [`HttpServer::grace`] says
/// otherwise.
const GRACE: Duration = Duration::from_secs(30);
/// Descriptors that there must be for each core when a server begins to serve, and as many besides.
const SPARE_DESCRIPTORS: usize = 8;
/// Time for calls about files that nobody waits for any more, when the server ends. A disk that stalls takes
/// longer.
const LAST_CALLS: Duration = Duration::from_millis(100);
/// The pause when no connection can be accepted for want of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A server bound to an address: Python's `ThreadingHTTPServer`, or with [`HttpServer::single`] its
/// `HTTPServer`.
#[derive(Debug)]
pub struct HttpServer {
    listeners: Vec<TcpListener>,
    address: SocketAddr,
    sandbox: Arc<Sandbox>,
    max_connections: usize,
    max_per_address: Option<usize>,
    proxies: Option<Arc<TrustedProxies>>,
    stopping: watch::Sender<bool>,
    /// The time of grace has begun.
    ending: watch::Sender<bool>,
    /// Set where someone else listens on the same sockets, and goes on when this server ends.
    inherited: bool,
    /// The one instance that serves everything, where there is only one.
    single: Option<Single>,
    tls: Option<TlsConfig>,
    grace: Duration,
    /// The time that [`HttpServer::handle_request`] waits for a connection, if it is bounded.
    timeout: Option<Duration>,
    handle_timeout: Option<OnTimeout>,
}

/// The action of [`HttpServer::handle_timeout`].
struct OnTimeout(Box<dyn Fn() + Send + Sync>);

impl fmt::Debug for OnTimeout {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("OnTimeout").finish_non_exhaustive()
    }
}

/// Stops a server from another thread.
#[derive(Clone, Debug)]
pub struct Shutdown {
    stopping: watch::Sender<bool>,
    ending: watch::Sender<bool>,
}

impl Shutdown {
    /// Accepts no more connections, and lets those that are answering a request finish within the time of
    /// [`HttpServer::grace`].
    pub fn shutdown(&self) {
        self.ending.send_replace(true);
        self.retire();
    }

    /// Accepts no more connections, leaves the listeners open for another server, and lets connections that are
    /// answering a request finish, however long they take.
    pub fn retire(&self) {
        self.stopping.send_replace(true);
    }
}

/// Tells how many instances a server has at the moment, and the memory of its connections.
#[derive(Clone)]
pub struct Load {
    terms: Arc<Terms>,
    directories: Arc<Directories>,
}

impl Load {
    /// Returns the number of instances that compute or wait.
    pub fn instances(&self) -> usize {
        self.terms.instances.taken()
    }

    /// Returns the memory, in bytes, of heads that have not yet come and of answers that have not yet left, as far as it
    /// counts in the budget.
    pub fn buffers(&self) -> u64 {
        self.terms.buffers.taken()
    }

    /// Takes it that this process may read no other directories than those that it was granted: a name that has come to mean
    /// another, found after [`Self::let_go`], is answered with 503, and told by [`Self::wait_until_moved`]. May wait.
    pub fn keep_to_directories(&self) {
        self.directories.keep_to_these();
    }

    /// Waits until the name of a directory was found to mean another, at most for `time`. Returns whether one was.
    pub fn wait_until_moved(&self, time: Duration) -> bool {
        self.directories.wait_until_moved(time)
    }

    /// Closes the directories of instances as soon as none has them, until an instance asks for them again: an open
    /// directory keeps its file system from being unmounted.
    pub fn let_go(&self) {
        self.directories.let_go();
    }
}

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Load").finish_non_exhaustive()
    }
}

impl HttpServer {
    /// Makes a server on `address` (port 0: any free one), with a thread for each core and a fresh instance
    /// of `sandbox` for each connection.
    ///
    /// # Errors
    /// An address that is not ours, a port that is taken or not allowed.
    pub fn bind(address: impl ToSocketAddrs, sandbox: Sandbox) -> io::Result<Self> {
        let address = address.to_socket_addrs()?.next();
        let address = address.ok_or(io::ErrorKind::AddrNotAvailable)?;
        let cores = thread::available_parallelism().map_or(1, usize::from);
        HttpServer::new(listen_on(address, cores)?, sandbox)
    }

    /// Makes a server for connections to `listeners`, which share one address. Each listener gets a thread.
    /// Listeners may be Unix sockets, whose clients have the address `-`.
    ///
    /// # Errors
    /// Listeners that are none, or have no address.
    pub fn new(listeners: Vec<TcpListener>, sandbox: Sandbox) -> io::Result<Self> {
        let first = listeners.first().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(HttpServer {
            address: match Address::of(first)? {
                Address::Tcp(address) => address,
                Address::Unix(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            },
            listeners,
            sandbox: Arc::new(sandbox),
            max_connections: connections::default_max(),
            max_per_address: None,
            proxies: None,
            stopping: watch::Sender::new(false),
            ending: watch::Sender::new(false),
            inherited: false,
            single: None,
            tls: None,
            grace: GRACE,
            timeout: None,
            handle_timeout: None,
        })
    }

    /// Serves with one instance for the whole run and one connection at a time, so that a handler keeps its
    /// state from one request to the next. An instance that fails is replaced.
    pub fn single(mut self) -> Self {
        self.listeners.truncate(1);
        self.single = Some(Single::default());
        self
    }

    /// Serves over TLS, and only over TLS (`HTTPSServer`, `ThreadingHTTPSServer`).
    pub fn tls(mut self, config: TlsConfig) -> Self {
        self.tls = Some(config);
        self
    }

    /// Has at most `max` connections at once, by default half as many as open files are allowed. Where there are
    /// so many, the one that is idle longest is closed for the next, which waits if none is.
    pub fn max_connections(mut self, max: usize) -> Self {
        self.max_connections = max;
        self
    }

    /// Has at most `max` connections of one address at once, and answers more with 503. IPv6 addresses count as
    /// one that have the first 64 bits in common.
    pub fn max_per_address(mut self, max: usize) -> Self {
        self.max_per_address = Some(max);
        self
    }

    /// Believes `proxies` who their clients are: limits, the log and handlers then know those. No number of
    /// connections is too many for a proxy.
    pub fn trusted_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.proxies = Some(Arc::new(proxies));
        self
    }

    /// Sets the time that connections have to finish when the server shuts down, 30 seconds unless it is set.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Has [`Self::handle_request`] wait for a connection for at most `timeout` (`timeout`), by default without end.
    /// [`Self::serve_forever`] takes no notice, as in Python.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Has `action` called where no connection has come in the time of [`Self::timeout`] (`handle_timeout`), before
    /// [`Self::handle_request`] returns. By default nothing is.
    pub fn handle_timeout(mut self, action: impl Fn() + Send + Sync + 'static) -> Self {
        self.handle_timeout = Some(OnTimeout(Box::new(action)));
        self
    }

    /// Takes the listeners as passed to this process: they stay open when it ends.
    pub fn inherited(mut self) -> Self {
        self.inherited = true;
        self
    }

    /// Returns the address that the server listens on; 0.0.0.0 and port 0 if that is a Unix socket.
    pub fn server_address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the IP address that the server listens on (`server_name`, for which Python would ask the
    /// name service).
    pub fn server_name(&self) -> String {
        self.address.ip().to_string()
    }

    /// Returns the port that the server listens on (`server_port`).
    pub fn server_port(&self) -> u16 {
        self.address.port()
    }

    /// Returns a handle that ends [`Self::serve_forever`] from elsewhere.
    pub fn shutdown_handle(&self) -> Shutdown {
        Shutdown {
            stopping: self.stopping.clone(),
            ending: self.ending.clone(),
        }
    }

    /// Returns a handle that tells the load of this server from elsewhere.
    pub fn load(&self) -> Load {
        Load {
            terms: self.sandbox.terms().clone(),
            directories: self.sandbox.directories().clone(),
        }
    }

    /// Ends [`Self::serve_forever`], which another thread is in (`shutdown`).
    pub fn shutdown(&self) {
        self.shutdown_handle().shutdown();
    }

    /// Serves until the server is shut down, and then until the connections have finished, at most the time
    /// of [`Self::grace`] (`serve_forever`).
    ///
    /// # Errors
    /// A thread that cannot be set up.
    pub fn serve_forever(&self) -> io::Result<()> {
        self.serve_when_ready(|| {})
    }

    /// Serves as [`Self::serve_forever`] does, and calls `is_ready` before, when nothing is missing any more.
    ///
    /// # Errors
    /// Descriptors or threads that the system does not give.
    pub fn serve_when_ready(&self, is_ready: impl FnOnce()) -> io::Result<()> {
        // A server that could open nothing more would serve nobody, and runtimes panic without descriptors.
        let wanted = SPARE_DESCRIPTORS * (1 + self.listeners.len());
        let spare = (0..wanted).map(|_| self.listeners[0].try_clone());
        drop(spare.collect::<io::Result<Vec<_>>>()?);
        reserve_descriptors();
        let cores: Vec<_> = self
            .listeners
            .iter()
            .map(Core::new)
            .collect::<io::Result<_>>()?;
        is_ready();
        let connections = self.connections();
        thread::scope(|scope| {
            let cores: Vec<_> = (0..)
                .zip(cores)
                .map(|(number, core)| {
                    let connections = &connections;
                    let run = move || self.run_core(number, core, connections);
                    thread::Builder::new().spawn_scoped(scope, run)
                })
                .collect();
            let ends = cores.into_iter().map(|core| {
                let end = match core {
                    Ok(core) => core
                        .join()
                        .unwrap_or_else(|_| Err(io::Error::other("a core panicked"))),
                    Err(error) => Err(error),
                };
                // Clients of a core that is missing would wait for ever.
                end.inspect_err(|_| self.shutdown())
            });
            ends.fold(Ok(()), Result::and)
        })
    }

    /// Accepts one connection and serves it to its end (`handle_request`), or calls the action of [`Self::handle_timeout`]
    /// where none comes within [`Self::timeout`].
    ///
    /// # Errors
    /// A connection that cannot be accepted.
    pub fn handle_request(&self) -> io::Result<()> {
        let runtime = new_runtime()?;
        let handled = runtime.block_on(async {
            let listeners = self.listeners.iter().map(watch_listener);
            let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
            let accepted = poll_fn(|cx| {
                let mut ready = listeners.iter().map(|listener| poll_accept(listener, cx));
                ready.find(Poll::is_ready).unwrap_or(Poll::Pending)
            });
            let accepted = match self.timeout {
                None => accepted.await,
                Some(time) => match timeout(time, accepted).await {
                    Ok(accepted) => accepted,
                    Err(_) => return Ok(Handled::Nothing),
                },
            };
            let (stream, client) = accepted?;
            let place = self.admit(&self.connections(), 0, client).await;
            if let Some(connection) = self.connection((stream, client), place) {
                connection.serve(self.stopping.subscribe()).await;
            }
            Ok(Handled::Connection)
        });
        runtime.shutdown_timeout(LAST_CALLS);
        if let (Ok(Handled::Nothing), Some(OnTimeout(action))) = (&handled, &self.handle_timeout) {
            action();
        }
        handled.map(drop)
    }

    fn connections(&self) -> Arc<Connections> {
        let cores = self.listeners.len();
        let stopping = self.stopping.subscribe();
        Connections::new(self.max_connections, self.max_per_address, cores, stopping)
    }

    /// Takes a place on `core` for a connection from `address`, or waits for one.
    async fn admit(
        &self,
        room: &Arc<Connections>,
        core: usize,
        address: Option<SocketAddr>,
    ) -> Result<Place, TooMany> {
        let client = Client::of(address);
        match &self.proxies {
            Some(proxies) if proxies.has_peer(address) => Ok(room.admit_proxy(core, client).await),
            _ => room.admit(core, client).await,
        }
    }

    /// Returns the connection to serve, if there is a `place` for it.
    fn connection(
        &self,
        (stream, address): Accepted,
        place: Result<Place, TooMany>,
    ) -> Option<Connection> {
        let Ok(place) = place else {
            let refusal = Refusal::ServiceUnavailable;
            let response = match self.tls {
                // It would have to agree on keys first.
                Some(_) => Vec::new(),
                None => refusal.response(self.sandbox.field_lines()),
            };
            turn_away(&stream, &response);
            strike(&Client::of(address).to_string(), Limit::PerAddress);
            return None;
        };
        let (sandbox, tls) = (self.sandbox.clone(), self.tls.clone());
        let connection = Connection::new(sandbox, stream, address, tls, place);
        let connection = match &self.single {
            Some(single) => connection.of_single(single.clone()),
            None => connection,
        };
        Some(match &self.proxies {
            Some(proxies) if proxies.has_peer(address) => connection.of_proxy(proxies.clone()),
            _ => connection,
        })
    }

    /// Runs one core: a runtime of its own, and connections that never leave it.
    fn run_core(&self, number: usize, core: Core, room: &Arc<Connections>) -> io::Result<()> {
        let Core { listener, runtime } = core;
        let run = runtime.block_on(async {
            let mut stopping = self.stopping.subscribe();
            let stop = stopping.clone();
            let mut connections = JoinSet::new();
            // A connection that waits for a place.
            let mut arrived = None;
            loop {
                let place = async {
                    let (_, address) = match &arrived {
                        Some(accepted) => accepted,
                        None => arrived.insert(accept(&listener).await),
                    };
                    self.admit(room, number, *address).await
                };
                let place = tokio::select! {
                    // First, as another worker may have closed the listener of both by now.
                    biased;
                    _ = stopping.wait_for(|&stopping| stopping) => break,
                    place = place => place,
                };
                let Some(accepted) = arrived.take() else {
                    continue;
                };
                let Some(connection) = self.connection(accepted, place) else {
                    continue;
                };
                connections.spawn(connection.serve(stop.clone()));
                while connections.try_join_next().is_some() {}
            }
            // A connection that nobody else can serve is, if another ends soon.
            if let Some(accepted) = arrived {
                let patience = self.sandbox.terms().pace.farewell;
                let place = timeout(patience, self.admit(room, number, accepted.1)).await;
                let connection = place
                    .ok()
                    .and_then(|place| self.connection(accepted, place));
                if let Some(connection) = connection {
                    connections.spawn(connection.serve(stop.clone()));
                }
            }
            // Who retires leaves the listener to another server.
            if *self.ending.borrow() && !self.inherited {
                // Clients that the system has accepted for us are served, as far as there is room.
                while let Ok(accepted) = accept_now(listener.get_ref()) {
                    let place = tokio::select! {
                        biased;
                        place = self.admit(room, number, accepted.1) => Some(place),
                        () = ready(()) => None,
                    };
                    let connection = place.and_then(|place| self.connection(accepted, place));
                    if let Some(connection) = connection {
                        connections.spawn(connection.serve(stop.clone()));
                    }
                }
                // Another server can have the port while this one drains. Where this fails, it can have it
                // when the server is dropped.
                let _ = rustix::net::shutdown(listener.get_ref(), rustix::net::Shutdown::Both);
            }
            let mut ending = self.ending.subscribe();
            let grace = async {
                let _ = ending.wait_for(|&ending| ending).await;
                sleep(self.grace).await;
            };
            let drained = async { while connections.join_next().await.is_some() {} };
            let is_drained = tokio::select! {
                () = drained => true,
                () = grace => false,
            };
            if !is_drained {
                // They go with the runtime.
                let count = connections.len();
                log::connection("-", format_args!("{count} connections were cut off"));
            }
            Ok(())
        });
        runtime.shutdown_timeout(LAST_CALLS);
        run
    }
}

/// The outcome of waiting for one connection.
enum Handled {
    Connection,
    /// None came in time.
    Nothing,
}

/// One core: its listener, and the runtime that watches it.
struct Core {
    // Dropped before its runtime.
    listener: AsyncFd<TcpListener>,
    runtime: Runtime,
}

impl Core {
    fn new(listener: &TcpListener) -> io::Result<Self> {
        let runtime = new_runtime()?;
        let listener = {
            let _entered = runtime.enter();
            watch_listener(listener)?
        };
        Ok(Core { listener, runtime })
    }
}

fn new_runtime() -> io::Result<Runtime> {
    cohort::configure(runtime::Builder::new_current_thread().enable_all()).build()
}

fn watch_listener(listener: &TcpListener) -> io::Result<AsyncFd<TcpListener>> {
    let listener = listener.try_clone()?;
    // SAFETY: a `TcpListener` owns its descriptor, and keeps it while the event loop watches it.
    #[allow(unsafe_code)]
    let listener = unsafe { AsyncFd::register(listener) }?;
    Ok(listener)
}

/// A connection, and the address of its client if it has one.
type Accepted = (TcpStream, Option<SocketAddr>);

/// Waits for the next connection, however long that takes, and returns it.
async fn accept(listener: &AsyncFd<TcpListener>) -> Accepted {
    loop {
        let accepted = poll_fn(|cx| match poll_accept(listener, cx) {
            Poll::Pending => turns::poll_newcomer(cx, || accept_if_there(listener.get_ref())),
            accepted => accepted,
        });
        match accepted.await {
            Ok(accepted) => return accepted,
            // The client has gone already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            // Shut down, by this server or by the process that has the listener too: the word to stop follows.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return pending().await,
            Err(error) => {
                let number = error.raw_os_error().unwrap_or_default();
                strike("-", Limit::Accepting(number));
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Polls for a connection that is not yet known to the event loop, and does not block.
fn poll_accept(listener: &AsyncFd<TcpListener>, cx: &mut Context) -> Poll<io::Result<Accepted>> {
    loop {
        let mut ready = task::ready!(listener.poll_read_ready(cx))?;
        match ready.try_io(|listener| accept_now(listener.get_ref())) {
            Ok(accepted) => return Poll::Ready(accepted),
            Err(_would_block) => {}
        }
    }
}

fn accept_if_there(listener: &TcpListener) -> Option<io::Result<Accepted>> {
    match accept_now(listener) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        accepted => Some(accepted),
    }
}

#[cfg(target_os = "linux")]
fn accept_now(listener: &TcpListener) -> io::Result<Accepted> {
    use rustix::net::{SocketFlags, acceptfrom_with};
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (stream, client) = acceptfrom_with(listener, flags)?;
    let client = client.and_then(|client| SocketAddr::try_from(client).ok());
    Ok((stream.into(), client))
}

#[cfg(not(target_os = "linux"))]
fn accept_now(listener: &TcpListener) -> io::Result<Accepted> {
    let (stream, client) = rustix::net::acceptfrom(listener)?;
    rustix::io::fcntl_setfd(&stream, rustix::io::FdFlags::CLOEXEC)?;
    let stream = TcpStream::from(stream);
    stream.set_nonblocking(true)?;
    let client = client.and_then(|client| SocketAddr::try_from(client).ok());
    Ok((stream, client))
}
