//! `SimpleHTTPRequestHandler`: files and directories beneath a root, one step a method.
//!
//! As in [`base`](crate::base), a method calls the function of its name unless overridden.

use std::borrow::Cow;
use std::io::{self, Write};

use crate::files::Files;
use crate::files::coding::{self, Representation};
use crate::files::compress;
use crate::files::conditions::{Validators, opaque};
use crate::files::content_type;
use crate::files::dotfiles;
use crate::files::filesystem::{self, Descriptor, ErrorCode};
use crate::files::listing::{Entries, Listing, UploadForm};
use crate::files::multipart::Multipart;
use crate::files::open::{File, OpenAt, Opened, Unopened, as_named, open, reason};
use crate::files::outcome::{self, Outcome};
use crate::files::path::LocalPath;
use crate::files::ranges::ByteRange;
use crate::handler::base::BaseHttpRequestHandler;
use crate::handler::exchange::Exchange;
use crate::http1::date;

/// The largest content, in bytes, that is read into the write of its head, or of the parts around it.
/// Beyond, the host does better with a stream, which need not enter the sandbox.
const SMALL_FILE: u64 = 4 * 1024;

/// The content that follows a head, if any does.
#[non_exhaustive]
pub enum Content {
    /// A file, or a part of it.
    File(File, ByteRange),
    /// Several parts of a file.
    Parts(File, Multipart),
    /// A page made for this response.
    Page(String),
    /// A directory.
    Listing(Listing),
    /// All of a file, compressed for this response.
    Compressed(Vec<u8>),
}

impl Content {
    /// Returns all of `file` as content.
    pub fn whole(file: File) -> Content {
        let all = ByteRange {
            start: 0,
            end: file.size,
        };
        Content::File(file, all)
    }
}

/// A handler that serves GET and HEAD from files. `do_get` and `do_head` of the base trait call [`do_get`]
/// and [`do_head`] here.
pub trait SimpleHttpRequestHandler: BaseHttpRequestHandler {
    /// Returns the settings of the files that are served.
    fn files(&self) -> &Files;

    /// Sends the head of the response to GET or HEAD, and returns the content that belongs to it;
    /// `None` where the response is already complete.
    fn send_head(&mut self, http: &mut Exchange) -> io::Result<Option<Content>> {
        send_head(self, http)
    }

    /// Sends the response to a request for a file that does not exist, and returns the content that belongs
    /// to it, or `None`, as `send_head` does. Python does this within `send_head`.
    fn send_not_found(&mut self, http: &mut Exchange) -> io::Result<Option<Content>> {
        send_not_found(self, http)
    }

    /// Sends the head of a listing of `directory`, and returns the listing. The directory is `None` where
    /// the host may not read it.
    fn list_directory(
        &mut self,
        http: &mut Exchange,
        directory: Option<&Descriptor>,
    ) -> io::Result<Option<Content>> {
        list_directory(self, http, directory)
    }

    /// Returns the path of the file that a request target names.
    fn translate_path(&self, path: &str) -> LocalPath {
        translate_path(self, path)
    }

    /// Returns the content type of the file `path`.
    fn guess_type(&self, path: &str) -> Cow<'_, str> {
        guess_type(self, path)
    }

    /// Writes `content` as the content of the response.
    fn copyfile(&mut self, http: &mut Exchange, content: Content) -> io::Result<()> {
        copyfile(http, content)
    }
}

/// Serves a GET request.
pub fn do_get<H>(handler: &mut H, http: &mut Exchange) -> io::Result<()>
where
    H: SimpleHttpRequestHandler + ?Sized,
{
    match handler.send_head(http)? {
        Some(content) => handler.copyfile(http, content),
        None => Ok(()),
    }
}

/// Serves a HEAD request.
pub fn do_head<H>(handler: &mut H, http: &mut Exchange) -> io::Result<()>
where
    H: SimpleHttpRequestHandler + ?Sized,
{
    handler.send_head(http).map(drop)
}

