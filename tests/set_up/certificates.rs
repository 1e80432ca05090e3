//! Certificates as OpenSSL sees them: made, asked for, put in place, shown by a running server, and refused.

use std::path::Path;

use billow_model::Timestamp;
use billow_signing::{Authority, PrivateKey, Signer, TrustRoots, Verifier};

use super::server::{Server, until};
use super::{done, init, openssl, refused};

/// Whether a running server's certificate leads to that authority, and what OpenSSL says.
fn seen(folder: &Path, server: &Server, root: &str) -> String {
    let address = server.federation.expect("it federates").to_string();
    let args = [
        "s_client",
        "-connect",
        &address,
        "-starttls",
        "xmpp-server",
        "-xmpphost",
        "initech.test",
        "-servername",
        "initech.test",
        "-CAfile",
        root,
        "-verify_hostname",
        "initech.test",
    ];
    openssl(folder, &args).1
}

/// An authority, one below it, and a certificate for a request by the lower one, made by OpenSSL.
fn lab_authority(folder: &Path, request: &str) {
    std::fs::write(
        folder.join("sub.ext"),
        "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n",
    )
    .unwrap();
    let leaf = "basicConstraints=critical,CA:FALSE\nsubjectAltName=DNS:initech.test,DNS:wave.initech.test\n";
    std::fs::write(folder.join("leaf.ext"), leaf).unwrap();
    for args in [
        "req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root.pem -subj /CN=Root -days 30",
        "req -newkey rsa:2048 -nodes -keyout sub.key -out sub.csr -subj /CN=Below",
        "x509 -req -in sub.csr -CA root.pem -CAkey root.key -CAcreateserial -extfile sub.ext -days 30 -out sub.pem",
        &format!(
            "x509 -req -in {request} -CA sub.pem -CAkey sub.key -CAcreateserial -extfile leaf.ext -days 20 -out leaf.pem"
        ),
    ] {
        let (good, said) = openssl(folder, &args.split(' ').collect::<Vec<_>>());
        assert!(good, "openssl {args}: {said}");
    }
}

#[test]
fn s_07_a_self_signed_certificate_names_the_domain_and_its_wave_service() {
    let dir = tempfile::tempdir().unwrap();
    for kind in ["rsa", "ec"] {
        done(
            dir.path(),
            &["cert", "self-signed", "initech.test", "--type", kind, "--dir", kind],
        );
        let folder = dir.path().join(kind);
        let (good, said) = openssl(
            &folder,
            &["x509", "-noout", "-ext", "subjectAltName", "-in", "initech.test.crt"],
        );
        assert!(
            good && said.contains("DNS:initech.test, DNS:wave.initech.test"),
            "{said}"
        );
        let verify = [
            "verify",
            "-CAfile",
            "initech.test.crt",
            "-x509_strict",
            "initech.test.crt",
        ];
        let (good, said) = openssl(&folder, &verify);
        assert!(good, "{said}");
        let again = ["cert", "self-signed", "initech.test", "--dir", kind];
        assert!(refused(dir.path(), &again).contains("nothing is overwritten"));
    }
    done(dir.path(), &["cert", "ca", "initech.test", "acme.test", "--dir", "own"]);
    let (good, said) = openssl(
        &dir.path().join("own"),
        &["verify", "-CAfile", "ca.crt", "initech.test.crt", "acme.test.crt"],
    );
    assert!(good, "{said}");
}

