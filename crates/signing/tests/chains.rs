//! Chains, names and signatures that must not count (hardening groups B and F).
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::sync::OnceLock;

use billow_model::{Delta, Domain, HashedVersion, HistoryHash, Timestamp, Version, WaveletOp};
use billow_signing::{
    Authority, ChainError, Issued, POSTED_MAX, SignError, Signer, SignerError, TrustRoots, Validity, Verifier,
    VerifyError,
};
use billow_wire::{Encoded, HashAlgorithm, Signature, SignedDelta, SignerId, SignerInfo};
use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Name};

const DAY: i64 = 86_400_000;
const NOW: Timestamp = Timestamp(1_800_000_000_000);
const YEAR: Validity = Validity {
    from: Timestamp(NOW.0 - 100 * DAY),
    until: Timestamp(NOW.0 + 100 * DAY),
};

fn domain(name: &str) -> Domain {
    name.parse().unwrap()
}

fn signer(name: &str, issued: &Issued) -> Signer {
    Signer::from_pem(domain(name), &issued.key_pem, &issued.chain_pem).unwrap()
}

fn verifier(authority: &Authority) -> Verifier {
    Verifier::new(
        TrustRoots::none()
            .with_pem(&authority.certificate_pem().unwrap())
            .unwrap(),
    )
}

fn delta(author: &str, path: &[&str]) -> Encoded<Delta> {
    let target = HashedVersion {
        version: Version::new(3),
        hash: HistoryHash::from_bytes(&[7; 20]),
    };
    let address_path = path.iter().map(|address| address.parse().unwrap()).collect();
    Encoded::new(Delta {
        target,
        author: author.parse().unwrap(),
        ops: vec![WaveletOp::NoOp],
        address_path,
    })
}

/// A certificate with everything to choose.
struct Request<'a> {
    subject: &'a str,
    dns: &'a [&'a str],
    ca: bool,
    digest: MessageDigest,
    bits: u32,
}

const PLAIN: fn() -> Request<'static> = || Request {
    subject: "acme.lab",
    dns: &["acme.lab"],
    ca: false,
    digest: MessageDigest::sha256(),
    bits: 2048,
};

/// One key for all authorities and one for all signers of a test: making them takes the time.
fn key(ca: bool) -> PKey<Private> {
    static KEYS: [OnceLock<PKey<Private>>; 2] = [OnceLock::new(), OnceLock::new()];
    KEYS[usize::from(ca)]
        .get_or_init(|| PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap())
        .clone()
}

fn certificate(request: &Request<'_>, issuer: Option<(&X509, &PKey<Private>)>) -> (X509, PKey<Private>) {
    let key = match request.bits {
        2048 => key(request.ca),
        bits => PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap(),
    };
    let mut name = X509Name::builder().unwrap();
    if !request.subject.is_empty() {
        name.append_entry_by_text("CN", request.subject).unwrap();
    }
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder
        .set_issuer_name(issuer.map_or(&*name, |(certificate, _)| certificate.subject_name()))
        .unwrap();
    builder.set_pubkey(&key).unwrap();
    let at = |time: i64| Asn1Time::from_unix(time / 1000).unwrap();
    builder.set_not_before(&at(YEAR.from.0)).unwrap();
    builder.set_not_after(&at(YEAR.until.0)).unwrap();
    if request.ca {
        builder
            .append_extension(BasicConstraints::new().critical().ca().build().unwrap())
            .unwrap();
    }
    if !request.dns.is_empty() {
        let mut names = SubjectAlternativeName::new();
        request.dns.iter().for_each(|dns| {
            names.dns(dns);
        });
        let names = names.build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(names).unwrap();
    }
    builder
        .sign(issuer.map_or(&key, |(_, key)| key), request.digest)
        .unwrap();
    (builder.build(), key)
}

fn info(certificates: &[&X509]) -> SignerInfo {
    let certificates = certificates
        .iter()
        .map(|certificate| certificate.to_der().unwrap().into())
        .collect();
    SignerInfo {
        hash: HashAlgorithm::Sha256,
        domain: domain("acme.lab"),
        certificates,
    }
}

fn root() -> (X509, PKey<Private>) {
    certificate(
        &Request {
            subject: "A root",
            dns: &[],
            ca: true,
            ..PLAIN()
        },
        None,
    )
}

