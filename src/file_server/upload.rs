//! Files that clients put into the directory served (`--upload`): one file with PUT, or the files of a form
//! with POST. What is received goes into a file of its own beside its place, and is moved there when it is
//! all there: nobody ever sees half of it.

use std::io::{self, Read};

use agreed::file_names;
use agreed::incomplete::{self, is_incomplete};

use crate::file_server::form_data::{self, FormData, Part};
use crate::files::Files;
use crate::files::conditions::{self, Facts, Validators};
use crate::files::dotfiles;
use crate::files::filesystem::{
    Descriptor, DescriptorFlags, DescriptorType, ErrorCode, OpenFlags, PathFlags,
};
use crate::files::listing::Entries;
use crate::files::open::{OpenAt, changed, granted_in, open_directory, reason, stat};
use crate::files::path::{LocalPath, quote};
use crate::handler::base::BaseHttpRequestHandler;
use crate::handler::exchange::Exchange;
use crate::handler::simple::SimpleHttpRequestHandler;
use crate::http1::date;
use crate::http1::request::{Framing, Request};
use crate::http1::rfile::Rfile;
use crate::http1::weights;
use crate::settings::Settings;

/// The most bytes that are written to a file at once.
const WRITE_SIZE: usize = 64 * 1024;
/// The most files that one form may bring.
const MAX_FILES: usize = 1000;
/// The number of times that a name is tried, for a file to receive into or to move that file to.
const MAX_ATTEMPTS: usize = 16;
/// The age, in seconds, of a file that is still being received but was left by a server that was killed:
/// nothing was added to it for a day.
const ABANDONED: u64 = 24 * 60 * 60;

/// Takes the content of a PUT request as the file that its target names. Answers 201 with `Location`, or
/// 204 if the file has replaced another.
pub(crate) fn do_put<H>(handler: &mut H, http: &mut Exchange, settings: &Settings) -> io::Result<()>
where
    H: SimpleHttpRequestHandler + ?Sized,
{
    match put(handler, http, settings) {
        Ok(replaced) => {
            let location = http.request.target().path_reference().into_owned();
            send_stored(handler, http, replaced, &location)
        }
        Err(failure) => send_failure(handler, http, failure),
    }
}

/// Takes the files of the form in a POST request into the directory that its target names. Answers 201 with
/// `Location`, or 204 if every file has replaced another; a browser that wants a page gets 303 to the
/// listing.
pub(crate) fn do_post<H>(
    handler: &mut H,
    http: &mut Exchange,
    settings: &Settings,
) -> io::Result<()>
where
    H: SimpleHttpRequestHandler + ?Sized,
{
    let (names, replaced) = match post(handler, http, settings) {
        Ok(stored) => stored,
        Err(failure) => return send_failure(handler, http, failure),
    };
    let directory = http.request.target().path_reference();
    let mut location = format!("{}/", directory.trim_end_matches('/'));
    if weights::prefers(http.request.headers(), "text/html", "application/json") {
        handler.send_response(http, 303, None);
        handler.send_header(http, "Location", &location);
        handler.send_header(http, "Content-Length", "0");
        return handler.end_headers(http);
    }
    if let [name] = &names[..] {
        location.extend(quote(name));
    }
    send_stored(handler, http, replaced, &location)
}

/// Refuses a PUT or POST request that waits to be told to go on (`Expect: 100-continue`), if it would
/// be refused after its content too. Returns whether it was refused; if not, nothing was sent.
pub(crate) fn refuse_early<H>(
    handler: &mut H,
    http: &mut Exchange,
    settings: &Settings,
) -> io::Result<bool>
where
    H: SimpleHttpRequestHandler + ?Sized,
{
    let request = &http.request;
    let checked = || {
        check_length(http)?;
        match request.command() {
            "PUT" => check_put(handler, request, settings, http.open_at).map(drop),
            _ => check_post(handler, request, settings, http.open_at).map(drop),
        }
    };
    match checked() {
        Ok(()) => Ok(false),
        Err(refusal) => send_failure(handler, http, refusal.into()).map(|()| true),
    }
}

