//! A file system that answers when it is told to: the other end of `/dev/fuse`, as far as a server of files
//! asks. It is one directory, whose files are named after what they do not do.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// Time that a test waits for something to be asked.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The largest request that may come: a write, and what is before it.
const MAX_REQUEST: usize = 256 * 1024;
/// The node of the directory.
const ROOT: u64 = 1;

/// `ENOENT` and `ENOSYS`.
const NOT_FOUND: i32 = 2;
const NOT_KNOWN: i32 = 38;

/// A mounted file system.
#[derive(Debug)]
pub(crate) struct Fuse {
    path: PathBuf,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    device: File,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    nodes: BTreeMap<u64, Node>,
    /// Names of operations that are not answered, for all files.
    stalled: Vec<&'static str>,
    /// Nothing is kept waiting any more.
    released: bool,
    held: Vec<Vec<u8>>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    name: String,
    content: Vec<u8>,
}

impl Fuse {
    /// Mounts a file system at `path` with files of the names `names`. The content of each is [`content`]. A
    /// file whose name begins with `stalls-` and the name of an operation does not answer that one: `lookup`,
    /// `open`, `read`.
    ///
    /// # Errors
    /// A system that has no FUSE, or where mounting takes another user.
    pub(crate) fn mount(path: &Path, names: &[String]) -> Result<Fuse, String> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
        let device = device.map_err(|error| format!("/dev/fuse: {error}"))?;
        let stdin = device.try_clone().map_err(|error| error.to_string())?;
        let mounted = Command::new("mount")
            .args(["-i", "-t", "fuse", "-o"])
            .arg("fd=0,rootmode=40000,user_id=0,group_id=0,allow_other")
            .arg("stalled")
            .arg(path)
            .stdin(Stdio::from(stdin))
            .output()
            .map_err(|error| format!("mount: {error}"))?;
        if !mounted.status.success() {
            return Err(String::from_utf8_lossy(&mounted.stderr).into_owned());
        }
        let mut state = State::default();
        for (number, name) in (ROOT + 1..).zip(names) {
            let (name, content) = (name.clone(), content(name));
            state.nodes.insert(number, Node { name, content });
        }
        let shared = Arc::new(Shared {
            device,
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let serving = shared.clone();
        thread::spawn(move || serving.serve());
        Ok(Fuse {
            path: path.into(),
            shared,
        })
    }

    /// Stops answering `operation`, whatever the file.
    pub(crate) fn stall(&self, operation: &'static str) {
        self.shared.lock().stalled.push(operation);
    }

    /// Waits until `count` requests wait for an answer.
    pub(crate) fn wait_for_held(&self, count: usize) {
        let state = self.shared.lock();
        let few = |state: &mut State| state.held.len() < count;
        let waited = self.shared.changed.wait_timeout_while(state, TIMEOUT, few);
        let (state, result) = waited.expect("no panic");
        let held = state.held.len();
        drop(state);
        assert!(!result.timed_out(), "{held} of {count} requests have come");
    }

    /// Answers everything, now and from now on.
    pub(crate) fn release(&self) {
        let mut state = self.shared.lock();
        state.released = true;
        for request in std::mem::take(&mut state.held) {
            self.shared.answer(&mut state, &request);
        }
    }

    /// Returns the content of the file `name`.
    pub(crate) fn read(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.shared.lock();
        let node = state.nodes.values().find(|node| node.name == name)?;
        Some(node.content.clone())
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        self.release();
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

/// Returns the content of the file `name`: more than is read at once where its name ends in `large`.
pub(crate) fn content(name: &str) -> Vec<u8> {
    let line = format!("{name}\n");
    line.repeat(if name.ends_with("large") { 20_000 } else { 1 })
        .into_bytes()
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    fn serve(&self) {
        let mut buffer = vec![0; MAX_REQUEST];
        loop {
            match (&self.device).read(&mut buffer) {
                Ok(length) => self.take(buffer[..length].to_vec()),
                // A request that was given up meanwhile, or a signal.
                Err(error) if matches!(error.raw_os_error(), Some(2 | 4)) => {}
                // It is mounted no more.
                Err(_) => return,
            }
        }
    }

    fn take(&self, request: Vec<u8>) {
        let mut state = self.lock();
        match state.stalls(&request) {
            true => {
                state.held.push(request);
                self.changed.notify_all();
            }
            false => self.answer(&mut state, &request),
        }
    }

    fn answer(&self, state: &mut State, request: &[u8]) {
        let Some(answer) = state.answer(request) else {
            return;
        };
        let (error, data) = match answer {
            Ok(data) => (0, data),
            Err(error) => (-error, Vec::new()),
        };
        let mut message = Vec::new();
        message.extend_from_slice(&(16 + data.len() as u32).to_ne_bytes());
        message.extend_from_slice(&error.to_ne_bytes());
        message.extend_from_slice(&request[8..16]);
        message.extend_from_slice(&data);
        // Nobody may wait for it any more.
        let _: io::Result<usize> = (&self.device).write(&message);
    }
}

/// An operation by its number in `linux/fuse.h`.
fn operation(request: &[u8]) -> &'static str {
    match u32_at(request, 4) {
        1 => "lookup",
        2 | 42 => "forget",
        3 => "getattr",
        4 => "setattr",
        10 => "unlink",
        12 => "rename",
        13 => "link",
        14 => "open",
        15 => "read",
        16 => "write",
        17 => "statfs",
        18 | 29 => "release",
        25 => "flush",
        26 => "init",
        27 => "opendir",
        28 => "readdir",
        35 => "create",
        36 => "interrupt",
        45 => "rename2",
        _ => "unknown",
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Returns the name at the start of `bytes`, and what follows it.
fn name_in(bytes: &[u8]) -> (String, &[u8]) {
    let end = bytes.iter().position(|&byte| byte == 0);
    let end = end.unwrap_or(bytes.len());
    let name = String::from_utf8_lossy(&bytes[..end]).into_owned();
    (name, bytes.get(end + 1..).unwrap_or_default())
}

impl State {
    fn stalls(&self, request: &[u8]) -> bool {
        let operation = operation(request);
        let name = match operation {
            "lookup" => name_in(&request[40..]).0,
            _ => self.name(u64_at(request, 16)),
        };
        let stalls = name.starts_with(&format!("stalls-{operation}"));
        !self.released && (stalls || self.stalled.contains(&operation))
    }

    fn name(&self, node: u64) -> String {
        self.nodes
            .get(&node)
            .map_or(String::new(), |node| node.name.clone())
    }

    fn number(&self, name: &str) -> Option<u64> {
        let mut nodes = self.nodes.iter();
        nodes
            .find(|(_, node)| node.name == name)
            .map(|(&number, _)| number)
    }

    /// Returns the answer, or the number of an error; `None` for what has no answer.
    fn answer(&mut self, request: &[u8]) -> Option<Result<Vec<u8>, i32>> {
        let (number, body) = (u64_at(request, 16), &request[40..]);
        Some(match operation(request) {
            "forget" | "interrupt" => return None,
            "init" => Ok([
                &7_u32.to_ne_bytes()[..],
                &31_u32.to_ne_bytes(),
                &(128 * 1024_u32).to_ne_bytes(),
                // Flags: lookups do not wait for each other. Requests in the background.
                &(1_u32 << 18).to_ne_bytes(),
                &0_u32.to_ne_bytes(),
                &(128 * 1024_u32).to_ne_bytes(),
                &1_u32.to_ne_bytes(),
                &[0; 36],
            ]
            .concat()),
            "lookup" => match self.number(&name_in(body).0) {
                Some(found) => Ok(self.entry(found)),
                None => Err(NOT_FOUND),
            },
            "getattr" | "setattr" => Ok([&[0; 16][..], &self.attributes(number)].concat()),
            "open" | "opendir" => Ok(vec![0; 16]),
            "statfs" => Ok(vec![0; 80]),
            "read" => {
                let node = self.nodes.get(&number);
                let content = node.map_or(&[][..], |node| &node.content);
                let start = content.len().min(u64_at(body, 8) as usize);
                let end = content.len().min(start + u32_at(body, 16) as usize);
                Ok(content[start..end].to_vec())
            }
            "readdir" => Ok(self.entries(u64_at(body, 8))),
            "create" => {
                let (name, _) = name_in(&body[16..]);
                let created = self.nodes.keys().max().copied().unwrap_or(ROOT) + 1;
                let content = Vec::new();
                self.nodes.insert(created, Node { name, content });
                Ok([&self.entry(created)[..], &[0; 16]].concat())
            }
            "write" => {
                let (start, size) = (u64_at(body, 8) as usize, u32_at(body, 16));
                let written = &body[40..40 + size as usize];
                if let Some(node) = self.nodes.get_mut(&number) {
                    let end = node.content.len().max(start + written.len());
                    node.content.resize(end, 0);
                    node.content[start..start + written.len()].copy_from_slice(written);
                }
                Ok([size, 0].map(u32::to_ne_bytes).concat())
            }
            "rename" | "rename2" => {
                let names = if u32_at(request, 4) == 45 { 16 } else { 8 };
                let (from, rest) = name_in(&body[names..]);
                let to = name_in(rest).0;
                match self.number(&from) {
                    None => Err(NOT_FOUND),
                    Some(found) => {
                        self.nodes.retain(|_, node| node.name != to);
                        if let Some(node) = self.nodes.get_mut(&found) {
                            node.name = to;
                        }
                        Ok(Vec::new())
                    }
                }
            }
            "unlink" => {
                let (name, _) = name_in(body);
                self.nodes.retain(|_, node| node.name != name);
                Ok(Vec::new())
            }
            "release" | "flush" => Ok(Vec::new()),
            _ => Err(NOT_KNOWN),
        })
    }

    fn entry(&self, number: u64) -> Vec<u8> {
        // No time for which it may be remembered, so that each request asks.
        [
            &number.to_ne_bytes()[..],
            &[0; 32],
            &self.attributes(number),
        ]
        .concat()
    }

    fn attributes(&self, number: u64) -> Vec<u8> {
        let (mode, size) = match self.nodes.get(&number) {
            Some(node) => (0o100_644_u32, node.content.len() as u64),
            None => (0o040_755, 0),
        };
        [
            &number.to_ne_bytes()[..],
            &size.to_ne_bytes(),
            &[0; 8 + 3 * 8 + 3 * 4],
            &mode.to_ne_bytes(),
            &1_u32.to_ne_bytes(),
            &[0; 3 * 4],
            &4096_u32.to_ne_bytes(),
            &[0; 4],
        ]
        .concat()
    }

    fn entries(&self, from: u64) -> Vec<u8> {
        let mut entries = Vec::new();
        let nodes = self.nodes.iter().enumerate();
        for (at, (number, node)) in nodes.skip(from as usize).take(8) {
            entries.extend_from_slice(&number.to_ne_bytes());
            entries.extend_from_slice(&(at as u64 + 1).to_ne_bytes());
            entries.extend_from_slice(&(node.name.len() as u32).to_ne_bytes());
            // A regular file.
            entries.extend_from_slice(&8_u32.to_ne_bytes());
            entries.extend_from_slice(node.name.as_bytes());
            entries.resize(entries.len().next_multiple_of(8), 0);
        }
        entries
    }
}