#[test]
fn s_08_a_pair_is_shown_and_a_bad_one_is_told_by_the_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    init(folder, &["initech.test", "--ca"]);
    let said = done(folder, &["cert", "check"]);
    for wanted in [
        "subject   CN=initech.test\n",
        "issuer    CN=Wave authority\n",
        "names     initech.test, wave.initech.test\n",
        "valid     from ",
        "the key matches\n",
        "tls: ",
        "signer: ",
    ] {
        assert!(said.contains(wanted), "{wanted:?} is missing in:\n{said}");
    }
    done(folder, &["cert", "ca", "acme.test", "other.test"]);
    let check = |certificate: &str, key: &str, more: &[&str]| {
        let args = [
            "cert",
            "check",
            "--certificate",
            certificate,
            "--key",
            key,
            "--root",
            "ca.crt",
            "--domain",
        ];
        refused(folder, &[&args, more].concat())
    };
    let foreign = check("initech.test.crt", "acme.test.key", &["initech.test"]);
    assert!(
        foreign.contains("the key does not go with the certificate"),
        "{foreign}"
    );
    let name = check("acme.test.crt", "acme.test.key", &["initech.test"]);
    assert!(name.contains("not for initech.test: it names acme.test"), "{name}");
    done(folder, &["cert", "ca", "late.test", "--days", "0"]);
    let over = check("late.test.crt", "late.test.key", &["late.test"]);
    assert!(over.contains("expired on"), "{over}");
    done(
        folder,
        &["cert", "self-signed", "initech.test", "--type", "ec", "--dir", "ec"],
    );
    let curve = check(
        "ec/initech.test.crt",
        "ec/initech.test.key",
        &["initech.test", "--role", "signer"],
    );
    assert!(curve.contains("deltas are signed with RSA only"), "{curve}");

    done(folder, &["cert", "csr", "initech.test", "--dir", "csr"]);
    lab_authority(&folder.join("csr"), "initech.test.csr");
    let root = ["initech.test", "--root", "csr/root.pem"];
    let missing = check("csr/leaf.pem", "csr/initech.test.key", &root);
    assert!(
        missing.contains("an intermediate certificate is missing: that of CN=Below"),
        "{missing}"
    );
}

#[test]
fn s_09_a_request_is_answered_installed_in_any_order_and_shown_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    init(folder, &["initech.test", "--self-signed"]);
    done(folder, &["cert", "csr", "initech.test", "--dir", "new"]);
    let new = folder.join("new");
    let (good, said) = openssl(&new, &["req", "-verify", "-noout", "-text", "-in", "initech.test.csr"]);
    assert!(
        good && said.contains("CN = initech.test") && said.contains("DNS:wave.initech.test"),
        "{said}"
    );
    lab_authority(&new, "initech.test.csr");
    let config = std::fs::read_to_string(folder.join("billow.toml")).unwrap();
    std::fs::write(
        folder.join("billow.toml"),
        config.replace("[\"initech.test.crt\"]", "[\"initech.test.crt\", \"new/root.pem\"]"),
    )
    .unwrap();
    let server = Server::start(folder);
    let before = seen(folder, &server, "new/root.pem");
    assert!(!before.contains("Verify return code: 0"), "{before}");

    // The leaf alone would be refused by others; nothing changes.
    let key = ["--key", "new/initech.test.key"];
    let old = std::fs::read(folder.join("initech.test.crt")).unwrap();
    let alone = refused(folder, &[&["cert", "install", "new/leaf.pem"], &key[..]].concat());
    assert!(alone.contains("Nothing is changed"), "{alone}");
    assert_eq!(std::fs::read(folder.join("initech.test.crt")).unwrap(), old);

    done(
        folder,
        &[
            &["cert", "install", "new/root.pem", "new/sub.pem", "new/leaf.pem"],
            &key[..],
        ]
        .concat(),
    );
    assert_eq!(std::fs::read(folder.join("initech.test.crt.old")).unwrap(), old);
    let (good, said) = openssl(
        folder,
        &[
            "verify",
            "-CAfile",
            "new/root.pem",
            "-untrusted",
            "new/sub.pem",
            "initech.test.crt",
        ],
    );
    assert!(good, "{said}");
    for name in ["initech.test.crt", "initech.test.key", "initech.test.key.old"] {
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(folder.join(name)).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let good = || seen(folder, &server, "new/root.pem").contains("Verify return code: 0 (ok)");
    until("the server shows the new certificate", good, || server.log());
    // It signs with the new key, too, and says for how long.
    until(
        "the new certificate's days are told",
        || {
            let page = server.page("/metrics");
            ["tls", "signer"]
                .iter()
                .all(|role| page.contains(&format!("billow_certificate_days_left{{kind=\"{role}\"}} 19\n")))
        },
        || server.page("/metrics"),
    );
    assert!(server.log().contains("expires in 19 days"), "{}", server.log());
    done(folder, &["cert", "check"]);
    done(folder, &["config", "check"]);
}

