//! A process that starts scripts for a worker, and does nothing else: it is small, which makes starting cheap,
//! and it goes on when the worker dies, so that no script outlives that.
//!
//! 1. `ask`: the worker hands over a socket for each script, and writes an order to it with the pipes.
//! 2. `message`: what an order may be, and what is answered.
//! 3. Here: the script is opened beneath the root, started, and its end told. A socket that is closed ends it.
//!
//! The worker may have fallen to whoever attacked it. All that is read of it is bounded, nothing waits for it, and
//! a word out of turn ends this process, with all scripts.

mod ask;
pub(super) mod message;

use std::fs::{self, File};
use std::io::{self, IoSliceMut};
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags,
    SocketFlags, SocketType, recv, recvmsg, send, socketpair,
};
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, set_child_subreaper, wait,
};

use super::open;
use super::pipe::Ends;
use super::program::{self, ScriptLimits};
use super::{Refusal, end};
use message::{Answer, LENGTH, MAX_ORDER, Order};

pub use ask::ToStarter;

/// Bytes of the first word to a worker: device and inode of the root, zeros where it was not there.
const HELLO: usize = 16;
/// The word of a worker that orders a script, whose socket comes with the word.
const SCRIPT: u8 = b's';
/// The word of a worker that says that there will be no more scripts.
const FAREWELL: u8 = b'f';
/// Bytes that are read of an order at once.
const PIECE: usize = 64 * 1024;
/// The time that processes have to end that were killed. One that waits for a disk takes longer.
const KILLED: Duration = Duration::from_secs(2);
/// The time between two looks at processes that were killed.
const LOOK: Duration = Duration::from_millis(2);

/// The starter of scripts, which a worker orders them of. Needs a process of its own, with one thread.
#[derive(Debug)]
pub struct ScriptStarter {
    root: Option<File>,
    limits: ScriptLimits,
    max_scripts: usize,
}

/// The starter's end of the socket to its worker.
#[derive(Debug)]
pub struct OfWorker(OwnedFd);

/// Returns the two ends of the socket between a worker and its starter.
///
/// # Errors
/// Descriptors that the system does not give.
pub fn starter_socket() -> io::Result<(ToStarter, OfWorker)> {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    Ok((ToStarter::new(ours), OfWorker(theirs)))
}

impl ScriptStarter {
    /// Makes a starter of scripts beneath `root`, at most `max_scripts` at once, each within `limits`. Finds none where
    /// `root` is not there.
    ///
    /// # Errors
    /// The errors of [`Scripts::new`](super::Scripts::new).
    pub fn new(root: &Path, limits: ScriptLimits, max_scripts: usize) -> io::Result<Self> {
        Ok(ScriptStarter {
            root: open::open_root(root)?,
            limits,
            max_scripts,
        })
    }

    /// Starts scripts for `worker` until that has ended or `keeper` is at its end; both end all that scripts have
    /// started. After a farewell of the worker, what its scripts have left running goes on until it ends by itself.
    /// `child_ended` can be read from when a child of this process has ended.
    ///
    /// # Errors
    /// A worker that speaks out of turn, and a system that cannot keep track of processes.
    pub fn serve(
        self,
        worker: OfWorker,
        keeper: impl AsFd,
        child_ended: impl AsFd,
    ) -> io::Result<()> {
        // A process that a script leaves behind becomes a child of this process, not of the system's first.
        set_child_subreaper(Some(getpid()))?;
        let mut desk = Desk {
            starter: self,
            scripts: Vec::new(),
            killed: Vec::new(),
        };
        let served = desk.serve(worker, keeper.as_fd(), child_ended.as_fd());
        end_children();
        served
    }

    fn hello(&self) -> io::Result<[u8; HELLO]> {
        let mut hello = [0; HELLO];
        let Some(root) = &self.root else {
            return Ok(hello);
        };
        let stat = fstat(root)?;
        hello[..8].copy_from_slice(&stat.st_dev.to_le_bytes());
        hello[8..].copy_from_slice(&stat.st_ino.to_le_bytes());
        Ok(hello)
    }
}

/// Scripts, and the socket of each.
struct Desk {
    starter: ScriptStarter,
    scripts: Vec<Ordered>,
    /// Scripts that nobody wants any more, and that are not reaped.
    killed: Vec<Ordered>,
}

struct Ordered {
    socket: OwnedFd,
    stage: Stage,
}

enum Stage {
    /// The order is coming.
    Coming { bytes: Vec<u8>, ends: Vec<OwnedFd> },
    /// The script runs, in the process group of this number.
    Running(Pid),
}

/// The next step for an order whose socket was heard.
enum Next {
    Stay,
    Forget,
    Kill(Pid),
}

/// Returns the error for a worker that says what none says.
fn out_of_turn() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "its worker spoke out of turn")
}

