//! Files that lie ready compressed beside a file, for the clients that take them, and files that are
//! compressed by their names.

use std::fs::File;
use std::time::{Duration, SystemTime};

use harness::{Server, Site, ask, get};

fn serve(site: &Site) -> Server {
    let program = env!("CARGO_BIN_EXE_sandserve");
    Server::start(program, &site.root(), &["--protocol", "HTTP/1.1"])
}

/// Files whose content says which of them was sent.
fn site() -> Site {
    let site = Site::new();
    for name in [
        "app.js",
        "app.js.br",
        "app.js.zst",
        "app.js.gz",
        "only.css",
        "only.css.gz",
        "photo.png",
        "photo.png.gz",
        "sub/index.html",
        "sub/index.html.br",
        "missing.txt.gz",
    ] {
        site.write(name, format!("{name}\n"));
    }
    site
}

#[test]
fn a_client_gets_the_coding_it_likes_best() {
    let site = site();
    let server = serve(&site);
    for (target, accept, name, coding) in [
        ("/app.js", "", "app.js", None),
        ("/app.js", "gzip", "app.js.gz", Some("gzip")),
        (
            "/app.js",
            "gzip, deflate, br, zstd",
            "app.js.br",
            Some("br"),
        ),
        ("/app.js", "zstd, gzip", "app.js.zst", Some("zstd")),
        ("/app.js", "br;q=0.5, gzip;q=0.8", "app.js.gz", Some("gzip")),
        ("/app.js", "br;q=0, gzip;q=0, zstd;q=0", "app.js", None),
        ("/app.js", "identity, gzip;q=0.5", "app.js", None),
        ("/app.js", "gzip;q=1000000000000", "app.js", None),
        ("/app.js", "*", "app.js.br", Some("br")),
        ("/app.js?v=1", "br", "app.js.br", Some("br")),
        ("/only.css", "br, gzip", "only.css.gz", Some("gzip")),
        ("/only.css", "br", "only.css", None),
        ("/sub/", "br", "sub/index.html.br", Some("br")),
        // Whoever has put it there knows that it is smaller.
        ("/photo.png", "gzip", "photo.png.gz", Some("gzip")),
        ("/photo.png", "br", "photo.png", None),
    ] {
        let accept = format!("Accept-Encoding: {accept}");
        let response = get(server.port, target, &[&accept]);
        assert_eq!(response.status, 200, "{target} {accept}: {response:?}");
        assert_eq!(response.text(), format!("{name}\n"), "{target} {accept}");
        assert_eq!(
            response.header("Content-Encoding"),
            coding,
            "{target} {accept}"
        );
        let head = ask(server.port, "HEAD", target, &[&accept]);
        let undated = |head: &str| -> Vec<String> {
            let lines = head.lines().filter(|line| !line.starts_with("Date"));
            lines.map(str::to_owned).collect()
        };
        assert_eq!(
            undated(&head.head),
            undated(&response.head),
            "{target} {accept}"
        );
    }
}

#[test]
fn the_type_is_that_of_the_file_and_caches_are_told() {
    let site = site();
    let server = serve(&site);
    for accept in ["Accept-Encoding: br", "Accept: */*"] {
        let response = get(server.port, "/app.js", &[accept]);
        assert_eq!(
            response.header("Content-Type"),
            Some("text/javascript"),
            "{response:?}"
        );
        assert_eq!(
            response.header("Vary"),
            Some("Accept-Encoding"),
            "{response:?}"
        );
    }
    for (accept, vary) in [("br", None), ("gzip", Some("Accept-Encoding"))] {
        let accept = format!("Accept-Encoding: {accept}");
        let image = get(server.port, "/photo.png", &[&accept]);
        assert_eq!(image.header("Vary"), vary, "{image:?}");
    }
    // The sibling alone is no file of that name, and is a file of its own.
    assert_eq!(
        get(server.port, "/missing.txt", &["Accept-Encoding: gzip"]).status,
        404
    );
    let sibling = get(server.port, "/app.js.gz", &["Accept-Encoding: gzip"]);
    assert_eq!(sibling.header("Content-Encoding"), None, "{sibling:?}");
    assert_eq!(
        sibling.header("Content-Type"),
        Some("application/gzip"),
        "{sibling:?}"
    );
}

