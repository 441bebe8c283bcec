//! The fields of every response: those of `--header`, then those of `--cors` and
//! `--cross-origin-isolation` that are not among them. The host sends them with responses of its own.

use crate::syntax;

/// The fields by which scripts of every origin may read a response and what there is to know of its
/// length and its ranges.
const CORS: [(&str, &str); 2] = [
    ("Access-Control-Allow-Origin", "*"),
    (
        "Access-Control-Expose-Headers",
        "Accept-Ranges, Content-Length, Content-Range, ETag",
    ),
];

/// Returns the fields as (name, value): those in `lines`, each `Name: value`, where they make sense, and
/// those of the two switches.
pub fn of_every_response(
    lines: &str,
    cors: bool,
    cross_origin_isolation: bool,
) -> Vec<(String, String)> {
    let lines = lines.lines().filter_map(|line| syntax::header(line).ok());
    let mut fields = lines.map(owned).collect();
    if cors {
        add(&mut fields, &CORS);
    }
    if cross_origin_isolation {
        add(&mut fields, &isolation(cors));
    }
    fields
}

/// Returns the fields that let a page have `SharedArrayBuffer` and precise clocks; `with_cors` other
/// origins may still embed what is served.
fn isolation(with_cors: bool) -> [(&'static str, &'static str); 3] {
    let embedded_by = match with_cors {
        true => "cross-origin",
        false => "same-origin",
    };
    [
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Cross-Origin-Embedder-Policy", "require-corp"),
        ("Cross-Origin-Resource-Policy", embedded_by),
    ]
}

fn add(fields: &mut Vec<(String, String)>, more: &[(&str, &str)]) {
    for &(name, value) in more {
        let mut given = fields.iter();
        if !given.any(|(given, _)| given.eq_ignore_ascii_case(name)) {
            fields.push(owned((name, value)));
        }
    }
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}
