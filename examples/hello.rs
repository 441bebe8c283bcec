//! The smallest handler: one page, whatever is asked for.

use std::io::{self, Write};

use sandserve::{BaseHttpRequestHandler, Exchange};

#[derive(Default)]
struct Handler;

impl BaseHttpRequestHandler for Handler {
    fn do_get(&mut self, http: &mut Exchange) -> io::Result<()> {
        let body = format!("Hello from hello: you asked for {}\n", http.request.path());
        self.send_response(http, 200, None);
        self.send_header(http, "Content-Type", "text/plain");
        self.send_header(http, "Content-Length", &body.len().to_string());
        self.end_headers(http)?;
        http.wfile.write_all(body.as_bytes())
    }
}

sandserve::export!(Handler);
