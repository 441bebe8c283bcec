//! From a handler type to a component: what the two exports have in common, and the file server.

use std::io;
use std::marker::PhantomData;

use crate::base::BaseHttpRequestHandler;
use crate::exchange::Exchange;
use crate::open::OpenAt;
use crate::simple::{self, Files, SimpleHttpRequestHandler};

/// A handler that a component can be made of.
pub trait Handler: BaseHttpRequestHandler {
    /// A handler for one connection, on a host that opens files in this way.
    fn new(open_at: OpenAt) -> Self;
}

/// The component that answers with `H`.
#[derive(Debug)]
pub struct Component<H>(PhantomData<H>);

/// `python -m http.server`: the handler of the component that this package is.
#[derive(Debug)]
pub struct FileServer {
    files: Files,
}

impl Handler for FileServer {
    fn new(open_at: OpenAt) -> Self {
        FileServer { files: Files::new(open_at) }
    }
}

impl BaseHttpRequestHandler for FileServer {
    fn do_get(&mut self, http: &mut Exchange) -> io::Result<()> {
        simple::do_get(self, http)
    }

    fn do_head(&mut self, http: &mut Exchange) -> io::Result<()> {
        simple::do_head(self, http)
    }
}

impl SimpleHttpRequestHandler for FileServer {
    fn files(&self) -> &Files {
        &self.files
    }
}
