//! What two servers make of each other's word: documents that differ, certificates that change, pins.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use billow::lab::ca::Ca;
use serde_json::Value;

use super::alone;
use super::lab::{ACME, INITECH, Lab, text};

const PATIENCE: Duration = Duration::from_secs(30);

/// Where a server has its configuration, its data, its log.
fn folder(lab: &Lab, server: usize) -> PathBuf {
    Path::new(text(&lab.ready["servers"][server]["config"]))
        .parent()
        .expect("it is in a folder")
        .to_owned()
}

fn log(lab: &Lab, server: usize) -> String {
    std::fs::read_to_string(folder(lab, server).join("billow.log")).unwrap_or_default()
}

/// A wave of alice's with bob, who has it.
fn wave(lab: &Lab, words: &str) -> String {
    let created = lab.run("alice", &["wave", "new", words, "--with", "bob@acme.lab"]);
    let wave = text(&created["wave"]).to_owned();
    lab.wait_for_equal("bob", &wave, &lab.conversation("alice", &wave), PATIENCE);
    wave
}

/// Alice writes into a wave and bob has it; bob writes and alice has it.
fn goes_on(lab: &Lab, wave: &str) {
    for (one, other) in [("alice", "bob"), ("bob", "alice")] {
        lab.run(one, &["wave", "write", wave, "still here"]);
        lab.wait_for_equal(other, wave, &lab.conversation(one, wave), PATIENCE);
    }
}

