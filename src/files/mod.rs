//! From the name of a file to what of it is sent. Nothing here knows of a connection.
//!
//! 1. `path` maps a request target to a name beneath the directory served, and `dotfiles` says which names
//!    do not exist.
//! 2. `open` opens what has the name, in the `filesystem` of the host or in the one of a bundle.
//! 3. `content_type` gives the type of the file, `coding` and `compress` the coding it is sent in.
//! 4. `outcome` decides what is answered: by `conditions` whether it is sent at all, by `ranges` which parts.
//!    `multipart` puts several together.
//! 5. `listing` stands for a directory without an index page.

pub(crate) mod coding;
pub(crate) mod compress;
pub(crate) mod conditions;
pub(crate) mod content_type;
pub(crate) mod dotfiles;
pub(crate) mod filesystem;
pub(crate) mod listing;
pub(crate) mod multipart;
pub(crate) mod open;
pub(crate) mod outcome;
pub(crate) mod path;
pub(crate) mod ranges;

use std::borrow::Cow;

use crate::files::conditions::EntityTags;

/// The settings of a file server: the place of the files and their names.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Files {
    /// The directory served, relative to the root that the host has granted.
    pub directory: Cow<'static, str>,
    /// The path beneath which clients see the directory, decoded and without a slash at its end, such as `/docs`; empty for
    /// the root.
    pub base: Cow<'static, str>,
    /// Names that stand for their directory, the first that exists.
    pub index_pages: Vec<Cow<'static, str>>,
    /// Content types by extension (with its dot), looked up before the built-in tables.
    pub extensions_map: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    /// True if files and directories with a name that begins with a dot are neither served nor listed.
    pub hide_dotfiles: bool,
    /// The `Cache-Control` of responses that a file answers, or its validators do; none for `None`. A
    /// listing, an error and the output of a script never have it.
    pub cache_control: Option<Cow<'static, str>>,
    /// The facts that entity tags are made of.
    pub entity_tags: EntityTags,
    /// True if what becomes smaller by it, and is not too long, is compressed for clients that take it.
    pub compress: bool,
}

impl Default for Files {
    /// Returns Python's defaults.
    fn default() -> Self {
        let borrowed = |&(extension, content_type): &(_, _)| {
            (Cow::Borrowed(extension), Cow::Borrowed(content_type))
        };
        Files {
            directory: ".".into(),
            base: "".into(),
            index_pages: vec!["index.html".into(), "index.htm".into()],
            extensions_map: content_type::EXTENSIONS_MAP.iter().map(borrowed).collect(),
            hide_dotfiles: false,
            cache_control: None,
            entity_tags: EntityTags::default(),
            compress: false,
        }
    }
}
