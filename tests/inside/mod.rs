//! The worker attacked from inside, as if the sandbox had fallen: its own threads make the calls of the attacker, in the very
//! program that is released. What serving does not take is refused, and words out of turn leave the others as they are.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod attempts;
mod taken;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::{Duration, Instant};

use harness::process::{descriptors, status, threads};
use harness::{Server, Site, get, names};

use attempts::{Place, Tried, Wall};
use taken::Taken;

const SANDSERVE: &str = env!("CARGO_BIN_EXE_sandserve");

/// The time that a test waits for something to happen to processes.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Messages that come in a flood, and the bytes of each.
const FLOOD: usize = 200;
const MESSAGE: usize = 3000;
/// The word of a worker that wants another to take over. All others mean nothing while it serves.
const RENEW: u8 = b'N';

/// The number of a capability in capabilities(7) without which nobody puts calls into a process that cannot be dumped.
const SYS_PTRACE: u32 = 19;

/// Returns whether this process may take over threads of others.
fn may_attack() -> bool {
    let own = status(std::process::id(), "CapEff").expect("capabilities");
    let own = u64::from_str_radix(&own, 16).expect("a number");
    let may = own & (1 << SYS_PTRACE) != 0;
    if !may {
        eprintln!("not tested: nobody but root may put calls into a worker");
    }
    may
}

fn wait_until(what: &str, server: &Server, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !is_so() {
        assert!(
            Instant::now() < deadline,
            "not so: {what}\n{}",
            server.log()
        );
        thread::sleep(Duration::from_millis(10));
    }
}

/// Returns the worker's end of its stream to the supervisor: a thread waits there for words.
fn stream_to_supervisor(worker: u32) -> Option<i64> {
    let waits = |thread: u32| {
        let call = fs::read_to_string(format!("/proc/{worker}/task/{thread}/syscall")).ok()?;
        let mut words = call.split(' ');
        let is_waiting = words.next()?.parse() == Ok(libc::SYS_recvfrom);
        let descriptor = words.next()?.strip_prefix("0x")?;
        i64::from_str_radix(descriptor, 16)
            .ok()
            .filter(|_| is_waiting)
    };
    threads(worker).into_iter().find_map(waits)
}

/// Returns the worker's end of its socket to the process that starts scripts, the one that keeps messages apart.
fn socket_to_starter(thread: &mut Taken, worker: u32) -> Option<i64> {
    let mut descriptors = descriptors(worker).into_iter().map(i64::from);
    descriptors.find(|&descriptor| {
        // A length, and room for a number.
        let length = thread.write(&[4, 0, 0, 0, 0, 0, 0, 0]);
        let (level, option) = (libc::SOL_SOCKET.into(), libc::SO_TYPE.into());
        let arguments = [descriptor, level, option, length + 4, length, 0];
        let kind = thread.call(libc::SYS_getsockopt, arguments);
        let kind = kind.map(|_| i32::from_ne_bytes(thread.read(length + 4)));
        kind == Ok(libc::SOCK_SEQPACKET)
    })
}

