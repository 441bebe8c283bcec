//! Tests of names that are not UTF-8: they are listed, linked to by their bytes, and served.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use harness::{Response, Server, Site, ask, exchange, get, links, responses};

/// Files by the bytes of their names, the links that a listing has to them, and the names that it shows.
const FILES: &[(&[u8], &str, &str)] = &[
    (b"caf\xe9.txt", "caf%E9.txt", "caf\u{fffd}.txt"),
    (b"\x80", "%80", "\u{fffd}"),
    (b"\xff<b>\xfe", "%FF%3Cb%3E%FE", "\u{fffd}<b>\u{fffd}"),
    // Cut off in a character; a surrogate; a form that is too long.
    (b"\xe6\x97 a.txt", "%E6%97%20a.txt", "\u{fffd} a.txt"),
    (b"\xed\xb2\xbf", "%ED%B2%BF", "\u{fffd}\u{fffd}\u{fffd}"),
    (
        b"\xc0\xae\xc0\xae",
        "%C0%AE%C0%AE",
        "\u{fffd}\u{fffd}\u{fffd}\u{fffd}",
    ),
    // Characters that stand for bytes where only text can pass.
    (
        "\u{10f7ff}.txt".as_bytes(),
        "%F4%8F%9F%BF.txt",
        "\u{10f7ff}.txt",
    ),
    (
        b"\xf4\x8f\x9f\xbf\xff",
        "%F4%8F%9F%BF%FF",
        "\u{10f7ff}\u{fffd}",
    ),
    // Their neighbours, and what is shown for a byte.
    (
        "\u{10f77f}\u{10f800}".as_bytes(),
        "%F4%8F%9D%BF%F4%8F%A0%80",
        "\u{10f77f}\u{10f800}",
    ),
    ("\u{fffd}".as_bytes(), "%EF%BF%BD", "\u{fffd}"),
    ("\u{fc}.txt".as_bytes(), "%C3%BC.txt", "\u{fc}.txt"),
];

fn path(site: &Site, name: &[u8]) -> PathBuf {
    site.root().join(OsStr::from_bytes(name))
}

fn serve(site: &Site, arguments: &[&str]) -> Server {
    let program = env!("CARGO_BIN_EXE_sandserve");
    let arguments = [&["--protocol", "HTTP/1.1"], arguments].concat();
    Server::start(program, &site.root(), &arguments)
}

#[test]
fn names_that_are_not_utf_8_are_listed_and_served() {
    let site = Site::empty();
    for (name, link, _) in FILES {
        fs::write(path(&site, name), link).expect("a file");
    }
    let server = serve(&site, &[]);
    let page = get(server.port, "/", &[]).text();
    let links = links(&page);
    for (_, link, shown) in FILES {
        let expected = (link.to_string(), shown.to_string());
        assert!(links.contains(&expected), "no {expected:?} in {links:?}");
        for method in ["GET", "HEAD"] {
            let response = ask(server.port, method, &format!("/{link}"), &[]);
            assert_eq!(response.status, 200, "{method} {link}: {response:?}");
            let body = if method == "GET" { *link } else { "" };
            assert_eq!(response.text(), body, "{link}: {response:?}");
        }
    }
    assert_eq!(links.len(), FILES.len(), "{links:?}");
}

#[test]
fn a_listing_as_json_has_a_link_where_a_name_is_no_text() {
    let site = Site::empty();
    site.write("a.txt", "");
    fs::write(path(&site, b"b\xff \"c\""), "").expect("a file");
    let server = serve(&site, &[]);
    let json = get(server.port, "/", &["Accept: application/json"]).text();
    let object = "{\"name\":\"b\u{fffd} \\\"c\\\"\",\"link\":\"b%FF%20%22c%22\",\"type\":\"file\",";
    assert!(json.contains(object), "{json}");
    assert!(json.contains("{\"name\":\"a.txt\",\"type\":"), "{json}");
}

