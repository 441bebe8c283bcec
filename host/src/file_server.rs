//! The options of the file server, which the component decides on: checked here, and handed on as the
//! variables it reads under any host.

#[path = "../../src/credentials.rs"]
mod credentials;
#[path = "../../src/fields.rs"]
mod fields;
#[path = "../../src/flags.rs"]
mod flags;

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use clap::Args;
use clap::builder::FalseyValueParser;
use sandserve_host::check_file;

/// What the file server is told; other handlers have a mind of their own.
#[derive(Debug, Args)]
#[command(next_help_heading = "File server")]
pub(crate) struct FileServer {
    /// Send this header (`Name: value`) with every response; may be repeated
    #[arg(
        short = 'H',
        long,
        env = "SANDSERVE_HEADER",
        value_name = "LINE",
        value_parser = header_lines
    )]
    header: Vec<String>,

    /// Let pages of every origin read, and answer their preflight requests
    #[arg(long, env = "SANDSERVE_CORS", value_parser = FalseyValueParser::new())]
    cors: bool,

    /// Isolate pages from other origins, which gives them SharedArrayBuffer
    #[arg(
        long,
        env = "SANDSERVE_CROSS_ORIGIN_ISOLATION",
        value_parser = FalseyValueParser::new()
    )]
    cross_origin_isolation: bool,

    /// Let in this user only, with this password; the variable is not shown to others, a command line is
    #[arg(
        long,
        env = "SANDSERVE_AUTH",
        value_name = "USER:PASSWORD",
        hide_env_values = true
    )]
    auth: Option<String>,

    /// Let in the users of this file only, a `USER:HASH` on each line, hashed by `openssl passwd -6`
    #[arg(long, env = "SANDSERVE_AUTH_FILE", value_name = "FILE")]
    auth_file: Option<PathBuf>,

    /// Let files be used for so long without asking again; 0 has browsers ask every time
    #[arg(long, env = "SANDSERVE_CACHE", value_name = "SECONDS")]
    cache: Option<u32>,

    /// Answer unknown paths without an extension with /index.html
    #[arg(long, env = "SANDSERVE_SPA", value_parser = FalseyValueParser::new())]
    spa: bool,

    /// Send this file of the directory as the page of every 404
    #[arg(
        long,
        env = "SANDSERVE_NOT_FOUND",
        value_name = "FILE",
        value_parser = name_beneath
    )]
    not_found: Option<String>,

    /// Neither serve nor list what has a name that begins with a dot
    #[arg(long, env = "SANDSERVE_HIDE_DOTFILES", value_parser = FalseyValueParser::new())]
    hide_dotfiles: bool,

    /// Compress text that is not too long (gzip), for clients that take it
    #[arg(long, env = "SANDSERVE_COMPRESS", value_parser = FalseyValueParser::new())]
    compress: bool,

    /// Say that text files are in this encoding
    #[arg(
        long,
        env = "SANDSERVE_CHARSET",
        value_name = "NAME",
        value_parser = charset
    )]
    charset: Option<String>,

    /// Give files with this extension this content type; may be repeated
    #[arg(
        long,
        env = "SANDSERVE_MIME",
        value_name = "EXT=TYPE",
        value_parser = mime_types
    )]
    mime: Vec<String>,

    /// Let clients put files into the directory, with PUT or from a form in its listing
    #[arg(long, env = "SANDSERVE_UPLOAD", value_parser = FalseyValueParser::new())]
    pub(crate) upload: bool,

    /// Let uploads replace files
    #[arg(long, env = "SANDSERVE_OVERWRITE", value_parser = FalseyValueParser::new())]
    overwrite: bool,

    /// Refuse uploads with more content than this [default: 1 GiB]
    #[arg(long, env = "SANDSERVE_UPLOAD_LIMIT", value_name = "BYTES")]
    upload_limit: Option<u64>,
}

