//! HTTPS: certificates and keys as files or made for the run, what is agreed on, and what becomes of
//! clients that do not keep to it. The client verifies every certificate.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use harness::{
    CROWD, Server, Site, connect, example, exchange, expect_crowd, read_head, read_response,
    request, responses,
};
use pem::Pem;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, ProtocolVersion,
    RootCertStore, SignatureScheme, StreamOwned, SupportedProtocolVersion,
};

use sandserve_host::{Grant, HttpServer, TlsConfig, listen};

const SANDSERVE: &str = env!("CARGO_BIN_EXE_sandserve");
/// The password of the encrypted keys in `tests/tls`.
const PASSWORD: &str = "correct horse";
/// More than the buffers of both ends of a connection take.
const LARGE: u64 = 64 * 1024 * 1024;

type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// A certification authority, and a directory for what it issues.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    files: tempfile::TempDir,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate").into();
        Authority {
            issuer: Issuer::new(params, key),
            certificate,
            files: tempfile::tempdir().expect("a directory"),
        }
    }

    /// Writes a file of PEM sections.
    fn write(&self, name: &str, sections: &[Pem]) -> PathBuf {
        let path = self.files.path().join(name);
        fs::write(&path, pem::encode_many(sections)).expect("a file");
        path
    }

    /// Returns a certificate for `key`, valid for localhost and 127.0.0.1.
    fn issue(&self, key: &KeyPair) -> Pem {
        self.issue_for(key, &["localhost", "127.0.0.1"])
    }

    /// Returns a certificate for `key` and `names`.
    fn issue_for(&self, key: &KeyPair, names: &[&str]) -> Pem {
        let names: Vec<_> = names.iter().map(|name| String::from(*name)).collect();
        let params = CertificateParams::new(names).expect("names");
        let certificate = params.signed_by(key, &self.issuer).expect("a certificate");
        Pem::new("CERTIFICATE", certificate.der().to_vec())
    }

    /// Returns the files of a certificate and its key.
    fn pair(&self) -> [String; 2] {
        let key = KeyPair::generate().expect("a key");
        let section = Pem::new("PRIVATE KEY", key.serialize_der());
        [
            self.write("cert.pem", &[self.issue(&key)]),
            self.write("key.pem", &[section]),
        ]
        .map(|path| path.to_str().expect("UTF-8").to_owned())
    }

    /// Returns a file with a certificate for `name`, and its key.
    fn file_for(&self, name: &str) -> String {
        let key = KeyPair::generate().expect("a key");
        let section = Pem::new("PRIVATE KEY", key.serialize_der());
        let sections = [self.issue_for(&key, &[name]), section];
        let path = self.write(&format!("{name}.pem"), &sections);
        path.to_str().expect("UTF-8").to_owned()
    }

    /// Returns a file with the certificate of the authority itself.
    fn own_file(&self) -> String {
        let section = Pem::new("CERTIFICATE", self.certificate.to_vec());
        let path = self.write("authority.pem", &[section]);
        path.to_str().expect("UTF-8").to_owned()
    }

    /// Returns a client that trusts this authority only.
    fn client(&self) -> Client {
        Client::trusting(self.certificate.clone())
    }
}

/// The way a client connects.
struct Client {
    roots: RootCertStore,
    versions: Vec<&'static SupportedProtocolVersion>,
    alpn: Vec<&'static str>,
}

impl Client {
    fn trusting(certificate: CertificateDer<'static>) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(certificate).expect("a certificate");
        Client {
            roots,
            versions: vec![&TLS13, &TLS12],
            alpn: vec!["h2", "http/1.1"],
        }
    }

    fn connect(&self, port: u16) -> TlsStream {
        self.connect_as(port, "localhost").expect("a handshake")
    }

    /// Connects to a server that shows a certificate for `name`.
    fn connect_as(&self, port: u16, name: &str) -> io::Result<TlsStream> {
        self.agree(connect(port), name)
    }

    /// Goes through the handshake on `stream` with a server that shows a certificate for `name`.
    fn agree(&self, stream: TcpStream, name: &str) -> io::Result<TlsStream> {
        agree(self.config(), stream, name)
    }

    /// Returns the configuration of a client that has not been at the server before.
    fn config(&self) -> Arc<ClientConfig> {
        let provider = Arc::new(default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions)
            .expect("versions")
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = self
            .alpn
            .iter()
            .map(|name| name.as_bytes().into())
            .collect();
        Arc::new(config)
    }
}

