//! A client's own carets on their way out: at most so many a second, the latest always.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use billow_model::WaveletName;

use crate::clock;
use crate::wavelets::Caret;

/// The shortest time between two carets of one editor on one wavelet.
const PAUSE: Duration = Duration::from_millis(50);
/// Editors that one connection may have carets of.
const EDITORS_MAX: usize = 64;

/// The carets of one connection.
#[derive(Default)]
pub(super) struct Carets {
    editors: HashMap<(WaveletName, Arc<str>), Editor>,
}

struct Editor {
    sent: Instant,
    last: Caret,
    /// Whether the last one still waits to be sent.
    waits: bool,
}

impl Carets {
    /// A caret has moved: gives it back to be sent now, or keeps it for a moment.
    pub(super) fn now_or_later(&mut self, name: &WaveletName, caret: Caret) -> Option<Caret> {
        let now = clock::tick();
        let key = (name.clone(), Arc::clone(&caret.session));
        if self.editors.len() >= EDITORS_MAX && !self.editors.contains_key(&key) {
            return None;
        }
        let before = self.editors.get(&key);
        let waits = before.is_some_and(|before| now.duration_since(before.sent) < PAUSE);
        let sent = before.filter(|_| waits).map_or(now, |before| before.sent);
        let send = (!waits).then(|| caret.clone());
        self.editors.insert(
            key,
            Editor {
                sent,
                last: caret,
                waits,
            },
        );
        send
    }

    /// Waits until one that was kept is due.
    pub(super) async fn next(&mut self) -> (WaveletName, Caret) {
        let due = self
            .editors
            .iter()
            .filter(|(_, editor)| editor.waits)
            .min_by_key(|(_, editor)| editor.sent);
        let Some((key, editor)) = due else {
            return std::future::pending().await;
        };
        let (key, at) = (key.clone(), editor.sent + PAUSE);
        tokio::time::sleep_until(at.into()).await;
        let editor = self
            .editors
            .get_mut(&key)
            .expect("the carets are borrowed, so nobody has removed it");
        (editor.sent, editor.waits) = (at, false);
        (key.0, editor.last.clone())
    }

    /// Nothing more about this wavelet.
    pub(super) fn forget(&mut self, name: &WaveletName) {
        self.editors.retain(|(other, _), _| other != name);
    }

    /// All of them, gone.
    pub(super) fn gone(&mut self) -> Vec<(WaveletName, Caret)> {
        let editors = std::mem::take(&mut self.editors).into_iter();
        editors
            .filter(|(_, editor)| editor.last.document.is_some())
            .map(|((name, _), editor)| {
                (
                    name,
                    Caret {
                        document: None,
                        typing: false,
                        ..editor.last
                    },
                )
            })
            .collect()
    }
}