fn trusting(root: &X509) -> Verifier {
    Verifier::new(TrustRoots::none().with_pem(&root.to_pem().unwrap()).unwrap())
}

#[test]
fn what_a_signer_signs_its_peers_verify() {
    let authority = Authority::new("lab", YEAR).unwrap();
    let acme = signer("acme.lab", &authority.issue(&domain("acme.lab"), &[], YEAR).unwrap());
    let mut verifier = verifier(&authority);
    let signed = acme.sign(delta("bob@acme.lab", &[])).unwrap();
    assert_eq!(acme.sign(delta("bob@acme.lab", &[])).unwrap().bytes(), signed.bytes());
    assert_eq!(
        verifier.verify(signed.clone(), NOW),
        Err(VerifyError::UnknownSigner(acme.id().clone()))
    );
    assert_eq!(verifier.unknown(&signed).collect::<Vec<_>>(), [acme.id()]);
    assert_eq!(verifier.add(acme.info().clone(), NOW).as_ref(), Ok(acme.id()));
    assert_eq!(verifier.signer(acme.id()), Some(acme.info()));
    assert_eq!(verifier.verify(signed.clone(), NOW).unwrap().into_inner(), signed);
}

#[test]
fn foreign_authors_are_neither_signed_nor_verified() {
    let authority = Authority::new("lab", YEAR).unwrap();
    let acme = signer("acme.lab", &authority.issue(&domain("acme.lab"), &[], YEAR).unwrap());
    let refused = acme.sign(delta("alice@initech.lab", &[]));
    assert!(matches!(refused, Err(SignError::ForeignAuthor { .. })));
    // acme signs with its own key what only initech may say (B-050, B-110).
    let mut verifier = verifier(&authority);
    verifier.add(acme.info().clone(), NOW).unwrap();
    let own = acme.sign(delta("bob@acme.lab", &[])).unwrap();
    let forged = SignedDelta {
        delta: delta("alice@initech.lab", &[]),
        signatures: own.signatures.clone(),
    };
    let wrong = VerifyError::WrongDomain {
        domain: domain("initech.lab"),
        signer: acme.id().clone(),
    };
    assert_eq!(verifier.verify(Encoded::new(forged), NOW), Err(wrong));
    let other_bytes = SignedDelta {
        delta: delta("eve@acme.lab", &[]),
        signatures: own.signatures.clone(),
    };
    assert_eq!(
        verifier.verify(Encoded::new(other_bytes), NOW),
        Err(VerifyError::BadSignature(domain("acme.lab")))
    );
}

#[test]
fn b_050_a_chain_speaks_for_the_domains_that_it_names_and_for_no_others_author() {
    let authority = Authority::new("lab", YEAR).unwrap();
    let issued = authority
        .issue(&domain("acme.lab"), &[domain("initech.lab")], YEAR)
        .unwrap();
    let mut verifier = verifier(&authority);
    for (name, author) in [("acme.lab", "bob@acme.lab"), ("initech.lab", "alice@initech.lab")] {
        let signer = signer(name, &issued);
        verifier.add(signer.info().clone(), NOW).unwrap();
        verifier.verify(signer.sign(delta(author, &[])).unwrap(), NOW).unwrap();
    }
    // A good signature by the good key of another domain, under an author of a third, of its parent and of its child.
    let signer = signer("acme.lab", &issued);
    for author in ["carol@love.lab", "carol@lab", "carol@wave.acme.lab"] {
        let delta = delta(author, &[]);
        let key = PKey::private_key_from_pem(&issued.key_pem).unwrap();
        let bytes = openssl::sign::Signer::new(MessageDigest::sha1(), &key)
            .unwrap()
            .sign_oneshot_to_vec(delta.bytes())
            .unwrap();
        let signatures = vec![Signature {
            signer: signer.id().clone(),
            bytes: bytes.into(),
        }];
        let refused = verifier.verify(Encoded::new(SignedDelta { delta, signatures }), NOW);
        assert!(
            matches!(refused, Err(VerifyError::WrongDomain { .. })),
            "{author}: {refused:?}"
        );
    }
}

