//! A file server that overrides every step of `SimpleHTTPRequestHandler`, for the tests.

use std::borrow::Cow;
use std::io;

use sandserve::{BaseHttpRequestHandler, Content, Descriptor, Exchange, Files};
use sandserve::{SimpleHttpRequestHandler, base, simple};

struct Steps(Files);

impl Default for Steps {
    fn default() -> Self {
        let mut files = Files::default();
        files.directory = "./listed".into();
        files.index_pages = vec!["b.txt".into()];
        files
            .extensions_map
            .push((".txt".into(), "text/x-mapped".into()));
        Steps(files)
    }
}

impl BaseHttpRequestHandler for Steps {
    fn do_get(&mut self, http: &mut Exchange) -> io::Result<()> {
        simple::do_get(self, http)
    }

    fn do_head(&mut self, http: &mut Exchange) -> io::Result<()> {
        simple::do_head(self, http)
    }

    fn end_headers(&mut self, http: &mut Exchange) -> io::Result<()> {
        self.send_header(http, "X-Steps", "end_headers");
        base::end_headers(self, http)
    }
}

impl SimpleHttpRequestHandler for Steps {
    fn files(&self) -> &Files {
        &self.0
    }

    fn send_head(&mut self, http: &mut Exchange) -> io::Result<Option<Content>> {
        if http.request.path() == "/gone" {
            self.send_error(http, 410, None, None)?;
            return Ok(None);
        }
        simple::send_head(self, http)
    }

    fn list_directory(
        &mut self,
        http: &mut Exchange,
        directory: Option<&Descriptor>,
    ) -> io::Result<Option<Content>> {
        if http.request.path().starts_with("/deep/er/") {
            self.send_error(http, 403, Some("No listing"), None)?;
            return Ok(None);
        }
        simple::list_directory(self, http, directory)
    }

    fn translate_path(&self, path: &str) -> String {
        match path.strip_prefix("/root/") {
            Some(rest) => format!("./{rest}"),
            None => simple::translate_path(self, path),
        }
    }

    fn guess_type(&self, path: &str) -> Cow<'_, str> {
        match path.ends_with("hello.txt") {
            true => "text/x-guessed".into(),
            false => simple::guess_type(self, path),
        }
    }

    fn copyfile(&mut self, http: &mut Exchange, content: Content) -> io::Result<()> {
        let content = match content {
            Content::Listing(listing) => Content::Page(listing.to_string().to_uppercase()),
            content => content,
        };
        simple::copyfile(http, content)
    }
}

sandserve::export!(Steps);
