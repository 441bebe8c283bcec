//! A header on every response of the file server: `end_headers` overridden.

use std::io;

use sandserve::{BaseHttpRequestHandler, Exchange, Files, SimpleHttpRequestHandler, base, simple};

#[derive(Default)]
struct NoStore(Files);

impl BaseHttpRequestHandler for NoStore {
    fn end_headers(&mut self, http: &mut Exchange) -> io::Result<()> {
        self.send_header(http, "Cache-Control", "no-store");
        base::end_headers(self, http)
    }

    fn do_get(&mut self, http: &mut Exchange) -> io::Result<()> {
        simple::do_get(self, http)
    }

    fn do_head(&mut self, http: &mut Exchange) -> io::Result<()> {
        simple::do_head(self, http)
    }
}

impl SimpleHttpRequestHandler for NoStore {
    fn files(&self) -> &Files {
        &self.0
    }
}

sandserve::export!(NoStore);
