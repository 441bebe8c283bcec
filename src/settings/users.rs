//! The users who may have what is served: Basic authentication (RFC 7617), for `--auth` and `--auth-file`.

use std::cell::RefCell;

use base64ct::{Base64, Encoding};
use sha_crypt::{Sha256Params, Sha512Params, sha256_crypt_b64, sha512_crypt_b64};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use agreed::credentials::{self, Function, Hash};

use crate::http1::request::{Headers, Request};

/// The challenge to a client that has not said who it is (RFC 7617 2, 2.1).
pub(crate) const CHALLENGE: &str = "Basic realm=\"sandserve\", charset=\"UTF-8\"";

/// The longest password that is hashed, in bytes: the time that takes grows with its square.
const MAX_PASSWORD: usize = 256;

/// The passwords of a connection, for its host, which counts those of each client.
#[derive(Debug, Default)]
pub(crate) struct Guesses {
    /// Seconds that the client has to wait until a password is looked at.
    pub(crate) wait: u32,
    /// The verdict on the password that was looked at last.
    pub(crate) last: Option<Verdict>,
}

/// The verdict on a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Right,
    Wrong,
}

/// The way in for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// A user has proved to be one, of this name.
    User(String),
    /// Nobody has, with a password that was wrong or without one (401).
    Nobody,
    /// Whoever it is has to wait (429).
    TooSoon,
}

/// The users that there are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Users {
    /// Entries of users with their hashes, as in an auth file.
    entries: String,
    /// The SHA-256 of each `user:password` that is known to be right. The SHA-256 of an entry
    /// comes when its password has proved to be right, so that its slow hash is computed once in an instance.
    known: RefCell<Vec<[u8; 32]>>,
}

impl Users {
    /// Adds the user of `user_and_password`, unless it makes no sense.
    pub(crate) fn add_password(&mut self, user_and_password: &str) {
        if credentials::check(user_and_password).is_ok() {
            let known = self.known.get_mut();
            known.push(Sha256::digest(user_and_password).into());
        }
    }

    /// Adds the users of the auth file `entries`, those left out that make no sense.
    pub(crate) fn add_entries(&mut self, entries: &str) {
        self.entries.push_str(entries);
    }

    /// Returns whether the user may come in whose name and password came with `request`. How long that takes
    /// tells neither who is a user nor anything of a password; nor does the answer to who has to wait, whatever
    /// the password is.
    pub(crate) fn admit(&self, request: &Request, guesses: &mut Guesses) -> Admission {
        let sent = sent(request.headers());
        let Some((user, password)) = sent.as_deref().and_then(|sent| sent.split_once(':')) else {
            return Admission::Nobody;
        };
        if guesses.wait > 0 {
            return Admission::TooSoon;
        }
        let verdict = self.judge(user, password);
        guesses.last = Some(verdict);
        match verdict {
            Verdict::Right => Admission::User(user.to_owned()),
            Verdict::Wrong => Admission::Nobody,
        }
    }

    fn judge(&self, user: &str, password: &str) -> Verdict {
        let digest = Sha256::new()
            .chain_update(user)
            .chain_update(":")
            .chain_update(password)
            .finalize()
            .into();
        if self.is_known(&digest) {
            return Verdict::Right;
        }
        if !self.is_right(user, password) {
            return Verdict::Wrong;
        }
        self.known.borrow_mut().push(digest);
        Verdict::Right
    }

    fn is_known(&self, digest: &[u8; 32]) -> bool {
        let known = self.known.borrow();
        let found = known.iter().map(|known| known.ct_eq(digest));
        found.fold(Choice::from(0), |any, this| any | this).into()
    }

    /// Returns whether `user` is in an entry, and `password` behind its hash. A hash is computed in any
    /// case.
    fn is_right(&self, user: &str, password: &str) -> bool {
        let entries = credentials::entries(&self.entries);
        let entries: Vec<_> = entries.filter_map(|(_, entry)| entry.ok()).collect();
        let found = entries.iter().find(|entry| entry.user == user);
        let matches = |hash| password.len() <= MAX_PASSWORD && matches(password, hash);
        match (found, entries.first()) {
            (Some(entry), _) => matches(&entry.hash),
            (None, Some(other)) => {
                matches(&other.hash);
                false
            }
            (None, None) => false,
        }
    }
}

/// Returns the `user:password` that came with a request (RFC 7617 2).
fn sent(headers: Headers) -> Option<String> {
    let value = headers.get("Authorization")?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    String::from_utf8(Base64::decode_vec(encoded.trim()).ok()?).ok()
}

