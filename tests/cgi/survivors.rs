//! Nothing of a script outlives the server, whichever of its processes is killed.

use std::fs::{self, File};
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use harness::{Server, Site, connect, request};

use super::{get, script, serve, wait_for_end, wait_until};

/// Starts a process of each kind that may be hard to find, has each write its number into a file, and goes on: the
/// script itself, a child, a child in a session of its own, and one there whose parent has gone. `$1` is the file.
const FAMILY: &str = r#"
trap '' TERM HUP INT
me() { setsid --fork sh -c 'echo $$ >> "$0"; trap "" TERM HUP INT; while :; do sleep 1000; done' "$file"; }
file="$PATH_TRANSLATED"
echo $$ >> "$file"
sh -c 'echo $$ >> "$0"; while :; do sleep 1000; done' "$file" &
setsid sh -c 'echo $$ >> "$0"; while :; do sleep 1000; done' "$file" &
me
"#;

/// Adds a script whose family writes its numbers into a file of `site`, named by the path behind the
/// script.
fn family(site: &Site, rest: &str) {
    script(site, "cgi-bin/family", &format!("{FAMILY}{rest}"));
    let file = File::create(site.root().join("pids")).expect("a file");
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .expect("a mode");
    let root = site.root();
    for directory in [&*root, root.parent().expect("a directory")] {
        super::set_mode(directory, 0o755);
    }
}

/// Asks for the script, and waits until its family is there. Returns the connection and the numbers of the
/// family.
fn start_family(server: &Server, site: &Site) -> (TcpStream, Vec<String>) {
    let mut stream = connect(server.port);
    stream
        .write_all(&request("GET", "/cgi-bin/family/pids", &[]))
        .expect("sent");
    (stream, wait_for_family(&site.root().join("pids")))
}

fn wait_for_family(file: &Path) -> Vec<String> {
    let numbers = || fs::read_to_string(file).unwrap_or_default();
    wait_until("four processes run", || numbers().lines().count() == 4);
    numbers().lines().map(str::to_owned).collect()
}

fn kill(id: u32) {
    let status = std::process::Command::new("kill")
        .args(["-s", "KILL", &id.to_string()])
        .status();
    assert!(status.expect("kill runs").success());
}

/// Starts a family, kills the process that `choose` says, and waits for the end of all of it. Returns the server.
fn kill_one(choose: impl Fn(&Server) -> u32) -> (Site, Server) {
    let site = Site::empty();
    site.write("file", "served");
    family(&site, "wait");
    let server = serve(&site, &["--cgi-timeout", "1000"]);
    let (_stream, family) = start_family(&server, &site);
    kill(choose(&server));
    family.iter().for_each(|id| wait_for_end(id));
    (site, server)
}

/// Waits until scripts run again.
fn wait_for_scripts(site: &Site, server: &Server) {
    script(site, "cgi-bin/fine", "printf '\\nfine'");
    wait_until("a script runs", || {
        TcpStream::connect(("127.0.0.1", server.port)).is_ok()
            && get(server.port, "/cgi-bin/fine").text() == "fine"
    });
    assert_eq!(get(server.port, "/file").text(), "served");
}

#[test]
fn scripts_end_with_a_worker_that_is_killed() {
    let (site, server) = kill_one(Server::worker);
    wait_for_scripts(&site, &server);
    wait_until("one process starts scripts", || {
        server.starters().len() == 1
    });
}

#[test]
fn scripts_end_with_the_process_that_starts_them() {
    let (site, server) = kill_one(|server| server.starters()[0]);
    server.wait_for_log("the process that starts scripts has died and is replaced");
    wait_for_scripts(&site, &server);
}

#[test]
fn scripts_end_with_the_keeper_of_that_process() {
    let (site, server) = kill_one(|server| server.keepers()[0]);
    server.wait_for_log("the process that starts scripts has died and is replaced");
    wait_for_scripts(&site, &server);
}

#[test]
fn scripts_end_with_a_supervisor_that_is_killed() {
    let (_site, mut server) = kill_one(Server::id);
    server.wait();
}

