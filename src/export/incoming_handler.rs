//! The export `wasi:http/incoming-handler`: one request that another host has parsed. It is written
//! out again and read by the same parser, so that both ways in are one.

use std::io;

use wasi::http::types::{IncomingRequest, Method, ResponseOutparam, Scheme};

use crate::bindings::exports::wasi::http::incoming_handler::Guest;
use crate::export::Component;
use crate::files::open::OpenAt;
use crate::handler::base::{self, BaseHttpRequestHandler};
use crate::handler::exchange::{Endpoint, Exchange};
use crate::http1::parse::{Parsed, parse};
use crate::http1::rfile::Rfile;
use crate::http1::wfile::Wfile;

impl<H: BaseHttpRequestHandler + Default> Guest for Component<H> {
    fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
        // An error here is a connection that has failed: there is nobody left to tell.
        let _ = answer::<H>(&request, outparam);
    }
}

fn answer<H: BaseHttpRequestHandler + Default>(
    incoming: &IncomingRequest,
    outparam: ResponseOutparam,
) -> io::Result<()> {
    let body = incoming.consume().ok();
    let stream = body.as_ref().and_then(|body| body.stream().ok());
    let unknown = || Endpoint {
        address: "-".into(),
        port: 0,
    };
    let mut http = Exchange::new(
        unknown(),
        unknown(),
        matches!(incoming.scheme(), Some(Scheme::Https)),
        Rfile::content(stream),
        Wfile::response(outparam),
        OpenAt::MayBlock,
    );
    let mut handler = H::default();
    match parse(&head(incoming)) {
        Parsed::Complete(request, _) => {
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

/// Returns the head of the request as bytes, made from what this host has kept of it.
fn head(request: &IncomingRequest) -> Vec<u8> {
    let mut head = Vec::with_capacity(512);
    let mut push = |pieces: &[&[u8]]| {
        pieces
            .iter()
            .for_each(|piece| head.extend_from_slice(piece))
    };
    let target = request.path_with_query().unwrap_or_else(|| "/".into());
    push(&[
        method(&request.method()).as_bytes(),
        b" ",
        target.as_bytes(),
        b" HTTP/1.1\r\nHost: ",
    ]);
    push(&[request.authority().unwrap_or_default().as_bytes(), b"\r\n"]);
    for (name, value) in request.headers().entries() {
        // The host has read these: the authority is the Host, the content has no framing left.
        let is_read = ["host", "content-length", "transfer-encoding"]
            .iter()
            .any(|read| name.eq_ignore_ascii_case(read));
        if !is_read {
            push(&[name.as_bytes(), b": ", &value, b"\r\n"]);
        }
    }
    push(&[b"\r\n"]);
    head
}

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
