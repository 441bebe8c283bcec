//! `SimpleHTTPRequestHandler`: files and directories beneath a root, one step a method.
//!
//! As in [`crate::base`], the functions are what the methods do unless overridden.

use std::borrow::Cow;
use std::io::{self, Write};

use wasi::filesystem::types::{Descriptor, ErrorCode};

use crate::base::BaseHttpRequestHandler;
use crate::compress;
use crate::conditional::{self, Outcome, Validators};
use crate::content_type;
use crate::dotfiles;
use crate::encoding::{self, Representation};
use crate::exchange::Exchange;
use crate::listing::{Entries, Listing};
use crate::multipart::Multipart;
use crate::open::{File, OpenAt, Opened, Unopened, open};
use crate::path;
use crate::range::{self, ByteRange, Selection};
use crate::upload;

/// Content up to this size, in bytes, is read into the write of its head, or of the parts around it.
/// Beyond, the host does better with a stream, which need not enter the sandbox.
const SMALL_FILE: u64 = 4 * 1024;

/// What a file server is told: where the files are and how they are named.
#[derive(Clone, Debug)]
pub struct Files {
    /// The directory served, relative to the root that the host has granted.
    pub directory: Cow<'static, str>,
    /// Names that stand for their directory, the first that exists.
    pub index_pages: Vec<Cow<'static, str>>,
    /// Content types by extension (with its dot), looked up before the built-in tables.
    pub extensions_map: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    /// Whether what has a name that begins with a dot is neither served nor listed.
    pub hide_dotfiles: bool,
    /// Whether text that is not too long is compressed for clients that take it.
    pub compress: bool,
    /// Whether listings have a form to upload files with, which sends them with POST.
    pub upload_form: bool,
}

impl Default for Files {
    /// Python's defaults.
    fn default() -> Self {
        let borrowed = |&(extension, content_type): &(_, _)| {
            (Cow::Borrowed(extension), Cow::Borrowed(content_type))
        };
        Files {
            directory: ".".into(),
            index_pages: vec!["index.html".into(), "index.htm".into()],
            extensions_map: content_type::EXTENSIONS_MAP.iter().map(borrowed).collect(),
            hide_dotfiles: false,
            compress: false,
            upload_form: false,
        }
    }
}

/// What follows a head, if anything does.
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
    /// All of `file`.
    pub fn whole(file: File) -> Content {
        let all = ByteRange {
            start: 0,
            end: file.size,
        };
        Content::File(file, all)
    }
}

/// Serves GET and HEAD from files. `do_get` and `do_head` of the base trait call [`do_get`] and
/// [`do_head`] here.
pub trait SimpleHttpRequestHandler: BaseHttpRequestHandler {
    /// What is served.
    fn files(&self) -> &Files;

    /// Sends the head of the response to GET or HEAD, and returns the content that belongs to it;
    /// `None` where the response is already complete.
    fn send_head(&mut self, http: &mut Exchange) -> io::Result<Option<Content>> {
        send_head(self, http)
    }

    /// Sends the response to a request for a file that does not exist; returns what `send_head` does.
    /// Python does this within `send_head`.
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

    /// The file that a request target names, relative to the root.
    fn translate_path(&self, path: &str) -> String {
        translate_path(self, path)
    }

