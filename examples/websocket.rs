//! Echoes WebSocket messages (RFC 6455): after `send_response` with 101, `rfile` and `wfile` are the connection itself.
//! Any other request gets a page that opens one.
//!
//! SHA-1 and Base64 are written out, so that this file is a whole `src/lib.rs` for `sandserve new`; SHA-1 protects
//! nothing here.

use std::io::{self, Read, Write};
use std::mem;

use sandserve::{BaseHttpRequestHandler, Exchange};

/// The longest message, in bytes. A fragmented one is in memory twice while it grows.
const MAX_MESSAGE: usize = 8 * 1024 * 1024;
/// The longest payload of a control frame (RFC 6455 5.5).
const MAX_CONTROL: usize = 125;
/// The text behind the client's key (RFC 6455 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const PAGE: &str = "<!doctype html>
<title>Echo</title>
<form><input name=text aria-label=Message> <button>Send</button></form>
<pre></pre>
<script>
  const socket = new WebSocket(location.href.replace(/^http/, 'ws'));
  const shown = document.querySelector('pre');
  socket.onmessage = ({ data }) => shown.append(data, '\\n');
  document.forms[0].onsubmit = (event) => {
    event.preventDefault();
    socket.send(event.target.text.value);
  };
</script>
";

// Opcodes (RFC 6455 5.2).
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

// Status codes (RFC 6455 7.4.1).
const GOING_AWAY: u16 = 1001;
const PROTOCOL_ERROR: u16 = 1002;
const NOT_TEXT: u16 = 1007;
const TOO_BIG: u16 = 1009;

#[derive(Default)]
struct WebSocket;

impl BaseHttpRequestHandler for WebSocket {
    fn do_get(&mut self, http: &mut Exchange) -> io::Result<()> {
        let headers = http.request.headers();
        let asks = headers.has_token("Connection", "upgrade");
        if !(asks && headers.has_token("Upgrade", "websocket")) {
            return self.send_page(http);
        }
        let is_known = headers.get("Sec-WebSocket-Version").as_deref() == Some("13");
        let key = headers.get("Sec-WebSocket-Key").filter(|_| is_known);
        let Some(accept) = key.map(|key| accept(&key)) else {
            return self.refuse(http);
        };
        self.send_response(http, 101, None);
        self.send_header(http, "Upgrade", "websocket");
        self.send_header(http, "Connection", "Upgrade");
        self.send_header(http, "Sec-WebSocket-Accept", &accept);
        self.end_headers(http)?;
        let code = echo(http)?;
        let code = code.map(u16::to_be_bytes);
        send(http, CLOSE, code.as_ref().map_or(&[], |code| code))
    }
}

impl WebSocket {
    fn send_page(&mut self, http: &mut Exchange) -> io::Result<()> {
        self.send_response(http, 200, None);
        self.send_header(http, "Content-Type", "text/html; charset=utf-8");
        self.send_header(http, "Content-Length", &PAGE.len().to_string());
        self.end_headers(http)?;
        http.wfile.write_all(PAGE.as_bytes())
    }

    fn refuse(&mut self, http: &mut Exchange) -> io::Result<()> {
        self.send_response(http, 426, None);
        self.send_header(http, "Upgrade", "websocket");
        self.send_header(http, "Sec-WebSocket-Version", "13");
        self.send_header(http, "Content-Length", "0");
        self.end_headers(http)
    }
}

/// Sends every message back. Returns the status code to close with, once there is a reason to; `None` where the client
/// has closed without one.
fn echo(http: &mut Exchange) -> io::Result<Option<u16>> {
    let (mut kind, mut message) = (None, Vec::new());
    loop {
        let frame = match Frame::read(&mut http.rfile, MAX_MESSAGE - message.len())? {
            Ok(frame) => frame,
            Err(code) => return Ok(Some(code)),
        };
        match (frame.opcode, kind) {
            (CLOSE, _) => return Ok(frame.code()),
            (PING, _) => send(http, PONG, &frame.payload)?,
            (PONG, _) => {}
            (TEXT | BINARY, None) => (kind, message) = (Some(frame.opcode), frame.payload),
            (CONTINUATION, Some(_)) => message.extend_from_slice(&frame.payload),
            _ => return Ok(Some(PROTOCOL_ERROR)),
        }
        if frame.opcode < CLOSE
            && frame.is_last
            && let Some(opcode) = kind.take()
        {
            let message = mem::take(&mut message);
            if opcode == TEXT && str::from_utf8(&message).is_err() {
                return Ok(Some(NOT_TEXT));
            }
            send(http, opcode, &message)?;
        }
    }
}