/// Removes the files that killed servers have left among the `entries` of `directory`: those being received
/// to which nothing was added for a day.
pub(crate) fn sweep(directory: &Descriptor, entries: &Entries) {
    let now = date::now();
    for (name, entry) in entries.iter().filter(|(name, _)| is_incomplete(name)) {
        let abandoned = |modified: u64| modified.saturating_add(ABANDONED) < now;
        if entry.modified.is_some_and(abandoned) {
            // A file that cannot be removed stays hidden.
            let _ = directory.unlink_file_at(name);
        }
    }
}

/// The refusal of an upload: a status, and the message to send with it.
struct Refusal(u16, String);

/// The reason why an upload came to nothing.
enum Failure {
    Refused(Refusal),
    /// The connection has failed: there is nobody left to tell.
    Connection(io::Error),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure::Refused(refusal)
    }
}

impl From<io::Error> for Failure {
    /// Converts an error in reading the content.
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::InvalidData => {
                refusal(400, format!("Malformed content: {error}")).into()
            }
            io::ErrorKind::FileTooLarge => too_large().into(),
            _ => Failure::Connection(error),
        }
    }
}

fn refusal(code: u16, message: impl Into<String>) -> Refusal {
    Refusal(code, message.into())
}

fn too_large() -> Refusal {
    refusal(413, "More than may be uploaded")
}

/// Returns the refusal for an error of the host, which cannot write.
fn cannot_write(error: ErrorCode) -> Refusal {
    use ErrorCode::{
        Access, FileTooLarge, IllegalByteSequence, InsufficientMemory, InsufficientSpace, Invalid,
        NameTooLong, NoEntry, NotDirectory, NotPermitted, Quota, ReadOnly,
    };
    match error {
        Access | NotPermitted | ReadOnly => refusal(403, "No permission to write there"),
        IllegalByteSequence | Invalid | NameTooLong => refusal(400, "Not a possible file name"),
        // Larger than the file system, or the limits of the server's process, allow (EFBIG).
        FileTooLarge => refusal(507, "No room for a file of that size"),
        InsufficientSpace | Quota => refusal(507, "No space left"),
        NoEntry | NotDirectory => refusal(409, "The directory or the file was removed meanwhile"),
        InsufficientMemory => refusal(503, "No descriptors or no memory left"),
        error => refusal(500, format!("Cannot write: {}", reason(error))),
    }
}

fn send_failure<H>(handler: &mut H, http: &mut Exchange, failure: Failure) -> io::Result<()>
where
    H: BaseHttpRequestHandler + ?Sized,
{
    match failure {
        Failure::Refused(Refusal(code, message)) => {
            handler.send_error(http, code, Some(&message), None)
        }
        Failure::Connection(error) => Err(error),
    }
}

fn send_stored<H>(
    handler: &mut H,
    http: &mut Exchange,
    replaced: bool,
    location: &str,
) -> io::Result<()>
where
    H: BaseHttpRequestHandler + ?Sized,
{
    if replaced {
        handler.send_response(http, 204, None);
    } else {
        handler.send_response(http, 201, None);
        handler.send_header(http, "Location", location);
        handler.send_header(http, "Content-Length", "0");
    }
    handler.end_headers(http)
}

/// Receives and stores the content of a PUT request. Returns whether the file has replaced another.
fn put<H>(handler: &H, http: &mut Exchange, settings: &Settings) -> Result<bool, Failure>
where
    H: SimpleHttpRequestHandler + ?Sized,
{
    check_length(http)?;
    let open_at = http.open_at;
    let (directory, name) = check_put(handler, &http.request, settings, open_at)?;
    let mut content = Limited::new(&mut http.rfile, settings);
    let partial = Partial::receive(&directory, &mut content)?;
    Ok(partial.place(&name, &http.request, settings, open_at)?)
}

