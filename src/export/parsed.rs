//! A request that a host has parsed, whichever way it came. It is written out again and read by the parser that raw
//! connections have, so that all ways in are one.

use std::io;

use agreed::proxies;

use crate::files::open::OpenAt;
use crate::handler::base::{self, BaseHttpRequestHandler};
use crate::handler::exchange::{Endpoint, Exchange};
use crate::http1::body::{Method, Outgoing};
use crate::http1::parse::{Parsed, parse};
use crate::http1::request::Headers;
use crate::http1::rfile::Rfile;
use crate::http1::wfile::Wfile;
use crate::settings::Settings;

/// The parts of a request that a host keeps.
pub(super) struct Parts {
    pub(super) method: Method,
    /// The path and query; `None` stands for those of the root.
    pub(super) target: Option<String>,
    pub(super) authority: Option<String>,
    /// True if the connection between client and host is encrypted.
    pub(super) is_encrypted: bool,
    pub(super) fields: Vec<(String, Vec<u8>)>,
}

/// Has a handler answer the request of `parts`, with its content in `rfile`, and returns the response that it has written
/// to `wfile`.
///
/// # Errors
/// Failures of the connection.
pub(super) fn answer<H: BaseHttpRequestHandler + Default>(
    parts: Parts,
    rfile: Rfile,
    wfile: Wfile,
) -> io::Result<Option<Outgoing>> {
    let unknown = || Endpoint {
        address: "-".into(),
        port: 0,
    };
    let mut http = Exchange::new(
        unknown(),
        unknown(),
        parts.is_encrypted,
        rfile,
        wfile,
        OpenAt::MayBlock,
    );
    let mut handler = H::default();
    match parse(&head(&parts)) {
        Parsed::Complete(request, _) => {
            if let Some(name) = &Settings::get().client_address {
                http.client_address = client(request.headers(), name).unwrap_or_else(unknown);
            }
            http.request = request;
            base::respond(&mut handler, &mut http)?;
        }
        Parsed::Refused(refusal) => base::refuse(&mut handler, &mut http, refusal)?,
        Parsed::Partial => {
            handler.send_error(&mut http, 400, None, None)?;
        }
    }
    http.wfile.finish()
}

/// Returns the client that the field `name` gives: the last address in it, which the host or the proxy next to it has
/// added. A client may have sent all those before.
fn client(headers: Headers, name: &str) -> Option<Endpoint> {
    let value = headers.values(name).last()?;
    let member = value.rsplit(|&byte| byte == b',').next()?;
    let address = proxies::address(member.trim_ascii())?.to_string();
    Some(Endpoint { address, port: 0 })
}

/// Returns the head of the request as bytes, made from what its host has kept of it.
fn head(parts: &Parts) -> Vec<u8> {
    let mut head = Vec::with_capacity(512);
    let mut push = |pieces: &[&[u8]]| {
        pieces
            .iter()
            .for_each(|piece| head.extend_from_slice(piece))
    };
    push(&[
        method(&parts.method).as_bytes(),
        b" ",
        parts.target.as_deref().unwrap_or("/").as_bytes(),
        b" HTTP/1.1\r\nHost: ",
        parts.authority.as_deref().unwrap_or_default().as_bytes(),
        b"\r\n",
    ]);
    for (name, value) in &parts.fields {
        // The host has read these: the authority is the Host, the content has no framing left.
        let is_read = ["host", "content-length", "transfer-encoding"]
            .iter()
            .any(|read| name.eq_ignore_ascii_case(read));
        if !is_read {
            push(&[name.as_bytes(), b": ", value, b"\r\n"]);
        }
    }
    push(&[b"\r\n"]);
    head
}

/// Returns the name of a method, as a request line has it.
fn method(method: &Method) -> &str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(name) => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_the_last_address_of_a_field() {
        for (fields, expected) in [
            ("X-Client: 192.0.2.1", Some("192.0.2.1")),
            ("x-client: 192.0.2.1:4567", Some("192.0.2.1")),
            ("X-Client: [2001:db8::1]:443", Some("2001:db8::1")),
            ("X-Client: 198.51.100.9, 192.0.2.1", Some("192.0.2.1")),
            (
                "X-Client: 198.51.100.9\r\nX-Client: 192.0.2.1",
                Some("192.0.2.1"),
            ),
            ("X-Client: 192.0.2.1, unknown", None),
            ("X-Client:", None),
            ("X-Other: 192.0.2.1", None),
        ] {
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
            let Parsed::Complete(request, _) = parse(head.as_bytes()) else {
                panic!("{head}");
            };
            let found = client(request.headers(), "x-client").map(|client| client.address);
            assert_eq!(found.as_deref(), expected, "{fields}");
        }
    }
}
