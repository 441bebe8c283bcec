//! The client that a connection belongs to: whoever has an address, or a network of the size that is given to one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};

/// The client that instances are counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    /// An IPv4 address.
    V4([u8; 4]),
    /// The network of an IPv6 address, 64 bits: the smallest that is given to one customer (RFC 6177).
    V6([u8; 8]),
    /// A connection that has no address, on a Unix socket.
    Alone(u64),
}

impl Client {
    /// Returns the client that is counted for a connection from `address`.
    pub(crate) fn of(address: Option<SocketAddr>) -> Client {
        static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
        match address.map(|address| address.ip().to_canonical()) {
            Some(IpAddr::V4(address)) => Client::V4(address.octets()),
            Some(IpAddr::V6(address)) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Client::V6([a, b, c, d, e, f, g, h])
            }
            None => Client::Alone(CONNECTIONS.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

/// Shows a client in the form that the log has.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match *self {
            Client::V4(address) => Ipv4Addr::from(address).fmt(f),
            Client::V6(network) => {
                let mut address = [0; 16];
                address[..network.len()].copy_from_slice(&network);
                write!(f, "{}/64", Ipv6Addr::from(address))
            }
            Client::Alone(_) => f.write_str("-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_addresses_or_networks() {
        let client = |text: &str| Client::of(Some(text.parse().expect("an address")));
        assert_eq!(client("192.0.2.1:1"), client("192.0.2.1:2"));
        assert_eq!(client("192.0.2.1:1"), client("[::ffff:192.0.2.1]:1"));
        assert_ne!(client("192.0.2.1:1"), client("192.0.2.2:1"));
        assert_eq!(client("[2001:db8::1]:1"), client("[2001:db8::ffff:0:2]:1"));
        assert_ne!(client("[2001:db8::1]:1"), client("[2001:db8:0:1::1]:1"));
        assert_ne!(Client::of(None), Client::of(None));
        for (address, shown) in [
            ("[::ffff:192.0.2.1]:1", "192.0.2.1"),
            ("[2001:db8:0:1::1]:1", "2001:db8:0:1::/64"),
        ] {
            assert_eq!(client(address).to_string(), shown);
        }
    }
}
