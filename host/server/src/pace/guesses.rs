//! Guesses of passwords: who has to wait before one is looked at, as the last ones were wrong. An instance lives
//! for a burst of requests, so that it is the host that remembers.
//!
//! 1. A request with credentials takes its turn ([`Guesses::turn`]) before it has an instance. A client that has
//!    sent a right password lately needs none.
//! 2. Any other has one turn at a time, so that many connections do not make many guesses at once; the next comes
//!    when the password of this one is judged, or [`TURN`] is over.
//! 3. The sandbox looks at the password, and ends its call if it is wrong ([`Guesses::note`]).
//! 4. A client that has sent more than [`FREE`] wrong ones waits, twice as long each time. Meanwhile no password of
//!    its is looked at.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use wasmtime::component::{ComponentType, Lift};

use crate::lock::lock;
use crate::pace::client::Client;

/// Wrong passwords of a client that cost it nothing: people mistype.
const FREE: u32 = 5;
/// The wait behind the first wrong password that costs something.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait. A hundred guesses a day lead nowhere, and who has mistyped does not give up.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// The time after which a client is forgotten from which nothing comes.
const MEMORY: Duration = Duration::from_secs(24 * 60 * 60);
/// Clients that are remembered, in some hundred bytes each. One more takes the place of the one that has been free
/// to go on for longest.
const MAX_CLIENTS: usize = 4096;
/// The longest turn: a hash takes less, and a request with a right password may take any time.
const TURN: Duration = Duration::from_secs(1);
/// The longest wait for a turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// The passwords of all clients of a sandbox.
#[derive(Debug, Default)]
pub(crate) struct Guesses {
    clients: Mutex<Clients>,
    /// The bell of each client of which requests wait for their turn.
    waiting: Mutex<HashMap<Client, Arc<Notify>>>,
}

/// The passwords of a request that are looked at.
#[derive(Debug)]
pub(crate) enum Turn<'g> {
    /// All passwords are looked at, as one was right lately.
    Proved,
    /// No password has come.
    NoPassword,
    /// One password is looked at, within this turn.
    Guess(#[allow(dead_code, reason = "ends when it is dropped")] Ends<'g>),
    /// No password is looked at for so many seconds.
    Wait(u32),
}

impl Guesses {
    /// Waits for the turn of a request of `client`; `has_credentials` says whether credentials come with it.
    pub(crate) async fn turn(&self, client: Client, has_credentials: bool) -> Turn<'_> {
        match self.ask(client, has_credentials) {
            Ok(turn) => turn,
            Err(_) => Box::pin(self.wait(client, has_credentials)).await,
        }
    }

    async fn wait(&self, client: Client, has_credentials: bool) -> Turn<'_> {
        let due = Instant::now() + PATIENCE;
        let waiting = Waiting::new(self, client);
        loop {
            // The wait begins before the look, so that no change is missed.
            let changed = pin!(waiting.bell.notified());
            let over = match self.ask(client, has_credentials) {
                Ok(turn) => return turn,
                Err(over) => over,
            };
            if Instant::now() >= due {
                // The bell may have been for this request, which gives up.
                waiting.bell.notify_one();
                return Turn::Wait(seconds(Duration::ZERO));
            }
            let _ = timeout_at(over.min(due), changed).await;
        }
    }

    /// Returns the turn of a request of `client`.
    ///
    /// # Errors
    /// The time at which the turn of another request of the client is over at the latest.
    fn ask(&self, client: Client, has_credentials: bool) -> Result<Turn<'_>, Instant> {
        let asked = lock(&self.clients).ask(client, has_credentials, Instant::now());
        Ok(match asked {
            Asked::Proved => Turn::Proved,
            Asked::NoPassword => Turn::NoPassword,
            Asked::Wait(time) => Turn::Wait(seconds(time)),
            Asked::Guess(number) => Turn::Guess(Ends {
                guesses: self,
                client,
                number,
            }),
            Asked::Busy(over) => return Err(over),
        })
    }

    /// Remembers the judgement of a `password` of `client`.
    pub(crate) fn note(&self, client: Client, password: Password) {
        if password != Password::None {
            lock(&self.clients).note(client, password, Instant::now());
            // All of the client may go on now, or have to wait.
            if let Some(bell) = lock(&self.waiting).get(&client) {
                bell.notify_waiters();
            }
        }
    }
}

