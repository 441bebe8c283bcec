//! Content in and output out, as they come.

use std::io::{Read, Write};

use harness::process::peak_memory;
use harness::{Site, connect, read_head, request};

use super::{ask, script, serve};

/// Reads from `stream` until what came ends in `end`.
pub(super) fn read_until(stream: &mut impl Read, end: &str) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end.as_bytes()) {
        let mut byte = [0];
        match stream.read_exact(&mut byte) {
            Ok(()) => bytes.push(byte[0]),
            Err(error) => panic!("{error} after {}", bytes.escape_ascii()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_line_is_seen_when_it_is_written_and_a_piece_of_content_when_it_is_sent() {
    let site = Site::empty();
    // Says a line for each it gets, and only then.
    let echo = "printf 'Content-Type: text/plain\\n\\nready\\n'
        while read line; do echo \"got $line\"; done; echo end";
    script(&site, "cgi-bin/echo", echo);
    for protocol in ["HTTP/1.0", "HTTP/1.1"] {
        let server = serve(&site, &["--protocol", protocol]);
        let mut stream = connect(server.port);
        let head = request("POST", "/cgi-bin/echo", &["Transfer-Encoding: chunked"]);
        stream.write_all(&head).expect("sent");
        assert_eq!(read_head(&mut stream).status, 200);
        read_until(&mut stream, "ready\n");
        for word in ["one", "two", "three"] {
            let chunk = format!("{:x}\r\n{word}\n\r\n", word.len() + 1);
            // The framing may come in pieces too.
            for piece in [&chunk[..1], &chunk[1..]] {
                stream.write_all(piece.as_bytes()).expect("sent");
            }
            read_until(&mut stream, &format!("got {word}\n"));
        }
        stream.write_all(b"0\r\n\r\n").expect("sent");
        read_until(&mut stream, "end\n");
    }
}

#[test]
fn neither_content_nor_output_is_held_whole() {
    const SIZE: usize = 128 * 1024 * 1024;
    let site = Site::empty();
    script(
        &site,
        "cgi-bin/count",
        "printf 'Content-Type: text/plain\\n\\n'; wc -c",
    );
    script(
        &site,
        "cgi-bin/zeros",
        &format!("printf 'Content-Type: text/plain\\n\\n'; head -c {SIZE} /dev/zero"),
    );
    let server = serve(&site, &[]);
    assert_eq!(
        ask(server.port, "POST", "/cgi-bin/count", &[], b"12345")
            .text()
            .trim(),
        "5"
    );
    let before = peak_memory(server.worker());

    let mut stream = connect(server.port);
    let length = format!("Content-Length: {SIZE}");
    stream
        .write_all(&request("POST", "/cgi-bin/count", &[&length]))
        .expect("sent");
    let piece = vec![b'x'; 1024 * 1024];
    for _ in 0..SIZE / piece.len() {
        stream.write_all(&piece).expect("sent");
    }
    assert_eq!(read_head(&mut stream).status, 200);
    let mut count = String::new();
    stream.read_to_string(&mut count).expect("an answer");
    assert_eq!(count.trim(), SIZE.to_string());

    let mut stream = connect(server.port);
    stream
        .write_all(&request("GET", "/cgi-bin/zeros", &[]))
        .expect("sent");
    assert_eq!(read_head(&mut stream).status, 200);
    let mut piece = vec![0; 1024 * 1024];
    let mut size = 0;
    loop {
        match stream.read(&mut piece).expect("an answer") {
            0 => break,
            length => size += length,
        }
    }
    assert_eq!(size, SIZE);
    let growth = peak_memory(server.worker()) - before;
    assert!(growth < 32 * 1024 * 1024, "{growth} bytes more");
}

#[test]
fn both_directions_move_at_once() {
    const SIZE: usize = 16 * 1024 * 1024;
    let site = Site::empty();
    script(
        &site,
        "cgi-bin/cat",
        "printf 'Content-Type: text/plain\\n\\n'; cat",
    );
    let server = serve(&site, &[]);
    let mut stream = connect(server.port);
    let mut writer = stream.try_clone().expect("the same connection");
    let content: Vec<u8> = (0..SIZE).map(|at| (at * 7 / 5) as u8).collect();
    let sent = content.clone();
    let writing = std::thread::spawn(move || {
        let length = format!("Content-Length: {SIZE}");
        let head = request("POST", "/cgi-bin/cat", &[&length]);
        writer.write_all(&[head, sent].concat()).expect("sent");
    });
    assert_eq!(read_head(&mut stream).status, 200);
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    writing.join().expect("sent");
    assert!(bytes == content, "{} bytes of {SIZE}", bytes.len());
}

#[test]
fn content_that_a_script_does_not_read_does_no_harm() {
    let site = Site::empty();
    script(
        &site,
        "cgi-bin/deaf",
        "exec <&-; printf 'Content-Type: text/plain\\n\\nheard nothing'",
    );
    let server = serve(&site, &[]);
    let content = vec![b'x'; 1024 * 1024];
    let response = ask(server.port, "POST", "/cgi-bin/deaf", &[], &content);
    assert_eq!(response.text(), "heard nothing", "{response:?}");
}

#[test]
fn content_whose_framing_is_broken_is_refused() {
    let site = Site::empty();
    script(
        &site,
        "cgi-bin/count",
        "n=$(wc -c); printf 'Content-Type: text/plain\\n\\n'$n",
    );
    let server = serve(&site, &[]);
    let mut stream = connect(server.port);
    let head = request("POST", "/cgi-bin/count", &["Transfer-Encoding: chunked"]);
    stream
        .write_all(&[&head[..], b"3\r\nabc\r\nnonsense\r\n"].concat())
        .expect("sent");
    assert_eq!(read_head(&mut stream).status, 400);
}
