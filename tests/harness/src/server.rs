//! A server process on a free port, ended with the test.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// The time that a test waits for something the server should do.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A running server.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// The port that the server listens on.
    pub port: u16,
    /// The first line that the server printed.
    pub banner: String,
    stdout: Lines,
    stderr: Lines,
}

impl Server {
    /// Starts `program` (the test's `CARGO_BIN_EXE_sandserve`) on a free port of 127.0.0.1, serving
    /// `directory`, with more `arguments`.
    pub fn start(program: &str, directory: &Path, arguments: &[&str]) -> Server {
        let mut command = Command::new(program);
        command
            .args(["--bind", "127.0.0.1", "--directory"])
            .arg(directory)
            .args(arguments)
            .arg("0");
        Server::spawn(command)
    }

    /// Starts `command`, and waits for its first line on stdout or stderr that names a port as a URL
    /// does: `http://HOST:PORT/`, or `https`. Settings in the environment of the tests do not count.
    pub fn spawn(mut command: Command) -> Server {
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"SANDSERVE_") {
                command.env_remove(name);
            }
        }
        Server::spawn_as_is(command)
    }

    /// Starts `command` as [`Server::spawn`] does, but with the environment as it is.
    pub fn spawn_as_is(mut command: Command) -> Server {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = Lines::read(child.stdout.take().expect("piped"));
        let stderr = Lines::read(child.stderr.take().expect("piped"));
        let deadline = Instant::now() + TIMEOUT;
        let banner = loop {
            let lines = [stdout.text(), stderr.text()];
            let found = lines
                .iter()
                .flat_map(|text| text.lines())
                .find(|line| port_in(line).is_some());
            if let Some(banner) = found {
                break banner.to_owned();
            }
            let exited = child.try_wait().expect("a child");
            if exited.is_some() || Instant::now() > deadline {
                let _ = child.kill();
                panic!("{command:?} ({exited:?}) did not say where it listens: {lines:?}");
            }
            stderr.wait_for_more(Duration::from_millis(20));
        };
        let port = port_in(&banner).expect("found above");
        Server {
            child,
            port,
            banner,
            stdout,
            stderr,
        }
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the process ids of the server's workers, the oldest first.
    pub fn workers(&self) -> Vec<u32> {
        let mut ids = children(self.id());
        ids.retain(|&id| name(id) != KEEPER);
        ids
    }

    /// Returns the process ids of the processes that keep those which start scripts, the oldest first.
    pub fn keepers(&self) -> Vec<u32> {
        let mut ids = children(self.id());
        ids.retain(|&id| name(id) == KEEPER);
        ids
    }

    /// Returns the process ids of the processes that start scripts, the oldest first.
    pub fn starters(&self) -> Vec<u32> {
        self.keepers().into_iter().flat_map(children).collect()
    }

    /// Returns the process id of the worker that serves, which may be the server itself.
    pub fn worker(&self) -> u32 {
        self.workers().pop().unwrap_or(self.id())
    }

    /// Returns what the server has printed to its stdout.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Returns what the server has logged to its stderr, without [`confinements`](Self::confinements).
    pub fn log(&self) -> String {
        let text = self.stderr.text();
        let lines = text.split_inclusive('\n');
        lines.filter(|line| !is_confinement(line)).collect()
    }

    /// Returns the lines that say what the process which serves has given up.
    pub fn confinements(&self) -> Vec<String> {
        let text = self.stderr.text();
        let lines = text.lines().filter(|line| is_confinement(line));
        lines.map(str::to_owned).collect()
    }

    /// Waits until the log has a line with `text` in it, and returns the line.
    pub fn wait_for_log(&self, text: &str) -> String {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let log = self.log();
            if let Some(line) = log.lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            assert!(Instant::now() < deadline, "no {text:?} in the log:\n{log}");
            self.stderr.wait_for_more(Duration::from_millis(100));
        }
    }

    /// Sends `signal` (a name as `kill -s` takes it).
    pub fn signal(&self, signal: impl AsRef<OsStr>) {
        let status = Command::new("kill")
            .arg("-s")
            .arg(signal)
            .arg(self.id().to_string())
            .status()
            .expect("kill runs");
        assert!(status.success());
    }

    /// Waits until the server has exited and everything it printed has been read.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                self.stdout.wait_for_end();
                self.stderr.wait_for_end();
                return status;
            }
            assert!(Instant::now() < deadline, "still running:\n{}", self.log());
            self.stderr.wait_for_more(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The name of the process that keeps the one which starts scripts.
const KEEPER: &str = "scripts-keeper";

/// Returns the children of the process `id` that are not dead, the oldest first.
fn children(id: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("processes").flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut ids: Vec<_> = ids.filter(|&child| parent(child) == Some(id)).collect();
    ids.sort_unstable();
    ids
}

/// Returns the name of the process `id`, as it was when the name was asked for.
fn name(id: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

/// Returns the process that has started the process `id`, unless the latter is dead.
fn parent(id: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?;
    fields.next()?.parse().ok().filter(|_| state != "Z")
}

fn is_confinement(line: &str) -> bool {
    line.starts_with("sandserve: confined: ") || line.contains("\"message\":\"confined: ")
}

fn port_in(line: &str) -> Option<u16> {
    let (_, url) = line.split_once("://")?;
    let (authority, _) = url.split_once('/')?;
    authority.rsplit_once(':')?.1.parse().ok()
}

/// The output of a process, gathered as it comes.
#[derive(Clone, Debug)]
struct Lines(Arc<(Mutex<Gathered>, Condvar)>);

#[derive(Debug, Default)]
struct Gathered {
    text: String,
    ended: bool,
}

impl Lines {
    fn read(pipe: impl Read + Send + 'static) -> Lines {
        let lines = Lines(Arc::default());
        let writer = lines.clone();
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe
                .read_until(b'\n', &mut line)
                .is_ok_and(|length| length > 0)
            {
                writer.change(|gathered| gathered.text.push_str(&String::from_utf8_lossy(&line)));
                line.clear();
            }
            writer.change(|gathered| gathered.ended = true);
        });
        lines
    }

    fn change(&self, change: impl FnOnce(&mut Gathered)) {
        change(&mut self.0.0.lock().expect("no panic"));
        self.0.1.notify_all();
    }

    fn text(&self) -> String {
        self.0.0.lock().expect("no panic").text.clone()
    }

    fn wait_for_more(&self, at_most: Duration) {
        let gathered = self.0.0.lock().expect("no panic");
        drop(self.0.1.wait_timeout(gathered, at_most).expect("no panic"));
    }

    fn wait_for_end(&self) {
        let gathered = self.0.0.lock().expect("no panic");
        let (gathered, _) = self
            .0
            .1
            .wait_timeout_while(gathered, TIMEOUT, |gathered| !gathered.ended)
            .expect("no panic");
        assert!(gathered.ended, "a pipe of the server is still open");
    }
}
