//! Scripts that are programs of this system: run as what was opened beneath the root, whatever others have given the
//! name to by then, in a process group of their own.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use rustix::fs::{Access, access};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, geteuid, getppid, getrlimit, kill_process, kill_process_group,
    set_parent_process_death_signal, setrlimit,
};
use tokio::process::Child;

use super::name;
use super::open::Opened;
use super::pipe::Ends;
use super::starter::message::Order;
use super::work::Work;
use super::{End, Refusal, end};
use crate::lock::lock;

/// The interpreter of Python scripts that are not executable themselves.
const PYTHON: &str = "python3";

/// The first bytes of a program in ELF.
const ELF: &[u8] = b"\x7fELF";

/// Held while a program starts: it inherits a descriptor that no other may.
static STARTING: Mutex<()> = Mutex::new(());

/// The process groups of the programs that run as children of this process.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Ends every script that is a child of this process at once, as it is about to exit.
pub(crate) fn end_all() {
    for &group in &*lock(&RUNNING) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Resources that each process of a script may have (setrlimit(2)); `None` leaves them as they are.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ScriptLimits {
    /// Bytes of address space.
    pub memory: Option<u64>,
    /// Seconds of computing, after which the system ends the process.
    pub cpu: Option<u64>,
    /// Processes and threads of the user that scripts run as, all together.
    pub processes: Option<u64>,
    /// Bytes of a file that the process writes.
    pub file_size: Option<u64>,
}

impl ScriptLimits {
    fn are_none(&self) -> bool {
        let limits = [self.memory, self.cpu, self.processes, self.file_size];
        limits.iter().all(Option::is_none)
    }

    /// Puts the limits on this process and its children to come.
    fn apply(&self) -> io::Result<()> {
        for (resource, limit, more) in [
            (Resource::As, self.memory, 0),
            // A signal that can be handled first, and a second later the end.
            (Resource::Cpu, self.cpu, 1),
            (Resource::Nproc, self.processes, 0),
            (Resource::Fsize, self.file_size, 0),
        ] {
            let Some(limit) = limit else {
                continue;
            };
            // Whoever started the server may have set a lower one.
            let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
            let new = Rlimit {
                current: Some(limit.min(most)),
                maximum: Some(limit.saturating_add(more).min(most)),
            };
            setrlimit(resource, new)?;
        }
        Ok(())
    }
}

/// Starts the program `file`, which is beneath `root`, as `order` says, with `start`. If it `dies_with` its parent, that is
/// the process of this number, and calls from its only thread.
pub(super) fn start<C>(
    (root, file): (&File, Opened),
    order: &Order,
    ends: Ends,
    limits: &ScriptLimits,
    dies_with: Option<Pid>,
    start: impl Fn(Command) -> io::Result<C>,
) -> Result<C, Refusal> {
    let kind = Kind::of(&file, &order.path)?;
    let name = name::real_path(root, &file);
    let base_name = Path::new(&order.path).file_name().unwrap_or_default();
    let arg0 = name.as_deref().map_or(base_name, Path::as_os_str);
    let start_as = |path: &Path, ends: Ends| {
        let mut command = match kind {
            Kind::Binary | Kind::Text => {
                let mut program = Command::new(path);
                program.arg0(arg0);
                program
            }
            Kind::Python => {
                let mut python = Command::new(PYTHON);
                python.arg("-u").arg(path);
                python
            }
        };
        command
            .args(&order.arguments)
            .env_clear()
            .envs(order.environment.iter().map(|(name, value)| (name, value)))
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .stdin(ends.stdin)
            .stdout(ends.stdout)
            .stderr(ends.stderr)
            .process_group(0);
        if geteuid().is_root() {
            let (user, group) = nobody();
            command.uid(user).gid(group);
        }
        let to_read = (kind == Kind::Python)
            .then(|| CString::new(path.as_os_str().as_bytes()))
            .transpose()?;
        prepare(&mut command, limits, dies_with, to_read);
        start(command)
    };
    // The user that scripts run as may have no way there. Then the descriptor is.
    if let (Kind::Text | Kind::Python, Some(name)) = (kind, &name)
        && let Ok(started) = start_as(name, ends.duplicate()?)
    {
        return Ok(started);
    }
    let started = {
        let _starting = lock(&STARTING);
        fcntl_setfd(file.file(), FdFlags::empty()).map_err(io::Error::from)?;
        let started = start_as(Path::new(&file.path()), ends);
        // No other program may inherit it.
        drop(file);
        started
    };
    started.map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => Refusal::NotExecutable,
        _ => error.into(),
    })
}

/// Has the process of `command` prepared before it runs its program: by the limits, and so that it dies with its parent
/// if it `dies_with` one. One that may not read the file `to_read` does not run.
fn prepare(
    command: &mut Command,
    limits: &ScriptLimits,
    dies_with: Option<Pid>,
    to_read: Option<CString>,
) {
    if dies_with.is_none() && limits.are_none() && to_read.is_none() {
        return;
    }
    let limits = limits.clone();
    let prepare = move || {
        if dies_with.is_some() {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // It may have died before.
            if getppid() != dies_with {
                return Err(Errno::SRCH.into());
            }
        }
        if let Some(path) = &to_read {
            access(&**path, Access::READ_OK)?;
        }
        limits.apply()
    };
    // SAFETY: it makes system calls and does nothing else, neither allocates nor takes a lock.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(prepare)
    };
}

/// Starts a program as a child of this process, where there is no other that could.
pub(super) fn start_here(
    script: (&File, Opened),
    order: &Order,
    ends: Ends,
    limits: &ScriptLimits,
) -> Result<Work, Refusal> {
    let spawn = |command| tokio::process::Command::from(command).spawn();
    let child = start(script, order, ends, limits, None, spawn)?;
    Ok(Box::pin(Process::new(child).wait()))
}

/// The way in which a program is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// By the system, as it is. It is not opened again.
    Binary,
    /// By the interpreter that its first line names, which opens it by the name that it was given.
    Text,
    /// By Python, as Text is.
    Python,
}

impl Kind {
    /// Returns how `file` is run, whose path is `path`. The system is asked only to run what it can: some of its ways to
    /// run a program take everything else for a shell script.
    fn of(file: &Opened, path: &str) -> Result<Kind, Refusal> {
        // A program that cannot be read may be run all the same.
        let start = file.start().unwrap_or(ELF);
        match file.is_executable() {
            true if start.starts_with(b"#!") => Ok(Kind::Text),
            true if start == ELF => Ok(Kind::Binary),
            _ if is_python(path) => Ok(Kind::Python),
            true => Err(io::Error::from(Errno::NOEXEC).into()),
            false => Err(Refusal::NotExecutable),
        }
    }
}

/// Returns whether `path` is a Python script by its name (`is_python`).
fn is_python(path: &str) -> bool {
    let extension = Path::new(path).extension().unwrap_or_default();
    extension.eq_ignore_ascii_case("py") || extension.eq_ignore_ascii_case("pyw")
}

/// Returns the user and the group that a script of root runs as (`nobody_uid`).
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
                // It may have gone to another group.
                let _ = kill_process(group, Signal::KILL);
            }
        }
        if let Some(mut child) = self.child.take() {
            tokio::spawn(async move { child.wait().await });
        }
    }
}
