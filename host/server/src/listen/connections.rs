//! The connections of a server: how many there may be, at once and of one client, and who makes room.
//!
//! 1. A connection that was accepted takes a place ([`Connections::admit`]). Mostly there is one: a counter goes
//!    up, and nothing else happens.
//! 2. Where there is none, the connection is closed that has been idle longest, and nothing more is accepted
//!    until there is room. So a crowd that is idle keeps nobody out.
//! 3. Where none is idle, one is closed that moves fewer bytes than [`PRESSED`](crate::pace::PRESSED) wants: of
//!    the client that has most of these, the one furthest behind. So neither does a crowd that is slow.
//! 4. All of a core are looked at once a second, whether a call goes on from which nothing comes (`watch`), and sooner
//!    where instances are asked for in vain.
//! 5. A client that has as many as one may have is turned away.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use tokio::sync::{Notify, watch};
use tokio::time::{self, sleep, timeout, timeout_at};

use crate::lock::lock;
use crate::pace::client::Client;
use crate::pace::instances::Instances;
use crate::pace::round::ROUND;
use crate::pace::watch::PERIOD;
use crate::strikes::{Limit, strike};
use crate::transport::socket::Socket;

/// Open files that are no connections and not what they read: listeners, the log, the engine's.
const RESERVE: u64 = 64;
/// Connections that there may be with however few open files.
const LEAST: usize = 8;
/// The part of idle connections that is found at once to be closed: one of so many. All are looked at for that,
/// so that closing one takes a look at about as many.
const SHARE: usize = 16;
/// Connections that are found at least.
const BATCH: usize = 16;
/// Time after which a connection that waits for room looks for another that is idle.
const PAUSE: Duration = Duration::from_millis(100);

/// All connections of a server.
#[derive(Debug)]
pub(crate) struct Connections {
    max: usize,
    max_per_client: Option<usize>,
    open: AtomicUsize,
    /// Connections that wait for a place.
    waiting: AtomicUsize,
    freed: Notify,
    /// Connections of each client, where they are counted.
    clients: Mutex<HashMap<Client, usize>>,
    /// Sockets of each core. Another core looks at them only to find those that are idle.
    cores: Vec<Mutex<Sockets>>,
    /// Connections that were idle longest when they were last looked for, the longest last.
    idle: Mutex<Vec<Idle>>,
    /// Connections that were slowest when they were last looked for, the slowest last.
    slow: Mutex<Vec<Weak<Socket>>>,
    /// True when the server stops.
    stopping: watch::Receiver<bool>,
}

/// A connection, and the time since which it is idle.
type Idle = (Instant, Weak<Socket>);

/// A connection, and the time by which its client is behind.
type Slow = (Duration, Weak<Socket>);

