//! Sends back what it is sent: `do_post` reads `rfile` and writes `wfile`, a piece at a time.

use std::io;

use sandserve::{BaseHttpRequestHandler, Exchange};

#[derive(Default)]
struct Echo;

impl BaseHttpRequestHandler for Echo {
    fn do_post(&mut self, http: &mut Exchange) -> io::Result<()> {
        let content_type = http.request.headers().get("Content-Type");
        let content_type = content_type
            .unwrap_or("application/octet-stream".into())
            .into_owned();
        self.send_response(http, 200, None);
        self.send_header(http, "Content-Type", &content_type);
        self.end_headers(http)?;
        io::copy(&mut http.rfile, &mut http.wfile)?;
        Ok(())
    }
}

sandserve::export!(Echo);
