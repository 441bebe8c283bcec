//! The page that is sent where there is no file: that of an application that shows its own addresses
//! (`--spa`), or a page of the site in place of the error page (`--not-found`).

use std::io;

use crate::files::Files;
use crate::files::content_type::{self, extension};
use crate::files::open::{File, OpenAt, Opened, open};
use crate::files::path::LocalPath;
use crate::handler::exchange::{Exchange, reason_phrase};
use crate::handler::simple::{Content, SimpleHttpRequestHandler};
use crate::http1::status::responses;

/// The name of the page of an application, in the directory served.
const APPLICATION: &str = "index.html";

/// Opens the page of the application, and returns it with its path, if the missing file `path` may be one
/// of the application's addresses: the last name in `path` has no extension.
pub(crate) fn application(
    files: &Files,
    path: &LocalPath,
    open_at: OpenAt,
) -> Option<(LocalPath, File)> {
    match is_address(path.as_str()) {
        true => open_file(files, APPLICATION, open_at),
        false => None,
    }
}

/// Opens the file `name` in the directory served, and returns it with its path; `None` if there is none.
pub(crate) fn open_file(files: &Files, name: &str, open_at: OpenAt) -> Option<(LocalPath, File)> {
    let path = LocalPath::new(&files.directory, name);
    match open(&path, open_at) {
        Ok(Opened::File(file)) => Some((path, file)),
        Ok(Opened::Directory(_)) | Err(_) => None,
    }
}

/// Sends and logs the error 404 as `send_error` does, with the file `path` as its page.
pub(crate) fn send_not_found<H>(
    handler: &mut H,
    http: &mut Exchange,
    message: Option<&str>,
    (path, file): (LocalPath, File),
) -> io::Result<()>
where
    H: SimpleHttpRequestHandler + ?Sized,
{
    let message = &*reason_phrase(message.unwrap_or(responses(404).0));
    handler.log_error(http, &format!("code 404, message {message}"));
    handler.send_response(http, 404, Some(message));
    handler.send_header(http, "Connection", "close");
    let content_type = handler.guess_type(path.as_str()).into_owned();
    handler.send_header(http, "Content-Type", &content_type);
    if let Some(coding) = content_type::coding(path.as_str(), &handler.files().extensions_map) {
        handler.send_header(http, "Content-Encoding", coding);
    }
    handler.send_header(http, "Content-Length", &file.size.to_string());
    handler.end_headers(http)?;
    // The answer to HEAD gets no content, whatever is written.
    handler.copyfile(http, Content::whole(file))
}

fn is_address(path: &str) -> bool {
    extension(path.trim_end_matches('/')).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_an_application_have_no_extension() {
        for (path, expected) in [
            ("./", true),
            ("./users", true),
            ("./users/7/", true),
            ("./v1.2/users", true),
            ("./.well-known", true),
            ("./app.js", false),
            ("./assets/logo.png", false),
            ("./hello.txt/", false),
            ("./dot.", false),
        ] {
            assert_eq!(is_address(path), expected, "{path}");
        }
    }
}
