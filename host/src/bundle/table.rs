//! The part of a bundle before the contents of files: the settings, and an entry for each node of the tree.

use agreed::bundle::{Entry, Header, Kind, settings_to_bytes};

use super::links::{End, walk};
use super::tree::{Found, Tree};

/// The start of a bundle, up to the contents. Digests are set later.
#[derive(Debug)]
pub(crate) struct Table {
    header: Header,
    settings: Vec<u8>,
    /// An entry for each node, in their order.
    entries: Vec<Entry>,
    names: Vec<u8>,
    /// The links, each with the node that it leads to.
    links: Vec<(usize, usize)>,
}

impl Table {
    /// Returns the table of `tree` and `settings`. All times are `modified`, if that is some.
    ///
    /// # Errors
    /// In words, a link that leads out of the tree, or more than a table can tell of.
    pub(crate) fn new(
        tree: &Tree,
        settings: &[(String, String)],
        modified: Option<u64>,
    ) -> Result<Self, String> {
        let too_large = |_| "it is larger than a component can be".to_owned();
        let number = |number: usize| u32::try_from(number).map_err(too_large);
        let (mut names, mut contents, mut links) = (Vec::new(), 0_u64, Vec::new());
        let mut file = |size| {
            let start = u32::try_from(contents).map_err(too_large)?;
            contents += size;
            u32::try_from(size)
                .map_err(too_large)
                .map(|length| (Kind::File, start, length))
        };
        let mut entries = Vec::with_capacity(tree.nodes.len());
        for (index, node) in tree.nodes.iter().enumerate() {
            let name = (number(names.len())?, number(node.name.len())?);
            names.extend_from_slice(node.name.as_bytes());
            let (kind, start, length) = match &node.found {
                Found::File(identity) => file(identity.size)?,
                Found::Coded(content) => file(content.len() as u64)?,
                Found::Directory(range) => {
                    (Kind::Directory, number(range.start)?, number(range.len())?)
                }
                Found::Link(text) => {
                    // A text that is not UTF-8 names nothing in the tree.
                    let text = text.to_str().unwrap_or("\0");
                    match walk(tree, node.parent, text) {
                        End::At(target) => links.push((index, target)),
                        End::Nowhere => {}
                        End::Outside => {
                            let path = tree.path(index);
                            return Err(format!(
                                "`{path}` is a link that leads out of it, to `{}`",
                                text.escape_debug()
                            ));
                        }
                    }
                    (Kind::Nothing, 0, 0)
                }
            };
            entries.push(Entry {
                name,
                kind,
                is_link: matches!(node.found, Found::Link(_)),
                is_hidden: matches!(node.found, Found::Coded(_)),
                start,
                length,
                modified: match modified {
                    Some(seconds) => Some((seconds, 0)),
                    None => node.modified,
                },
                digest: [0; 32],
            });
        }
        let settings = settings_to_bytes(settings);
        let header = Header {
            settings: number(settings.len())?,
            entries: number(entries.len())?,
            names: number(names.len())?,
            contents: u32::try_from(contents).map_err(too_large)?,
        };
        Ok(Table {
            header,
            settings,
            entries,
            names,
            links,
        })
    }

    /// Returns the size of the bundle, with the contents, in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.header.size()
    }

    /// Sets the digest of the file number `index`.
    pub(crate) fn set_digest(&mut self, index: usize, digest: [u8; 32]) {
        self.entries[index].digest = digest;
    }

    /// Returns the table as bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut entries = self.entries.clone();
        for &(link, target) in &self.links {
            entries[link] = Entry {
                name: entries[link].name,
                is_link: true,
                ..entries[target]
            };
        }
        let entries = entries.iter().flat_map(Entry::to_bytes).collect();
        let parts = [self.header.to_bytes(), self.settings.clone(), entries];
        [&parts.concat()[..], &self.names].concat()
    }
}