#[test]
fn scripts_and_all_they_have_left_end_with_the_server() {
    for signal in ["INT", "TERM"] {
        let site = Site::empty();
        // The script itself ends.
        family(&site, "printf '\\ndone'; echo $$ >&2; exit 0");
        let mut server = serve(&site, &[]);
        assert_eq!(get(server.port, "/cgi-bin/family/pids").text(), "done");
        let family = wait_for_family(&site.root().join("pids"));
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0), "{}", server.log());
        family.iter().for_each(|id| wait_for_end(id));
    }
}

#[test]
fn what_a_script_has_left_goes_on_over_a_reload() {
    let site = Site::empty();
    let go = site.root().join("go");
    let text = format!(
        "setsid sh -c 'until [ -e {go} ]; do sleep 0.05; done; echo over > \"$0\"' \"$PATH_TRANSLATED\" </dev/null >/dev/null 2>&1 &\n\
         printf '\\ndone'",
        go = go.display()
    );
    family(&site, "");
    script(&site, "cgi-bin/family", &text);
    let mut command = std::process::Command::new("setsid");
    command
        .args([
            super::SANDSERVE,
            "--cgi",
            "--bind",
            "127.0.0.1",
            "--directory",
        ])
        .args([site.root().as_os_str(), "0".as_ref()]);
    let server = Server::spawn(command);
    assert_eq!(get(server.port, "/cgi-bin/family/pids").text(), "done");
    let before = server.worker();
    server.signal("HUP");
    let deadline = Instant::now() + super::TIMEOUT;
    while !matches!(server.workers()[..], [worker] if worker != before) {
        let workers = server.workers();
        assert!(
            Instant::now() < deadline,
            "{before}, {workers:?}: {}",
            server.log()
        );
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(server.starters().len(), 2);
    site.write("go", "");
    let file = site.root().join("pids");
    wait_until("it has finished", || {
        fs::read_to_string(&file).is_ok_and(|text| text == "over\n")
    });
    wait_until("its starter has ended", || server.starters().len() == 1);
}

#[test]
fn a_starter_that_has_stopped_holds_up_no_file() {
    let site = Site::empty();
    site.write("file", "served");
    script(&site, "cgi-bin/fine", "printf '\\nfine'");
    let server = serve(&site, &[]);
    let starter = server.starters()[0].to_string();
    let signal = |name: &str| {
        let status = std::process::Command::new("kill")
            .args(["-s", name, &starter])
            .status();
        assert!(status.expect("kill runs").success());
    };
    signal("STOP");
    let mut stream = connect(server.port);
    stream
        .write_all(&request("GET", "/cgi-bin/fine", &[]))
        .expect("sent");
    for _ in 0..10 {
        assert_eq!(get(server.port, "/file").text(), "served");
    }
    signal("CONT");
    assert_eq!(harness::read_head(&mut stream).status, 200);
}

#[test]
fn orphans_are_reaped_by_a_server_that_is_the_first_process() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let site = Site::empty();
    site.write("file", "served");
    let mut command = std::process::Command::new("unshare");
    command
        .args(["--pid", "--fork", "--kill-child", super::SANDSERVE])
        .args(["--cgi", "--bind", "127.0.0.1", "--directory"])
        .args([site.root().as_os_str(), "0".as_ref()]);
    let server = Server::spawn(command);
    // The server is the only child of `unshare`.
    let first = server.workers()[0];
    let orphan = std::process::Command::new("nsenter")
        .args(["--target", &first.to_string(), "--pid"])
        .args(["sh", "-c", "sleep 1000 </dev/null >/dev/null 2>&1 &"])
        .status();
    assert!(orphan.expect("nsenter runs").success());
    // Dead ones included.
    let orphans = || -> Vec<u32> {
        let entries = fs::read_dir("/proc").expect("processes").flatten();
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        ids.filter(|id: &u32| {
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            let parent = stat
                .rsplit(") ")
                .next()
                .and_then(|rest| rest.split(' ').nth(1));
            stat.contains("(sleep)") && parent == Some(&*first.to_string())
        })
        .collect()
    };
    wait_until("the orphan is its child", || orphans().len() == 1);
    kill(orphans()[0]);
    wait_until("the orphan is reaped", || orphans().is_empty());
    assert_eq!(get(server.port, "/file").text(), "served");
}
