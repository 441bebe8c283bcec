//! Requests for the [`Site`](crate::Site) that get one answer wherever it is served.

use crate::http::Response;

/// Requests, each as method, target and field lines, and the status of the answer.
pub const ANSWERS: &[(&str, &str, &[&str], u16)] = &[
    ("GET", "/hello.txt", &[], 200),
    ("HEAD", "/hello.txt", &[], 200),
    ("GET", "/empty.txt", &[], 200),
    ("GET", "/middle.bin", &[], 200),
    ("GET", "/big.bin", &[], 200),
    ("HEAD", "/big.bin", &[], 200),
    ("GET", "/no-extension", &[], 200),
    ("GET", "/style.css", &[], 200),
    ("GET", "/module.mjs", &[], 200),
    ("GET", "/data.json", &[], 200),
    ("GET", "/pic.svg", &[], 200),
    ("GET", "/prog.wasm", &[], 200),
    ("GET", "/a.tar.gz", &[], 200),
    ("GET", "/odd.unknownext", &[], 200),
    ("GET", "/.hidden", &[], 200),
    ("GET", "/", &[], 200),
    ("HEAD", "/", &[], 200),
    ("GET", "/?sort=size&order=desc", &[], 200),
    ("GET", "/?sort=date", &["Accept: application/json"], 200),
    ("GET", "/listed/", &[], 200),
    ("GET", "/listed/deep/", &["Accept: application/json"], 200),
    ("GET", "/empty-dir/", &[], 200),
    ("GET", "/with-index/", &[], 200),
    ("GET", "/with-htm/", &[], 200),
    ("GET", "/with-both/", &[], 200),
    ("GET", "/index-is-dir/", &[], 200),
    ("GET", "/link-to-file", &[], 200),
    ("GET", "/link-to-dir/", &[], 200),
    ("GET", "/link-to-dir/b.txt", &[], 200),
    ("GET", "/listed/link-up", &[], 200),
    ("GET", "/a%26b%3Cc%3E.txt", &[], 200),
    ("GET", "/%C3%BCn%C3%AFc%C3%B6d%C3%A9.txt?query", &[], 200),
    ("GET", "/hash%23tag.txt", &[], 200),
    ("GET", "/na%20me/sp%20ace.txt", &[], 200),
    ("GET", "/listed/../hello.txt", &[], 200),
    ("GET", "/listed?x=1", &[], 301),
    ("GET", "/link-to-dir", &[], 301),
    ("GET", "/hello.txt", &[SINCE], 304),
    ("HEAD", "/hello.txt", &[SINCE], 304),
    ("GET", "/hello.txt", &["If-None-Match: *"], 304),
    ("GET", "/hello.txt", &["If-None-Match: \"other\""], 200),
    ("GET", "/hello.txt", &["If-Match: \"other\""], 412),
    ("GET", "/hello.txt", &["If-Match: *"], 200),
    ("GET", "/hello.txt", &["Range: bytes=1-2"], 206),
    ("HEAD", "/hello.txt", &["Range: bytes=1-2"], 200),
    ("GET", "/big.bin", &["Range: bytes=1000000-2999998"], 206),
    ("GET", "/big.bin", &["Range: bytes=-1"], 206),
    ("GET", "/hello.txt", &["Range: bytes=6-"], 416),
    (
        "GET",
        "/hello.txt",
        &["If-Range: \"other\"", "Range: bytes=1-2"],
        200,
    ),
    ("GET", "/app.js", &["Accept-Encoding: br"], 200),
    ("GET", "/app.js", &["Accept-Encoding: gzip, zstd"], 200),
    ("GET", "/app.js", &["Accept-Encoding: identity"], 200),
    ("GET", "/app.js", &[], 200),
    ("GET", "/missing", &[], 404),
    ("HEAD", "/missing", &[], 404),
    ("GET", "/hello.txt/", &[], 404),
    ("GET", "/hello.txt/more", &[], 404),
    ("GET", "/missing/more", &[], 404),
    ("GET", "/link-broken", &[], 404),
    ("GET", "/%2e%2e/outside/secret.txt", &[], 404),
    ("GET", "/..%2f..%2f..%2fetc%2fpasswd", &[], 404),
    ("GET", "/hello.txt%00", &[], 404),
    ("POST", "/hello.txt", &["Content-Length: 0"], 501),
    ("DELETE", "/hello.txt", &[], 501),
    ("OPTIONS", "/", &[], 501),
    ("M-SEARCH", "/hello.txt", &[], 501),
];

/// The time of every file of the site, as a client tells it.
const SINCE: &str = "If-Modified-Since: Sun, 13 Sep 2020 12:26:40 GMT";

/// Fields that are others elsewhere.
const NOT_COMPARED: [(&str, &str); 4] = [
    ("connection", "a component may not send it to every host"),
    ("date", "it is another in another second"),
    (
        "etag",
        "the tag of a file in a directory tells what the host knows of it",
    ),
    ("transfer-encoding", "the host frames the content"),
];

/// Returns the field lines of `response` that are the same wherever the site is served, in one order and case. A tag
/// counts as there.
pub fn told(response: &Response) -> Vec<(String, String)> {
    let lines = response.head.lines().skip(1);
    let fields = lines.filter_map(|line| line.split_once(": "));
    let mut fields: Vec<_> = fields
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .filter_map(|(name, value)| match name.as_str() {
            "etag" => Some((name, String::new())),
            other if NOT_COMPARED.iter().any(|(name, _)| *name == other) => None,
            _ => Some((name, value)),
        })
        .collect();
    fields.sort();
    fields
}
