//! A handler that shows every name of `BaseHTTPRequestHandler`, for the tests: the first part of the
//! path says which.

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use sandserve::{BaseHttpRequestHandler, Exchange, Version, base, responses};

/// Set to override `protocol_version`, from the request on that asks for it.
static IS_HTTP_1_1: AtomicBool = AtomicBool::new(false);

#[derive(Default)]
struct Names {
    /// The steps that this handler has been taken through.
    steps: Vec<&'static str>,
}

/// A handler that overrides nothing: it shows what the methods do by default.
struct Plain;

impl BaseHttpRequestHandler for Plain {}

impl BaseHttpRequestHandler for Names {
    fn server_version(&self) -> Cow<'_, str> {
        "names/1.5".into()
    }

    fn sys_version(&self) -> Cow<'_, str> {
        "tests/2.5".into()
    }

    fn protocol_version(&self) -> Version {
        match IS_HTTP_1_1.load(Ordering::Relaxed) {
            true => Version::Http11,
            false => Plain.protocol_version(),
        }
    }

    fn handle(&mut self, http: &mut Exchange) -> io::Result<()> {
        self.steps.push("handle");
        base::handle(self, http)
    }

    fn handle_one_request(&mut self, http: &mut Exchange) -> io::Result<()> {
        self.steps.push("handle_one_request");
        base::handle_one_request(self, http)
    }

    fn handle_expect_100(&mut self, http: &mut Exchange) -> io::Result<bool> {
        match http.request.path() {
            "/handle_expect_100/send_error" => self.send_error(http, 417, None, None)?,
            "/handle_expect_100/send_response" => {
                self.send_response(http, 417, None);
                self.end_headers(http)?;
                http.wfile.write_all(b"not here")?;
            }
            _ => return base::handle_expect_100(self, http),
        }
        Ok(false)
    }

    fn do_command(&mut self, http: &mut Exchange) -> io::Result<()> {
        self.steps.push("do_command");
        base::do_command(self, http)
    }

    fn do_get(&mut self, http: &mut Exchange) -> io::Result<()> {
        self.show("do_get", http)
    }

    fn do_head(&mut self, http: &mut Exchange) -> io::Result<()> {
        self.show("do_head", http)
    }

    fn do_post(&mut self, http: &mut Exchange) -> io::Result<()> {
        self.show("do_post", http)
    }

    fn do_put(&mut self, http: &mut Exchange) -> io::Result<()> {
        self.show("do_put", http)
    }

    fn do_patch(&mut self, http: &mut Exchange) -> io::Result<()> {
        self.show("do_patch", http)
    }

    fn do_delete(&mut self, http: &mut Exchange) -> io::Result<()> {
        self.show("do_delete", http)
    }

    fn do_options(&mut self, http: &mut Exchange) -> io::Result<()> {
        self.show("do_options", http)
    }

    fn do_other(&mut self, http: &mut Exchange) -> io::Result<()> {
        self.show("do_other", http)
    }
}

impl Names {
    fn show(&mut self, step: &'static str, http: &mut Exchange) -> io::Result<()> {
        self.steps.push(step);
        let path = http.request.path().to_owned();
        let target = path[1..].split('?').next().unwrap_or_default();
        let (name, rest) = target.split_once('/').unwrap_or((target, ""));
        match name {
            "steps" => self.send_content(http, self.steps.join(" ").as_bytes()),
            "client_address" => {
                let text = format!(
                    "{} {}",
                    http.client_address.address, http.client_address.port
                );
                self.send_content(http, text.as_bytes())
            }
            "server" => {
                let text = format!("{} {}", http.server.address, http.server.port);
                self.send_content(http, text.as_bytes())
            }
            "is_encrypted" => {
                let text = http.is_encrypted.to_string();
                self.send_content(http, text.as_bytes())
            }
            "close_connection" => {
                http.close_connection = rest == "true";
                self.send_content(http, b"decided")
            }
            "request" => {
                let request = &http.request;
                let text = format!(
                    "{}\n{}\n{}\n{}\n{:?}",
                    request.requestline(),
                    request.command(),
                    request.path(),
                    request.request_version().as_str(),
                    request.target()
                );
                self.send_content(http, text.as_bytes())
            }
            "headers" => self.show_headers(http),
            "rfile" => self.show_rfile(http, rest),
            "wfile" => self.show_wfile(http, rest),
            "protocol_version" => {
                IS_HTTP_1_1.store(true, Ordering::Relaxed);
                self.send_content(http, b"from now on")
            }
            "responses" => {
                let (short, long) = responses(rest.parse().unwrap_or(0));
                self.send_content(http, format!("{short}\n{long}").as_bytes())
            }
            "strings" => {
                let strings = [
                    self.version_string(),
                    self.date_time_string(Some(784_111_777)),
                    self.date_time_string(None),
                    self.log_date_time_string(),
                    self.address_string(http).to_owned(),
                ];
                self.send_content(http, strings.join("\n").as_bytes())
            }
            "log" => {
                self.log_request(http, 299, Some(1234));
                self.log_error(http, "an error of ours");
                self.log_message(http, "\x1b[31m \\ \u{85}\u{fc}\r\nforged");
                self.send_content(http, b"logged")
            }
            "send_error" => {
                let mut parts = rest.split('/');
                let code = parts.next().and_then(|code| code.parse().ok());
                self.send_error(http, code.unwrap_or(500), parts.next(), parts.next())
            }
            "send_response" => {
                self.send_response(http, rest.parse().unwrap_or(500), None);
                self.end_headers(http)?;
                http.wfile.write_all(b"content")
            }
            "send_response_only" => {
                self.send_response_only(http, 103, None);
                self.send_header(http, "Link", "</style.css>");
                self.end_headers(http)?;
                self.send_response_only(http, 299, Some("Our Own"));
                self.send_header(http, "Content-Length", "0");
                self.end_headers(http)
            }
            "send_header" => {
                self.send_response(http, 200, None);
                for (name, value) in [
                    ("X-Twice", "1"),
                    ("X-Twice", "2"),
                    ("X-Latin", "gr\u{fc}n"),
                    ("X-Beyond", "\u{65e5}"),
                    ("X-Split", "a\r\nX-Injected: b"),
                    ("Content-Length", "0"),
                ] {
                    self.send_header(http, name, value);
                }
                self.end_headers(http)
            }
            "flush_headers" => {
                self.send_response_only(http, 200, None);
                self.send_header(http, "X-Early", "1");
                match rest {
                    "never" => http.wfile.flush()?,
                    _ => {
                        self.flush_headers(http)?;
                        http.wfile.flush()?;
                    }
                }
                // The rest of the head waits for the content of the request.
                http.rfile.read_exact(&mut [0])?;
                assert_ne!(rest, "never", "asked to");
                self.send_header(http, "Content-Length", "4");
                self.end_headers(http)?;
                http.wfile.write_all(b"late")
            }
            // Neither is a response.
            "no_response" => Ok(()),
            "no_end_headers" => {
                self.send_response(http, 200, None);
                Ok(())
            }
            _ => self.send_error(http, 404, None, None),
        }
    }

