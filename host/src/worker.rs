//! The process that serves: it opens everything by name, and does as its supervisor says.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fs, io, iter, net};

use agreed::settings;
use rustix::fs::{Access, access};
use rustix::io::Errno;
use sandserve_host::{
    Grant, HttpServer, Load, Sandbox, Scripts, Shutdown, TidyUp, TlsConfig, ToStarter, cgi_server,
    check_file, explain, reason, reopen_log, reserve_descriptors, say,
};
use wasmtime::PoolingAllocationConfig;

use crate::options::{Options, Tls};
use crate::supervisor::{QUIT, READY, RENEW, REOPEN_LOG, RETIRE, STOP};
use crate::{auth_file, confine, https, local_time, one_line};

/// The time between two looks at the name of the root and at the memory of this process.
const LOOK: Duration = Duration::from_millis(500);
/// Memory, in bytes and beyond that of the start, that is worth a new worker once a crowd has gone: the slots of
/// instances keep up to 256 KiB each, 512 MiB in all, and give nothing back.
const MUCH_MEMORY: u64 = 96 * 1024 * 1024;
/// Instances up to which the crowd counts as gone.
const FEW_INSTANCES: usize = 64;
/// Looks that must find so little to do, one after the other.
const CALM_LOOKS: u32 = 6;
/// Looks that must find nobody who is served, one after the other, before directories are let go of.
const IDLE_LOOKS: u32 = 4;
/// Bytes of what the system tells of a process, at most. A user may be in thousands of groups.
const STATUS: usize = 64 * 1024;
/// Openings of a root whose name comes to mean another meanwhile. The supervisor hears of one that goes on.
const MAX_ATTEMPTS: usize = 3;

/// Serves `listeners` until the supervisor behind `stream` ends that, and ends the process then: with status 0, or with 1,
/// having said why. Returns where it cannot even hear the supervisor. `self_signed` is the certificate made for this run,
/// which every generation has; listeners that `are_inherited` go on when the server ends. The `first` worker says what it
/// has given up. Scripts are started by `starter`.
pub(crate) fn work(
    options: &Options,
    self_signed: Option<&TlsConfig>,
    is_first: bool,
    are_inherited: bool,
    stream: UnixStream,
    listeners: Vec<TcpListener>,
    starter: Option<ToStarter>,
) {
    reserve_descriptors();
    let tidy_up = TidyUp::new(starter.clone());
    let starter = starter.as_ref();
    let begun = Inputs::read(options, self_signed).and_then(|inputs| {
        // Engines look for written pages in a file of the process. Who is another user, or confined, opens it no more.
        let _ = PoolingAllocationConfig::is_pagemap_scan_available();
        assume_user(options, is_first)?;
        let (mut directories, memory) = (Directories::new(options), Memory::new());
        let confinement = confine::begin(options);
        directories.are_kept_to = confinement.reads_directories_only();
        Ok((inputs, directories, memory, confinement))
    });
    let course = Arc::<Course>::default();
    let hearing = match hear(&stream, course.clone(), tidy_up) {
        Ok(hearing) => hearing,
        Err(error) => return say(one_line("cannot hear the supervisor")(error)),
    };
    let served = begun.and_then(|(inputs, mut directories, memory, confinement)| {
        let make = move || {
            let server = server(options, &inputs, &listeners, starter)?;
            Ok(match are_inherited {
                true => server.inherited(),
                false => server,
            })
        };
        let root_of_scripts = match starter.map(ToStarter::wait_until_ready).transpose() {
            Ok(root) => root,
            // A system that cannot run scripts is why, and is said better by who finds out here.
            Err(error) => {
                make()?;
                return Err(one_line("cannot run scripts")(error));
            }
        };
        directories.root_of_scripts = root_of_scripts;
        let confine = || {
            let confinement = confinement.finish();
            let is_told = is_first && !options.quiet;
            if let Some(line) = confinement
                .told()
                .filter(|_| is_told || confinement.lacks())
            {
                say(line);
            }
        };
        serve(
            (directories, memory),
            make,
            confine,
            &stream,
            &course.server,
        )
    });
    let _ = course.served.set(served);
    // There is no more to hear: the thread that does ends the process.
    let _ = stream.shutdown(net::Shutdown::Read);
    let _ = hearing.join();
}

