//! Things that an attacker tries from inside a worker, and the steps of confinement that stop them.

use std::ffi::c_long;
use std::path::{Path, PathBuf};

use super::taken::Taken;

/// A part of the confinement that stops an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wall {
    Calls,
    /// Calls that make memory code.
    Code,
    /// Calls that change files.
    Changes,
    Reading,
    Files,
    Capabilities,
}

impl Wall {
    /// Returns how the step of confinement begins that builds the wall, in the line at the start.
    pub(super) fn step(self) -> &'static str {
        match self {
            Wall::Calls | Wall::Code | Wall::Changes => "no system calls but those of serving",
            Wall::Reading => "no file read",
            Wall::Files => "no file written",
            Wall::Capabilities => "no capabilities",
        }
    }
}

/// The call that is refused as one which does not exist.
pub(super) const CLONE3: &str = "make a process in the newer way";
/// Things that some systems refuse to everybody.
pub(super) const OFF_ON_SOME_SYSTEMS: [&str; 6] = [
    "load a program into the kernel",
    "load a module",
    "load a kernel",
    "count events",
    "have calls made by the kernel",
    "hear of missing pages",
];

/// An attempt and its result: what the call returned, or the number of its error.
pub(super) struct Tried {
    pub(super) what: &'static str,
    pub(super) wall: Wall,
    pub(super) result: Result<i64, i32>,
}

/// The place of an attack.
pub(super) struct Place {
    supervisor: u32,
    /// A directory that is not served, with `secret.txt`.
    outside: PathBuf,
}

impl Place {
    pub(super) fn new(supervisor: u32, outside: &Path) -> Place {
        let outside = outside.to_owned();
        Place {
            supervisor,
            outside,
        }
    }
}

/// Tries what would change nothing but files outside, were it let through, and is not stopped by one of the walls `without`
/// which the worker serves. Most calls have arguments that make no sense: a filter looks before anything else does.
pub(super) fn harmless(thread: &mut Taken, place: &Place, without: &[Wall]) -> Vec<Tried> {
    let mut tried = calls(thread, i64::from(place.supervisor), without);
    tried.extend(opened(thread, place, without));
    tried
}

