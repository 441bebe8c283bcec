//! The export `sandserve:http/connection`: raw bytes of one connection, parsed in here.

use crate::bindings::exports::sandserve::http::connection::{
    Endpoint as WitEndpoint, Guest, Head, Info, Next, Password, Served,
};
use crate::export::Component;
use crate::files::open::OpenAt;
use crate::handler::base::BaseHttpRequestHandler;
use crate::handler::exchange::{Endpoint, Exchange};
use crate::http1::rfile::Rfile;
use crate::http1::wfile::Wfile;
use crate::settings::users::Verdict;

use wasi::io::streams::{InputStream, OutputStream};

impl<H: BaseHttpRequestHandler + Default> Guest for Component<H> {
    fn serve(info: Info, head: Head, input: &InputStream, output: &OutputStream) -> Served {
        let mut http = Exchange::new(
            endpoint(info.client),
            endpoint(info.server),
            info.encrypted,
            Rfile::connection(input, head == Head::Whole),
            Wfile::connection(output),
            OpenAt::NeverBlocks,
        );
        http.guesses.wait = info.wait;
        serve::<H>(&mut http)
    }
}

/// Has a new handler answer on the connection of `http`, and returns what the host is to do with that.
pub(crate) fn serve<H: BaseHttpRequestHandler + Default>(http: &mut Exchange) -> Served {
    let mut handler = H::default();
    let handled = handler.handle(http);
    if handled.is_err() {
        http.wfile.fail();
    }
    let next = match handled {
        _ if http.wfile.is_cut() => Next::Reset,
        // A connection that has failed: there is nobody left to tell.
        Err(_) => Next::Linger,
        Ok(()) => match (http.close_connection, http.rfile.left_to_skip()) {
            (false, Some(0)) => Next::KeepAlive,
            (false, Some(left)) => Next::Skip(left),
            (true, Some(0)) => Next::Close,
            (_, _) => Next::Linger,
        },
    };
    let password = match http.guesses.last {
        None => Password::None,
        Some(Verdict::Right) => Password::Right,
        Some(Verdict::Wrong) => Password::Wrong,
    };
    Served { next, password }
}

fn endpoint(WitEndpoint { address, port }: WitEndpoint) -> Endpoint {
    Endpoint { address, port }
}