#[test]
fn there_is_one_signature_by_each_domain_in_order() {
    let authority = Authority::new("lab", YEAR).unwrap();
    let acme = signer("acme.lab", &authority.issue(&domain("acme.lab"), &[], YEAR).unwrap());
    let issued = authority.issue(&domain("initech.lab"), &[], YEAR).unwrap();
    let initech = signer("initech.lab", &issued);
    let mut verifier = verifier(&authority);
    verifier.add(acme.info().clone(), NOW).unwrap();
    verifier.add(initech.info().clone(), NOW).unwrap();
    // Path: initech, then acme twice (once as author): two domains. Each side signs the same bytes.
    let delta = delta("bob@acme.lab", &["list@initech.lab", "staff@acme.lab"]);
    let by_acme = acme.sign(delta.clone()).unwrap().signatures[0].clone();
    let key = PKey::private_key_from_pem(&issued.key_pem).unwrap();
    let bytes = openssl::sign::Signer::new(MessageDigest::sha1(), &key)
        .unwrap()
        .sign_oneshot_to_vec(delta.bytes())
        .unwrap();
    let by_initech = Signature {
        signer: initech.id().clone(),
        bytes: bytes.into(),
    };
    let verify = |signatures: &[&Signature]| {
        let signatures = signatures.iter().map(|signature| (*signature).clone()).collect();
        verifier.verify(
            Encoded::new(SignedDelta {
                delta: delta.clone(),
                signatures,
            }),
            NOW,
        )
    };
    verify(&[&by_initech, &by_acme]).unwrap();
    assert!(matches!(verify(&[]), Err(VerifyError::Count { expected: 2, got: 0 })));
    assert!(matches!(
        verify(&[&by_acme; 100]),
        Err(VerifyError::Count { expected: 2, got: 100 })
    ));
    assert!(matches!(
        verify(&[&by_initech, &by_acme, &by_acme]),
        Err(VerifyError::Count { .. })
    ));
    assert!(matches!(
        verify(&[&by_acme, &by_initech]),
        Err(VerifyError::WrongDomain { .. })
    ));
    let swapped = Signature {
        bytes: by_acme.bytes.clone(),
        ..by_initech.clone()
    };
    assert_eq!(
        verify(&[&swapped, &by_acme]),
        Err(VerifyError::BadSignature(domain("initech.lab")))
    );
}

#[test]
fn b_106_forged_signatures_are_refused() {
    let authority = Authority::new("lab", YEAR).unwrap();
    let acme = signer("acme.lab", &authority.issue(&domain("acme.lab"), &[], YEAR).unwrap());
    let mut verifier = verifier(&authority);
    verifier.add(acme.info().clone(), NOW).unwrap();
    let good = acme.sign(delta("bob@acme.lab", &[])).unwrap();
    let bytes = good.signatures[0].bytes.to_vec();
    let longer = [&bytes[..], &[0]].concat();
    let leading = [&[0], &bytes[..]].concat();
    for forged in [
        vec![],
        vec![0; 256],
        vec![1; 256],
        bytes[..255].to_vec(),
        longer,
        leading,
    ] {
        let signatures = vec![Signature {
            signer: acme.id().clone(),
            bytes: forged.into(),
        }];
        let signed = Encoded::new(SignedDelta {
            delta: good.delta.clone(),
            signatures,
        });
        assert_eq!(
            verifier.verify(signed, NOW),
            Err(VerifyError::BadSignature(domain("acme.lab")))
        );
    }
}

