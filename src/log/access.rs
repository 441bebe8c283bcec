//! Lines of the log in the formats that other programs read: Apache's two, and JSON. Python's own,
//! the default, is in `base`; `log` writes either.

use std::fmt::Write;

use agreed::escape::{apache_field, json_string};

use crate::http1::date;
use crate::http1::request::{Request, latin1};
use crate::log;
use crate::text::excerpt::excerpt;

/// A format other than Python's (`SANDSERVE_LOG_FORMAT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Apache's Common Log Format.
    Common,
    /// Apache's Combined Log Format: the common one, then the fields Referer and User-Agent.
    Combined,
    /// A JSON object.
    Json,
}

impl Format {
    /// Returns the format called `name`; `None` for Python's, and for names that are none.
    pub(crate) fn from_name(name: &str) -> Option<Format> {
        match name {
            "common" => Some(Format::Common),
            "combined" => Some(Format::Combined),
            "json" => Some(Format::Json),
            _ => None,
        }
    }
}

/// The part of the response in hand that is still to be logged. Python logs a response before its size is
/// known, the other formats after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing.
    #[default]
    Logged,
    /// `log_request` has told its status; its size will be known when its head is complete.
    Noted(u16),
    /// `log_message` is being called with this.
    Due(Answer),
}

/// A response, as the log shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    /// The size of the content in bytes, if that is known.
    pub(crate) size: Option<u64>,
}

/// The start of every line: whom it is about, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp<'a> {
    pub(crate) client: &'a str,
    /// Seconds since the epoch.
    pub(crate) seconds: u64,
    /// Seconds that local time is ahead of UTC.
    pub(crate) utc_offset: i32,
}

impl Stamp<'_> {
    /// Returns the line for the answer to a request, its line end included.
    pub(crate) fn access(&self, format: Format, request: &Request, answer: Answer) -> String {
        match format {
            Format::Common => self.common(request, answer) + "\n",
            Format::Combined => {
                let mut line = self.common(request, answer);
                for name in ["Referer", "User-Agent"] {
                    line.push_str(" \"");
                    let value = request.headers().get(name);
                    push_field(&mut line, value.as_deref().unwrap_or("-"));
                    line.push('"');
                }
                line + "\n"
            }
            Format::Json => self.json(request, answer),
        }
    }

    /// Returns the line, as JSON, for anything else than the answer to a request.
    pub(crate) fn json_message(&self, message: &str) -> String {
        let mut line = self.begin_json();
        push_member(&mut line, "message", Some(message));
        line + "}\n"
    }

    /// Returns `%h %l %u %t "%r" %>s %b` of Apache's `mod_log_config`, which has no size for no content.
    fn common(&self, request: &Request, Answer { code, size }: Answer) -> String {
        let mut line = String::with_capacity(log::LINE);
        apache_field(&mut line, self.client);
        line.push_str(" - ");
        let user = request.user.as_deref().unwrap_or("-");
        push_field(&mut line, &latin1(user.as_bytes()));
        let date = date::apache_date(self.seconds, self.utc_offset);
        let _ = write!(line, " [{date}] \"");
        push_field(&mut line, &request.requestline());
        let _ = match size {
            None | Some(0) => write!(line, "\" {code} -"),
            Some(size) => write!(line, "\" {code} {size}"),
        };
        line
    }

    fn json(&self, request: &Request, Answer { code, size }: Answer) -> String {
        let mut line = self.begin_json();
        // What is no request line is in the message that goes before.
        let requestline = request.requestline();
        let mut words = requestline.split(' ');
        let words = [words.next(), words.next(), words.next(), words.next()];
        let [method, target, version] = match words {
            [method, target, version @ Some(_), None] => [method, target, version],
            _ => [None; 3],
        };
        push_member(&mut line, "user", request.user.as_deref());
        push_member(&mut line, "method", method);
        push_member(&mut line, "target", target);
        push_member(&mut line, "version", version);
        let _ = write!(line, ",\"status\":{code},\"size\":");
        let _ = match size {
            Some(size) => write!(line, "{size}"),
            None => write!(line, "null"),
        };
        let field = |name| request.headers().values(name).next().map(latin1);
        push_member(&mut line, "referer", field("Referer").as_deref());
        push_member(&mut line, "user_agent", field("User-Agent").as_deref());
        line + "}\n"
    }

    fn begin_json(&self) -> String {
        let mut line = String::with_capacity(log::LINE);
        let time = date::rfc3339(self.seconds, self.utc_offset);
        let _ = write!(line, "{{\"time\":\"{time}\"");
        push_member(&mut line, "client", Some(self.client));
        line
    }
}

