//! `BaseHTTPRequestHandler`: the steps of handling a request, each a method that can be overridden.
//!
//! A method of the trait that does something calls, unless overridden, the function of its name in this
//! module. An overriding method calls that function where Python's would call `super()`. Methods that only
//! tell something have their default in the trait.

use std::borrow::Cow;
use std::io::{self, Write};

use agreed::escape;

use crate::handler::exchange::{Exchange, reason_phrase};
use crate::http1::date;
use crate::http1::parse::{Refusal, repr};
use crate::http1::request::{Request, Version};
use crate::http1::rfile::Head;
use crate::http1::status::responses;
use crate::log;
use crate::log::access::{Access, Answer, Format, Stamp};
use crate::settings::Settings;
use crate::text::decimal;
use crate::text::excerpt::excerpt;

/// The page that [`BaseHttpRequestHandler::send_error`] sends (`DEFAULT_ERROR_MESSAGE`).
pub const DEFAULT_ERROR_MESSAGE: &str = "\
<!DOCTYPE HTML>
<html lang=\"en\">
    <head>
        <meta charset=\"utf-8\">
        <title>Error response</title>
    </head>
    <body>
        <h1>Error response</h1>
        <p>Error code: %(code)d</p>
        <p>Message: %(message)s.</p>
        <p>Error code explanation: %(code)s - %(explain)s.</p>
    </body>
</html>
";

/// The content type of [`DEFAULT_ERROR_MESSAGE`] (`DEFAULT_ERROR_CONTENT_TYPE`).
pub const DEFAULT_ERROR_CONTENT_TYPE: &str = "text/html;charset=utf-8";

