//! Insertions against insertions, and against an operation that inserts nothing (operations.md §6, steps 2 and 3).

use super::{LENGTHS, TransformError, count};
use crate::doc::normalize::Normalizer;
use crate::doc::op::{Component, DocOp};
use crate::doc::text::split_items;

/// Two insertion-only operations; at one place the client's come first.
pub(super) fn against_insertions(client: &DocOp, server: &DocOp) -> Result<(DocOp, DocOp), TransformError> {
    let (mut client_out, mut server_out) = (Normalizer::default(), Normalizer::default());
    // How many items of the document the client is ahead of the server.
    let mut ahead: i64 = 0;
    let mut server = server.components().iter();
    for component in client.components() {
        pass(component, &mut ahead, &mut client_out, &mut server_out);
        while ahead > 0 {
            let component = server.next().ok_or(LENGTHS)?;
            let mut behind = -ahead;
            pass(component, &mut behind, &mut server_out, &mut client_out);
            ahead = -behind;
        }
    }
    for component in server {
        let mut behind = -ahead;
        pass(component, &mut behind, &mut server_out, &mut client_out);
        ahead = -behind;
    }
    Ok((client_out.finish()?, server_out.finish()?))
}

/// One side's component; `ahead` is how far this side is ahead of the other.
fn pass(component: &Component, ahead: &mut i64, own: &mut Normalizer, other: &mut Normalizer) {
    if let Component::Retain(items) = component {
        let both = common(*items, -*ahead);
        own.retain(both);
        other.retain(both);
        *ahead += i64::from(*items);
    } else {
        own.component(component);
        other.retain(count(component.produces()));
    }
}

/// How many of `items` the other side, ahead by so many, has come past already.
fn common(items: u32, ahead: i64) -> u32 {
    u32::try_from(ahead.clamp(0, i64::from(items))).expect("not above an u32")
}

/// An insertion-only operation against one that inserts nothing: (insertions', rest'). What is inserted inside an element
/// that the other side deletes is deleted by the other side too.
pub(super) fn against_rest(insertions: &DocOp, rest: &DocOp) -> Result<(DocOp, DocOp), TransformError> {
    let mut meeting = Meeting::default();
    let mut rest = rest.components().iter();
    for component in insertions.components() {
        meeting.insertion(component);
        while meeting.ahead > 0 {
            meeting.rest(rest.next().ok_or(LENGTHS)?);
        }
    }
    rest.for_each(|component| meeting.rest(component));
    Ok((meeting.insertions_out.finish()?, meeting.rest_out.finish()?))
}

#[derive(Default)]
struct Meeting<'a> {
    insertions_out: Normalizer,
    rest_out: Normalizer,
    /// How many items the insertions are ahead of the rest.
    ahead: i64,
    /// What the rest does to the items at which the insertions have not arrived.
    pending: Option<&'a Component>,
    /// The part of a pending deletion of text that is still to be done.
    pending_text: &'a str,
    /// How many deleted elements are open.
    depth: usize,
}

impl<'a> Meeting<'a> {
    fn insertion(&mut self, component: &Component) {
        let deleted = self.depth > 0;
        match component {
            Component::Retain(items) => {
                self.resolve(common(*items, -self.ahead));
                self.ahead += i64::from(*items);
            }
            Component::Characters(text) if deleted => self.rest_out.delete_characters(text),
            Component::ElementStart { kind, attributes } if deleted => {
                self.rest_out.delete_element_start(kind, attributes)
            }
            Component::ElementEnd if deleted => self.rest_out.delete_element_end(),
            _ => {
                self.insertions_out.component(component);
                self.rest_out.retain(count(component.produces()));
            }
        }
    }

    fn rest(&mut self, component: &'a Component) {
        if let Component::AnnotationBoundary(boundary) = component {
            self.rest_out.boundary(boundary);
            return;
        }
        self.pending = Some(component);
        if let Component::DeleteCharacters(text) = component {
            self.pending_text = text;
        }
        let items = count(component.consumes());
        let both = common(items, self.ahead);
        self.resolve(both);
        self.ahead -= i64::from(items);
    }

    /// Both sides pass so many items of the pending component.
    fn resolve(&mut self, items: u32) {
        if items == 0 {
            return;
        }
        match self.pending {
            Some(Component::DeleteCharacters(_)) => {
                let (here, rest, _) = split_items(self.pending_text, items);
                self.rest_out.delete_characters(here);
                self.pending_text = rest;
            }
            Some(Component::DeleteElementStart { kind, attributes }) => {
                self.rest_out.delete_element_start(kind, attributes);
                self.depth += 1;
            }
            Some(Component::DeleteElementEnd) => {
                self.rest_out.delete_element_end();
                self.depth = self.depth.saturating_sub(1);
            }
            Some(Component::ReplaceAttributes { old, new }) => {
                self.rest_out.replace(old.clone(), new.clone());
                self.insertions_out.retain(items);
            }
            Some(Component::UpdateAttributes(update)) => {
                self.rest_out.update(update.clone());
                self.insertions_out.retain(items);
            }
            _ => {
                self.rest_out.retain(items);
                self.insertions_out.retain(items);
            }
        }
    }
}