/// Receives and stores the files of a POST request. Returns their names, and whether each has replaced
/// another.
fn post<H>(
    handler: &H,
    http: &mut Exchange,
    settings: &Settings,
) -> Result<(Vec<String>, bool), Failure>
where
    H: SimpleHttpRequestHandler + ?Sized,
{
    check_length(http)?;
    let open_at = http.open_at;
    let (directory, boundary) = check_post(handler, &http.request, settings, open_at)?;
    let mut form = FormData::new(Limited::new(&mut http.rfile, settings), &boundary);
    let mut received: Vec<(String, Partial)> = Vec::new();
    while let Some(part) = form.next_part()? {
        let Part::File(name) = part else { continue };
        check_name(handler.files(), &name)?;
        may_store(&directory, &name, &http.request, settings, open_at)?;
        if received.iter().any(|(other, _)| *other == name) {
            return Err(refusal(400, "Two files of one name").into());
        }
        if received.len() == MAX_FILES {
            return Err(refusal(413, "More files than may be uploaded at once").into());
        }
        received.push((name, Partial::receive(&directory, &mut form)?));
    }
    if received.is_empty() {
        return Err(refusal(400, "No file in the form").into());
    }
    let mut names = Vec::new();
    let mut replaced = true;
    for (name, partial) in received {
        replaced &= partial.place(&name, &http.request, settings, open_at)?;
        names.push(name);
    }
    Ok((names, replaced))
}

/// Refuses a request that does not say how long its content is, nor sends it in chunks: it may be one that was cut
/// off in its head (RFC 9110 15.5.12). A host that parses requests itself has seen to that.
fn check_length(http: &Exchange) -> Result<(), Refusal> {
    match http.request.framing() {
        Framing::None if !http.wfile.is_framed_by_host() => Err(refusal(411, "Length Required")),
        _ => Ok(()),
    }
}

/// Returns the path that `request` names, unless its head says already that its content will not be taken.
fn check<H>(handler: &H, request: &Request, settings: &Settings) -> Result<LocalPath, Refusal>
where
    H: SimpleHttpRequestHandler + ?Sized,
{
    if !is_same_origin(request) {
        return Err(refusal(403, "Only pages of this server may upload"));
    }
    if matches!(request.framing(), Framing::Length(length) if length > settings.upload_limit()) {
        return Err(too_large());
    }
    let coding = request.headers().get("Content-Encoding");
    if coding.is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")) {
        return Err(refusal(415, "Content must come as it is to be stored"));
    }
    let path = handler.translate_path(request.path());
    if path.is_outside() {
        return Err(refusal(404, "File not found"));
    }
    if dotfiles::hides(handler.files(), path.beneath()) {
        return Err(refusal(403, "No permission to write there"));
    }
    Ok(path)
}

/// Returns the directory and the name that the content of `request` is to get, unless it will not be taken.
fn check_put<H>(
    handler: &H,
    request: &Request,
    settings: &Settings,
    open_at: OpenAt,
) -> Result<(Descriptor, String), Refusal>
where
    H: SimpleHttpRequestHandler + ?Sized,
{
    let path = check(handler, request, settings)?;
    // RFC 9110 14.5: a part of a file must not be taken for the whole.
    if request.headers().get("Content-Range").is_some() {
        return Err(refusal(400, "Files are stored whole, not in parts"));
    }
    let Some((directory, name)) = path.parent() else {
        return Err(is_directory());
    };
    check_name(handler.files(), name)?;
    if granted_in(&directory, open_at)
        .iter()
        .any(|other| other == name)
    {
        return Err(is_directory());
    }
    // RFC 4918 9.7.1 has this status for PUT into a directory that does not exist.
    let missing = || refusal(409, "No such directory");
    let directory = open_directory(&directory, open_at).ok_or_else(missing)?;
    may_store(&directory, name, request, settings, open_at)?;
    Ok((directory, name.into()))
}

/// Returns the directory that the files in `request` go to, and the boundary between them, unless the files
/// will not be taken.
fn check_post<H>(
    handler: &H,
    request: &Request,
    settings: &Settings,
    open_at: OpenAt,
) -> Result<(Descriptor, String), Refusal>
where
    H: SimpleHttpRequestHandler + ?Sized,
{
    let path = check(handler, request, settings)?;
    let Some(directory) = open_directory(&path, open_at) else {
        return Err(match stat(&path, open_at) {
            Some(_) => refusal(405, "Forms are for directories"),
            None => refusal(404, "File not found"),
        });
    };
    let content_type = request.headers().get("Content-Type").unwrap_or_default();
    match form_data::boundary(&content_type) {
        Some(boundary) => Ok((directory, boundary)),
        None => Err(refusal(415, "Expected multipart/form-data")),
    }
}

