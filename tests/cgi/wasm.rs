//! Scripts that are WebAssembly.

use std::fs;
use std::io::{ErrorKind, Read, Write};

use harness::{Server, Site, connect, example, read_head, request};

use super::streams::read_until;
use super::{ask, get, script, serve, status_line, wait_until};

/// Puts the example `name` among the scripts.
fn install(site: &Site, name: &str) {
    let component = fs::read(example(name)).expect("a component");
    site.write(&format!("cgi-bin/{name}.wasm"), component);
}

/// Puts the core module `text` among the scripts.
fn install_module(site: &Site, name: &str, text: &str) {
    let module = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"));
    site.write(&format!("cgi-bin/{name}"), module);
}

/// Returns a module that prints `output`.
fn printing(output: &str) -> String {
    let escape =
        |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("\\{byte:02x}")).collect() };
    let length = u32::try_from(output.len()).expect("short").to_le_bytes();
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write"
                (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\10\00\00\00{}")
            (data (i32.const 16) "{}")
            (func (export "_start")
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#,
        escape(&length),
        escape(output.as_bytes())
    )
}

#[test]
fn a_component_is_told_what_a_program_is() {
    let site = Site::empty();
    install(&site, "cgi_script");
    install(&site, "cgi_probe");
    let env = "printf 'Content-Type: text/plain\\n\\n'; env -u PWD -u SHLVL -u OLDPWD -u _ -u PATH";
    script(&site, "cgi-bin/env", env);
    let server = serve(&site, &[]);
    let target = "/cgi-bin/cgi_script.wasm/p%61th?two+words";
    let response = ask(server.port, "POST", target, &[], b"body");
    assert_eq!(status_line(&response), "HTTP/1.0 200 Script output follows");
    let expected = "POST /cgi-bin/cgi_script.wasm\npath info: /path\nquery: two+words\n\
        arguments: [\"two\", \"words\"]\ncontent: body\n";
    assert_eq!(response.text(), expected);

    let headers = ["X-A: 1", "Cookie: a=b", "Proxy: x"];
    let sorted = |target: &str, name: &str| {
        let text = ask(server.port, "GET", target, &headers, b"").text();
        let mut lines: Vec<_> = text
            .replace(name, "SCRIPT")
            .lines()
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    };
    let program = sorted("/cgi-bin/env/variables", "/cgi-bin/env");
    assert_eq!(
        sorted(
            "/cgi-bin/cgi_probe.wasm/variables",
            "/cgi-bin/cgi_probe.wasm"
        ),
        program
    );
    assert!(program.len() > 20, "{program:?}");
}

#[test]
fn a_core_module_is_run_too() {
    let site = Site::empty();
    let output = "Status: 201 Made\nContent-Type: a/b\n\nfrom a module";
    install_module(&site, "module", &printing(output));
    let server = serve(&site, &[]);
    let response = get(server.port, "/cgi-bin/module");
    assert_eq!(status_line(&response), "HTTP/1.0 201 Made", "{response:?}");
    assert_eq!(response.text(), "from a module");
}

#[test]
fn the_exit_code_of_a_module_is_logged() {
    let site = Site::empty();
    let text = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (func (export "_start") (call $exit (i32.const 7))))"#;
    install_module(&site, "exit.wasm", text);
    let server = serve(&site, &[]);
    assert_eq!(get(server.port, "/cgi-bin/exit.wasm").status, 502);
    server.wait_for_log("CGI script exit code 7");
}

#[test]
fn what_is_no_program_does_not_start() {
    let site = Site::empty();
    site.write("cgi-bin/broken.wasm", b"\0asm\x01\0\0\0nonsense");
    site.write("cgi-bin/version.wasm", b"\0asm\x63\0\0\0");
    install_module(&site, "library.wasm", "(module (func (export \"f\")))");
    install_module(
        &site,
        "import.wasm",
        "(module (import \"env\" \"f\" (func)) (func (export \"_start\")))",
    );
    // A component, but no command.
    install(&site, "hello");
    let server = serve(&site, &[]);
    for name in ["broken", "version", "library", "import", "hello"] {
        let response = get(server.port, &format!("/cgi-bin/{name}.wasm"));
        let expected = format!("HTTP/1.0 403 CGI script does not start ('/cgi-bin/{name}.wasm')");
        assert_eq!(status_line(&response), expected);
        server.wait_for_log(&format!(
            "CGI script '/cgi-bin/{name}.wasm' does not start: "
        ));
    }
}

#[test]
fn files_and_network_are_out_of_reach_unless_granted() {
    let site = Site::empty();
    install(&site, "cgi_probe");
    let data = site.outside();
    fs::write(data.join("file"), "content").expect("a file");
    let probe = |server: &Server, action: &str, argument: &str| {
        let target = format!("/cgi-bin/cgi_probe.wasm/{action}?{argument}");
        get(server.port, &target).text().trim().to_owned()
    };
    let path = data.display().to_string();
    let server = serve(&site, &[]);
    for file in [
        "/etc/passwd",
        "cgi-bin/cgi_probe.wasm",
        &format!("{path}/file"),
        "/data/file",
    ] {
        assert_eq!(probe(&server, "read", file), "None", "{file}");
        assert_eq!(probe(&server, "write", file), "false", "{file}");
    }
    let port = server.port;
    assert_eq!(
        probe(&server, "connect", &format!("127.0.0.1:{port}")),
        "false"
    );

    let server = serve(&site, &["--cgi-dir-access", &format!("{path}::/data")]);
    assert_eq!(probe(&server, "read", "/data/file"), "Some(\"content\")");
    assert_eq!(probe(&server, "read", "/data/../site/cgi-bin/env"), "None");
    assert_eq!(probe(&server, "write", "/data/file"), "false");
    assert_eq!(
        fs::read_to_string(data.join("file")).expect("a file"),
        "content"
    );

    let server = serve(&site, &["--cgi-dir-access", &format!("{path}::/data::rw")]);
    assert_eq!(probe(&server, "write", "/data/new"), "true");
    assert_eq!(
        fs::read_to_string(data.join("new")).expect("a file"),
        "written"
    );
}

