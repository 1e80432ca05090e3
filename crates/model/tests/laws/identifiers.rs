//! Addresses, domains and ids as strangers write them (hardening group H): one form, or refused.

use billow_model::{Domain, ParticipantId, WaveletName};

#[test]
fn b_141_an_address_has_one_form_or_none() {
    for (given, canonical) in [
        ("bob@example.com", "bob@example.com"),
        ("Bob@Example.COM", "bob@example.com"),
        ("BOB@EXAMPLE.COM", "bob@example.com"),
        ("@example.com", "@example.com"),
        ("b.o-b_1+x@sub.example.com", "b.o-b_1+x@sub.example.com"),
    ] {
        let address: ParticipantId = given.parse().expect(given);
        assert_eq!(address.as_str(), canonical);
        assert_eq!(canonical.parse::<ParticipantId>().expect(canonical), address);
    }
    let long = "x".repeat(300);
    let label = "x".repeat(64);
    for bad in [
        "",
        "bob",
        "@",
        "bob@",
        "bob@example.com.",
        "bob@.example.com",
        "bob@example..com",
        "bob@@example.com",
        "bob@evil.com@example.com",
        " bob@example.com",
        "bob @example.com",
        "bob@example.com ",
        "bob\t@example.com",
        "bob@exam\tple.com",
        "bob\u{a0}x@example.com",
        "bob@example.com/phone",
        "bob@-example.com",
        "bob@example-.com",
        "bob@exa_mple.com",
        "bob@[::1]",
        "bob@example.com:5269",
        &format!("{long}@example.com"),
        &format!("bob@{label}.com"),
        &format!("bob@{}com", "abc.".repeat(70)),
    ] {
        assert!(bad.parse::<ParticipantId>().is_err(), "{bad:?}");
    }
    // To the byte.
    let fits = format!("{}@example.com", "x".repeat(255 - 12));
    assert_eq!(fits.len(), 255);
    assert!(fits.parse::<ParticipantId>().is_ok());
    assert!(format!("x{fits}").parse::<ParticipantId>().is_err());
}

#[test]
fn b_142_a_domain_is_its_a_label_and_nothing_else() {
    // What people type is made so in the client; here everything but the one form is refused, so that no two differ only in looks.
    for good in [
        "xn--bcher-kva.example",
        "xn--fa-hia.example",
        "xn--p1ai",
        "a.xn--mgbh0fb.example",
    ] {
        assert_eq!(good.parse::<Domain>().expect(good).as_str(), good);
        assert!(format!("bob@{good}").parse::<ParticipantId>().is_ok());
    }
    for bad in [
        "bücher.example",
        "bu\u{308}cher.example",
        "BÜCHER.example",
        "faß.example",
        "ｅｘａｍｐｌｅ.com",
        "example\u{3002}com",
        "example\u{ff0e}com",
        "xn--bücher-kva.example",
        "XN--BCHER-KVA.example",
        // No A-labels: nothing in it, not punycode, of ASCII only, of what may not be.
        "xn--.example",
        "xn--a.example",
        "xn--abc-.example",
        "xn--zzzzzzzzzzzzzzzzzzzz.example",
        "ab--cd.example",
        "zz--top.example",
        "xn--a-0hc.example",
    ] {
        assert!(bad.parse::<Domain>().is_err(), "{bad:?}");
        assert!(
            format!("bob@{bad}").parse::<ParticipantId>().is_err() || bad.starts_with("XN--"),
            "{bad:?}"
        );
    }
}

#[test]
fn b_145_one_codec_for_names() {
    for uri in [
        "wave://example.org/w+abc/conv+root",
        "wave://example.org/example.com!w+abc/conv+root",
        "wave://example.org/w+a~!b/conv+root",
        "wave://example.org/w+a~~b/conv+root",
        "wave://example.org/w+a~+b/conv+root",
        "wave://example.org/w+%C3%BC/conv+root",
        "wave://example.org/w+%25/conv+root",
        "wave://example.org/w+%2F/conv+root",
    ] {
        let name = WaveletName::from_uri(uri).expect(uri);
        assert_eq!(name.to_uri(), uri, "the one way to write it");
        assert_eq!(WaveletName::from_uri(&name.to_uri()).expect(uri), name);
        // Not all that the reference reads may be federated; what may has one short form too.
        if name.is_modern() {
            assert_eq!(name.to_string().parse::<WaveletName>().expect(uri), name);
        }
    }
    // Two levels of escaping are two names.
    let once = WaveletName::from_uri("wave://example.org/w+%25/conv+root").expect("a name");
    let twice = WaveletName::from_uri("wave://example.org/w+%2525/conv+root").expect("a name");
    assert_ne!(once, twice);
    assert!(!once.is_acceptable() && !twice.is_acceptable());
    for bad in [
        "",
        "wave://",
        "wave://example.org",
        "wave://example.org/w+abc",
        "wave://example.org/w+abc/conv+root/more",
        "wave://example.org//conv+root",
        "wave:///w+abc/conv+root",
        "http://example.org/w+abc/conv+root",
        "wave://example.org/a!b!w+abc/conv+root",
        "wave://example.org/w+a~b/conv+root",
        "wave://example.org/w+a~/conv+root",
        "wave://example.org/w+abc/conv!root",
        "wave://example.org/w+%/conv+root",
        "wave://example.org/w+%2/conv+root",
        "wave://example.org/w+%GG/conv+root",
        "wave://example.org/w+%FF/conv+root",
        "wave://example.org/w+%C0%AF/conv+root",
        "wave://exam%70le.org/w+abc/conv+root",
        "wave://example.org:80/w+abc/conv+root",
        "wave://bob@example.org/w+abc/conv+root",
    ] {
        assert!(WaveletName::from_uri(bad).is_err(), "{bad:?}");
    }
    // Read, as the reference does, but taken from nobody: what is no path and no end of one here.
    for strange in [
        "wave://example.org/w+%00/conv+root",
        "wave://example.org/w+%0A/conv+root",
        "wave://example.org/w+%2F..%2F..%2Fetc/conv+root",
        "wave://example.org/w+%E2%80%AE/conv+root",
    ] {
        assert!(
            WaveletName::from_uri(strange).is_ok_and(|name| !name.is_acceptable()),
            "{strange:?}"
        );
    }
    let dots = WaveletName::from_uri("wave://example.org/../..").expect("two dots are an id like others");
    assert_eq!(dots.to_uri(), "wave://example.org/../..");
}
