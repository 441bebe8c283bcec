//! Files that are compressed as they are sent: which are, for whom, and how the answer differs from the file.

use std::fs::File;
use std::io::{Read, Write};
use std::time::{Duration, UNIX_EPOCH};

use flate2::read::GzDecoder;
use harness::{Response, Server, Site, ask, connect, get, read_response, request};

const GZIP: &str = "Accept-Encoding: gzip";
/// The sizes that are worth compressing, in bytes: from this one up to [`LARGEST`].
const SMALLEST: usize = 1024;
const LARGEST: usize = 2 * 1024 * 1024;

fn serve(site: &Site, options: &[&str]) -> Server {
    let program = env!("CARGO_BIN_EXE_sandserve");
    let protocol = ["--protocol", "HTTP/1.1"];
    Server::start(program, &site.root(), &[options, &protocol].concat())
}

/// Returns text of `size` bytes, whose lines are all different.
fn text(size: usize) -> String {
    let mut text: String = (0..=size / 12)
        .map(|line| format!("line {line:06}\n"))
        .collect();
    text.truncate(size);
    text
}

/// Returns the content of the response as it was before compression.
fn decoded(response: &Response) -> String {
    assert_eq!(
        response.header("Content-Encoding"),
        Some("gzip"),
        "{response:?}"
    );
    let mut text = String::new();
    let mut decoder = GzDecoder::new(&response.body[..]);
    decoder.read_to_string(&mut text).expect("gzip");
    text
}

#[test]
fn text_is_compressed_for_clients_that_take_it() {
    let site = Site::empty();
    for name in [
        "a.txt", "a.html", "a.js", "a.json", "a.svg", "a.png", "a.wasm", "a",
    ] {
        site.write(name, text(100_000));
    }
    site.write("sub/index.html", text(5000));
    let server = serve(&site, &["--compress"]);
    for (target, accept, is_compressed) in [
        ("/a.txt", "gzip", true),
        ("/a.html", "gzip, deflate, br, zstd", true),
        ("/a.js", "*", true),
        ("/a.json", "br, x-gzip;q=0.2", true),
        ("/a.svg", "GZIP", true),
        ("/sub/", "gzip", true),
        ("/a.txt", "br", false),
        ("/a.txt", "gzip;q=0", false),
        ("/a.txt", "gzip;q=7", false),
        ("/a.txt", "gzip;q=0.5, identity", false),
        ("/a.txt", "*;q=0", false),
        ("/a.txt", "", false),
        ("/a.png", "gzip", false),
        ("/a.wasm", "gzip", true),
        ("/a", "gzip", true),
    ] {
        let accept = format!("Accept-Encoding: {accept}");
        let response = get(server.port, target, &[&accept]);
        let what = format!("{target} {accept}");
        assert_eq!(response.status, 200, "{what}: {response:?}");
        let size = if target == "/sub/" { 5000 } else { 100_000 };
        if is_compressed {
            assert!(decoded(&response) == text(size), "{what}");
            assert!(response.body.len() < size / 2, "{what}");
            assert_eq!(response.header("Accept-Ranges"), None, "{what}");
        } else {
            assert_eq!(response.header("Content-Encoding"), None, "{what}");
            assert!(response.text() == text(size), "{what}");
        }
        let varies = target != "/a.png";
        let vary = response.header("Vary");
        assert_eq!(vary, varies.then_some("Accept-Encoding"), "{what}");
        let head = ask(server.port, "HEAD", target, &[&accept]);
        let mut fields = response.fields();
        // Nothing is compressed for it, so nobody knows how long that would be (RFC 9110 9.3.2).
        fields.retain(|(name, _)| !is_compressed || name != "content-length");
        assert_eq!(head.fields(), fields, "{what}");
        let again = get(server.port, target, &[&accept]);
        assert!(again.body == response.body, "{what}");
    }
}