/// The forgery against readers that look for the digest and not at the rest (CVE-2006-4339): with e = 3 a cube root suffices.
#[test]
fn b_106_a_cube_root_with_trailing_garbage_is_no_signature() {
    let (root, root_key) = root();
    let e = openssl::bn::BigNum::from_u32(3).unwrap();
    let key = PKey::from_rsa(Rsa::generate_with_e(2048, &e).unwrap()).unwrap();
    let (plain, _) = certificate(&PLAIN(), Some((&root, &root_key)));
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(plain.subject_name()).unwrap();
    builder.set_issuer_name(root.subject_name()).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder
        .set_not_before(&Asn1Time::from_unix(YEAR.from.0 / 1000).unwrap())
        .unwrap();
    builder
        .set_not_after(&Asn1Time::from_unix(YEAR.until.0 / 1000).unwrap())
        .unwrap();
    let names = SubjectAlternativeName::new()
        .dns("acme.lab")
        .build(&builder.x509v3_context(None, None))
        .unwrap();
    builder.append_extension(names).unwrap();
    builder.sign(&root_key, MessageDigest::sha256()).unwrap();
    let info = info(&[&builder.build()]);
    let mut verifier = trusting(&root);
    let id = verifier.add(info, NOW).unwrap();
    let delta = delta("bob@acme.lab", &[]);
    // 00 01 ff 00 ‖ DigestInfo(SHA-1) ‖ digest ‖ whatever makes it a cube.
    let digest_info = hex::decode("3021300906052b0e03021a05000414").unwrap();
    let digest = openssl::hash::hash(MessageDigest::sha1(), delta.bytes()).unwrap();
    let mut padded = [
        &[0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0][..],
        &digest_info,
        &digest,
    ]
    .concat();
    let prefix = padded.clone();
    padded.resize(256, 0xff);
    let (signature, cube) = cube_root(&padded);
    assert_eq!(cube[..prefix.len()], prefix, "the forgery is one");
    let signatures = vec![Signature {
        signer: id,
        bytes: signature.into(),
    }];
    let signed = Encoded::new(SignedDelta { delta, signatures });
    assert_eq!(
        verifier.verify(signed, NOW),
        Err(VerifyError::BadSignature(domain("acme.lab")))
    );
}

/// The integer cube root of a number, and its cube.
fn cube_root(number: &[u8]) -> (Vec<u8>, Vec<u8>) {
    use openssl::bn::{BigNum, BigNumContext};
    let target = BigNum::from_slice(number).unwrap();
    let mut context = BigNumContext::new().unwrap();
    let mut root = BigNum::from_u32(0).unwrap();
    let mut cube = BigNum::new().unwrap();
    for bit in (0..700).rev() {
        root.set_bit(bit).unwrap();
        let mut square = BigNum::new().unwrap();
        square.sqr(&root, &mut context).unwrap();
        cube.checked_mul(&square, &root, &mut context).unwrap();
        if cube > target {
            root.clear_bit(bit).unwrap();
        }
    }
    let mut square = BigNum::new().unwrap();
    square.sqr(&root, &mut context).unwrap();
    cube.checked_mul(&square, &root, &mut context).unwrap();
    (root.to_vec_padded(256).unwrap(), cube.to_vec_padded(256).unwrap())
}

#[test]
fn b_048_a_chain_counts_while_all_of_it_is_valid_and_history_keeps_counting() {
    let authority = Authority::new("lab", YEAR).unwrap();
    let short = Validity {
        from: Timestamp(NOW.0 - 10 * DAY),
        until: Timestamp(NOW.0 + DAY),
    };
    let acme = signer("acme.lab", &authority.issue(&domain("acme.lab"), &[], short).unwrap());
    assert_eq!(acme.validity(), short);
    let signed = acme.sign(delta("bob@acme.lab", &[])).unwrap();
    let later = Timestamp(NOW.0 + 2 * DAY);
    let mut verifier = verifier(&authority);
    verifier.add(acme.info().clone(), NOW).unwrap();
    verifier.verify(signed.clone(), NOW).unwrap();
    // The cached chain ends with its certificate, to the second.
    verifier.verify(signed.clone(), short.until).unwrap();
    for outside in [Timestamp(short.until.0 + 1000), Timestamp(short.from.0 - 1000), later] {
        let refused = verifier.verify(signed.clone(), outside);
        assert!(matches!(refused, Err(VerifyError::NotValidAt { .. })), "{refused:?}");
    }
    // Met for the first time after it has expired: no new delta, but the history of its time.
    let mut late = self::verifier(&authority);
    assert!(matches!(
        late.add(acme.info().clone(), later),
        Err(ChainError::Untrusted { .. })
    ));
    late.add(acme.info().clone(), NOW).unwrap();
    assert!(matches!(
        late.verify(signed.clone(), later),
        Err(VerifyError::NotValidAt { .. })
    ));
    late.verify(signed, NOW).unwrap();
}

