//! The export `wasi:http/handler` of WASI 0.3: one request that another host has parsed, among others that the same
//! instance answers.

use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Request, Response, Scheme};

use crate::export::Component;
use crate::export::parsed::{self, Parts};
use crate::handler::base::BaseHttpRequestHandler;
use crate::http1::body::{Incoming, Outgoing};
use crate::http1::rfile::Rfile;
use crate::http1::wfile::Wfile;

impl<H: BaseHttpRequestHandler + Default> Guest for Component<H> {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let parts = Parts {
            method: request.get_method(),
            target: request.get_path_with_query(),
            authority: request.get_authority(),
            is_encrypted: matches!(request.get_scheme(), Some(Scheme::Https)),
            fields: request.get_headers().copy_all(),
        };
        let rfile = Rfile::content(Incoming::new(request));
        let wfile = Wfile::response(Outgoing::default());
        // An error here is a connection that has failed.
        let response = parsed::answer::<H>(parts, rfile, wfile)
            .map_err(|_| ErrorCode::ConnectionTerminated)?;
        response.unwrap_or_default().into_response()
    }
}
