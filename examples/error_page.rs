//! An error page of one's own: `error_message_format` and `error_content_type` overridden.

use std::borrow::Cow;
use std::io;

use sandserve::{BaseHttpRequestHandler, Exchange};

#[derive(Default)]
struct Sorry;

impl BaseHttpRequestHandler for Sorry {
    fn error_message_format(&self) -> Cow<'_, str> {
        "<!doctype html><title>%(code)d</title><p>Sorry: %(message)s (%(explain)s)\n".into()
    }

    fn error_content_type(&self) -> Cow<'_, str> {
        "text/html".into()
    }

    fn do_get(&mut self, http: &mut Exchange) -> io::Result<()> {
        self.send_error(http, 404, Some("nothing <here>"), None)
    }
}

sandserve::export!(Sorry);
