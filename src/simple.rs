//! `SimpleHTTPRequestHandler`: files and directories beneath a root, one step a method.
//!
//! As in [`crate::base`], the functions are what the methods do unless overridden.

use std::borrow::Cow;
use std::io::{self, Write};

use wasi::filesystem::types::{Descriptor, ErrorCode};

use crate::base::BaseHttpRequestHandler;
use crate::conditional::is_not_modified;
use crate::content_type;
use crate::exchange::Exchange;
use crate::listing;
use crate::open::{File, OpenAt, Opened, open};
use crate::path;

/// A file up to this size, in bytes, goes with the head, in one write. Beyond, the host can do better
/// with a stream.
const SMALL_FILE: u64 = 4096;

/// What a file server is told: where the files are and how they are named.
#[derive(Clone, Debug)]
pub struct Files {
    /// The directory served, relative to the root that the host has granted.
    pub directory: Cow<'static, str>,
    /// Names that stand for their directory, the first that exists.
    pub index_pages: Vec<Cow<'static, str>>,
    /// Content types by extension (with its dot), looked up before the built-in tables.
    pub extensions_map: Vec<(Cow<'static, str>, Cow<'static, str>)>,
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
        }
    }
}

/// What follows a head, if anything does.
pub enum Content {
    /// The content of a file, from its start.
    File(File),
    /// A page made for this response.
    Page(String),
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

    /// Sends the head of a listing of `directory`, and returns the page. The directory is `None` where
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
    match open(&path, http.open_at) {
        Some(Opened::File(file)) if !path.ends_with('/') => {
            send_file_head(handler, http, &path, file)
        }
        Some(Opened::Directory(directory)) => {
            if !path::split_target(http.request.path()).0.ends_with('/') {
                return redirect_to_directory(handler, http);
            }
            match open_index_page(&handler.files().index_pages, &path, http.open_at) {
                Some((path, file)) => send_file_head(handler, http, &path, file),
                None => handler.list_directory(http, directory.as_ref()),
            }
        }
        _ => {
            handler.send_error(http, 404, Some("File not found"), None)?;
            Ok(None)
        }
    }
}

fn send_file_head<H>(
    handler: &mut H,
    http: &mut Exchange,
    path: &str,
    file: File,
) -> io::Result<Option<Content>>
where
    H: SimpleHttpRequestHandler + ?Sized,
{
    let modified = file.modified.map(|time| time.seconds);
    if is_not_modified(&http.request, modified) {
        handler.send_response(http, 304, None);
        handler.end_headers(http)?;
        return Ok(None);
    }
    let content_type = handler.guess_type(path).into_owned();
    handler.send_response(http, 200, None);
    handler.send_header(http, "Content-type", &content_type);
    handler.send_header(http, "Content-Length", &file.size.to_string());
    if modified.is_some() {
        let date = handler.date_time_string(modified);
        handler.send_header(http, "Last-Modified", &date);
    }
    handler.end_headers(http)?;
    Ok(Some(Content::File(file)))
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
) -> Option<(String, File)> {
    index_pages.iter().find_map(|name| {
        let path = format!("{path}{name}");
        match open(&path, open_at)? {
            Opened::File(file) => Some((path, file)),
            Opened::Directory(_) => None,
        }
    })
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
    let Some(entries) = directory.and_then(|directory| listing::read(directory).ok()) else {
        handler.send_error(http, 404, Some("No permission to list directory"), None)?;
        return Ok(None);
    };
    let page = listing::page(http.request.path(), &entries);
    handler.send_response(http, 200, None);
    handler.send_header(http, "Content-type", "text/html; charset=utf-8");
    handler.send_header(http, "Content-Length", &page.len().to_string());
    handler.end_headers(http)?;
    Ok(Some(Content::Page(page)))
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
        Content::File(file) if file.size == 0 => Ok(()),
        Content::File(file) if file.size <= SMALL_FILE => {
            let read = file.descriptor.read(file.size, 0);
            let (bytes, _) = read.map_err(unreadable)?;
            // One that has become shorter leaves the response short, which then is not reused.
            http.wfile.write_all(&bytes)
        }
        Content::File(file) => {
            let stream = file.descriptor.read_via_stream(0).map_err(unreadable)?;
            http.wfile.splice(&stream, file.size)
        }
    }
}

fn unreadable(error: ErrorCode) -> io::Error {
    io::Error::other(error.message())
}