/// A handler of the requests of a connection. Every error that a method returns is one of the connection
/// itself, which then closes; a failure of a request is answered with `send_error`.
pub trait BaseHttpRequestHandler {
    /// Returns the server software, as `name/version`.
    fn server_version(&self) -> Cow<'_, str> {
        Cow::Borrowed(concat!("sandserve/", env!("CARGO_PKG_VERSION")))
    }

    /// Returns the system that the server runs on, as `name/version`.
    fn sys_version(&self) -> Cow<'_, str> {
        Cow::Borrowed("WASI/0.2")
    }

    /// Returns the page of `send_error`, with `%(code)d`, `%(message)s` and `%(explain)s` to be filled in.
    fn error_message_format(&self) -> Cow<'_, str> {
        Cow::Borrowed(DEFAULT_ERROR_MESSAGE)
    }

    /// Returns the content type of the page of `send_error`.
    fn error_content_type(&self) -> Cow<'_, str> {
        Cow::Borrowed(DEFAULT_ERROR_CONTENT_TYPE)
    }

    /// Returns the version of HTTP to answer in. HTTP/1.1 makes connections persistent, and then every
    /// response needs a Content-Length.
    fn protocol_version(&self) -> Version {
        Settings::get().protocol
    }

    /// Handles every request that is ready; then `close_connection` says whether more may follow.
    fn handle(&mut self, http: &mut Exchange) -> io::Result<()> {
        handle(self, http)
    }

    /// Reads one request and calls the method for its command.
    fn handle_one_request(&mut self, http: &mut Exchange) -> io::Result<()> {
        handle_one_request(self, http)
    }

    /// Answers `Expect: 100-continue`. Returns true after sending 100, and false after sending an error.
    fn handle_expect_100(&mut self, http: &mut Exchange) -> io::Result<bool> {
        handle_expect_100(self, http)
    }

    /// Handles the request in hand by calling the method for its command.
    fn do_command(&mut self, http: &mut Exchange) -> io::Result<()> {
        do_command(self, http)
    }

    /// Handles GET.
    fn do_get(&mut self, http: &mut Exchange) -> io::Result<()> {
        self.do_other(http)
    }

    /// Handles HEAD.
    fn do_head(&mut self, http: &mut Exchange) -> io::Result<()> {
        self.do_other(http)
    }

    /// Handles POST.
    fn do_post(&mut self, http: &mut Exchange) -> io::Result<()> {
        self.do_other(http)
    }

    /// Handles PUT.
    fn do_put(&mut self, http: &mut Exchange) -> io::Result<()> {
        self.do_other(http)
    }

    /// Handles PATCH.
    fn do_patch(&mut self, http: &mut Exchange) -> io::Result<()> {
        self.do_other(http)
    }

    /// Handles DELETE.
    fn do_delete(&mut self, http: &mut Exchange) -> io::Result<()> {
        self.do_other(http)
    }

    /// Handles OPTIONS.
    fn do_options(&mut self, http: &mut Exchange) -> io::Result<()> {
        self.do_other(http)
    }

    /// Handles every command that has no method of its own, by sending the error 501.
    fn do_other(&mut self, http: &mut Exchange) -> io::Result<()> {
        do_other(self, http)
    }

    /// Sends and logs a complete error response, after which the connection closes. `message` replaces the
    /// reason phrase, and is cut like one; `explain` replaces the longer text. Statuses without content get
    /// none.
    fn send_error(
        &mut self,
        http: &mut Exchange,
        code: u16,
        message: Option<&str>,
        explain: Option<&str>,
    ) -> io::Result<()> {
        send_error(self, http, code, message, explain)
    }

    /// Begins a response: logs it, then adds the status line, `Server` and `Date` to the head. Of a
    /// `message` over 256 bytes only the two ends are sent.
    fn send_response(&mut self, http: &mut Exchange, code: u16, message: Option<&str>) {
        send_response(self, http, code, message);
    }

    /// Begins a response with the status line alone.
    fn send_response_only(&mut self, http: &mut Exchange, code: u16, message: Option<&str>) {
        send_response_only(self, http, code, message);
    }

    /// Adds a field line to the head. `Connection: close` and `Connection: keep-alive` take effect.
    fn send_header(&mut self, http: &mut Exchange, keyword: &str, value: &str) {
        send_header(self, http, keyword, value);
    }

    /// Ends the head and writes it. Behind a head with 101 the connection is the handler's: `rfile` and `wfile` are raw
    /// until it returns, and then it closes. Under a host that parses requests itself (`wasi:http` 0.2), 101 is an
    /// error, and the client gets 501.
    fn end_headers(&mut self, http: &mut Exchange) -> io::Result<()> {
        end_headers(self, http)
    }

    /// Writes the head as far as it has been built.
    fn flush_headers(&mut self, http: &mut Exchange) -> io::Result<()> {
        flush_headers(self, http)
    }

    /// Logs an accepted request. `size` is the size of the content in bytes, if known. In log formats other
    /// than Python's, a response of unknown size is logged when its head is complete, with the size that
    /// the head tells.
    fn log_request(&mut self, http: &mut Exchange, code: u16, size: Option<u64>) {
        log_request(self, http, code, size);
    }

    /// Logs a request that cannot be fulfilled.
    fn log_error(&mut self, http: &mut Exchange, message: &str) {
        log_error(self, http, message);
    }

    /// Logs `message` behind the client's address and the time, with control characters escaped, or logs
    /// the line that the log format makes of it. Of a message that takes more than 8 KiB in the log, only
    /// the two ends are logged.
    fn log_message(&mut self, http: &mut Exchange, message: &str) {
        log_message(self, http, message);
    }

    /// Returns the value of `Server`: `server_version` and `sys_version`.
    fn version_string(&self) -> String {
        let mut version = self.server_version().into_owned();
        version.push(' ');
        version.push_str(&self.sys_version());
        version
    }

    /// Returns a time, in seconds since the epoch, as a field shows it; `None` stands for the current time.
    fn date_time_string(&self, timestamp: Option<u64>) -> String {
        date::http_date(timestamp.unwrap_or_else(date::now))
    }

    /// Returns the current local time as the log shows it.
    fn log_date_time_string(&self) -> String {
        let now = date::now();
        date::log_date(now, Settings::get().utc_offset(now))
    }

    /// Returns the address of the client as the log shows it; `-` where the host does not tell.
    fn address_string<'h>(&self, http: &'h Exchange) -> &'h str {
        &http.client_address.address
    }
}

/// Handles every request that is ready: the default of [`BaseHttpRequestHandler::handle`].
pub fn handle<H>(handler: &mut H, http: &mut Exchange) -> io::Result<()>
where
    H: BaseHttpRequestHandler + ?Sized,
{
    loop {
        handler.handle_one_request(http)?;
        http.wfile.send()?;
        // The host waits for what the client has not sent yet.
        if http.close_connection || http.rfile.has_unread() || !http.rfile.is_ready() {
            return Ok(());
        }
    }
}

