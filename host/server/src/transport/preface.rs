//! The preface of a connection by which a proxy says whose it is: the PROXY protocol, versions 1 (a line) and 2
//! (binary), as HAProxy defines it. What the proxy tells besides the client is not looked at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Most bytes of a line of version 1, its line end included, as it is defined.
const MAX_LINE: usize = 107;
/// The beginning of a line of version 1.
const LINE: &[u8] = b"PROXY ";
/// The beginning of version 2.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of version 2 before the addresses.
const FIXED: usize = 16;
/// Most bytes of a preface of version 2: addresses take 216 at most, and what a proxy says of its own TLS
/// and of the cloud it is in a few hundred.
const MAX_SIZE: usize = 4096;

/// The part of a preface that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preface {
    /// The preface goes on.
    Incomplete,
    /// The preface has `size` bytes. Without a `client`, the connection is the proxy's own.
    Whole {
        size: usize,
        client: Option<SocketAddr>,
    },
    /// The bytes are no preface.
    Wrong,
}

/// Looks for a preface in `bytes`, with which a connection begins.
pub(crate) fn look(bytes: &[u8]) -> Preface {
    if begins(bytes, SIGNATURE) {
        return binary(bytes).unwrap_or(Preface::Wrong);
    }
    match begins(bytes, LINE) {
        true => line(bytes),
        false => Preface::Wrong,
    }
}

/// Returns whether `bytes` begin with `start`, or are the beginning of it.
fn begins(bytes: &[u8], start: &[u8]) -> bool {
    let size = bytes.len().min(start.len());
    bytes[..size] == start[..size]
}

/// Looks at a line of version 1: `PROXY TCP4 192.0.2.1 192.0.2.2 1234 80`, or `PROXY UNKNOWN` and anything.
fn line(bytes: &[u8]) -> Preface {
    let seen = &bytes[..bytes.len().min(MAX_LINE)];
    let Some(end) = memchr::memchr(b'\n', seen) else {
        return match seen.len() < MAX_LINE {
            true => Preface::Incomplete,
            false => Preface::Wrong,
        };
    };
    let whole = |client| Preface::Whole {
        size: end + 1,
        client,
    };
    let line = seen[LINE.len()..=end].strip_suffix(b"\r\n");
    let Some(line) = line.and_then(|line| str::from_utf8(line).ok()) else {
        return Preface::Wrong;
    };
    if line.split(' ').next() == Some("UNKNOWN") {
        return whole(None);
    }
    match line_addresses(line) {
        Some(client) => whole(Some(client)),
        None => Preface::Wrong,
    }
}

/// Returns the client that a line of version 1 names: the first of two addresses.
fn line_addresses(line: &str) -> Option<SocketAddr> {
    let mut words = line.split(' ');
    let family = words.next()?;
    let address = |word: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => word.parse().ok().map(IpAddr::V4),
            "TCP6" => word.parse().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let client = address(words.next()?)?;
    address(words.next()?)?;
    let client_port = port(words.next()?)?;
    port(words.next()?)?;
    let client = SocketAddr::new(client, client_port);
    words.next().is_none().then_some(client)
}

fn port(word: &str) -> Option<u16> {
    let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
    word.parse().ok().filter(|_| is_number)
}

/// Looks at a preface of version 2. Returns `None` if it is wrong.
fn binary(bytes: &[u8]) -> Option<Preface> {
    let Some(&[version, family, high, low]) = bytes.get(SIGNATURE.len()..FIXED) else {
        return Some(Preface::Incomplete);
    };
    let size = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if size > MAX_SIZE {
        return None;
    }
    let is_own = match version {
        // LOCAL, and PROXY.
        0x20 => true,
        0x21 => false,
        _ => return None,
    };
    let Some(addresses) = bytes.get(FIXED..size) else {
        return Some(Preface::Incomplete);
    };
    let client = match family {
        _ if is_own => None,
        // Unspecified, and Unix sockets, which have no addresses.
        0x00 | 0x31 => None,
        0x11 => {
            let (addresses, ports) = addresses.split_first_chunk::<8>()?;
            let [a, b, c, d, ..] = *addresses;
            let address = Ipv4Addr::new(a, b, c, d).into();
            Some(SocketAddr::new(address, first_port(ports)?))
        }
        0x21 => {
            let (addresses, ports) = addresses.split_first_chunk::<32>()?;
            let (address, _) = addresses.split_first_chunk::<16>()?;
            let address = Ipv6Addr::from(*address).into();
            Some(SocketAddr::new(address, first_port(ports)?))
        }
        _ => return None,
    };
    Some(Preface::Whole { size, client })
}

