//! The names that a handler crate can have.

use sandserve_components::HANDLER_LOCK;

/// Bytes of a name, as the registry of crates has it.
const MAX_NAME: usize = 64;

/// Words that Rust keeps for itself, and crates that come with the compiler.
#[rustfmt::skip]
const TAKEN: &[&str] = &[
    "abstract", "alloc", "as", "async", "await", "become", "box", "break", "const", "continue", "core", "crate", "do",
    "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro",
    "match", "mod", "move", "mut", "override", "priv", "proc_macro", "pub", "ref", "return", "self", "static", "std",
    "struct", "super", "test", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual", "where",
    "while", "yield",
];

/// Checks whether a handler crate can have `name`.
///
/// # Errors
/// The reason why not, in one line.
pub(crate) fn check(name: &str) -> Result<(), String> {
    let is_letter = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_');
    if !name.starts_with(|char: char| char.is_ascii_alphabetic()) || !name.chars().all(is_letter) {
        return Err("a crate has a name of letters, digits, `-` and `_`, a letter first".into());
    }
    if name.len() > MAX_NAME {
        return Err(format!(
            "the name of a crate has at most {MAX_NAME} letters"
        ));
    }
    let name = as_written(name);
    if TAKEN.contains(&&*name) {
        return Err("Rust has that name for itself; choose another".into());
    }
    if dependencies().any(|dependency| as_written(dependency) == name) {
        return Err("the handler needs a crate of that name; choose another".into());
    }
    Ok(())
}

/// Returns a name as code writes it, which is how two names can be one. Some file systems know no case.
fn as_written(name: &str) -> String {
    name.replace('-', "_").to_ascii_lowercase()
}

/// Returns the names of all packages that a handler is built of.
fn dependencies() -> impl Iterator<Item = &'static str> {
    HANDLER_LOCK
        .lines()
        .filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_crates_are_free_or_not() {
        let longest = "x".repeat(MAX_NAME);
        for name in ["a", "hello", "Hello-2_x", "standard", &longest] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        let too_long = "x".repeat(MAX_NAME + 1);
        for (name, reason) in [
            ("", "a crate has a name"),
            ("9", "a crate has a name"),
            ("-a", "a crate has a name"),
            ("a b", "a crate has a name"),
            ("../a", "a crate has a name"),
            ("\u{fc}", "a crate has a name"),
            ("a\n", "a crate has a name"),
            (&too_long, "at most 64"),
            ("fn", "Rust has that name"),
            ("self", "Rust has that name"),
            ("std", "Rust has that name"),
            ("proc-macro", "Rust has that name"),
            ("test", "Rust has that name"),
            ("sandserve", "the handler needs a crate"),
            ("Sandserve", "the handler needs a crate"),
            ("sandserve_agreed", "the handler needs a crate"),
            ("wit_bindgen", "the handler needs a crate"),
        ] {
            let refused = check(name).expect_err(name);
            assert!(refused.contains(reason), "{name}: {refused}");
        }
    }
}
