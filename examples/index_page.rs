//! The file server with another index page: `index_pages` changed.

use std::io;

use sandserve::{BaseHttpRequestHandler, Exchange, Files, SimpleHttpRequestHandler, simple};

struct ReadmeFirst(Files);

impl Default for ReadmeFirst {
    fn default() -> Self {
        let mut files = Files::default();
        files.index_pages = vec!["README.html".into(), "index.html".into()];
        ReadmeFirst(files)
    }
}

impl BaseHttpRequestHandler for ReadmeFirst {
    fn do_get(&mut self, http: &mut Exchange) -> io::Result<()> {
        simple::do_get(self, http)
    }

    fn do_head(&mut self, http: &mut Exchange) -> io::Result<()> {
        simple::do_head(self, http)
    }
}

impl SimpleHttpRequestHandler for ReadmeFirst {
    fn files(&self) -> &Files {
        &self.0
    }
}

sandserve::export!(ReadmeFirst);