/// A frame of a client (RFC 6455 5.2), its mask taken off.
struct Frame {
    is_last: bool,
    opcode: u8,
    payload: Vec<u8>,
}

impl Frame {
    /// Reads a frame whose payload is at most `room` bytes, or the status code to close with instead.
    fn read(rfile: &mut impl Read, room: usize) -> io::Result<Result<Frame, u16>> {
        let mut head = [0; 2];
        match rfile.read_exact(&mut head) {
            // The client has gone, or the server stops.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(Err(GOING_AWAY));
            }
            read => read?,
        }
        let [first, second] = head;
        let (opcode, is_last) = (first & 0xf, first & 0x80 != 0);
        let is_control = opcode >= CLOSE;
        let size = match second & 0x7f {
            126 => u64::from(u16::from_be_bytes(read_array(rfile)?)),
            127 => u64::from_be_bytes(read_array(rfile)?),
            size => u64::from(size),
        };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        // No extension has a use for the reserved bits, and clients mask what they send.
        let is_plain = first & 0x70 == 0 && second & 0x80 != 0;
        if !is_plain || is_control && (!is_last || size > MAX_CONTROL) {
            return Ok(Err(PROTOCOL_ERROR));
        }
        if !is_control && size > room {
            return Ok(Err(TOO_BIG));
        }
        let mask: [u8; 4] = read_array(rfile)?;
        let mut payload = vec![0; size];
        rfile.read_exact(&mut payload)?;
        for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        Ok(Ok(Frame {
            is_last,
            opcode,
            payload,
        }))
    }

    /// Returns the status code of a Close frame.
    fn code(&self) -> Option<u16> {
        self.payload
            .first_chunk()
            .map(|&code| u16::from_be_bytes(code))
    }
}

fn read_array<const N: usize>(rfile: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    rfile.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Sends a frame, as the one and last of its message. It leaves at once: after 101, `wfile` keeps nothing back.
fn send(http: &mut Exchange, opcode: u8, payload: &[u8]) -> io::Result<()> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        size @ 0..126 => frame.push(size as u8),
        size @ 126..0x1_0000 => {
            frame.push(126);
            frame.extend((size as u16).to_be_bytes());
        }
        size => {
            frame.push(127);
            frame.extend((size as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    http.wfile.write_all(&frame)
}

/// Returns the value of `Sec-WebSocket-Accept` for the `key` of a client (RFC 6455 4.2.2).
fn accept(key: &str) -> String {
    base64(&sha1(format!("{key}{GUID}").as_bytes()))
}

/// Returns the SHA-1 of `message` (RFC 3174).
fn sha1(message: &[u8]) -> [u8; 20] {
    let mut padded = message.to_vec();
    padded.push(0x80);
    padded.resize((message.len() + 9).next_multiple_of(64) - 8, 0);
    padded.extend((8 * message.len() as u64).to_be_bytes());
    let mut state: [u32; 5] = [
        0x6745_2301,
        0xefcd_ab89,
        0x98ba_dcfe,
        0x1032_5476,
        0xc3d2_e1f0,
    ];
    for block in padded.as_chunks::<64>().0 {
        let mut words = [0; 80];
        for (word, bytes) in words.iter_mut().zip(block.as_chunks().0) {
            *word = u32::from_be_bytes(*bytes);
        }
        for at in 16..80 {
            let mixed = words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16];
            words[at] = mixed.rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (at, word) in words.into_iter().enumerate() {
            let (mixed, constant) = match at {
                0..20 => (b & c | !b & d, 0x5a82_7999),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => (b & c | b & d | c & d, 0x8f1b_bcdc_u32),
                _ => (b ^ c ^ d, 0xca62_c1d6),
            };
            let sum = [mixed, e, word, constant]
                .into_iter()
                .fold(a.rotate_left(5), u32::wrapping_add);
            (a, b, c, d, e) = (sum, a, b.rotate_left(30), c, d);
        }
        for (word, more) in state.iter_mut().zip([a, b, c, d, e]) {
            *word = word.wrapping_add(more);
        }
    }
    let mut digest = [0; 20];
    for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    digest
}

/// Returns `bytes` in Base64 (RFC 4648 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for piece in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, at| {
            bits << 8 | usize::from(*piece.get(at).unwrap_or(&0))
        });
        for at in 0..4 {
            let is_padding = at > piece.len();
            let index = bits >> (18 - 6 * at) & 63;
            text.push(if is_padding {
                '='
            } else {
                ALPHABET[index].into()
            });
        }
    }
    text
}

sandserve::export!(WebSocket);
