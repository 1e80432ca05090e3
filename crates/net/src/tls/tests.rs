//! Which certificates are good for a domain: chains of all kinds, good and bad, against the very check that streams use.

use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::x509::extension::ExtendedKeyUsage;

use super::certificates::{Made, Recipe, long_rsa, rsa, rsa_with_a_huge_exponent};
use super::*;
use crate::Pin;

const NAME: &[(&str, &str)] = &[("CN", "Lab")];

fn authority() -> Made {
    Recipe::authority(NAME, None).make()
}

fn trust_in(authority: &Made) -> Trust {
    let roots = TlsRoots {
        extra_pem: authority.chain_pem(),
        ..TlsRoots::default()
    };
    Trust::new(&roots, Arc::new(rustls::crypto::aws_lc_rs::default_provider())).unwrap()
}

fn check(trust: &Trust, chain: &[&Made], domain: &str) -> Result<(), String> {
    let chain: Vec<_> = chain.iter().map(|made| CertificateDer::from(made.der())).collect();
    trust.check(&chain, &domain.parse().unwrap())
}

/// A good one for `acme.lab`.
fn leaf(issuer: &Made) -> Recipe<'_> {
    Recipe::of(&["acme.lab"], Some(issuer))
}

#[test]
fn b_041_a_common_name_proves_nothing() {
    let authority = authority();
    let trust = trust_in(&authority);
    let with = |subject, dns| {
        Recipe {
            subject,
            ..Recipe::of(dns, Some(&authority))
        }
        .make()
    };
    for (subject, dns) in [
        (&[("CN", "victim.lab")][..], &[][..]),
        (&[("O", "x, CN=victim.lab")], &[]),
        (&[("O", "x, CN=victim.lab"), ("CN", "evil.lab")], &["evil.lab"]),
        (&[("CN", "victim.lab")], &["evil.lab"]),
        (&[("CN", "victim.lab"), ("CN", "evil.lab")], &["evil.lab"]),
    ] {
        assert!(
            check(&trust, &[&with(subject, dns)], "victim.lab").is_err(),
            "{subject:?} {dns:?}"
        );
    }
    check(&trust, &[&with(&[("CN", "evil.lab")], &["victim.lab"])], "victim.lab").unwrap();
}

#[test]
fn b_042_wildcards_stand_for_one_label_and_no_more() {
    let authority = authority();
    let trust = trust_in(&authority);
    let wild = Recipe::of(&["*.example.com"], Some(&authority)).make();
    for refused in ["example.com", "a.b.example.com", "wexample.com", "a.example.org"] {
        assert!(check(&trust, &[&wild], refused).is_err(), "{refused}");
    }
    check(&trust, &[&wild], "a.example.com").unwrap();
    for odd in [["w*.example.com"], ["*.*.com"], ["*"], ["a.*.com"]] {
        let odd = Recipe::of(&odd, Some(&authority)).make();
        assert!(check(&trust, &[&odd], "wa.example.com").is_err());
    }
}

