//! The export `sandserve:http/connection`: raw bytes of one connection, parsed in here.

use crate::base::BaseHttpRequestHandler;
use crate::bindings::exports::sandserve::http::connection::{
    Endpoint as WitEndpoint, Guest, Info, Next,
};
use crate::component::Component;
use crate::exchange::{Endpoint, Exchange};
use crate::open::OpenAt;
use crate::rfile::Rfile;
use crate::wfile::Wfile;

use wasi::io::streams::{InputStream, OutputStream};

impl<H: BaseHttpRequestHandler + Default> Guest for Component<H> {
    fn serve(info: Info, input: &InputStream, output: &OutputStream) -> Next {
        let mut http = Exchange::new(
            endpoint(info.client),
            endpoint(info.server),
            info.encrypted,
            Rfile::connection(input),
            Wfile::connection(output),
            OpenAt::NeverBlocks,
        );
        let mut handler = H::default();
        // An error here is a connection that has failed: there is nobody left to tell.
        match handler.handle(&mut http) {
            Ok(()) if !http.close_connection => Next::KeepAlive,
            Ok(()) if !http.rfile.has_unread() => Next::Close,
            _ => Next::Linger,
        }
    }
}

fn endpoint(WitEndpoint { address, port }: WitEndpoint) -> Endpoint {
    Endpoint { address, port }
}