/// A request that waits for its turn.
struct Waiting<'g> {
    guesses: &'g Guesses,
    client: Client,
    bell: Arc<Notify>,
}

impl<'g> Waiting<'g> {
    fn new(guesses: &'g Guesses, client: Client) -> Self {
        let bell = lock(&guesses.waiting).entry(client).or_default().clone();
        Waiting {
            guesses,
            client,
            bell,
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = lock(&self.guesses.waiting);
        // One is the map's, and one this request's.
        if Arc::strong_count(&self.bell) <= 2 {
            waiting.remove(&self.client);
        }
    }
}

/// Returns `time` in whole seconds, one at least.
fn seconds(time: Duration) -> u32 {
    let begun = u64::from(time.subsec_nanos() > 0);
    let seconds = time.as_secs().saturating_add(begun);
    u32::try_from(seconds).unwrap_or(u32::MAX).max(1)
}

/// Returns how long a client waits that has sent so many wrong passwords.
fn wait(wrong: u32) -> Duration {
    match wrong.checked_sub(FREE + 1) {
        None => Duration::ZERO,
        Some(doubled) => FIRST
            .saturating_mul(1_u32.checked_shl(doubled).unwrap_or(u32::MAX))
            .min(LONGEST),
    }
}

/// A turn of a client, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Ends<'g> {
    guesses: &'g Guesses,
    client: Client,
    number: u64,
}

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        lock(&self.guesses.clients).end(self.client, self.number);
        // The turn is for one, however many wait for it.
        if let Some(bell) = lock(&self.guesses.waiting).get(&self.client) {
            bell.notify_one();
        }
    }
}

#[derive(Debug, Default)]
struct Clients {
    known: HashMap<Client, Known>,
    /// Turns that there have been.
    turns: u64,
}

/// A client, as far as it is remembered.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// Wrong passwords since the last right one.
    wrong: u32,
    /// The time before which no password is looked at.
    until: Instant,
    /// The last password was right.
    is_proved: bool,
    /// The turn that the client has, by its number, and the time when that is over.
    turn: Option<(u64, Instant)>,
}

/// The answer to a request that asks for a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Proved,
    NoPassword,
    /// The request has the turn of this number.
    Guess(u64),
    /// No password is looked at for so long.
    Wait(Duration),
    /// Another request of the client has its turn, at most until then.
    Busy(Instant),
}

impl Clients {
    fn ask(&mut self, client: Client, has_credentials: bool, now: Instant) -> Asked {
        let known = self.get(client, now);
        let over = known.and_then(|known| known.turn).map(|(_, over)| over);
        match known {
            Some(known) if known.is_proved => return Asked::Proved,
            Some(known) if now < known.until => return Asked::Wait(known.until - now),
            _ if !has_credentials => return Asked::NoPassword,
            _ => {}
        }
        if let Some(over) = over.filter(|&over| now < over) {
            return Asked::Busy(over);
        }
        self.turns += 1;
        let turn = (self.turns, now + TURN);
        self.get_or_add(client, now).turn = Some(turn);
        Asked::Guess(self.turns)
    }

    fn note(&mut self, client: Client, password: Password, now: Instant) {
        let known = self.get_or_add(client, now);
        known.is_proved = password == Password::Right;
        known.wrong = match password {
            Password::Wrong => known.wrong.saturating_add(1),
            Password::Right | Password::None => 0,
        };
        known.until = now + wait(known.wrong);
    }

