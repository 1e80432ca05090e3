//! A server as `billow serve` runs it in a folder with a billow.toml.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// How long something may take on a machine that does much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running server; ends with the value.
pub(crate) struct Server {
    process: Child,
    said: BufReader<ChildStdout>,
    log: PathBuf,
    pub(crate) domain: String,
    pub(crate) url: String,
    pub(crate) federation: Option<SocketAddr>,
}

impl Server {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[])
    }

    /// The same, with variables of the environment.
    pub(crate) fn start_with(folder: &Path, variables: &[(&str, &str)]) -> Self {
        let log = folder.join("billow.log");
        let mut process = Command::new(env!("CARGO_BIN_EXE_billow"))
            .args(["serve", "--config", "billow.toml"])
            .current_dir(folder)
            .env_remove("BILLOW_LOG")
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("a log can be written"))
            .spawn()
            .expect("the server starts");
        let mut said = BufReader::new(process.stdout.take().expect("piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("the server speaks");
        let told = || std::fs::read_to_string(&log).unwrap_or_default();
        let Some((domain, places)) = line.trim().split_once(" is at ") else {
            panic!("the server did not start: {line:?} {}", told());
        };
        let mut places = places.split(", ");
        let url = places.next().expect("an address").to_owned();
        let federation = places.find_map(|place| place.strip_prefix("for other domains at "));
        let federation = federation.map(|address| address.parse().expect("an address"));
        let domain = domain.to_owned();
        Self {
            process,
            said,
            log,
            domain,
            url,
            federation,
        }
    }

    /// What it says, after its first line, as long as nobody has an account.
    pub(crate) fn invitation(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("the server speaks");
        let after = line
            .split("invitation ")
            .nth(1)
            .unwrap_or_else(|| panic!("no invitation in {line:?}"));
        after.split(' ').next().unwrap_or_default().to_owned()
    }

    /// Waits until it says, in a further line, where other servers reach it; it may be at another port for browsers, too.
    pub(crate) fn federates(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("the server speaks");
        let (_, places) = line.trim().split_once(" is at ").unwrap_or_default();
        let mut places = places.split(", ");
        places.next().unwrap_or_default().clone_into(&mut self.url);
        let place = places.find_map(|place| place.strip_prefix("for other domains at "));
        place
            .unwrap_or_else(|| panic!("no address in {line:?}: {}", self.log()))
            .to_owned()
    }

    pub(crate) fn http_port(&self) -> u16 {
        let port = self.url.rsplit(':').next().expect("a port");
        port.parse().expect("a port")
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until the log says something.
    pub(crate) fn wait_for_log(&self, wanted: &str) {
        until(
            &format!("the log says {wanted:?}"),
            || self.log().contains(wanted),
            || self.log(),
        );
    }

    /// A page of it, over plain HTTP.
    pub(crate) fn page(&self, path: &str) -> String {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.http_port())).expect("it listens");
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        .expect("it reads");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("it answers");
        page
    }

    /// Stops it as an operator does.
    pub(crate) fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        self.process.wait().expect("it ends");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until something holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool, otherwise: impl Fn() -> String) {
    let give_up = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < give_up, "waited in vain until {what}: {}", otherwise());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The time of day.
pub(crate) fn now() -> billow_model::Timestamp {
    let since = std::time::UNIX_EPOCH.elapsed().expect("the clock is right");
    billow_model::Timestamp(since.as_millis().try_into().expect("within an age"))
}
