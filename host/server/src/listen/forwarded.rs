//! The client that a trusted proxy names in the head of a request, in `X-Forwarded-For`, and another field that
//! the host looks for. A head is looked at only where its sender was told to be trusted, or where passwords are
//! asked for; all else in it is for the sandbox, which refuses heads in which lines are read in two ways.

use std::net::IpAddr;

use agreed::proxies::address;

/// Returns the client that `head` names: the right-most address in `X-Forwarded-For` that is none of a proxy.
/// If all are of proxies, the one that began it is the client. `None` where there is no such field, or where
/// it has something else than addresses.
pub(crate) fn client(head: &[u8], is_proxy: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let values = lines(head).filter_map(|line| value(line, b"x-forwarded-for"));
    // Each proxy adds its own client at the end; the members before that are hearsay.
    let members = values.flat_map(|value| value.rsplit(|&byte| byte == b','));
    let mut first = None;
    for member in members.map(<[u8]>::trim_ascii) {
        // RFC 9110 5.6.1.2.
        if member.is_empty() {
            continue;
        }
        let address = address(member)?;
        if !is_proxy(address) {
            return Some(address);
        }
        first = Some(address);
    }
    first
}

/// Returns whether credentials come with `head`.
pub(crate) fn has_credentials(head: &[u8]) -> bool {
    lines(head).any(|line| value(line, b"authorization").is_some())
}

/// Returns the field lines of `head`, the last first.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let start = head.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
    let request = &head[start.count()..];
    let fields = match memchr::memchr(b'\n', request) {
        Some(end) => &request[end + 1..],
        None => &[],
    };
    fields.rsplit(|&byte| byte == b'\n')
}

/// Returns the value of the field line `line` if its field is `name`, which is in lower case.
fn value<'h>(line: &'h [u8], name: &[u8]) -> Option<&'h [u8]> {
    let (named, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":")?;
    named.eq_ignore_ascii_case(name).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_of(fields: &str) -> Option<String> {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
        let is_proxy = |address: IpAddr| address.to_string().starts_with("10.");
        client(head.as_bytes(), is_proxy).map(|address| address.to_string())
    }

    #[test]
    fn the_client_is_the_last_that_is_no_proxy() {
        for (fields, client) in [
            ("X-Forwarded-For: 192.0.2.1", Some("192.0.2.1")),
            ("x-forwarded-for:192.0.2.1 ", Some("192.0.2.1")),
            ("X-Forwarded-For: 192.0.2.9, 192.0.2.1", Some("192.0.2.1")),
            (
                "X-Forwarded-For: 192.0.2.1, 10.0.0.1,10.1.1.1",
                Some("192.0.2.1"),
            ),
            (
                "X-Forwarded-For: 192.0.2.1,\t, 10.0.0.1 ,",
                Some("192.0.2.1"),
            ),
            ("X-Forwarded-For: 10.0.0.2, 10.0.0.1", Some("10.0.0.2")),
            // Several lines are one list.
            (
                "X-Forwarded-For: 192.0.2.9\r\nA: b\r\nX-Forwarded-For: 192.0.2.1",
                Some("192.0.2.1"),
            ),
            (
                "X-Forwarded-For: 192.0.2.9, 192.0.2.1\r\nX-Forwarded-For: 10.0.0.1",
                Some("192.0.2.1"),
            ),
            (
                "X-Forwarded-For: 192.0.2.9\nX-Forwarded-For: 192.0.2.1",
                Some("192.0.2.1"),
            ),
            // The text before it is not looked at.
            ("X-Forwarded-For: x y z, 192.0.2.1", Some("192.0.2.1")),
            ("X-Forwarded-For: 2001:db8::1", Some("2001:db8::1")),
            ("X-Forwarded-For: [2001:db8::1]", Some("2001:db8::1")),
            ("X-Forwarded-For: [2001:db8::1]:443", Some("2001:db8::1")),
            ("X-Forwarded-For: 192.0.2.1:443", Some("192.0.2.1")),
            ("X-Forwarded-For: ::ffff:192.0.2.1", Some("192.0.2.1")),
            ("X-Forwarded-For: ::ffff:10.0.0.1", Some("10.0.0.1")),
        ] {
            assert_eq!(client_of(fields).as_deref(), client, "{fields}");
        }
    }

    #[test]
    fn a_field_that_is_none_names_nobody() {
        for fields in [
            "A: b",
            "X-Forwarded-For:",
            "X-Forwarded-For: ,,",
            "X-Forwarded-For: unknown",
            "X-Forwarded-For: 192.0.2.1, unknown",
            "X-Forwarded-For: 192.0.2.1, unknown, 10.0.0.1",
            "X-Forwarded-For: 192.0.2.1 192.0.2.2",
            "X-Forwarded-For: 192.0.2",
            "X-Forwarded-For: 192.0.2.1:x",
            "X-Forwarded-For: [192.0.2.1]",
            "X-Forwarded-For: fe80::1%lo",
            "X-Forwarded-For: \u{e4}",
            "X-Forwarded-For : 192.0.2.1",
            " X-Forwarded-For: 192.0.2.1",
            "X-Forwarded-For\r\n: 192.0.2.1",
            "X-Forwarded-For-Not: 192.0.2.1",
            "Forwarded: for=192.0.2.1",
        ] {
            assert_eq!(client_of(fields), None, "{fields}");
        }
    }

    #[test]
    fn a_request_line_is_no_field() {
        for head in [
            "X-Forwarded-For: 192.0.2.1\r\n\r\n",
            "\r\n\r\nX-Forwarded-For: 192.0.2.1\r\nA: b\r\n\r\n",
            "X-Forwarded-For: 192.0.2.1",
            "",
            "\n",
        ] {
            assert_eq!(client(head.as_bytes(), |_| false), None, "{head:?}");
        }
    }

    #[test]
    fn credentials_are_found_wherever_they_are() {
        for (fields, has) in [
            ("Authorization: Basic YTpi", true),
            ("A: b\r\nAUTHORIZATION:\r\nC: d", true),
            ("Proxy-Authorization: Basic YTpi", false),
            ("A: Authorization: b", false),
        ] {
            let head = format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n");
            assert_eq!(has_credentials(head.as_bytes()), has, "{fields}");
        }
    }
}
