//! Requests that follow each other so closely that one call of the sandbox serves them all.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::watch;

use crate::listen::forwarded;
use crate::listen::proxies::TrustedProxies;
use crate::pace::cohort::{self, Step};
use crate::pace::idle::{self, Idle};
use crate::pace::instances::Instances;
use crate::pace::turns;
use crate::transport::socket::{Arrived, Progress, Socket};

/// Connections of a core up to which an instance waits for each that is busy.
const MANY: usize = 64;
/// Instances of a core that wait for a connection each where there are more, and the instances may also go to others of their
/// clients. The one that was used last is used next, and is still in the caches: 500 busy connections take three quarters of
/// the CPU that they take with an instance each. 100 would take an eighth more.
const FEW: usize = 16;

/// Requests that an instance computes, one after the other, where each is there already, before others have their turn.
/// Otherwise a client that sends thousands at once would keep everybody on its core waiting: 100 such clients for two
/// seconds.
const AT_ONCE: u32 = 16;

/// The requests that one call may serve.
pub(crate) enum Burst {
    /// The request that is there.
    One,
    /// Requests that follow closely.
    Many(Wait),
}

/// The means by which an instance waits for the next request.
pub(crate) struct Wait {
    stopping: watch::Receiver<bool>,
    idle: Idle,
    alike: Option<Alike>,
    /// The instance may go to other connections of its client.
    is_shared: bool,
    /// Requests that were there already when the one before was answered, since the client last had to wait its turn.
    at_once: u32,
}

/// The common ground of requests that follow each other in one call.
#[derive(Clone, Debug)]
pub(crate) enum Alike {
    /// All requests come without credentials.
    WithoutCredentials,
    /// A proxy names this client, or none, in each request. They come without credentials if that is said.
    Named {
        proxies: Arc<TrustedProxies>,
        client: Option<IpAddr>,
        without_credentials: bool,
    },
}

impl Alike {
    /// Returns whether the request with this `head` is like those before it in the call.
    fn includes(&self, head: &[u8]) -> bool {
        match self {
            Alike::WithoutCredentials => !forwarded::has_credentials(head),
            Alike::Named {
                proxies,
                client,
                without_credentials,
            } => {
                forwarded::client(head, |address| proxies.has(address)) == *client
                    && !(*without_credentials && forwarded::has_credentials(head))
            }
        }
    }
}

impl Burst {
    /// Makes a burst of many requests. It ends when others ask for `instances`, when `stopping` turns true,
    /// or with a request that is not `alike`. It waits longer where the client `comes_back`
    /// [soon](crate::pace::idle::SOON), and not at all where the instance `is_shared` by connections and many wait.
    pub(crate) fn new(
        instances: Arc<Instances>,
        comes_back: bool,
        mut stopping: watch::Receiver<bool>,
        alike: Option<Alike>,
        is_shared: bool,
    ) -> Self {
        // From here on a look at whether `stopping` has changed is enough, which takes no lock that cores
        // share.
        if *stopping.borrow() {
            stopping.mark_changed();
        }
        Burst::Many(Wait {
            stopping,
            idle: Idle::new(instances, comes_back),
            alike,
            is_shared,
            at_once: 0,
        })
    }

    /// Sends what was written, and waits for the whole head of a request. Returns false if the instance
    /// should rather go. A failure of the connection, or a head that will not be whole, shows when the
    /// connection is used next.
    pub(crate) async fn goes_on(&mut self, socket: &Socket) -> bool {
        match self {
            Burst::One => false,
            Burst::Many(wait) => wait.goes_on(socket).await,
        }
    }
}

impl Wait {
    async fn goes_on(&mut self, socket: &Socket) -> bool {
        if socket.has_unsent() {
            cohort::keep_step(Step::Send).await;
        }
        // A slow client holds a connection, not a sandbox.
        if !matches!(socket.send_now(), Ok(Progress::Done)) {
            return false;
        }
        self.at_once = if socket.finish_request() {
            self.at_once + 1
        } else {
            0
        };
        if self.at_once >= AT_ONCE {
            self.at_once = 0;
            turns::go_on(socket.client()).await;
        }
        // Only now, as others may have come to need an instance meanwhile.
        let goes_to_others =
            self.is_shared && is_one_too_many(idle::instances(), idle::connections());
        if goes_to_others || self.idle.gives_up() || self.is_stopping() {
            return false;
        }
        let received = self.idle.wait(socket.receive_request());
        let goes_on = matches!(received.await, Some(Ok(Arrived::Whole)))
            && self
                .alike
                .as_ref()
                .is_none_or(|alike| socket.look_at_head(|head| alike.includes(head)));
        if goes_on {
            turns::note_following();
        }
        goes_on
    }

    fn is_stopping(&self) -> bool {
        !matches!(self.stopping.has_changed(), Ok(false))
    }
}

/// Returns whether one of the `waiting` instances of a core that has so many `connections` is one too many.
fn is_one_too_many(waiting: usize, connections: usize) -> bool {
    connections > MANY && waiting > FEW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_instances_wait_where_there_are_many_connections() {
        for (waiting, connections, is_too_many) in [
            (0, 1000, false),
            (FEW, 1000, false),
            (FEW + 1, 1000, true),
            (FEW + 1, MANY, false),
            (FEW + 1, MANY + 1, true),
            (MANY, MANY, false),
        ] {
            let found = is_one_too_many(waiting, connections);
            assert_eq!(found, is_too_many, "{waiting} {connections}");
        }
    }
}
