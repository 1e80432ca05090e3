//! The differences between what the recorded servers said and what ours says, each chosen and with its reason. What is not
//! listed here fails the test.

use billow_model::{Domain, Version, WaveletName};

use crate::recording::{Recording, What};
use crate::replay::Outcome;
use crate::said::{Answer, Said, Word, said};

/// Who said it, and what else came out.
pub(crate) struct Role<'a> {
    pub(crate) recording: &'a Recording,
    pub(crate) server: &'a Domain,
    pub(crate) outcome: &'a Outcome,
}

impl Role<'_> {
    /// Whether the recorded server said something like this at any time.
    fn said_there(&self, like: impl Fn(&Word) -> bool) -> bool {
        let happenings = self.recording.happenings(self.server).iter();
        let stanzas = happenings.filter_map(|happening| match &happening.what {
            What::Said(stanza) => Some(stanza),
            _ => None,
        });
        stanzas.flat_map(said).any(|said| like(&said.what))
    }

    fn said_here(&self, like: impl Fn(&Said) -> bool) -> usize {
        self.outcome.ours.iter().filter(|said| like(said)).count()
    }

    /// Whether somebody asked the recorded server for the delta that ends at this version.
    fn was_asked_for(&self, by: &str, name: &WaveletName, version: Version) -> bool {
        let happenings = self.recording.happenings(self.server).iter();
        let requests = happenings.filter_map(|happening| match &happening.what {
            What::Told(stanza) if stanza.attr("from") == Some(by) => Some(stanza),
            _ => None,
        });
        requests.flat_map(said).any(|said| {
            matches!(said.what, Word::AsksHistory(of, from, _, to, _) if of == *name && from < version && version <= to)
        })
    }

    fn is_of_stock(&self) -> bool {
        self.recording.name.starts_with("stock/")
    }
}

/// Why ours says this, if it is `ours`, or else why it does not.
pub(crate) fn reason(role: &Role<'_>, ours: bool, said: &Said) -> Option<&'static str> {
    if ours {
        only_ours(role, said)
    } else {
        only_theirs(role, said)
    }
}

fn only_ours(role: &Role<'_>, said: &Said) -> Option<&'static str> {
    match &said.what {
        Word::AsksInfo if !said.to.starts_with("wave.") => {
            Some("the domain itself is asked what it is, for a native server has no component")
        }
        Word::AsksInfo | Word::AsksItems if !role.said_there(|word| *word == Word::AsksItems) => {
            Some("the recorded servers had found each other in the recording before")
        }
        Word::AsksInfo | Word::AsksItems => {
            Some("who is not found is looked for again, as long as something waits for it")
        }
        Word::AsksSigner(.., id) if !role.said_there(|word| matches!(word, Word::AsksSigner(.., one) if one == id)) => {
            Some("the recorded servers had each other's chains from the recording before")
        }
        Word::Delta(..) if role.said_here(|one| one == said) > 1 => Some("what is not acknowledged is sent again"),
        Word::Delta(name, version, _) if role.was_asked_for(&said.to, name, *version) => {
            Some("a domain that is back is sent what it has missed, and need not ask for it")
        }
        Word::Receipt(_) => Some("what is there already is acknowledged too"),
        Word::AsksHistory(..) if role.is_of_stock() => {
            Some("the stock receiver mixes up the order of stanzas, and asks for what is only late")
        }
        Word::Answers(id, Answer::Error(..)) => {
            if role.said_there(|word| matches!(word, Word::Answers(one, _) if one == id)) {
                role.said_there(|word| matches!(word, Word::Answers(one, Answer::Error(..)) if one == id))
                    .then_some("both refuse: ours for the rules of the document, theirs because it does not apply")
            } else {
                Some("the reference never answers this")
            }
        }
        _ => None,
    }
}

fn only_theirs(role: &Role<'_>, said: &Said) -> Option<&'static str> {
    match &said.what {
        Word::AsksInfo if said.to.starts_with("wave.") => {
            Some("the usual name below a domain is not guessed: who has it need not speak for the domain")
        }
        Word::Posts(id) if role.said_here(|one| matches!(&one.what, Word::Posts(ours) if ours == id)) > 0 => {
            Some("a chain is posted once to a host, not before every submission")
        }
        Word::Commit(name, version, _)
            if role.said_here(|one| {
                one.to == said.to && matches!(&one.what, Word::Commit(of, upto, _) if of == name && upto > version)
            }) > 0 =>
        {
            Some("deltas that wait for a receipt go together, and have one notice together")
        }
        Word::AsksHistory(..) if role.is_of_stock() => {
            Some("the stock receiver mixes up the order of stanzas, and asks for what is only late")
        }
        Word::Submits(_, signed) if !role.recording.by_signed_bytes().contains_key(&signed[..]) => {
            Some("the host did not take it: ours refuses it by itself, or would make it anew at the newest version")
        }
        Word::Answers(id, Answer::Error(..)) => role
            .said_here(|one| matches!(&one.what, Word::Answers(ours, Answer::Error(..)) if ours == id))
            .gt(&0)
            .then_some("both refuse: ours for the rules of the document, theirs because it does not apply"),
        _ => None,
    }
}
