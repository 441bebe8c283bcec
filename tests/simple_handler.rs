//! `SimpleHTTPRequestHandler` as something to build on: each of its steps overridden in
//! `examples/simple_names.rs`, and what is left of it when one is.

use std::process::Command;

use harness::{Server, Site, example, exchange, get, request, responses};

#[test]
fn each_step_of_serving_files_can_be_overridden() {
    let site = Site::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandserve"));
    command.args(["-b", "127.0.0.1", "-d"]).arg(site.root());
    let server = Server::spawn({
        command
            .arg("--handler")
            .arg(example("simple_names"))
            .arg("0");
        command
    });
    let cases = [
        // directory and index_pages: `listed/b.txt` stands for the root; extensions_map: its type.
        ("/", 200, "text/x-mapped", "b\n"),
        ("/A.txt", 200, "text/x-mapped", "A\n"),
        // translate_path, and guess_type by name.
        ("/root/hello.txt", 200, "text/x-guessed", "hello\n"),
        (
            "/root/page.html",
            200,
            "text/html",
            "<!doctype html><title>page</title>\n",
        ),
        // send_head.
        (
            "/gone",
            410,
            "text/html;charset=utf-8",
            "<p>Message: Gone.</p>",
        ),
        // list_directory, refused in one place; copyfile, which shouts pages.
        (
            "/deep/er/",
            403,
            "text/html;charset=utf-8",
            "<p>Message: No listing.</p>",
        ),
        (
            "/deep/",
            200,
            "text/html; charset=utf-8",
            "<TITLE>DIRECTORY LISTING FOR /DEEP/</TITLE>",
        ),
        // What is not overridden.
        (
            "/hello.txt",
            404,
            "text/html;charset=utf-8",
            "<p>Message: File not found.</p>",
        ),
        (
            "/root/link-outside",
            404,
            "text/html;charset=utf-8",
            "<p>Message: File not found.</p>",
        ),
    ];
    for (target, status, content_type, part) in cases {
        let response = get(server.port, target, &[]);
        assert_eq!(response.status, status, "{target}: {response:?}");
        assert_eq!(
            response.header("Content-Type"),
            Some(content_type),
            "{target}: {response:?}"
        );
        assert_eq!(
            response.header("X-Steps"),
            Some("end_headers"),
            "{target}: {response:?}"
        );
        assert!(response.text().contains(part), "{target}: {response:?}");
        let bytes = exchange(server.port, &request("HEAD", target, &[]));
        let head = &responses(&bytes, &["HEAD"])[0];
        assert_eq!(head.status, status, "HEAD {target}: {head:?}");
        assert_eq!(
            head.header("Content-Length"),
            response.header("Content-Length"),
            "{target}"
        );
    }
}