#[test]
fn what_becomes_smaller_is_compressed_whatever_its_type() {
    let site = Site::empty();
    let server = serve(&site, &["--compress"]);
    let text = text(5000).into_bytes();
    // A packet of a stream of video, and bytes of a font.
    let stream = [&[0x47, 0x40, 0, 0x10][..], &[0xff; 184]]
        .concat()
        .repeat(30);
    let font = [0, 1, 0, 0, 0, 20].repeat(1000);
    let coded = |magic: &[u8]| [magic, &font].concat();
    for (name, content, is_compressed) in [
        ("a.yaml", &text, true),
        ("a.yml", &text, true),
        ("a.jsonl", &text, true),
        ("a.ndjson", &text, true),
        ("a.sql", &text, true),
        ("a.toml", &text, true),
        ("a.gltf", &text, true),
        ("code.ts", &text, true),
        ("code.tsx", &text, true),
        ("a.unknownext", &text, true),
        ("LICENSE", &text, true),
        ("a.ttf", &font, true),
        ("a.otf", &font, true),
        ("a.wasm", &font, true),
        ("a.bmp", &font, true),
        ("stream.ts", &stream, false),
        ("a.woff2", &font, false),
        ("a.png", &font, false),
        ("a.mp4", &font, false),
        ("a.mp3", &font, false),
        ("a.pdf", &text, false),
        ("a.zip", &coded(b"PK\x03\x04"), false),
        ("a.docx", &coded(b"PK\x03\x04"), false),
        ("a.js.gz", &coded(b"\x1f\x8b\x08"), false),
        ("a.js.zst", &coded(b"\x28\xb5\x2f\xfd"), false),
        ("a.unknown-coding", &coded(b"\x1f\x8b\x08"), false),
    ] {
        site.write(name, content);
        let target = format!("/{name}");
        let response = get(server.port, &target, &[GZIP]);
        let coding = response.header("Content-Encoding");
        assert_eq!(
            coding == Some("gzip"),
            is_compressed,
            "{name}: {}",
            response.head
        );
        let head = ask(server.port, "HEAD", &target, &[GZIP]);
        assert_eq!(head.header("Content-Encoding"), coding, "{name}");
        let plain = get(server.port, &target, &[]);
        assert!(plain.body == *content, "{name}");
    }
    // A file in a coding by its name is not put into another.
    site.write("page.html.br", &text);
    let response = get(server.port, "/page.html.br", &[GZIP]);
    assert_eq!(
        response.header("Content-Encoding"),
        Some("br"),
        "{response:?}"
    );
    assert!(response.body == text);
}

#[test]
fn what_is_too_short_or_too_long_is_sent_as_it_is() {
    let site = Site::empty();
    let server = serve(&site, &["--compress"]);
    for (size, is_compressed) in [
        (0, false),
        (SMALLEST - 1, false),
        (SMALLEST, true),
        (LARGEST, true),
        (LARGEST + 1, false),
    ] {
        site.write("a.txt", text(size));
        let response = get(server.port, "/a.txt", &[GZIP]);
        match is_compressed {
            true => assert!(decoded(&response) == text(size), "{size}"),
            false => assert!(response.text() == text(size), "{size}"),
        }
    }
}

#[test]
fn nothing_is_compressed_unless_asked() {
    let site = Site::empty();
    site.write("a.txt", text(5000));
    for options in [&[][..], &["--cache", "5"]] {
        let response = get(serve(&site, options).port, "/a.txt", &[GZIP]);
        assert_eq!(response.header("Content-Encoding"), None, "{response:?}");
        assert_eq!(response.text(), text(5000));
    }
}

#[test]
fn what_lies_ready_is_sent_instead() {
    let site = Site::empty();
    for name in ["a.js", "b.js"] {
        site.write(name, text(5000));
    }
    site.write("a.js.br", "br");
    site.write("b.js.gz", "gz");
    let server = serve(&site, &["--compress"]);
    for (target, accept, content) in [
        ("/a.js", "br, gzip", "br"),
        ("/a.js", "br;q=0.1, gzip", "br"),
        ("/b.js", "gzip", "gz"),
        ("/b.js", "br, gzip", "gz"),
    ] {
        let accept = format!("Accept-Encoding: {accept}");
        let response = get(server.port, target, &[&accept]);
        assert_eq!(response.text(), content, "{target} {accept}");
    }
    assert!(decoded(&get(server.port, "/a.js", &[GZIP])) == text(5000));
}

