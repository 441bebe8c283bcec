//! The words between a worker and the process that starts its scripts: an order, and what became of it. The
//! worker is not trusted with more than an order; whoever has taken it over finds nothing else here.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::cgi::{End, Refusal};

/// Bytes that an order may have: those of the largest head of a request (320 KiB), doubled as UTF-8 may do, and of
/// its path some times more.
pub(super) const MAX_ORDER: usize = 1024 * 1024;
/// Bytes of the number in front of an order.
pub(super) const LENGTH: usize = 4;
/// Bytes that an answer may have.
pub(super) const MAX_ANSWER: usize = 1024;
/// Beginnings of names of variables that a script may have: those of CGI, and none that leads a loader or an
/// interpreter astray (`LD_PRELOAD`, `BASH_ENV`, `PYTHONPATH`).
const VARIABLES: [&[u8]; 12] = [
    b"AUTH_",
    b"CONTENT_",
    b"DOCUMENT_",
    b"GATEWAY_",
    b"HTTP_",
    b"PATH_",
    b"QUERY_",
    b"REDIRECT_",
    b"REMOTE_",
    b"REQUEST_",
    b"SCRIPT_",
    b"SERVER_",
];

/// A script to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cgi) struct Order {
    /// The path beneath the root.
    pub(in crate::cgi) path: String,
    pub(in crate::cgi) arguments: Vec<OsString>,
    pub(in crate::cgi) environment: Vec<(OsString, OsString)>,
}

impl Order {
    /// Returns the order as bytes behind their number; `None` if there are too many.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; LENGTH];
        let mut add = |text: &[u8]| {
            // A length that does not fit into the number is too long in any case.
            bytes.extend((text.len() as u32).to_le_bytes());
            bytes.extend(text);
        };
        add(self.path.as_bytes());
        add(&(self.arguments.len() as u32).to_le_bytes());
        self.arguments.iter().for_each(|text| add(text.as_bytes()));
        for (name, value) in &self.environment {
            add(name.as_bytes());
            add(value.as_bytes());
        }
        let length = bytes.len() - LENGTH;
        bytes[..LENGTH].copy_from_slice(&(length as u32).to_le_bytes());
        (length <= MAX_ORDER).then_some(bytes)
    }

    /// Returns the order in `bytes`, without the number in front; `None` if it is none that a server gives.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Order> {
        let mut texts = Vec::new();
        while !bytes.is_empty() {
            let (length, rest) = bytes.split_first_chunk()?;
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            let (text, rest) = rest.split_at_checked(length)?;
            texts.push(text);
            bytes = rest;
        }
        let mut texts = texts.into_iter();
        let path = String::from_utf8(texts.next()?.to_vec()).ok()?;
        let count = u32::from_le_bytes(texts.next()?.try_into().ok()?);
        let own = |text: &[u8]| OsString::from_vec(text.to_vec());
        let mut arguments = Vec::new();
        for _ in 0..count {
            arguments.push(own(texts.next()?));
        }
        let mut environment = Vec::new();
        while let Some(name) = texts.next() {
            if !is_variable(name) {
                return None;
            }
            environment.push((own(name), own(texts.next()?)));
        }
        Some(Order {
            path,
            arguments,
            environment,
        })
    }
}

/// Returns whether `name` is a variable that a script may have.
fn is_variable(name: &[u8]) -> bool {
    let is_plain = |&byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    let is_of_cgi = VARIABLES.iter().any(|start| name.starts_with(start)) || name == b"HTTPS";
    // Programs look there for a proxy of their own.
    is_of_cgi && name.iter().all(is_plain) && name != b"HTTP_PROXY"
}

/// The answer of the starter to an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The script runs; its end will be told.
    Started,
    Refused(Refusal),
    Ended(End),
}

