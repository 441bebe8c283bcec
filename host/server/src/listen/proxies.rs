//! Proxies that are trusted to say who their clients are, and the form in which they say it. `forwarded` and
//! `preface` read the two forms.

use std::net::{IpAddr, SocketAddr};

pub use agreed::proxies::TrustedProxy;

/// The form in which proxies say who their client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Forwarding {
    /// The field `X-Forwarded-For` of each request.
    XForwardedFor,
    /// The PROXY protocol, version 1 or 2, at the start of each connection.
    ProxyProtocol,
}

/// Proxies that are trusted. Nobody else is believed.
#[derive(Clone, Debug)]
pub struct TrustedProxies {
    proxies: Vec<TrustedProxy>,
    form: Forwarding,
}

impl TrustedProxies {
    /// Trusts `proxies`, which all speak `form`.
    pub fn new(proxies: impl IntoIterator<Item = TrustedProxy>, form: Forwarding) -> Self {
        TrustedProxies {
            proxies: proxies.into_iter().collect(),
            form,
        }
    }

    /// Returns the form in which these proxies say who their client is.
    pub(crate) fn form(&self) -> Forwarding {
        self.form
    }

    /// Returns whether a connection from `peer` is one of a proxy. Peers of a Unix socket have no address.
    pub(crate) fn has_peer(&self, peer: Option<SocketAddr>) -> bool {
        match peer {
            Some(peer) => self.has(peer.ip().to_canonical()),
            None => self.proxies.contains(&TrustedProxy::UnixPeers),
        }
    }

    /// Returns whether `address` is one of a proxy.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|proxy| proxy.has(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_peers_that_are_named_are_trusted() {
        let parse = |value| TrustedProxy::parse(value).expect("a proxy");
        let peer = |text: &str| Some(text.parse().expect("an address"));
        let proxies = ["10.0.0.0/8", "::1"].map(parse);
        let proxies = TrustedProxies::new(proxies, Forwarding::XForwardedFor);
        assert!(proxies.has_peer(peer("10.1.2.3:4")));
        assert!(proxies.has_peer(peer("[::ffff:10.1.2.3]:4")));
        assert!(proxies.has_peer(peer("[::1]:4")));
        assert!(!proxies.has_peer(peer("127.0.0.1:4")));
        assert!(!proxies.has_peer(None));
        let unix = TrustedProxies::new([parse("unix")], Forwarding::ProxyProtocol);
        assert!(unix.has_peer(None));
        assert!(!unix.has_peer(peer("127.0.0.1:4")));
    }
}