/// An error: the client has as many connections as one may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Connections {
    /// Returns room for `max` connections on `cores` cores, and for `max_per_client` of one client, until `stopping`
    /// turns true.
    pub(crate) fn new(
        max: usize,
        max_per_client: Option<usize>,
        cores: usize,
        stopping: watch::Receiver<bool>,
    ) -> Arc<Self> {
        Arc::new(Connections {
            max: max.max(1),
            max_per_client,
            open: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            freed: Notify::new(),
            clients: Mutex::default(),
            cores: (0..cores.max(1)).map(|_| Mutex::default()).collect(),
            idle: Mutex::default(),
            slow: Mutex::default(),
            stopping,
        })
    }

    /// Takes a place on `core` for a connection of `client`, or waits for one.
    ///
    /// # Errors
    /// [`TooMany`], at once.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        core: usize,
        client: Client,
    ) -> Result<Place, TooMany> {
        let counted = self.count(client)?;
        let mut place = self.admit_proxy(core, client).await;
        place._counted = counted;
        Ok(place)
    }

    /// Takes a place on `core` for a connection of `proxy`, or waits for one. A proxy may have any number, as they
    /// are its clients'.
    pub(crate) async fn admit_proxy(self: &Arc<Self>, core: usize, proxy: Client) -> Place {
        if !self.take() {
            Box::pin(self.wait()).await;
        }
        Place {
            connections: self.clone(),
            client: proxy,
            _counted: None,
            core: core % self.cores.len(),
            index: None,
        }
    }

    /// Counts a connection of `client`, where the number of connections of a client is limited.
    fn count(self: &Arc<Self>, client: Client) -> Result<Option<Counted>, TooMany> {
        match self.max_per_client {
            Some(max) => Counted::new(self, client, max).map(Some),
            None => Ok(None),
        }
    }

    /// Takes one place if there is one. Returns whether there was.
    fn take(&self) -> bool {
        let more = |open| (open < self.max).then_some(open + 1);
        let ordering = Ordering::SeqCst;
        self.open.fetch_update(ordering, ordering, more).is_ok()
    }

    /// Takes a place as soon as there is one.
    async fn wait(&self) {
        let _waiting = Waiting::new(self);
        while !self.take() {
            self.make_room();
            // Where no connection is idle, one may soon be.
            let _ = timeout(PAUSE, self.freed.notified()).await;
        }
    }

    /// Closes the connection that has been idle longest, or a slow one if none is.
    fn make_room(&self) {
        let (client, limit) = match (self.close_idle(), Instant::now()) {
            (Some(client), _) => (Some(client), Limit::Idle),
            (None, now) => match self.end_slow(now) {
                Some(client) => (Some(client), Limit::Slow),
                None => (None, Limit::Connections),
            },
        };
        let client = client.map(|client| client.to_string());
        strike(client.as_deref().unwrap_or("-"), limit);
    }

    fn close_idle(&self) -> Option<Client> {
        let mut idle = lock(&self.idle);
        close_last(&mut idle).or_else(|| {
            *idle = self.find_idle();
            close_last(&mut idle)
        })
    }

    fn end_slow(&self, now: Instant) -> Option<Client> {
        let mut slow = lock(&self.slow);
        end_last(&mut slow, now).or_else(|| {
            *slow = self.find_slow(now);
            end_last(&mut slow, now)
        })
    }

    fn find_slow(&self, now: Instant) -> Vec<Weak<Socket>> {
        let mut slow: Vec<(Client, Slow)> = Vec::new();
        for sockets in &self.cores {
            slow.extend(lock(sockets).slow(now));
        }
        let mut counts: HashMap<Client, usize> = HashMap::new();
        for (client, _) in &slow {
            *counts.entry(*client).or_default() += 1;
        }
        slow.sort_by_key(|(client, (late, _))| (counts[client], *late));
        let rest = slow.len().saturating_sub(BATCH.max(slow.len() / SHARE));
        slow.drain(rest..).map(|(_, (_, socket))| socket).collect()
    }

    fn find_idle(&self) -> Vec<Idle> {
        let mut idle = Vec::new();
        for sockets in &self.cores {
            idle.extend(lock(sockets).idle());
        }
        let longest = BATCH.max(idle.len() / SHARE);
        if longest < idle.len() {
            idle.select_nth_unstable_by_key(longest, |&(since, _)| since);
            idle.truncate(longest);
        }
        idle.sort_by_key(|&(since, _)| std::cmp::Reverse(since));
        idle
    }
}

/// Closes the last of `idle` that is still idle. Returns its client.
fn close_last(idle: &mut Vec<Idle>) -> Option<Client> {
    while let Some((since, socket)) = idle.pop() {
        let socket = socket.upgrade();
        if let Some(socket) = socket.filter(|socket| socket.close_if_idle(since)) {
            return Some(socket.client());
        }
    }
    None
}

/// Ends the last of `slow` that is still slow. Returns its client.
fn end_last(slow: &mut Vec<Weak<Socket>>, now: Instant) -> Option<Client> {
    while let Some(socket) = slow.pop() {
        let socket = socket.upgrade();
        if let Some(socket) = socket.filter(|socket| socket.end_if_slow(now)) {
            return Some(socket.client());
        }
    }
    None
}

