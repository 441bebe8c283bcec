//! Requests that follow each other so closely that one call of the sandbox serves them all.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use crate::patience::Patience;
use crate::socket::{Progress, Socket};

/// How long an instance waits for the next request of its connection, and at most twice that. Much
/// longer, and clients that come and stay idle would cost memory.
const KEEP_INSTANCE: Duration = Duration::from_millis(10);

/// What lets an instance wait.
pub(crate) struct Burst {
    instances: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
    patience: Patience,
}

impl Burst {
    /// Ends when others wait for `instances`, or when `stopping` turns true.
    pub(crate) fn new(instances: Arc<Semaphore>, stopping: watch::Receiver<bool>) -> Self {
        Burst {
            instances,
            stopping,
            patience: Patience::default(),
        }
    }

    /// Sends what was written, and waits for a request: false if the instance should rather go. What
    /// ails the connection shows when it is used next.
    pub(crate) async fn goes_on(&mut self, socket: &Socket) -> bool {
        // A slow client holds a connection, not a sandbox.
        if !matches!(socket.send_now(), Ok(Progress::Done)) {
            return false;
        }
        if self.instances.available_permits() == 0 || *self.stopping.borrow() {
            return false;
        }
        let received = self.patience.wait(KEEP_INSTANCE, socket.receive_request());
        matches!(received.await, Some(Ok(true)))
    }
}