impl FileServer {
    /// The variables of the options that are given, but for [`Self::auth_entries`]. An instance reads
    /// every one of them.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let switch = |is_on: bool| is_on.then(|| "1".to_owned());
        let lines = |lines: &[String]| (!lines.is_empty()).then(|| lines.join("\n"));
        [
            ("SANDSERVE_HEADER", lines(&self.header)),
            ("SANDSERVE_CORS", switch(self.cors)),
            (
                "SANDSERVE_CROSS_ORIGIN_ISOLATION",
                switch(self.cross_origin_isolation),
            ),
            ("SANDSERVE_AUTH", self.auth.clone()),
            (
                "SANDSERVE_CACHE",
                self.cache.map(|seconds| seconds.to_string()),
            ),
            ("SANDSERVE_SPA", switch(self.spa)),
            ("SANDSERVE_NOT_FOUND", self.not_found.clone()),
            ("SANDSERVE_HIDE_DOTFILES", switch(self.hide_dotfiles)),
            ("SANDSERVE_COMPRESS", switch(self.compress)),
            ("SANDSERVE_CHARSET", self.charset.clone()),
            ("SANDSERVE_MIME", lines(&self.mime)),
            ("SANDSERVE_UPLOAD", switch(self.upload)),
            ("SANDSERVE_OVERWRITE", switch(self.overwrite)),
            (
                "SANDSERVE_UPLOAD_LIMIT",
                self.upload_limit.map(|bytes| bytes.to_string()),
            ),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .filter(|(_, value)| !value.is_empty())
        .collect()
    }

    /// The fields of every response, as (name, value).
    pub(crate) fn fields(&self) -> Vec<(String, String)> {
        let lines = self.header.join("\n");
        fields::of_every_response(&lines, self.cors, self.cross_origin_isolation)
    }

    /// One of the options that are given, as it is written.
    pub(crate) fn first_option(&self) -> Option<String> {
        if self.auth_file.is_some() {
            return Some("--auth-file".into());
        }
        let (variable, _) = self.environment().into_iter().next()?;
        let name = variable.trim_start_matches("SANDSERVE_");
        Some(format!("--{}", name.to_lowercase().replace('_', "-")))
    }

    /// Checks the password. Errors of `clap` would show it.
    pub(crate) fn check_auth(&self) -> Result<(), &'static str> {
        self.auth.as_deref().map_or(Ok(()), credentials::check)
    }

    /// Whether clients are asked for passwords.
    pub(crate) fn asks_for_passwords(&self) -> bool {
        self.auth.is_some() || self.auth_file.is_some()
    }

    /// The variable with what is in the auth file, if there is one.
    ///
    /// # Errors
    /// In one line, why nobody could come in by it.
    pub(crate) fn auth_entries(&self) -> Result<Option<(String, String)>, String> {
        let Some(path) = &self.auth_file else {
            return Ok(None);
        };
        let name = path.display();
        let entries = fs::read_to_string(path)
            .map_err(|error| format!("cannot read auth file `{name}`: {error}"))?;
        if credentials::entries(&entries).next().is_none() {
            return Err(format!("auth file `{name}` has no user in it"));
        }
        for (line, entry) in credentials::entries(&entries) {
            entry.map_err(|error| format!("auth file `{name}`, line {line}: {error}"))?;
        }
        Ok(Some(("SANDSERVE_AUTH_FILE".into(), entries)))
    }

    /// One of the options that only mean something with `--upload`, if that is not given.
    pub(crate) fn without_upload(&self) -> Option<&'static str> {
        match self {
            FileServer { upload: true, .. } => None,
            FileServer {
                overwrite: true, ..
            } => Some("--overwrite"),
            FileServer { upload_limit, .. } => upload_limit.map(|_| "--upload-limit"),
        }
    }

    /// Looks at the files that the options name in `directory`.
    ///
    /// # Errors
    /// The name of the one that cannot be opened, and why.
    pub(crate) fn check_files(&self, directory: &Path) -> Result<(), (&str, io::Error)> {
        self.not_found.as_deref().map_or(Ok(()), |name| {
            check_file(directory, name).map_err(|error| (name, error))
        })
    }
}

/// One field line; the variable has one on each of its lines.
fn header_lines(value: &str) -> Result<String, String> {
    let is_variable = std::env::var("SANDSERVE_HEADER").is_ok_and(|variable| variable == value);
    let lines: Vec<&str> = match is_variable {
        true => value.lines().filter(|line| !line.is_empty()).collect(),
        false => vec![value],
    };
    for line in &lines {
        flags::header(line)?;
    }
    Ok(lines.join("\n"))
}

fn mime_types(value: &str) -> Result<String, String> {
    for member in flags::mime_types(value) {
        member?;
    }
    Ok(value.into())
}

fn charset(value: &str) -> Result<String, String> {
    match flags::is_charset(value) {
        true => Ok(value.into()),
        false => Err("expected a name like `utf-8`".into()),
    }
}

/// A path in the directory served, whatever that is; a slash at its start is that directory.
fn name_beneath(value: &str) -> Result<String, String> {
    let name = value.trim_start_matches('/');
    let is_beneath = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    match !name.is_empty() && Path::new(name).components().all(is_beneath) {
        true => Ok(name.into()),
        false => Err("expected a file in the directory that is served".into()),
    }
}
