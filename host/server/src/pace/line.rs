//! A line of requests that wait for their turn: each client has its own queue, and clients take turns. A
//! client that asks for little is called soon, however much others ask for.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use crate::lock::lock;
use crate::pace::client::Client;

/// A line of all who wait, by client.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// The client whose turn is next comes first. Nobody is here twice.
    clients: VecDeque<Client>,
    /// The queue of each client, none of which is empty.
    queues: HashMap<Client, VecDeque<Arc<Place>>>,
}

impl Line {
    /// Puts somebody at the end of the queue of `client`.
    pub(crate) fn join(&mut self, client: Client) -> InLine {
        self.forget_left();
        let place = Arc::<Place>::default();
        let queue = self.queues.entry(client).or_insert_with(|| {
            self.clients.push_back(client);
            VecDeque::new()
        });
        queue.push_back(place.clone());
        InLine(place)
    }

    /// Calls the first in the queue of the client whose turn it is. Returns false if nobody waits.
    pub(crate) fn call_next(&mut self) -> bool {
        while let Some(client) = self.clients.pop_front() {
            let Entry::Occupied(mut entry) = self.queues.entry(client) else {
                continue;
            };
            let queue = entry.get_mut();
            let is_called = std::iter::from_fn(|| queue.pop_front()).any(|place| place.call());
            match queue.is_empty() {
                true => drop(entry.remove()),
                false => self.clients.push_back(client),
            }
            if is_called {
                return true;
            }
        }
        false
    }

    /// Forgets places at the front that were left, of more clients than may join meanwhile: where nobody is called
    /// for long, the line is no longer than those who wait.
    fn forget_left(&mut self) {
        for _ in 0..2 {
            let Some(&client) = self.clients.front() else {
                return;
            };
            let queue = self.queues.entry(client).or_default();
            while queue.front().is_some_and(|place| place.is_left()) {
                queue.pop_front();
            }
            if !queue.is_empty() {
                return;
            }
            self.queues.remove(&client);
            self.clients.pop_front();
        }
    }

    /// Returns whether nobody waits, nor has gone without having been called.
    pub(crate) fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }
}

/// The place in a line of somebody who waits. Dropping it leaves the line.
#[derive(Debug)]
pub(crate) struct InLine(Arc<Place>);

#[derive(Debug, Default)]
struct Place(Mutex<Turn>);

#[derive(Debug, Default)]
enum Turn {
    #[default]
    Unknown,
    /// The turn has not come, and who waits hears of it.
    Awaited(Waker),
    Come,
    /// Nobody waits any more.
    Left,
}

impl Place {
    fn is_left(&self) -> bool {
        matches!(*lock(&self.0), Turn::Left)
    }

    /// Notes that the turn has come. Returns false if nobody waits for it.
    fn call(&self) -> bool {
        let mut turn = lock(&self.0);
        match &*turn {
            Turn::Left => return false,
            Turn::Awaited(waker) => waker.wake_by_ref(),
            Turn::Unknown | Turn::Come => {}
        }
        *turn = Turn::Come;
        true
    }
}

impl InLine {
    /// Polls for the turn: ready when it has come.
    pub(crate) fn poll_called(&self, cx: &Context) -> Poll<()> {
        let mut turn = lock(&self.0.0);
        match &mut *turn {
            Turn::Come => return Poll::Ready(()),
            Turn::Awaited(waker) => waker.clone_from(cx.waker()),
            Turn::Unknown | Turn::Left => *turn = Turn::Awaited(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Leaves the line. Returns whether the turn had come before.
    pub(crate) fn leave(&self) -> bool {
        let before = std::mem::replace(&mut *lock(&self.0.0), Turn::Left);
        matches!(before, Turn::Come)
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_called(waiting: &InLine) -> bool {
        waiting
            .poll_called(&Context::from_waker(Waker::noop()))
            .is_ready()
    }

    #[test]
    fn clients_take_turns_and_each_is_served_in_the_order_it_came() {
        let [a, b] = [1, 2].map(|number| Client::V4([192, 0, 2, number]));
        let mut line = Line::default();
        let waiting: Vec<_> = [a, a, a, b, a].map(|client| line.join(client)).into();
        let mut order = Vec::new();
        while line.call_next() {
            let called = (0..waiting.len()).filter(|&index| is_called(&waiting[index]));
            let new: Vec<_> = called.filter(|index| !order.contains(index)).collect();
            order.extend(new);
        }
        assert_eq!(order, [0, 3, 1, 2, 4]);
        assert!(line.is_empty());
    }

    #[test]
    fn who_has_left_is_not_called() {
        let client = Client::V4([192, 0, 2, 1]);
        let mut line = Line::default();
        let (gone, waiting) = (line.join(client), line.join(client));
        assert!(!is_called(&waiting));
        drop(gone);
        assert!(line.call_next());
        assert!(is_called(&waiting));
        assert!(waiting.leave());
        let gone = line.join(client);
        assert!(!gone.leave());
        assert!(!line.call_next());
    }

    #[test]
    fn the_line_is_no_longer_than_those_who_wait_though_nobody_is_called() {
        let mut line = Line::default();
        for number in 0..1000_u32 {
            drop(line.join(Client::V4(number.to_be_bytes())));
        }
        let client = Client::V4([192, 0, 2, 1]);
        for _ in 0..1000 {
            drop(line.join(client));
        }
        assert!(line.clients.len() <= 2, "{}", line.clients.len());
        assert!(line.queues.values().all(|queue| queue.len() <= 2));
        assert_eq!(line.queues.len(), line.clients.len());
    }
}
