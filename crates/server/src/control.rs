//! Control of a running server: what its operator asks it and has it do.
//!
//! There are two doors to the same routes. `control.sock` in the data folder is for the commands on this machine: whoever
//! owns the data may administer it, so the socket is its owner's alone. `/api/admin` is for signed-in administrators
//! (`[accounts] administrators`), whom the web side lets in. A route answers in JSON; a refusal is one sentence.

mod ask;
mod client;
mod peers;
mod policy;
mod quarantine;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::serve::Listener;
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};

use crate::web::{App, stopped};

pub use client::Client;

/// The name of the socket in the data folder.
pub const SOCKET: &str = "control.sock";
/// The longest path that a Unix socket can have (`sun_path` of unix(7), without the NUL at its end).
pub const PATH_MAX: usize = 107;
/// How long requests under way may go on when the server stops.
const FAREWELL: Duration = Duration::from_secs(1);

/// The routes of both doors.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .merge(peers::routes())
        .merge(ask::routes())
        .merge(policy::routes())
        .merge(quarantine::routes())
}

/// The door in the data folder. The file goes when this is dropped.
pub(crate) struct Door {
    listener: Option<UnixListener>,
    path: PathBuf,
}

impl Door {
    /// Opens it. The folder must be ours alone already: a socket that lies there is from a server that has ended.
    pub(crate) fn open(data_dir: &Path) -> anyhow::Result<Self> {
        let path = socket_path(data_dir)?;
        let failed = || format!("{} cannot be made", path.display());
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).with_context(failed),
            _ => {}
        }
        let listener = UnixListener::bind(&path).with_context(failed)?;
        let door = Self {
            listener: Some(listener),
            path: path.clone(),
        };
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, owner_only).with_context(failed)?;
        Ok(door)
    }

    /// Answers until the server stops.
    pub(crate) async fn serve(mut self, app: Arc<App>) {
        let Some(listener) = self.listener.take() else { return };
        let mut stopping = app.stopping.clone();
        let mut until = stopping.clone();
        let router = routes().with_state(app);
        let serving =
            axum::serve(OwnersOnly(listener), router).with_graceful_shutdown(async move { stopped(&mut until).await });
        let gone = async move {
            stopped(&mut stopping).await;
            tokio::time::sleep(FAREWELL).await;
        };
        tokio::select! {
            _ = serving.into_future() => {}
            () = gone => {}
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Where the socket of a data folder is, if a socket can be there.
fn socket_path(data_dir: &Path) -> anyhow::Result<PathBuf> {
    let path = std::path::absolute(data_dir)
        .unwrap_or_else(|_| data_dir.to_owned())
        .join(SOCKET);
    let length = path.as_os_str().len();
    anyhow::ensure!(
        length <= PATH_MAX,
        "{} has {length} bytes and a Unix socket's path at most {PATH_MAX}: move data_dir to a shorter path",
        path.display()
    );
    Ok(path)
}

/// Lets in who runs the server and the superuser; the mode of the file says the same, from the moment when it is set.
struct OwnersOnly(UnixListener);

impl Listener for OwnersOnly {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let us = std::fs::metadata("/proc/self").map(|process| std::os::unix::fs::MetadataExt::uid(&process));
        loop {
            let (stream, address) = Listener::accept(&mut self.0).await;
            match (stream.peer_cred(), &us) {
                (Ok(peer), Ok(us)) if peer.uid() != *us && peer.uid() != 0 => {
                    tracing::warn!(uid = peer.uid(), "somebody else came to the control socket");
                }
                _ => return (stream, address),
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_of_a_server_that_has_ended_is_replaced_and_ours_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SOCKET);
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "it was left behind");
        let door = Door::open(dir.path()).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        assert!(UnixStream::connect(&path).await.is_ok());
        drop(door);
        assert!(!path.exists());
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_told() {
        let error = socket_path(Path::new(&format!("/{}", "x".repeat(120)))).unwrap_err();
        assert!(error.to_string().contains("at most 107"), "{error}");
    }
}
