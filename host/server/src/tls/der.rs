//! As much of DER (X.690) as it takes to find a public key in a certificate, and the numbers of an RSA key. Nothing is
//! checked that clients check.

/// Tags of values.
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
/// The tag of a certificate's version, which version 1 does not have.
const VERSION: u8 = 0xA0;

/// A value: its tag, its content, and all of its bytes.
#[derive(Clone, Copy, Debug)]
struct Value<'d> {
    tag: u8,
    content: &'d [u8],
    bytes: &'d [u8],
}

/// Returns the first value in `der`, and what follows it.
fn value(der: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7F => (usize::from(first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (usize::try_from(number(length)?).ok()?, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    let bytes = &der[..der.len() - rest.len()];
    Some((
        Value {
            tag,
            content,
            bytes,
        },
        rest,
    ))
}

/// Returns the content of the first value in `der`, which has this `tag`, and what follows the value.
fn expect(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (value, rest) = value(der)?;
    (value.tag == tag).then_some((value.content, rest))
}

/// Returns the certificate that `der` begins with, without what OpenSSL writes behind one that it trusts.
pub(super) fn certificate(der: &[u8]) -> Option<&[u8]> {
    let (value, _) = value(der)?;
    (value.tag == SEQUENCE).then_some(value.bytes)
}

/// Returns the public key in a certificate, of whatever version (RFC 5280 4.1).
pub(super) fn public_key_of(certificate: &[u8]) -> Option<&[u8]> {
    let (certificate, _) = expect(certificate, SEQUENCE)?;
    let (mut rest, _) = expect(certificate, SEQUENCE)?;
    if let Some((_, behind)) = expect(rest, VERSION) {
        rest = behind;
    }
    // Serial number, algorithm of the signature, issuer, validity, subject.
    for _ in 0..5 {
        (_, rest) = value(rest)?;
    }
    let (info, _) = value(rest)?;
    public_key(info.bytes)
}

/// Returns the public key in a `SubjectPublicKeyInfo`, without its algorithm, which is written in several ways.
pub(super) fn public_key(info: &[u8]) -> Option<&[u8]> {
    let (info, _) = expect(info, SEQUENCE)?;
    let (_algorithm, rest) = value(info)?;
    Some(expect(rest, BIT_STRING)?.0)
}

/// The numbers of an RSA key that decide who can use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rsa {
    /// The size of the modulus.
    pub(super) bits: usize,
    /// The public exponent, or the largest number where it is larger.
    pub(super) exponent: u64,
}

/// Returns the numbers of an RSA private key in PKCS#1 (RFC 8017 A.1.2).
pub(super) fn rsa_of_pkcs1(key: &[u8]) -> Option<Rsa> {
    let (key, _) = expect(key, SEQUENCE)?;
    let (_version, rest) = expect(key, INTEGER)?;
    let (modulus, rest) = expect(rest, INTEGER)?;
    let (exponent, _) = expect(rest, INTEGER)?;
    let modulus = without_zeros(modulus);
    let unused = modulus.first()?.leading_zeros();
    Some(Rsa {
        bits: modulus.len() * 8 - usize::try_from(unused).ok()?,
        exponent: number(without_zeros(exponent)).unwrap_or(u64::MAX),
    })
}

/// Returns the numbers of an RSA private key in PKCS#8 (RFC 5958 2).
pub(super) fn rsa_of_pkcs8(key: &[u8]) -> Option<Rsa> {
    /// 1.2.840.113549.1.1.1, `rsaEncryption`.
    const RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
    let (key, _) = expect(key, SEQUENCE)?;
    let (_version, rest) = expect(key, INTEGER)?;
    let (algorithm, rest) = expect(rest, SEQUENCE)?;
    let (key, _) = expect(rest, OCTET_STRING)?;
    algorithm.starts_with(RSA).then(|| rsa_of_pkcs1(key))?
}

/// Returns the number that `bytes` are, if it is not too large.
fn number(bytes: &[u8]) -> Option<u64> {
    let add = |sum: u64, &byte: &u8| sum << 8 | u64::from(byte);
    (bytes.len() <= size_of::<u64>()).then(|| bytes.iter().fold(0, add))
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|&&byte| byte == 0).count();
    &number[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_short_is_nothing() {
        let long = [&[SEQUENCE, 0x82, 0x01, 0x00][..], &[7; 256]].concat();
        assert_eq!(certificate(&long), Some(&*long));
        assert_eq!(certificate(&[&*long, b"aux"].concat()), Some(&*long));
        for length in 0..long.len() {
            assert_eq!(certificate(&long[..length]), None, "{length}");
        }
        for der in [
            &b""[..],
            b"\x30",
            b"\x30\x80\x00\x00",
            b"\x30\x85\x01\x00\x00\x00\x00",
            b"\x30\x84\xff\xff\xff\xff",
            b"\x02\x01\x00",
        ] {
            assert_eq!(certificate(der), None, "{der:?}");
            assert_eq!(public_key_of(der), None, "{der:?}");
            assert_eq!(rsa_of_pkcs8(der), None, "{der:?}");
        }
    }

    #[test]
    fn the_numbers_of_an_rsa_key_are_found() {
        let key = b"\x30\x0b\x02\x01\x00\x02\x03\x00\x81\x01\x02\x01\x03";
        let rsa = Rsa {
            bits: 16,
            exponent: 3,
        };
        assert_eq!(rsa_of_pkcs1(key), Some(rsa));
    }
}