/// Has a thread of a worker send `bytes`, as far as the other end takes them at once.
fn send(thread: &mut Taken, descriptor: i64, bytes: &[u8]) -> Result<i64, i32> {
    let (address, length) = (thread.write(bytes), bytes.len() as i64);
    let flags = i64::from(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
    let sent = thread.call(libc::SYS_sendto, [descriptor, address, length, flags, 0, 0]);
    match sent {
        Err(libc::EAGAIN) => Ok(0),
        sent => sent,
    }
}

#[test]
fn a_worker_that_has_fallen_is_refused_what_serving_does_not_take() {
    if !may_attack() {
        return;
    }
    for (arguments, without) in [
        (&[][..], &[][..]),
        (&["--cgi"], &[Wall::Code]),
        (&["--upload"], &[Wall::Changes]),
    ] {
        attack(arguments, without);
    }
}

/// Attacks a worker on each of its threads, one that serves `without` some of the walls.
fn attack(arguments: &[&str], without: &[Wall]) {
    let site = Site::new();
    let server = Server::start(SANDSERVE, &site.root(), arguments);
    let line = server.confinements().concat();
    assert!(line.contains(Wall::Calls.step()), "{line}");
    let worker = server.worker();
    let place = Place::new(server.id(), &site.outside());
    let mut count = 0;
    for thread in threads(worker) {
        let mut thread = Taken::new(worker, thread);
        let mut tried = attempts::harmless(&mut thread, &place, without);
        tried.extend(attempts::making_processes(&mut thread));
        for Tried { what, wall, result } in tried {
            let is_refused = match what {
                attempts::CLONE3 => result == Err(libc::ENOSYS),
                _ => matches!(result, Err(libc::EPERM | libc::EACCES)),
            };
            // The line tells of a step that the kernel lacks.
            let failed = line.split_once("; failed: ");
            let is_lacking = failed.is_some_and(|(_, failed)| failed.contains(wall.step()));
            assert!(is_refused || is_lacking, "{what}: {result:?}; {line}");
        }
        count += 1;
    }
    assert!(count > 1, "{count} threads");
    // It was let go as it was found.
    assert_eq!(get(server.port, "/", &[]).status, 200);
    assert_eq!(server.worker(), worker);
    let secret = fs::read(site.outside().join("secret.txt")).expect("a file");
    assert_eq!(secret, b"TOP SECRET\n");
    assert_eq!(names(&site.outside()), ["secret.txt"]);
}

/// Otherwise, the test above would show nothing.
#[test]
fn a_worker_that_keeps_everything_is_refused_nothing() {
    let is_free = status(std::process::id(), "Seccomp").as_deref() == Some("0");
    if !may_attack() || !is_free {
        return;
    }
    let site = Site::new();
    let server = Server::start(SANDSERVE, &site.root(), &["--no-confine"]);
    let worker = server.worker();
    let place = Place::new(server.id(), &site.outside());
    let mut thread = Taken::new(worker, worker);
    for Tried { what, result, .. } in attempts::harmless(&mut thread, &place, &[]) {
        let is_refused = matches!(result, Err(libc::EPERM | libc::EACCES));
        let may_be_off = attempts::OFF_ON_SOME_SYSTEMS.contains(&what);
        assert!(!is_refused || may_be_off, "{what}: {result:?}");
    }
    drop(thread);
    assert_eq!(get(server.port, "/", &[]).status, 200);
    assert_eq!(server.worker(), worker);
}

#[test]
fn a_supervisor_that_is_told_nonsense_goes_on() {
    if !may_attack() {
        return;
    }
    let site = Site::new();
    let server = Server::start(SANDSERVE, &site.root(), &[]);
    let before = server.worker();
    let is_waiting = || stream_to_supervisor(before).is_some();
    wait_until("a thread hears the supervisor", &server, is_waiting);
    let stream = stream_to_supervisor(before).expect("a stream");
    let nonsense: Vec<u8> = (0..=u8::MAX).filter(|&byte| byte != RENEW).collect();
    let nonsense: Vec<u8> = nonsense.into_iter().cycle().take(MESSAGE).collect();
    let mut taken = Taken::new(before, before);
    for _ in 0..FLOOD {
        send(&mut taken, stream, &nonsense).expect("a stream");
    }
    drop(taken);
    assert_eq!(get(server.port, "/", &[]).status, 200);
    assert_eq!(server.workers(), [before]);
    // It asks for another worker as often as it can, and gets one.
    let mut taken = Taken::new(before, before);
    for _ in 0..FLOOD {
        send(&mut taken, stream, &[RENEW; MESSAGE]).expect("a stream");
    }
    drop(taken);
    let has_another = || server.workers().iter().any(|&worker| worker != before);
    wait_until("another worker has started", &server, has_another);
    wait_until("that one is alone", &server, || {
        server.workers().len() == 1 && server.worker() != before
    });
    assert_eq!(get(server.port, "/", &[]).status, 200);
    assert_eq!(
        server.log().matches("has died").count(),
        0,
        "{}",
        server.log()
    );
}

#[test]
fn a_worker_that_gives_orders_as_none_does_is_replaced() {
    if !may_attack() {
        return;
    }
    let site = Site::empty();
    let script = site.write("cgi-bin/script", "#!/bin/sh\necho\necho said\n");
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).expect("a mode");
    let server = Server::start(SANDSERVE, &site.root(), &["--cgi"]);
    let is_said = || get(server.port, "/cgi-bin/script", &[]).text() == "said\n";
    assert!(is_said());
    for order in [&b"../../bin/sh"[..], &[b's'; MESSAGE]] {
        let before = server.worker();
        let mut taken = Taken::new(before, before);
        let socket = socket_to_starter(&mut taken, before).expect("a socket");
        send(&mut taken, socket, order).expect("sent");
        drop(taken);
        wait_until("another worker serves alone", &server, || {
            server.workers().len() == 1 && server.worker() != before
        });
        assert!(is_said(), "{}", server.log());
    }
    let said = "its worker spoke out of turn";
    assert_eq!(server.log().matches(said).count(), 2, "{}", server.log());
}

#[test]
fn system_calls_are_given_up_by_the_worker_and_not_by_scripts() {
    let site = Site::empty();
    let script = site.write("cgi-bin/script", "#!/bin/sh\necho\ncat /proc/self/status\n");
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).expect("a mode");
    for arguments in [&[][..], &["--cgi"], &["--upload"], &["--single"]] {
        let server = Server::start(SANDSERVE, &site.root(), arguments);
        assert_eq!(get(server.port, "/", &[]).status, 200);
        let line = server.confinements().concat();
        let (in_force, _) = line.split_once("; failed: ").unwrap_or((&line, ""));
        if !in_force.contains(Wall::Calls.step()) {
            continue;
        }
        let may_compile = in_force.contains("of compiling scripts");
        assert_eq!(may_compile, arguments.contains(&"--cgi"), "{line}");
        for thread in threads(server.worker()) {
            assert_eq!(
                status(thread, "Seccomp").as_deref(),
                Some("2"),
                "{arguments:?}"
            );
        }
        let own = |name| status(std::process::id(), name);
        assert_eq!(status(server.id(), "Seccomp"), own("Seccomp"));
        if may_compile {
            let text = get(server.port, "/cgi-bin/script", &[]).text();
            for name in ["Seccomp", "Seccomp_filters"] {
                let Some(value) = own(name) else { continue };
                let line = format!("\n{name}:\t{value}\n");
                assert!(text.contains(&line), "{line}: {text}");
            }
        }
    }
}