fn matches(password: &str, hash: &Hash) -> bool {
    let (password, salt) = (password.as_bytes(), hash.salt.as_bytes());
    let rounds = hash.rounds as usize;
    let result =
        match hash.function {
            Function::Sha256 => Sha256Params::new(rounds)
                .and_then(|params| sha256_crypt_b64(password, salt, &params)),
            Function::Sha512 => Sha512Params::new(rounds)
                .and_then(|params| sha512_crypt_b64(password, salt, &params)),
        };
    result.is_ok_and(|result| result.as_bytes().ct_eq(hash.result.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::parse::{Parsed, parse};

    fn request(field: &str) -> Request {
        let head = format!("GET / HTTP/1.0\r\n{field}\r\n\r\n");
        match parse(head.as_bytes()) {
            Parsed::Complete(request, _) => request,
            other => panic!("{other:?}"),
        }
    }

    /// Returns who is let in by `request` that has not guessed before.
    fn let_in(users: &Users, request: &Request) -> Option<String> {
        match users.admit(request, &mut Guesses::default()) {
            Admission::User(user) => Some(user),
            Admission::Nobody => None,
            Admission::TooSoon => panic!("nobody has to wait"),
        }
    }

    fn basic(user_and_password: &str) -> Request {
        let encoded = Base64::encode_string(user_and_password.as_bytes());
        request(&format!("Authorization: Basic {encoded}"))
    }

    #[test]
    fn hashes_are_those_of_other_programs() {
        let mut users = Users::default();
        users.add_entries(concat!(
            "# openssl passwd -5, openssl passwd -6, mkpasswd -R\n",
            "five:$5$fivesalt$is0.N2mpgggVQ6E2rnwfFJ2oHj3zjJ7YI452UPHQYx3\n",
            "six:$6$sixsalt$t4/AHC4O8Ib.alI2xNENuylilc8eh7AjomQ9GMTfQGUCzP7m6C1e2ehpT85OQfQg",
            "TmRrtxQ6kfzNouh3zjQPZ1\n",
            "rounds:$5$rounds=12345$other$7tNKFgO57l08kIaL0BgfeugMc5x/fbqje38YKi1QPX/\n",
        ));
        // The second time, they are known.
        for _ in 0..2 {
            for (sent, user) in [
                ("five:p\u{e4}ssword", Some("five")),
                ("six:pass:word", Some("six")),
                ("rounds:secret", Some("rounds")),
                ("five:pass:word", None),
                ("six:pass", None),
                ("six:", None),
                ("seven:pass:word", None),
            ] {
                let found = let_in(&users, &basic(sent));
                assert_eq!(found.as_deref(), user, "{sent}");
            }
        }
        let endless = format!("five:{}", "x".repeat(MAX_PASSWORD + 1));
        assert_eq!(let_in(&users, &basic(&endless)), None);
    }

    #[test]
    fn credentials_are_read_as_the_rfc_has_them() {
        let mut users = Users::default();
        users.add_password("a:b:c");
        users.add_password("nobody");
        for (field, expected) in [
            ("Authorization: Basic YTpiOmM=", Some("a")),
            ("authorization: bASIC   YTpiOmM=", Some("a")),
            ("Authorization: Basic YTpiOmM", None),
            ("Authorization: Basic YTpi", None),
            ("Authorization: Basic bm9ib2R5", None),
            ("Authorization: Basic", None),
            ("Authorization: Basic =", None),
            ("Authorization: BasicYTpiOmM=", None),
            ("Authorization: Bearer YTpiOmM=", None),
            ("Authorization: Basic gIA6gA==", None),
            ("X: y", None),
        ] {
            let found = let_in(&users, &request(field));
            assert_eq!(found.as_deref(), expected, "{field}");
        }
    }

    #[test]
    fn without_a_user_nobody_is_let_in() {
        let mut users = Users::default();
        users.add_entries("a:b\n/etc/users\n");
        for sent in ["", ":", "a:b", "a:", "/etc/users:"] {
            assert_eq!(let_in(&users, &basic(sent)), None, "{sent:?}");
        }
    }

    #[test]
    fn whoever_has_to_wait_learns_nothing_of_a_password() {
        let mut users = Users::default();
        users.add_password("a:b");
        let user = || Admission::User("a".into());
        use Admission::{Nobody, TooSoon};
        for (sent, wait, admission, last) in [
            (basic("a:b"), 0, user(), Some(Verdict::Right)),
            (basic("a:c"), 0, Nobody, Some(Verdict::Wrong)),
            (basic("a:b"), 1, TooSoon, None),
            (basic("a:c"), 1, TooSoon, None),
            (basic("a"), 1, Nobody, None),
            (request("X: y"), 1, Nobody, None),
            (request("Authorization: Bearer YTpi"), 0, Nobody, None),
        ] {
            let mut guesses = Guesses { wait, last: None };
            assert_eq!(users.admit(&sent, &mut guesses), admission, "{sent:?}");
            assert_eq!(guesses.last, last, "{sent:?}");
        }
    }
}