#[test]
fn r_11_only_an_exact_dns_name_counts() {
    let (root, root_key) = root();
    let mut verifier = trusting(&root);
    let mut added = |subject: &str, dns: &[&str]| {
        let (leaf, key) = certificate(
            &Request {
                subject,
                dns,
                ..PLAIN()
            },
            Some((&root, &root_key)),
        );
        let named = dns
            .iter()
            .find_map(|name| name.parse().ok())
            .unwrap_or(domain("acme.lab"));
        verifier
            .add(
                SignerInfo {
                    domain: named,
                    ..info(&[&leaf])
                },
                NOW,
            )
            .map(|id| {
                let delta = delta("bob@acme.lab", &[]);
                let bytes = openssl::sign::Signer::new(MessageDigest::sha1(), &key)
                    .unwrap()
                    .sign_oneshot_to_vec(delta.bytes())
                    .unwrap();
                let signatures = vec![Signature {
                    signer: id,
                    bytes: bytes.into(),
                }];
                verifier
                    .verify(Encoded::new(SignedDelta { delta, signatures }), NOW)
                    .is_ok()
            })
    };
    assert_eq!(added("acme.lab", &[]), Err(ChainError::NoDomain), "common name only");
    assert_eq!(added("", &["acme.lab"]), Ok(true));
    assert_eq!(added("wave.acme.lab", &["wave.acme.lab", "acme.lab"]), Ok(true));
    assert_eq!(
        added("acme.lab", &["evil.lab"]),
        Ok(false),
        "the common name does not count"
    );
    assert_eq!(added("x", &["*.lab"]), Err(ChainError::NoDomain), "no wildcards");
    assert_eq!(added("x", &["*.acme.lab", "wave.acme.lab"]), Ok(false));
    assert_eq!(added("x", &["acme.lab."]), Err(ChainError::NoDomain));
    assert_eq!(added("x", &["ACME.lab"]), Err(ChainError::NoDomain));
    assert_eq!(added("x", &["ac\u{fc}me.lab"]).ok(), None);
}

#[test]
fn b_042_a_wildcard_signs_for_nobody() {
    let (root, root_key) = root();
    let mut verifier = trusting(&root);
    for wild in [&["*.example.com"][..], &["*.example.com", "other.com"]] {
        let request = Request {
            subject: "example.com",
            dns: wild,
            ..PLAIN()
        };
        let (leaf, key) = certificate(&request, Some((&root, &root_key)));
        for name in ["example.com", "a.example.com", "a.b.example.com"] {
            let given = SignerInfo {
                domain: domain(name),
                ..info(&[&leaf])
            };
            assert!(verifier.add(given, NOW).is_err(), "{wild:?} for {name}");
        }
        // The chain that is good for another name vouches for no author below the wildcard.
        let given = SignerInfo {
            domain: domain("other.com"),
            ..info(&[&leaf])
        };
        let Ok(id) = verifier.add(given, NOW) else { continue };
        let delta = delta("bob@a.example.com", &[]);
        let bytes = openssl::sign::Signer::new(MessageDigest::sha1(), &key)
            .unwrap()
            .sign_oneshot_to_vec(delta.bytes())
            .unwrap();
        let signatures = vec![Signature {
            signer: id,
            bytes: bytes.into(),
        }];
        let refused = verifier.verify(Encoded::new(SignedDelta { delta, signatures }), NOW);
        assert!(matches!(refused, Err(VerifyError::WrongDomain { .. })), "{refused:?}");
    }
}

#[test]
fn a_chain_is_that_of_a_domain_that_it_names() {
    let authority = Authority::new("lab", YEAR).unwrap();
    let issued = authority.issue(&domain("acme.lab"), &[], YEAR).unwrap();
    let acme = signer("acme.lab", &issued);
    let renamed = SignerInfo {
        domain: domain("victim.lab"),
        ..acme.info().clone()
    };
    assert_eq!(renamed.id(), *acme.id(), "the id does not tell them apart");
    let mut verifier = verifier(&authority);
    assert!(matches!(
        verifier.add(renamed.clone(), NOW),
        Err(ChainError::OtherDomain { .. })
    ));
    verifier.add(acme.info().clone(), NOW).unwrap();
    assert!(
        matches!(verifier.add(renamed, NOW), Err(ChainError::OtherDomain { .. })),
        "nor when it is known: whoever keeps what was added would keep the false name"
    );
    assert_eq!(
        verifier.signer(acme.id()),
        Some(acme.info()),
        "what is known stays as it is"
    );
}