#[test]
fn compressed_text_has_a_tag_of_its_own() {
    let site = Site::empty();
    site.write("a.txt", text(5000));
    let server = serve(&site, &["--compress"]);
    let tag = |headers: &[&str]| {
        let response = get(server.port, "/a.txt", headers);
        response.header("ETag").expect("a tag").to_owned()
    };
    let (plain, gzip) = (tag(&[]), tag(&[GZIP]));
    assert_ne!(plain, gzip);
    for (condition, tag, status) in [
        ("If-None-Match", &gzip, 304),
        ("If-None-Match", &plain, 200),
        ("If-Match", &gzip, 200),
        ("If-Match", &plain, 412),
    ] {
        let condition = format!("{condition}: {tag}");
        for method in ["GET", "HEAD"] {
            let response = ask(server.port, method, "/a.txt", &[GZIP, &condition]);
            assert_eq!(
                response.status, status,
                "{method} {condition}: {response:?}"
            );
            if status != 412 {
                assert_eq!(response.header("ETag"), Some(&*gzip), "{response:?}");
                assert_eq!(
                    response.header("Vary"),
                    Some("Accept-Encoding"),
                    "{response:?}"
                );
            }
        }
    }
}

#[test]
fn parts_are_of_the_file_as_it_is() {
    let site = Site::empty();
    site.write("a.txt", text(5000));
    let server = serve(&site, &["--compress"]);
    let plain = get(server.port, "/a.txt", &[]);
    let tag = |response: &Response| response.header("ETag").expect("a tag").to_owned();
    let gzip = tag(&get(server.port, "/a.txt", &[GZIP]));
    let if_same = format!("If-Range: {}", tag(&plain));
    let if_compressed = format!("If-Range: {gzip}");
    for (headers, status, content) in [
        (&["Range: bytes=0-3"][..], 206, "line"),
        (&["Range: bytes=0-3", &if_same], 206, "line"),
        (&["Range: bytes=0-3", &if_compressed], 200, &*text(5000)),
        (&["Range: bytes=9999-"], 416, ""),
    ] {
        let response = get(server.port, "/a.txt", &[&[GZIP], headers].concat());
        assert_eq!(response.status, status, "{headers:?}: {response:?}");
        assert_eq!(response.text(), content, "{headers:?}");
        assert_eq!(response.header("Content-Encoding"), None, "{headers:?}");
        if status != 416 {
            assert_eq!(tag(&response), tag(&plain), "{headers:?}: {response:?}");
        }
    }
}

/// Writes `content` to `a.txt` where that is, as modified so many seconds after 2020.
fn overwrite(site: &Site, content: &str, seconds: u64) {
    let path = site.write("a.txt", content);
    let modified = UNIX_EPOCH + Duration::from_secs(1_600_000_000 + seconds);
    let file = File::options().write(true).open(path).expect("a file");
    file.set_modified(modified).expect("a time");
}

#[test]
fn one_tag_stands_for_the_same_bytes_however_often_they_are_asked_for() {
    let site = Site::empty();
    // In one instance, which would have kept what it has made.
    let server = serve(&site, &["--compress", "--single"]);
    let mut stream = connect(server.port);
    let mut ask = |method: &str, fields: &[&str]| {
        let raw = request(method, "/a.txt", &[&[GZIP], fields].concat());
        stream.write_all(&raw).expect("sent");
        read_response(&mut stream, method)
    };
    let [one, other] = [text(50_000), text(50_000).to_uppercase()];
    overwrite(&site, &one, 0);
    let first = ask("GET", &[]);
    assert!(decoded(&first) == one);
    let tag = first.header("ETag").expect("a tag");
    // Another content with the size and the time of the first. What has the tag of the first is the first.
    overwrite(&site, &other, 0);
    let second = ask("GET", &[]);
    let content = match second.header("ETag") == Some(tag) {
        true => &one,
        false => &other,
    };
    assert!(decoded(&second) == *content, "{tag}");
    let condition = format!("If-None-Match: {}", second.header("ETag").expect("a tag"));
    for method in ["GET", "HEAD"] {
        assert_eq!(ask(method, &[&condition]).status, 304);
    }
    let head = ask("HEAD", &[]);
    assert_eq!(head.header("Content-Length"), None, "{head:?}");
    assert_eq!(head.header("ETag"), second.header("ETag"), "{head:?}");
    // One that shows that it has changed is another.
    overwrite(&site, &other, 1);
    let third = ask("GET", &[]);
    assert_ne!(third.header("ETag"), second.header("ETag"));
    assert!(decoded(&third) == other);
    let condition = format!("If-None-Match: {tag}");
    assert_eq!(ask("GET", &[&condition]).status, 200);
    // So is one that has just been written.
    for content in [&one, &other, &one] {
        site.write("a.txt", content);
        assert!(decoded(&ask("GET", &[])) == *content);
    }
}
