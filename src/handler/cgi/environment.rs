//! The variables that tell a script of its request: CGI/1.1 (RFC 3875 4.1), as Python 3.13 sets them.

use std::borrow::Cow;

use crate::handler::exchange::Exchange;
use crate::http1::request::{Headers, Version};

use super::locate::{Script, bytes};

/// The fields that have a variable of their own, that are no business of a script (RFC 3875 4.1.18, RFC 9110
/// 7.6.1), or that would set a variable which means something else: `HTTP_PROXY` is where programs look
/// for a proxy of their own.
const NOT_PASSED: [&str; 16] = [
    "accept",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "keep-alive",
    "proxy",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
];

/// The facts about the server that the environment tells besides the exchange.
pub(super) struct Server {
    pub(super) software: String,
    pub(super) protocol: Version,
    /// The directory served, as scripts know it.
    pub(super) root: String,
    /// The path beneath which clients see that directory.
    pub(super) base: String,
}

/// Returns the variables for `script`, as (name, value). Values are bytes: what the client has sent is told as it came.
pub(super) fn environment(
    http: &Exchange,
    server: Server,
    script: &Script,
    query: &str,
) -> Vec<(String, Vec<u8>)> {
    let headers = http.request.headers();
    let mut variables = Variables(Vec::new());
    variables.set("GATEWAY_INTERFACE", "CGI/1.1");
    variables.set("SERVER_SOFTWARE", server.software);
    variables.set("SERVER_NAME", &*host_name(&http.server.address));
    variables.set("SERVER_PORT", http.server.port.to_string());
    variables.set("SERVER_PROTOCOL", server.protocol.as_str());
    variables.set("REQUEST_METHOD", http.request.command());
    let name = bytes(&script.name);
    // A path of the URL (RFC 3875 4.1.13), while the file is found without the base.
    variables.set("SCRIPT_NAME", [&*bytes(&server.base), &*name].concat());
    variables.set("SCRIPT_FILENAME", [server.root.as_bytes(), &*name].concat());
    variables.set("PATH_INFO", &*script.path_info);
    variables.set(
        "PATH_TRANSLATED",
        [server.root.as_bytes(), &*script.path_info].concat(),
    );
    variables.set("QUERY_STRING", query);
    // The RFC does not name the next three, but PHP asks for them.
    variables.set("DOCUMENT_ROOT", &*server.root);
    variables.set("REQUEST_URI", http.request.path());
    variables.set("REDIRECT_STATUS", "200");
    variables.set("REMOTE_ADDR", http.client_address.address.as_str());
    variables.set("REMOTE_HOST", "");
    if http.is_encrypted {
        // The RFC does not name it, but scripts look for it.
        variables.set("HTTPS", "on");
    }
    // A name whose password nobody has looked at may be anybody's, and a script would believe it.
    if let Some(user) = &http.request.user {
        variables.set("AUTH_TYPE", "Basic");
        variables.set("REMOTE_USER", user.as_str());
    }
    let first = |name| headers.values(name).next();
    variables.set(
        "CONTENT_TYPE",
        first("Content-Type").unwrap_or(b"text/plain"),
    );
    variables.set(
        "CONTENT_LENGTH",
        first("Content-Length").unwrap_or_default(),
    );
    variables.set("HTTP_ACCEPT", joined(headers, "Accept", b","));
    variables.set("HTTP_COOKIE", joined(headers, "Cookie", b", "));
    variables.set("HTTP_USER_AGENT", "");
    variables.set("HTTP_REFERER", "");
    for (name, value) in headers.lines().filter(|(name, _)| is_passed(name)) {
        let name = format!("HTTP_{}", name.to_ascii_uppercase().replace('-', "_"));
        variables.add(&name, value);
    }
    variables.0
}

struct Variables(Vec<(String, Vec<u8>)>);

impl Variables {
    fn set(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.0.push((name.into(), value.into()));
    }

    /// Adds one of maybe several field lines of this name, which are one list (RFC 9110 5.3).
    fn add(&mut self, name: &str, value: &[u8]) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, list)) if list.is_empty() => list.extend(value),
            Some((_, list)) => list.extend([b", ", value].concat()),
            None => self.set(name, value),
        }
    }
}

/// Returns whether the field `name` becomes a variable. Names with other characters than letters, digits
/// and `-` do not: `X_A` would be taken for `X-A`.
fn is_passed(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    name.bytes().all(is_plain) && !NOT_PASSED.iter().any(|no| name.eq_ignore_ascii_case(no))
}

fn joined(headers: Headers, name: &str, separator: &[u8]) -> Vec<u8> {
    let values: Vec<_> = headers.values(name).collect();
    values.join(separator)
}

/// Returns an address as it stands in a URL (RFC 3875 4.1.14).
fn host_name(address: &str) -> Cow<'_, str> {
    match address.contains(':') {
        true => format!("[{address}]").into(),
        false => address.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_become_variables() {
        for (name, expected) in [
            ("Host", true),
            ("X-Forwarded-For", true),
            ("x-1", true),
            ("X_Forwarded_For", false),
            ("X.Y", false),
            ("Proxy", false),
            ("PROXY", false),
            ("Authorization", false),
            ("Transfer-Encoding", false),
            ("Content-Length", false),
        ] {
            assert_eq!(is_passed(name), expected, "{name}");
        }
    }
}