/// Becomes the user that `options` name, if they name one.
fn assume_user(options: &Options, is_first: bool) -> Result<(), String> {
    let Some(user) = &options.user else {
        return Ok(());
    };
    user.assume()?;
    if let Some(log) = options.log_file.as_ref().filter(|_| is_first)
        && let Err(error) = access(log, Access::WRITE_OK)
    {
        let (log, reason) = (log.display(), explain(&error.into()));
        say(format_args!(
            "user `{user}` cannot open log `{log}` anew, once it is moved away: {reason}"
        ));
    }
    Ok(())
}

/// The contents of files that the options name, read before this process becomes another user and gives anything up.
struct Inputs {
    tls: Option<TlsConfig>,
    /// The entries of the file of passwords.
    entries: Option<String>,
    /// The bytes of the component that answers in place of the file server.
    handler: Option<Vec<u8>>,
}

impl Inputs {
    /// Reads the files that `options` name. `self_signed` is the certificate that was made for this run.
    ///
    /// # Errors
    /// In one line, the first that cannot be read.
    fn read(options: &Options, self_signed: Option<&TlsConfig>) -> Result<Self, String> {
        let entries = options.auth_file.as_deref().map(auth_file::read);
        let handler = options.handler.as_deref();
        let handler =
            handler.map(|path| fs::read(path).map_err(|error| bad_handler(path, &explain(&error))));
        Ok(Inputs {
            entries: entries.transpose()?,
            handler: handler.transpose()?,
            tls: match &options.tls {
                None => None,
                Some(Tls::SelfSigned) => self_signed.cloned(),
                Some(Tls::Files(files)) => Some(https::load(files).map_err(reason)?),
            },
        })
    }
}

/// The directory that a name means, as device and inode.
type Identity = (u64, u64);

/// The names of directories that are served, the root first, and which directories they mean.
struct Directories {
    names: Vec<PathBuf>,
    meant: Vec<Option<Identity>>,
    /// The root of the process that starts scripts, if there is one: that has none where the root was not there.
    root_of_scripts: Option<Option<Identity>>,
    /// This process may read these directories and no others.
    are_kept_to: bool,
}

impl Directories {
    fn new(options: &Options) -> Self {
        let more = options.dirs.iter().map(|(path, _)| path);
        let names: Vec<_> = iter::once(&options.directory)
            .chain(more)
            .cloned()
            .collect();
        Directories {
            meant: names.iter().map(|name| identity(name)).collect(),
            names,
            root_of_scripts: None,
            are_kept_to: false,
        }
    }

    /// Looks at the names again. Returns whether they mean what they did, or will in vain mean others.
    fn look_again(&mut self) -> bool {
        if self.are_kept_to {
            return true;
        }
        let now = self.now();
        let are_the_same = now == self.meant;
        self.meant = now;
        are_the_same
    }

    /// Returns whether a name means another directory than it did. One that means none any more may come back.
    fn have_moved(&self) -> bool {
        let now = self.now();
        let has_moved = |(now, meant): (&Option<_>, &Option<_>)| now.is_some() && now != meant;
        let root = now.first().copied().flatten();
        let root_of_scripts = self.root_of_scripts.unwrap_or(root);
        now.iter().zip(&self.meant).any(has_moved) || (root.is_some() && root != root_of_scripts)
    }

    fn now(&self) -> Vec<Option<Identity>> {
        self.names.iter().map(|name| identity(name)).collect()
    }
}

fn serve(
    (mut directories, memory): (Directories, Memory),
    make: impl Fn() -> Result<HttpServer, String>,
    confine: impl FnOnce(),
    stream: &UnixStream,
    shutdown: &OnceLock<Shutdown>,
) -> Result<(), String> {
    let mut server = make()?;
    // Which directory was opened is known where its name has meant one all the while.
    for _ in 0..MAX_ATTEMPTS {
        if directories.look_again() {
            break;
        }
        server = make()?;
    }
    // Frees the handler and the passwords that were read for it.
    drop(make);
    let _ = shutdown.set(server.shutdown_handle());
    let load = server.load();
    let is_ready = || {
        confine();
        if directories.are_kept_to {
            load.keep_to_directories();
        }
        // A supervisor that has gone is heeded by the end of the stream.
        let _ = (&*stream).write_all(&[READY]);
        if let Ok(stream) = stream.try_clone() {
            watch(directories, memory, load, stream);
        }
    };
    server
        .serve_when_ready(is_ready)
        .map_err(one_line("cannot serve"))
}

