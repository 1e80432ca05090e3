//! A little world of our own on loopback: its name server and its certificate authority, so that servers can federate
//! on one machine with nothing switched off. For `billow demo` and for tests.

pub mod ca;
pub mod dns;

#[cfg(test)]
mod tests {
    use openssl::stack::Stack;
    use openssl::x509::store::X509StoreBuilder;
    use openssl::x509::{X509, X509StoreContext};

    use super::*;

    #[test]
    fn a_certificate_leads_to_its_authority_and_its_key_is_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let authority = ca::Ca::create("Lab").unwrap();
        let (chain, key) = authority
            .issue("acme.lab")
            .unwrap()
            .write(folder.path(), "acme.lab")
            .unwrap();
        let certificate = X509::from_pem(&std::fs::read(chain).unwrap()).unwrap();
        let mut store = X509StoreBuilder::new().unwrap();
        store
            .add_cert(X509::from_pem(&authority.certificate_pem().unwrap()).unwrap())
            .unwrap();
        let (store, none) = (store.build(), Stack::new().unwrap());
        let mut context = X509StoreContext::new().unwrap();
        assert!(
            context
                .init(&store, &certificate, &none, |context| context.verify_cert())
                .unwrap()
        );
        let names = certificate.subject_alt_names().unwrap();
        assert_eq!(
            names.iter().map(|name| name.dnsname()).collect::<Vec<_>>(),
            [Some("acme.lab")]
        );
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
