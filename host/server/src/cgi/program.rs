//! Scripts that are programs of this system: run as what was opened beneath the root, whatever has the
//! name by then, in a process group of their own.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::Mutex;

use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, geteuid, kill_process_group};
use tokio::process::Child;

use super::open::Opened;
use super::pipe::{Pipes, pipes};
use super::script::Work;
use super::{End, Refusal};
use crate::lock::lock;

/// What runs Python scripts that are not executable themselves.
const PYTHON: &str = "python3";

/// What programs begin with.
const ELF: &[u8] = b"\x7fELF";

/// Held while a program starts: it inherits a descriptor that no other may.
static STARTING: Mutex<()> = Mutex::new(());

/// The process groups of the programs that run.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Ends every script of this process at once, as it is about to exit.
pub fn end_all() {
    for &group in &*lock(&RUNNING) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Starts the program `file`, which is at `path`.
pub(super) fn start(
    file: Opened,
    path: &str,
    arguments: &[String],
    environment: &[(String, String)],
) -> Result<(Work, Pipes), Refusal> {
    let interpreter = match file.is_executable() && is_program(&file) {
        true => None,
        false if is_python(path) => Some(PYTHON),
        false if file.is_executable() => return Err(io::Error::from(Errno::NOEXEC).into()),
        false => return Err(Refusal::NotExecutable),
    };
    let (pipes, ends) = pipes()?;
    let prepare = |mut command: Command| -> io::Result<Command> {
        command
            .args(arguments)
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .stdin(ends.stdin.try_clone()?)
            .stdout(ends.stdout.try_clone()?)
            .stderr(ends.stderr.try_clone()?)
            .process_group(0);
        if geteuid().is_root() {
            let (user, group) = nobody();
            command.uid(user).gid(group);
        }
        Ok(command)
    };
    let itself = file.path();
    let child = {
        let _starting = lock(&STARTING);
        fcntl_setfd(file.file(), FdFlags::empty()).map_err(io::Error::from)?;
        let command = match interpreter {
            None => {
                let mut program = Command::new(&itself);
                program.arg0(path.rsplit('/').next().unwrap_or_default());
                program
            }
            Some(interpreter) => {
                let mut python = Command::new(interpreter);
                python.arg("-u").arg(&itself);
                python
            }
        };
        let started = spawn(prepare(command)?);
        // No other program may inherit it.
        drop(file);
        started
    };
    let process = match child {
        Ok(child) => Process::new(child),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return Err(Refusal::NotExecutable);
        }
        Err(error) => return Err(error.into()),
    };
    Ok((Box::pin(process.wait()), pipes))
}

fn spawn(command: Command) -> io::Result<Child> {
    tokio::process::Command::from(command).spawn()
}

/// Whether the system can run `file`. It is asked only if so: some of its ways to run a program take
/// everything else for a shell script.
fn is_program(file: &Opened) -> bool {
    // What cannot be read may be run all the same.
    let start = file.start().unwrap_or_else(|_| ELF.to_vec());
    start.starts_with(b"#!") || start == ELF
}

/// Whether `path` is a Python script by its name (`is_python`).
fn is_python(path: &str) -> bool {
    let extension = Path::new(path).extension().unwrap_or_default();
    extension.eq_ignore_ascii_case("py") || extension.eq_ignore_ascii_case("pyw")
}

/// The user and the group that a script of root runs as (`nobody_uid`).
fn nobody() -> (u32, u32) {
    const USUAL: (u32, u32) = (65534, 65534);
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut fields = users.lines().map(|line| line.split(':'));
    fields
        .find_map(|mut fields| {
            let name = fields.next()?;
            let numbers = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            (name == "nobody").then_some(numbers)
        })
        .unwrap_or(USUAL)
}

/// A program that runs. Dropping it ends it, with all that it has started.
struct Process {
    /// `None` when it has ended.
    child: Option<Child>,
    group: Option<Pid>,
}

impl Process {
    fn new(child: Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let group = id.and_then(Pid::from_raw);
        lock(&RUNNING).extend(group);
        Process {
            child: Some(child),
            group,
        }
    }

    async fn wait(mut self) -> End {
        let Some(child) = &mut self.child else {
            return End::Abandoned;
        };
        let status = child.wait().await;
        self.child = None;
        status.map_or(End::Abandoned, end)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            lock(&RUNNING).retain(|&running| running != group);
            // Only while its first process is not reaped is the number surely its own.
            if self.child.is_some() {
                let _ = kill_process_group(group, Signal::KILL);
            }
        }
        if let Some(mut child) = self.child.take() {
            tokio::spawn(async move { child.wait().await });
        }
    }
}

fn end(status: ExitStatus) -> End {
    let number = |number: Option<i32>| number.and_then(|number| u8::try_from(number).ok());
    match number(status.code()) {
        Some(code) => End::Exited(code),
        None => End::Signalled(number(status.signal()).unwrap_or_default()),
    }
}
