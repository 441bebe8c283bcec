//! What Python keeps in `self` while it handles a request: the request, the two streams, the head
//! being built. One value lives as long as its connection.

use std::io;

use crate::request::Request;
use crate::rfile::Rfile;
use crate::wfile::Wfile;

/// An address and a port; the port is 0 where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    pub address: String,
    pub port: u16,
}

/// A request and the response to it, on a connection that may bring more of them.
pub struct Exchange<'a> {
    /// Who asks (`client_address`).
    pub client_address: Endpoint,
    /// Who answers (`server.server_name`, `server.server_port`).
    pub server: Endpoint,
    /// Whether the connection closes after this exchange.
    pub close_connection: bool,
    /// The request in hand.
    pub request: Request,
    /// The content of the request.
    pub rfile: Rfile<'a>,
    /// Where the response goes.
    pub wfile: Wfile<'a>,
    headers_buffer: Vec<u8>,
}

impl<'a> Exchange<'a> {
    pub fn new(client_address: Endpoint, server: Endpoint, rfile: Rfile<'a>, wfile: Wfile<'a>) -> Self {
        Exchange {
            client_address,
            server,
            close_connection: true,
            request: Request::default(),
            rfile,
            wfile,
            headers_buffer: Vec::new(),
        }
    }

    /// Adds the status line to the head being built.
    pub(crate) fn push_status_line(&mut self, version: &str, code: u16, message: &str) {
        let code = [b'0' + (code / 100 % 10) as u8, b'0' + (code / 10 % 10) as u8, b'0' + (code % 10) as u8];
        self.push(&[version.as_bytes(), b" ", &code, b" "]);
        self.push_text(message);
        self.push(&[b"\r\n"]);
    }

    /// Adds a field line to the head being built. `Connection` decides [`Self::close_connection`].
    pub(crate) fn push_header(&mut self, keyword: &str, value: &str) {
        self.push_text(keyword);
        self.push(&[b": "]);
        self.push_text(value);
        self.push(&[b"\r\n"]);
        if keyword.eq_ignore_ascii_case("connection") {
            if value.eq_ignore_ascii_case("close") {
                self.close_connection = true;
            } else if value.eq_ignore_ascii_case("keep-alive") {
                self.close_connection = false;
            }
        }
    }

    /// Ends the head being built with an empty line, and writes it.
    pub(crate) fn write_head(&mut self) -> io::Result<()> {
        self.push(&[b"\r\n"]);
        self.flush_headers()
    }

    /// Writes the head built so far, if there is one.
    pub(crate) fn flush_headers(&mut self) -> io::Result<()> {
        if !self.headers_buffer.is_empty() {
            self.wfile.write_head(&self.headers_buffer)?;
            self.headers_buffer.clear();
        }
        Ok(())
    }

    fn push(&mut self, pieces: &[&[u8]]) {
        for piece in pieces {
            self.headers_buffer.extend_from_slice(piece);
        }
    }

    /// Adds text as Latin-1, leaving out what would end the line: a head cannot be split.
    fn push_text(&mut self, text: &str) {
        if text.bytes().all(|byte| byte.is_ascii() && !matches!(byte, b'\r' | b'\n' | b'\0')) {
            self.push(&[text.as_bytes()]);
        } else {
            let bytes = text.chars().filter(|char| !matches!(char, '\r' | '\n' | '\0'));
            self.headers_buffer.extend(bytes.map(|char| u8::try_from(char).unwrap_or(b'?')));
        }
    }
}