/// Sends the head of the response to GET or HEAD: the default of [`SimpleHttpRequestHandler::send_head`].
pub fn send_head<H>(handler: &mut H, http: &mut Exchange) -> io::Result<Option<Content>>
where
    H: SimpleHttpRequestHandler + ?Sized,
{
    let path = as_named(handler.translate_path(http.request.path()), http.open_at);
    if dotfiles::hides(handler.files(), path.beneath()) {
        return handler.send_not_found(http);
    }
    match open(&path, http.open_at) {
        Ok(Opened::File(file)) if !path.is_directory() => {
            send_file_head(handler, http, &path, file)
        }
        Ok(Opened::Directory(directory)) => {
            if !http.request.target().path.ends_with('/') {
                return redirect_to_directory(handler, http);
            }
            match open_index_page(&handler.files().index_pages, &path, http.open_at) {
                Ok(Some((path, file))) => send_file_head(handler, http, &path, file),
                Ok(None) => handler.list_directory(http, directory.as_ref()),
                Err(unopened) => send_unopened(handler, http, unopened),
            }
        }
        Ok(Opened::File(_)) => handler.send_not_found(http),
        Err(unopened) => send_unopened(handler, http, unopened),
    }
}

/// Answers for a path that gives nothing to serve. Only a path that is not there, or as good as not there,
/// is 404, which mirrors and caches take for gone.
fn send_unopened<H>(
    handler: &mut H,
    http: &mut Exchange,
    unopened: Unopened,
) -> io::Result<Option<Content>>
where
    H: SimpleHttpRequestHandler + ?Sized,
{
    let (code, reason) = match unopened {
        Unopened::NotThere | Unopened::Forbidden => return handler.send_not_found(http),
        Unopened::Exhausted => (503, "the host has no descriptors or no memory left"),
        Unopened::Broken => (500, "the file system has failed"),
        Unopened::NoDirectory => return send_without_directory(handler, http).map(|()| None),
    };
    handler.log_error(http, &format!("cannot open the file: {reason}"));
    handler.send_error(http, code, None, None)?;
    Ok(None)
}

/// Answers where there is no directory to serve: the log says how to give one.
pub(crate) fn send_without_directory<H>(handler: &mut H, http: &mut Exchange) -> io::Result<()>
where
    H: BaseHttpRequestHandler + ?Sized,
{
    handler.log_error(http, filesystem::WITHOUT_DIRECTORY);
    handler.send_error(http, 500, None, None)
}

/// Sends the error 404: the default of [`SimpleHttpRequestHandler::send_not_found`].
pub fn send_not_found<H>(handler: &mut H, http: &mut Exchange) -> io::Result<Option<Content>>
where
    H: SimpleHttpRequestHandler + ?Sized,
{
    handler.send_error(http, 404, Some("File not found"), None)?;
    Ok(None)
}

/// Sends the head of the response to a request for `file`, which is at `path`, and returns its content.
pub(crate) fn send_file_head<H>(
    handler: &mut H,
    http: &mut Exchange,
    path: &LocalPath,
    file: File,
) -> io::Result<Option<Content>>
where
    H: SimpleHttpRequestHandler + ?Sized,
{
    let content_type = handler.guess_type(path.as_str()).into_owned();
    let files = handler.files();
    let representation = match content_type::coding(path.as_str(), &files.extensions_map) {
        Some(coding) => Representation::named(file, coding),
        None => coding::choose(
            &http.request,
            path,
            &content_type,
            file,
            files.compress,
            http.open_at,
        ),
    };
    let validators = representation.validators(handler.files().entity_tags);
    let outcome = outcome::decide(&http.request, &representation, &validators);
    let code = outcome.status();
    if code == 412 {
        handler.send_error(http, code, None, None)?;
        return Ok(None);
    }
    let is_whole = outcome == Outcome::Whole;
    let size = representation.file.size;
    let Representation {
        file,
        coding,
        varies,
        ..
    } = representation;
    let (fields, content) = match outcome {
        Outcome::Whole => (
            ContentFields::new(content_type, size),
            Some(Content::whole(file)),
        ),
        Outcome::Part(range) => (
            ContentFields {
                range: Some(range.content_range(size)),
                ..ContentFields::new(content_type, range.length())
            },
            Some(Content::File(file, range)),
        ),
        Outcome::Parts(ranges) => {
            let parts = Multipart::new(boundary(&validators), &ranges, &content_type, size);
            (
                ContentFields::new(parts.content_type(), parts.length()),
                Some(Content::Parts(file, parts)),
            )
        }
        // Nothing is compressed for HEAD, so its response does not tell the length (RFC 9110 9.3.2).
        Outcome::Coded if http.request.command() == "HEAD" => (
            ContentFields {
                content_type: Some(content_type),
                ..ContentFields::default()
            },
            None,
        ),
        Outcome::Coded => {
            let coded = compress::gzip(path.as_str(), &file)?;
            (
                ContentFields::new(content_type, coded.len() as u64),
                Some(Content::Compressed(coded)),
            )
        }
        Outcome::RangeNotSatisfiable => (
            ContentFields {
                length: Some(0),
                range: Some(format!("bytes */{size}")),
                ..ContentFields::default()
            },
            None,
        ),
        Outcome::NotModified | Outcome::PreconditionFailed => (ContentFields::default(), None),
    };
    handler.send_response(http, code, None);
    if code != 416 {
        let cache_control = handler.files().cache_control.clone();
        if let Some(cache_control) = cache_control {
            handler.send_header(http, "Cache-Control", &cache_control);
        }
    }
    fields.send(handler, http);
    if code != 416 {
        send_validators(handler, http, &validators, coding, varies);
    }
    if is_whole {
        handler.send_header(http, "Accept-Ranges", "bytes");
    }
    handler.end_headers(http)?;
    Ok(content)
}