/// Goes through the handshake on `stream` with a server that shows a certificate for `name`, by `config`.
fn agree(config: Arc<ClientConfig>, stream: TcpStream, name: &str) -> io::Result<TlsStream> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let tls = ClientConnection::new(config, name).expect("a client");
    let mut stream = StreamOwned::new(tls, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// Returns the certificate that a server shows, whatever it says.
pub(super) fn shown_certificate(port: u16) -> CertificateDer<'static> {
    let provider = Arc::new(default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let mut tls = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut socket = connect(port);
    while tls.is_handshaking() {
        tls.complete_io(&mut socket).expect("a handshake");
    }
    let certificates = tls.peer_certificates().expect("certificates");
    certificates[0].clone().into_owned()
}

/// Asks of a certificate only that the server has its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer,
        _: &[CertificateDer],
        _: &ServerName,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn start(site: &Site, pair: &[String; 2]) -> Server {
    start_with(site, pair, &[])
}

/// Starts a server with the certificate and key of `pair`, and with `more` arguments.
fn start_with(site: &Site, [certificate, key]: &[String; 2], more: &[&str]) -> Server {
    let arguments = [
        "-p",
        "HTTP/1.1",
        "--tls-cert",
        certificate,
        "--tls-key",
        key,
    ];
    Server::start(SANDSERVE, &site.root(), &[&arguments[..], more].concat())
}

fn send(stream: &mut impl Write, bytes: &[u8]) {
    stream.write_all(bytes).expect("the connection is open");
}

fn assert_serves(client: &Client, port: u16) {
    let mut stream = client.connect(port);
    send(&mut stream, &request("GET", "/hello.txt", &[]));
    let response = read_response(&mut stream, "GET");
    assert_eq!(response.text(), "hello\n", "{response:?}");
}

/// Returns the path of a key in `tests/tls`.
fn key_file(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tls");
    root.join(format!("{name}.pem"))
        .to_str()
        .expect("UTF-8")
        .to_owned()
}

/// Returns the key in the file `name` of `tests/tls`, which is PKCS#8.
fn key_pair(name: &str) -> KeyPair {
    let pem = fs::read(key_file(name)).expect("a key");
    let der = PrivatePkcs8KeyDer::from(pem::parse(pem).expect("PEM").into_contents());
    KeyPair::try_from(&PrivateKeyDer::Pkcs8(der)).expect("a key")
}

#[test]
fn https_serves_what_http_serves() {
    let (site, authority) = (Site::new(), Authority::new());
    let server = start(&site, &authority.pair());
    let port = server.port;
    let banner = format!("Serving HTTPS on 127.0.0.1 port {port} (https://127.0.0.1:{port}/) ...");
    assert_eq!(server.stdout(), banner + "\n");
    let mut stream = authority.client().connect(port);
    for round in 0..5 {
        for target in ["/hello.txt", "/middle.bin", "/big.bin", "/empty.txt"] {
            send(&mut stream, &request("GET", target, &[]));
            let response = read_response(&mut stream, "GET");
            let content = fs::read(site.root().join(&target[1..])).expect("a file");
            assert!(response.body == content, "{round}: {target}: {response:?}");
        }
        send(&mut stream, &request("GET", "/listed", &[]));
        let response = read_response(&mut stream, "GET");
        assert_eq!(
            response.header("Location"),
            Some("/listed/"),
            "{response:?}"
        );
    }
    let line = server.wait_for_log("\"GET /middle.bin HTTP/1.1\" 200 -");
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
}

#[test]
fn a_connection_ends_with_a_close_notify() {
    let (site, authority) = (Site::new(), Authority::new());
    let mut server = start(&site, &authority.pair());
    let client = authority.client();
    let pipelined = [
        request("GET", "/big.bin", &[]),
        request("POST", "/hello.txt", &["Connection: close"]),
    ];
    let mut stream = client.connect(server.port);
    send(&mut stream, &pipelined.concat());
    // Without one, this is an error.
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("a close_notify");
    let statuses = responses(&bytes, &["GET", "POST"]);
    let statuses: Vec<_> = statuses.iter().map(|response| response.status).collect();
    assert_eq!(statuses, [200, 501]);
    // One that the client ends, and one that the server ends because it shuts down.
    let (mut ended, mut idle) = (client.connect(server.port), client.connect(server.port));
    ended.conn.send_close_notify();
    assert_eq!(ended.read(&mut [0]).expect("a close_notify"), 0);
    server.signal("TERM");
    assert_eq!(idle.read(&mut [0]).expect("a close_notify"), 0);
    assert!(server.wait().success());
}

#[test]
fn a_client_may_send_a_large_request() {
    let (site, authority) = (Site::new(), Authority::new());
    let server = start(&site, &authority.pair());
    let mut stream = authority.client().connect(server.port);
    let content = vec![b'x'; 100_000];
    let length = format!("Content-Length: {}", content.len());
    send(&mut stream, &request("GET", "/hello.txt", &[&length]));
    send(&mut stream, &content);
    assert_eq!(read_response(&mut stream, "GET").text(), "hello\n");
    send(&mut stream, &request("GET", "/page.html", &[]));
    assert_eq!(read_response(&mut stream, "GET").status, 200);
}

#[test]
fn versions_and_protocols_are_agreed_on() {
    let (site, authority) = (Site::new(), Authority::new());
    let server = start(&site, &authority.pair());
    let mut client = authority.client();
    for (versions, agreed) in [
        (vec![&TLS12], ProtocolVersion::TLSv1_2),
        (vec![&TLS13], ProtocolVersion::TLSv1_3),
        (vec![&TLS12, &TLS13], ProtocolVersion::TLSv1_3),
    ] {
        client.versions = versions;
        let stream = client.connect(server.port);
        assert_eq!(stream.conn.protocol_version(), Some(agreed));
        assert_serves(&client, server.port);
    }
    for (offered, agreed) in [
        (vec!["h2", "http/1.1"], Some("http/1.1")),
        (vec!["http/1.0"], Some("http/1.0")),
        (vec![], None),
    ] {
        client.alpn = offered;
        let stream = client.connect(server.port);
        let found = stream.conn.alpn_protocol().map(String::from_utf8_lossy);
        assert_eq!(found.as_deref(), agreed);
        assert_serves(&client, server.port);
    }
    client.alpn = vec!["h2"];
    let refused = client
        .connect_as(server.port, "localhost")
        .expect_err("no h2");
    assert!(
        refused.to_string().contains("NoApplicationProtocol"),
        "{refused}"
    );
}

#[test]
fn sessions_are_resumed_however_many_clients_there_are() {
    let site = Site::new();
    let authority = Authority::new();
    let server = start(&site, &authority.pair());
    for version in [&TLS12, &TLS13] {
        let mut client = authority.client();
        client.versions = vec![version];
        let config = client.config();
        let come = || {
            let stream = connect(server.port);
            let mut stream = agree(config.clone(), stream, "localhost").expect("a handshake");
            send(&mut stream, &request("GET", "/hello.txt", &[]));
            assert_eq!(read_response(&mut stream, "GET").text(), "hello\n");
            stream.conn.handshake_kind()
        };
        assert_eq!(come(), Some(HandshakeKind::Full), "{version:?}");
        for _ in 0..300 {
            client.connect(server.port);
        }
        assert_eq!(come(), Some(HandshakeKind::Resumed), "{version:?}");
    }
}

#[test]
fn a_client_that_does_not_speak_tls_is_told() {
    let (site, authority) = (Site::new(), Authority::new());
    let server = start(&site, &authority.pair());
    let long = format!("X: {}", "x".repeat(20_000));
    for raw in [
        request("GET", "/hello.txt", &[]),
        request("POST", "/hello.txt", &["Content-Length: 5"]),
        request("GET", "/hello.txt", &[&long]),
    ] {
        let bytes = exchange(server.port, &raw);
        let response = &responses(&bytes, &[])[0];
        assert!(response.head.starts_with("HTTP/1.0 400 "), "{response:?}");
        let text = "Client sent an HTTP request to an HTTPS server.\n";
        assert_eq!(response.text(), text, "{response:?}");
    }
    // TLS, but not as it should be: an alert, or nothing.
    for raw in [
        &b"\x16\x03\x01\x00\x05hello"[..],
        b"\x17\x03\x03\x00\x00",
        b"",
    ] {
        let bytes = exchange(server.port, raw);
        assert!(
            matches!(bytes.first(), None | Some(0x15)),
            "{}",
            bytes.escape_ascii()
        );
    }
    assert_serves(&authority.client(), server.port);
    // Once for each kind, however often.
    server.wait_for_log("TLS handshake failed: the client does not keep to the protocol");
    let log = server.log();
    let spoke = "TLS handshake failed: the client does not speak TLS";
    assert_eq!(log.matches(spoke).count(), 1, "{log}");
}

#[test]
fn a_client_that_does_not_trust_the_server_is_in_the_log() {
    let (site, authority, other) = (Site::new(), Authority::new(), Authority::new());
    let server = start(&site, &authority.pair());
    for _ in 0..3 {
        let connected = other.client().connect_as(server.port, "localhost");
        assert!(connected.is_err());
    }
    let refused = "TLS handshake failed: the client does not accept the server's certificate";
    let line = server.wait_for_log(refused);
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    assert_serves(&authority.client(), server.port);
    let log = server.log();
    assert_eq!(log.matches(refused).count(), 1, "{log}");
}

#[test]
fn a_client_is_shown_the_certificate_of_the_name_it_asks_for() {
    let (site, first, second) = (Site::new(), Authority::new(), Authority::new());
    let (a, b) = (first.file_for("a.test"), second.file_for("b.test"));
    let both = ["--tls-cert", &a, "--tls-cert", &b];
    let server = Server::start(SANDSERVE, &site.root(), &both);
    let shows = |authority: &Authority, name| {
        let connected = authority.client().connect_as(server.port, name);
        connected.is_ok()
    };
    assert!(shows(&first, "a.test") && shows(&second, "b.test"));
    assert!(!shows(&first, "b.test") && !shows(&second, "a.test"));
    // All of them are read anew.
    let third = Authority::new();
    fs::copy(third.file_for("b.test"), &b).expect("copied");
    server.signal("HUP");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !shows(&third, "b.test") {
        assert!(Instant::now() < deadline, "{}", server.log());
    }
    assert!(shows(&first, "a.test"));
    // By the variable, too.
    let mut command = Command::new(SANDSERVE);
    command.args(["-b", "127.0.0.1", "-d"]).arg(site.root());
    command
        .arg("0")
        .env("SANDSERVE_TLS_CERT", format!("{a}\n{b}"));
    let server = Server::spawn_as_is(command);
    for (authority, name) in [(&first, "a.test"), (&third, "b.test")] {
        let connected = authority.client().connect_as(server.port, name);
        connected.expect("a handshake");
    }
}

#[test]
fn keys_that_are_fewer_than_certificates_are_refused() {
    let (site, authority) = (Site::new(), Authority::new());
    let [certificate, key] = &authority.pair();
    let mut command = Command::new(SANDSERVE);
    command
        .args(["-b", "127.0.0.1", "0", "-d"])
        .arg(site.root());
    command.args(["--tls-cert", certificate, "--tls-cert", certificate]);
    let output = command.args(["--tls-key", key]).output().expect("it runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    let reason = "name as many keys (1) as certificates (2), in the same order";
    assert!(stderr.contains(reason), "{stderr}");
    assert_eq!(output.status.code(), Some(1), "{stderr}");
}

/// Asks for a file, showing the certificate and key of `file` if there is one. Returns the response, or why there is none.
fn ask(
    client: &Client,
    port: u16,
    version: &'static SupportedProtocolVersion,
    file: Option<&str>,
) -> io::Result<Vec<u8>> {
    let provider = Arc::new(default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("versions")
        .with_root_certificates(client.roots.clone());
    let config = match file {
        None => config.with_no_client_auth(),
        Some(file) => {
            let sections = pem::parse_many(fs::read(file).expect("a file")).expect("PEM");
            let [certificate, key] = &sections[..] else {
                panic!("{sections:?}");
            };
            let key = PrivatePkcs8KeyDer::from(key.contents().to_vec());
            let chain = vec![CertificateDer::from(certificate.contents().to_vec())];
            config
                .with_client_auth_cert(chain, key.into())
                .expect("a key")
        }
    };
    let mut stream = agree(Arc::new(config), connect(port), "localhost")?;
    stream.write_all(&request("GET", "/hello.txt", &["Connection: close"]))?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[test]
fn clients_have_to_show_a_certificate_of_the_authority_that_is_named() {
    let (site, authority) = (Site::new(), Authority::new());
    let (staff, strangers) = (Authority::new(), Authority::new());
    let [certificate, key] = &authority.pair();
    let named = staff.own_file();
    let arguments = ["--tls-cert", certificate, "--tls-key", key];
    let arguments = [&arguments[..], &["--tls-client-ca", &named]].concat();
    let server = Server::start(SANDSERVE, &site.root(), &arguments);
    let (alice, mallory) = (staff.file_for("alice"), strangers.file_for("mallory"));
    let client = authority.client();
    for version in [&TLS12, &TLS13] {
        let bytes = ask(&client, server.port, version, Some(&alice)).expect("a response");
        assert_eq!(responses(&bytes, &["GET"])[0].text(), "hello\n");
        // The alert arrives, though a request was sent.
        for (file, alert) in [
            (None, "CertificateRequired"),
            (Some(&*mallory), "AlertReceived"),
        ] {
            let error = ask(&client, server.port, version, file).expect_err("refused");
            let reason = format!("{error:?}");
            assert!(reason.contains(alert), "{file:?}: {reason}");
        }
    }
    server.wait_for_log("TLS handshake failed: the client showed no certificate");
    server.wait_for_log("TLS handshake failed: the client's certificate is not accepted");
    // The authorities are read anew.
    fs::copy(strangers.own_file(), &named).expect("copied");
    server.signal("HUP");
    let deadline = Instant::now() + Duration::from_secs(60);
    while ask(&client, server.port, &TLS13, Some(&mallory)).is_err() {
        assert!(Instant::now() < deadline, "{}", server.log());
    }
    assert!(ask(&client, server.port, &TLS13, Some(&alice)).is_err());
    // One that is no good leaves the others in place.
    fs::write(&named, "no PEM").expect("a file");
    server.signal("HUP");
    server.wait_for_log("cannot use client authority `");
    assert!(ask(&client, server.port, &TLS13, None).is_err());
}

#[test]
fn browsers_are_told_to_insist_on_https() {
    let (site, authority) = (Site::new(), Authority::new());
    let more = ["--hsts", "600", "-H", "X-A: b"];
    let server = start_with(&site, &authority.pair(), &more);
    let mut stream = authority.client().connect(server.port);
    for target in ["/hello.txt", "/missing"] {
        send(&mut stream, &request("GET", target, &[]));
        let response = read_response(&mut stream, "GET");
        let insisted = response.header("Strict-Transport-Security");
        assert_eq!(insisted, Some("max-age=600"), "{response:?}");
        assert_eq!(response.header("X-A"), Some("b"), "{response:?}");
    }
}

#[test]
fn keys_of_every_kind_are_read() {
    let (site, authority) = (Site::new(), Authority::new());
    let right = authority.files.path().join("password");
    fs::write(&right, format!(" {PASSWORD}\n")).expect("a file");
    for (key, pkcs8) in [
        ("rsa-pkcs8", "rsa-pkcs8"),
        ("rsa-pkcs1", "rsa-pkcs8"),
        ("rsa-3072", "rsa-3072"),
        ("rsa-pbkdf2", "rsa-pkcs8"),
        ("p256-pkcs8", "p256-pkcs8"),
        ("p256-sec1", "p256-pkcs8"),
        ("p256-scrypt", "p256-pkcs8"),
        ("p256-pbkdf2-sha1", "p256-pkcs8"),
        ("p384-pkcs8", "p384-pkcs8"),
        ("p384-sec1", "p384-pkcs8"),
        ("ed25519-pkcs8", "ed25519-pkcs8"),
    ] {
        let certificate = authority.write(key, &[authority.issue(&key_pair(pkcs8))]);
        let mut command = Command::new(SANDSERVE);
        command.args(["-b", "127.0.0.1", "-d"]).arg(site.root());
        command.arg("--tls-cert").arg(&certificate);
        command.arg("--tls-password-file").arg(&right);
        command.args(["--tls-key", &key_file(key), "0"]);
        assert_serves(&authority.client(), Server::spawn(command).port);
    }
}

/// A certificate is for clients to judge: one of version 1, one with an extension that nobody knows and that is
/// critical, and one with the purposes that OpenSSL trusts it for behind it.
#[test]
fn a_certificate_is_shown_as_it_is() {
    let site = Site::new();
    for name in ["cert-v1", "cert-unknown-extension", "cert-trusted"] {
        let server = start(&site, &[key_file(name), key_file("p256-pkcs8")]);
        let output = Command::new("curl")
            .args([
                "--disable",
                "--noproxy",
                "*",
                "--silent",
                "--show-error",
                "--insecure",
            ])
            .arg(format!("https://127.0.0.1:{}/hello.txt", server.port))
            .output()
            .expect("curl runs");
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "hello\n",
            "{name}: {output:?}"
        );
    }
}

#[test]
fn hup_reads_certificate_and_key_anew() {
    let (site, first, second) = (Site::new(), Authority::new(), Authority::new());
    let files = first.pair();
    let server = start(&site, &files);
    assert_serves(&first.client(), server.port);
    for (from, to) in second.pair().iter().zip(&files) {
        fs::copy(from, to).expect("copied");
    }
    server.signal("HUP");
    let deadline = Instant::now() + Duration::from_secs(60);
    while second
        .client()
        .connect_as(server.port, "localhost")
        .is_err()
    {
        assert!(Instant::now() < deadline, "{}", server.log());
    }
    assert_serves(&second.client(), server.port);
    // One that is no good leaves the other in place.
    fs::write(&files[0], "no PEM").expect("a file");
    server.signal("HUP");
    server.wait_for_log("the server goes on as before");
    assert_serves(&second.client(), server.port);
}

#[test]
fn one_file_may_hold_the_whole_chain_and_the_key() {
    let (site, root) = (Site::new(), Authority::new());
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name = Default::default();
    let key = KeyPair::generate().expect("a key");
    let intermediate = params.signed_by(&key, &root.issuer).expect("a certificate");
    let intermediate = Pem::new("CERTIFICATE", intermediate.der().to_vec());
    let between = Authority {
        issuer: Issuer::new(params, key),
        ..Authority::new()
    };
    let key = KeyPair::generate().expect("a key");
    let leaf = between.issue(&key);
    let key = Pem::new("PRIVATE KEY", key.serialize_der());
    for sections in [
        [leaf.clone(), intermediate.clone(), key.clone()],
        [key, leaf, intermediate],
    ] {
        let file = root.write("all.pem", &sections);
        // Tools write what a certificate says above it.
        let text = fs::read_to_string(&file).expect("a file");
        fs::write(&file, format!("Certificate:\n    Data:\n{text}")).expect("a file");
        let mut command = Command::new(SANDSERVE);
        command.args(["-b", "127.0.0.1", "-d"]).arg(site.root());
        command.arg("0").env("SANDSERVE_TLS_CERT", &file);
        assert_serves(&root.client(), Server::spawn_as_is(command).port);
    }
}

#[test]
fn files_that_cannot_be_used_are_named_with_the_reason() {
    let authority = Authority::new();
    let [certificate, key] = &authority.pair();
    let file = |name: &str, content: &str| {
        let path = authority.files.path().join(name);
        fs::write(&path, content).expect("a file");
        path.to_str().expect("UTF-8").to_owned()
    };
    let (right, wrong) = (&file("right", PASSWORD), &file("wrong", "battery staple"));
    let (empty, text) = (&file("empty", ""), &file("text", "no PEM\n"));
    let broken = &file(
        "broken",
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
    );
    let nothing = &authority.write("nothing", &[Pem::new("CERTIFICATE", b"nothing".to_vec())]);
    let nothing = &nothing.to_str().expect("UTF-8").to_owned();
    let (scrypt, pbkdf2) = (&key_file("p256-scrypt"), &key_file("rsa-pbkdf2"));
    let (des3, traditional) = (&key_file("p256-des3"), &key_file("rsa-traditional"));
    let other = &key_file("p256-pkcs8");
    let (v1, other_kind) = (&key_file("cert-v1"), &key_file("ed25519-pkcs8"));
    let (small, odd, large) = (
        &key_file("rsa-1024"),
        &key_file("rsa-2200"),
        &key_file("rsa-8192"),
    );
    let (exponent, p521) = (&key_file("rsa-exponent-3"), &key_file("p521"));
    let missing = &"/nonexistent.pem".to_owned();
    for (certificate, key, password, named, reason) in [
        (missing, key, None, missing, "No such file"),
        (empty, key, None, empty, "the file has no certificate"),
        (text, key, None, text, "the file has no certificate"),
        (key, key, None, key, "the file has no certificate"),
        (broken, key, None, broken, ""),
        (
            nothing,
            key,
            None,
            nothing,
            "it does not begin with a certificate",
        ),
        (certificate, missing, None, missing, "No such file"),
        (
            certificate,
            empty,
            None,
            empty,
            "the file has no private key",
        ),
        (
            certificate,
            certificate,
            None,
            certificate,
            "the file has no private key",
        ),
        (
            certificate,
            other,
            None,
            other,
            "it is not the key of certificate `",
        ),
        (v1, other_kind, None, other_kind, "it is not the key of"),
        (
            certificate,
            large,
            None,
            large,
            "RSA of 8192 bits is not supported; make one of 2048, 3072 or 4096 bits",
        ),
        (
            certificate,
            small,
            None,
            small,
            "RSA of 1024 bits is not supported",
        ),
        (
            certificate,
            odd,
            None,
            odd,
            "RSA of 2200 bits is not supported",
        ),
        (
            certificate,
            exponent,
            None,
            exponent,
            "RSA with this public exponent is not supported; make a key with 65537",
        ),
        (
            certificate,
            p521,
            None,
            p521,
            "it is neither RSA, ECDSA on P-256 or P-384, nor Ed25519",
        ),
        (
            certificate,
            scrypt,
            None,
            scrypt,
            "the key is encrypted; name a password file",
        ),
        (
            certificate,
            scrypt,
            Some(wrong),
            scrypt,
            "the password is wrong",
        ),
        (
            certificate,
            pbkdf2,
            Some(wrong),
            pbkdf2,
            "the password is wrong",
        ),
        (
            certificate,
            pbkdf2,
            Some(empty),
            pbkdf2,
            "the password is wrong",
        ),
        (certificate, pbkdf2, Some(missing), missing, "No such file"),
        (
            certificate,
            des3,
            Some(right),
            des3,
            "its encryption is not supported",
        ),
        (
            certificate,
            traditional,
            Some(right),
            traditional,
            "its encryption is not supported",
        ),
    ] {
        let mut command = Command::new(SANDSERVE);
        command.args([
            "-b",
            "127.0.0.1",
            "--tls-cert",
            certificate,
            "--tls-key",
            key,
        ]);
        if let Some(password) = password {
            command.args(["--tls-password-file", password]);
        }
        let output = command.arg("0").output().expect("it runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {stderr}");
        let is_named = stderr.contains(&format!("`{named}`: {reason}"));
        assert!(
            stderr.starts_with("sandserve: cannot ") && is_named,
            "{command:?}: {stderr}"
        );
        assert_eq!(stderr.lines().count(), 1, "{command:?}: {stderr}");
        assert_eq!(output.stdout, b"", "{command:?}");
    }
}

#[test]
fn a_self_signed_certificate_is_the_one_whose_fingerprint_is_printed() {
    let site = Site::new();
    let server = Server::start(SANDSERVE, &site.root(), &["--tls-self-signed"]);
    assert_eq!(server.stdout(), server.banner.clone() + "\n");
    assert!(
        server.banner.starts_with("Serving HTTPS on "),
        "{}",
        server.banner
    );
    let line = server.wait_for_log("SHA-256 fingerprint ");
    let printed = line.split("fingerprint ").nth(1).expect("a fingerprint");

    let certificate = shown_certificate(server.port);
    let digest = ring::digest::digest(&ring::digest::SHA256, &certificate);
    let digest: Vec<_> = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    assert_eq!(printed, digest.join(":"));

    let client = Client::trusting(certificate);
    for name in ["localhost", "127.0.0.1", "::1"] {
        let mut stream = client.connect_as(server.port, name).expect(name);
        send(&mut stream, &request("GET", "/hello.txt", &[]));
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("a close_notify");
        assert_eq!(responses(&bytes, &[])[0].text(), "hello\n");
    }
    let refused = client
        .connect_as(server.port, "example.org")
        .expect_err("not its name");
    assert!(
        refused.to_string().contains("not valid for name"),
        "{refused}"
    );
    // Each run makes its own.
    let another = Server::start(SANDSERVE, &site.root(), &["--tls-self-signed"]);
    assert_ne!(another.wait_for_log("SHA-256 fingerprint "), line);
}

#[test]
fn clients_that_never_finish_their_handshake_hold_no_sandbox_and_are_closed() {
    expect_crowd();
    let (site, authority) = (Site::new(), Authority::new());
    let server = start(&site, &authority.pair());
    let client = authority.client();
    let stalled: Vec<_> = (0..CROWD)
        .map(|number| {
            let mut stream = connect(server.port);
            if number % 2 == 0 {
                send(&mut stream, b"\x16\x03\x01\x02\x00\x01");
            }
            stream
        })
        .collect();
    assert_serves(&client, server.port);
    for mut stream in stalled.into_iter().take(2) {
        assert_eq!(stream.read(&mut [0]).expect("closed"), 0);
    }
    assert_serves(&client, server.port);
}

#[test]
fn a_client_that_is_about_to_shake_hands_when_the_server_stops_is_answered() {
    let site = Site::new();
    let authority = Authority::new();
    let [certificate, key] = authority.pair();
    let tls = TlsConfig::load_cert_chain(certificate.as_ref(), Some(key.as_ref()), None);
    let protocol = ("SANDSERVE_PROTOCOL".into(), "HTTP/1.1".into());
    let grant = Grant::new(&site.root(), vec![protocol]).expect("a directory");
    let sandbox = sandserve_host::file_server(grant).expect("a sandbox");
    // One listener: connections are accepted in their order.
    let listeners = listen(Some("127.0.0.1"), 0, 1).expect("a port");
    let server = HttpServer::new(listeners, sandbox).expect("a server");
    let server = Arc::new(server.tls(tls.expect("a pair")));
    let port = server.server_port();
    let serving = {
        let server = server.clone();
        thread::spawn(move || server.serve_forever().is_ok())
    };
    let client = authority.client();
    let (fresh, _silent) = (connect(port), connect(port));
    let raw = request("GET", "/hello.txt", &[]);
    let mut answered = client.connect(port);
    send(&mut answered, &raw);
    assert_eq!(read_response(&mut answered, "GET").text(), "hello\n");
    server.shutdown();
    assert_eq!(answered.read(&mut [0]).expect("a close_notify"), 0);
    let mut fresh = client.agree(fresh, "localhost").expect("a handshake");
    send(&mut fresh, &raw);
    assert_eq!(read_response(&mut fresh, "GET").text(), "hello\n");
    assert!(serving.join().expect("an end"));
}

#[test]
fn clients_that_do_not_read_keep_nobody_waiting() {
    let (site, authority) = (Site::new(), Authority::new());
    let large = File::create(site.root().join("large"));
    large
        .and_then(|file| file.set_len(LARGE))
        .expect("a sparse file");
    let server = start(&site, &authority.pair());
    let client = authority.client();
    let mut stalled: Vec<_> = (0..50)
        .map(|_| {
            let mut stream = client.connect(server.port);
            send(
                &mut stream,
                &request("GET", "/large", &["Connection: close"]),
            );
            stream
        })
        .collect();
    for _ in 0..10 {
        assert_serves(&client, server.port);
    }
    let mut patient = stalled.swap_remove(0);
    let head = read_head(&mut patient);
    assert_eq!(head.status, 200, "{head:?}");
    let size = io::copy(&mut patient, &mut io::sink()).expect("the content");
    assert_eq!(size, LARGE, "{head:?}");
}

#[test]
fn content_that_is_cut_short_ends_without_a_close_notify() {
    let (site, authority) = (Site::empty(), Authority::new());
    let server = start(&site, &authority.pair());
    let path = site.write("file.bin", vec![b'x'; 32 * 1024 * 1024]);
    let mut stream = authority.client().connect(server.port);
    send(
        &mut stream,
        &request("GET", "/file.bin", &["Connection: close"]),
    );
    let head = read_head(&mut stream);
    assert_eq!(head.header("Content-Length"), Some("33554432"), "{head:?}");
    let file = OpenOptions::new().write(true).open(&path).expect("a file");
    file.set_len(0).expect("a file can be cut");
    let mut received = Vec::new();
    let cut = stream.read_to_end(&mut received).expect_err("cut short");
    assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof, "{cut}");
    assert!(received.iter().all(|&byte| byte == b'x'), "{head:?}");
}

#[test]
fn a_handler_knows_whether_it_is_spoken_to_in_tls() {
    let authority = Authority::new();
    let [certificate, key] = &authority.pair();
    let start = |options: &[&str]| {
        let mut command = Command::new(SANDSERVE);
        command.args(["-b", "127.0.0.1", "--handler"]);
        command.arg(example("names")).args(options).arg("0");
        Server::spawn(command)
    };
    let server = start(&["--tls-cert", certificate, "--tls-key", key]);
    let mut stream = authority.client().connect(server.port);
    send(&mut stream, &request("GET", "/is_encrypted", &[]));
    assert_eq!(read_response(&mut stream, "GET").text(), "true");
    let server = start(&[]);
    let bytes = exchange(server.port, &request("GET", "/is_encrypted", &[]));
    assert_eq!(responses(&bytes, &[])[0].text(), "false");
}

#[test]
fn a_handler_that_fails_within_its_answer_ends_in_a_reset_without_a_close_notify() {
    let authority = Authority::new();
    let [certificate, key] = &authority.pair();
    let mut command = Command::new(SANDSERVE);
    command.args(["-b", "127.0.0.1", "-p", "HTTP/1.1", "--handler"]);
    command
        .arg(example("faulty"))
        .args(["--tls-cert", certificate]);
    command.args(["--tls-key", key, "0"]);
    let server = Server::spawn(command);
    let mut bytes = Vec::new();
    let mut stream = authority.client().connect(server.port);
    send(&mut stream, &request("GET", "/panic-late", &[]));
    let cut = stream.read_to_end(&mut bytes).expect_err("cut short");
    assert_eq!(cut.kind(), io::ErrorKind::ConnectionReset, "{cut}");
    assert!(
        bytes.starts_with(b"HTTP/1.1 200 OK\r\n"),
        "{}",
        bytes.escape_ascii()
    );
    // One that fails before is answered for, and that is the whole answer.
    bytes.clear();
    let mut stream = authority.client().connect(server.port);
    send(&mut stream, &request("GET", "/panic", &[]));
    stream.read_to_end(&mut bytes).expect("a close_notify");
    assert_eq!(responses(&bytes, &[])[0].status, 500);
}
