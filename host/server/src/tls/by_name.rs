//! The certificate that a client is shown, of several: by the name that it asks for (RFC 6066 3), and by what it can verify.

use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Certificates with their keys, the one for all other names first.
#[derive(Debug)]
pub(super) struct ByName(pub(super) Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello) -> Option<Arc<CertifiedKey>> {
        let shown = match &*self.0 {
            [only] => Some(only),
            several => {
                let schemes = hello.signature_schemes();
                let can_verify = |shown: &CertifiedKey| shown.key.choose_scheme(schemes).is_some();
                choose(several, hello.server_name(), can_verify)
            }
        };
        shown.cloned()
    }
}

/// Returns the first of `several` that is for `name` and that the client can verify. Without one, the first that it can
/// verify is no worse than another.
fn choose<'s>(
    several: &'s [Arc<CertifiedKey>],
    name: Option<&str>,
    can_verify: impl Fn(&CertifiedKey) -> bool,
) -> Option<&'s Arc<CertifiedKey>> {
    let name = name.and_then(|name| ServerName::try_from(name).ok());
    let can_verify = || several.iter().filter(|shown| can_verify(shown));
    let named = name.and_then(|name| can_verify().find(|shown| is_for(shown, &name)));
    named.or_else(|| can_verify().next())
}

fn is_for(shown: &CertifiedKey, name: &ServerName) -> bool {
    let certificate = shown.cert.first().map(ParsedCertificate::try_from);
    matches!(certificate, Some(Ok(certificate)) if verify_server_name(&certificate, name).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use rustls::crypto::ring::sign::any_supported_type;
    use rustls::pki_types::PrivateKeyDer;

    fn certified(name: &str) -> Arc<CertifiedKey> {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate");
        let key = any_supported_type(&PrivateKeyDer::Pkcs8(key.serialize_der().into()));
        Arc::new(CertifiedKey::new(
            vec![certificate.into()],
            key.expect("a key"),
        ))
    }

    #[test]
    fn a_certificate_is_chosen_by_name_and_the_first_is_for_all_others() {
        let names = ["a.test", "b.test", "*.c.test", "b.test"];
        let several = names.map(certified);
        for (name, chosen) in [
            (None, 0),
            (Some("a.test"), 0),
            (Some("b.test"), 1),
            (Some("B.test"), 1),
            (Some("x.c.test"), 2),
            (Some("c.test"), 0),
            (Some("x.y.c.test"), 0),
            (Some("other.test"), 0),
            (Some("no name"), 0),
        ] {
            let shown = choose(&several, name, |_| true).expect("a certificate");
            assert!(Arc::ptr_eq(shown, &several[chosen]), "{name:?}");
        }
        let can_verify = |shown: &CertifiedKey| !std::ptr::eq(shown, &*several[1]);
        let shown = choose(&several, Some("b.test"), can_verify).expect("a certificate");
        assert!(Arc::ptr_eq(shown, &several[3]));
        assert!(choose(&several, Some("b.test"), |_| false).is_none());
    }
}