/// Tells the supervisor when another worker should take over, from a thread of its own: where the name of one of the
/// `directories` means another, and where a crowd has left much memory behind. Lets go of the directories while nobody
/// asks for anything. A look at a file system that is far away may take long.
fn watch(directories: Directories, memory: Memory, load: Load, mut stream: UnixStream) {
    // A worker that takes as much from the start, for a large handler say, is none to replace.
    let much_memory = memory.own() + MUCH_MEMORY;
    let watch = move || {
        let (mut calm, mut idle) = (0, 0);
        loop {
            // Until another worker serves, more requests may find what one has found.
            if load.wait_until_moved(LOOK) {
                if stream.write_all(&[RENEW]).is_err() {
                    return;
                }
                thread::sleep(LOOK);
            }
            idle = if load.instances() == 0 { idle + 1 } else { 0 };
            let has_moved = directories.have_moved();
            // What no longer has the name is served until another worker takes over.
            if idle >= IDLE_LOOKS && !has_moved {
                load.let_go();
            }
            let left = memory.own().saturating_sub(load.buffers());
            let has_left = load.instances() <= FEW_INSTANCES && left > much_memory;
            calm = if has_left { calm + 1 } else { 0 };
            let is_wanted = has_moved || calm >= CALM_LOOKS;
            if is_wanted && stream.write_all(&[RENEW]).is_err() {
                return;
            }
        }
    };
    // Without a thread, a signal is needed.
    let _ = thread::Builder::new().name("watch".into()).spawn(watch);
}

/// The file that tells the memory of this process. It is opened before this process may read nothing but what it serves.
struct Memory(Option<File>);

impl Memory {
    fn new() -> Self {
        Memory(File::open("/proc/self/status").ok())
    }

    /// Returns the memory that this process shares with no file, in bytes; 0 where the system does not tell.
    fn own(&self) -> u64 {
        let mut status = vec![0; STATUS];
        let file = self.0.as_ref();
        let length = file.and_then(|file| file.read_at(&mut status, 0).ok());
        let status = String::from_utf8_lossy(&status[..length.unwrap_or(0)]);
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        kib.unwrap_or(0) * 1024
    }
}

/// Returns which directory `path` is now, if it is one.
fn identity(path: &Path) -> Option<Identity> {
    let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_dir)?;
    Some((metadata.dev(), metadata.ino()))
}

/// Makes the server of the files that were read, with the directories that `options` name opened anew.
///
/// # Errors
/// In one line, the first that cannot be opened.
fn server(
    options: &Options,
    inputs: &Inputs,
    listeners: &[TcpListener],
    starter: Option<&ToStarter>,
) -> Result<HttpServer, String> {
    let sandbox = sandbox(options, inputs, starter)?;
    let listeners = listeners.iter().map(TcpListener::try_clone);
    let mut server = listeners
        .collect::<io::Result<_>>()
        .and_then(|listeners| HttpServer::new(listeners, sandbox))
        .map_err(one_line("cannot listen"))?
        .grace(options.grace);
    if options.single {
        server = server.single();
    }
    if let Some(max) = options.max_connections {
        server = server.max_connections(max);
    }
    if let Some(max) = options.max_per_address {
        server = server.max_per_address(max);
    }
    if let Some(proxies) = &options.trusted_proxies {
        server = server.trusted_proxies(proxies.clone());
    }
    Ok(match &inputs.tls {
        Some(tls) => server.tls(tls.clone()),
        None => server,
    })
}

/// The course of a worker, as far as others than its first thread go by it.
#[derive(Default)]
struct Course {
    /// The means to let the server finish, once there is one.
    server: OnceLock<Shutdown>,
    /// The outcome of serving, in one line where that has failed.
    served: OnceLock<Result<(), String>>,
}

/// Does as the supervisor says, from a thread of its own. That thread ends the process and has `tidy_up` alone: both where
/// the supervisor asks for an end at once, and where serving has ended.
fn hear(stream: &UnixStream, course: Arc<Course>, tidy_up: TidyUp) -> io::Result<JoinHandle<()>> {
    let words = stream.try_clone()?;
    thread::Builder::new().spawn(move || {
        heed(words, &course.server);
        drop(tidy_up);
        let status = match course.served.get() {
            Some(Err(message)) => {
                say(message);
                1
            }
            Some(Ok(())) | None => 0,
        };
        process::exit(status)
    })
}

