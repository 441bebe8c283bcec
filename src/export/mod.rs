//! From a handler type to a component: the ways in, and what they have in common.
//!
//! 1. Bytes come in from a raw connection (`connection`), or a request that a host has parsed (`incoming_handler`, and
//!    under WASI 0.3 `handler`) is written out as bytes again (`parsed`).
//! 2. A handler is made, and answers: everything else is in the other wings.
//! 3. The host is told what becomes of the connection.

pub(crate) mod connection;
#[cfg(feature = "wasi3")]
mod handler;
#[cfg(not(feature = "wasi3"))]
mod incoming_handler;
mod parsed;

use std::marker::PhantomData;

/// The component that answers with `H`, a new one for each connection or request.
#[derive(Debug)]
pub struct Component<H>(PhantomData<H>);

/// Makes the crate a component that answers with a handler: `sandserve::export!(Handler);`, once, in
/// a crate of type `cdylib` built for wasm32-wasip2. The handler is a [`BaseHttpRequestHandler`](crate::BaseHttpRequestHandler) that
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
            $crate::__export!(Exported);
        };
    };
}

/// Exports a component on raw connections, and on requests as WASI 0.2 has them.
#[cfg(not(feature = "wasi3"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($component:ident) => {
        $crate::bindings::export_component!($component with_types_in $crate::bindings);
    };
}

/// Exports a component on requests as WASI 0.3 has them, and on those alone: hardly a host takes a component that
/// exports both.
#[cfg(feature = "wasi3")]
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($component:ident) => {
        $crate::wasip3::http::service::export!($component with_types_in $crate::wasip3);
    };
}
