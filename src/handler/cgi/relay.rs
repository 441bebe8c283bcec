//! A script at work: content of the request in, its output out as the response, both as they come.

use std::io::{self, Write};

use wasi::io::poll::{Pollable, poll};
use wasi::io::streams::{OutputStream, StreamError};

use crate::bindings::sandserve::http::cgi::{End, Running, Script};
use crate::handler::exchange::Exchange;
use crate::http1::parse::repr;
use crate::http1::request::Framing;
use crate::http1::rfile::Rfile;

use super::CgiHttpRequestHandler;
use super::response::{Head, HeadReader, Parsed};

/// The most that is moved at once, in bytes.
const PIECE_SIZE: usize = 64 * 1024;

/// The form in which a script writes its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A head of CGI, which the server makes one of HTTP from, and content (RFC 3875 6).
    Parsed,
    /// The response itself, which is passed on as it is (RFC 3875 5).
    NotParsed,
}

impl Form {
    /// Returns the form for the script that is called `name`.
    pub(super) fn of(name: &str) -> Form {
        let base_name = name.rsplit('/').next().unwrap_or_default();
        match base_name.starts_with("nph-") {
            true => Form::NotParsed,
            false => Form::Parsed,
        }
    }
}

/// Answers with the output of the script called `name`, which gets the content of the request. Returns the target that
/// is to be answered instead, if the script says one.
///
/// # Errors
/// Failures of the connection, with which the script ends.
pub(super) fn relay<H>(
    handler: &mut H,
    http: &mut Exchange,
    (name, form): (&str, Form),
    running: Running,
) -> io::Result<Option<String>>
where
    H: CgiHttpRequestHandler + ?Sized,
{
    let Running {
        script,
        stdin,
        stdout,
    } = running;
    // Content of the request that a script has sent the client elsewhere from is not for the next.
    let mut stdin = Some(stdin).filter(|_| http.request.framing() != Framing::None);
    let mut output_so_far = Output::Head(HeadReader::default(), Vec::new());
    let mut is_flushed = true;
    // The client has all of the answer.
    let mut is_answered = false;
    loop {
        let output = match stdout.read(PIECE_SIZE as u64) {
            Ok(output) => output,
            Err(_) => break,
        };
        if !output.is_empty() {
            is_flushed = is_answered;
            let script_of = (name, form);
            if let Err(reason) = pass_on(handler, http, script_of, &mut output_so_far, &output)? {
                drop(script);
                return send_failure(handler, http, name, reason).map(|()| None);
            }
        }
        if !is_answered && http.wfile.is_whole() {
            http.wfile.flush()?;
            script.answered();
            (is_answered, is_flushed) = (true, true);
        }
        let input = match stdin.as_ref().map(|stdin| feed(&mut http.rfile, stdin)) {
            None => Input::Ended,
            Some(Err(_)) if is_answered => Input::Ended,
            Some(input) => input?,
        };
        if matches!(input, Input::Ended) {
            stdin = None;
        }
        if !output.is_empty() || matches!(input, Input::Moved) {
            continue;
        }
        if !is_flushed && http.wfile.has_begun() {
            // Nothing more is to be had now: the client gets what there is.
            http.wfile.flush()?;
            is_flushed = true;
            continue;
        }
        let is_readable = stdout.subscribe();
        match &input {
            Input::Waits(is_ready) => poll(&[&is_readable, is_ready]),
            _ => poll(&[&is_readable]),
        };
    }
    let is_begun = matches!(output_so_far, Output::Content);
    match output_so_far {
        // A script that fails behind that has said all the same.
        Output::Elsewhere(location) => {
            script.wait();
            Ok(Some(location))
        }
        _ => finish(handler, http, name, &script, is_begun).map(|()| None),
    }
}

/// The part of its output that a script is at.
enum Output {
    /// The head, and what was kept of it to be passed on as it is.
    Head(HeadReader, Vec<u8>),
    Content,
    /// Nothing that anybody wants: another document is the answer.
    Elsewhere(String),
}

