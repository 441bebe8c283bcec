//! A script at work: content of the request in, its output out as the response, both as they come.

use std::io::{self, Write};

use wasi::io::poll::{Pollable, poll};
use wasi::io::streams::{OutputStream, StreamError};

use crate::bindings::sandserve::http::cgi::{End, Running, Script};
use crate::handler::exchange::Exchange;
use crate::http1::rfile::Rfile;

use super::CgiHttpRequestHandler;
use super::response::{Head, HeadReader, Parsed};

/// The most that is moved at once, in bytes.
const PIECE_SIZE: usize = 64 * 1024;

/// Answers with the output of the script called `name`, which gets the content of the request.
///
/// # Errors
/// Failures of the connection, with which the script ends.
pub(super) fn relay<H>(
    handler: &mut H,
    http: &mut Exchange,
    name: &str,
    running: Running,
) -> io::Result<()>
where
    H: CgiHttpRequestHandler + ?Sized,
{
    let Running {
        script,
        stdin,
        stdout,
    } = running;
    let mut stdin = Some(stdin);
    // The head of the output, as far as it has come.
    let mut head = Some(HeadReader::default());
    let mut is_flushed = true;
    loop {
        let output = match stdout.read(PIECE_SIZE as u64) {
            Ok(output) => output,
            Err(_) => break,
        };
        if !output.is_empty() {
            is_flushed = false;
            if let Err(reason) = pass_on(handler, http, &mut head, &output)? {
                drop(script);
                return send_failure(handler, http, name, reason);
            }
        }
        let input = match &stdin {
            Some(stdin) => feed(&mut http.rfile, stdin)?,
            None => Input::Ended,
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
    finish(handler, http, name, &script, head.is_none())
}

/// Passes a piece of the output on, as a head or as content. The inner error is the reason why the head is
/// refused.
fn pass_on<H>(
    handler: &mut H,
    http: &mut Exchange,
    head: &mut Option<HeadReader>,
    output: &[u8],
) -> io::Result<Result<(), &'static str>>
where
    H: CgiHttpRequestHandler + ?Sized,
{
    let Some(reader) = head else {
        return http.wfile.write_all(output).map(Ok);
    };
    match reader.read(output) {
        Parsed::Partial => Ok(Ok(())),
        Parsed::Broken(reason) => Ok(Err(reason)),
        Parsed::Complete(parsed, length) => {
            send_head(handler, http, &parsed)?;
            http.wfile.write_all(&output[length..])?;
            *head = None;
            Ok(Ok(()))
        }
    }
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
    if has_head {
        // The script may go on for a while without a word.
        http.wfile.flush()?;
    }
    let end = script.wait();
    let is_whole = has_head && matches!(end, End::Exited(_));
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

fn send_failure<H>(handler: &mut H, http: &mut Exchange, name: &str, reason: &str) -> io::Result<()>
where
    H: CgiHttpRequestHandler + ?Sized,
{
    handler.log_error(http, &format!("CGI script {name}: {reason}"));
    handler.send_error(http, 502, None, None)
}
