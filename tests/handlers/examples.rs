//! The handlers that show how to write one: each does what its first line says.

use harness::{Site, ask, exchange, get, responses};

use super::{CLOSE, content, start, upload};

#[test]
fn add_header_silent_and_index_page_change_the_file_server() {
    let site = Site::new();
    site.write("readme/README.html", "readme\n");
    site.write("readme/index.html", "index\n");
    let server = start("add_header", &site.root(), &[]);
    for (method, target) in [
        ("GET", "/hello.txt"),
        ("HEAD", "/listed/"),
        ("GET", "/missing"),
    ] {
        let response = ask(server.port, method, target, &[]);
        assert_eq!(
            response.header("Cache-Control"),
            Some("no-store"),
            "{response:?}"
        );
    }
    assert_eq!(get(server.port, "/hello.txt", &[]).text(), "hello\n");
    let server = start("index_page", &site.root(), &[]);
    for (target, wanted) in [
        ("/readme/", "readme\n"),
        ("/with-index/", "<!doctype html><title>index.html</title>\n"),
        ("/hello.txt", "hello\n"),
    ] {
        assert_eq!(get(server.port, target, &[]).text(), wanted, "{target}");
    }
    let listing = get(server.port, "/with-htm/", &[]);
    assert!(listing.text().contains("index.htm"), "{listing:?}");
    let mut server = start("silent", &site.root(), &[]);
    assert_eq!(get(server.port, "/hello.txt", &[]).text(), "hello\n");
    assert_eq!(get(server.port, "/missing", &[]).status, 404);
    server.signal("TERM");
    assert!(server.wait().success());
    assert_eq!(server.log(), "");
}

#[test]
fn echo_sends_back_what_it_is_sent() {
    let large: Vec<u8> = (0..3_000_000_u32).map(|at| (at / 5) as u8).collect();
    let server = start("echo", ".".as_ref(), &["--protocol", "HTTP/1.1"]);
    for (headers, sent, content_type) in [
        (&[][..], &b""[..], "application/octet-stream"),
        (&["Content-Type: text/x"], b"hello", "text/x"),
        (&[], &large, "application/octet-stream"),
    ] {
        let headers = [headers, &[CLOSE]].concat();
        let found = responses(
            &exchange(server.port, &upload("POST", "/", &headers, sent)),
            &[],
        );
        assert_eq!(found[0].header("Content-Type"), Some(content_type));
        assert!(
            content(&found[0]) == sent,
            "{} bytes: {found:?}",
            sent.len()
        );
    }
    // The methods that it does not have.
    for method in ["GET", "BREW", "get"] {
        let response = ask(server.port, method, "/", &[]);
        assert_eq!(response.status, 501, "{response:?}");
        let message = format!("Unsupported method ('{method}')");
        assert!(response.text().contains(&message), "{response:?}");
    }
    let response = ask(server.port, "HEAD", "/", &[]);
    assert!(
        response
            .head
            .starts_with("HTTP/1.1 501 Unsupported method ('HEAD')")
    );
}

#[test]
fn mock_api_counts_across_connections_if_single() {
    for (arguments, wanted) in [(&["--single"][..], [1, 2, 3]), (&[], [1, 1, 1])] {
        let server = start("mock_api", ".".as_ref(), arguments);
        for count in wanted {
            let response = get(server.port, "/counter", &[]);
            assert_eq!(
                response.text(),
                format!("{{\"count\": {count}}}"),
                "{arguments:?}"
            );
            assert_eq!(response.header("Content-Type"), Some("application/json"));
        }
        assert_eq!(get(server.port, "/else", &[]).status, 404);
    }
}

#[test]
fn error_page_shows_its_own_page() {
    let server = start("error_page", ".".as_ref(), &[]);
    let response = get(server.port, "/", &[]);
    let wanted = "<!doctype html><title>404</title><p>Sorry: nothing &lt;here&gt; \
        (Nothing matches the given URI)\n";
    assert_eq!(response.text(), wanted);
    assert_eq!(
        response.header("Content-Type"),
        Some("text/html"),
        "{response:?}"
    );
}