fn is_directory() -> Refusal {
    refusal(405, "That is a directory")
}

/// Returns whether `request` comes from a page of this server, or from no page at all. Any page may send a
/// form anywhere, and a browser says from where.
fn is_same_origin(request: &Request) -> bool {
    let headers = request.headers();
    if let Some(site) = headers.get("Sec-Fetch-Site") {
        return matches!(&*site, "same-origin" | "none");
    }
    let Some(origin) = headers.get("Origin") else {
        return true;
    };
    // A proxy before us may know which scheme a client has used, but we do not.
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    authority.is_some_and(|authority| {
        headers
            .get("Host")
            .is_some_and(|host| host.eq_ignore_ascii_case(authority))
    })
}

/// Refuses a `name` that cannot be the name of one file, or whose file could not be seen afterwards.
fn check_name(files: &Files, name: &str) -> Result<(), Refusal> {
    let is_possible = !matches!(name, "" | "." | "..") && !name.contains('/');
    // A name that is not UTF-8 can be served, but not every way to it can be had.
    if !is_possible || name.contains(char::is_control) || file_names::is_coded(name) {
        return Err(refusal(400, "Not a possible file name"));
    }
    match dotfiles::hides(files, name) {
        true => Err(refusal(403, "No permission to write there")),
        false => Ok(()),
    }
}

/// Returns whether the file `name` would replace another, if it may be stored at all. A file that exists
/// already is a conflict (409, RFC 9110 15.5.10); with `--overwrite` preconditions decide. Without
/// `--overwrite` they do not count for it, as the answer would be no success anyway (RFC 9110 13.2.1).
fn may_store(
    directory: &Descriptor,
    name: &str,
    request: &Request,
    settings: &Settings,
    open_at: OpenAt,
) -> Result<bool, Refusal> {
    let validators = match directory.stat_at(PathFlags::empty(), name) {
        Err(ErrorCode::NoEntry) => None,
        Err(error) => return Err(cannot_write(error)),
        Ok(stat) => match stat.type_ {
            DescriptorType::Directory => return Err(is_directory()),
            DescriptorType::RegularFile if settings.overwrite => {
                let hash = directory.metadata_hash_at(PathFlags::empty(), name).ok();
                let facts = Facts {
                    size: stat.size,
                    modified: stat.data_modification_timestamp,
                    changed: changed(&stat, open_at),
                    identity: hash.map(|hash| hash.lower),
                    digest: None,
                };
                Some(Validators::new(&facts, settings.entity_tags))
            }
            // A link is not followed: the file that it leads to has a name of its own.
            _ => return Err(exists(name)),
        },
    };
    match conditions::allow_change(request, validators.as_ref()) {
        true => Ok(validators.is_some()),
        false => Err(refusal(412, "Precondition Failed")),
    }
}

fn exists(name: &str) -> Refusal {
    refusal(409, format!("{name} exists already"))
}

/// A file that is being received, in the directory where it belongs. The file is removed unless it has been
/// moved; if this instance fails, our host removes it.
struct Partial<'d> {
    directory: &'d Descriptor,
    name: String,
    is_moved: bool,
}

impl<'d> Partial<'d> {
    /// Creates a partial file with all of `content` in it.
    fn receive(directory: &'d Descriptor, content: &mut impl Read) -> Result<Self, Failure> {
        let (partial, file) = Partial::create(directory).map_err(cannot_write)?;
        let mut buffer = vec![0; WRITE_SIZE];
        let mut size = 0;
        loop {
            let length = content.read(&mut buffer)?;
            if length == 0 {
                return Ok(partial);
            }
            let mut bytes = &buffer[..length];
            while !bytes.is_empty() {
                let written = file.write(bytes, size).map_err(cannot_write)?;
                size += written;
                let written = usize::try_from(written).unwrap_or(usize::MAX);
                bytes = bytes.get(written..).unwrap_or_default();
            }
        }
    }

