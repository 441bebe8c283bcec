//! Many scripts: every answer right, and nothing left behind.

use std::io::{Read, Write};
use std::thread;

use harness::{Site, connect, request, responses};

use super::{children, get, open_pipes, script, serve, wait_until};

const TELL: &str = "printf 'Content-Type: text/plain\\n\\n'; echo \"$QUERY_STRING $(cat)\"";

#[test]
fn two_hundred_at_once_are_answered_right() {
    let site = Site::empty();
    script(&site, "cgi-bin/tell", TELL);
    let server = serve(&site, &[]);
    let mut streams: Vec<_> = (0..200)
        .map(|number| {
            let mut stream = connect(server.port);
            let body = format!("body {number}");
            let length = format!("Content-Length: {}", body.len());
            let head = request("POST", &format!("/cgi-bin/tell?n={number}"), &[&length]);
            stream
                .write_all(&[head, body.into()].concat())
                .expect("sent");
            stream
        })
        .collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("an answer");
        let responses = responses(&bytes, &["POST"]);
        assert_eq!(responses[0].text(), format!("n={number} body {number}\n"));
    }
    wait_until("no child is left", || children(&server).is_empty());
}

#[test]
fn a_thousand_leave_no_zombie_and_no_open_pipe() {
    let site = Site::empty();
    script(&site, "cgi-bin/tell", TELL);
    script(&site, "cgi-bin/fails", "exit 1");
    script(&site, "cgi-bin/deaf", "exec <&-; printf '\\n'");
    // Its open files are shown to root only otherwise.
    let server = serve(&site, &["--no-confine"]);
    get(server.port, "/cgi-bin/tell");
    wait_until("no child is left", || children(&server).is_empty());
    let before = open_pipes(&server);
    thread::scope(|scope| {
        for client in 0..8 {
            let port = server.port;
            scope.spawn(move || {
                for number in 0..125 {
                    let (target, status) = match number % 5 {
                        3 => ("/cgi-bin/fails".to_owned(), 502),
                        4 => ("/cgi-bin/deaf".to_owned(), 200),
                        _ => (format!("/cgi-bin/tell?{client}-{number}"), 200),
                    };
                    let response = get(port, &target);
                    assert_eq!(response.status, status, "{target}: {response:?}");
                    if number % 5 < 3 {
                        assert_eq!(response.text(), format!("{client}-{number} \n"));
                    }
                }
            });
        }
    });
    wait_until("no child is left", || children(&server).is_empty());
    wait_until("no pipe is open", || open_pipes(&server) == before);
}
