//! Two organisations for a test: `billow demo` in a folder of its own, driven through the `billow` commands as a person
//! would, and servers that can be killed and started again.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

const BILLOW: &str = env!("CARGO_BIN_EXE_billow");

/// Index of the server that hosts, in what the demo prints.
pub(crate) const INITECH: usize = 0;
/// Index of the other one.
pub(crate) const ACME: usize = 1;

/// A running demo with alice and bob signed in as the profiles `alice` and `bob`.
pub(crate) struct Lab {
    demo: Child,
    folder: TempDir,
    /// What the demo printed.
    pub(crate) ready: Value,
    /// Servers that the test started in place of the demo's.
    own: Vec<Option<Child>>,
}

impl Lab {
    /// Starts the demo and signs both people in.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut demo = Command::new(BILLOW)
            .args(["demo", "--json", "--dir"])
            .arg(folder.path().join("demo"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("the demo starts");
        let mut line = String::new();
        BufReader::new(demo.stdout.take().expect("piped"))
            .read_line(&mut line)
            .expect("the demo speaks");
        let ready: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("expected the ready line, got {line:?}"));
        assert_eq!(ready["ready"], true, "{ready}");
        let lab = Self {
            demo,
            folder,
            ready,
            own: vec![None, None],
        };
        for (server, profile) in [(INITECH, "alice"), (ACME, "bob")] {
            let server = &lab.ready["servers"][server];
            let (url, user) = (text(&server["url"]), &server["users"][0]);
            let output = lab
                .command(&["login", url, text(&user["address"]), "--profile", profile])
                .env("BILLOW_PASSWORD", text(&user["password"]))
                .output()
                .expect("login runs");
            assert!(output.status.success(), "login of {profile}: {}", stderr(&output));
        }
        lab
    }

    /// A `billow` command with the lab's profiles.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BILLOW);
        command
            .args(args)
            .env("XDG_CONFIG_HOME", self.folder.path().join("config"))
            .env_remove("BILLOW_PROFILE");
        command
    }

    /// Runs a command as a person, which must succeed, and reads its JSON.
    pub(crate) fn run(&self, profile: &str, args: &[&str]) -> Value {
        let output = self
            .command(args)
            .arg("--json")
            .env("BILLOW_PROFILE", profile)
            .output()
            .expect("the command runs");
        assert!(
            output.status.success(),
            "{profile}: billow {}: {}",
            args.join(" "),
            stderr(&output)
        );
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// The conversation wavelet of a wave as a person's server has it.
    pub(crate) fn conversation(&self, profile: &str, wave: &str) -> Value {
        let shown = self.run(profile, &["wave", "show", wave]);
        let wavelets = shown["wavelets"].as_array().cloned().unwrap_or_default();
        wavelets
            .into_iter()
            .find(|w| text(&w["name"]).ends_with("conv+root"))
            .unwrap_or_else(|| panic!("no conversation in {shown}"))
    }

    /// Waits until a person's server has a wave at this very version, hash and digest.
    pub(crate) fn wait_for_equal(&self, profile: &str, wave: &str, wanted: &Value, patience: Duration) {
        let give_up = Instant::now() + patience;
        loop {
            let output = self
                .command(&["wave", "show", wave, "--profile", profile, "--json"])
                .output()
                .expect("show runs");
            let shown: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
            let mut wavelets = shown["wavelets"].as_array().into_iter().flatten();
            let got = wavelets
                .find(|w| w["name"] == wanted["name"])
                .cloned()
                .unwrap_or(Value::Null);
            if ["version", "hash", "digest"]
                .iter()
                .all(|field| got[field] == wanted[field])
            {
                return;
            }
            assert!(
                Instant::now() < give_up,
                "after {patience:?} {profile} has\n{got}\nnot\n{wanted}\n{}",
                stderr(&output)
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Ends a server at once, as a power cut would.
    pub(crate) fn kill(&mut self, server: usize) {
        match self.own[server].take() {
            Some(mut child) => {
                child.kill().expect("it was running");
                child.wait().expect("it ended");
            }
            None => {
                let pid = self.ready["servers"][server]["pid"].to_string();
                let status = Command::new("kill").args(["-9", &pid]).status().expect("kill runs");
                assert!(status.success(), "the server of the demo was running");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    /// Starts a server that was killed, with the configuration it had; waits until it answers.
    pub(crate) fn restart(&mut self, server: usize) {
        let config = PathBuf::from(text(&self.ready["servers"][server]["config"]));
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(config.with_file_name("billow.log"))
            .expect("a log");
        let mut child = Command::new(BILLOW)
            .args(["serve", "--config"])
            .arg(&config)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped"))
            .read_line(&mut line)
            .expect("the server speaks");
        assert!(
            !line.is_empty(),
            "the server ended at once; its log: {}",
            config.with_file_name("billow.log").display()
        );
        self.own[server] = Some(child);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in self.own.iter_mut().flatten() {
            // Both may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = Command::new("kill")
            .args(["-TERM", &self.demo.id().to_string()])
            .status();
        let _ = self.demo.wait();
        if std::thread::panicking() {
            for server in self.ready["servers"].as_array().into_iter().flatten() {
                let log = PathBuf::from(text(&server["config"])).with_file_name("billow.log");
                let log = std::fs::read_to_string(log).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(30).collect();
                eprintln!(
                    "-- log of {}:\n{}",
                    server["domain"],
                    tail.into_iter().rev().collect::<Vec<_>>().join("\n")
                );
            }
        }
    }
}

/// A JSON string's text.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
