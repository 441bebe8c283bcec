//! From a handler type to a component: the two ways in, and what they have in common.
//!
//! 1. Bytes come in from a raw connection (`connection`), or a request that a host has parsed is written out as bytes
//!    again (`incoming_handler`).
//! 2. A handler is made, and answers: everything else is in the other wings.
//! 3. The host is told what becomes of the connection.

mod connection;
mod incoming_handler;

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
    $crate::bindings::export_component!(Exported with_types_in $crate::bindings);
        };
    };
}
