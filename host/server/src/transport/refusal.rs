//! Responses of the host itself, where no sandbox can answer: one short text, and the end of the
//! connection. Everything else is said by the component.

use std::net::TcpStream;

use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

/// Bytes that are read of a client that is turned away.
const MAX_UNREAD: usize = 16 * 1024;

/// Answers a client with `response` that was not waited for, and closes the connection. The bytes that the
/// client has sent by then are read, as it would not see the answer else.
pub(crate) fn turn_away(stream: &TcpStream, response: &[u8]) {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    // A client that does not hear of it finds out.
    let _ = send(stream, response, flags);
    let _ = shutdown(stream, Shutdown::Write);
    let _ = recv(stream, &mut [0; MAX_UNREAD], RecvFlags::DONTWAIT);
}

/// The reason for which there is no answer from a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The request did not come in time.
    RequestTimeout,
    /// The sandbox has failed.
    InternalServerError,
    /// There was no sandbox in time.
    ServiceUnavailable,
    /// Nothing came from the sandbox.
    GatewayTimeout,
}

impl Refusal {
    fn status(self) -> &'static str {
        match self {
            Refusal::RequestTimeout => "408 Request Timeout",
            Refusal::InternalServerError => "500 Internal Server Error",
            Refusal::ServiceUnavailable => "503 Service Unavailable",
            Refusal::GatewayTimeout => "504 Gateway Timeout",
        }
    }

    /// Returns the response that tells the client of the refusal, with the field lines `fields` among its
    /// own.
    pub(crate) fn response(self, fields: &[u8]) -> Vec<u8> {
        let status = self.status();
        let (_, reason) = status.split_once(' ').unwrap_or_default();
        let retry = match self {
            // Crowds pass, and who has waited in vain for two seconds is not to come back at once.
            Refusal::ServiceUnavailable => "Retry-After: 1\r\n",
            _ => "",
        };
        let size = reason.len() + 1;
        let start = format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: text/plain\r\n\
             Content-Length: {size}\r\n{retry}"
        );
        [start.as_bytes(), fields, b"\r\n", reason.as_bytes(), b"\n"].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_why_and_closes() {
        let response = Refusal::ServiceUnavailable.response(b"A: b\r\n");
        assert_eq!(
            String::from_utf8_lossy(&response),
            "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: text/plain\r\n\
             Content-Length: 20\r\nRetry-After: 1\r\nA: b\r\n\r\nService Unavailable\n"
        );
        let response = Refusal::InternalServerError.response(b"");
        assert_eq!(
            String::from_utf8_lossy(&response),
            "HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Type: text/plain\r\n\
             Content-Length: 22\r\n\r\nInternal Server Error\n"
        );
    }
}
