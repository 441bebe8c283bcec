//! The export `wasi:http/incoming-handler` of WASI 0.2: one request that another host has parsed.

use std::io;

use wasi::http::types::{IncomingRequest, ResponseOutparam, Scheme};

use crate::bindings::exports::wasi::http::incoming_handler::Guest;
use crate::export::Component;
use crate::export::parsed::{self, Parts};
use crate::handler::base::BaseHttpRequestHandler;
use crate::http1::body::{Incoming, Outgoing};
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
    let parts = Parts {
        method: incoming.method(),
        target: incoming.path_with_query(),
        authority: incoming.authority(),
        is_encrypted: matches!(incoming.scheme(), Some(Scheme::Https)),
        fields: incoming.headers().entries(),
    };
    let rfile = Rfile::content(Incoming::new(stream));
    let wfile = Wfile::response(Outgoing::new(outparam));
    match parsed::answer::<H>(parts, rfile, wfile)? {
        Some(response) => response.finish(),
        None => Ok(()),
    }
}
