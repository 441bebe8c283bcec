//! A handler that goes wrong in every way a handler can, for the tests of what holds it.

use std::io::{self, Write};
use std::time::Duration;

use sandserve::{BaseHttpRequestHandler, Exchange};

#[derive(Default)]
struct Faulty;

impl BaseHttpRequestHandler for Faulty {
    fn do_get(&mut self, http: &mut Exchange) -> io::Result<()> {
        match http.request.path() {
            "/panic" => panic!("asked to"),
            "/loop" => loop {
                std::hint::black_box(());
            },
            "/sleep" => {
                std::thread::sleep(Duration::from_secs(60 * 60));
                Ok(())
            }
            "/allocate" => {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(std::hint::black_box(vec![1_u8; 1024 * 1024]));
                }
            }
            "/recurse" => {
                let depth = recurse(1);
                http.wfile.write_all(&depth.to_le_bytes())
            }
            path => {
                match path {
                    "/flood" => (0..10_000).for_each(|line| eprintln!("{line:0>100}")),
                    "/flood-line" => eprintln!("{}", "{\"time\":".repeat(100_000)),
                    _ => {}
                }
                let panics_late = path == "/panic-late";
                let sleeps_late = path == "/sleep-late";
                self.send_response(http, 200, None);
                self.send_header(http, "Content-Length", "5");
                self.end_headers(http)?;
                if panics_late {
                    http.wfile.flush()?;
                    panic!("asked to, late");
                }
                if sleeps_late {
                    http.wfile.flush()?;
                    std::thread::sleep(Duration::from_secs(60 * 60));
                }
                http.wfile.write_all(b"fine\n")
            }
        }
    }
}

#[allow(unconditional_recursion, reason = "that is the fault")]
fn recurse(depth: u64) -> u64 {
    recurse(std::hint::black_box(depth + 1)) + std::hint::black_box(1)
}

sandserve::export!(Faulty);
