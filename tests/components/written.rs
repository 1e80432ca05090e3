//! `billow xmpp-config`: what it writes, keeps and says.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

fn run(folder: &Path, args: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_billow"))
        .current_dir(folder)
        .arg("xmpp-config")
        .args(args)
        .output();
    output.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const CONFIG: &str = "domain = \"acme.lab\"\n[federation]\nenabled = true\nsigner_certificate = \"a.crt\"\nsigner_key = \"a.key\"\n\
    [federation.component]\naddress = \"127.0.0.1:5348\"\nname = \"wave.acme.lab\"\nsecret_file = \"component.secret\"\n";

#[test]
fn what_is_written_is_lua_with_a_strong_secret_and_keeps_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    fs::write(dir.join("billow.toml"), CONFIG).unwrap();
    fs::write(dir.join("wave.cfg.lua"), "-- before").unwrap();
    let first = run(dir, &["prosody", "--out", "wave.cfg.lua"]);
    assert!(first.status.success(), "{}", text(&first.stderr));
    assert_eq!(fs::read_to_string(dir.join("wave.cfg.lua.old")).unwrap(), "-- before");
    let secret = fs::read_to_string(dir.join("component.secret")).unwrap();
    assert!(secret.trim().len() == 64 && secret.trim().bytes().all(|byte| byte.is_ascii_hexdigit()));
    let mode = |name: &str| fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("component.secret"), mode("wave.cfg.lua")), (0o600, 0o640));
    let written = fs::read_to_string(dir.join("wave.cfg.lua")).unwrap();
    for line in [
        "component_ports = { 5348 }",
        "Component \"wave.acme.lab\"",
        &format!("component_secret = \"{}\"", secret.trim()),
    ] {
        assert!(written.contains(line), "{written}");
    }
    let checked = Command::new("luac5.4").arg("-p").arg(dir.join("wave.cfg.lua")).output();
    let checked = checked.expect("luac5.4 comes with lua5.4; BILLOW_SETUP=test tools/setup installs it");
    assert!(checked.status.success(), "{}", text(&checked.stderr));

    // The same secret again, for whichever server, until a new one is wanted; the old one is kept.
    let again = run(dir, &["ejabberd"]);
    assert!(text(&again.stdout).contains(secret.trim()), "{}", text(&again.stdout));
    assert!(text(&run(dir, &["openfire"]).stdout).contains("xmpp.component.socket.port = 5348"));
    let renewed = run(dir, &["prosody", "--new-secret"]);
    assert!(renewed.status.success() && !text(&renewed.stdout).contains(secret.trim()));
    assert_eq!(fs::read_to_string(dir.join("component.secret.old")).unwrap(), secret);
}

#[test]
fn a_configuration_without_a_component_is_told_what_to_add() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("billow.toml"), "domain = \"acme.lab\"\n").unwrap();
    let refused = run(folder.path(), &["prosody"]);
    assert_eq!(refused.status.code(), Some(1));
    let words = text(&refused.stderr);
    assert!(
        words.contains("[federation.component]") && words.contains("name = \"wave.acme.lab\""),
        "{words}"
    );
    assert!(!folder.path().join("component.secret").exists());
}
