//! The system calls that a worker makes while it serves: the kernel refuses all others, by seccomp.
//!
//! A call passes by its number, and a few by what they ask for. Since Linux 5.11, the kernel remembers which numbers
//! always pass and runs no program for them: nearly all calls of a request are of that kind. Before, a call takes two
//! instructions for each number below its own, about 200 at most.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::io;

use libc::{EPERM, c_int, c_long};
use rustix::process::getpid;
use seccompiler::SeccompAction::{Allow, Errno};
use seccompiler::SeccompCmpArgLen::Dword;
use seccompiler::SeccompCmpOp::{Eq, MaskedEq};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter_all_threads,
};

use super::Needs;

/// Calls that pass whatever they ask for.
#[rustfmt::skip]
const CALLS: &[c_long] = &[
    // Files, and what else is open.
    libc::SYS_close, libc::SYS_close_range, libc::SYS_dup, libc::SYS_dup3, libc::SYS_faccessat, libc::SYS_faccessat2,
    libc::SYS_fadvise64, libc::SYS_flock, libc::SYS_fstat, libc::SYS_fstatfs, libc::SYS_getcwd, libc::SYS_getdents64,
    libc::SYS_lseek, libc::SYS_newfstatat, libc::SYS_openat, libc::SYS_openat2, libc::SYS_pipe2, libc::SYS_pread64,
    libc::SYS_preadv, libc::SYS_preadv2, libc::SYS_read, libc::SYS_readlinkat, libc::SYS_readv, libc::SYS_sendfile,
    libc::SYS_statfs, libc::SYS_statx, libc::SYS_write, libc::SYS_writev,
    // Sockets that are there. Connections are accepted, and none is made.
    libc::SYS_accept, libc::SYS_accept4, libc::SYS_getpeername, libc::SYS_getsockname, libc::SYS_getsockopt,
    libc::SYS_recvfrom, libc::SYS_recvmsg, libc::SYS_sendmsg, libc::SYS_sendto, libc::SYS_setsockopt,
    libc::SYS_shutdown,
    // Waiting.
    libc::SYS_clock_nanosleep, libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2, libc::SYS_eventfd2, libc::SYS_nanosleep, libc::SYS_ppoll, libc::SYS_restart_syscall,
    // Threads of this process, and signals that it has.
    libc::SYS_exit, libc::SYS_exit_group, libc::SYS_futex, libc::SYS_get_robust_list, libc::SYS_getcpu,
    libc::SYS_gettid, libc::SYS_membarrier, libc::SYS_rseq, libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn, libc::SYS_sched_getaffinity, libc::SYS_sched_yield, libc::SYS_set_robust_list,
    libc::SYS_set_tid_address, libc::SYS_sigaltstack,
    // Memory that is not made code.
    libc::SYS_brk, libc::SYS_madvise, libc::SYS_memfd_create, libc::SYS_mremap, libc::SYS_munmap,
    // Clocks, numbers of processes and users, and other facts of the system.
    libc::SYS_clock_getres, libc::SYS_clock_gettime, libc::SYS_getegid, libc::SYS_geteuid, libc::SYS_getgid,
    libc::SYS_getpid, libc::SYS_getppid, libc::SYS_getrandom, libc::SYS_getrusage, libc::SYS_gettimeofday,
    libc::SYS_getuid, libc::SYS_sysinfo, libc::SYS_uname,
    // Refused by another filter, with another error.
    libc::SYS_clone3,
];

/// Calls that change files, for workers that do.
#[rustfmt::skip]
const WRITING_CALLS: &[c_long] = &[
    libc::SYS_copy_file_range, libc::SYS_fallocate, libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fdatasync,
    libc::SYS_fsync, libc::SYS_ftruncate, libc::SYS_linkat, libc::SYS_mkdirat, libc::SYS_pwrite64,
    libc::SYS_pwritev, libc::SYS_pwritev2, libc::SYS_renameat, libc::SYS_renameat2, libc::SYS_symlinkat, libc::SYS_unlinkat,
    libc::SYS_utimensat,
];

/// Calls that do as much as others in [`CALLS`], where this kind of processor has them.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLDER_CALLS: &[c_long] = &[
    libc::SYS_access, libc::SYS_dup2, libc::SYS_epoll_create, libc::SYS_epoll_wait, libc::SYS_eventfd,
    libc::SYS_getdents, libc::SYS_getrlimit, libc::SYS_lstat, libc::SYS_open, libc::SYS_pipe, libc::SYS_poll,
    libc::SYS_readlink, libc::SYS_stat, libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER_CALLS: &[c_long] = &[];