/// Does as the supervisor says until there is nothing more to hear, or the end is asked for at once.
fn heed(mut words: UnixStream, server: &OnceLock<Shutdown>) {
    loop {
        let mut word = [QUIT];
        // A supervisor that has gone takes its workers along.
        let word = match words.read(&mut word) {
            Ok(1) => word[0],
            _ => QUIT,
        };
        match (word, server.get()) {
            (REOPEN_LOG, _) => reopen_log(),
            (RETIRE, Some(shutdown)) => shutdown.retire(),
            (STOP, Some(shutdown)) => shutdown.shutdown(),
            _ => return,
        }
    }
}

fn sandbox(
    options: &Options,
    inputs: &Inputs,
    starter: Option<&ToStarter>,
) -> Result<Sandbox, String> {
    let directory = options.directory.display();
    let mut environment = options.environment.clone();
    environment.push((settings::UTC_OFFSET.into(), local_time::told()));
    if let Some(entries) = &inputs.entries {
        environment.push((settings::AUTH_FILE.into(), entries.clone()));
    }
    let grant = Grant::by_name(&options.directory, environment);
    let grant = match options.upload {
        true => grant.writable(),
        false => grant,
    };
    let dirs = options.dirs.iter();
    look_at(iter::once(&options.directory).chain(dirs.clone().map(|(path, _)| path)))?;
    let grant = dirs.fold(grant, |grant, (path, name)| grant.directory(path, name));
    let grant = match options.memory {
        Some(bytes) => grant.memory(bytes),
        None => grant,
    };
    if let Some(name) = &options.not_found
        && options.directory.is_dir()
    {
        check_file(&options.directory, name).map_err(|error| {
            let reason = explain(&error);
            format!("cannot open `{name}` in directory `{directory}`: {reason}")
        })?;
    }
    let sandbox = match (&options.handler, &inputs.handler) {
        (Some(path), Some(component)) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let sandbox = Sandbox::handler(&name, component, grant);
            sandbox.map_err(|error| bad_handler(path, &causes(&error)))
        }
        _ => built_in(options, grant, starter),
    }?;
    let sandbox = sandbox
        .pace(options.pace.clone())
        .isolation(options.isolation());
    Ok(match options.memory_budget {
        Some(bytes) => sandbox.memory_budget(bytes),
        None => sandbox,
    })
}

/// Warns of directories that are missing or cannot be listed. What is in them is served as far as that can be done, and
/// once it can be done.
///
/// # Errors
/// Any other reason for which a directory cannot be opened.
fn look_at<'o>(directories: impl Iterator<Item = &'o PathBuf>) -> Result<(), String> {
    for path in directories {
        let Err(error) = fs::read_dir(path) else {
            continue;
        };
        let what = match path.is_dir() {
            true => "list",
            false => "open",
        };
        let reason = explain(&error);
        let message = format!("cannot {what} directory `{}`: {reason}", path.display());
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::PermissionDenied => {
                say(message);
            }
            _ => return Err(message),
        }
    }
    Ok(())
}

/// Returns the sandbox of the component that this host was built with: of the one that runs scripts only if
/// asked.
fn built_in(
    options: &Options,
    grant: Grant,
    starter: Option<&ToStarter>,
) -> Result<Sandbox, String> {
    let sandbox = match &options.cgi {
        Some(cgi) => {
            let scripts = Scripts::new(&options.directory, cgi.timeout, &cgi.dir_access)
                .map_err(|error| format!("cannot run scripts: {}", causes(&error)))?
                .max_scripts(cgi.max_scripts)
                .limits(cgi.limits.clone());
            let scripts = match cgi.max_time {
                Some(time) => scripts.max_time(time),
                None => scripts,
            };
            let scripts = match starter {
                Some(starter) => scripts.starter(starter.clone()),
                None => scripts,
            };
            cgi_server(grant, scripts)
        }
        None => sandserve_host::file_server(grant),
    };
    sandbox
        .map(|sandbox| sandbox.fields(&options.fields))
        .map_err(|error| format!("cannot set up the sandbox: {}", causes(&error)))
}

/// Returns `error` and its causes in one line. Errors of the system are explained.
fn causes(error: &wasmtime::Error) -> String {
    let causes = error.chain().map(|cause| match cause.downcast_ref() {
        Some(error) => explain(error),
        None => match cause.downcast_ref::<Errno>() {
            Some(&error) => explain(&error.into()),
            None => reason(cause),
        },
    });
    causes.collect::<Vec<_>>().join(": ")
}

fn bad_handler(path: &Path, reason: &str) -> String {
    format!("cannot use handler `{}`: {reason}", path.display())
}
