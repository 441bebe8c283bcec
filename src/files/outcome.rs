//! The answer to a request for a file that is there. Pure: request and representation in, outcome out;
//! `handler::simple` sends it.

use crate::files::coding::Representation;
use crate::files::conditions::{self, Precondition, Validators};
use crate::files::ranges::{self, ByteRange, Selection};
use crate::http1::request::Request;

/// The answer to a request for a file that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All of the file.
    Whole,
    /// All of the file, in a coding that is made for this response.
    Coded,
    /// A part of the file.
    Part(ByteRange),
    /// Several parts of the file, in this order.
    Parts(Vec<ByteRange>),
    /// No content: the client has the file already.
    NotModified,
    /// An error: the client means another version of the file.
    PreconditionFailed,
    /// An error: no part of the file was asked for.
    RangeNotSatisfiable,
}

impl Outcome {
    /// Returns the status code.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Outcome::Whole | Outcome::Coded => 200,
            Outcome::Part(_) | Outcome::Parts(_) => 206,
            Outcome::NotModified => 304,
            Outcome::PreconditionFailed => 412,
            Outcome::RangeNotSatisfiable => 416,
        }
    }
}

/// Decides what answers `request`, which names the file of `representation`; `validators` tell this
/// representation from others. Conditions are first, then ranges (RFC 9110 13.2.2). A representation coded
/// for one response has no parts.
pub(crate) fn decide(
    request: &Request,
    representation: &Representation,
    validators: &Validators,
) -> Outcome {
    match conditions::evaluate(request, validators) {
        Precondition::NotModified => Outcome::NotModified,
        Precondition::Failed => Outcome::PreconditionFailed,
        Precondition::Holds if representation.is_made_here => Outcome::Coded,
        Precondition::Holds if !validators.match_if_range(request) => Outcome::Whole,
        Precondition::Holds => match ranges::select(request, representation.file.size) {
            Selection::Whole => Outcome::Whole,
            Selection::Part(range) => Outcome::Part(range),
            Selection::Parts(ranges) => Outcome::Parts(ranges),
            Selection::Unsatisfiable => Outcome::RangeNotSatisfiable,
        },
    }
}