impl Desk {
    fn serve(
        &mut self,
        worker: OfWorker,
        keeper: impl AsFd,
        child_ended: impl AsFd,
    ) -> io::Result<()> {
        send_now(&worker.0, &self.starter.hello()?)?;
        let mut worker = Some(worker);
        loop {
            let has_children = self.reap();
            if worker.is_none() && !has_children && self.scripts.is_empty() {
                return Ok(());
            }
            let fixed = [Some(keeper.as_fd()), Some(child_ended.as_fd())].into_iter();
            let fixed = fixed.chain([worker.as_ref().map(|worker| worker.0.as_fd())]);
            let sockets = self.scripts.iter().map(|script| script.socket.as_fd());
            let mut watched: Vec<_> = fixed
                .flatten()
                .chain(sockets)
                .map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN))
                .collect();
            match poll(&mut watched, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let heard: Vec<_> = watched
                .iter()
                .map(|watched| !watched.revents().is_empty())
                .collect();
            let (fixed, heard) = heard.split_at(watched.len() - self.scripts.len());
            if fixed[0] {
                return Ok(());
            }
            if fixed[1] {
                // The words mean no more than that.
                let _ = recv(&child_ended, &mut [0; 64], RecvFlags::DONTWAIT);
            }
            self.hear_scripts(heard)?;
            if let Some(OfWorker(socket)) = &worker
                && fixed[2]
            {
                match self.hear_worker(socket)? {
                    Word::None => {}
                    Word::Farewell => worker = None,
                    Word::End => return Ok(()),
                }
            }
        }
    }

    /// Takes note of children that have ended, and tells the ends of scripts. Returns whether there are others.
    fn reap(&mut self) -> bool {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((id, status))) => {
                    let status = ExitStatus::from_raw(status.as_raw());
                    for scripts in [&mut self.scripts, &mut self.killed] {
                        let is_it = |script: &Ordered| script.is_running_as(id);
                        if let Some(at) = scripts.iter().position(is_it) {
                            let script = scripts.swap_remove(at);
                            script.answer(&Answer::Ended(end(status)));
                        }
                    }
                }
                Ok(None) => return true,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    /// Hears the sockets that have something to say.
    fn hear_scripts(&mut self, heard: &[bool]) -> io::Result<()> {
        // From the last on, as one that goes is replaced by the last.
        for at in (0..heard.len()).rev().filter(|&at| heard[at]) {
            match self.scripts[at].hear(&self.starter)? {
                Next::Stay => {}
                Next::Forget => drop(self.scripts.swap_remove(at)),
                Next::Kill(id) => {
                    // It is not reaped, so that the number is its own.
                    let _ = kill_process_group(id, Signal::KILL);
                    // It may have gone to another group.
                    let _ = kill_process(id, Signal::KILL);
                    self.killed.push(self.scripts.swap_remove(at));
                }
            }
        }
        Ok(())
    }

    fn hear_worker(&mut self, socket: &OwnedFd) -> io::Result<Word> {
        let mut word = [0; 2];
        let mut descriptors = Vec::new();
        let length = match receive(socket, &mut word, &mut descriptors) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Word::None),
            // A worker that was killed with something unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(Word::End),
            Err(error) => return Err(error),
        };
        match (&word[..length], descriptors.pop()) {
            ([], None) => Ok(Word::End),
            ([FAREWELL], None) => Ok(Word::Farewell),
            ([SCRIPT], Some(socket)) if descriptors.is_empty() => {
                // A worker asks for no more at once than may run, those included that are not reaped.
                if self.scripts.len() + self.killed.len() < self.starter.max_scripts {
                    self.scripts.push(Ordered {
                        socket,
                        stage: Stage::Coming {
                            bytes: Vec::new(),
                            ends: Vec::new(),
                        },
                    });
                } else {
                    let _ = send_now(&socket, &Answer::Refused(Refusal::Busy).encode());
                }
                Ok(Word::None)
            }
            _ => Err(out_of_turn()),
        }
    }
}

/// A word from a worker.
enum Word {
    /// Nothing that is left to do.
    None,
    Farewell,
    /// The end of the socket: no word will come any more.
    End,
}