#[test]
fn b_108_chains_of_a_wrong_form_are_refused() {
    let (root, root_key) = root();
    let middle = Request {
        subject: "middle",
        dns: &[],
        ca: true,
        ..PLAIN()
    };
    let (middle, middle_key) = certificate(&middle, Some((&root, &root_key)));
    let (leaf, _) = certificate(&PLAIN(), Some((&middle, &middle_key)));
    let mut verifier = trusting(&root);
    verifier.add(info(&[&leaf, &middle]), NOW).unwrap();
    verifier.add(info(&[&leaf, &middle, &root]), NOW).unwrap();
    assert!(
        matches!(verifier.add(info(&[&leaf]), NOW), Err(ChainError::Untrusted { .. })),
        "the intermediate is missing"
    );
    assert!(matches!(
        verifier.add(info(&[&leaf, &root, &middle]), NOW),
        Err(ChainError::Order { index: 0, .. })
    ));
    assert!(matches!(
        verifier.add(info(&[&middle, &leaf]), NOW),
        Err(ChainError::Order { .. })
    ));
    assert!(matches!(
        verifier.add(info(&[&leaf, &middle, &middle]), NOW),
        Err(ChainError::Duplicate { index: 2 })
    ));
    assert!(matches!(
        verifier.add(info(&[]), NOW),
        Err(ChainError::Size { certificates: 0, .. })
    ));
    let many: Vec<&X509> = std::iter::repeat_n(&leaf, 9).collect();
    assert!(matches!(
        verifier.add(info(&many), NOW),
        Err(ChainError::Size { certificates: 9, .. })
    ));
    let mut long = info(&[&leaf]);
    long.certificates.push(vec![0; 1 << 20].into());
    assert!(matches!(verifier.add(long, NOW), Err(ChainError::Size { .. })));
    // Two authorities that vouch for each other, and nobody for them.
    let named = |subject: &'static str| Request {
        subject,
        dns: &[],
        ca: true,
        ..PLAIN()
    };
    let (one, one_key) = certificate(&named("one"), None);
    let (other, other_key) = certificate(&named("other"), Some((&one, &one_key)));
    let (one, one_key) = certificate(&named("one"), Some((&other, &other_key)));
    let (circular, _) = certificate(&PLAIN(), Some((&one, &one_key)));
    for circle in [&[&circular, &one, &other][..], &[&circular, &one, &other, &one]] {
        let refused = verifier.add(info(circle), NOW);
        assert!(
            matches!(
                refused,
                Err(ChainError::Untrusted { .. } | ChainError::Duplicate { .. })
            ),
            "{refused:?}"
        );
    }
    let mut tail = info(&[&leaf, &middle]);
    tail.certificates[0] = [&leaf.to_der().unwrap()[..], &[0]].concat().into();
    assert!(matches!(
        verifier.add(tail, NOW),
        Err(ChainError::Malformed { index: 0 })
    ));
    // What was known still is.
    verifier.add(info(&[&leaf, &middle]), NOW).unwrap();
}

#[test]
fn a_certificate_that_may_not_issue_does_not() {
    let (root, root_key) = root();
    let (middle, middle_key) = certificate(&PLAIN(), Some((&root, &root_key)));
    let (leaf, _) = certificate(
        &Request {
            subject: "victim.lab",
            dns: &["victim.lab"],
            ..PLAIN()
        },
        Some((&middle, &middle_key)),
    );
    let refused = trusting(&root).add(info(&[&leaf, &middle]), NOW);
    assert!(refused.is_err(), "{refused:?}");
}