#[test]
fn failures_are_answered_and_logged() {
    let site = Site::empty();
    install(&site, "cgi_probe");
    let server = serve(&site, &["--cgi-timeout", "2"]);
    let ask = |action: &str| get(server.port, &format!("/cgi-bin/cgi_probe.wasm/{action}"));
    let cut_off = |action: &str| {
        let mut stream = connect(server.port);
        let raw = request("GET", &format!("/cgi-bin/cgi_probe.wasm/{action}"), &[]);
        stream.write_all(&raw).expect("sent");
        assert_eq!(read_head(&mut stream).status, 200, "{action}");
        let mut bytes = Vec::new();
        let end = stream.read_to_end(&mut bytes);
        let kind = end.map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::ConnectionReset), "{action}");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let response = ask("panic");
    assert_eq!(response.status, 502, "{response:?}");
    server.wait_for_log("CGI script /cgi-bin/cgi_probe.wasm: asked to");
    server.wait_for_log("CGI script '/cgi-bin/cgi_probe.wasm' failed: wasm trap");

    // A component can only say that it has failed.
    assert_eq!(ask("exit?7").status, 200);
    server.wait_for_log("CGI script exit code 1");
    assert_eq!(ask("stderr?said").status, 200);
    server.wait_for_log("CGI script /cgi-bin/cgi_probe.wasm: said");

    // As much memory as there is, and not more.
    let text = cut_off("allocate");
    assert!(
        text.ends_with("48 MiB\n") || text.ends_with("56 MiB\n"),
        "{text}"
    );

    assert_eq!(ask("silence").status, 504);
    server.wait_for_log("CGI script '/cgi-bin/cgi_probe.wasm' took too long");
    assert_eq!(cut_off("loop"), "");
}

#[test]
fn others_are_served_while_scripts_compute() {
    let site = Site::empty();
    install(&site, "cgi_probe");
    site.write("file", "served");
    let server = serve(&site, &["--cgi-timeout", "1000"]);
    let looping: Vec<_> = (0..8)
        .map(|_| {
            let mut stream = connect(server.port);
            let raw = request("GET", "/cgi-bin/cgi_probe.wasm/loop", &[]);
            stream.write_all(&raw).expect("sent");
            assert_eq!(read_head(&mut stream).status, 200);
            stream
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(get(server.port, "/file").text(), "served");
    }
    drop(looping);
    // They end with their clients: the server computes no more.
    let ticks = || {
        let stat =
            fs::read_to_string(format!("/proc/{}/stat", server.worker())).expect("a process");
        let fields: Vec<_> = stat
            .rsplit(") ")
            .next()
            .expect("fields")
            .split(' ')
            .collect();
        let number = |at: usize| fields[at].parse::<u64>().expect("a number");
        number(11) + number(12)
    };
    wait_until("the server is idle", || {
        let before = ticks();
        std::thread::sleep(std::time::Duration::from_millis(300));
        ticks() - before <= 3
    });
}

#[test]
fn lines_go_through_as_they_come() {
    let site = Site::empty();
    install(&site, "cgi_probe");
    let server = serve(&site, &[]);
    let mut stream = connect(server.port);
    let raw = request(
        "POST",
        "/cgi-bin/cgi_probe.wasm/echo",
        &["Content-Length: 8"],
    );
    stream.write_all(&raw).expect("sent");
    assert_eq!(read_head(&mut stream).status, 200);
    for line in ["one\n", "two\n"] {
        stream.write_all(line.as_bytes()).expect("sent");
        read_until(&mut stream, &format!("got {line}"));
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("an end");
    assert!(rest.is_empty(), "{}", rest.escape_ascii());
}

#[test]
fn a_script_that_is_replaced_is_another() {
    let site = Site::empty();
    let server = serve(&site, &[]);
    for word in ["first", "other", "third", "first"] {
        // The same size, and maybe the same time.
        install_module(&site, "script.wasm", &printing(&format!("\n{word}")));
        assert_eq!(get(server.port, "/cgi-bin/script.wasm").text(), word);
    }
}

#[test]
fn many_at_once_are_answered_right() {
    let site = Site::empty();
    install(&site, "cgi_script");
    let server = serve(&site, &[]);
    // It is compiled for the first, longer than any of a crowd would wait for a slot on a slow machine.
    assert_eq!(get(server.port, "/cgi-bin/cgi_script.wasm").status, 200);
    let mut streams: Vec<_> = (0..100)
        .map(|number| {
            let mut stream = connect(server.port);
            let target = format!("/cgi-bin/cgi_script.wasm?n={number}");
            stream
                .write_all(&request("GET", &target, &[]))
                .expect("sent");
            stream
        })
        .collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        assert_eq!(read_head(stream).status, 200);
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        assert!(text.contains(&format!("query: n={number}\n")), "{text}");
    }
}