/// The fields of a response that say what its content is, as far as there is something to say.
#[derive(Default)]
struct ContentFields {
    content_type: Option<String>,
    length: Option<u64>,
    range: Option<String>,
}

impl ContentFields {
    fn new(content_type: String, length: u64) -> Self {
        ContentFields {
            content_type: Some(content_type),
            length: Some(length),
            range: None,
        }
    }

    fn send<H>(&self, handler: &mut H, http: &mut Exchange)
    where
        H: SimpleHttpRequestHandler + ?Sized,
    {
        if let Some(content_type) = &self.content_type {
            handler.send_header(http, "Content-type", content_type);
        }
        if let Some(length) = self.length {
            handler.send_header(http, "Content-Length", &length.to_string());
        }
        if let Some(range) = &self.range {
            handler.send_header(http, "Content-Range", range);
        }
    }
}

/// Sends the fields that tell a representation from others: they are the same with 200, 206 and 304.
fn send_validators<H>(
    handler: &mut H,
    http: &mut Exchange,
    validators: &Validators,
    coding: Option<&'static str>,
    varies: bool,
) where
    H: SimpleHttpRequestHandler + ?Sized,
{
    if validators.last_modified.is_some() {
        let date = handler.date_time_string(validators.last_modified);
        handler.send_header(http, "Last-Modified", &date);
    }
    if let Some(etag) = &validators.etag {
        handler.send_header(http, "ETag", etag);
    }
    if let Some(coding) = coding {
        handler.send_header(http, "Content-Encoding", coding);
    }
    if varies {
        handler.send_header(http, "Vary", "Accept-Encoding");
    }
}

/// Returns a boundary that is in no file: no file that was written before this nanosecond foresaw it.
fn boundary(validators: &Validators) -> String {
    let now = date::precise_now();
    let tag = opaque(validators.etag.as_deref().unwrap_or_default());
    format!(
        "{:x}-{:x}-{}",
        now.seconds,
        now.nanoseconds,
        tag.trim_matches('"')
    )
}

/// Redirects to the target with a slash at its end: relative links in a directory's page need the slash. Without
/// `no-cache`, browsers would go on redirecting when the directory has long given way to a file.
fn redirect_to_directory<H>(handler: &mut H, http: &mut Exchange) -> io::Result<Option<Content>>
where
    H: SimpleHttpRequestHandler + ?Sized,
{
    let location = http.request.target().with_trailing_slash();
    handler.send_response(http, 301, None);
    handler.send_header(http, "Location", &location);
    handler.send_header(http, "Cache-Control", "no-cache");
    handler.send_header(http, "Content-Length", "0");
    handler.end_headers(http)?;
    Ok(None)
}

/// Opens the index page of the directory `path`, and returns it with its path. The
/// page is opened from the root, so that a link may lead anywhere inside the root.
fn open_index_page(
    index_pages: &[Cow<str>],
    path: &LocalPath,
    open_at: OpenAt,
) -> Result<Option<(LocalPath, File)>, Unopened> {
    for name in index_pages {
        let path = path.join(name);
        match open(&path, open_at) {
            Ok(Opened::File(file)) => return Ok(Some((path, file))),
            Ok(Opened::Directory(_)) | Err(Unopened::NotThere) => {}
            // A page that is there and cannot be read stands for the directory all the same: its names
            // are not told.
            Err(unopened) => return Err(unopened),
        }
    }
    Ok(None)
}

