//! A request and the response to it, which Python keeps in `self` while it handles a request: the request,
//! the two streams, the head being built. One value lives as long as its connection.

use std::borrow::Cow;
use std::io;

use crate::files::open::OpenAt;
use crate::http1::request::{Request, Version};
use crate::http1::rfile::Rfile;
use crate::http1::wfile::{Content, Wfile};
use crate::log::access::Access;
use crate::settings::users::Guesses;
use crate::text::excerpt::excerpt;

/// The room for a head, in bytes, which is enough for most.
const HEAD_SIZE: usize = 512;
/// The status of a response that is the last in HTTP on its connection.
const SWITCHING_PROTOCOLS: u16 = 101;
/// The most bytes of a reason phrase, which is for people to read, if anybody does.
const MAX_REASON: usize = 256;

/// An address and a port; the port is 0 where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Endpoint {
    /// An IP address; `-` where the host does not tell.
    pub address: String,
    /// A TCP port.
    pub port: u16,
}

/// A request and the response to it, on a connection that may bring more of them.
pub struct Exchange<'a> {
    /// The client, which asks (`client_address`).
    pub client_address: Endpoint,
    /// The server, which answers (`server.server_name`, `server.server_port`).
    pub server: Endpoint,
    /// True if the connection between client and server is encrypted (`https`).
    pub is_encrypted: bool,
    /// True if the connection closes after this exchange.
    pub close_connection: bool,
    /// The request in hand.
    pub request: Request,
    /// The content of the request; after a response with 101, whatever comes on the connection.
    pub rfile: Rfile<'a>,
    /// The stream that the response is written to; after one with 101, the connection itself.
    pub wfile: Wfile<'a>,
    /// The way that the host opens files.
    pub(crate) open_at: OpenAt,
    /// The state of the log: what is still to be logged of the response.
    pub(crate) access: Access,
    /// The passwords that have come on this connection.
    pub(crate) guesses: Guesses,
    headers_buffer: Vec<u8>,
    head: Head,
}

/// The facts about the head being built that decide how its content is framed.
#[derive(Default)]
struct Head {
    version: Version,
    code: u16,
    /// True if the head has a field `Connection`.
    has_connection: bool,
    /// True if the head has a field `Transfer-Encoding`.
    has_transfer_encoding: bool,
    content_length: Option<u64>,
}

impl<'a> Exchange<'a> {
    pub(crate) fn new(
        client_address: Endpoint,
        server: Endpoint,
        is_encrypted: bool,
        rfile: Rfile<'a>,
        wfile: Wfile<'a>,
        open_at: OpenAt,
    ) -> Self {
        Exchange {
            client_address,
            server,
            is_encrypted,
            close_connection: true,
            request: Request::default(),
            rfile,
            wfile,
            open_at,
            access: Access::default(),
            guesses: Guesses::default(),
            headers_buffer: Vec::new(),
            head: Head::default(),
        }
    }

    /// Adds the status line to the head being built.
    pub(crate) fn push_status_line(&mut self, version: Version, code: u16, message: &str) {
        self.head = Head {
            version,
            code,
            ..Head::default()
        };
        self.headers_buffer.reserve(HEAD_SIZE);
        let code = [
            b'0' + (code / 100 % 10) as u8,
            b'0' + (code / 10 % 10) as u8,
            b'0' + (code % 10) as u8,
        ];
        self.push_text(version.as_str());
        self.push(&[b' ', code[0], code[1], code[2], b' ']);
        self.push_text(&reason_phrase(message));
        self.push(b"\r\n");
    }

    /// Adds a field line to the head being built. `Connection` decides [`Self::close_connection`].
    pub(crate) fn push_header(&mut self, keyword: &str, value: &str) {
        self.push_text(keyword);
        self.push(b": ");
        self.push_text(value);
        self.push(b"\r\n");
        let is = |name: &str| keyword.eq_ignore_ascii_case(name);
        // Most names differ in their length already.
        match keyword.len() {
            10 if is("connection") => {
                self.head.has_connection = true;
                if value.eq_ignore_ascii_case("close") {
                    self.close_connection = true;
                } else if value.eq_ignore_ascii_case("keep-alive") {
                    self.close_connection = false;
                }
            }
            14 if is("content-length") => self.head.content_length = value.trim().parse().ok(),
            17 if is("transfer-encoding") => self.head.has_transfer_encoding = true,
            _ => {}
        }
    }

    /// Drops the head being built.
    pub(crate) fn drop_head(&mut self) {
        self.headers_buffer.clear();
    }

    /// Ends the head being built with an empty line, and writes it. One with 101 makes the connection the handler's.
    ///
    /// # Errors
    /// A 101 under a host that cannot upgrade a connection, besides failures of the connection.
    pub(crate) fn write_head(&mut self) -> io::Result<()> {
        if self.head.code == SWITCHING_PROTOCOLS {
            return self.upgrade();
        }
        if self.is_interim() {
            self.push(b"\r\n");
            return self.flush_headers();
        }
        let content = self.frame_content();
        self.push_connection();
        self.push(b"\r\n");
        self.flush_headers()?;
        self.wfile.begin_content(content);
        Ok(())
    }

