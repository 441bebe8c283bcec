//! The place in a component where a bundle is: the last data segment of its module, which is passive.

use std::ops::Range;

use agreed::bundle::Header;
use wasmparser::{DataKind, Parser, Payload};

use crate::reason;

/// The flag of a passive segment (WebAssembly 5.5.14).
const PASSIVE: u8 = 1;

/// The place of a bundle in a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The module.
    module: Range<usize>,
    /// The section of the module that has the segments, without its number and size.
    section: Range<usize>,
    /// The segment.
    segment: Range<usize>,
    /// The bytes of the bundle.
    pub bundle: Range<usize>,
}

impl Place {
    /// Returns the place of the bundle in `component`, if it has one.
    ///
    /// # Errors
    /// In words, why it is no component.
    pub fn find(component: &[u8]) -> Result<Option<Place>, String> {
        let mut module = 0..0;
        for payload in Parser::new(0).parse_all(component) {
            match payload.map_err(reason)? {
                Payload::ModuleSection {
                    unchecked_range, ..
                } => module = unchecked_range,
                Payload::DataSection(reader) => {
                    let section = reader.range();
                    let Some(data) = reader.into_iter().last() else {
                        continue;
                    };
                    let data = data.map_err(reason)?;
                    let is_bundle = matches!(data.kind, DataKind::Passive)
                        && Header::from_bytes(data.data).is_some();
                    if is_bundle {
                        let end = data.range.end;
                        return Ok(Some(Place {
                            module,
                            section,
                            bundle: end - data.data.len()..end,
                            segment: data.range,
                        }));
                    }
                }
                _ => {}
            }
        }
        Ok(None)
    }
}

/// A component without its bundle.
#[derive(Debug)]
pub(crate) struct Frame {
    /// The bytes before the bundle.
    pub(crate) before: Vec<u8>,
    /// The bytes behind it.
    pub(crate) after: Vec<u8>,
}

impl Frame {
    /// Returns the frame of a bundle of `size` bytes in `component`, if that has a place for one.
    pub(crate) fn new(component: &[u8], size: u64) -> Option<Frame> {
        let Place {
            module,
            section,
            segment,
            bundle,
        } = Place::find(component).ok()??;
        let grown =
            |range: &Range<usize>, longer: u64| range.len() as u64 + longer - bundle.len() as u64;
        // Sizes take more bytes where they are larger.
        let segment_size = leb128(size);
        let longer = size + (1 + segment_size.len()) as u64 - (bundle.start - segment.start) as u64;
        let section_size = leb128(grown(&section, longer));
        let (module_end, section_end) = (
            start_of_leb128(component, module.start)?,
            start_of_leb128(component, section.start)?,
        );
        let longer = longer + section_size.len() as u64 - (section.start - section_end) as u64;
        let module_size = leb128(grown(&module, longer));
        let before = [
            component.get(..module_end)?,
            &module_size,
            component.get(module.start..section_end)?,
            &section_size,
            component.get(section.start..segment.start)?,
            &[PASSIVE],
            &segment_size,
        ];
        Some(Frame {
            before: before.concat(),
            after: component.get(bundle.end..)?.to_vec(),
        })
    }
}

/// Returns where the number begins that ends before `end` in `bytes`. What stands before it is the number of a section,
/// which is smaller than any byte of a number but its last.
fn start_of_leb128(bytes: &[u8], end: usize) -> Option<usize> {
    let last = end.checked_sub(1)?;
    let continued = bytes.get(..last)?.iter().rev();
    Some(last - continued.take_while(|&&byte| byte >= 0x80).count())
}

/// Returns `number` in LEB128 (WebAssembly 5.2.2).
fn leb128(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandserve_components::{BUNDLE, FILE_SERVER};

    #[test]
    fn a_bundle_of_any_size_has_a_place() {
        for size in [24, 127, 128, 16_383, 16_384, 3_000_000] {
            let Frame { before, after } = Frame::new(BUNDLE, size).expect("a frame");
            let header = Header {
                contents: (size - Header::SIZE as u64) as u32,
                ..Header::default()
            };
            let mut bundle = header.to_bytes();
            bundle.resize(size as usize, b'x');
            let component = [&before[..], &bundle, &after].concat();
            let place = Place::find(&component).expect("a component");
            let place = place.expect("a bundle");
            assert_eq!(component[place.bundle], bundle, "{size}");
            // A component that has a bundle can be given another.
            let again = Frame::new(&component, Header::SIZE as u64).expect("a frame");
            let empty = Header::default().to_bytes();
            assert_eq!(
                [again.before, empty, again.after].concat(),
                BUNDLE,
                "{size}"
            );
        }
    }

    #[test]
    fn what_has_no_bundle_has_no_place() {
        assert_eq!(Place::find(FILE_SERVER), Ok(None));
        for broken in [&b""[..], b"\0asm", b"<html>", &BUNDLE[..BUNDLE.len() / 2]] {
            assert!(Place::find(broken).is_err(), "{}", broken.len());
            assert!(Frame::new(broken, 24).is_none());
        }
    }

    #[test]
    fn numbers_are_found_from_their_end() {
        for number in [0, 1, 127, 128, 16_384, 1 << 30] {
            let bytes = [&[11][..], &leb128(number)].concat();
            assert_eq!(start_of_leb128(&bytes, bytes.len()), Some(1), "{number}");
        }
    }
}
