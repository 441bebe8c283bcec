//! The host and port that a request is for, as `Host` and targets have them (RFC 9110 4.2, 7.2; RFC 3986
//! 3.2).

use std::net::Ipv6Addr;

use crate::text::percent;

/// Splits an authority into its host and its port, either of which may be empty; `None` for what is no
/// authority. A user name is no part of one (RFC 9110 4.2.4).
pub(crate) fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = match bytes {
        [b'[', ..] => bytes.iter().position(|&byte| byte == b']')? + 1,
        _ => bytes
            .iter()
            .position(|&byte| byte == b':')
            .unwrap_or(bytes.len()),
    };
    let (host, rest) = bytes.split_at(end);
    let is_host = match host {
        [b'[', literal @ .., b']'] => is_ip_literal(literal),
        _ => is_name(host),
    };
    let port = match rest {
        [] => rest,
        [b':', port @ ..] if port.iter().all(u8::is_ascii_digit) => port,
        _ => return None,
    };
    is_host.then_some((host, port))
}

/// Returns whether `literal` can stand between brackets: an IPv6 address, with a zone as clients send it that do
/// not know better (RFC 6874), or an address of a later version.
fn is_ip_literal(literal: &[u8]) -> bool {
    let Ok(literal) = str::from_utf8(literal) else {
        return false;
    };
    if let Some(later) = literal.strip_prefix(['v', 'V']) {
        return later.split_once('.').is_some_and(|(version, address)| {
            let is_version = |byte: u8| byte.is_ascii_hexdigit();
            let is_address = |byte: u8| is_plain(byte) || byte == b':';
            !version.is_empty()
                && version.bytes().all(is_version)
                && !address.is_empty()
                && address.bytes().all(is_address)
        });
    }
    let (address, zone) = literal.split_once('%').unwrap_or((literal, "0"));
    address.parse::<Ipv6Addr>().is_ok() && !zone.is_empty() && zone.bytes().all(is_plain)
}

/// Returns whether `name` is a registered name, which an IPv4 address is as well.
fn is_name(name: &[u8]) -> bool {
    let is_of_a_name = |&byte: &u8| byte == b'%' || is_plain(byte);
    name.iter().all(is_of_a_name) && percent::is_well_formed(name)
}

/// Returns whether `byte` stands for itself in a name: `unreserved` and `sub-delims` of RFC 3986.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_host_and_maybe_a_port() {
        for (authority, host, port) in [
            ("localhost", "localhost", ""),
            ("localhost:8000", "localhost", "8000"),
            ("localhost:", "localhost", ""),
            ("127.0.0.1:80", "127.0.0.1", "80"),
            ("a_b.example.", "a_b.example.", ""),
            ("xn--bcher-kva.example", "xn--bcher-kva.example", ""),
            ("%C3%BC.example", "%C3%BC.example", ""),
            ("[::1]", "[::1]", ""),
            ("[::1]:8000", "[::1]", "8000"),
            ("[fe80::1%eth0]", "[fe80::1%eth0]", ""),
            ("[fe80::1%25eth0]:1", "[fe80::1%25eth0]", "1"),
            ("[::ffff:1.2.3.4]", "[::ffff:1.2.3.4]", ""),
            ("[v1f.a:b]", "[v1f.a:b]", ""),
            ("", "", ""),
            (":80", "", "80"),
        ] {
            let expected = Some((host.as_bytes(), port.as_bytes()));
            assert_eq!(split(authority.as_bytes()), expected, "{authority}");
        }
    }

    #[test]
    fn anything_else_is_none() {
        for authority in [
            "a/b",
            "a b",
            "u@h",
            "u:p@h",
            "[::1",
            "::1",
            "[::1]x",
            "[]",
            "[1]",
            "[::g]",
            "[::1%]",
            "[v.a]",
            "[vg.a]",
            "[v1.]",
            "[v1]",
            "h:x",
            "h:-1",
            "h:1:2",
            "h:80/",
            "a,b/c",
            "a\\b",
            "a\"b",
            "<h>",
            "a?b",
            "a#b",
            "h%",
            "h%4",
            "h%zz",
            "\u{fc}.example",
            "a\0",
            "a\tb",
        ] {
            assert_eq!(split(authority.as_bytes()), None, "{authority}");
        }
    }
}