    fn show_headers(&mut self, http: &mut Exchange) -> io::Result<()> {
        let headers = http.request.headers();
        let mut text = String::new();
        for (name, value) in headers.iter() {
            text += &format!("{name}={value}\n");
        }
        let all: Vec<_> = headers.get_all("x-many").collect();
        let echo = headers.get("X-LATIN").unwrap_or_default().into_owned();
        text += &format!("get: {:?}\n", headers.get("X-MANY"));
        text += &format!("get_all: {all:?}\n");
        text += &format!("missing: {:?}\n", headers.get("X-Missing"));
        self.send_response(http, 200, None);
        self.send_header(http, "X-Latin", &echo);
        self.send_header(http, "Content-Length", &text.len().to_string());
        self.end_headers(http)?;
        http.wfile.write_all(text.as_bytes())
    }

    fn show_rfile(&mut self, http: &mut Exchange, how: &str) -> io::Result<()> {
        let mut content = Vec::new();
        match how {
            "" => {
                http.rfile.read_to_end(&mut content)?;
                assert_eq!(http.rfile.read(&mut [0])?, 0, "the end stays the end");
            }
            "partly" => {
                content.resize(5, 0);
                http.rfile.read_exact(&mut content)?;
            }
            _ => {}
        }
        self.send_content(http, &content)
    }

    fn show_wfile(&mut self, http: &mut Exchange, how: &str) -> io::Result<()> {
        self.send_response(http, 200, None);
        if let Some(length) = how.strip_prefix("length/") {
            self.send_header(http, "Content-Length", length);
        }
        self.end_headers(http)?;
        match how {
            "in_turn" => {
                http.wfile.flush()?;
                let mut byte = [0];
                while http.rfile.read(&mut byte)? > 0 {
                    http.wfile.write_all(&byte)?;
                    http.wfile.flush()?;
                }
            }
            "large" => {
                for line in 0..400_000 {
                    writeln!(http.wfile, "{line:09}")?;
                }
            }
            // What is written here counts for more than what is promised above.
            "length/5" => {
                http.wfile.write_all(b"fine\n")?;
                if let Err(error) = http.wfile.write_all(b"HTTP/1.1 200 OK\r\n\r\n") {
                    self.log_error(http, &format!("wfile: {error}"));
                }
            }
            "length/6" => {
                http.wfile.write_all(b"fine\n")?;
                self.send_error(http, 500, None, None)?;
            }
            _ => {
                for piece in ["one ", "", "two ", "three"] {
                    http.wfile.write_all(piece.as_bytes())?;
                }
            }
        }
        Ok(())
    }

    fn send_content(&mut self, http: &mut Exchange, content: &[u8]) -> io::Result<()> {
        self.send_response(http, 200, None);
        self.send_header(http, "Content-Type", "text/plain; charset=utf-8");
        self.send_header(http, "Content-Length", &content.len().to_string());
        self.end_headers(http)?;
        http.wfile.write_all(content)
    }
}

sandserve::export!(Names);
