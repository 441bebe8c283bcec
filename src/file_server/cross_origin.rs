//! The answer to the preflight requests of the Fetch standard, for `--cors`.

use std::io;

use agreed::syntax::is_token;

use crate::handler::base::BaseHttpRequestHandler;
use crate::handler::exchange::Exchange;
use crate::http1::request::Request;

/// The seconds that a browser may remember the answer to a preflight for; Chromium remembers it no longer.
const MAX_AGE: &str = "7200";
/// The methods that pages of other origins may use: none of them stores anything.
const METHODS: &str = "GET, HEAD, OPTIONS";

/// Answers an OPTIONS request with the methods that are `allowed`, or a preflight with what the browser may
/// ask for next.
pub(crate) fn send_options<H>(
    handler: &mut H,
    http: &mut Exchange,
    allowed: String,
) -> io::Result<()>
where
    H: BaseHttpRequestHandler + ?Sized,
{
    let fields = options(&http.request, allowed);
    handler.send_response(http, 204, None);
    for (name, value) in fields {
        handler.send_header(http, name, &value);
    }
    handler.end_headers(http)
}

/// Returns whether `request` is a preflight, by which a browser asks if it may send another request.
pub(crate) fn is_preflight(request: &Request) -> bool {
    let asks = request.headers().get("Access-Control-Request-Method");
    request.command() == "OPTIONS" && asks.is_some()
}

/// Returns the fields that answer the OPTIONS request `request`, besides those of every response.
fn options(request: &Request, allowed: String) -> Vec<(&'static str, String)> {
    let headers = request.headers();
    if !is_preflight(request) {
        return vec![("Allow", allowed)];
    }
    let mut fields = vec![
        ("Access-Control-Allow-Methods", METHODS.into()),
        ("Access-Control-Max-Age", MAX_AGE.into()),
    ];
    let asked: Vec<_> = headers.get_all("Access-Control-Request-Headers").collect();
    let names: Vec<&str> = asked
        .iter()
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| is_token(name))
        .collect();
    if !names.is_empty() {
        fields.push(("Access-Control-Allow-Headers", names.join(", ")));
    }
    if headers.has_token("Access-Control-Request-Private-Network", "true") {
        fields.push(("Access-Control-Allow-Private-Network", "true".into()));
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::parse::{Parsed, parse};

    #[test]
    fn a_preflight_is_told_what_it_asks() {
        let method = "Access-Control-Request-Method: GET\r\n";
        let cases = [
            ("", "Allow: GET, PUT"),
            (
                method,
                "Access-Control-Allow-Methods: GET, HEAD, OPTIONS; Access-Control-Max-Age: 7200",
            ),
            (
                "Access-Control-Request-Method: PUT\r\n\
                 Access-Control-Request-Headers: range,X-a, b c ,<i>,,\"\r\n\
                 Access-Control-Request-Headers: last\r\n\
                 Access-Control-Request-Private-Network: true\r\n",
                "Access-Control-Allow-Methods: GET, HEAD, OPTIONS; Access-Control-Max-Age: 7200; \
                 Access-Control-Allow-Headers: range, X-a, last; \
                 Access-Control-Allow-Private-Network: true",
            ),
        ];
        for (fields, answer) in cases {
            let head = format!("OPTIONS / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
            let Parsed::Complete(request, _) = parse(head.as_bytes()) else {
                panic!("{head}");
            };
            let found: Vec<_> = options(&request, "GET, PUT".into())
                .iter()
                .map(|(name, value)| format!("{name}: {value}"))
                .collect();
            assert_eq!(found.join("; "), answer, "{head}");
        }
    }
}
