//! From a domain to a server that others believe: `billow init`, `billow cert`, `billow dns records` and the fetching of
//! certificates, as an operator uses them, looked at with OpenSSL's own tools.

#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "set_up/acme.rs"]
mod acme;
#[path = "set_up/certificates.rs"]
mod certificates;
#[path = "set_up/records.rs"]
mod records;
#[path = "set_up/server.rs"]
mod server;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use server::Server;

/// A `billow` command in a folder.
fn billow(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_billow"))
        .args(args)
        .current_dir(folder)
        .env("XDG_CONFIG_HOME", folder.join("profiles"))
        .env_remove("BILLOW_PROFILE")
        .env_remove("BILLOW_LOG")
        .stdin(Stdio::null())
        .output()
        .expect("the command runs")
}

/// The same, which must succeed; what it printed.
fn done(folder: &Path, args: &[&str]) -> String {
    let output = billow(folder, args);
    assert!(output.status.success(), "billow {}: {}", args.join(" "), both(&output));
    String::from_utf8(output.stdout).expect("the output is text")
}

/// The same, which must fail with exit code 1; all that it printed.
fn refused(folder: &Path, args: &[&str]) -> String {
    let output = billow(folder, args);
    assert_eq!(
        output.status.code(),
        Some(1),
        "billow {}: {}",
        args.join(" "),
        both(&output)
    );
    both(&output)
}

/// OpenSSL's command; whether it succeeded and all that it printed.
fn openssl(folder: &Path, args: &[&str]) -> (bool, String) {
    let output = Command::new("openssl")
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("openssl is installed");
    (output.status.success(), both(&output))
}

fn both(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

const ANY_PORT: [&str; 4] = ["--http", "127.0.0.1:0", "--listen", "127.0.0.1:0"];

fn init(folder: &Path, args: &[&str]) -> String {
    done(folder, &[&["init", "--yes"], args, &ANY_PORT].concat())
}

#[test]
fn s_04_a_domain_is_validated_and_may_be_of_any_script() {
    let dir = tempfile::tempdir().unwrap();
    let said = refused(dir.path(), &["init", "--yes", "not a domain"]);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("\"not a domain\" is not a domain"), "{said}");
    assert!(!dir.path().join("billow.toml").exists());

    let one = dir.path().join("one");
    init(dir.path(), &["initech.test", "--dir", "one"]);
    done(&one, &["config", "check"]);
    assert_eq!(Server::start(&one).domain, "initech.test");

    let two = dir.path().join("two");
    init(dir.path(), &["bücher.test", "--dir", "two"]);
    let config = std::fs::read_to_string(two.join("billow.toml")).unwrap();
    assert!(config.contains("domain = \"xn--bcher-kva.test\""), "{config}");
    assert!(two.join("xn--bcher-kva.test.key").exists());
    assert_eq!(Server::start(&two).domain, "xn--bcher-kva.test");
}

#[test]
fn init_says_what_is_needed_elsewhere_and_overwrites_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["initech.test", "--address", "203.0.113.7"];
    let said = init(dir.path(), &args);
    for wanted in [
        "_xmpp-server._tcp.initech.test. 3600 IN SRV 10 0 5269 wave.initech.test.\n",
        "wave.initech.test. 3600 IN A 203.0.113.7\n",
        "priority  10\n",
        "can never be changed",
        "let TCP port 5269 in",
    ] {
        assert!(said.contains(wanted), "{wanted:?} is missing in:\n{said}");
    }
    let files = ["billow.toml", "initech.test.crt", "initech.test.key"];
    let read = || files.map(|name| std::fs::read(dir.path().join(name)).unwrap());
    let before = read();
    let again = init(dir.path(), &args);
    assert!(
        again.contains("nothing is changed") && again.contains("IN SRV 10 0 5269"),
        "{again}"
    );
    let other = refused(dir.path(), &["init", "--yes", "acme.test"]);
    assert!(other.contains("is for initech.test"), "{other}");
    // A lost configuration does not cost the keys.
    std::fs::remove_file(dir.path().join("billow.toml")).unwrap();
    let anew = init(dir.path(), &args);
    assert!(anew.contains("initech.test.crt is there already and is used"), "{anew}");
    assert_eq!(read(), before);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(dir.path().join("initech.test.key"))
            .unwrap()
            .permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn s_03_federation_is_switched_on_later_and_what_was_there_stays() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    init(folder, &["initech.test", "--no-federation"]);
    let mut server = Server::start(folder);
    assert_eq!(server.federation, None);
    let invitation = server.invitation();
    let login = Command::new(env!("CARGO_BIN_EXE_billow"))
        .args([
            "login",
            &server.url,
            "alice@initech.test",
            "--register",
            "--invitation",
            &invitation,
        ])
        .env("XDG_CONFIG_HOME", folder.join("profiles"))
        .env("BILLOW_PASSWORD", "correct horse battery")
        .output()
        .unwrap();
    assert!(login.status.success(), "{}", both(&login));
    let made = done(folder, &["wave", "new", "Before federation", "--json"]);
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let wave = made["wave"].as_str().unwrap();
    let port = server.http_port();
    server.stop();

    // The session of the command line is for the server at this port.
    let config = std::fs::read_to_string(folder.join("billow.toml")).unwrap();
    std::fs::write(
        folder.join("billow.toml"),
        config.replacen("127.0.0.1:0", &format!("127.0.0.1:{port}"), 1),
    )
    .unwrap();
    let said = init(folder, &["--federation"]);
    assert!(said.contains("federation is on"), "{said}");
    assert!(folder.join("billow.toml.old").exists());
    done(folder, &["config", "check"]);
    let server = Server::start(folder);
    assert!(server.federation.is_some());
    let shown = done(folder, &["wave", "show", wave]);
    assert!(shown.contains("Before federation"), "{shown}");
}