impl Answer {
    /// Returns the answer as bytes, at most [`MAX_ANSWER`].
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Answer::Started => vec![b's', 0],
            Answer::Refused(Refusal::NotFound) => vec![b'n', 0],
            Answer::Refused(Refusal::NotExecutable) => vec![b'x', 0],
            Answer::Refused(Refusal::Busy) => vec![b'b', 0],
            Answer::Refused(Refusal::Failed(reason)) => {
                let reason = &reason.as_bytes()[..reason.floor_char_boundary(u8::MAX.into())];
                [&[b'f', reason.len() as u8], reason].concat()
            }
            Answer::Ended(End::Exited(code)) => vec![b'e', *code],
            Answer::Ended(End::Signalled(signal)) => vec![b'k', *signal],
            Answer::Ended(End::Trapped(_) | End::TimedOut | End::Abandoned) => vec![b'a', 0],
        }
    }

    /// Returns the answer that `bytes` begin with, and its length; `None` if it has not come.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Answer, usize)> {
        let &[kind, number, ref rest @ ..] = bytes else {
            return None;
        };
        let answer = match kind {
            b's' => Answer::Started,
            b'n' => Answer::Refused(Refusal::NotFound),
            b'x' => Answer::Refused(Refusal::NotExecutable),
            b'b' => Answer::Refused(Refusal::Busy),
            b'e' => Answer::Ended(End::Exited(number)),
            b'k' => Answer::Ended(End::Signalled(number)),
            b'f' => {
                let reason = rest.get(..number.into())?;
                let reason = String::from_utf8_lossy(reason).into_owned();
                let length = 2 + usize::from(number);
                return Some((Answer::Refused(Refusal::Failed(reason)), length));
            }
            _ => Answer::Ended(End::Abandoned),
        };
        Some((answer, 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> Order {
        let variables = [
            ("QUERY_STRING", "a+b"),
            ("HTTP_X_1", "\u{e9}"),
            ("HTTPS", "on"),
        ];
        Order {
            path: "./cgi-bin/script".into(),
            arguments: vec!["a b".into(), "".into()],
            environment: variables.map(|(a, b)| (a.into(), b.into())).into(),
        }
    }

    #[test]
    fn an_order_arrives_as_it_was_given() {
        let empty = Order {
            path: String::new(),
            arguments: vec![],
            environment: vec![],
        };
        for order in [order(), empty] {
            let bytes = order.encode().expect("short");
            let length = u32::from_le_bytes(bytes[..LENGTH].try_into().expect("four"));
            assert_eq!(length as usize, bytes.len() - LENGTH);
            assert_eq!(Order::decode(&bytes[LENGTH..]), Some(order));
        }
        let mut long = order();
        long.arguments.push("x".repeat(MAX_ORDER).into());
        assert_eq!(long.encode(), None);
    }

    #[test]
    fn nothing_else_is_an_order() {
        let bytes = order().encode().expect("short");
        let bytes = &bytes[LENGTH..];
        // Wherever it is cut, it is another order at most: one of fewer variables.
        for end in 0..bytes.len() {
            if let Some(order) = Order::decode(&bytes[..end]) {
                assert!(order.environment.len() < 3, "{end}");
            }
        }
        for at in 0..bytes.len() {
            let mut bytes = bytes.to_vec();
            bytes[at] = 0xff;
            let _ = Order::decode(&bytes);
        }
        assert_eq!(Order::decode(&[0xff; 100]), None);
        for name in [
            "LD_PRELOAD",
            "BASH_ENV",
            "PATH",
            "HTTP_PROXY",
            "HTTP_a",
            "",
            "X",
            "HTTP_A=B",
        ] {
            let mut order = order();
            order.environment.push((name.into(), "x".into()));
            let bytes = order.encode().expect("short");
            assert_eq!(Order::decode(&bytes[LENGTH..]), None, "{name}");
        }
    }

    #[test]
    fn an_answer_arrives_as_it_was_given() {
        for answer in [
            Answer::Started,
            Answer::Refused(Refusal::NotFound),
            Answer::Refused(Refusal::NotExecutable),
            Answer::Refused(Refusal::Busy),
            Answer::Refused(Refusal::Failed("no reason".into())),
            Answer::Ended(End::Exited(7)),
            Answer::Ended(End::Signalled(9)),
        ] {
            let bytes = answer.encode();
            let more = [&bytes[..], b"more"].concat();
            assert_eq!(Answer::decode(&more), Some((answer, bytes.len())));
            assert_eq!(Answer::decode(&bytes[..bytes.len() - 1]), None);
        }
        let long = Answer::Refused(Refusal::Failed("\u{20ac}".repeat(500)));
        assert!(long.encode().len() <= MAX_ANSWER);
        assert!(Answer::decode(&long.encode()).is_some());
    }
}