#[rustfmt::skip]
fn calls(thread: &mut Taken, supervisor: i64, without: &[Wall]) -> Vec<Tried> {
    let of_supervisor = [supervisor, 0, 0, 0, 0, 0];
    let code = i64::from(libc::PROT_READ | libc::PROT_EXEC);
    let any_code = code | i64::from(libc::PROT_WRITE);
    let private = i64::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let stream = i64::from(libc::SOCK_STREAM);
    let tried: [(Wall, &str, c_long, [i64; 6]); 81] = [
        // The network, and sockets of others.
        (Wall::Calls, "make a socket", libc::SYS_socket, [libc::AF_INET.into(), stream, 0, 0, 0, 0]),
        (Wall::Calls, "make a Unix socket", libc::SYS_socket, [libc::AF_UNIX.into(), stream, 0, 0, 0, 0]),
        (Wall::Calls, "make a socket to the kernel", libc::SYS_socket, [libc::AF_NETLINK.into(), libc::SOCK_RAW.into(), 0, 0, 0, 0]),
        (Wall::Calls, "make a pair of other sockets", libc::SYS_socketpair, [libc::AF_INET.into(), stream, 0, 0, 0, 0]),
        (Wall::Calls, "bind a socket", libc::SYS_bind, [-1, 0, 0, 0, 0, 0]),
        (Wall::Calls, "listen", libc::SYS_listen, [-1, 0, 0, 0, 0, 0]),
        (Wall::Calls, "connect a socket", libc::SYS_connect, [-1, 0, 0, 0, 0, 0]),
        // Programs and processes.
        (Wall::Calls, "run a program", libc::SYS_execve, [0; 6]),
        (Wall::Calls, "run an open program", libc::SYS_execveat, [-1, 0, 0, 0, 0, 0]),
        (Wall::Calls, CLONE3, libc::SYS_clone3, [0; 6]),
        // Flags that no process is made with.
        (Wall::Calls, "make a process", libc::SYS_clone, [libc::CLONE_SIGHAND.into(), 0, 0, 0, 0, 0]),
        (Wall::Calls, "make a thread with a network", libc::SYS_clone, [i64::from(libc::CLONE_THREAD | libc::CLONE_NEWNET), 0, 0, 0, 0, 0]),
        (Wall::Calls, "signal", libc::SYS_kill, of_supervisor),
        (Wall::Calls, "signal everybody", libc::SYS_kill, [-1, 0, 0, 0, 0, 0]),
        (Wall::Calls, "signal a thread", libc::SYS_tgkill, [supervisor, supervisor, 0, 0, 0, 0]),
        (Wall::Calls, "signal any thread", libc::SYS_tkill, of_supervisor),
        (Wall::Calls, "queue a signal", libc::SYS_rt_sigqueueinfo, of_supervisor),
        (Wall::Calls, "be signalled for", libc::SYS_fcntl, [0, libc::F_SETOWN.into(), supervisor, 0, 0, 0]),
        (Wall::Calls, "name a process", libc::SYS_pidfd_open, of_supervisor),
        (Wall::Calls, "signal a named process", libc::SYS_pidfd_send_signal, [-1, 0, 0, 0, 0, 0]),
        (Wall::Calls, "take a descriptor", libc::SYS_pidfd_getfd, [-1, 0, 0, 0, 0, 0]),
        (Wall::Calls, "trace", libc::SYS_ptrace, [i64::from(libc::PTRACE_SEIZE), supervisor, 0, -1, 0, 0]),
        (Wall::Calls, "read memory", libc::SYS_process_vm_readv, of_supervisor),
        (Wall::Calls, "write memory", libc::SYS_process_vm_writev, of_supervisor),
        (Wall::Calls, "advise on memory", libc::SYS_process_madvise, [-1, 0, 0, 0, 0, 0]),
        (Wall::Calls, "compare", libc::SYS_kcmp, [supervisor, supervisor, 0, 0, 0, 0]),
        (Wall::Calls, "look at limits", libc::SYS_prlimit64, of_supervisor),
        (Wall::Calls, "schedule", libc::SYS_sched_setscheduler, [supervisor, -1, 0, 0, 0, 0]),
        // Names of the system, and what is beneath them.
        (Wall::Calls, "mount", libc::SYS_mount, [0; 6]),
        (Wall::Calls, "unmount", libc::SYS_umount2, [0; 6]),
        (Wall::Calls, "open a file system", libc::SYS_fsopen, [0; 6]),
        (Wall::Calls, "copy a mount", libc::SYS_open_tree, [-1, 0, 0, 0, 0, 0]),
        (Wall::Calls, "change the root", libc::SYS_chroot, [0; 6]),
        (Wall::Calls, "change roots", libc::SYS_pivot_root, [0; 6]),
        (Wall::Calls, "leave namespaces", libc::SYS_unshare, [0; 6]),
        (Wall::Calls, "enter a namespace", libc::SYS_setns, [-1, 0, 0, 0, 0, 0]),
        (Wall::Calls, "open by handle", libc::SYS_open_by_handle_at, [-1, 0, 0, 0, 0, 0]),
        (Wall::Calls, "tell a handle", libc::SYS_name_to_handle_at, [-1, 0, 0, 0, 0, 0]),
        // Privileges.
        (Wall::Calls, "become another user", libc::SYS_setuid, [-1, 0, 0, 0, 0, 0]),
        (Wall::Calls, "become another group", libc::SYS_setgid, [-1, 0, 0, 0, 0, 0]),
        (Wall::Calls, "join groups", libc::SYS_setgroups, [-1, 0, 0, 0, 0, 0]),
        (Wall::Calls, "become others", libc::SYS_setresuid, [-1, -1, -1, 0, 0, 0]),
        (Wall::Calls, "gain capabilities", libc::SYS_capset, [0; 6]),
        (Wall::Calls, "be dumped", libc::SYS_prctl, [libc::PR_SET_DUMPABLE.into(), 1, 0, 0, 0, 0]),
        (Wall::Calls, "change filters", libc::SYS_seccomp, [-1, 0, 0, 0, 0, 0]),
        (Wall::Calls, "change personality", libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0, 0]),
        (Wall::Calls, "use keys", libc::SYS_keyctl, [-1, 0, 0, 0, 0, 0]),
        (Wall::Calls, "add a key", libc::SYS_add_key, [0; 6]),
        (Wall::Calls, "ask for a key", libc::SYS_request_key, [0; 6]),
        // The kernel.
        (Wall::Calls, "load a program into the kernel", libc::SYS_bpf, [-1, 0, 0, 0, 0, 0]),
        (Wall::Calls, "load a module", libc::SYS_finit_module, [-1, 0, 0, 0, 0, 0]),
        (Wall::Calls, "load a kernel", libc::SYS_kexec_load, [0, 17, 0, 0, 0, 0]),
        (Wall::Calls, "count events", libc::SYS_perf_event_open, [0; 6]),
        (Wall::Calls, "have calls made by the kernel", libc::SYS_io_uring_setup, [0; 6]),
        (Wall::Calls, "hear of missing pages", libc::SYS_userfaultfd, [-1, 0, 0, 0, 0, 0]),
        (Wall::Calls, "hear of files", libc::SYS_fanotify_init, [-1, 0, 0, 0, 0, 0]),
        (Wall::Calls, "hear of names", libc::SYS_inotify_init1, [-1, 0, 0, 0, 0, 0]),
        (Wall::Calls, "restart the machine", libc::SYS_reboot, [0; 6]),
        (Wall::Calls, "name the machine", libc::SYS_sethostname, [0, -1, 0, 0, 0, 0]),
        (Wall::Calls, "set the clock", libc::SYS_clock_settime, [-1, 0, 0, 0, 0, 0]),
        (Wall::Calls, "swap", libc::SYS_swapon, [0; 6]),
        (Wall::Calls, "use ports of the machine", libc::SYS_iopl, [4, 0, 0, 0, 0, 0]),
        (Wall::Calls, "type into a terminal", libc::SYS_ioctl, [0, libc::TIOCSTI as i64, 0, 0, 0, 0]),
        (Wall::Calls, "attach memory of others", libc::SYS_shmat, [-1, 0, 0, 0, 0, 0]),
        // New code.
        (Wall::Code, "map code", libc::SYS_mmap, [0, 4096, code, private, -1, 0]),
        (Wall::Code, "map what can be written and run", libc::SYS_mmap, [0, 4096, any_code, private, -1, 0]),
        (Wall::Code, "make memory code", libc::SYS_mprotect, [1, 4096, code, 0, 0, 0]),
        (Wall::Code, "make memory code by a key", libc::SYS_pkey_mprotect, [1, 4096, code, 0, 0, 0]),
        (Wall::Code, "map again", libc::SYS_remap_file_pages, [1, 0, 0, 0, 0, 0]),
        // Files, without a name to open.
        (Wall::Changes, "make a directory", libc::SYS_mkdirat, [-1, 0, 0, 0, 0, 0]),
        (Wall::Changes, "make a device", libc::SYS_mknodat, [-1, 0, 0, 0, 0, 0]),
        (Wall::Changes, "make a link", libc::SYS_linkat, [-1, 0, -1, 0, 0, 0]),
        (Wall::Changes, "make a symbolic link", libc::SYS_symlinkat, [0, -1, 0, 0, 0, 0]),
        (Wall::Changes, "remove", libc::SYS_unlinkat, [-1, 0, 0, 0, 0, 0]),
        (Wall::Changes, "rename", libc::SYS_renameat2, [-1, 0, -1, 0, 0, 0]),
        (Wall::Changes, "change a mode", libc::SYS_fchmodat, [-1, 0, 0, 0, 0, 0]),
        (Wall::Changes, "change an owner", libc::SYS_fchownat, [-1, 0, 0, 0, 0, 0]),
        (Wall::Changes, "change a time", libc::SYS_utimensat, [-1, 0, 0, 0, 0, 0]),
        (Wall::Changes, "change attributes", libc::SYS_setxattr, [0; 6]),
        (Wall::Changes, "cut a file", libc::SYS_truncate, [0; 6]),
        (Wall::Changes, "cut an open file", libc::SYS_ftruncate, [-1, 0, 0, 0, 0, 0]),
    ];
    let tried = tried.into_iter().filter(|(wall, ..)| !without.contains(wall));
    let try_it = |(wall, what, number, arguments)| Tried {
        what,
        wall,
        result: thread.call(number, arguments),
    };
    tried.map(try_it).collect()
}

