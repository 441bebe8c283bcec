//! Ways to reach the server: its addresses for whoever reads the terminal, a QR code for a telephone, a
//! browser that opens by itself. The banner is not from here.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

/// Returns the addresses at which a server on `address` can be reached, from this machine first.
pub(crate) fn addresses(address: SocketAddr) -> Vec<SocketAddr> {
    // Interfaces that cannot be listed are not worth more than a shorter list.
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let interfaces: Vec<_> = interfaces.iter().map(|interface| interface.ip()).collect();
    reachable(address, &interfaces)
}

/// Returns the one of `addresses` that serves another device best, if there is a choice.
pub(crate) fn from_elsewhere(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    let outward = addresses.iter().find(|address| !address.ip().is_loopback());
    outward.or(addresses.first()).copied()
}

/// Returns the URL of what `address` has at `base`, a path without a slash at its end.
pub(crate) fn url(scheme: &str, address: SocketAddr, base: &str) -> String {
    format!("{scheme}://{address}{base}/")
}

/// Returns a QR code of `text`, in lines of half blocks for light text on a dark terminal. `None` if there
/// is too much text.
pub(crate) fn qr_code(text: &str) -> Option<String> {
    let code = QrCode::new(text).ok()?;
    let mut renderer = code.render::<Dense1x2>();
    // What is drawn is light.
    renderer
        .dark_color(Dense1x2::Light)
        .light_color(Dense1x2::Dark);
    Some(renderer.build())
}

/// Opens the default browser by a program, which nobody waits for.
///
/// # Errors
/// Nothing that opens a browser.
pub(crate) fn open_browser(url: &str) -> io::Result<()> {
    let mut failure = None;
    for mut command in open::commands(url) {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // Ctrl-C is meant for the server.
        command.process_group(0);
        match command.spawn() {
            Ok(_) => return Ok(()),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

/// Returns the addresses that reach a server on `address`, on a machine with the addresses `interfaces`.
fn reachable(address: SocketAddr, interfaces: &[IpAddr]) -> Vec<SocketAddr> {
    if !address.ip().is_unspecified() {
        return vec![address];
    }
    let mut ips = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    for &ip in interfaces {
        let is_reachable = match ip {
            IpAddr::V4(_) => true,
            // Those of a link need a zone, for which URLs have no place (RFC 9844).
            IpAddr::V6(ip) => address.is_ipv6() && !ip.is_unicast_link_local(),
        };
        if is_reachable && !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    ips.sort_by_key(|ip| (!ip.is_loopback(), ip.is_ipv6()));
    ips.iter()
        .map(|&ip| SocketAddr::new(ip, address.port()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_all_interfaces_is_reached_on_each() {
        let interfaces = [
            "::1",
            "127.0.0.1",
            "fe80::1",
            "2001:db8::2",
            "192.0.2.7",
            "172.17.0.1",
        ];
        let interfaces = interfaces.map(|ip| ip.parse().expect("an address"));
        let cases: [(&str, &[&str]); 4] = [
            (
                "0.0.0.0:80",
                &["127.0.0.1:80", "192.0.2.7:80", "172.17.0.1:80"],
            ),
            (
                "[::]:80",
                &[
                    "127.0.0.1:80",
                    "[::1]:80",
                    "192.0.2.7:80",
                    "172.17.0.1:80",
                    "[2001:db8::2]:80",
                ],
            ),
            ("192.0.2.7:80", &["192.0.2.7:80"]),
            ("[::1]:80", &["[::1]:80"]),
        ];
        for (address, wanted) in cases {
            let found = reachable(address.parse().expect("an address"), &interfaces);
            let shown: Vec<_> = found.iter().map(SocketAddr::to_string).collect();
            assert_eq!(shown, wanted, "{address}");
            let outward = from_elsewhere(&found).map(|address| address.ip());
            let best = if address == "[::1]:80" {
                "::1"
            } else {
                "192.0.2.7"
            };
            assert_eq!(outward, best.parse().ok(), "{address}");
        }
        let alone = reachable("0.0.0.0:80".parse().expect("an address"), &[]);
        let outward = from_elsewhere(&alone).map(|address| url("http", address, "/docs"));
        assert_eq!(outward.as_deref(), Some("http://127.0.0.1:80/docs/"));
    }
}
