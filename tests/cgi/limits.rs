//! Tests of the limits on a script, and on how much of its complaints is logged.

use harness::Site;

use super::{get, script, serve};

const SAY: &str = "printf 'Content-Type: text/plain\\n\\n'";

/// The commands that show what `ulimit` says of each limit.
const TELL: &str = "; ulimit -v; ulimit -t; ulimit -u; ulimit -f";

#[test]
fn scripts_have_the_limits_that_are_set_and_no_others() {
    let site = Site::empty();
    let text = format!("#!/bin/bash\n{SAY}{TELL}");
    script(&site, "cgi-bin/tell", &text);
    let of_tests = std::process::Command::new("bash")
        .args(["-c", &TELL[1..]])
        .output()
        .expect("bash runs");
    let server = serve(&site, &[]);
    let without = get(server.port, "/cgi-bin/tell").text();
    assert_eq!(without.as_bytes(), of_tests.stdout);
    let options = [
        ["--cgi-max-memory", "1073741824"],
        ["--cgi-max-cpu", "17"],
        ["--cgi-max-processes", "1234"],
        ["--cgi-max-file-size", "1048576"],
    ];
    let server = serve(&site, &options.concat());
    let with = get(server.port, "/cgi-bin/tell").text();
    assert_eq!(with, "1048576\n17\n1234\n1024\n");
}

#[test]
fn a_script_that_computes_too_long_is_ended() {
    let site = Site::empty();
    script(&site, "cgi-bin/loops", "while :; do :; done");
    let server = serve(&site, &["--cgi-max-cpu", "1", "--cgi-timeout", "1000"]);
    assert_eq!(get(server.port, "/cgi-bin/loops").status, 502);
    // SIGXCPU.
    server.wait_for_log("CGI script exit code -24");
}

#[test]
fn a_script_that_takes_too_much_memory_is_refused_it() {
    let site = Site::empty();
    let text = "#!/usr/bin/env python3\nprint()\ntry:\n    bytes(1 << 30)\n    print('had it')\n\
        except MemoryError:\n    print('refused')\n";
    script(&site, "cgi-bin/takes", text);
    let server = serve(&site, &["--cgi-max-memory", "268435456"]);
    assert_eq!(get(server.port, "/cgi-bin/takes").text(), "refused\n");
}

#[test]
fn a_flood_of_complaints_is_cut_and_counted() {
    const SIZE: usize = 10_000_000;
    let site = Site::empty();
    let text = format!("{SAY}; yes complaint | head -c {SIZE} >&2; printf all");
    script(&site, "cgi-bin/floods", &text);
    let server = serve(&site, &[]);
    assert_eq!(get(server.port, "/cgi-bin/floods").text(), "all");
    let line = server.wait_for_log(" more bytes of its standard error were not logged");
    let lost = SIZE - 64 * 1024;
    assert!(
        line.contains(&format!("CGI script /cgi-bin/floods: {lost} more")),
        "{line}"
    );
    let logged = server.log().matches("complaint").count();
    assert!(logged <= 64 * 1024 / "complaint\n".len() + 1, "{logged}");
}

#[test]
fn what_a_script_has_left_floods_nobody() {
    let site = Site::empty();
    script(
        &site,
        "cgi-bin/leaves",
        &format!("{SAY}; yes complaint >&2 & yes output & sleep 0.2; exit 0"),
    );
    let server = serve(&site, &[]);
    for _ in 0..3 {
        let response = get(server.port, "/cgi-bin/leaves");
        assert_eq!(response.status, 200);
        server.wait_for_log(" more bytes of its standard error were not logged");
    }
}