    fn end(&mut self, client: Client, number: u64) {
        let Some(known) = self.known.get_mut(&client) else {
            return;
        };
        if known.turn.is_some_and(|(other, _)| other == number) {
            known.turn = None;
        }
        if known.turn.is_none() && known.wrong == 0 && !known.is_proved {
            self.known.remove(&client);
        }
    }

    /// Returns what is known of `client`, unless nothing has come from it for long.
    fn get(&self, client: Client, now: Instant) -> Option<&Known> {
        let known = self.known.get(&client);
        known.filter(|known| now < known.until + MEMORY)
    }

    fn get_or_add(&mut self, client: Client, now: Instant) -> &mut Known {
        let new = Known {
            wrong: 0,
            until: now,
            is_proved: false,
            turn: None,
        };
        if self.get(client, now).is_none() {
            self.known.remove(&client);
            if self.known.len() >= MAX_CLIENTS {
                self.forget_one();
            }
        }
        self.known.entry(client).or_insert(new)
    }

    /// Makes room for another client.
    fn forget_one(&mut self) {
        let first = |(_, known): &(&Client, &Known)| (known.turn.is_some(), known.until);
        let first = self.known.iter().min_by_key(first);
        if let Some((&client, _)) = first {
            self.known.remove(&client);
        }
    }
}

/// The judgement of a password that was looked at (`password` of `wit/connection.wit`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code, reason = "made by the component")]
pub(crate) enum Password {
    /// No password was looked at.
    #[component(name = "none")]
    None,
    /// The password is that of a user.
    #[component(name = "right")]
    Right,
    /// The password is nobody's.
    #[component(name = "wrong")]
    Wrong,
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Client = Client::V4([192, 0, 2, 1]);
    const B: Client = Client::V4([192, 0, 2, 2]);

    #[test]
    fn waits_grow_up_to_the_longest() {
        for (wrong, seconds) in [
            (0, 0),
            (FREE, 0),
            (FREE + 1, 1),
            (FREE + 2, 2),
            (FREE + 3, 4),
            (FREE + 10, 512),
            (FREE + 11, 900),
            (FREE + 33, 900),
            (FREE + 40, 900),
            (u32::MAX, 900),
        ] {
            assert_eq!(wait(wrong), Duration::from_secs(seconds), "{wrong}");
        }
        assert_eq!(seconds(Duration::ZERO), 1);
        assert_eq!(seconds(Duration::from_millis(1001)), 2);
        assert_eq!(seconds(Duration::MAX), u32::MAX);
    }

    #[test]
    fn who_guesses_wrong_waits_and_nobody_else() {
        let mut clients = Clients::default();
        let mut now = Instant::now();
        let second = Duration::from_secs(1);
        for _ in 0..FREE {
            assert!(matches!(clients.ask(A, true, now), Asked::Guess(_)));
            clients.note(A, Password::Wrong, now);
            clients.end(A, clients.turns);
        }
        for seconds in [1, 2, 4, 8] {
            assert!(matches!(clients.ask(A, true, now), Asked::Guess(_)));
            clients.note(A, Password::Wrong, now);
            clients.end(A, clients.turns);
            // With or without credentials: others may follow in the same call.
            for has_credentials in [true, false] {
                let asked = clients.ask(A, has_credentials, now);
                assert_eq!(asked, Asked::Wait(seconds * second));
            }
            assert!(matches!(clients.ask(B, true, now), Asked::Guess(_)));
            clients.end(B, clients.turns);
            now += seconds * second;
        }
        assert_eq!(clients.ask(A, false, now), Asked::NoPassword);
        clients.note(A, Password::Right, now);
        assert_eq!(clients.ask(A, true, now), Asked::Proved);
        // The count begins anew.
        clients.note(A, Password::Wrong, now);
        assert!(matches!(clients.ask(A, true, now), Asked::Guess(_)));
        assert_eq!(clients.known.len(), 1);
    }