/// Calls that do as much as others in [`WRITING_CALLS`], where this kind of processor has them.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLDER_WRITING_CALLS: &[c_long] = &[
    libc::SYS_chmod, libc::SYS_link, libc::SYS_mkdir, libc::SYS_rename, libc::SYS_rmdir, libc::SYS_symlink,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER_WRITING_CALLS: &[c_long] = &[];

/// Requests of ioctl(2): which pages of memory were written, whether a socket waits, what it holds, what a terminal is. The
/// first is made for each instance. None of them types into a terminal.
const REQUESTS: [u32; 7] = [
    PAGEMAP_SCAN,
    libc::FIONBIO as u32,
    libc::TIOCOUTQ as u32,
    libc::FIONREAD as u32,
    libc::FIOCLEX as u32,
    libc::TCGETS as u32,
    libc::TIOCGWINSZ as u32,
];
/// The request for pages that were written (ioctl_pagemap_scan(2)).
const PAGEMAP_SCAN: u32 = 0xc060_6610;

/// Commands of fcntl(2). None of them has a signal sent to another process, as `F_SETOWN` does.
const COMMANDS: [c_int; 8] = [
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFL,
    libc::F_SETFL,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_DUPFD,
    libc::F_ADD_SEALS,
    libc::F_GET_SEALS,
];

/// Properties that prctl(2) may be asked for: names, of threads and of memory. A process cannot be dumped again.
const PROPERTIES: [c_int; 3] = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA];

/// Flags of clone(2) that make namespaces.
const NAMESPACES: c_int = libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWUTS;

/// A condition that an argument of a call, by its index, has to meet.
type Condition = Result<SeccompCondition, BackendError>;
/// The calls of a filter, by number: those that meet one of the rules, or all where there is none.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Gives up all calls but those that a worker with `needs` makes while it serves, for all threads of this process. Those
/// fail with EPERM, and no memory becomes code unless `needs` say otherwise.
///
/// # Errors
/// A kernel without seccomp.
pub(super) fn give_up(needs: Needs) -> io::Result<()> {
    let programs = programs(needs)?;
    let mut programs = programs.iter();
    programs.try_for_each(|program| apply_filter_all_threads(program).map_err(of_system))
}

/// Returns the filters, in the order in which they come into force.
fn programs(needs: Needs) -> io::Result<[BpfProgram; 2]> {
    // A library that knows the newer call falls back to the older one where the system knows only that. The arguments
    // of the newer one are in memory, where no filter sees them.
    let newer = Rules::from([(libc::SYS_clone3, vec![])]);
    Ok([
        program(newer, Allow, Errno(libc::ENOSYS as u32))?,
        program(made_with(needs)?, Errno(EPERM as u32), Allow)?,
    ])
}

/// Returns the calls that a worker with `needs` makes.
fn made_with(needs: Needs) -> io::Result<Rules> {
    let writing = match needs.writes_files {
        true => [WRITING_CALLS, OLDER_WRITING_CALLS],
        false => [&[][..]; 2],
    };
    let whole = [CALLS, OLDER_CALLS].into_iter().chain(writing).flatten();
    let mut rules: Rules = whole.map(|&call| (call, vec![])).collect();
    let own = getpid().as_raw_pid().cast_unsigned();
    let is_thread = has_of(
        0,
        libc::CLONE_THREAD | NAMESPACES,
        libc::CLONE_THREAD.cast_unsigned(),
    );
    let is_no_code = || match needs.compiles {
        true => Ok(vec![]),
        false => any([has_of(2, libc::PROT_EXEC, 0)]),
    };
    rules.extend([
        (libc::SYS_mmap, is_no_code()?),
        (libc::SYS_mprotect, is_no_code()?),
        (
            libc::SYS_ioctl,
            any(REQUESTS.map(|request| is(1, request)))?,
        ),
        (
            libc::SYS_fcntl,
            any(COMMANDS.map(|command| is(1, command.cast_unsigned())))?,
        ),
        (
            libc::SYS_prctl,
            any(PROPERTIES.map(|property| is(0, property.cast_unsigned())))?,
        ),
        // A thread, and no process.
        (libc::SYS_clone, any([is_thread])?),
        // A signal to this process, when it gives up.
        (libc::SYS_tgkill, any([is(0, own)])?),
        // Limits of this process.
        (libc::SYS_prlimit64, any([is(0, 0), is(0, own)])?),
        // A pair that nobody else has an end of.
        (
            libc::SYS_socketpair,
            any([is(0, libc::AF_UNIX.cast_unsigned())])?,
        ),
    ]);
    Ok(rules)
}

fn is(argument: u8, value: u32) -> Condition {
    SeccompCondition::new(argument, Dword, Eq, value.into())
}

