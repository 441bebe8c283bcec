//! Users with their passwords (`--auth`), or with hashes of them (`--auth-file`). The host refuses values
//! by which the component would let nobody in.

/// The most rounds a hash may take: a second or two of computing.
const MAX_ROUNDS: u32 = 1_000_000;

/// A user of an auth file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The name, without a colon.
    pub user: &'a str,
    /// The password, hashed.
    pub hash: Hash<'a>,
}

/// A password as crypt(5) stores it: `$6$SALT$HASH`, or `$6$rounds=N$SALT$HASH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash<'a> {
    /// The function it was hashed with.
    pub function: Function,
    /// The number of times that the function is applied.
    pub rounds: u32,
    /// The salt, 1 to 16 characters.
    pub salt: &'a str,
    /// The hash, in the base 64 of crypt(5).
    pub result: &'a str,
}

/// A hash function of crypt(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// `$5$`.
    Sha256,
    /// `$6$`.
    Sha512,
}

/// Checks a `USER:PASSWORD` (RFC 7617 2).
///
/// # Errors
/// The reason why `user_and_password` cannot be what a client sends; never the text itself.
pub fn check(user_and_password: &str) -> Result<(), &'static str> {
    match user_and_password.split_once(':') {
        None | Some(("", _) | (_, "")) => Err("expected `USER:PASSWORD`"),
        _ if has_controls(user_and_password) => {
            Err("user and password cannot have control characters")
        }
        _ => Ok(()),
    }
}

/// Returns the entries of an auth file, one on a line, each with the number of its line. Empty lines and
/// those that begin with `#` are left out.
pub fn entries(file: &str) -> impl Iterator<Item = (usize, Result<Entry<'_>, String>)> {
    (1..)
        .zip(file.lines().map(str::trim))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| (number, entry(line)))
}

fn entry(line: &str) -> Result<Entry<'_>, String> {
    match line.split_once(':') {
        None | Some(("", _)) => Err("expected `USER:HASH`".into()),
        Some((user, _)) if has_controls(user) => Err("the user has control characters".into()),
        Some((user, hash)) => hash_of(hash).map(|hash| Entry { user, hash }),
    }
}

fn hash_of(text: &str) -> Result<Hash<'_>, String> {
    let unknown =
        "expected a hash as `openssl passwd -6` makes it, `$6$SALT$HASH` or `$5$SALT$HASH`";
    let (function, length, rest) = match (text.strip_prefix("$5$"), text.strip_prefix("$6$")) {
        (Some(rest), _) => (Function::Sha256, 43, rest),
        (_, Some(rest)) => (Function::Sha512, 86, rest),
        _ => return Err(unknown.into()),
    };
    let (rounds, rest) = match rest.strip_prefix("rounds=") {
        None => (5000, rest),
        Some(rest) => {
            let (rounds, rest) = rest.split_once('$').ok_or(unknown)?;
            let rounds = rounds.parse().ok();
            let rounds = rounds.filter(|rounds| (1000..=MAX_ROUNDS).contains(rounds));
            let range = || format!("expected 1000 to {MAX_ROUNDS} rounds");
            (rounds.ok_or_else(range)?, rest)
        }
    };
    let (salt, result) = rest.split_once('$').ok_or(unknown)?;
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"./".contains(&byte);
    let is_salt =
        (1..=16).contains(&salt.len()) && salt.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_salt || result.len() != length || !result.bytes().all(is_base64) {
        return Err(unknown.into());
    }
    Ok(Hash {
        function,
        rounds,
        salt,
        result,
    })
}

fn has_controls(text: &str) -> bool {
    text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_needs_a_user_and_may_have_colons() {
        for (text, expected) in [
            ("a:b", true),
            ("a:b:c", true),
            ("a: ", true),
            ("\u{fc}:\u{20ac}", true),
            ("", false),
            ("a", false),
            (":b", false),
            ("a:", false),
            ("a:b\n", false),
            ("a:\u{85}", false),
        ] {
            assert_eq!(check(text).is_ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn hashes_are_those_of_crypt() {
        let [short, long] = [43, 86].map(|length| "./09AZaz".repeat(11)[..length].to_owned());
        let of = |function, rounds, salt, result| Hash {
            function,
            rounds,
            salt,
            result,
        };
        for (line, user, hash) in [
            (
                format!("a:$6$salt${long}"),
                "a",
                of(Function::Sha512, 5000, "salt", &long),
            ),
            (
                format!("b c:$5$rounds=1000$x${short}"),
                "b c",
                of(Function::Sha256, 1000, "x", &short),
            ),
        ] {
            let expected = Ok(Entry { user, hash });
            assert_eq!(entry(&line), expected, "{line}");
        }
        for line in [
            "a".to_owned(),
            "a:".into(),
            "a:secret".into(),
            format!(":$6$salt${long}"),
            format!("a\t:$6$salt${long}"),
            format!("a:$6$salt${short}"),
            format!("a:$5$salt${long}"),
            format!("a:$5$salt${short}:"),
            format!("a:$5$salt${}-", &short[1..]),
            format!("a:$5$${short}"),
            format!("a:$5$17characters17cha${short}"),
            format!("a:$5$s\u{fc}lt${short}"),
            format!("a:$5$rounds=999$salt${short}"),
            format!("a:$5$rounds=1000001$salt${short}"),
            format!("a:$5$rounds=$salt${short}"),
            format!("a:$5$rounds=1000${short}"),
            format!("a:$1$salt${short}"),
        ] {
            assert!(entry(&line).is_err(), "{line}");
        }
    }

    #[test]
    fn an_auth_file_has_an_entry_a_line() {
        let hash = format!("$5$salt${}", "x".repeat(43));
        let file = format!("# users\r\na:{hash}\r\n\n  b:{hash}  \nc\n");
        let found: Vec<_> = entries(&file)
            .map(|(number, entry)| (number, entry.map(|entry| entry.user).ok()))
            .collect();
        assert_eq!(found, [(2, Some("a")), (4, Some("b")), (5, None)]);
    }
}