/// Returns how many connections there may be where a process may have `open_files`: half, as each may read a
/// file.
pub(crate) fn default_max() -> usize {
    max_with(getrlimit(Resource::Nofile).current)
}

fn max_with(open_files: Option<u64>) -> usize {
    let half = |files: u64| usize::try_from(files.saturating_sub(RESERVE) / 2).ok();
    open_files
        .and_then(half)
        .map_or(usize::MAX, |half| half.max(LEAST))
}

/// A wait for a place.
struct Waiting<'c>(&'c Connections);

impl<'c> Waiting<'c> {
    fn new(connections: &'c Connections) -> Self {
        connections.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(connections)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A connection of a client whose connections are limited, counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    connections: Arc<Connections>,
    client: Client,
}

impl Counted {
    fn new(connections: &Arc<Connections>, client: Client, max: usize) -> Result<Self, TooMany> {
        let mut clients = lock(&connections.clients);
        let count = clients.entry(client).or_default();
        if *count >= max {
            return Err(TooMany);
        }
        *count += 1;
        drop(clients);
        Ok(Counted {
            connections: connections.clone(),
            client,
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut clients = lock(&self.connections.clients);
        if let Entry::Occupied(mut count) = clients.entry(self.client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// The place of one connection, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    connections: Arc<Connections>,
    client: Client,
    _counted: Option<Counted>,
    core: usize,
    /// The index of its socket among those of its core.
    index: Option<u32>,
}

impl Place {
    /// Returns the client that the place is for.
    pub(crate) fn client(&self) -> Client {
        self.client
    }

    /// Counts the connection as one of `client`, where the number of connections of a client is limited.
    ///
    /// # Errors
    /// [`TooMany`] if the client has as many as one may have.
    pub(crate) fn count(&self, client: Client) -> Result<Option<Counted>, TooMany> {
        self.connections.count(client)
    }

    /// Lets `socket` be found when it is idle and others need the place.
    pub(crate) fn occupy(&mut self, socket: &Arc<Socket>) {
        let connections = &self.connections;
        let mut sockets = lock(&connections.cores[self.core]);
        self.index = Some(sockets.insert(Arc::downgrade(socket)));
        if !mem::replace(&mut sockets.are_watched, true) {
            let instances = socket.instances().clone();
            tokio::spawn(look_at_calls(connections.clone(), self.core, instances));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let connections = &self.connections;
        if let Some(index) = self.index {
            lock(&connections.cores[self.core]).remove(index);
        }
        connections.open.fetch_sub(1, Ordering::SeqCst);
        if connections.waiting.load(Ordering::SeqCst) > 0 {
            connections.freed.notify_one();
        }
    }
}

/// Looks at the calls of a core, as long as it has connections: every [`PERIOD`], and sooner for those that sleep where
/// requests ask for `instances` in vain.
async fn look_at_calls(connections: Arc<Connections>, core: usize, instances: Arc<Instances>) {
    let sockets = || lock(&connections.cores[core]);
    let mut due = time::Instant::now() + PERIOD;
    loop {
        if timeout_at(due, instances.asked_in_vain()).await.is_ok() {
            sockets().each(Socket::glance_at_call);
            sleep(ROUND).await;
            sockets().each(Socket::glance_at_call);
            instances.take_back();
            continue;
        }
        due = time::Instant::now() + PERIOD;
        let is_stopping = *connections.stopping.borrow();
        let mut sockets = sockets();
        if sockets.sockets.is_empty() {
            sockets.are_watched = false;
            return;
        }
        sockets.each(|socket| socket.look_at_call(is_stopping));
    }
}

/// The sockets of one core.
#[derive(Debug, Default)]
struct Sockets {
    sockets: Vec<Weak<Socket>>,
    /// Indices at which there is no socket.
    free: Vec<u32>,
    /// A task looks at the calls of these sockets.
    are_watched: bool,
}

impl Sockets {
    fn insert(&mut self, socket: Weak<Socket>) -> u32 {
        if let Some(index) = self.free.pop() {
            self.sockets[index as usize] = socket;
            return index;
        }
        self.sockets.push(socket);
        (self.sockets.len() - 1) as u32
    }

    fn remove(&mut self, index: u32) {
        self.sockets[index as usize] = Weak::new();
        self.free.push(index);
        // The memory that a crowd took is given back when it has gone.
        if self.free.len() == self.sockets.len() {
            self.sockets = Vec::new();
            self.free = Vec::new();
        }
    }

    fn each(&self, act: impl Fn(&Socket)) {
        let sockets = self.sockets.iter().filter_map(Weak::upgrade);
        sockets.for_each(|socket| act(&socket));
    }

    fn idle(&self) -> impl Iterator<Item = Idle> {
        let idle = |socket: &Weak<Socket>| Some((socket.upgrade()?.idle_since()?, socket.clone()));
        self.sockets.iter().filter_map(idle)
    }

    fn slow(&self, now: Instant) -> impl Iterator<Item = (Client, Slow)> {
        let sockets = self.sockets.iter().filter_map(Weak::upgrade);
        sockets.filter_map(move |socket| {
            let late = socket.late(now)?;
            Some((socket.client(), (late, Arc::downgrade(&socket))))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use tokio::task::JoinHandle;

    use crate::memory::Budget;
    use crate::pace::watch::Abandoned;
    use crate::pace::{CHANCE, Pace};
    use crate::transport::socket::{Arrived, Terms};

    #[test]
    fn half_of_the_open_files_may_be_connections() {
        for (files, max) in [
            (Some(0), 8),
            (Some(64), 8),
            (Some(100), 18),
            (Some(1024), 480),
            (None, usize::MAX),
        ] {
            assert_eq!(max_with(files), max, "{files:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_waited_for_and_free_when_it_is_dropped() {
        let connections = Connections::new(2, None, 1, watch::channel(false).1);
        let client = Client::V4([192, 0, 2, 1]);
        let one = connections.admit(0, client).await.expect("a place");
        let _other = connections.admit(0, client).await.expect("a place");
        let waiting = [(); 2].map(|()| {
            let connections = connections.clone();
            tokio::spawn(async move { connections.admit(0, client).await.is_ok() })
        });
        tokio::task::yield_now().await;
        assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
        drop(one);
        for waiting in waiting {
            assert!(waiting.await.expect("no panic"));
        }
        assert_eq!(connections.open.load(Ordering::SeqCst), 1);
    }

    fn terms(instances: usize) -> Arc<Terms> {
        Arc::new(Terms {
            pace: Pace::default(),
            instances: Instances::new(instances),
            buffers: Budget::new(None),
        })
    }

    /// Opens a connection that counts as one of `from`, on `core`.
    async fn open_one(
        connections: &Arc<Connections>,
        listener: &TcpListener,
        core: usize,
        from: Client,
    ) -> (TcpStream, Arc<Socket>, Place) {
        open_with(terms(1), connections, listener, core, from).await
    }

    async fn open_with(
        terms: Arc<Terms>,
        connections: &Arc<Connections>,
        listener: &TcpListener,
        core: usize,
        from: Client,
    ) -> (TcpStream, Arc<Socket>, Place) {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut place = connections.admit(core, from).await.unwrap();
        let socket = Socket::new(stream, from, terms);
        place.occupy(&socket);
        (client, socket, place)
    }

    #[tokio::test]
    async fn the_connection_that_is_idle_longest_makes_room() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connections = Connections::new(4, None, 2, watch::channel(false).1);
        let now = Instant::now();
        let mut open = Vec::new();
        for (core, seconds) in [(0, 3), (1, 2), (0, 1), (1, 4)] {
            let from = Client::V4([127, 0, 0, 1]);
            let (client, socket, place) = open_one(&connections, &listener, core, from).await;
            socket.rest(now + Duration::from_secs(seconds));
            open.push((client, socket, place));
        }
        // The one that is idle longest has just sent something.
        open[2].0.write_all(b"G").unwrap();
        let admitted = tokio::spawn({
            let connections = connections.clone();
            async move { connections.admit(0, Client::of(None)).await.is_ok() }
        });
        tokio::task::yield_now().await;
        let (mut client, socket, place) = open.remove(1);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        assert_eq!(socket.idle_since(), None);
        for (client, ..) in &open {
            client.set_nonblocking(true).unwrap();
            assert!((&*client).read(&mut [0]).is_err(), "still open");
        }
        drop((socket, place));
        assert!(admitted.await.unwrap());
    }

    #[tokio::test]
    async fn where_none_is_idle_one_makes_room_that_moves_too_little() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connections = Connections::new(9, None, 1, watch::channel(false).1);
        let [a, b] = [1, 2].map(|number| Client::V4([192, 0, 2, number]));
        let mut open = Vec::new();
        for from in [a, b, b] {
            let (mut client, socket, place) = open_one(&connections, &listener, 0, from).await;
            client.write_all(b"GET / ").unwrap();
            assert!(socket.receive().await.unwrap());
            open.push((client, socket, place));
        }
        let began = Instant::now();
        assert_eq!(connections.end_slow(began), None);
        let soon = began + CHANCE / 2;
        assert_eq!(connections.end_slow(soon), None, "not watched for long");
        // The connections of the client that has two go first.
        let later = began + CHANCE;
        let ended = [(); 4].map(|()| connections.end_slow(later));
        assert_eq!(ended, [Some(b), Some(b), Some(a), None]);
        let (_client, socket, _place) = open.remove(0);
        assert!(socket.receive_request().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_that_sleeps_is_found_long_before_the_next_look_where_another_client_asks()
    {
        const INSTANCES: usize = 2;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connections = Connections::new(9, None, 1, watch::channel(false).1);
        let terms = terms(INSTANCES);
        let [a, b] = [1, 2].map(|number| Client::V4([192, 0, 2, number]));
        let patience = Duration::from_secs(2);
        let mut sleeping = Vec::new();
        for _ in 0..INSTANCES {
            let opened = open_with(terms.clone(), &connections, &listener, 0, a);
            let (mut client, socket, place) = opened.await;
            client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
            assert_eq!(socket.receive_request().await.unwrap(), Arrived::Whole);
            let permit = terms.instances.take(a, patience).await.unwrap();
            sleeping.push(tokio::spawn(async move {
                socket.note_instance();
                let _client_and_place = (client, place);
                let call = async move {
                    let _permit = permit;
                    pending::<()>().await;
                };
                let called = socket.watch(call).await;
                socket.release_instance();
                called
            }));
        }
        let asked = time::Instant::now();
        assert!(terms.instances.take(b, patience).await.is_ok());
        assert!(asked.elapsed() < PERIOD / 10, "{:?}", asked.elapsed());
        let is_over = |call: &JoinHandle<_>| call.is_finished();
        assert_eq!(sleeping.iter().filter(|call| is_over(call)).count(), 1);
        let over = sleeping.into_iter().find(is_over).expect("one");
        assert_eq!(over.await.unwrap(), Err(Abandoned::Overtaken));
    }

    #[tokio::test]
    async fn a_client_has_no_more_than_one_may_have() {
        let connections = Connections::new(10, Some(2), 1, watch::channel(false).1);
        let [a, b] = [1, 2].map(|number| Client::V4([192, 0, 2, number]));
        let one = connections.admit(0, a).await.expect("a place");
        let _two = connections.admit(0, a).await.expect("a place");
        assert_eq!(connections.admit(0, a).await.err(), Some(TooMany));
        assert!(connections.admit(0, b).await.is_ok());
        drop(one);
        assert!(connections.admit(0, a).await.is_ok());
        drop(_two);
        assert!(lock(&connections.clients).is_empty());
    }
}