/// Reads one request and answers it: the default of [`BaseHttpRequestHandler::handle_one_request`].
pub fn handle_one_request<H>(handler: &mut H, http: &mut Exchange) -> io::Result<()>
where
    H: BaseHttpRequestHandler + ?Sized,
{
    http.close_connection = true;
    match http.rfile.read_head()? {
        Head::End => return Ok(()),
        Head::Refused(refusal) => return refuse(handler, http, refusal),
        Head::Request(request) => http.request = request,
    }
    http.close_connection = closes_after(&http.request, handler.protocol_version());
    if expects_100(&http.request, handler.protocol_version()) && !handler.handle_expect_100(http)? {
        // The content that was refused may come all the same.
        http.close_connection = true;
    } else {
        respond(handler, http)?;
    }
    // The next response must begin where this one ends, and the next request too.
    if !http.wfile.end_content() {
        http.close_connection = true;
    }
    if !http.close_connection {
        http.close_connection = !http.rfile.skip_rest();
    }
    Ok(())
}

/// Answers a request whose head cannot be read.
pub(crate) fn refuse<H>(handler: &mut H, http: &mut Exchange, refusal: Refusal) -> io::Result<()>
where
    H: BaseHttpRequestHandler + ?Sized,
{
    let Refusal {
        requestline,
        code,
        message,
        explain,
    } = refusal;
    http.request = Request::unreadable(requestline);
    handler.send_error(http, code, Some(&message), explain.as_deref())
}

/// Calls the method for the command in hand, and answers for one that fails or does not answer.
///
/// # Errors
/// Failures of the connection only.
pub(crate) fn respond<H>(handler: &mut H, http: &mut Exchange) -> io::Result<()>
where
    H: BaseHttpRequestHandler + ?Sized,
{
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, UnexpectedEof};
    let outcome = handler.do_command(http);
    let excess = http.wfile.take_excess();
    if excess > 0 {
        let message = format!("{excess} bytes beyond Content-Length were not sent");
        handler.log_error(http, &message);
    }
    let failure = match outcome {
        Err(error) if matches!(error.kind(), BrokenPipe | ConnectionAborted | UnexpectedEof) => {
            return Err(error);
        }
        Err(error) => error.to_string(),
        Ok(()) if http.wfile.has_begun() => {
            log_noted(handler, http);
            return Ok(());
        }
        Ok(()) => "the handler sent no response".into(),
    };
    handler.log_error(http, &failure);
    http.close_connection = true;
    if http.wfile.has_begun() {
        http.wfile.fail();
        return Ok(());
    }
    let code = match () {
        () if http.rfile.is_broken() => 400,
        () if http.rfile.has_overflowed() => 413,
        () if http.is_upgrade_refused() => 501,
        () => 500,
    };
    http.drop_head();
    handler.send_error(http, code, None, None)
}

/// Returns whether the connection ends with this request, as far as the request decides it (RFC 9112 9.3).
/// A connection persists from HTTP/1.1 on, or when asked to, and only if the answer is in HTTP/1.1.
fn closes_after(request: &Request, protocol: Version) -> bool {
    if protocol < Version::Http11 || request.headers().has_token("Connection", "close") {
        return true;
    }
    request.request_version() < Version::Http11
        && !request.headers().has_token("Connection", "keep-alive")
}

/// Returns whether the client waits to be told to go on. Where HTTP/1.0 is answered in, as Python does, clients go on
/// by themselves after a while; but who sends a large file should not have to wait, nor to send what is refused.
fn expects_100(request: &Request, protocol: Version) -> bool {
    let answers = protocol >= Version::Http11 || Settings::get().upload;
    answers
        && request.request_version() >= Version::Http11
        && request
            .headers()
            .get("Expect")
            .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
}

/// Answers `Expect: 100-continue` with 100: the default of [`BaseHttpRequestHandler::handle_expect_100`].
pub fn handle_expect_100<H>(handler: &mut H, http: &mut Exchange) -> io::Result<bool>
where
    H: BaseHttpRequestHandler + ?Sized,
{
    handler.send_response_only(http, 100, None);
    handler.end_headers(http)?;
    if http.rfile.has_unread() {
        http.wfile.send()?;
    }
    Ok(true)
}

/// Calls the method for the command in hand: the default of [`BaseHttpRequestHandler::do_command`].
pub fn do_command<H>(handler: &mut H, http: &mut Exchange) -> io::Result<()>
where
    H: BaseHttpRequestHandler + ?Sized,
{
    match http.request.command() {
        "GET" => handler.do_get(http),
        "HEAD" => handler.do_head(http),
        "POST" => handler.do_post(http),
        "PUT" => handler.do_put(http),
        "PATCH" => handler.do_patch(http),
        "DELETE" => handler.do_delete(http),
        "OPTIONS" => handler.do_options(http),
        _ => handler.do_other(http),
    }
}

