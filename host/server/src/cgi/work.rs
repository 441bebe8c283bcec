//! A script at work, as those see it who wait for it or move its bytes: when it was last heard of, and how it ends.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::End;

/// A handle that tells the end of a script.
#[derive(Clone)]
pub(crate) struct Ended(pub(super) watch::Receiver<Option<End>>);

impl Ended {
    /// Returns whether the script has ended.
    pub(super) fn is_told(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Waits until the script has ended, and returns how.
    pub(super) async fn wait(mut self) -> End {
        match self.0.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or(End::Abandoned),
            Err(_) => End::Abandoned,
        }
    }
}

/// The moment at which bytes were moved last between a script and its caller, and whether the caller waits for more.
pub(super) struct Activity {
    began: Instant,
    /// Milliseconds from then to the last bytes.
    last: AtomicU64,
    /// The client has all of the answer.
    pub(super) is_answered: AtomicBool,
}

impl Activity {
    pub(super) fn new() -> Self {
        Activity {
            began: Instant::now(),
            last: AtomicU64::new(0),
            is_answered: AtomicBool::new(false),
        }
    }

    /// Notes that bytes are moved now.
    pub(super) fn note(&self) {
        let since = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(since, Ordering::Relaxed);
    }

    /// Returns the moment at which bytes were moved last.
    pub(super) fn last(&self) -> Instant {
        self.began + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }
}

/// A script at work: how it ends. Dropping it ends the script.
pub(super) type Work = Pin<Box<dyn Future<Output = End> + Send>>;