#[test]
fn s_10_an_encrypted_key_is_opened_with_a_pass_phrase_file() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    init(folder, &["initech.test", "--ca"]);
    std::fs::write(folder.join("phrase"), "open sesame\n").unwrap();
    std::fs::set_permissions(
        folder.join("phrase"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let args = [
        "pkcs8",
        "-topk8",
        "-in",
        "initech.test.key",
        "-out",
        "sealed.key",
        "-passout",
        "file:phrase",
    ];
    let (good, said) = openssl(folder, &args);
    assert!(good, "{said}");
    // As long as the configuration names no pass phrase, the server could not open it.
    let early = refused(folder, &["cert", "install", "initech.test.crt", "--key", "sealed.key"]);
    assert!(early.contains("key_passphrase_file"), "{early}");
    let config = std::fs::read_to_string(folder.join("billow.toml")).unwrap();
    let config = config.replace("trust_roots", "key_passphrase_file = \"phrase\"\ntrust_roots");
    std::fs::write(folder.join("billow.toml"), &config).unwrap();
    done(folder, &["cert", "install", "initech.test.crt", "--key", "sealed.key"]);
    assert!(
        std::fs::read_to_string(folder.join("initech.test.key"))
            .unwrap()
            .contains("ENCRYPTED")
    );
    done(folder, &["config", "check"]);
    let server = Server::start(folder);
    let said = seen(folder, &server, "ca.crt");
    assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
    drop(server);
    std::fs::write(folder.join("phrase"), "open barley\n").unwrap();
    let wrong = refused(folder, &["config", "check"]);
    assert!(wrong.contains("the pass phrase does not open the key"), "{wrong}");
    // A request for an authority, with an encrypted key from the start.
    let request = ["cert", "csr", "acme.test", "--passphrase-file", "phrase"];
    done(folder, &request);
    let args = ["pkey", "-in", "acme.test.key", "-passin", "file:phrase", "-noout"];
    assert!(openssl(folder, &args).0);
}

#[test]
fn s_11_the_critical_extension_of_wave_is_let_pass_in_a_signer_and_not_in_tls() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let authority = Authority::new(
        "Lab",
        billow_signing::Validity {
            from: Timestamp(0),
            until: Timestamp(4_000_000_000_000),
        },
    )
    .unwrap();
    std::fs::write(folder.join("root.pem"), authority.certificate_pem().unwrap()).unwrap();
    std::fs::write(folder.join("root.key"), authority.key().to_pem().unwrap()).unwrap();
    done(folder, &["cert", "csr", "initech.test"]);
    let make = |oid: &str| {
        let extensions = format!("subjectAltName=DNS:initech.test,DNS:wave.initech.test\n{oid}=critical,DER:0500\n");
        std::fs::write(folder.join("leaf.ext"), extensions).unwrap();
        let args = "x509 -req -in initech.test.csr -CA root.pem -CAkey root.key -CAcreateserial -extfile leaf.ext -days 20 -out leaf.pem";
        let (good, said) = openssl(folder, &args.split(' ').collect::<Vec<_>>());
        assert!(good, "{said}");
    };
    let check = [
        "cert",
        "check",
        "--certificate",
        "leaf.pem",
        "--key",
        "initech.test.key",
        "--domain",
        "initech.test",
        "--root",
        "root.pem",
        "--role",
    ];
    let verifies = || {
        let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
        let key = PrivateKey::from_pem(&read("initech.test.key"), None).unwrap();
        let signer = Signer::from_pem(
            "initech.test".parse().unwrap(),
            &key.to_pem().unwrap(),
            &read("leaf.pem"),
        )
        .unwrap();
        let roots = TrustRoots::none().with_pem(&read("root.pem")).unwrap();
        Verifier::new(roots).check(signer.info(), super::server::now())
    };
    make("1.3.6.1.4.1.11129.2.1.1");
    let said = done(folder, &[&check[..], &["signer"]].concat());
    assert!(said.contains("critical  1.3.6.1.4.1.11129.2.1.1"), "{said}");
    let said = refused(folder, &[&check[..], &["tls"]].concat());
    assert!(
        said.contains("use the pair as the signer's, and another for TLS"),
        "{said}"
    );
    let (good, said) = openssl(folder, &["verify", "-CAfile", "root.pem", "leaf.pem"]);
    assert!(!good && said.contains("unhandled critical extension"), "{said}");
    verifies().unwrap();
    // Any other is refused for both.
    make("1.3.6.1.4.1.11129.2.1.2");
    for role in ["signer", "tls"] {
        let said = refused(folder, &[&check[..], &[role]].concat());
        assert!(said.contains("nobody understands it"), "{said}");
    }
    let error = verifies().unwrap_err();
    assert!(error.to_string().contains("critical"), "{error}");
}
