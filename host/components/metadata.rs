//! Metadata of a component: custom sections with the names and the form that wasm-metadata gives them, which
//! `wasm-tools metadata show` and registries read.

use std::borrow::Cow;

use wasm_encoder::{ComponentNameSection, ComponentSection, CustomSection};

/// The fields of a component's metadata. The name has a section of its own form, the others are text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metadata<'a> {
    pub(crate) name: &'a str,
    pub(crate) description: &'a str,
    pub(crate) version: &'a str,
    /// An SPDX expression.
    pub(crate) licenses: &'a str,
    /// The address of the source.
    pub(crate) source: &'a str,
}

impl Metadata<'_> {
    /// Appends the sections to `component`, which has none of them yet.
    pub(crate) fn append_to(&self, component: &mut Vec<u8>) {
        let mut name = ComponentNameSection::new();
        name.component(self.name);
        name.append_to_component(component);
        for (name, text) in [
            ("description", self.description),
            ("version", self.version),
            ("licenses", self.licenses),
            ("source", self.source),
        ] {
            CustomSection {
                name: Cow::Borrowed(name),
                data: Cow::Borrowed(text.as_bytes()),
            }
            .append_to_component(component);
        }
    }
}