/// Passes a piece of the output on, as a head or as content. The inner error is the reason why the head is
/// refused.
fn pass_on<H>(
    handler: &mut H,
    http: &mut Exchange,
    (name, form): (&str, Form),
    so_far: &mut Output,
    output: &[u8],
) -> io::Result<Result<(), &'static str>>
where
    H: CgiHttpRequestHandler + ?Sized,
{
    let (reader, kept) = match so_far {
        Output::Content => return http.wfile.write_all(output).map(Ok),
        Output::Elsewhere(_) => return Ok(Ok(())),
        Output::Head(reader, kept) => (reader, kept),
    };
    let parsed = reader.read(output);
    if form == Form::NotParsed {
        kept.extend_from_slice(output);
    }
    let (head, length) = match parsed {
        Parsed::Partial => return Ok(Ok(())),
        Parsed::Broken(reason) => return Ok(Err(reason)),
        Parsed::Complete(head, length) => (head, length),
    };
    match form {
        Form::NotParsed => {
            let (Some(code), true) = (head.status, head.has_status_line) else {
                return Ok(Err("no status line where one should be"));
            };
            handler.log_request(http, code, None);
            // How the content ends is the script's to say.
            http.close_connection = true;
            http.wfile.write_all(kept)?;
        }
        Form::Parsed => {
            if let Some((line, count)) = &head.left_out {
                let what = format!(
                    "lines that are no header: {count}, the first {}",
                    repr(line)
                );
                handler.log_error(http, &format!("CGI script {name}: {what}"));
            }
            if let Some(location) = head.local_location() {
                *so_far = Output::Elsewhere(location.to_owned());
                return Ok(Ok(()));
            }
            send_head(handler, http, &head)?;
            http.wfile.write_all(&output[length..])?;
        }
    }
    *so_far = Output::Content;
    Ok(Ok(()))
}

fn send_head<H>(handler: &mut H, http: &mut Exchange, head: &Head) -> io::Result<()>
where
    H: CgiHttpRequestHandler + ?Sized,
{
    let (code, reason) = head.status();
    handler.send_response(http, code, reason);
    for (name, value) in &head.fields {
        handler.send_header(http, name, value);
    }
    handler.end_headers(http)
}

/// The state of the content of the request after an attempt to pass it on.
enum Input {
    /// Some of the content went to the script.
    Moved,
    /// More of the content can go when the pollable is ready.
    Waits(Pollable),
    /// There is no more content, or the script takes no more.
    Ended,
}

/// Passes on to the script what has come of the content of the request, up to `PIECE_SIZE` bytes.
///
/// # Errors
/// Failures of the connection, and content whose framing is broken.
fn feed(rfile: &mut Rfile, stdin: &OutputStream) -> io::Result<Input> {
    let permit = match stdin.check_write() {
        Ok(0) => return Ok(Input::Waits(stdin.subscribe())),
        Ok(permit) => usize::try_from(permit).map_or(PIECE_SIZE, |permit| permit.min(PIECE_SIZE)),
        Err(StreamError::Closed | StreamError::LastOperationFailed(_)) => return Ok(Input::Ended),
    };
    let mut piece = vec![0; permit];
    Ok(match rfile.read_ready(&mut piece)? {
        Some(0) => Input::Ended,
        Some(length) => match stdin.write(&piece[..length]) {
            Ok(()) => Input::Moved,
            Err(_) => Input::Ended,
        },
        None => match rfile.subscribe() {
            Some(is_readable) => Input::Waits(is_readable),
            None => Input::Ended,
        },
    })
}

/// Ends the response of a script that has no more output, according to how the script ends.
fn finish<H>(
    handler: &mut H,
    http: &mut Exchange,
    name: &str,
    script: &Script,
    has_head: bool,
) -> io::Result<()>
where
    H: CgiHttpRequestHandler + ?Sized,
{
    let mut goes_on = false;
    if has_head && !http.wfile.is_whole() {
        http.wfile.flush()?;
        // It has closed its output, if it has not ended.
        goes_on = script.answered();
    }
    let end = script.wait();
    let is_whole = match end {
        _ if has_head && http.wfile.is_whole() => true,
        End::Exited(_) => has_head,
        // One that is killed has its output closed by that, a moment before its end is known.
        End::TimedOut => goes_on,
        _ => false,
    };
    match &end {
        End::Exited(0) => {}
        // As in Python, a signal is a negative code.
        End::Exited(code) => handler.log_error(http, &format!("CGI script exit code {code}")),
        End::Signalled(signal) => {
            handler.log_error(http, &format!("CGI script exit code -{signal}"));
        }
        End::Trapped(reason) => {
            handler.log_error(http, &format!("CGI script {name} failed: {reason}"));
        }
        End::TimedOut => handler.log_error(http, &format!("CGI script {name} took too long")),
        End::Abandoned => return Err(io::ErrorKind::BrokenPipe.into()),
    }
    match end {
        _ if is_whole => Ok(()),
        _ if has_head => {
            http.wfile.fail();
            Ok(())
        }
        End::TimedOut => handler.send_error(http, 504, None, None),
        _ => send_failure(handler, http, name, "no header in its output"),
    }
}

pub(super) fn send_failure<H>(
    handler: &mut H,
    http: &mut Exchange,
    name: &str,
    reason: &str,
) -> io::Result<()>
where
    H: CgiHttpRequestHandler + ?Sized,
{
    handler.log_error(http, &format!("CGI script {name}: {reason}"));
    handler.send_error(http, 502, None, None)
}
