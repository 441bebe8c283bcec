//! Scripts are files of the site, and run as nobody where the server could do more.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use harness::{Server, Site};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::geteuid;

use super::{get, script, serve, set_mode};

/// The number of the user nobody here.
const NOBODY: u32 = 65534;

const SAY: &str = "printf 'Content-Type: text/plain\\n\\n'; echo ";

#[test]
fn links_lead_to_scripts_inside_only() {
    let site = Site::empty();
    script(&site, "scripts/real", &format!("{SAY} inside"));
    let outside = site.outside().join("script");
    fs::write(&outside, format!("#!/bin/sh\n{SAY} outside\n")).expect("a script");
    set_mode(&outside, 0o755);
    fs::create_dir(site.root().join("cgi-bin")).expect("a directory");
    for (name, target) in [
        ("in", "../scripts/real".into()),
        ("to-dir", "../scripts".into()),
        ("out", "../../outside/script".into()),
        ("out-dir", "../../outside".into()),
        ("absolute", outside.display().to_string()),
        ("shell", "/bin/sh".into()),
    ] {
        symlink(target, site.root().join("cgi-bin").join(name)).expect("a link");
    }
    let server = serve(&site, &[]);
    for target in ["/cgi-bin/in", "/cgi-bin/to-dir/real"] {
        assert_eq!(get(server.port, target).text(), "inside\n", "{target}");
    }
    for target in [
        "/cgi-bin/out",
        "/cgi-bin/out-dir/script",
        "/cgi-bin/absolute",
        "/cgi-bin/shell",
        "/cgi-bin/../../outside/script",
        "/cgi-bin/..%2f..%2foutside/script",
    ] {
        let response = get(server.port, target);
        assert_eq!(response.status, 404, "{target}: {response:?}");
    }
}

#[test]
fn a_script_that_turns_into_a_link_lets_nobody_out() {
    let site = Site::empty();
    script(&site, "cgi-bin/swapped", &format!("{SAY} inside"));
    let outside = site.outside().join("script");
    fs::write(&outside, format!("#!/bin/sh\n{SAY} outside\n")).expect("a script");
    set_mode(&outside, 0o755);
    symlink("../../outside/script", site.root().join("cgi-bin/other")).expect("a link");
    // Where others may do that.
    for directory in [site.root().parent().expect("a directory"), &site.root()] {
        set_mode(directory, 0o755);
    }
    set_mode(&site.root().join("cgi-bin"), 0o777);
    let server = serve(&site, &[]);
    let is_over = AtomicBool::new(false);
    let (here, there) = ("cgi-bin/swapped", "cgi-bin/other");
    let (here, there) = (site.root().join(here), site.root().join(there));
    let mut seen = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                renameat_with(CWD, &here, CWD, &there, RenameFlags::EXCHANGE).expect("exchanged");
            }
        });
        for _ in 0..2000 {
            let response = get(server.port, "/cgi-bin/swapped");
            match (response.status, response.text().as_str()) {
                (200, "inside\n") => seen.0 += 1,
                (404, _) => seen.1 += 1,
                _ => break,
            }
            if seen.0 >= 50 && seen.1 >= 50 {
                break;
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(seen.0 >= 50 && seen.1 >= 50, "run and refused: {seen:?}");
}

/// Returns what `id` says in a script of `server`: the user, the group and all groups.
fn identity(server: &Server) -> Vec<u32> {
    let text = get(server.port, "/cgi-bin/id").text();
    text.split_whitespace()
        .map(|number| number.parse().unwrap_or_else(|_| panic!("{text:?}")))
        .collect()
}

#[test]
fn scripts_of_root_run_as_nobody() {
    let site = Site::empty();
    script(
        &site,
        "cgi-bin/id",
        &format!("{SAY} $(id -u) $(id -g) $(id -G)"),
    );
    let server = serve(&site, &[]);
    let identity = identity(&server);
    match geteuid().as_raw() {
        0 => {
            assert_eq!(identity[0], NOBODY);
            assert!(!identity.contains(&0), "{identity:?}");
        }
        user => assert_eq!(identity[0], user),
    }
}

#[test]
fn scripts_of_an_ordinary_user_run_as_that_user() {
    const USER: u32 = 12345;
    if !geteuid().is_root() {
        return;
    }
    let site = Site::empty();
    script(
        &site,
        "cgi-bin/id",
        &format!("{SAY} $(id -u) $(id -g) $(id -G)"),
    );
    // Where that user can go.
    let place = tempfile::tempdir().expect("a directory");
    let program = place.path().join("sandserve");
    fs::copy(super::SANDSERVE, &program).expect("a copy");
    set_mode(place.path(), 0o755);
    set_mode(site.root().parent().expect("a directory"), 0o755);
    let mut command = Command::new(&program);
    command
        .args(["--cgi", "--bind", "127.0.0.1", "--directory"])
        .args([site.root().as_os_str(), "0".as_ref()])
        .current_dir("/")
        .uid(USER)
        .gid(USER);
    let server = Server::spawn(command);
    assert_eq!(identity(&server), [USER, USER, USER]);
}