/// Opens files by their names.
fn opened(thread: &mut Taken, place: &Place, without: &[Wall]) -> Vec<Tried> {
    let outside = |name: &str| place.outside.join(name);
    let memory = PathBuf::from(format!("/proc/{}/mem", place.supervisor));
    let (write, new) = (libc::O_WRONLY, libc::O_WRONLY | libc::O_CREAT);
    let tried = [
        (
            "read a file",
            Wall::Reading,
            outside("secret.txt"),
            libc::O_RDONLY,
        ),
        (
            "list a directory",
            Wall::Reading,
            outside("."),
            libc::O_RDONLY,
        ),
        (
            "read what the system keeps",
            Wall::Reading,
            "/etc/passwd".into(),
            libc::O_RDONLY,
        ),
        ("write a file", Wall::Files, outside("secret.txt"), write),
        (
            "cut a file by name",
            Wall::Files,
            outside("secret.txt"),
            write | libc::O_TRUNC,
        ),
        ("make a file", Wall::Files, outside("new.txt"), new),
        (
            "write own memory, code as well",
            Wall::Files,
            "/proc/self/mem".into(),
            write,
        ),
        (
            "write to the supervisor",
            Wall::Capabilities,
            memory.clone(),
            write,
        ),
        (
            "read the supervisor",
            Wall::Capabilities,
            memory,
            libc::O_RDONLY,
        ),
    ];
    let tried = tried
        .into_iter()
        .filter(|(_, wall, ..)| !without.contains(wall));
    let try_it = |(what, wall, path, flags): (_, _, PathBuf, i32)| {
        let path = thread.write(&[path.as_os_str().as_encoded_bytes(), b"\0"].concat());
        let arguments = [libc::AT_FDCWD.into(), path, flags.into(), 0o600, 0, 0];
        Tried {
            what,
            wall,
            result: thread.call(libc::SYS_openat, arguments),
        }
    };
    tried.map(try_it).collect()
}

/// Tries what would leave another process behind, were it let through.
pub(super) fn making_processes(thread: &mut Taken) -> Vec<Tried> {
    let tried = [("fork", libc::SYS_fork), ("fork and wait", libc::SYS_vfork)];
    let try_it = |(what, number)| Tried {
        what,
        wall: Wall::Calls,
        result: thread.call(number, [0; 6]),
    };
    tried.into_iter().map(try_it).collect()
}
