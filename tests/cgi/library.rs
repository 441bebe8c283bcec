//! Scripts of a server that is a library: children of its own process.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use harness::Site;
use sandserve_host::{Grant, HttpServer, ScriptLimits, Scripts, cgi_server};

use super::{get, script};

#[test]
fn scripts_run_without_a_supervisor() {
    let site = Site::empty();
    script(
        &site,
        "cgi-bin/tell",
        "printf 'Content-Type: text/plain\\n\\n'; ulimit -t; echo \"$QUERY_STRING\"; cat; exit 3",
    );
    let mut limits = ScriptLimits::default();
    limits.cpu = Some(17);
    let scripts = Scripts::new(&site.root(), Duration::from_secs(60), &[])
        .expect("a directory")
        .max_scripts(2)
        .limits(limits);
    let grant = Grant::new(&site.root(), vec![]).expect("a directory");
    let sandbox = cgi_server(grant, scripts).expect("a sandbox");
    let server = Arc::new(HttpServer::bind("127.0.0.1:0", sandbox).expect("a port"));
    let serving = server.clone();
    let served = thread::spawn(move || serving.serve_forever().is_ok());
    let port = server.server_port();
    thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                let response = get(port, &format!("/cgi-bin/tell?n={number}"));
                assert_eq!(response.text(), format!("17\nn={number}\n"));
            });
        }
    });
    server.shutdown();
    assert!(served.join().expect("no panic"));
}