/// Appends a member of a JSON object that is not the first.
fn push_member(line: &mut String, name: &str, value: Option<&str>) {
    let _ = write!(line, ",\"{name}\":");
    let _ = match value {
        Some(value) => json_string(line, &excerpt(value, log::MAX_FIELD, push_json)),
        None => line.write_str("null"),
    };
}

fn push_json(line: &mut String, text: &str) {
    // A string takes whatever is written to it.
    let _ = json_string(line, text);
}

/// Appends a field of Apache's formats.
fn push_field(line: &mut String, text: &str) {
    apache_field(line, &excerpt(text, log::MAX_FIELD, apache_field));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::parse::{Parsed, parse};

    const STAMP: Stamp = Stamp {
        client: "192.0.2.1",
        seconds: 1_600_000_000,
        utc_offset: 7200,
    };

    fn request(head: &[u8]) -> Request {
        match parse(head) {
            Parsed::Complete(request, _) => request,
            Parsed::Refused(refusal) => Request::unreadable(refusal.requestline),
            Parsed::Partial => panic!("{}", head.escape_ascii()),
        }
    }

    fn access(format: Format, head: &[u8], code: u16, size: Option<u64>) -> String {
        STAMP.access(format, &request(head), Answer { code, size })
    }

    #[test]
    fn apache_lines_are_those_of_apache() {
        let head = b"GET //a?b HTTP/1.0\r\nUser-Agent: a \"b\" \\ \xfc\x80\r\n\r\n";
        let common = "192.0.2.1 - - [13/Sep/2020:14:26:40 +0200] \"GET //a?b HTTP/1.0\" 200 6";
        let line = access(Format::Common, head, 200, Some(6));
        assert_eq!(line, format!("{common}\n"));
        let line = access(Format::Combined, head, 200, Some(6));
        assert_eq!(
            line,
            format!("{common} \"-\" \"a \\\"b\\\" \\\\ \\xfc\\x80\"\n")
        );
        for size in [None, Some(0)] {
            let line = access(Format::Common, b"GET \x1b\"\t HTTP/1.0\r\n", 400, size);
            assert!(
                line.ends_with("] \"GET \\x1b\\\"\\t HTTP/1.0\" 400 -\n"),
                "{line}"
            );
        }
    }

    #[test]
    fn users_are_shown_where_they_are_known() {
        let mut request = request(b"GET / HTTP/1.0\r\n\r\n");
        request.user = Some("a \"\u{e4}".into());
        let answer = Answer {
            code: 200,
            size: Some(6),
        };
        let line = STAMP.access(Format::Common, &request, answer);
        assert!(
            line.starts_with("192.0.2.1 - a \\\"\\xc3\\xa4 [13/Sep/"),
            "{line}"
        );
        let line = STAMP.access(Format::Json, &request, answer);
        assert!(line.contains("\"user\":\"a \\\"\u{e4}\","), "{line}");
    }

    #[test]
    fn json_lines_have_every_member() {
        let head = b"GET //a?b HTTP/1.0\r\nReferer: \"\\\x80\r\nUser-Agent: x\r\n\r\n";
        assert_eq!(
            access(Format::Json, head, 200, Some(6)),
            concat!(
                r#"{"time":"2020-09-13T14:26:40+02:00","client":"192.0.2.1","user":null,"method":"GET","#,
                r#""target":"//a?b","version":"HTTP/1.0","status":200,"size":6,"#,
                r#""referer":"\"\\\u0080","user_agent":"x"}"#,
                "\n"
            )
        );
        assert_eq!(
            access(Format::Json, b"GET  / HTTP/1.0\r\n", 400, None),
            concat!(
                r#"{"time":"2020-09-13T14:26:40+02:00","client":"192.0.2.1","user":null,"method":null,"#,
                r#""target":null,"version":null,"status":400,"size":null,"#,
                r#""referer":null,"user_agent":null}"#,
                "\n"
            )
        );
        assert_eq!(
            STAMP.json_message("a\nb"),
            concat!(
                r#"{"time":"2020-09-13T14:26:40+02:00","client":"192.0.2.1","message":"a\nb"}"#,
                "\n"
            )
        );
    }
}