/// No other kind of name proves anything, so none proves a wrong thing.
#[test]
fn b_043_names_are_compared_in_their_one_form_at_a_bounded_price() {
    let authority = authority();
    let trust = trust_in(&authority);
    let good =
        |names: &[&str], domain: &str| check(&trust, &[&Recipe::of(names, Some(&authority)).make()], domain).is_ok();
    assert!(good(&["VICTIM.Lab"], "victim.lab"), "upper case");
    assert!(good(&["xn--bcher-kva.lab"], "bücher.lab"), "the A-label of a U-label");
    assert!(!good(&["bücher.lab"], "bücher.lab"), "a U-label is no DNS name");
    assert!(!good(&["victim.lab\0.evil.lab"], "victim.lab"), "a NUL hides nothing");
    assert!(
        !good(&["victim.lab."], "victim.lab"),
        "no certificate has a dot at the end"
    );
    assert!(!good(&["victim.lab.evil.lab"], "victim.lab"));
    assert!(!good(&["evilvictim.lab"], "victim.lab"));
    // XMPP's own kinds of names (RFC 6120 §13.7.1.2.1), beside a DNS name and alone.
    for other in [
        "otherName:1.3.6.1.5.5.7.8.5;UTF8:victim.lab",
        "otherName:1.3.6.1.5.5.7.8.7;IA5:_xmpp-server.victim.lab",
    ] {
        for names in [format!("DNS:evil.lab,{other}"), other.to_owned()] {
            let more = [(Nid::SUBJECT_ALT_NAME, &*names)];
            let made = Recipe {
                dns: &[],
                more: &more,
                ..Recipe::of(&[], Some(&authority))
            }
            .make();
            assert!(check(&trust, &[&made], "victim.lab").is_err(), "{names}");
            assert_eq!(
                check(&trust, &[&made], "evil.lab").is_ok(),
                names.starts_with("DNS"),
                "{names}"
            );
        }
    }
    let quick = std::time::Duration::from_millis(500);
    let names: Vec<String> = (0..2500).map(|n| format!("d{n}.lab")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let many = Recipe::of(&names, Some(&authority)).make();
    let before = std::time::Instant::now();
    assert!(check(&trust, &[&many], "victim.lab").is_err());
    assert!(before.elapsed() < quick, "{:?}", before.elapsed());
    let names: Vec<String> = (0..10_000).map(|n| format!("d{n}.lab")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let too_long = Recipe::of(&names, Some(&authority)).make();
    let before = std::time::Instant::now();
    let refused = check(&trust, &[&too_long], "d1.lab").unwrap_err();
    assert!(refused.contains("too long"), "{refused}");
    assert!(before.elapsed() < quick, "{:?}", before.elapsed());
}

#[test]
fn b_045_what_a_certificate_is_not_for_it_does_not_prove() {
    let root = authority();
    let trust = trust_in(&root);
    let refused = |made: &Made, between: &[&Made], why: &str| {
        let chain: Vec<&Made> = [made].into_iter().chain(between.iter().copied()).collect();
        assert!(check(&trust, &chain, "acme.lab").is_err(), "{why}");
    };
    let mut clients = ExtendedKeyUsage::new();
    clients.client_auth();
    refused(
        &Recipe {
            usage: Some(clients),
            ..leaf(&root)
        }
        .make(),
        &[],
        "only for clients",
    );
    let mut mail = ExtendedKeyUsage::new();
    mail.email_protection().code_signing();
    refused(
        &Recipe {
            usage: Some(mail),
            ..leaf(&root)
        }
        .make(),
        &[],
        "for mail and code",
    );
    refused(
        &Recipe {
            authority: true,
            ..leaf(&root)
        }
        .make(),
        &[],
        "an authority is no server",
    );
    // A chain that is longer than an authority allows, and one through a certificate that is no authority.
    let short = Recipe {
        path_length: Some(0),
        ..Recipe::authority(&[("CN", "Short")], Some(&root))
    }
    .make();
    let below = Recipe::authority(&[("CN", "Below")], Some(&short)).make();
    refused(&leaf(&below).make(), &[&below, &short], "path length");
    check(&trust, &[&leaf(&short).make(), &short], "acme.lab").unwrap();
    let server = Recipe::of(&["server.lab"], Some(&root)).make();
    refused(&leaf(&server).make(), &[&server], "issued by a server");
    // Authorities that may speak for some names only.
    for constraint in ["permitted;DNS:other.lab", "excluded;DNS:acme.lab", "excluded;DNS:lab"] {
        let more = [(Nid::NAME_CONSTRAINTS, constraint)];
        let bound = Recipe {
            more: &more,
            ..Recipe::authority(&[("CN", "Bound")], Some(&root))
        }
        .make();
        refused(&leaf(&bound).make(), &[&bound], constraint);
        let wild = Recipe::of(&["*.acme.lab"], Some(&bound)).make();
        let refused = check(&trust, &[&wild, &bound], "x.acme.lab");
        assert!(refused.is_err(), "a wildcard does not get round {constraint}");
    }
    let more = [(Nid::NAME_CONSTRAINTS, "permitted;DNS:acme.lab")];
    let bound = Recipe {
        more: &more,
        ..Recipe::authority(&[("CN", "Bound")], Some(&root))
    }
    .make();
    check(&trust, &[&leaf(&bound).make(), &bound], "acme.lab").unwrap();
    let more = [(Nid::NAME_CONSTRAINTS, "permitted;URI:acme.lab")];
    let by_uri = Recipe {
        more: &more,
        ..Recipe::authority(&[("CN", "URI")], Some(&root))
    }
    .make();
    let uri = [(Nid::SUBJECT_ALT_NAME, "DNS:acme.lab,URI:xmpp://evil.lab")];
    let with_uri = Recipe {
        dns: &[],
        more: &uri,
        ..leaf(&by_uri)
    }
    .make();
    refused(&with_uri, &[&by_uri], "a name of a kind that is constrained otherwise");
}

#[test]
fn b_046_weak_and_expensive_keys_weak_hashes_and_odd_serials_are_refused_in_little_time() {
    let root = authority();
    let trust = trust_in(&root);
    let slow = std::time::Duration::from_millis(5);
    let refused = |chain: &[&Made], why: &str| {
        let quickest = (0..5).map(|_| {
            let before = std::time::Instant::now();
            assert!(check(&trust, chain, "acme.lab").is_err(), "{why}");
            before.elapsed()
        });
        let quickest = quickest.min().unwrap();
        assert!(quickest <= slow, "{why}: {quickest:?}");
    };
    for bits in [512, 1024] {
        let weak = Recipe {
            key: rsa(bits),
            ..Recipe::authority(&[("CN", "Weak")], Some(&root))
        }
        .make();
        let digest = MessageDigest::sha256();
        refused(
            &[&Recipe { digest, ..leaf(&weak) }.make(), &weak],
            "issued with a weak key",
        );
    }
    for (key, why) in [
        (long_rsa(16), "an RSA key of 16,384 bits"),
        (rsa_with_a_huge_exponent(), "a huge exponent"),
    ] {
        let expensive = Recipe {
            key,
            ..Recipe::authority(&[("CN", "Expensive")], Some(&root))
        }
        .make();
        refused(&[&leaf(&expensive).make(), &expensive], why);
    }
    let below_zero = Recipe {
        serial: Some(-7),
        ..leaf(&root)
    };
    refused(&[&below_zero.make()], "a serial number below zero");
    let below_zero = Recipe {
        serial: Some(-7),
        ..Recipe::authority(&[("CN", "Odd")], Some(&root))
    }
    .make();
    refused(&[&leaf(&below_zero).make(), &below_zero], "and that of its authority");
    let sha1 = Recipe {
        digest: MessageDigest::sha1(),
        ..leaf(&root)
    }
    .make();
    refused(&[&sha1], "SHA-1");
    let rsa_root = Recipe {
        key: rsa(2048),
        ..Recipe::authority(&[("CN", "RSA")], Some(&root))
    }
    .make();
    check(&trust, &[&leaf(&rsa_root).make(), &rsa_root], "acme.lab").unwrap();
    let md5 = Recipe {
        digest: MessageDigest::md5(),
        ..leaf(&rsa_root)
    }
    .make();
    refused(&[&md5, &rsa_root], "MD5");
}

#[test]
fn a_pinned_domain_is_believed_by_its_pin_and_by_nothing_else() {
    let (public, private) = (authority(), authority());
    let own = Recipe {
        issuer: None,
        ..Recipe::of(&["acme.lab"], None)
    }
    .make();
    let by = |issuer: &Made, name: &str| Recipe::of(&[name], Some(issuer)).make();
    let pin = |pem: Vec<u8>, prints: Vec<Fingerprint>| {
        let roots = TlsRoots {
            extra_pem: public.chain_pem(),
            pins: BTreeMap::from([(
                "acme.lab".parse().unwrap(),
                Pin {
                    certificates_pem: pem,
                    fingerprints: prints,
                },
            )]),
            ..TlsRoots::default()
        };
        Trust::new(&roots, Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
    };
    let of_authority = pin(private.chain_pem(), vec![]).unwrap();
    check(&of_authority, &[&by(&private, "acme.lab")], "acme.lab").unwrap();
    assert!(
        check(&of_authority, &[&by(&public, "acme.lab")], "acme.lab").is_err(),
        "the others do not count for it"
    );
    assert!(
        check(&of_authority, &[&by(&private, "other.lab")], "other.lab").is_err(),
        "nor it for others"
    );
    check(&of_authority, &[&by(&public, "other.lab")], "other.lab").unwrap();
    let print = Fingerprint(Sha256::digest(own.der()).into());
    for of_itself in [pin(own.chain_pem(), vec![]), pin(vec![], vec![print])] {
        let of_itself = of_itself.unwrap();
        check(&of_itself, &[&own], "acme.lab").unwrap();
        assert!(check(&of_itself, &[&own], "other.lab").is_err());
        assert!(check(&of_itself, &[&by(&public, "acme.lab")], "acme.lab").is_err());
    }
    assert!(pin(vec![], vec![]).is_err(), "pinned to nothing");
}

#[test]
fn a_certificate_speaks_for_each_of_its_names_and_for_no_other() {
    let authority = authority();
    let trust = trust_in(&authority);
    let both = Recipe::of(&["acme.lab", "initech.lab"], Some(&authority)).make();
    check(&trust, &[&both], "acme.lab").unwrap();
    check(&trust, &[&both], "initech.lab").unwrap();
    for other in ["lab", "x.acme.lab", "globex.lab"] {
        assert!(check(&trust, &[&both], other).is_err(), "{other}");
    }
}

#[test]
fn b_026_a_chain_of_a_hundred_is_refused_whole_and_cut() {
    let root = authority();
    let trust = trust_in(&root);
    let mut chain = vec![Recipe::authority(&[("CN", "1")], Some(&root)).make()];
    check(&trust, &[&leaf(&chain[0]).make(), &chain[0]], "acme.lab").unwrap();
    for number in 2..100 {
        let name = number.to_string();
        let subject = [("CN", &*name)];
        let next = Recipe::authority(&subject, chain.last()).make();
        chain.push(next);
    }
    chain.push(leaf(chain.last().unwrap()).make());
    let shown: Vec<&Made> = chain.iter().rev().collect();
    for shown in [&shown[..], &shown[..MAX_CHAIN]] {
        let before = std::time::Instant::now();
        assert!(check(&trust, shown, "acme.lab").is_err());
        assert!(
            before.elapsed() < std::time::Duration::from_millis(100),
            "{:?}",
            before.elapsed()
        );
    }
}
