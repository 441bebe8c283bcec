//! A JSON API to test against, which counts: run it with `--single` to count across connections.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use sandserve::{BaseHttpRequestHandler, Exchange};

static COUNTER: AtomicU64 = AtomicU64::new(0);

#[derive(Default)]
struct MockApi;

impl MockApi {
    fn send_json(&mut self, http: &mut Exchange, code: u16, json: &str) -> io::Result<()> {
        self.send_response(http, code, None);
        self.send_header(http, "Content-Type", "application/json");
        self.send_header(http, "Content-Length", &json.len().to_string());
        self.end_headers(http)?;
        http.wfile.write_all(json.as_bytes())
    }
}

impl BaseHttpRequestHandler for MockApi {
    fn do_get(&mut self, http: &mut Exchange) -> io::Result<()> {
        match http.request.path() {
            "/counter" => {
                let count = COUNTER.fetch_add(1, Ordering::Relaxed) + 1;
                self.send_json(http, 200, &format!("{{\"count\": {count}}}"))
            }
            _ => self.send_json(http, 404, "{\"error\": \"no such thing\"}"),
        }
    }
}

sandserve::export!(MockApi);