    /// Creates an empty partial file, by a name that nothing else has, and opens it for writing.
    fn create(directory: &'d Descriptor) -> Result<(Self, Descriptor), ErrorCode> {
        let mut attempts = 0;
        loop {
            let now = date::precise_now();
            let name = format!(
                "{}{:x}-{:x}",
                incomplete::PREFIX,
                now.seconds,
                now.nanoseconds
            );
            attempts += 1;
            match create_new(directory, &name) {
                Err(ErrorCode::Exist) if attempts < MAX_ATTEMPTS => {}
                created => {
                    let file = created?;
                    let partial = Partial {
                        directory,
                        name,
                        is_moved: false,
                    };
                    return Ok((partial, file));
                }
            }
        }
    }

    /// Moves the file to `name`, if `request` still allows that for the file there, or for there being
    /// none. Returns whether there was one.
    fn place(
        mut self,
        name: &str,
        request: &Request,
        settings: &Settings,
        open_at: OpenAt,
    ) -> Result<bool, Refusal> {
        for _ in 0..MAX_ATTEMPTS {
            let replaces = may_store(self.directory, name, request, settings, open_at)?;
            match self.move_to(name, replaces) {
                Ok(()) => return Ok(replaces),
                // Another file has come in between; the name is looked at once more.
                Err(ErrorCode::Exist) => {}
                Err(error) => return Err(cannot_write(error)),
            }
        }
        Err(exists(name))
    }

    /// Moves the file to `name` in one step, which fails with [`ErrorCode::Exist`] if it `replaces` nothing
    /// and there is something.
    fn move_to(&mut self, name: &str, replaces: bool) -> Result<(), ErrorCode> {
        if !replaces {
            let flags = PathFlags::empty();
            match self
                .directory
                .link_at(flags, &self.name, self.directory, name)
            {
                // The first name, which is left, is removed when this value is dropped.
                Ok(()) => return Ok(()),
                // Without the file that was received, or its directory, there is nothing to move.
                Err(error @ (ErrorCode::Exist | ErrorCode::NoEntry)) => return Err(error),
                // A file system without links: the name is taken with an empty file.
                Err(_) => create_new(self.directory, name).map(drop)?,
            }
        }
        let moved = self.directory.rename_at(&self.name, self.directory, name);
        if moved.is_err() && !replaces {
            let _ = self.directory.unlink_file_at(name);
        }
        moved?;
        self.is_moved = true;
        Ok(())
    }
}

impl Drop for Partial<'_> {
    fn drop(&mut self) {
        if !self.is_moved {
            let _ = self.directory.unlink_file_at(&self.name);
        }
    }
}

fn create_new(directory: &Descriptor, name: &str) -> Result<Descriptor, ErrorCode> {
    let new = OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
    directory.open_at(PathFlags::empty(), name, new, DescriptorFlags::WRITE)
}

/// The content of a request, which fails with [`io::ErrorKind::FileTooLarge`] when it is more than may
/// be uploaded.
struct Limited<'h, 'a> {
    rfile: &'h mut Rfile<'a>,
    left: u64,
}

impl<'h, 'a> Limited<'h, 'a> {
    fn new(rfile: &'h mut Rfile<'a>, settings: &Settings) -> Self {
        let left = settings.upload_limit();
        Limited { rfile, left }
    }
}

impl Read for Limited<'_, '_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = self.rfile.read(out)?;
        match self.left.checked_sub(length as u64) {
            Some(left) => self.left = left,
            None => return Err(io::ErrorKind::FileTooLarge.into()),
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::parse::{Parsed, parse};

    #[test]
    fn only_pages_of_this_server_may_upload() {
        for (fields, expected) in [
            ("", true),
            ("Origin: http://h:80\r\n", true),
            ("Origin: https://H:80\r\n", true),
            ("Origin: http://h\r\n", false),
            ("Origin: http://evil.example\r\n", false),
            ("Origin: null\r\n", false),
            ("Sec-Fetch-Site: same-origin\r\n", true),
            ("Sec-Fetch-Site: none\r\n", true),
            ("Sec-Fetch-Site: same-site\r\n", false),
            (
                "Sec-Fetch-Site: cross-site\r\nOrigin: http://h:80\r\n",
                false,
            ),
        ] {
            let head = format!("PUT / HTTP/1.1\r\nHost: h:80\r\n{fields}\r\n");
            let Parsed::Complete(request, _) = parse(head.as_bytes()) else {
                panic!("{head}");
            };
            assert_eq!(is_same_origin(&request), expected, "{fields}");
        }
    }
}