/// Sends the head of a listing: the default of [`SimpleHttpRequestHandler::list_directory`].
pub fn list_directory<H>(
    handler: &mut H,
    http: &mut Exchange,
    directory: Option<&Descriptor>,
) -> io::Result<Option<Content>>
where
    H: SimpleHttpRequestHandler + ?Sized,
{
    match read_directory(handler, http, directory)? {
        Some(entries) => send_listing(handler, http, entries, UploadForm::No).map(Some),
        None => Ok(None),
    }
}

/// Reads all entries of `directory`, also those that are not shown. Returns `None` where that fails; the
/// response is then complete.
pub(crate) fn read_directory<H>(
    handler: &mut H,
    http: &mut Exchange,
    directory: Option<&Descriptor>,
) -> io::Result<Option<Entries>>
where
    H: SimpleHttpRequestHandler + ?Sized,
{
    let path = as_named(handler.translate_path(http.request.path()), http.open_at);
    let (code, message) =
        match directory.map(|directory| Entries::read(directory, &path, http.open_at)) {
            Some(Ok(entries)) => return Ok(Some(entries)),
            Some(Err(ErrorCode::InsufficientMemory)) => (500, "Too many entries to list"),
            Some(Err(_)) | None => (404, "No permission to list directory"),
        };
    handler.send_error(http, code, Some(message), None)?;
    Ok(None)
}

/// Sends the head of a listing of `entries`, and returns the listing.
pub(crate) fn send_listing<H>(
    handler: &mut H,
    http: &mut Exchange,
    mut entries: Entries,
    form: UploadForm,
) -> io::Result<Content>
where
    H: SimpleHttpRequestHandler + ?Sized,
{
    entries.retain(|name| !dotfiles::hides(handler.files(), name));
    let listing = Listing::new(&http.request, &handler.files().base, entries, form);
    handler.send_response(http, 200, None);
    handler.send_header(http, "Content-type", listing.content_type());
    handler.send_header(http, "Content-Length", &listing.size().to_string());
    handler.send_header(http, "Vary", "Accept");
    let policy = listing.content_security_policy();
    handler.send_header(http, "Content-Security-Policy", policy);
    handler.end_headers(http)?;
    Ok(Content::Listing(listing))
}

/// Returns the path of the file that a request target names: the default of
/// [`SimpleHttpRequestHandler::translate_path`].
pub fn translate_path<H>(handler: &H, path: &str) -> LocalPath
where
    H: SimpleHttpRequestHandler + ?Sized,
{
    let files = handler.files();
    LocalPath::translate_beneath(&files.base, &files.directory, path)
}

/// Returns the content type of the file `path`: the default of [`SimpleHttpRequestHandler::guess_type`].
pub fn guess_type<'h, H>(handler: &'h H, path: &str) -> Cow<'h, str>
where
    H: SimpleHttpRequestHandler + ?Sized,
{
    Cow::Borrowed(content_type::guess_type(
        path,
        &handler.files().extensions_map,
    ))
}

/// Writes `content` as the content of the response: the default of [`SimpleHttpRequestHandler::copyfile`].
pub fn copyfile(http: &mut Exchange, content: Content) -> io::Result<()> {
    match content {
        Content::Page(page) => http.wfile.write_all(page.as_bytes()),
        Content::Listing(listing) => listing.send(&mut http.wfile),
        Content::Compressed(bytes) => http.wfile.write_all(&bytes),
        Content::File(file, range) => copy_range(http, &file, range),
        Content::Parts(file, parts) => {
            for (head, range) in parts.parts() {
                http.wfile.write_all(head.as_bytes())?;
                copy_range(http, &file, range)?;
            }
            http.wfile.write_all(parts.end().as_bytes())
        }
    }
}

fn copy_range(http: &mut Exchange, file: &File, range: ByteRange) -> io::Result<()> {
    match range.length() {
        0 => Ok(()),
        length @ ..=SMALL_FILE => {
            let (bytes, _) = file
                .descriptor
                .read(length, range.start)
                .map_err(unreadable)?;
            // A file that has become shorter leaves the response short, and the connection closes.
            http.wfile.write_all(&bytes)
        }
        length => {
            let stream = file
                .descriptor
                .read_via_stream(range.start)
                .map_err(unreadable)?;
            filesystem::splice(&mut http.wfile, stream, length)
        }
    }
}

fn unreadable(error: ErrorCode) -> io::Error {
    io::Error::other(format!("cannot read the file: {}", reason(error)))
}
