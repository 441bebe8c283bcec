//! Proxies that are trusted to say who their clients are: an address, a network, or the peers of a Unix
//! socket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Proxies that one value of `--trusted-proxy` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustedProxy {
    /// Whoever connects to a Unix socket.
    UnixPeers,
    /// Addresses of IPv4: these bits, as far as the mask has ones.
    V4 {
        /// The address of the network.
        network: u32,
        /// Ones where the address counts.
        mask: u32,
    },
    /// Addresses of IPv6: these bits, as far as the mask has ones.
    V6 {
        /// The address of the network.
        network: u128,
        /// Ones where the address counts.
        mask: u128,
    },
}

impl TrustedProxy {
    /// Parses an address, a network such as `10.0.0.0/8`, or `unix`.
    ///
    /// # Errors
    /// Text of another form.
    pub fn parse(value: &str) -> Result<TrustedProxy, &'static str> {
        const EXPECTED: &str = "expected an address, a network like 10.0.0.0/8, or `unix`";
        if value == "unix" {
            return Ok(TrustedProxy::UnixPeers);
        }
        let (address, bits) = match value.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (value, None),
        };
        let address: IpAddr = address.parse().map_err(|_| EXPECTED)?;
        let (width, of_mapped) = match address {
            IpAddr::V4(_) => (32, 0),
            IpAddr::V6(_) => (128, 96),
        };
        let bits = match bits {
            None => width,
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().map_err(|_| EXPECTED)?
            }
            Some(_) => return Err(EXPECTED),
        };
        if bits > width {
            return Err("a network of IPv4 has at most 32 bits, one of IPv6 128");
        }
        // A dual-stack listener shows IPv4 peers as `::ffff:192.0.2.1`, and they are known as IPv4.
        Ok(match (address, address.to_canonical()) {
            (IpAddr::V6(_), IpAddr::V4(address)) if bits >= of_mapped => {
                v4(address, bits - of_mapped)
            }
            (IpAddr::V4(address), _) => v4(address, bits),
            (IpAddr::V6(address), _) => v6(address, bits),
        })
    }

    /// Returns whether `address`, not one of IPv4 in the form of IPv6, is one of them.
    pub fn has(&self, address: IpAddr) -> bool {
        match (*self, address) {
            (TrustedProxy::V4 { network, mask }, IpAddr::V4(address)) => {
                address.to_bits() & mask == network
            }
            (TrustedProxy::V6 { network, mask }, IpAddr::V6(address)) => {
                address.to_bits() & mask == network
            }
            _ => false,
        }
    }
}

/// Returns the address that a member of `X-Forwarded-For` is, which some proxies give with a port.
pub fn address(member: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(member).ok()?;
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    let address: Option<IpAddr> = text.parse().ok();
    address
        .or_else(with_port)
        .or_else(|| bracketed().map(IpAddr::V6))
        .map(|address| address.to_canonical())
}

fn v4(address: Ipv4Addr, bits: u32) -> TrustedProxy {
    let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
    TrustedProxy::V4 {
        network: address.to_bits() & mask,
        mask,
    }
}

fn v6(address: Ipv6Addr, bits: u32) -> TrustedProxy {
    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
    TrustedProxy::V6 {
        network: address.to_bits() & mask,
        mask,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_an_address_a_network_or_a_peer_of_a_unix_socket() {
        for (value, has, has_not) in [
            ("192.0.2.1", &["192.0.2.1"][..], &["192.0.2.2", "::1"][..]),
            ("10.0.0.0/8", &["10.0.0.0", "10.255.1.2"], &["11.0.0.0"]),
            // Bits behind the mask count for nothing.
            ("10.1.2.3/8", &["10.9.9.9"], &["11.1.2.3"]),
            ("0.0.0.0/0", &["1.2.3.4"], &["2001:db8::1"]),
            ("::1", &["::1"], &["::2", "0.0.0.1"]),
            ("2001:db8::/32", &["2001:db8:1::1"], &["2001:db9::"]),
            ("::/0", &["2001:db8::1"], &["192.0.2.1"]),
            ("::ffff:192.0.2.1", &["192.0.2.1"], &["192.0.2.2"]),
            ("::ffff:10.0.0.0/104", &["10.1.1.1"], &["11.1.1.1"]),
            ("unix", &[], &["127.0.0.1", "::1"]),
        ] {
            let proxy = TrustedProxy::parse(value).expect(value);
            let is_in = |address: &&str| proxy.has(address.parse().expect("an address"));
            assert!(has.iter().all(is_in), "{value}: {proxy:?}");
            assert!(!has_not.iter().any(is_in), "{value}: {proxy:?}");
        }
    }

    #[test]
    fn text_of_another_form_is_no_proxy() {
        for value in [
            "",
            "Unix",
            "localhost",
            "10.0.0/8",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "::/129",
            "::/99999999999",
            "127.0.0.1:80",
            "[::1]",
            "fe80::1%lo",
            " 127.0.0.1",
        ] {
            assert!(TrustedProxy::parse(value).is_err(), "{value}");
        }
    }
}