#[test]
fn weak_and_expensive_keys_and_digests_are_refused() {
    let (root, root_key) = root();
    let mut verifier = trusting(&root);
    let mut add = |bits: u32, digest: MessageDigest| {
        let (leaf, _) = certificate(
            &Request {
                bits,
                digest,
                ..PLAIN()
            },
            Some((&root, &root_key)),
        );
        verifier.add(info(&[&leaf]), NOW)
    };
    assert!(matches!(
        add(1024, MessageDigest::sha256()),
        Err(ChainError::Key { .. })
    ));
    assert!(matches!(
        add(2048, MessageDigest::md5()),
        Err(ChainError::Untrusted { .. })
    ));
    assert!(matches!(
        add(2048, MessageDigest::sha1()),
        Err(ChainError::Untrusted { .. })
    ));
    add(3072, MessageDigest::sha384()).unwrap();
    let curve = openssl::ec::EcGroup::from_curve_name(openssl::nid::Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(openssl::ec::EcKey::generate(&curve).unwrap()).unwrap();
    let pem = key.private_key_to_pem_pkcs8().unwrap();
    assert!(matches!(
        Signer::from_pem(domain("acme.lab"), &pem, b""),
        Err(SignerError::NotRsa { .. })
    ));
}

#[test]
fn a_pinned_domain_has_one_authority_and_the_others_go_on() {
    let public = Authority::new("public", YEAR).unwrap();
    let private = Authority::new("private", YEAR).unwrap();
    let pem = |authority: &Authority| authority.certificate_pem().unwrap();
    let roots = TrustRoots::none()
        .with_pem(&pem(&public))
        .unwrap()
        .pin(domain("acme.lab"), &pem(&private))
        .unwrap();
    let mut verifier = Verifier::new(roots);
    let issue = |authority: &Authority, name: &str| {
        signer(name, &authority.issue(&domain(name), &[], YEAR).unwrap())
            .info()
            .clone()
    };
    verifier.add(issue(&private, "acme.lab"), NOW).unwrap();
    verifier.add(issue(&public, "initech.lab"), NOW).unwrap();
    assert!(matches!(
        verifier.add(issue(&public, "acme.lab"), NOW),
        Err(ChainError::Untrusted { .. })
    ));
    assert!(matches!(
        verifier.add(issue(&private, "initech.lab"), NOW),
        Err(ChainError::Untrusted { .. })
    ));
    // A certificate of the public authority that names both speaks for the domain that is not pinned only.
    let both = signer(
        "initech.lab",
        &public
            .issue(&domain("initech.lab"), &[domain("acme.lab")], YEAR)
            .unwrap(),
    );
    verifier.add(both.info().clone(), NOW).unwrap();
    verifier
        .verify(both.sign(delta("alice@initech.lab", &[])).unwrap(), NOW)
        .unwrap();
    let forged = SignedDelta {
        delta: delta("bob@acme.lab", &[]),
        signatures: vec![Signature {
            signer: both.id().clone(),
            bytes: vec![].into(),
        }],
    };
    assert!(matches!(
        verifier.verify(Encoded::new(forged), NOW),
        Err(VerifyError::WrongDomain { .. })
    ));
}

#[test]
fn nobody_is_trusted_by_default() {
    let authority = Authority::new("lab", YEAR).unwrap();
    let acme = signer("acme.lab", &authority.issue(&domain("acme.lab"), &[], YEAR).unwrap());
    for roots in [TrustRoots::none(), TrustRoots::system()] {
        assert!(matches!(
            Verifier::new(roots).add(acme.info().clone(), NOW),
            Err(ChainError::Untrusted { .. })
        ));
    }
}

#[test]
fn keys_and_certificates_that_do_not_fit_say_what_to_change() {
    let authority = Authority::new("lab", YEAR).unwrap();
    let acme = authority.issue(&domain("acme.lab"), &[], YEAR).unwrap();
    let initech = authority.issue(&domain("initech.lab"), &[], YEAR).unwrap();
    let from = |name: &str, key: &[u8], chain: &[u8]| Signer::from_pem(domain(name), key, chain).unwrap_err();
    assert!(matches!(
        from("acme.lab", &initech.key_pem, &acme.chain_pem),
        SignerError::Mismatch { .. }
    ));
    let name = from("initech.lab", &acme.key_pem, &acme.chain_pem);
    assert!(
        name.to_string().contains("names acme.lab") && name.to_string().contains("DNS:initech.lab"),
        "{name}"
    );
    assert!(matches!(
        from("acme.lab", b"no key", &acme.chain_pem),
        SignerError::Key { .. }
    ));
    assert!(matches!(
        from("acme.lab", &acme.key_pem, b"no chain"),
        SignerError::Chain { .. }
    ));
    let stray = [&acme.chain_pem[..], &initech.chain_pem].concat();
    assert!(matches!(
        from("acme.lab", &acme.key_pem, &stray),
        SignerError::Stray { .. }
    ));
    let weak = PKey::from_rsa(Rsa::generate(1024).unwrap())
        .unwrap()
        .private_key_to_pem_pkcs8()
        .unwrap();
    let weak = from("acme.lab", &weak, &acme.chain_pem);
    assert!(
        weak.to_string().contains("1024 bits") && weak.to_string().contains("openssl genrsa 2048"),
        "{weak}"
    );
    let locked = PKey::private_key_from_pem(&acme.key_pem).unwrap();
    let locked = locked
        .private_key_to_pem_pkcs8_passphrase(openssl::symm::Cipher::aes_128_cbc(), b"secret")
        .unwrap();
    assert!(matches!(
        from("acme.lab", &locked, &acme.chain_pem),
        SignerError::Key { .. }
    ));
    // A chain twice in the file is still the chain.
    let twice = [&acme.chain_pem[..], &acme.chain_pem].concat();
    assert_eq!(
        Signer::from_pem(domain("acme.lab"), &acme.key_pem, &twice)
            .unwrap()
            .id(),
        signer("acme.lab", &acme).id()
    );
}

#[test]
fn r_12_a_domain_posts_so_many_chains_and_no_more() {
    let authority = Authority::new("lab", YEAR).unwrap();
    let mut verifier = verifier(&authority);
    let issued = |from: i64, until: i64| {
        let validity = Validity {
            from: Timestamp(NOW.0 + from * DAY),
            until: Timestamp(NOW.0 + until * DAY),
        };
        let issued = authority.issue(&domain("acme.lab"), &[], validity).unwrap();
        signer("acme.lab", &issued).info().clone()
    };
    let first = issued(-1, 10);
    verifier.post(first.clone(), NOW).unwrap();
    for until in 1..POSTED_MAX as i64 {
        verifier.post(issued(-1, 20 + until), NOW).unwrap();
    }
    let late = issued(-1, 40);
    for _ in 0..3 {
        assert!(matches!(
            verifier.post(late.clone(), NOW),
            Err(ChainError::TooMany { .. })
        ));
    }
    assert_eq!(verifier.signer(&late.id()), None, "it is not kept");
    // What is there may be posted again; another domain has its own; and what a delta needs is fetched all the same.
    verifier.post(first.clone(), NOW).unwrap();
    let other = authority.issue(&domain("other.lab"), &[], YEAR).unwrap();
    verifier.post(signer("other.lab", &other).info().clone(), NOW).unwrap();
    verifier.add(late, NOW).unwrap();
    // When one of them has run out there is room again, and its history keeps counting.
    let next = issued(-1, 50);
    verifier.post(next, Timestamp(NOW.0 + 11 * DAY)).unwrap();
    assert!(verifier.signer(&first.id()).is_some());
}

#[test]
fn b_107_a_signer_id_is_that_of_the_very_chain_and_algorithm() {
    let authority = Authority::new("lab", YEAR).unwrap();
    let acme = signer("acme.lab", &authority.issue(&domain("acme.lab"), &[], YEAR).unwrap());
    let mut verifier = verifier(&authority);
    let long = SignerInfo {
        hash: HashAlgorithm::Sha512,
        ..acme.info().clone()
    };
    let long_id = verifier.add(long, NOW).unwrap();
    assert_eq!(long_id.as_bytes().len(), 64);
    // The SHA-512 name of the chain is known, its SHA-256 name is not (B-107).
    let signed = acme.sign(delta("bob@acme.lab", &[])).unwrap();
    assert_eq!(
        verifier.verify(signed.clone(), NOW),
        Err(VerifyError::UnknownSigner(acme.id().clone()))
    );
    let renamed = vec![Signature {
        signer: long_id,
        bytes: signed.signatures[0].bytes.clone(),
    }];
    verifier
        .verify(
            Encoded::new(SignedDelta {
                delta: signed.delta.clone(),
                signatures: renamed,
            }),
            NOW,
        )
        .unwrap();
    let empty = vec![Signature {
        signer: SignerId::from_bytes(&[]),
        bytes: signed.signatures[0].bytes.clone(),
    }];
    let signed = Encoded::new(SignedDelta {
        delta: signed.delta.clone(),
        signatures: empty,
    });
    assert!(matches!(
        verifier.verify(signed, NOW),
        Err(VerifyError::UnknownSigner(_))
    ));
}
