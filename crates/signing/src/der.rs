//! The extensions of a certificate, as many as we must know that OpenSSL's binding does not tell.

/// An extension (RFC 5280 §4.1): the contents of its OID, whether it is critical, its value.
pub(crate) struct Extension<'a> {
    pub(crate) oid: &'a [u8],
    pub(crate) critical: bool,
    pub(crate) value: &'a [u8],
}

/// `1.3.6.1.4.1.11129.2.1.1`: the reference's verifier lets certificates pass that bear it as critical; nothing else understands it.
pub(crate) const WAVE: &[u8] = &[0x2B, 0x06, 0x01, 0x04, 0x01, 0xD6, 0x79, 0x02, 0x01, 0x01];
/// extKeyUsage.
pub(crate) const USAGE: &[u8] = &[0x55, 0x1D, 0x25];
/// `id-kp-serverAuth` and `anyExtendedKeyUsage`.
const FOR_SERVERS: [&[u8]; 2] = [
    &[0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01],
    &[0x55, 0x1D, 0x25, 0x00],
];
/// Last bytes of `2.5.29.…`: key usage, alternative name, basic constraints, name constraints, policies, extended key usage.
const UNDERSTOOD: [u8; 6] = [0x0F, 0x11, 0x13, 0x1E, 0x20, 0x25];

impl Extension<'_> {
    /// Whether it is critical and neither OpenSSL nor webpki reads it.
    pub(crate) fn is_unknown_and_critical(&self) -> bool {
        self.critical && !matches!(self.oid, [0x55, 0x1D, last] if UNDERSTOOD.contains(last))
    }

    /// Whether an extKeyUsage lets the certificate be a server's.
    pub(crate) fn is_for_servers(&self) -> bool {
        let Some((_, mut uses, _)) = element(self.value) else {
            return false;
        };
        while let Some((_, oid, rest)) = element(uses) {
            if FOR_SERVERS.contains(&oid) {
                return true;
            }
            uses = rest;
        }
        false
    }
}

/// The extensions of a DER certificate; of one that is none, none.
pub(crate) fn extensions(certificate: &[u8]) -> Vec<Extension<'_>> {
    read(certificate).unwrap_or_default()
}

fn read(certificate: &[u8]) -> Option<Vec<Extension<'_>>> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut fields, _) = element(certificate)?;
    let mut found = Vec::new();
    while let Some((tag, value, rest)) = element(fields) {
        fields = rest;
        // [3] EXPLICIT Extensions
        if tag != 0xA3 {
            continue;
        }
        let (_, mut list, _) = element(value)?;
        while let Some((_, extension, more)) = element(list) {
            list = more;
            let (_, oid, rest) = element(extension)?;
            let (tag, value, rest) = element(rest)?;
            let (critical, value) = if tag == 0x01 {
                (value != [0], element(rest)?.1)
            } else {
                (false, value)
            };
            found.push(Extension { oid, critical, value });
        }
    }
    Some(found)
}

/// Tag and contents of the first element, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest
            .split_at_checked(usize::from(first & 0x7F))
            .filter(|(d, _)| d.len() <= 4)?;
        let length = digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit));
        (length, rest)
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((tag, value, rest))
}

/// `2.5.29.37`.
pub(crate) fn dotted(oid: &[u8]) -> String {
    let mut arcs: Vec<u64> = Vec::new();
    let mut arc = 0u64;
    for byte in oid {
        arc = arc << 7 | u64::from(byte & 0x7F);
        if byte & 0x80 == 0 {
            if arcs.is_empty() {
                let first = (arc / 40).min(2);
                arcs.extend([first, arc - first * 40]);
            } else {
                arcs.push(arc);
            }
            arc = 0;
        }
    }
    arcs.iter().map(u64::to_string).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_oid_is_told_as_people_write_it_and_rubbish_has_no_extensions() {
        assert_eq!(dotted(WAVE), "1.3.6.1.4.1.11129.2.1.1");
        assert_eq!(dotted(USAGE), "2.5.29.37");
        for rubbish in [
            &b""[..],
            b"0",
            b"0\x80",
            b"0\x85\xFF\xFF\xFF\xFF\xFF",
            b"0\x03\x30\x05\xA3",
        ] {
            assert!(extensions(rubbish).is_empty());
        }
    }
}
