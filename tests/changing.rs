//! Files that change while they are served: a client gets the bytes it was promised, or sees that it
//! did not.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;

use harness::{Response, Server, Site, connect, get, process, read_head, read_response, request};

const MIB: usize = 1024 * 1024;

fn serve(site: &Site) -> Server {
    let program = env!("CARGO_BIN_EXE_sandserve");
    Server::start(program, &site.root(), &["--protocol", "HTTP/1.1"])
}

fn content(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at % 251) as u8).collect()
}

/// Asks for `/file.bin` and reads the head, and of the content no more than the first `part`. What
/// is on its way is bounded by the buffers of both ends, some MiB at most.
fn begin(server: &Server, part: &mut [u8]) -> (TcpStream, Response) {
    let mut stream = connect(server.port);
    let socket = socket2::SockRef::from(&stream);
    socket
        .set_recv_buffer_size(64 * 1024)
        .expect("a buffer size");
    stream
        .write_all(&request("GET", "/file.bin", &[]))
        .expect("a request is sent");
    let head = read_head(&mut stream);
    stream.read_exact(part).expect("a part of the content");
    (stream, head)
}

/// Asks for `target` on a connection that is open, and reads the answer.
fn get_on(stream: &mut TcpStream, target: &str) -> Response {
    stream
        .write_all(&request("GET", target, &[]))
        .expect("the connection is open");
    read_response(stream, "GET")
}

#[test]
fn a_truncated_file_ends_the_connection_short() {
    let site = Site::empty();
    let content = content(32 * MIB);
    let server = serve(&site);
    // Cuts that leave alone the pages which may be on their way, or drop them whole. Of the others,
    // `sendfile` may send the part that the kernel has just filled with zeros.
    for left in [0, 24 * MIB, 24 * MIB + 100] {
        let path = site.write("file.bin", &content);
        let mut received = vec![0; MIB / 4];
        let (mut stream, head) = begin(&server, &mut received);
        assert_eq!(head.header("Content-Length"), Some("33554432"), "{head:?}");
        let file = OpenOptions::new().write(true).open(&path).expect("a file");
        file.set_len(left as u64).expect("a file can be cut");
        // Another request on the same connection must not be answered inside this content.
        let _ = stream.write_all(&request("GET", "/missing", &[]));
        // A reset would be as good a way to say that this is not all.
        let _ = stream.read_to_end(&mut received);
        let length = received.len();
        assert!(length < content.len(), "cut to {left}: {head:?}");
        let same = (received.iter().zip(&content))
            .take_while(|(received, sent)| received == sent)
            .count();
        assert!(
            same == length,
            "cut to {left}: {length} bytes came, those from {same} on are wrong, {}...\n{head:?}",
            received[same..(same + 16).min(length)].escape_ascii()
        );
    }
}

#[test]
fn a_growing_file_is_sent_as_long_as_it_was() {
    let site = Site::empty();
    let server = serve(&site);
    let (content, more) = (content(8 * MIB), vec![b'+'; MIB]);
    let path = site.write("file.bin", &content);
    let mut received = vec![0; MIB / 4];
    let (mut stream, head) = begin(&server, &mut received);
    assert_eq!(head.header("Content-Length"), Some("8388608"), "{head:?}");
    let mut file = OpenOptions::new().append(true).open(&path).expect("a file");
    file.write_all(&more).expect("a file can grow");
    let start = received.len();
    received.resize(content.len(), 0);
    stream.read_exact(&mut received[start..]).expect("the rest");
    assert!(received == content, "{head:?}");
    let response = get_on(&mut stream, "/file.bin");
    assert_eq!(response.status, 200, "{response:?}");
    assert!(response.body == [content, more].concat(), "{response:?}");
}

#[test]
fn a_file_that_is_replaced_or_removed_is_sent_as_it_was() {
    let site = Site::empty();
    let server = serve(&site);
    let content = content(16 * MIB);
    let path = site.write("file.bin", &content);
    let mut received = vec![0; MIB / 4];
    let (mut stream, head) = begin(&server, &mut received);
    let replacement = site.write("new", "new\n");
    std::fs::rename(replacement, &path).expect("a file can be replaced");
    let start = received.len();
    received.resize(content.len(), 0);
    stream.read_exact(&mut received[start..]).expect("the rest");
    assert!(received == content, "{head:?}");
    let response = get_on(&mut stream, "/file.bin");
    assert_eq!(response.text(), "new\n", "{response:?}");
    std::fs::remove_file(path).expect("a file can be removed");
    let response = get_on(&mut stream, "/file.bin");
    assert_eq!(response.status, 404, "{response:?}");
}

#[test]
fn what_was_written_last_is_what_is_sent() {
    let site = Site::empty();
    let server = serve(&site);
    let mut stream = connect(server.port);
    for round in 0..200 {
        let content = format!("round {round}\n").repeat(round);
        let path = site.write("next", &content);
        std::fs::rename(path, site.root().join("file.txt")).expect("a file can be replaced");
        let response = get_on(&mut stream, "/file.txt");
        assert_eq!(response.text(), content, "{response:?}");
    }
    drop(File::create(site.root().join("file.txt")).expect("a file"));
    let response = get_on(&mut stream, "/file.txt");
    assert_eq!(
        (response.status, response.body.len()),
        (200, 0),
        "{response:?}"
    );
}

#[test]
fn a_file_that_is_rewritten_in_place_is_sent_as_it_is() {
    let site = Site::empty();
    let server = serve(&site);
    let mut stream = connect(server.port);
    for round in 100..300 {
        let content = format!("round {round}\n");
        site.write("file.txt", &content);
        let response = get_on(&mut stream, "/file.txt");
        assert_eq!(response.text(), content, "{response:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_gives_way_to_a_link_that_leads_out_is_no_longer_there() {
    let site = Site::empty();
    let server = serve(&site);
    for _ in 0..50 {
        let path = site.write("file.txt", "content\n");
        let mut stream = connect(server.port);
        let mut status = || get_on(&mut stream, "/file.txt").status;
        assert_eq!(status(), 200);
        std::fs::remove_file(&path).expect("a file can be removed");
        std::os::unix::fs::symlink(site.outside().join("secret.txt"), &path).expect("a link");
        assert_eq!(status(), 404);
        std::fs::remove_file(&path).expect("a link can be removed");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_is_not_held_open_after_it_was_sent() {
    let site = Site::empty();
    let program = env!("CARGO_BIN_EXE_sandserve");
    // Its open files are shown to root only otherwise.
    let server = Server::start(program, &site.root(), &["--no-confine"]);
    let path = site.write("file.txt", "content\n");
    assert_eq!(get(server.port, "/file.txt", &[]).status, 200);
    let is_open = || {
        let open = process::open_files(server.worker());
        open.contains(&path)
    };
    let closes = (0..1000).any(|_| get(server.port, "/missing", &[]).status == 404 && !is_open());
    assert!(closes, "it stays open");
}