#[test]
fn validators_and_ranges_are_of_what_is_sent() {
    let site = site();
    let server = serve(&site);
    let tag = |accept: &str| {
        let response = get(server.port, "/app.js", &[accept]);
        response.header("ETag").expect("a tag").to_owned()
    };
    let (plain, br) = (tag("Accept: */*"), tag("Accept-Encoding: br"));
    assert_ne!(plain, br);
    for (tag, status) in [(&plain, 200), (&br, 304)] {
        let condition = format!("If-None-Match: {tag}");
        let response = get(server.port, "/app.js", &["Accept-Encoding: br", &condition]);
        assert_eq!(response.status, status, "{response:?}");
        assert_eq!(response.header("ETag"), Some(&*br), "{response:?}");
        assert_eq!(
            response.header("Vary"),
            Some("Accept-Encoding"),
            "{response:?}"
        );
    }
    let part = get(
        server.port,
        "/app.js",
        &["Accept-Encoding: br", "Range: bytes=7-8"],
    );
    assert_eq!((part.status, part.text().as_str()), (206, "br"), "{part:?}");
    assert_eq!(part.header("Content-Encoding"), Some("br"), "{part:?}");
    assert_eq!(
        part.header("Content-Range"),
        Some("bytes 7-8/10"),
        "{part:?}"
    );
}

#[cfg(unix)]
#[test]
fn a_sibling_cannot_lead_outside() {
    let site = site();
    std::fs::write(site.outside().join("secret.br"), "secret").expect("written");
    site.write("page.html", "page\n");
    let link = site.root().join("page.html.br");
    std::os::unix::fs::symlink(site.outside().join("secret.br"), link).expect("linked");
    std::fs::create_dir(site.root().join("page.html.gz")).expect("made");
    let server = serve(&site);
    let response = get(server.port, "/page.html", &["Accept-Encoding: br, gzip"]);
    assert_eq!(response.text(), "page\n", "{response:?}");
    assert_eq!(response.header("Content-Encoding"), None, "{response:?}");
}

#[test]
fn a_sibling_that_is_older_than_its_file_or_empty_is_not_sent() {
    let site = Site::empty();
    let file = site.write("app.js", "the file\n");
    let sibling = site.write("app.js.gz", "the sibling\n");
    let server = serve(&site);
    let set_modified = |path, time| {
        let file = File::options().write(true).open(path).expect("a file");
        file.set_modified(time).expect("a time can be set");
    };
    let get = || get(server.port, "/app.js", &["Accept-Encoding: gzip"]);
    let long_ago = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 500_000_000);
    let second = Duration::from_secs(1);
    for (of_sibling, is_sent) in [
        (long_ago + second, true),
        (long_ago, true),
        // Not every program that compresses keeps the fraction of a second.
        (long_ago - Duration::from_millis(500), true),
        (long_ago - Duration::from_millis(501), false),
        (long_ago - second, false),
    ] {
        set_modified(&file, long_ago);
        set_modified(&sibling, of_sibling);
        let response = get();
        let (content, coding) = match is_sent {
            true => ("the sibling\n", Some("gzip")),
            false => ("the file\n", None),
        };
        assert_eq!(response.text(), content, "{of_sibling:?}: {response:?}");
        let found = response.header("Content-Encoding");
        assert_eq!(found, coding, "{of_sibling:?}: {response:?}");
        assert_eq!(response.header("Vary"), Some("Accept-Encoding"));
    }
    site.write("app.js.gz", "");
    let response = get();
    assert_eq!(response.text(), "the file\n", "{response:?}");
    assert_eq!(response.header("Content-Encoding"), None, "{response:?}");
}

#[test]
fn a_file_whose_name_says_its_coding_is_sent_in_that_coding() {
    let site = Site::empty();
    let server = serve(&site);
    for (name, content_type, coding) in [
        ("app.js.br", "text/javascript", Some("br")),
        ("page.html.br", "text/html", Some("br")),
        ("PAGE.HTML.BR", "text/html", Some("br")),
        ("drawing.svg.br", "image/svg+xml", Some("br")),
        ("drawing.svgz", "image/svg+xml", Some("gzip")),
        // As Python has them.
        ("app.js.gz", "application/gzip", None),
        ("app.js.bz2", "application/x-bzip2", None),
        ("app.js.xz", "application/x-xz", None),
        ("app.js.Z", "application/octet-stream", None),
        ("a.tgz", "application/x-tar", None),
        ("a.br", "application/octet-stream", None),
    ] {
        site.write(name, "coded content\n");
        // Even to clients that do not say what they take: the file has no other form.
        for accept in ["Accept-Encoding: gzip, br", "Accept: */*"] {
            for method in ["GET", "HEAD"] {
                let response = ask(server.port, method, &format!("/{name}"), &[accept]);
                assert_eq!(response.status, 200, "{name}: {response:?}");
                let field = |name| response.header(name);
                assert_eq!(field("Content-Type"), Some(content_type), "{response:?}");
                assert_eq!(field("Content-Encoding"), coding, "{response:?}");
                assert_eq!(field("Content-Length"), Some("14"), "{response:?}");
            }
        }
    }
    let part = get(server.port, "/app.js.br", &["Range: bytes=0-4"]);
    assert_eq!((part.status, part.text().as_str()), (206, "coded"));
    assert_eq!(part.header("Content-Encoding"), Some("br"), "{part:?}");
}
