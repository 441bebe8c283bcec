//! The largest head that a request may have: the component refuses a larger one, and the host waits for no
//! more of it.

/// Longest request line or field line in bytes, its line end included (`http.client._MAXLINE`).
pub const MAX_LINE: usize = 65_536;
/// Most field lines a request may have (`http.client._MAXHEADERS`).
pub const MAX_FIELDS: usize = 100;
/// Longest section of field lines in bytes, the empty line behind them included. Python has no such
/// bound; lines of [`MAX_LINE`] are allowed, but not 100.
pub const MAX_HEAD: usize = 4 * MAX_LINE;
/// Most bytes of empty lines before a request (RFC 9112 2.2). Old clients send one such line.
pub const MAX_EMPTY: usize = 1024;

/// Returns whether a request line may hold `byte`, as far as that can be told before its end.
pub fn is_text(byte: u8) -> bool {
    byte == b' ' || byte == b'\t' || byte == b'\r' || byte.is_ascii_graphic() || byte >= 0x80
}