impl Ordered {
    /// Hears what the socket of the script has to say: a piece of the order, or the end.
    fn hear(&mut self, starter: &ScriptStarter) -> io::Result<Next> {
        let (bytes, ends) = match &mut self.stage {
            Stage::Coming { bytes, ends } => (bytes, ends),
            &mut Stage::Running(id) => {
                return match receive(&self.socket, &mut [0], &mut Vec::new()) {
                    Ok(length) if length > 0 => Err(out_of_turn()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Next::Stay),
                    _ => Ok(Next::Kill(id)),
                };
            }
        };
        let before = bytes.len();
        bytes.resize(before + PIECE, 0);
        let length = match receive(&self.socket, &mut bytes[before..], ends) {
            Ok(0) => return Ok(Next::Forget),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Ok(Next::Forget);
            }
            Err(error) => return Err(error),
        };
        bytes.truncate(before + length);
        let Some((number, order)) = bytes.split_first_chunk::<LENGTH>() else {
            return Ok(Next::Stay);
        };
        let wanted = usize::try_from(u32::from_le_bytes(*number)).unwrap_or(usize::MAX);
        if wanted > MAX_ORDER || order.len() > wanted {
            return Err(out_of_turn());
        }
        if order.len() < wanted {
            return Ok(Next::Stay);
        }
        let order = Order::decode(order).ok_or_else(out_of_turn)?;
        let ends = <[OwnedFd; 3]>::try_from(mem::take(ends)).map_err(|_| out_of_turn())?;
        let [stdin, stdout, stderr] = ends;
        let ends = Ends {
            stdin,
            stdout,
            stderr,
        };
        Ok(match starter.start(&order, ends) {
            Ok(id) => {
                self.stage = Stage::Running(id);
                self.answer(&Answer::Started);
                Next::Stay
            }
            Err(refusal) => {
                self.answer(&Answer::Refused(refusal));
                Next::Forget
            }
        })
    }

    fn is_running_as(&self, id: Pid) -> bool {
        matches!(self.stage, Stage::Running(own) if own == id)
    }

    fn answer(&self, answer: &Answer) {
        // The worker may not wait for it any more.
        let _ = send_now(&self.socket, &answer.encode());
    }
}

impl ScriptStarter {
    fn start(&self, order: &Order, ends: Ends) -> Result<Pid, Refusal> {
        let root = self.root.as_ref().ok_or(Refusal::NotFound)?;
        let script = (root, open::open(root, &order.path)?);
        let dies_with = Some(getpid());
        let start = |mut command: std::process::Command| command.spawn();
        let child = program::start(script, order, ends, &self.limits, dies_with, start)?;
        let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        id.ok_or_else(|| io::Error::from(Errno::CHILD).into())
    }
}

/// Ends all children of this process, and theirs as they become its own, where it is the one that orphans become
/// children of.
pub fn end_children() {
    let deadline = Instant::now() + KILLED;
    while Instant::now() < deadline {
        for child in children() {
            // Only this process reaps it, so that the number is its own.
            let _ = kill_process(child, Signal::KILL);
        }
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
        thread::sleep(LOOK);
    }
}

/// Returns the children of this process.
fn children() -> Vec<Pid> {
    let parent = getpid().as_raw_pid().to_string();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    ids.filter(|id| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let mut fields = stat
            .rsplit_once(") ")
            .map_or("", |(_, fields)| fields)
            .split(' ');
        fields.nth(1) == Some(&*parent)
    })
    .filter_map(Pid::from_raw)
    .collect()
}

/// Receives what there is, with descriptors that come with it.
///
/// # Errors
/// More descriptors than a script has.
fn receive(
    socket: &OwnedFd,
    bytes: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut control, flags)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    match received.flags.contains(ReturnFlags::CTRUNC) || descriptors.len() > 3 {
        true => Err(out_of_turn()),
        false => Ok(received.bytes),
    }
}

