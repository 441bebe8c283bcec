//! The file server without a log: `log_message` overridden.

use std::io;

use sandserve::{BaseHttpRequestHandler, Exchange, Files, SimpleHttpRequestHandler, simple};

#[derive(Default)]
struct Silent(Files);

impl BaseHttpRequestHandler for Silent {
    fn log_message(&mut self, _: &mut Exchange, _: &str) {}

    fn do_get(&mut self, http: &mut Exchange) -> io::Result<()> {
        simple::do_get(self, http)
    }

    fn do_head(&mut self, http: &mut Exchange) -> io::Result<()> {
        simple::do_head(self, http)
    }
}

impl SimpleHttpRequestHandler for Silent {
    fn files(&self) -> &Files {
        &self.0
    }
}

sandserve::export!(Silent);
