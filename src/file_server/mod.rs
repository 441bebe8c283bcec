//! `python -m http.server` and what flags add to it: the handler of the component that is this product.
//!
//! 1. Somebody who may not come in is asked for a password (`settings`, [`FileServer::admit`]).
//! 2. A script runs (`handler::cgi`, with the feature `cgi`), or
//! 3. content is received: `upload`, `form_data`, or
//! 4. a file or a directory is sent (`handler::simple`), and where there is none the page of a 404, or the
//!    application (`fallback`).
//! 5. Pages of other origins are told that they may read the answer (`cross_origin`).

mod cross_origin;
mod fallback;
pub(crate) mod form_data;
mod methods;
mod upload;

use std::borrow::Cow;
use std::io;

use crate::files::Files;
use crate::files::content_type;
use crate::files::dotfiles;
use crate::files::filesystem::Descriptor;
use crate::files::listing::UploadForm;
use crate::files::open::{Unopened, has_directory, open};
use crate::handler::base::{self, BaseHttpRequestHandler};
#[cfg(feature = "cgi")]
use crate::handler::cgi::{self, CgiHttpRequestHandler};
use crate::handler::exchange::Exchange;
use crate::handler::simple::{self, Content, SimpleHttpRequestHandler};
use crate::settings::Settings;
use crate::settings::users::{self, Admission};

/// The handler of the component that this package is: `python -m http.server`, and what flags add to it.
#[derive(Debug)]
pub struct FileServer {
    files: Files,
    settings: &'static Settings,
}

impl Default for FileServer {
    fn default() -> Self {
        let settings = Settings::get();
        let mut files = Files {
            base: Cow::Borrowed(&settings.base),
            hide_dotfiles: settings.hide_dotfiles,
            cache_control: settings.cache_control.as_deref().map(Cow::Borrowed),
            entity_tags: settings.entity_tags,
            compress: settings.compress,
            ..Files::default()
        };
        for (extension, content_type) in &settings.mime_types {
            files
                .extensions_map
                .retain(|(known, _)| !known.eq_ignore_ascii_case(extension));
            files
                .extensions_map
                .push((Cow::Borrowed(extension), Cow::Borrowed(content_type)));
        }
        FileServer { files, settings }
    }
}

impl FileServer {
    /// Admits the request in hand: it needs no password, or has one of a user, who is then noted in it.
    ///
    /// # Errors
    /// The status to answer with otherwise: 401, or 429 for a client that asks too soon.
    fn admit(&self, http: &mut Exchange) -> Result<(), u16> {
        let Some(users) = &self.settings.users else {
            return Ok(());
        };
        // Browsers send preflight requests without credentials (Fetch 4.8), and learn of no file by one.
        if self.settings.cors && cross_origin::is_preflight(&http.request) {
            return Ok(());
        }
        if http.request.user.is_some() {
            return Ok(());
        }
        match users.admit(&http.request, &mut http.guesses) {
            Admission::User(user) => {
                http.request.user = Some(user);
                Ok(())
            }
            Admission::Nobody => Err(401),
            Admission::TooSoon => Err(429),
        }
    }
}

impl BaseHttpRequestHandler for FileServer {
    fn handle_expect_100(&mut self, http: &mut Exchange) -> io::Result<bool> {
        if let Err(code) = self.admit(http) {
            return self.send_error(http, code, None, None).map(|()| false);
        }
        let is_upload = matches!(http.request.command(), "PUT" | "POST") && self.settings.upload;
        if is_upload && upload::refuse_early(self, http, self.settings)? {
            return Ok(false);
        }
        base::handle_expect_100(self, http)
    }

    fn do_command(&mut self, http: &mut Exchange) -> io::Result<()> {
        match self.admit(http) {
            Ok(()) if !has_directory(http.open_at) => simple::send_without_directory(self, http),
            Ok(()) => base::do_command(self, http),
            Err(code) => self.send_error(http, code, None, None),
        }
    }

    fn do_get(&mut self, http: &mut Exchange) -> io::Result<()> {
        simple::do_get(self, http)
    }

    fn do_head(&mut self, http: &mut Exchange) -> io::Result<()> {
        simple::do_head(self, http)
    }

    fn do_put(&mut self, http: &mut Exchange) -> io::Result<()> {
        match self.settings.upload {
            true => upload::do_put(self, http, self.settings),
            false => self.do_other(http),
        }
    }

