//! Requests that follow each other so closely that one call of the sandbox serves them all.

use std::sync::Arc;

use tokio::sync::watch;

use crate::cohort;
use crate::idle::Idle;
use crate::instances::Instances;
use crate::socket::{Arrived, Progress, Socket};

/// What lets an instance wait.
pub(crate) struct Burst {
    stopping: watch::Receiver<bool>,
    idle: Idle,
}

impl Burst {
    /// Ends when others ask for `instances`, or when `stopping` turns true. It waits longer where the
    /// client `comes_back` [soon](crate::idle::SOON).
    pub(crate) fn new(
        instances: Arc<Instances>,
        comes_back: bool,
        mut stopping: watch::Receiver<bool>,
    ) -> Self {
        // From here on a look at whether it has changed is enough, which takes no lock that cores share.
        if *stopping.borrow() {
            stopping.mark_changed();
        }
        Burst {
            stopping,
            idle: Idle::new(instances, comes_back),
        }
    }

    /// Sends what was written, and waits for the whole head of a request: false if the instance should
    /// rather go. What ails the connection, or a head that will not be whole, shows when it is used next.
    pub(crate) async fn goes_on(&mut self, socket: &Socket) -> bool {
        if socket.has_unsent() {
            cohort::keep_step().await;
        }
        // A slow client holds a connection, not a sandbox.
        if !matches!(socket.send_now(), Ok(Progress::Done)) {
            return false;
        }
        if self.idle.gives_up() || self.is_stopping() {
            return false;
        }
        let received = self.idle.wait(socket.receive_request());
        matches!(received.await, Some(Ok(Arrived::Whole)))
    }

    fn is_stopping(&self) -> bool {
        !matches!(self.stopping.has_changed(), Ok(false))
    }
}