    #[test]
    fn a_client_has_one_turn_at_a_time() {
        let mut clients = Clients::default();
        let now = Instant::now();
        let over = now + TURN;
        assert_eq!(clients.ask(A, true, now), Asked::Guess(1));
        assert_eq!(clients.ask(A, true, now), Asked::Busy(over));
        assert_eq!(clients.ask(A, false, now), Asked::NoPassword);
        assert_eq!(clients.ask(B, true, now), Asked::Guess(2));
        // One that takes long is not waited for, and its end is not that of the next.
        assert_eq!(clients.ask(A, true, over), Asked::Guess(3));
        clients.end(A, 1);
        assert_eq!(clients.ask(A, true, over), Asked::Busy(over + TURN));
        clients.end(A, 3);
        clients.end(B, 2);
        assert!(clients.known.is_empty(), "nothing is worth remembering");
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let mut clients = Clients::default();
        let now = Instant::now();
        for _ in 0..=FREE {
            clients.note(A, Password::Wrong, now);
        }
        clients.note(B, Password::Right, now);
        let later = now + MEMORY + FIRST;
        assert!(matches!(clients.ask(A, true, later), Asked::Guess(_)));
        assert_eq!(clients.known[&A].wrong, 0);
        assert!(matches!(clients.ask(B, true, later), Asked::Guess(_)));
    }

    #[test]
    fn memory_is_bounded_and_keeps_those_who_wait() {
        let mut clients = Clients::default();
        let now = Instant::now();
        for _ in 0..=FREE {
            clients.note(A, Password::Wrong, now);
        }
        for number in 0..10_000_u32 {
            clients.note(Client::V4(number.to_be_bytes()), Password::Wrong, now);
        }
        assert_eq!(clients.known.len(), MAX_CLIENTS);
        assert!(matches!(clients.ask(A, true, now), Asked::Wait(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn many_at_once_guess_one_after_the_other() {
        let guesses = Arc::<Guesses>::default();
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let guesses = guesses.clone();
                tokio::spawn(async move {
                    let turn = guesses.turn(A, true).await;
                    let is_guess = matches!(turn, Turn::Guess(_));
                    if is_guess {
                        tokio::time::sleep(TURN / 100).await;
                        guesses.note(A, Password::Wrong);
                    }
                    is_guess
                })
            })
            .collect();
        let mut guessed = 0;
        for task in tasks {
            guessed += u32::from(task.await.expect("no panic"));
        }
        assert_eq!(guessed, FREE + 1);
        assert!(lock(&guesses.waiting).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_password_lets_all_go_on_that_wait() {
        let guesses = Arc::<Guesses>::default();
        let turn = guesses.turn(A, true).await;
        let tasks = [(); 10].map(|()| {
            let guesses = guesses.clone();
            tokio::spawn(async move { matches!(guesses.turn(A, true).await, Turn::Proved) })
        });
        tokio::task::yield_now().await;
        guesses.note(A, Password::Right);
        drop(turn);
        for task in tasks {
            assert!(task.await.expect("no panic"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_does_not_come_is_not_waited_for_without_end() {
        let guesses = Arc::<Guesses>::default();
        let began = Instant::now();
        // Each takes as long as it may, and longer.
        let tasks = [(); 30].map(|()| {
            let guesses = guesses.clone();
            tokio::spawn(async move {
                let turn = guesses.turn(A, true).await;
                let has_turn = matches!(turn, Turn::Guess(_));
                if has_turn {
                    tokio::time::sleep(PATIENCE * 2).await;
                }
                (has_turn, turn_seconds(&turn))
            })
        });
        let mut waiting = 0;
        for task in tasks {
            let (has_turn, seconds) = task.await.expect("no panic");
            waiting += u32::from(!has_turn);
            assert_eq!(seconds, u32::from(!has_turn));
        }
        assert!(waiting >= 19, "{waiting}");
        assert!(began.elapsed() < PATIENCE * 4);
    }

    fn turn_seconds(turn: &Turn) -> u32 {
        match turn {
            Turn::Wait(seconds) => *seconds,
            _ => 0,
        }
    }
}