/// Returns the condition that `argument` has `bits` of those in `mask`, and no others.
fn has_of(argument: u8, mask: c_int, bits: u32) -> Condition {
    let mask = MaskedEq(mask.cast_unsigned().into());
    SeccompCondition::new(argument, Dword, mask, bits.into())
}

/// Returns rules, one of which a call has to meet: a condition each.
fn any<const N: usize>(conditions: [Condition; N]) -> io::Result<Vec<SeccompRule>> {
    let rule = |condition: Condition| SeccompRule::new(vec![condition?]);
    let rules = conditions.into_iter().map(rule);
    rules.collect::<Result<_, _>>().map_err(io::Error::other)
}

fn program(rules: Rules, otherwise: SeccompAction, then: SeccompAction) -> io::Result<BpfProgram> {
    ARCH.try_into()
        .and_then(|arch| SeccompFilter::new(rules, otherwise, then, arch))
        .and_then(BpfProgram::try_from)
        .map_err(io::Error::other)
}

/// Returns the error of the system, without the words around it.
fn of_system(error: seccompiler::Error) -> io::Error {
    match error {
        seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => error,
        error => io::Error::other(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind::PermissionDenied;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::Path;
    use std::process::Command;
    use std::thread;

    use rustix::process::{getppid, test_kill_process};
    use seccompiler::apply_filter;

    use super::*;

    type Attempt = fn(&Path) -> io::Result<()>;

    /// Returns the result of `attempts` in a thread that makes no calls but those of a worker with `needs`, where the kernel
    /// has seccomp.
    fn results(
        needs: Needs,
        attempts: &[(&'static str, Attempt)],
    ) -> Vec<(&'static str, io::Result<()>)> {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("file"), "content").expect("a file");
        let confined = || {
            let programs = programs(needs).expect("filters");
            for program in programs {
                if apply_filter(&program).is_err() {
                    return Vec::new();
                }
            }
            let attempts = attempts.iter();
            attempts
                .map(|(name, attempt)| (*name, attempt(directory.path())))
                .collect()
        };
        thread::scope(|scope| scope.spawn(confined).join().expect("no panic"))
    }

    const WRITING: [(&str, Attempt); 4] = [
        ("mkdir", |path| fs::create_dir(path.join("new"))),
        ("rename", |path| {
            fs::rename(path.join("file"), path.join("other"))
        }),
        ("link", |path| {
            fs::hard_link(path.join("other"), path.join("file"))
        }),
        ("unlink", |path| fs::remove_file(path.join("file"))),
    ];

    #[test]
    fn calls_that_serving_does_not_take_are_refused() {
        let attempts: [(&str, Attempt); 8] = [
            ("exec", |_| Command::new("true").status().map(drop)),
            ("TCP listen", |_| TcpListener::bind("127.0.0.1:0").map(drop)),
            ("TCP connect", |_| {
                TcpStream::connect("127.0.0.1:9").map(drop)
            }),
            ("Unix listen", |path| {
                UnixListener::bind(path.join("socket")).map(drop)
            }),
            ("Unix connect", |path| {
                UnixStream::connect(path.join("socket")).map(drop)
            }),
            ("signal", |_| {
                Ok(test_kill_process(getppid().expect("a parent"))?)
            }),
            ("chown", |path| {
                std::os::unix::fs::chown(path.join("file"), None, None)
            }),
            ("chdir", |_| std::env::set_current_dir("/")),
        ];
        let attempts = [&attempts[..], &WRITING].concat();
        for (name, result) in results(Needs::default(), &attempts) {
            let kind = result.map_err(|error| error.kind());
            assert_eq!(kind, Err(PermissionDenied), "{name}");
        }
    }

    #[test]
    fn calls_of_serving_pass() {
        let attempts: [(&str, Attempt); 4] = [
            ("read", |path| fs::read(path.join("file")).map(drop)),
            ("list", |path| {
                fs::read_dir(path).map(|entries| entries.for_each(drop))
            }),
            ("thread", |_| {
                let thread = thread::Builder::new().name("another".into());
                thread
                    .spawn(|| ())
                    .map(|thread| thread.join().expect("no panic"))
            }),
            ("pair", |_| UnixStream::pair()?.0.set_nonblocking(true)),
        ];
        let needs = Needs {
            writes_files: true,
            ..Needs::default()
        };
        let more = [&attempts[..], &WRITING].concat();
        let first = results(Needs::default(), &attempts);
        for (name, result) in first.into_iter().chain(results(needs, &more)) {
            assert!(result.is_ok(), "{name}: {result:?}");
        }
    }
}
