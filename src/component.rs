//! From a handler type to a component: what the two exports have in common, and the file server.

use std::io;
use std::marker::PhantomData;

use crate::base::BaseHttpRequestHandler;
use crate::exchange::Exchange;
use crate::simple::{self, Files, SimpleHttpRequestHandler};

/// The component that answers with `H`, a new one for each connection or request.
#[derive(Debug)]
pub struct Component<H>(PhantomData<H>);

/// Makes the crate a component that answers with a handler: `sandserve::export!(Handler);`, once, in
/// a crate of type `cdylib` built for wasm32-wasip2. The handler is a [`BaseHttpRequestHandler`] that
/// is [`Default`].
#[macro_export]
macro_rules! export {
    ($handler:ty) => {
        // Elsewhere nothing is exported, but the handler is still checked.
        const _: fn() -> $handler = <$handler as ::core::default::Default>::default;
        #[cfg(target_family = "wasm")]
        #[allow(unreachable_pub, unsafe_code, reason = "generated")]
        const _: () = {
            type Exported = $crate::Component<$handler>;
    $crate::bindings::export_component!(Exported with_types_in $crate::bindings);
        };
    };
}

/// `python -m http.server`: the handler of the component that this package is.
#[derive(Debug, Default)]
pub struct FileServer {
    files: Files,
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