    /// Hands the connection over to the handler, behind the head being built (RFC 9110 7.8).
    fn upgrade(&mut self) -> io::Result<()> {
        if self.is_upgrade_refused() {
            let reason = "this host cannot hand over a connection (101)";
            return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
        }
        self.rfile.upgrade()?;
        if !self.head.has_connection {
            self.push(b"Connection: Upgrade\r\n");
        }
        self.push(b"\r\n");
        // The host knows by the first bytes that it is told whose the connection is.
        self.wfile.send()?;
        self.flush_headers()?;
        self.wfile.begin_content(Content::Raw);
        self.close_connection = true;
        self.wfile.send()
    }

    /// Returns whether the head built last is a 101 under a host that writes the heads itself: `wasi:http` 0.2 has no
    /// upgrade.
    pub(crate) fn is_upgrade_refused(&self) -> bool {
        self.head.code == SWITCHING_PROTOCOLS && self.wfile.is_framed_by_host()
    }

    /// Returns whether the head built last is an interim (1xx) one, which another follows.
    pub(crate) fn is_interim(&self) -> bool {
        self.head.code < 200 && self.head.code != SWITCHING_PROTOCOLS
    }

    /// Returns the size of the content that the head built last announces, in bytes; `None` if it announces
    /// none.
    pub(crate) fn content_size(&self) -> Option<u64> {
        match self.head {
            _ if self.has_no_content() => Some(0),
            Head {
                has_transfer_encoding: true,
                ..
            } => None,
            Head { content_length, .. } => content_length,
        }
    }

    fn has_no_content(&self) -> bool {
        self.request.command() == "HEAD" || matches!(self.head.code, 204 | 205 | 304)
    }

    /// Decides how the content of the response is delimited, and adds the field that says so where
    /// the handler has not (RFC 9112 6.3).
    fn frame_content(&mut self) -> Content {
        let Head {
            version,
            code,
            has_transfer_encoding,
            content_length,
            ..
        } = self.head;
        if code == 205 && content_length.is_none() {
            // Unlike 204 and 304, a 205 is not known by its status to have no content (RFC 9110 15.3.6).
            self.push(b"Content-Length: 0\r\n");
        }
        if self.has_no_content() {
            return Content::None;
        }
        match content_length {
            _ if has_transfer_encoding => Content::AsWritten,
            Some(length) => Content::Length(length),
            None if self.wfile.is_framed_by_host() => Content::AsWritten,
            None if version.min(self.request.request_version()) >= Version::Http11 => {
                self.push(b"Transfer-Encoding: chunked\r\n");
                Content::Chunked(None)
            }
            None => {
                self.close_connection = true;
                Content::AsWritten
            }
        }
    }

    /// Adds `Connection` where the versions do not imply what becomes of the connection (RFC 9112 9.3,
    /// 9.6).
    fn push_connection(&mut self) {
        if self.head.has_connection || self.head.version < Version::Http11 {
            return;
        }
        if self.close_connection {
            self.push(b"Connection: close\r\n");
        } else if self.request.request_version() < Version::Http11 {
            self.push(b"Connection: keep-alive\r\n");
        }
    }

    /// Writes the head built so far, if there is one.
    pub(crate) fn flush_headers(&mut self) -> io::Result<()> {
        let is_whole = self.headers_buffer.ends_with(b"\r\n\r\n");
        if is_whole || !(self.headers_buffer.is_empty() || self.wfile.is_framed_by_host()) {
            self.wfile.write_head(&mut self.headers_buffer)?;
            self.headers_buffer.clear();
        }
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) {
        self.headers_buffer.extend_from_slice(bytes);
    }

    /// Adds `text` as Latin-1, leaving out what would end the line, so that a head cannot be split.
    fn push_text(&mut self, text: &str) {
        if is_plain(text.as_bytes()) {
            self.push(text.as_bytes());
        } else {
            let bytes = text
                .chars()
                .filter(|char| !matches!(char, '\r' | '\n' | '\0'));
            self.headers_buffer
                .extend(bytes.map(|char| u8::try_from(char).unwrap_or(b'?')));
        }
    }
}

/// Returns `message` as a status line can have it: of a long one, the two ends.
pub(crate) fn reason_phrase(message: &str) -> Cow<'_, str> {
    excerpt(message, MAX_REASON, String::push_str)
}

/// Returns whether `text` is ASCII without control characters, but for DEL. It is looked at in words, as
/// every head passes through here.
fn is_plain(text: &[u8]) -> bool {
    const CONTROLS: u64 = u64::from_ne_bytes([0x20; 8]);
    const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);
    let is_plain = |word: &[u8; 8]| {
        let word = u64::from_ne_bytes(*word);
        (word | word.wrapping_sub(CONTROLS)) & HIGH_BITS == 0
    };
    match text.last_chunk() {
        // The last word may overlap the one before.
        Some(last) => is_plain(last) && text.as_chunks().0.iter().all(is_plain),
        None => text.iter().all(|byte| matches!(byte, b' '..=b'\x7f')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_that_is_not_plain_is_found_wherever_it_is() {
        for length in 0..20 {
            for byte in 0..=u8::MAX {
                for at in 0..length {
                    let mut text = vec![b'a'; length];
                    text[at] = byte;
                    assert_eq!(is_plain(&text), matches!(byte, b' '..=b'\x7f'), "{text:?}");
                }
            }
        }
    }
}
