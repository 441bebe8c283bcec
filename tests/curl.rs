//! The real `curl`, with the options that people use with a file server.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use harness::{Server, Site};

const SANDSERVE: &str = env!("CARGO_BIN_EXE_sandserve");

/// Runs `curl` for `target`; what it prints at the end are the status, the bytes it downloaded, and the
/// version it was answered in.
fn curl(server: &Server, target: &str, options: &[&str]) -> Output {
    Command::new("curl")
        // The settings of whoever runs the tests are not meant.
        .args(["--disable", "--noproxy", "*", "--silent", "--show-error"])
        .args([
            "--write-out",
            "%{stderr}%{http_code} %{size_download} %{http_version}\n",
        ])
        .args(options)
        .arg(format!("http://127.0.0.1:{}{target}", server.port))
        .output()
        .expect("curl runs")
}

/// Runs `curl` for `target`, which must succeed, and returns the summary it printed at the end.
fn summary(server: &Server, target: &str, options: &[&str]) -> String {
    let output = curl(server, target, options);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{target} {options:?}: {stderr}");
    stderr.trim_end().to_owned()
}

fn serve(site: &Site, options: &[&str]) -> Server {
    Server::start(SANDSERVE, &site.root(), options)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a name in UTF-8")
}

#[test]
fn http_1_0_is_spoken_with_clients_that_speak_it() {
    let site = Site::new();
    for (protocol, options, version) in [
        ("HTTP/1.0", &["--http1.0"][..], "1"),
        ("HTTP/1.0", &["--http1.1"], "1"),
        ("HTTP/1.1", &["--http1.0"], "1.1"),
        ("HTTP/1.1", &["--http1.1"], "1.1"),
        (
            "HTTP/1.1",
            &["--http1.0", "-H", "Connection: keep-alive"],
            "1.1",
        ),
    ] {
        let server = serve(&site, &["-p", protocol]);
        for (target, size) in [
            ("/hello.txt", 6),
            ("/empty.txt", 0),
            ("/big.bin", 3_000_000),
        ] {
            // A curl that gets nothing may not touch the file.
            let file = site.outside().join("downloaded");
            let _ = fs::remove_file(&file);
            let saved = [options, &["--output", text(&file)]].concat();
            let expected = format!("200 {size} {version}");
            assert_eq!(
                summary(&server, target, &saved),
                expected,
                "{protocol} {saved:?}"
            );
            let sent = fs::read(site.root().join(&target[1..])).expect("there");
            assert!(
                fs::read(&file).unwrap_or_default() == sent,
                "{protocol} {saved:?}"
            );
        }
        // Two in a row, on one connection where there is such a thing.
        let url = format!("http://127.0.0.1:{}/hello.txt", server.port);
        let output = curl(&server, "/notes.md", &[options, &[&url]].concat());
        assert_eq!(output.stdout, b"hello\n# notes\n", "{protocol} {options:?}");
        let head = curl(&server, "/big.bin", &[options, &["--head"]].concat());
        let head = String::from_utf8_lossy(&head.stdout).into_owned();
        assert!(head.contains("Content-Length: 3000000\r\n"), "{head}");
        let output = curl(&server, "/missing", &[options, &["--fail"]].concat());
        assert_eq!(output.status.code(), Some(22), "{output:?}");
    }
}

#[test]
fn a_download_that_broke_off_is_resumed() {
    let site = Site::new();
    let whole = fs::read(site.root().join("big.bin")).expect("there");
    for protocol in ["HTTP/1.0", "HTTP/1.1"] {
        let server = serve(&site, &["-p", protocol, "--compress"]);
        for (had, options) in [
            (1, &[][..]),
            (1_234_567, &["--http1.0"]),
            (1_234_567, &["--compressed"]),
            (2_999_999, &[]),
        ] {
            let file = site.outside().join("resumed");
            fs::write(&file, &whole[..had]).expect("written");
            let resume = ["--continue-at", "-", "--output", text(&file)];
            let summary = summary(&server, "/big.bin", &[options, &resume].concat());
            let expected = format!("206 {} ", whole.len() - had);
            assert!(
                summary.starts_with(&expected),
                "{protocol} {had}: {summary}"
            );
            assert!(fs::read(&file).expect("there") == whole, "{protocol} {had}");
        }
        // One that has not begun is whole.
        let file = site.outside().join("begun");
        let resume = ["--continue-at", "-", "--output", text(&file)];
        assert!(summary(&server, "/big.bin", &resume).starts_with("200 3000000 "));
        fs::remove_file(file).expect("there");
    }
}

#[test]
fn compressed_content_is_taken_and_unpacked() {
    let site = Site::new();
    let long = "the same line again\n".repeat(5000);
    site.write("long.txt", &long);
    let server = serve(&site, &["--compress"]);
    for (options, is_compressed) in [
        (&["--compressed"][..], true),
        (&["--compressed", "--http1.0"], true),
        (&["--compressed", "--range", "0-"], false),
        (&[], false),
    ] {
        let output = curl(&server, "/long.txt", options);
        assert!(output.status.success(), "{options:?}: {output:?}");
        assert!(output.stdout == long.as_bytes(), "{options:?}");
        let summary = String::from_utf8_lossy(&output.stderr);
        let size = summary.split(' ').nth(1).expect("a size");
        let size: usize = size.parse().expect("a number");
        assert_eq!(
            size < long.len() / 10,
            is_compressed,
            "{options:?}: {summary}"
        );
    }
    // What is not is taken as it is.
    let output = curl(&server, "/hello.txt", &["--compressed"]);
    assert_eq!(output.stdout, b"hello\n", "{output:?}");
}

#[test]
fn passwords_are_sent_when_they_are_asked_for() {
    let site = Site::new();
    let server = serve(
        &site,
        &["--auth", "m\u{fc}ller:open sesame", "-p", "HTTP/1.1"],
    );
    for (options, status) in [
        (&["--user", "m\u{fc}ller:open sesame"][..], "200"),
        (&["--anyauth", "--user", "m\u{fc}ller:open sesame"], "200"),
        (&["--user", "m\u{fc}ller:open"], "401"),
        (&[], "401"),
    ] {
        let summary = summary(&server, "/hello.txt", options);
        let last = summary.lines().last().unwrap_or_default();
        assert!(last.starts_with(status), "{options:?}: {summary}");
    }
}
