//! More scripts than may run at once.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use harness::{Response, Site, connect, read_head, request};

use super::{children, get, script, serve, wait_until};

fn ask_for(port: u16, target: &str) -> TcpStream {
    let mut stream = connect(port);
    stream
        .write_all(&request("GET", target, &[]))
        .expect("sent");
    stream
}

fn is_refused(response: &Response) -> bool {
    response.status == 503 && response.header("Retry-After") == Some("1")
}

#[test]
fn a_crowd_of_scripts_leaves_files_served_and_the_rest_is_told_to_come_back() {
    let site = Site::empty();
    site.write("file", "served");
    script(&site, "cgi-bin/endless", "exec sleep 1000");
    let server = serve(&site, &["--cgi-max-scripts", "2", "--cgi-timeout", "1000"]);
    let mut crowd: Vec<_> = (0..60)
        .map(|_| ask_for(server.port, "/cgi-bin/endless"))
        .collect();
    wait_until("two run", || children(&server).len() == 2);
    for _ in 0..20 {
        assert_eq!(get(server.port, "/file").text(), "served");
    }
    // All but the two that run are answered, at once or when they have waited.
    let response = get(server.port, "/cgi-bin/endless");
    assert!(is_refused(&response), "{response:?}");
    server.wait_for_log("no script could run in time: the limit of scripts is reached");
    for stream in &mut crowd {
        stream.set_nonblocking(true).expect("a socket");
    }
    wait_until("all but two are answered", || {
        let answered = crowd.iter().filter(|stream| stream.peek(&mut [0]).is_ok());
        answered.count() == 58
    });
    assert_eq!(children(&server).len(), 2);
    for stream in &mut crowd {
        if stream.peek(&mut [0]).is_ok() {
            stream.set_nonblocking(false).expect("a socket");
            assert_eq!(read_head(stream).status, 503);
        }
    }
}

#[test]
fn who_waits_for_a_moment_gets_an_answer() {
    let site = Site::empty();
    let go = site.root().join("go");
    let text = format!(
        "until [ -e {} ]; do sleep 0.02; done; printf '\\nfine'",
        go.display()
    );
    script(&site, "cgi-bin/waits", &text);
    for directory in [&*site.root(), site.root().parent().expect("a directory")] {
        super::set_mode(directory, 0o755);
    }
    let server = serve(&site, &["--cgi-max-scripts", "1"]);
    let streams: Vec<_> = (0..4)
        .map(|_| ask_for(server.port, "/cgi-bin/waits"))
        .collect();
    wait_until("one runs", || !children(&server).is_empty());
    fs::write(&go, "").expect("a file");
    for mut stream in streams {
        assert_eq!(read_head(&mut stream).status, 200);
    }
}

#[test]
fn a_script_that_is_given_up_makes_room() {
    let site = Site::empty();
    script(&site, "cgi-bin/endless", "exec sleep 1000");
    script(&site, "cgi-bin/fine", "printf '\\nfine'");
    let server = serve(&site, &["--cgi-max-scripts", "1", "--cgi-timeout", "1000"]);
    for _ in 0..3 {
        let stream = ask_for(server.port, "/cgi-bin/endless");
        wait_until("it runs", || !children(&server).is_empty());
        drop(stream);
        let target = "/cgi-bin/fine";
        wait_until("there is room", || get(server.port, target).status == 200);
    }
}

#[test]
fn a_client_that_is_slow_to_take_its_answer_gives_way_to_who_waits() {
    let site = Site::empty();
    // More than connections and pipes hold.
    let large = "printf '\\n'; exec head -c 100000000 /dev/zero";
    script(&site, "cgi-bin/large", large);
    script(&site, "cgi-bin/fine", "printf '\\nfine'");
    let server = serve(&site, &["--cgi-max-scripts", "1"]);
    let mut slow = ask_for(server.port, "/cgi-bin/large");
    assert_eq!(read_head(&mut slow).status, 200);
    wait_until("there is room", || {
        // As one that is asked to keep a least rate.
        let _ = (&slow).read(&mut [0; 600]);
        get(server.port, "/cgi-bin/fine").status == 200
    });
    server.wait_for_log("others needed");
    // It is not told that this was all.
    let end = slow.read_to_end(&mut Vec::new());
    assert_eq!(
        end.map_err(|error| error.kind()),
        Err(ErrorKind::ConnectionReset)
    );
}