/// Sends the error 501: the default of [`BaseHttpRequestHandler::do_other`].
pub fn do_other<H>(handler: &mut H, http: &mut Exchange) -> io::Result<()>
where
    H: BaseHttpRequestHandler + ?Sized,
{
    let message = format!("Unsupported method ({})", repr(http.request.command()));
    handler.send_error(http, 501, Some(&message), None)
}

/// Sends and logs a complete error response: the default of [`BaseHttpRequestHandler::send_error`].
pub fn send_error<H>(
    handler: &mut H,
    http: &mut Exchange,
    code: u16,
    message: Option<&str>,
    explain: Option<&str>,
) -> io::Result<()>
where
    H: BaseHttpRequestHandler + ?Sized,
{
    send_error_with(handler, http, code, message, explain, &[])
}

/// Does what [`send_error`] does, with more `fields` in the head, as (name, value).
pub(crate) fn send_error_with<H>(
    handler: &mut H,
    http: &mut Exchange,
    code: u16,
    message: Option<&str>,
    explain: Option<&str>,
    fields: &[(&str, &str)],
) -> io::Result<()>
where
    H: BaseHttpRequestHandler + ?Sized,
{
    let (short, long) = responses(code);
    let message = &*reason_phrase(message.unwrap_or(short));
    let explain = explain.unwrap_or(long);
    handler.log_error(http, &format!("code {code}, message {message}"));
    handler.send_response(http, code, Some(message));
    handler.send_header(http, "Connection", "close");
    for (name, value) in fields {
        handler.send_header(http, name, value);
    }
    // RFC 9110 6.4.1 and 15.3.6: these statuses have no content.
    let has_content = code >= 200 && !matches!(code, 204 | 205 | 304);
    let mut body = String::new();
    if has_content {
        body = error_page(&handler.error_message_format(), code, message, explain);
        let content_type = handler.error_content_type().into_owned();
        handler.send_header(http, "Content-Type", &content_type);
        handler.send_header(http, "Content-Length", &body.len().to_string());
    }
    handler.end_headers(http)?;
    // The answer to HEAD gets no content, whatever is written.
    http.wfile.write_all(body.as_bytes())
}

/// Returns the error page: `format` with `code`, `message` and `explain` filled in, the latter two escaped
/// for HTML.
fn error_page(format: &str, code: u16, message: &str, explain: &str) -> String {
    let code = code.to_string();
    let (message, explain) = (escape::html(message), escape::html(explain));
    let fields: [(&str, &str); 4] = [
        ("%(code)d", &code),
        ("%(code)s", &code),
        ("%(message)s", &message),
        ("%(explain)s", &explain),
    ];
    let mut page = String::with_capacity(format.len() + message.len() + explain.len());
    let mut rest = format;
    // One pass, so that a field's text is never taken for a field.
    while let Some(at) = rest.find('%') {
        let (before, from) = rest.split_at(at);
        page.push_str(before);
        rest = match fields
            .iter()
            .find_map(|(field, text)| Some((from.strip_prefix(field)?, text)))
        {
            Some((after, text)) => {
                page.push_str(text);
                after
            }
            None => {
                page.push('%');
                from[1..].strip_prefix('%').unwrap_or(&from[1..])
            }
        };
    }
    page.push_str(rest);
    page
}

/// Begins a response: the default of [`BaseHttpRequestHandler::send_response`].
pub fn send_response<H>(handler: &mut H, http: &mut Exchange, code: u16, message: Option<&str>)
where
    H: BaseHttpRequestHandler + ?Sized,
{
    handler.log_request(http, code, None);
    handler.send_response_only(http, code, message);
    let version = handler.version_string();
    handler.send_header(http, "Server", &version);
    date::with_current_http_date(|date| handler.send_header(http, "Date", date));
}

/// Begins a response with the status line alone: the default of
/// [`BaseHttpRequestHandler::send_response_only`].
pub fn send_response_only<H>(handler: &mut H, http: &mut Exchange, code: u16, message: Option<&str>)
where
    H: BaseHttpRequestHandler + ?Sized,
{
    let message = message.unwrap_or_else(|| responses(code).0);
    let version = match code {
        // HTTP/1.0 has no interim responses (RFC 9110 15.2).
        ..200 => Version::Http11,
        _ => handler.protocol_version(),
    };
    http.push_status_line(version, code, message);
}

