//! Sentences of the federation page that are about a server as a whole, shown on the built program.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const BILLOW: &str = env!("CARGO_BIN_EXE_billow");
/// How long a server may take on a busy machine; what it took is printed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process that ends with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The local ports of the sockets that listen (TCP) or are bound (UDP) in the network of a process, as proc(5) has them.
fn open_ports(process: u32) -> Vec<(String, u16)> {
    const LISTENS: &str = "0A";
    let mut ports = Vec::new();
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let text = std::fs::read_to_string(format!("/proc/{process}/net/{table}")).expect("proc is mounted");
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let port = fields[1].rsplit(':').next().expect("address:port");
            if table.starts_with("udp") || fields[3] == LISTENS {
                ports.push((table.to_owned(), u16::from_str_radix(port, 16).expect("hexadecimal")));
            }
        }
    }
    ports
}

/// A network of its own with nothing but loopback in it, in which `script` runs.
fn in_a_network_of_its_own(script: &str, folder: &Path) -> Child {
    Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--", "sh", "-c"])
        .arg(format!("ip link set lo up && {script}"))
        .current_dir(folder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare of util-linux runs")
}

#[test]
fn s_01_a_server_alone_needs_no_configuration_and_opens_one_port() {
    let folder = tempfile::tempdir().expect("a folder");
    let begun = Instant::now();
    let mut server = Ended(in_a_network_of_its_own(&format!("exec {BILLOW} serve"), folder.path()));
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().expect("piped"))
        .read_line(&mut line)
        .expect("it speaks");
    assert!(
        line.contains("http://127.0.0.1:9898"),
        "expected the address, got {line:?}"
    );
    let process = server.0.id();
    let healthy = || {
        let ask = "exec 3<>/dev/tcp/127.0.0.1/9898; printf 'GET /healthz HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3; cat <&3";
        let answer = Command::new("nsenter")
            .args(["--user", "--preserve-credentials", "--net", "--target"])
            .arg(process.to_string())
            .args(["bash", "-c", ask])
            .output()
            .expect("nsenter of util-linux runs");
        String::from_utf8_lossy(&answer.stdout).into_owned()
    };
    let mut answer = healthy();
    while !answer.contains("200 OK") {
        assert!(begun.elapsed() < PATIENCE, "it is not well: {answer:?}");
        std::thread::sleep(Duration::from_millis(50));
        answer = healthy();
    }
    println!("FIGURE alone healthy_ms={}", begun.elapsed().as_millis());
    assert_eq!(open_ports(process), [("tcp".to_owned(), 9898)], "another port is open");
    let made: Vec<_> = std::fs::read_dir(folder.path())
        .expect("it is there")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(made, ["billow-data"], "its data is all that it made");
}