/// Returns the first of two ports.
fn first_port(ports: &[u8]) -> Option<u16> {
    let &[high, low, _, _] = ports.first_chunk()?;
    Some(u16::from_be_bytes([high, low]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Preface::{Incomplete, Whole, Wrong};

    fn client(text: &str) -> Option<SocketAddr> {
        Some(text.parse().expect("an address"))
    }

    /// A preface of version 2.
    fn binary(version: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let size = u16::try_from(addresses.len()).expect("short");
        let [high, low] = size.to_be_bytes();
        [SIGNATURE, &[version, family, high, low], addresses].concat()
    }

    /// Asserts what `bytes` come to, with more behind them, and that less of them is incomplete.
    fn assert_whole(bytes: &[u8], client: Option<SocketAddr>) {
        let size = bytes.len();
        let shown = bytes.escape_ascii();
        for end in 0..size {
            assert_eq!(look(&bytes[..end]), Incomplete, "{end} bytes of {shown}");
        }
        for more in [&b""[..], b"GET /", &[b'x'; 5000]] {
            let found = look(&[bytes, more].concat());
            assert_eq!(found, Whole { size, client }, "{shown}");
        }
    }

    #[test]
    fn a_line_names_the_client() {
        for (line, address) in [
            ("TCP4 192.0.2.1 192.0.2.2 1234 80", client("192.0.2.1:1234")),
            (
                "TCP6 2001:db8::1 ::1 65535 0",
                client("[2001:db8::1]:65535"),
            ),
            ("UNKNOWN", None),
            ("UNKNOWN anything 1 2 3", None),
        ] {
            assert_whole(format!("PROXY {line}\r\n").as_bytes(), address);
        }
        let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(MAX_LINE - 16));
        assert_whole(longest.as_bytes(), None);
    }

    #[test]
    fn a_line_of_another_form_is_wrong() {
        for bytes in [
            "GET / HTTP/1.1\r\n",
            "proxy UNKNOWN\r\n",
            "PROXY\r\n",
            "PROXY \r\n",
            "PROXY UNKNOWN\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY TCP4\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1234\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1234 80 \r\n",
            "PROXY TCP4 192.0.2.1  192.0.2.2 1234 80\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +1234 80\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1234 65536\r\n",
            "PROXY TCP4 ::1 ::1 1234 80\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.2 1234 80\r\n",
            "PROXY UDP4 192.0.2.1 192.0.2.2 1234 80\r\n",
        ] {
            assert_eq!(look(bytes.as_bytes()), Wrong, "{bytes:?}");
        }
        let too_long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(MAX_LINE - 15));
        assert_eq!(look(too_long.as_bytes()), Wrong);
        assert_eq!(look(&too_long.as_bytes()[..MAX_LINE]), Wrong);
    }

    #[test]
    fn the_binary_form_names_the_client() {
        let v4 = [192, 0, 2, 1, 192, 0, 2, 2, 4, 210, 0, 80];
        assert_whole(&binary(0x21, 0x11, &v4), client("192.0.2.1:1234"));
        // What is behind the addresses is skipped.
        let more = [&v4[..], &[3, 0, 4, 1, 2, 3, 4]].concat();
        assert_whole(&binary(0x21, 0x11, &more), client("192.0.2.1:1234"));
        let [a, b] = ["2001:db8::1", "::1"].map(|text| {
            let address: Ipv6Addr = text.parse().expect("an address");
            address.octets()
        });
        let v6 = [&a[..], &b, &[4, 210, 0, 80]].concat();
        assert_whole(&binary(0x21, 0x21, &v6), client("[2001:db8::1]:1234"));
        for (version, family, addresses) in [
            (0x20, 0x00, &[][..]),
            (0x20, 0x11, &v4),
            (0x20, 0x99, b"x"),
            (0x21, 0x00, b"anything"),
            (0x21, 0x31, &[0; 216]),
        ] {
            assert_whole(&binary(version, family, addresses), None);
        }
        assert_whole(&binary(0x21, 0x00, &[0; MAX_SIZE - FIXED]), None);
    }

    #[test]
    fn a_binary_form_that_makes_no_sense_is_wrong() {
        for (version, family, addresses) in [
            (0x11, 0x11, &[0; 12][..]),
            (0x22, 0x11, &[0; 12]),
            (0x21, 0x11, &[0; 11]),
            (0x21, 0x21, &[0; 35]),
            (0x21, 0x12, &[0; 12]),
            (0x21, 0x41, &[0; 12]),
            (0x21, 0x00, &[0; MAX_SIZE - FIXED + 1]),
        ] {
            let bytes = binary(version, family, addresses);
            assert_eq!(look(&bytes), Wrong, "{version:#x} {family:#x}");
        }
        // Its size is known before it has come.
        let too_long = binary(0x21, 0x00, &[0; MAX_SIZE]);
        assert_eq!(look(&too_long[..FIXED]), Wrong);
        assert_eq!(look(b"\r\n\r\n\0\r\nQUIX"), Wrong);
    }
}