/// What somebody has of a wave, once it is so.
fn until(lab: &Lab, profile: &str, wave: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let shown = lab.conversation(profile, wave);
        if is_so(&shown) {
            return shown;
        }
        assert!(Instant::now() < give_up, "{profile} does not come to {what}: {shown}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_copy_that_has_gone_wrong_on_the_disk_is_found_and_mended() {
    let _alone = alone();
    let mut lab = Lab::start();
    let (wave, other) = (wave(&lab, "Lunch at noon"), wave(&lab, "Dinner"));
    // While acme.lab is down its copy comes to say something else, with all checksums and hashes right.
    lab.kill(ACME);
    spoil(&lab, ACME, &wave, b"noon", b"nine");
    lab.restart(ACME);
    let spoilt = lab.conversation("bob", &wave);
    assert_eq!(spoilt["blips"][0]["text"], "Lunch at nine");
    assert_eq!(
        spoilt["hash"],
        lab.conversation("alice", &wave)["hash"],
        "the history shows nothing"
    );
    // The next thing that anybody writes shows it; bob writes into the wrong copy meanwhile, and nothing of it is lost.
    lab.run("alice", &["wave", "write", &wave, "who comes?"]);
    lab.run("bob", &["wave", "write", &wave, "I do"]);
    let mended = until(&lab, "bob", &wave, "the host's state", |at_bob| {
        at_bob["blips"].as_array().map_or(0, Vec::len) == 3
            && at_bob["trouble"].is_null()
            && at_bob["digest"] == lab.conversation("alice", &wave)["digest"]
    });
    let blips = mended["blips"].as_array().into_iter().flatten();
    assert!(blips.clone().any(|blip| blip["text"] == "Lunch at noon"), "{mended}");
    let log = log(&lab, ACME);
    assert!(
        log.contains("the documents differ at version") && log.contains("is mended"),
        "{log}"
    );
    goes_on(&lab, &wave);
    goes_on(&lab, &other);
}

#[test]
fn a_pinned_domain_is_believed_on_the_word_of_its_pin_alone() {
    let _alone = alone();
    let mut lab = Lab::start();
    let wave = wave(&lab, "Lunch");
    let config = folder(&lab, ACME).join("billow.toml");
    let plain = std::fs::read_to_string(&config).expect("a configuration");
    let pin = |lab: &mut Lab, certificate: &str| {
        lab.kill(ACME);
        let pinned = format!("{plain}\n[pins.\"initech.lab\"]\ncertificates = [\"{certificate}\"]\n");
        std::fs::write(&config, pinned).expect("it is ours");
        lab.restart(ACME);
    };
    // Pinned to somebody else's certificate: that the same authority vouches for both does not help.
    pin(&mut lab, "acme.lab.crt");
    let before = lab.conversation("bob", &wave);
    lab.run("alice", &["wave", "write", &wave, "do you believe me?"]);
    let refused = until(&lab, "alice", &wave, "a reason", |at_alice| {
        let peer = &at_alice["delivery"][0];
        peer["state"] != "delivered" && peer["state"] != "sending" && peer["reason"] != Value::Null
    });
    println!("{}", refused["delivery"][0]);
    for field in ["version", "hash", "digest"] {
        assert_eq!(lab.conversation("bob", &wave)[field], before[field]);
    }
    // Pinned to the authority, and to initech.lab's own certificate.
    for certificate in ["../ca.crt", "../initech.lab/initech.lab.crt"] {
        pin(&mut lab, certificate);
        lab.wait_for_equal("bob", &wave, &lab.conversation("alice", &wave), PATIENCE);
        goes_on(&lab, &wave);
    }
}

#[test]
fn b_049_a_peer_with_another_key_is_let_in_and_told_of_with_both_keys_also_over_restarts() {
    let _alone = alone();
    let mut lab = Lab::start();
    let wave = wave(&lab, "Lunch");
    let certificate = folder(&lab, INITECH).join("initech.lab.crt");
    let print = || {
        let pem = std::fs::read(&certificate).expect("a certificate");
        let leaf = &openssl::x509::X509::stack_from_pem(&pem).expect("PEM")[0];
        let digest = leaf.digest(openssl::hash::MessageDigest::sha256()).expect("SHA-256");
        digest
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect::<Vec<_>>()
            .join(":")
    };
    let until_logged = |lab: &Lab, words: &[&str]| {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let log = log(lab, ACME);
            if log.lines().any(|line| words.iter().all(|word| line.contains(word))) {
                return;
            }
            assert!(Instant::now() < give_up, "no {words:?} in\n{log}");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let old = print();
    until_logged(&lab, &["peer-key-first-seen", "initech.lab", &old]);
    // Both are away; initech.lab comes back with a certificate of an authority that acme.lab trusts as well.
    lab.kill(ACME);
    lab.kill(INITECH);
    let authority = Ca::create("Another").expect("an authority");
    let roots = folder(&lab, ACME).join("../ca.crt");
    let mut trusted = std::fs::read(&roots).expect("the demo's authority");
    trusted.extend(authority.certificate_pem().expect("PEM"));
    std::fs::write(&roots, trusted).expect("it is ours");
    let issued = authority.issue("initech.lab").expect("a certificate");
    issued.write(&folder(&lab, INITECH), "initech.lab").expect("it is ours");
    assert_ne!(old, print());
    lab.restart(ACME);
    lab.restart(INITECH);
    goes_on(&lab, &wave);
    until_logged(&lab, &["peer-key-changed", "initech.lab", &old, &print()]);
}

#[test]
fn b_044_a_certificate_is_replaced_while_running_never_by_one_without_its_key_and_may_expire() {
    let _alone = alone();
    let mut lab = Lab::start();
    let wave = wave(&lab, "Lunch");
    let own = folder(&lab, INITECH);
    let [certificate, key] = ["initech.lab.crt", "initech.lab.key"].map(|file| own.join(file));
    // What signs stays, in files of its own.
    lab.kill(INITECH);
    for (shown, signs) in [(&certificate, "signer.crt"), (&key, "signer.key")] {
        std::fs::copy(shown, own.join(signs)).expect("it is ours");
    }
    let text_of = std::fs::read_to_string(own.join("billow.toml")).expect("a configuration");
    let signs = "[federation]\nsigner_certificate = \"signer.crt\"\nsigner_key = \"signer.key\"\n";
    let text_of = text_of.replace("[federation]\n", signs);
    std::fs::write(own.join("billow.toml"), &text_of).expect("it is ours");
    lab.restart(INITECH);
    goes_on(&lab, &wave);
    let federation = &text_of[text_of.find("[federation]").expect("it federates")..];
    let address = federation
        .lines()
        .find_map(|line| line.strip_prefix("listen = "))
        .expect("it listens");
    let address = address.trim_matches('"').to_owned();
    let until_logged = |words: &str, times: usize| {
        let give_up = Instant::now() + Duration::from_secs(60);
        while log(&lab, INITECH).lines().filter(|line| line.contains(words)).count() < times {
            assert!(Instant::now() < give_up, "no {words:?} in\n{}", log(&lab, INITECH));
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let leaf = |pem: &[u8]| {
        let leaf = &openssl::x509::X509::stack_from_pem(pem).expect("PEM")[0];
        leaf.to_der().expect("DER")
    };
    let first = leaf(&std::fs::read(&certificate).expect("a certificate"));
    assert_eq!(shown(&address), first);
    // One that the key is not of: the old one stays, and the log says so loudly.
    let second = Ca::create("Another")
        .and_then(|ca| ca.issue("initech.lab"))
        .expect("a certificate");
    std::fs::write(&certificate, &second.chain_pem).expect("it is ours");
    until_logged("ERROR", 1);
    until_logged("the new certificate cannot be used; the old one is kept", 1);
    assert_eq!(shown(&address), first);
    goes_on(&lab, &wave);
    // With its key it is taken; what is open goes on.
    std::fs::write(&key, &second.key_pem).expect("it is ours");
    until_logged("peers are shown the new certificate", 1);
    assert_eq!(shown(&address), leaf(&second.chain_pem));
    goes_on(&lab, &wave);
    // One that ends in a moment: the server goes on when it has, with it and with the streams that are open.
    let now = || {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970");
        billow_model::Timestamp(i64::try_from(since.as_millis()).expect("not yet"))
    };
    let until = billow_model::Timestamp(now().0 + 15_000);
    let validity = billow_signing::Validity {
        from: billow_model::Timestamp(until.0 - 86_400_000),
        until,
    };
    let third = billow_signing::Authority::new("Short", validity)
        .and_then(|authority| authority.issue(&"initech.lab".parse().expect("a domain"), &[], validity))
        .expect("a certificate");
    std::fs::write(&certificate, &third.chain_pem).expect("it is ours");
    std::fs::write(&key, &third.key_pem).expect("it is ours");
    until_logged("peers are shown the new certificate", 2);
    while now() <= until {
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(shown(&address), leaf(&third.chain_pem));
    goes_on(&lab, &wave);
}

/// The certificate that a server shows in a handshake.
fn shown(address: &str) -> Vec<u8> {
    use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
    let mut builder = SslConnector::builder(SslMethod::tls_client()).expect("TLS");
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_alpn_protos(b"\x0bxmpp-server").expect("a protocol");
    let socket = std::net::TcpStream::connect(address).expect("it listens");
    let stream = builder.build().connect("initech.lab", socket).expect("a handshake");
    let certificate = stream.ssl().peer_certificate().expect("it has one");
    certificate.to_der().expect("DER")
}

/// Changes a text in a stopped server's documents of a wavelet, not in what was sealed of them.
fn spoil(lab: &Lab, server: usize, wave: &str, from: &[u8], to: &[u8]) {
    let data = folder(lab, server).join("data");
    let runtime = tokio::runtime::Builder::new_multi_thread().build().expect("a runtime");
    runtime.block_on(async {
        let store = billow_store::Store::open(&data).expect("the store of a stopped server");
        let name = format!("{wave}/~/conv+root").parse().expect("a wavelet");
        let (start, end) = (billow_model::Version::ZERO, billow_model::Version::new(1 << 40));
        let mut deltas = store.deltas(&name, start, end, usize::MAX).await.expect("they read");
        let mut spoilt = 0;
        for delta in &mut deltas {
            let mut ops = delta.ops.to_vec();
            while let Some(at) = ops.windows(from.len()).position(|window| window == from) {
                ops[at..at + to.len()].copy_from_slice(to);
                spoilt += 1;
            }
            delta.ops = ops.into();
        }
        assert_eq!(spoilt, 1, "the text is there once");
        let write = billow_store::WaveletWrite {
            joined: ["alice@initech.lab", "bob@acme.lab"]
                .map(|address| address.parse().expect("an address"))
                .to_vec(),
            deltas,
            replaces: true,
            ..billow_store::WaveletWrite::new(name)
        };
        store.append(write).await.expect("it is stored");
    });
}