    /// The content type of the file `path`.
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

/// See [`SimpleHttpRequestHandler::send_head`].
pub fn send_head<H>(handler: &mut H, http: &mut Exchange) -> io::Result<Option<Content>>
where
    H: SimpleHttpRequestHandler + ?Sized,
{
    let path = handler.translate_path(http.request.path());
    if dotfiles::hides(handler.files(), &path) {
        return handler.send_not_found(http);
    }
    match open(&path, http.open_at) {
        Ok(Opened::File(file)) if !path.ends_with('/') => {
            send_file_head(handler, http, &path, file)
        }
        Ok(Opened::Directory(directory)) => {
            if !path::split_target(http.request.path()).0.ends_with('/') {
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

/// Answers for a path that gives nothing to serve. Only one that is not there, or as good as not there, is
/// 404, which mirrors and caches take for gone.
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
    };
    handler.log_error(http, &format!("cannot open the file: {reason}"));
    handler.send_error(http, code, None, None)?;
    Ok(None)
}

/// See [`SimpleHttpRequestHandler::send_not_found`].
pub fn send_not_found<H>(handler: &mut H, http: &mut Exchange) -> io::Result<Option<Content>>
where
    H: SimpleHttpRequestHandler + ?Sized,
{
    handler.send_error(http, 404, Some("File not found"), None)?;
    Ok(None)
}

/// Sends the head of a response with `file` as its content, or as the request's conditions have it.
pub(crate) fn send_file_head<H>(
    handler: &mut H,
    http: &mut Exchange,
    path: &str,
    file: File,
) -> io::Result<Option<Content>>
where
    H: SimpleHttpRequestHandler + ?Sized,
{
    let content_type = handler.guess_type(path).into_owned();
    let compress = handler.files().compress;
    let representation = encoding::choose(
        &http.request,
        path,
        &content_type,
        file,
        compress,
        http.open_at,
    );
    let validators = representation.validators();
    match conditional::evaluate(&http.request, &validators) {
        Outcome::Send => {}
        Outcome::NotModified => {
            handler.send_response(http, 304, None);
            send_validators(handler, http, &representation, &validators);
            handler.end_headers(http)?;
            return Ok(None);
        }
        Outcome::Failed => {
            handler.send_error(http, 412, None, None)?;
            return Ok(None);
        }
    }
    if representation.is_made_here {
        return send_compressed_head(
            handler,
            http,
            path,
            &content_type,
            &representation,
            &validators,
        );
    }
    let size = representation.file.size;
    let selection = match validators.match_if_range(&http.request) {
        true => range::select(&http.request, size),
        false => Selection::Whole,
    };
    match selection {
        Selection::Whole => {
            handler.send_response(http, 200, None);
            handler.send_header(http, "Content-type", &content_type);
            handler.send_header(http, "Content-Length", &size.to_string());
            send_validators(handler, http, &representation, &validators);
            handler.send_header(http, "Accept-Ranges", "bytes");
            handler.end_headers(http)?;
            Ok(Some(Content::whole(representation.file)))
        }
        Selection::Part(range) => {
            handler.send_response(http, 206, None);
            handler.send_header(http, "Content-type", &content_type);
            handler.send_header(http, "Content-Length", &range.length().to_string());
            handler.send_header(http, "Content-Range", &range.content_range(size));
            send_validators(handler, http, &representation, &validators);
            handler.end_headers(http)?;
            Ok(Some(Content::File(representation.file, range)))
        }
        Selection::Parts(ranges) => {
            let parts = Multipart::new(boundary(&validators), &ranges, &content_type, size);
            handler.send_response(http, 206, None);
            handler.send_header(http, "Content-type", &parts.content_type());
            handler.send_header(http, "Content-Length", &parts.length().to_string());
            send_validators(handler, http, &representation, &validators);
            handler.end_headers(http)?;
            Ok(Some(Content::Parts(representation.file, parts)))
        }
        Selection::Unsatisfiable => {
            handler.send_response(http, 416, None);
            handler.send_header(http, "Content-Range", &format!("bytes */{size}"));
            handler.send_header(http, "Content-Length", "0");
            handler.end_headers(http)?;
            Ok(None)
        }
    }
}

/// Sends the head of a response with a file compressed as its content. Nothing is compressed for HEAD,
/// which is therefore not told its length (RFC 9110 9.3.2).
fn send_compressed_head<H>(
    handler: &mut H,
    http: &mut Exchange,
    path: &str,
    content_type: &str,
    representation: &Representation,
    validators: &Validators,
) -> io::Result<Option<Content>>
where
    H: SimpleHttpRequestHandler + ?Sized,
{
    let content = match http.request.command() {
        "HEAD" => None,
        _ => Some(compress::gzip(path, &representation.file, validators)?),
    };
    handler.send_response(http, 200, None);
    handler.send_header(http, "Content-type", content_type);
    if let Some(content) = &content {
        handler.send_header(http, "Content-Length", &content.len().to_string());
    }
    send_validators(handler, http, representation, validators);
    handler.end_headers(http)?;
    Ok(content.map(Content::Compressed))
}

/// What tells this representation from others: the same with 200, 206 and 304.
fn send_validators<H>(
    handler: &mut H,
    http: &mut Exchange,
    representation: &Representation,
    validators: &Validators,
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
    if let Some(coding) = representation.coding {
        handler.send_header(http, "Content-Encoding", coding);
    }
    if representation.varies {
        handler.send_header(http, "Vary", "Accept-Encoding");
    }
}

/// A line that is in no file: none that was written before this nanosecond foresaw it.
fn boundary(validators: &Validators) -> String {
    let now = wasi::clocks::wall_clock::now();
    let tag = validators.etag.as_deref().unwrap_or_default();
    format!(
        "{:x}-{:x}-{}",
        now.seconds,
        now.nanoseconds,
        tag.trim_matches('"')
    )
}

/// Relative links in a directory's page need the slash.
fn redirect_to_directory<H>(handler: &mut H, http: &mut Exchange) -> io::Result<Option<Content>>
where
    H: SimpleHttpRequestHandler + ?Sized,
{
    let location = path::with_trailing_slash(http.request.path());
    handler.send_response(http, 301, None);
    handler.send_header(http, "Location", &location);
    handler.send_header(http, "Content-Length", "0");
    handler.end_headers(http)?;
    Ok(None)
}

/// The index page of the directory `path`, which ends in a slash. It is opened from the root, so that
/// a link may lead anywhere inside it.
fn open_index_page(
    index_pages: &[Cow<str>],
    path: &str,
    open_at: OpenAt,
) -> Result<Option<(String, File)>, Unopened> {
    for name in index_pages {
        let path = format!("{path}{name}");
        match open(&path, open_at) {
            Ok(Opened::File(file)) => return Ok(Some((path, file))),
            Ok(Opened::Directory(_)) | Err(Unopened::NotThere) => {}
            // A page that is there and cannot be read stands for the directory all the same: its names are not
            // told.
            Err(unopened) => return Err(unopened),
        }
    }
    Ok(None)
}

/// See [`SimpleHttpRequestHandler::list_directory`].
pub fn list_directory<H>(
    handler: &mut H,
    http: &mut Exchange,
    directory: Option<&Descriptor>,
) -> io::Result<Option<Content>>
where
    H: SimpleHttpRequestHandler + ?Sized,
{
    let path = handler.translate_path(http.request.path());
    let mut entries = match directory.map(|directory| Entries::read(directory, &path)) {
        Some(Ok(entries)) => entries,
        failed => {
            let (code, message) = match failed {
                Some(Err(ErrorCode::InsufficientMemory)) => (500, "Too many entries to list"),
                _ => (404, "No permission to list directory"),
            };
            handler.send_error(http, code, Some(message), None)?;
            return Ok(None);
        }
    };
    let upload_form = handler.files().upload_form;
    if let Some(directory) = directory.filter(|_| upload_form) {
        upload::sweep(directory, &entries);
    }
    entries.retain(|name| !dotfiles::hides(handler.files(), name));
    let listing = Listing::new(&http.request, entries, upload_form);
    handler.send_response(http, 200, None);
    handler.send_header(http, "Content-type", listing.content_type());
    handler.send_header(http, "Content-Length", &listing.size().to_string());
    handler.send_header(http, "Vary", "Accept");
    let policy = listing.content_security_policy();
    handler.send_header(http, "Content-Security-Policy", policy);
    handler.end_headers(http)?;
    Ok(Some(Content::Listing(listing)))
}

/// See [`SimpleHttpRequestHandler::translate_path`].
pub fn translate_path<H>(handler: &H, path: &str) -> String
where
    H: SimpleHttpRequestHandler + ?Sized,
{
    path::translate_path(&handler.files().directory, path)
}

/// See [`SimpleHttpRequestHandler::guess_type`].
pub fn guess_type<'h, H>(handler: &'h H, path: &str) -> Cow<'h, str>
where
    H: SimpleHttpRequestHandler + ?Sized,
{
    Cow::Borrowed(content_type::guess_type(
        path,
        &handler.files().extensions_map,
    ))
}

/// See [`SimpleHttpRequestHandler::copyfile`].
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
            http.wfile.splice(&stream, length)
        }
    }
}

fn unreadable(error: ErrorCode) -> io::Error {
    io::Error::other(error.message())
}
