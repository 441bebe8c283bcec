//! `CGIHTTPRequestHandler`: scripts in some directories, files everywhere else.
//!
//! 1. `locate` says whether a target is of a script, and of which.
//! 2. `environment` tells the script of the request, and the host starts it.
//! 3. `relay` passes content to the script and its output to the client; `response` reads the head of that output.
//!
//! As in [`base`](crate::base), a method calls the function of its name unless overridden. The host runs
//! the scripts, so a handler of this kind needs a host that offers `sandserve:http/cgi`.

mod environment;
mod locate;
mod relay;
pub(crate) mod response;

use std::borrow::Cow;
use std::io;

use percent_encoding::percent_decode_str;

use crate::base;
use crate::bindings::sandserve::http::cgi::{Refusal, root, start};
use crate::files::dotfiles;
use crate::files::filesystem::DescriptorType;
use crate::files::open;
use crate::files::path::LocalPath;
use crate::handler::exchange::Exchange;
use crate::handler::simple::{self, Content, SimpleHttpRequestHandler};
use crate::http1::parse::repr;

use environment::{Server, environment};
use relay::Form;

/// The directories of scripts unless others are named (`cgi_directories`).
pub const CGI_DIRECTORIES: [Cow<'static, str>; 2] =
    [Cow::Borrowed("/cgi-bin"), Cow::Borrowed("/htbin")];

/// Scripts that may refer to each other for one answer, as many as Apache lets.
const MAX_REDIRECTS: u8 = 10;

/// The seconds after which a client is to ask again where no script could run: crowds pass, and a client
/// that has waited in vain is not to come back at once.
const RETRY_AFTER: &str = "1";

/// A handler that serves GET and HEAD from files, and GET, HEAD and POST from scripts. `do_post` of the
/// base trait and `send_head` of the simple one call [`do_post`] and [`send_head`] here.
pub trait CgiHttpRequestHandler: SimpleHttpRequestHandler {
    /// Returns the directories whose files are scripts: paths from the root, with a slash before and none
    /// behind.
    fn cgi_directories(&self) -> &[Cow<'static, str>] {
        &CGI_DIRECTORIES
    }

    /// Returns the directory of scripts that the request in hand names something in, and the rest of its
    /// path (`cgi_info`); `None` for all other requests.
    fn is_cgi(&self, http: &Exchange) -> Option<(String, String)> {
        is_cgi(self, http)
    }

    /// Answers with the output of the script that `rest` begins with in `directory`.
    fn run_cgi(&mut self, http: &mut Exchange, directory: &str, rest: &str) -> io::Result<()> {
        run_cgi(self, http, directory, rest)
    }
}

/// Serves a POST request from a script, or sends the error 501 if the target names none.
pub fn do_post<H>(handler: &mut H, http: &mut Exchange) -> io::Result<()>
where
    H: CgiHttpRequestHandler + ?Sized,
{
    match handler.is_cgi(http) {
        Some((directory, rest)) => handler.run_cgi(http, &directory, &rest),
        None => handler.send_error(http, 501, Some("Can only POST to CGI scripts"), None),
    }
}

/// Sends the head of a response as [`simple::send_head`] does, or the complete answer of a script.
pub fn send_head<H>(handler: &mut H, http: &mut Exchange) -> io::Result<Option<Content>>
where
    H: CgiHttpRequestHandler + ?Sized,
{
    match handler.is_cgi(http) {
        Some((directory, rest)) => {
            handler.run_cgi(http, &directory, &rest)?;
            Ok(None)
        }
        None => simple::send_head(handler, http),
    }
}

/// Returns the directory of scripts and the rest of the path: the default of
/// [`CgiHttpRequestHandler::is_cgi`].
pub fn is_cgi<H>(handler: &H, http: &Exchange) -> Option<(String, String)>
where
    H: CgiHttpRequestHandler + ?Sized,
{
    let base = &handler.files().base;
    locate::cgi_info(base, http.request.path(), handler.cgi_directories())
}

/// Answers with the output of a script: the default of [`CgiHttpRequestHandler::run_cgi`].
pub fn run_cgi<H>(
    handler: &mut H,
    http: &mut Exchange,
    directory: &str,
    rest: &str,
) -> io::Result<()>
where
    H: CgiHttpRequestHandler + ?Sized,
{
    let files = handler.files();
    let (local, open_at) = (
        |path: &str| LocalPath::new(&files.directory, path),
        http.open_at,
    );
    let kind = |path: &str| Some(open::stat(&local(path), open_at)?.type_);
    let script = locate::script(directory, rest, |path| {
        kind(path) == Some(DescriptorType::Directory)
    });
    let (path, name) = (local(&script.name), repr(&script.name));
    // No variable and no argument can hold a NUL.
    let is_hidden = dotfiles::hides(files, path.beneath()) || script.path_info.contains(&0);
    match kind(&script.name).filter(|_| !is_hidden) {
        Some(DescriptorType::RegularFile) => {}
        Some(_) => {
            let message = format!("CGI script is not a plain file ({name})");
            return handler.send_error(http, 403, Some(&message), None);
        }
        None => return send_missing(handler, http, &name),
    }
    let query = http.request.target().query.unwrap_or_default();
    let variables = environment(http, server(handler), &script, query);
    match start(path.as_str(), &arguments(query), &variables) {
        Ok(running) => {
            let form = Form::of(&script.name);
            match relay::relay(handler, http, (&name, form), running)? {
                Some(location) => answer_instead(handler, http, &name, &location),
                None => Ok(()),
            }
        }
        Err(Refusal::NotFound) => send_missing(handler, http, &name),
        Err(Refusal::NotExecutable) => {
            let message = format!("CGI script is not executable ({name})");
            handler.send_error(http, 403, Some(&message), None)
        }
        Err(Refusal::Busy) => base::send_error_with(
            handler,
            http,
            503,
            None,
            None,
            &[("Retry-After", RETRY_AFTER)],
        ),
        Err(Refusal::Failed(reason)) => {
            handler.log_error(http, &format!("CGI script {name} does not start: {reason}"));
            let message = format!("CGI script does not start ({name})");
            handler.send_error(http, 403, Some(&message), None)
        }
    }
}

/// Answers with what is at `location`, as the script called `name` wants it (RFC 3875 6.2.2).
fn answer_instead<H>(
    handler: &mut H,
    http: &mut Exchange,
    name: &str,
    location: &str,
) -> io::Result<()>
where
    H: CgiHttpRequestHandler + ?Sized,
{
    let elsewhere = match http.request.at(location) {
        Some(request) if request.redirects <= MAX_REDIRECTS => request,
        Some(_) => return relay::send_failure(handler, http, name, "too many local redirects"),
        None => return relay::send_failure(handler, http, name, "a location that is none"),
    };
    http.request = elsewhere;
    match http.request.command() {
        "HEAD" => handler.do_head(http),
        _ => handler.do_get(http),
    }
}

fn send_missing<H>(handler: &mut H, http: &mut Exchange, name: &str) -> io::Result<()>
where
    H: CgiHttpRequestHandler + ?Sized,
{
    let message = format!("No such CGI script ({name})");
    handler.send_error(http, 404, Some(&message), None)
}

fn server<H>(handler: &H) -> Server
where
    H: CgiHttpRequestHandler + ?Sized,
{
    let directory = &handler.files().directory;
    Server {
        software: handler.version_string(),
        protocol: handler.protocol_version(),
        root: match &**directory {
            "." => root(),
            directory => format!("{}/{directory}", root()),
        },
        base: handler.files().base.to_string(),
    }
}

/// Returns the words of a query as arguments, unless it looks like a form (RFC 3875 4.4). A query that is not made of
/// words is none.
fn arguments(query: &str) -> Vec<Vec<u8>> {
    if query.contains('=') {
        return Vec::new();
    }
    let words = query
        .split('+')
        .map(|word| Vec::from(Cow::from(percent_decode_str(word))));
    let words: Vec<_> = words.collect();
    match words
        .iter()
        .any(|word| word.is_empty() || word.contains(&0))
    {
        true => Vec::new(),
        false => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_query_are_arguments() {
        for (query, expected) in [
            ("a", &[&b"a"[..]][..]),
            ("a+b", &[b"a", b"b"]),
            ("a%20b+%2B%3D+%ff", &[b"a b", b"+=", b"\xff"]),
            ("", &[]),
            ("a=b", &[]),
            ("a+b=c", &[]),
            ("a++b", &[]),
            ("a+%00", &[]),
        ] {
            assert_eq!(arguments(query), expected, "{query}");
        }
    }
}
