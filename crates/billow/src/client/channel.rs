//! One document kept in step with the server while it is edited here and there.
//!
//! At most one delta is in flight. What the server has applied but the person at this end has not been shown yet is
//! *hidden*: operations that fit the shown state one after the other. A person who sees at once has none; a replayed
//! author is shown others' changes exactly when the recorded one saw them.

use std::collections::VecDeque;

use billow_model::doc::transform::{TransformError, transform};
use billow_model::{DocOp, Version};

/// The machine. Laws: shown + hidden = server's state + in flight (transformed), whatever happens.
#[derive(Debug, Default)]
pub struct Channel {
    version: Version,
    in_flight: Option<InFlight>,
    hidden: VecDeque<DocOp>,
}

/// A submission that the server has not answered. It never changes: a resend is the same to the letter.
#[derive(Debug, Clone)]
pub struct InFlight {
    /// What it was submitted against.
    pub version: Version,
    /// What was submitted.
    pub op: DocOp,
    /// The same, carried past what the server applied since.
    moved: DocOp,
}

impl Channel {
    /// In step with the server at `version`.
    #[must_use]
    pub fn new(version: Version) -> Self {
        Self {
            version,
            ..Self::default()
        }
    }

    /// The server's version up to which everything was received.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// What waits for the server's answer.
    #[must_use]
    pub fn in_flight(&self) -> Option<&InFlight> {
        self.in_flight.as_ref()
    }

    /// How many operations have come that are not shown yet.
    #[must_use]
    pub fn hidden(&self) -> usize {
        self.hidden.len()
    }

    /// An edit of the shown state; becomes the one in flight and is to be submitted.
    ///
    /// # Panics
    /// When one is in flight already.
    pub fn edit(&mut self, op: DocOp) -> Result<&InFlight, TransformError> {
        assert!(self.in_flight.is_none(), "one delta in flight at a time");
        let mut mine = op;
        let mut hidden = VecDeque::with_capacity(self.hidden.len());
        for theirs in &self.hidden {
            let (mine_next, theirs_next) = transform(&mine, theirs)?;
            hidden.push_back(theirs_next);
            mine = mine_next;
        }
        self.hidden = hidden;
        Ok(self.in_flight.insert(InFlight {
            version: self.version,
            op: mine.clone(),
            moved: mine,
        }))
    }

    /// Somebody else's delta, or one of mine from elsewhere: it waits among the hidden. `op` is its change to this
    /// document, `None` if it changed other things.
    pub fn receive(&mut self, op: Option<DocOp>, resulting: Version) -> Result<(), TransformError> {
        if let Some(theirs) = op {
            let theirs = match &mut self.in_flight {
                None => theirs,
                Some(mine) => {
                    let (mine_next, theirs_next) = transform(&mine.moved, &theirs)?;
                    mine.moved = mine_next;
                    theirs_next
                }
            };
            self.hidden.push_back(theirs);
        }
        self.version = resulting;
        Ok(())
    }

    /// The server applied the one in flight.
    pub fn acknowledged(&mut self, resulting: Version) {
        assert!(self.in_flight.take().is_some(), "only what is in flight is answered");
        self.version = resulting;
    }

    /// The next hidden operation, to be applied to the shown state now.
    pub fn show(&mut self) -> Option<DocOp> {
        self.hidden.pop_front()
    }
}
