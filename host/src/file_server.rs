//! The options of the file server, which the component decides on: checked here, and handed on as the
//! variables it reads under any host.

#[path = "../../src/flags.rs"]
mod flags;

use std::fs::{self, File};
use std::io;
use std::path::{Component, Path};

use clap::Args;
use clap::builder::FalseyValueParser;

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
    /// The variables of the options that are given. An instance reads every one of them.
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
            (
                "SANDSERVE_CACHE",
                self.cache.map(|seconds| seconds.to_string()),
            ),
            ("SANDSERVE_SPA", switch(self.spa)),
            ("SANDSERVE_NOT_FOUND", self.not_found.clone()),
            ("SANDSERVE_HIDE_DOTFILES", switch(self.hide_dotfiles)),
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

    /// One of the options that are given, as it is written.
    pub(crate) fn first_option(&self) -> Option<String> {
        let (variable, _) = self.environment().into_iter().next()?;
        let name = variable.trim_start_matches("SANDSERVE_");
        Some(format!("--{}", name.to_lowercase().replace('_', "-")))
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
            open_beneath(directory, name).map_err(|error| (name, error))
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

/// Opens a file as the component could: it does not follow links out of the directory.
fn open_beneath(directory: &Path, name: &str) -> io::Result<()> {
    let path = fs::canonicalize(directory.join(name))?;
    if !path.starts_with(fs::canonicalize(directory)?) {
        return Err(io::Error::other("it leads out of the directory"));
    }
    // Opening a FIFO would wait for a writer.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    File::open(path).map(drop)
}