/// Sends all of a few bytes, or none where the other end does not take them now.
fn send_now(socket: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(send(
        socket,
        bytes,
        SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
    )?)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::fs;
    use std::io::{IoSlice, Read, Write, pipe};
    use std::os::fd::BorrowedFd;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;
    use std::thread::JoinHandle;

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, sendmsg};

    use super::*;

    /// A starter, and the socket of its worker, which says what a test wants.
    struct Fallen {
        socket: OwnedFd,
        _keeper: UnixStream,
        starter: JoinHandle<io::Result<()>>,
    }

    impl Fallen {
        fn new(root: &Path) -> Fallen {
            let (ours, theirs) = starter_socket().expect("a socket");
            let socket = rustix::io::dup(ours.socket()).expect("a descriptor");
            let (keeper, of_starter) = UnixStream::pair().expect("a stream");
            let starter = ScriptStarter::new(root, ScriptLimits::default(), 16).expect("a starter");
            let serve = move || {
                // It can be read from at any time: children are looked at all the time.
                starter.serve(theirs, of_starter, File::open("/dev/zero")?)
            };
            let starter = thread::spawn(serve);
            ours.wait_until_ready().expect("ready");
            Fallen {
                socket,
                _keeper: keeper,
                starter,
            }
        }

        fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd]) {
            send_with(&self.socket, bytes, descriptors);
        }

        /// Begins an order. Returns the socket of the script.
        fn begin(&self) -> UnixStream {
            let (ours, theirs) = UnixStream::pair().expect("a stream");
            self.send(&[SCRIPT], &[theirs.as_fd()]);
            ours
        }

        fn ends_out_of_turn(self) -> bool {
            let ended = self.starter.join().expect("no panic");
            ended.is_err_and(|error| error.kind() == io::ErrorKind::InvalidData)
        }
    }

    fn send_with(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(descriptors));
        let bytes = [IoSlice::new(bytes)];
        sendmsg(socket, &bytes, &mut control, SendFlags::NOSIGNAL).expect("sent");
    }

    fn order(path: &str, variable: &str) -> Vec<u8> {
        let order = Order {
            path: path.into(),
            arguments: vec![],
            environment: vec![(variable.into(), OsString::new())],
        };
        order.encode().expect("short")
    }

    /// Sends an order with three descriptors, and returns what is answered.
    fn answer(fallen: &Fallen, path: &str) -> Option<Answer> {
        let mut script = fallen.begin();
        let null = File::open("/dev/null").expect("a file");
        send_with(&script, &order(path, "HTTPS"), &[null.as_fd(); 3]);
        let mut answer = [0; 2];
        script.read_exact(&mut answer).ok()?;
        Answer::decode(&answer).map(|(answer, _)| answer)
    }

    // One test, as all scripts are children of the process, and are ended with each starter.
    #[test]
    fn a_worker_that_has_fallen_starts_nothing_but_scripts_of_the_root() {
        let place = tempfile::tempdir().expect("a directory");
        let root = place.path().join("root");
        fs::create_dir(&root).expect("a directory");
        for name in ["root/script", "outside"] {
            let path = place.path().join(name);
            fs::write(&path, "#!/bin/sh\n").expect("a script");
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
        }
        let fallen = Fallen::new(&root);
        assert_eq!(answer(&fallen, "./script"), Some(Answer::Started));
        for path in [
            "../outside",
            "/bin/sh",
            "../../../../../../../../bin/sh",
            "./../outside",
            "./missing",
            "",
            ".",
        ] {
            let answer = answer(&fallen, path);
            assert!(
                matches!(answer, Some(Answer::Refused(_))),
                "{path}: {answer:?}"
            );
        }
        // It gives up an order in the middle.
        let mut given_up = fallen.begin();
        given_up.write_all(&[1, 2]).expect("sent");
        drop(given_up);
        assert_eq!(answer(&fallen, "./script"), Some(Answer::Started));
        // It begins more orders at once than scripts may run, and goes on with none.
        let begun: Vec<_> = (0..64).map(|_| fallen.begin()).collect();
        let mut refused = [0; 2];
        (&begun[63]).read_exact(&mut refused).expect("an answer");
        let refused = Answer::decode(&refused).map(|(answer, _)| answer);
        assert_eq!(refused, Some(Answer::Refused(Refusal::Busy)));
        drop(begun);
        assert_eq!(answer(&fallen, "./script"), Some(Answer::Started));
        fallen.send(&[FAREWELL], &[]);
        assert!(fallen.starter.join().expect("no panic").is_ok());

        let (reader, _writer) = pipe().expect("a pipe");
        let null = File::open("/dev/null").expect("a file");
        type Attack<'a> = &'a dyn Fn(&Fallen);
        let with = |fallen: &Fallen, bytes: &[u8], count: usize| {
            send_with(fallen.begin(), bytes, &vec![null.as_fd(); count]);
        };
        let attacks: [(&str, Attack); 11] = [
            ("another word", &|fallen| fallen.send(b"x", &[])),
            ("a longer word", &|fallen| {
                fallen.send(b"ss", &[null.as_fd()])
            }),
            ("no socket", &|fallen| fallen.send(&[SCRIPT], &[])),
            ("two sockets", &|fallen| {
                fallen.send(&[SCRIPT], &[null.as_fd(); 2])
            }),
            ("many sockets", &|fallen| {
                fallen.send(&[SCRIPT], &[null.as_fd(); 8])
            }),
            ("a pipe", &|fallen| {
                fallen.send(&[SCRIPT], &[reader.as_fd(), null.as_fd()])
            }),
            ("no stdio", &|fallen| {
                with(fallen, &order("./script", "HTTPS"), 0)
            }),
            ("much stdio", &|fallen| {
                with(fallen, &order("./script", "HTTPS"), 4)
            }),
            ("a long order", &|fallen| with(fallen, &[0xff; 8], 3)),
            ("no order", &|fallen| with(fallen, &[1, 0, 0, 0, 7], 3)),
            ("a loader", &|fallen| {
                with(fallen, &order("./script", "LD_PRELOAD"), 3)
            }),
        ];
        for (name, attack) in attacks {
            let fallen = Fallen::new(&root);
            attack(&fallen);
            assert!(fallen.ends_out_of_turn(), "{name}");
        }
    }
}