    fn do_post(&mut self, http: &mut Exchange) -> io::Result<()> {
        match self.settings.upload {
            true => upload::do_post(self, http, self.settings),
            #[cfg(feature = "cgi")]
            false => cgi::do_post(self, http),
            #[cfg(not(feature = "cgi"))]
            false => self.do_other(http),
        }
    }

    fn do_options(&mut self, http: &mut Exchange) -> io::Result<()> {
        match self.settings.cors {
            true => cross_origin::send_options(self, http, methods::allowed(self.settings, None)),
            false => self.do_other(http),
        }
    }

    fn send_error(
        &mut self,
        http: &mut Exchange,
        code: u16,
        message: Option<&str>,
        explain: Option<&str>,
    ) -> io::Result<()> {
        let name = self.settings.not_found.as_ref().filter(|_| code == 404);
        match name.and_then(|name| fallback::open_file(&self.files, name, http.open_at)) {
            Some(page) => fallback::send_not_found(self, http, message, page),
            None => base::send_error(self, http, code, message, explain),
        }
    }

    fn send_response(&mut self, http: &mut Exchange, code: u16, message: Option<&str>) {
        base::send_response(self, http, code, message);
        for (name, value) in &self.settings.fields {
            base::send_header(self, http, name, value);
        }
        if code == 401 {
            self.send_header(http, "WWW-Authenticate", users::CHALLENGE);
        }
        let wait = http.guesses.wait;
        if code == 429 && wait > 0 {
            self.send_header(http, "Retry-After", &wait.to_string());
        }
        if code == 405 {
            // RFC 9110 15.5.6. PUT names a file; POST names a directory.
            let allowed = methods::allowed(self.settings, Some(http.request.command()));
            self.send_header(http, "Allow", &allowed);
        }
    }

    fn send_header(&mut self, http: &mut Exchange, keyword: &str, value: &str) {
        if !self.settings.replaces(keyword) {
            base::send_header(self, http, keyword, value);
        }
    }
}

impl SimpleHttpRequestHandler for FileServer {
    fn files(&self) -> &Files {
        &self.files
    }

    #[cfg(feature = "cgi")]
    fn send_head(&mut self, http: &mut Exchange) -> io::Result<Option<Content>> {
        cgi::send_head(self, http)
    }

    fn send_not_found(&mut self, http: &mut Exchange) -> io::Result<Option<Content>> {
        let path = self.translate_path(http.request.path());
        if self.settings.spa
            && !path.is_outside()
            && !dotfiles::hides(&self.files, path.beneath())
            // A file that is there and cannot be read is no address of the application.
            && matches!(open(&path, http.open_at), Err(Unopened::NotThere))
            && let Some((path, file)) = fallback::application(&self.files, &path, http.open_at)
        {
            return simple::send_file_head(self, http, &path, file);
        }
        simple::send_not_found(self, http)
    }

    fn list_directory(
        &mut self,
        http: &mut Exchange,
        directory: Option<&Descriptor>,
    ) -> io::Result<Option<Content>> {
        let Some(entries) = simple::read_directory(self, http, directory)? else {
            return Ok(None);
        };
        let form = match directory.filter(|_| self.settings.upload) {
            Some(directory) => {
                upload::sweep(directory, &entries);
                UploadForm::Yes
            }
            None => UploadForm::No,
        };
        simple::send_listing(self, http, entries, form).map(Some)
    }

    fn guess_type(&self, path: &str) -> Cow<'_, str> {
        let content_type = simple::guess_type(self, path);
        match &self.settings.charset {
            Some(charset) if content_type::lacks_charset(&content_type) => {
                Cow::Owned(format!("{content_type}; charset={charset}"))
            }
            _ => content_type,
        }
    }
}

#[cfg(feature = "cgi")]
impl CgiHttpRequestHandler for FileServer {
    fn cgi_directories(&self) -> &[Cow<'static, str>] {
        match &*self.settings.cgi_directories {
            [] => &cgi::CGI_DIRECTORIES,
            directories => directories,
        }
    }

    fn run_cgi(&mut self, http: &mut Exchange, directory: &str, rest: &str) -> io::Result<()> {
        cgi::run_cgi(self, http, directory, rest)
    }
}