/// Adds a field line to the head: the default of [`BaseHttpRequestHandler::send_header`].
pub fn send_header<H>(_: &mut H, http: &mut Exchange, keyword: &str, value: &str)
where
    H: BaseHttpRequestHandler + ?Sized,
{
    http.push_header(keyword, value);
}

/// Ends the head and writes it: the default of [`BaseHttpRequestHandler::end_headers`].
pub fn end_headers<H>(handler: &mut H, http: &mut Exchange) -> io::Result<()>
where
    H: BaseHttpRequestHandler + ?Sized,
{
    http.write_head()?;
    if !http.is_interim() {
        log_noted(handler, http);
    }
    Ok(())
}

/// Writes the head as far as it has been built: the default of [`BaseHttpRequestHandler::flush_headers`].
pub fn flush_headers<H>(_: &mut H, http: &mut Exchange) -> io::Result<()>
where
    H: BaseHttpRequestHandler + ?Sized,
{
    http.flush_headers()
}

/// Logs an accepted request: the default of [`BaseHttpRequestHandler::log_request`].
pub fn log_request<H>(handler: &mut H, http: &mut Exchange, code: u16, size: Option<u64>)
where
    H: BaseHttpRequestHandler + ?Sized,
{
    match Settings::get() {
        Settings { quiet: true, .. } => {}
        Settings {
            log_format: None, ..
        } => {
            let message = request_message(http, Answer { code, size });
            handler.log_message(http, &message);
        }
        _ if size.is_none() => http.access = Access::Noted(code),
        _ => log_answer(handler, http, Answer { code, size }),
    }
}

/// Logs the response that `log_request` has noted, if there is one.
fn log_noted<H>(handler: &mut H, http: &mut Exchange)
where
    H: BaseHttpRequestHandler + ?Sized,
{
    if let Access::Noted(code) = http.access {
        let size = http.content_size();
        log_answer(handler, http, Answer { code, size });
    }
}

/// Logs a response in another format than Python's. The line is made by `log_message`, so that overriding
/// that method changes the log in every format.
fn log_answer<H>(handler: &mut H, http: &mut Exchange, answer: Answer)
where
    H: BaseHttpRequestHandler + ?Sized,
{
    let message = request_message(http, answer);
    http.access = Access::Due(answer);
    handler.log_message(http, &message);
    http.access = Access::Logged;
}

fn request_message(http: &Exchange, Answer { code, size }: Answer) -> String {
    // Put together by hand, as are the other pieces of a line: `format!` takes longer than all the rest.
    let mut message = String::with_capacity(log::LINE);
    message.push('"');
    message.push_str(&http.request.requestline());
    message.push_str("\" ");
    let _ = decimal::write(&mut message, code.into());
    message.push(' ');
    match size {
        Some(size) => {
            let _ = decimal::write(&mut message, size);
        }
        None => message.push('-'),
    }
    message
}

/// Logs a request that cannot be fulfilled: the default of [`BaseHttpRequestHandler::log_error`].
pub fn log_error<H>(handler: &mut H, http: &mut Exchange, message: &str)
where
    H: BaseHttpRequestHandler + ?Sized,
{
    if !Settings::get().quiet {
        handler.log_message(http, message);
    }
}

/// Logs `message`: the default of [`BaseHttpRequestHandler::log_message`].
pub fn log_message<H>(handler: &mut H, http: &mut Exchange, message: &str)
where
    H: BaseHttpRequestHandler + ?Sized,
{
    let settings = Settings::get();
    let stamp = || {
        let seconds = date::now();
        Stamp {
            client: handler.address_string(http),
            seconds,
            utc_offset: settings.utc_offset(seconds),
        }
    };
    let line = match (settings.log_format, http.access) {
        (Some(format), Access::Due(answer)) => stamp().access(format, &http.request, answer),
        (Some(Format::Json), _) => stamp().json_message(message),
        _ => {
            let mut line = String::with_capacity(log::LINE);
            line.push_str(handler.address_string(http));
            line.push_str(" - - [");
            line.push_str(&handler.log_date_time_string());
            line.push_str("] ");
            let message = excerpt(message, log::MAX_FIELD, escape::log_message);
            escape::log_message(&mut line, &message);
            line.push('\n');
            line
        }
    };
    log::write(&line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_pages_escape_what_they_show() {
        let page = error_page(
            "100%% %(code)d %(message)s %(explain)s %x",
            404,
            "<b>%(explain)s",
            "a & b",
        );
        assert_eq!(page, "100% 404 &lt;b&gt;%(explain)s a &amp; b %x");
    }
}