#[test]
fn a_directory_with_such_a_name_is_one_like_any() {
    let site = Site::empty();
    let directory = path(&site, b"d\xff");
    fs::create_dir(&directory).expect("a directory");
    fs::write(directory.join("inside.txt"), "inside\n").expect("a file");
    symlink(
        OsStr::from_bytes(b"d\xff/inside.txt"),
        site.root().join("link"),
    )
    .expect("a link");
    symlink("../d", directory.join("broken")).expect("a link");
    symlink("inside.txt", directory.join("good")).expect("a link");
    let server = serve(&site, &["--upload"]);
    let response = get(server.port, "/d%FF", &[]);
    assert_eq!(response.status, 301, "{response:?}");
    assert_eq!(response.header("Location"), Some("/d%FF/"), "{response:?}");
    for target in [
        "/d%FF/inside.txt",
        "/d%ff/%69nside.txt",
        "/link",
        "/d%FF/good",
    ] {
        let response = get(server.port, target, &[]);
        assert_eq!(response.text(), "inside\n", "{target}: {response:?}");
    }
    let listing = get(server.port, "/d%FF/", &["Accept: application/json"]).text();
    let leads_to = "\"good\",\"type\":\"link\",\"leads_to\":\"file\"";
    assert!(listing.contains(leads_to), "{listing}");
    // What is sent there stays there, but by a name that every client can have.
    let put = |target: &str| -> Response {
        let raw = format!("PUT {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nnew");
        let bytes = exchange(server.port, raw.as_bytes());
        let mut responses = responses(&bytes, &["PUT"]);
        responses.pop().expect("a response")
    };
    let response = put("/d%FF/new.txt");
    assert_eq!(response.status, 201, "{response:?}");
    assert_eq!(fs::read(directory.join("new.txt")).expect("a file"), b"new");
    for target in ["/new%FF.txt", "/d%FF/%F4%8F%9F%BF"] {
        let response = put(target);
        assert_eq!(response.status, 400, "{target}: {response:?}");
    }
}

#[test]
fn a_target_may_spell_a_byte_as_python_does() {
    let site = Site::empty();
    fs::write(path(&site, b"caf\xe9.txt"), "latin-1\n").expect("a file");
    fs::write(path(&site, b"\xed\xb2\x80"), "its own bytes\n").expect("a file");
    fs::write(path(&site, b"\x80"), "a byte\n").expect("a file");
    fs::create_dir(path(&site, b"\xfe")).expect("a directory");
    fs::write(path(&site, b"\xfe/a.txt"), "").expect("a file");
    let server = serve(&site, &[]);
    for (target, content) in [
        ("/caf%ED%B3%A9.txt", "latin-1\n"),
        ("/caf%E9.txt", "latin-1\n"),
        // Bytes first: a file may be named so.
        ("/%ED%B2%80", "its own bytes\n"),
        ("/%80", "a byte\n"),
    ] {
        let response = get(server.port, target, &[]);
        assert_eq!(response.text(), content, "{target}: {response:?}");
    }
    let response = get(server.port, "/%ED%B3%BE/", &[]);
    assert!(response.text().contains("href=\"a.txt\""), "{response:?}");
    for target in [
        "/%ED%B3%A9.txt",
        "/%ED%B1%A9",
        "/%EF%BF%BD",
        "/%F4%8F%9F%A9.txt",
    ] {
        let response = get(server.port, target, &[]);
        assert_eq!(response.status, 404, "{target}: {response:?}");
    }
}

/// Characters that stand for bytes spell no name that has another spelling.
#[test]
fn no_name_can_be_had_by_two_texts() {
    let site = Site::empty();
    site.write("\u{fc}.txt", "u\n");
    fs::create_dir(site.root().join("\u{fc}")).expect("a directory");
    let server = serve(&site, &[]);
    // U+10F7C3 U+10F7BC, which stand for the two bytes of U+00FC.
    let coded = "%F4%8F%9F%83%F4%8F%9E%BC";
    for target in [
        format!("/{coded}.txt"),
        format!("/{coded}/"),
        format!("/{coded}"),
    ] {
        let response = get(server.port, &target, &[]);
        assert_eq!(response.status, 404, "{target}: {response:?}");
    }
}
