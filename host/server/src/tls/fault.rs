//! Handshakes that fail, for the log: few kinds, as each is counted apart for each client.

use std::fmt;
use std::io;

use rustls::{AlertDescription, Error};

/// The way a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// The client speaks something else.
    NotTls,
    /// The client showed no certificate, and has to.
    NoCertificate,
    /// The certificate that the client showed is not accepted.
    Certificate,
    /// The client refused the certificate that it was shown.
    Distrusted,
    /// The client broke the handshake off, with an alert or without.
    BrokenOff,
    /// Client and server have no version or no cipher in common.
    NothingInCommon,
    /// The client does not keep to the protocol.
    Malformed,
}

impl Fault {
    /// Returns the way in which `error` ended a handshake, if that is worth a line: a client that has gone before it said
    /// anything is not.
    pub(crate) fn of(error: &io::Error) -> Option<Fault> {
        let tls = error.get_ref().and_then(|error| error.downcast_ref());
        match tls {
            Some(tls) => Some(Fault::of_tls(tls)),
            None => (error.kind() == io::ErrorKind::UnexpectedEof).then_some(Fault::BrokenOff),
        }
    }

    fn of_tls(error: &Error) -> Fault {
        match error {
            Error::NoCertificatesPresented => Fault::NoCertificate,
            Error::InvalidCertificate(_) => Fault::Certificate,
            Error::AlertReceived(
                AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                // A signature that does not fit, as that of another authority of the same name.
                | AlertDescription::DecryptError,
            ) => Fault::Distrusted,
            Error::AlertReceived(_) => Fault::BrokenOff,
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Fault::NothingInCommon,
            _ => Fault::Malformed,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let fault = match self {
            Fault::NotTls => "the client does not speak TLS",
            Fault::NoCertificate => "the client showed no certificate",
            Fault::Certificate => "the client's certificate is not accepted",
            Fault::Distrusted => "the client does not accept the server's certificate",
            Fault::BrokenOff => "the client broke it off",
            Fault::NothingInCommon => "no version, cipher or protocol in common",
            Fault::Malformed => "the client does not keep to the protocol",
        };
        write!(f, "TLS handshake failed: {fault}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{CertificateError, InvalidMessage, PeerIncompatible};

    #[test]
    fn errors_are_told_apart_as_far_as_an_operator_acts_on_them() {
        let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        for (error, fault) in [
            (Error::NoCertificatesPresented, Fault::NoCertificate),
            (unknown, Fault::Certificate),
            (
                Error::AlertReceived(AlertDescription::UnknownCA),
                Fault::Distrusted,
            ),
            (
                Error::AlertReceived(AlertDescription::DecryptError),
                Fault::Distrusted,
            ),
            (
                Error::AlertReceived(AlertDescription::HandshakeFailure),
                Fault::BrokenOff,
            ),
            (
                PeerIncompatible::NoCipherSuitesInCommon.into(),
                Fault::NothingInCommon,
            ),
            (InvalidMessage::InvalidCcs.into(), Fault::Malformed),
        ] {
            let error = io::Error::new(io::ErrorKind::InvalidData, error);
            assert_eq!(Fault::of(&error), Some(fault), "{error}");
        }
        let eof = io::ErrorKind::UnexpectedEof.into();
        assert_eq!(Fault::of(&eof), Some(Fault::BrokenOff));
        let gone = io::ErrorKind::ConnectionAborted.into();
        assert_eq!(Fault::of(&gone), None);
    }
}
