//! Two operations that insert nothing (operations.md §6, step 4 and "annotation bookkeeping").

use std::sync::Arc;

use super::{LENGTHS, TransformError, count};
use crate::doc::normalize::Normalizer;
use crate::doc::op::{AnnotationBoundary, AttributeChange, Attributes, AttributesUpdate, Component, DocOp};
use crate::doc::text::split_items;
use crate::doc::update::{KeyMap, OldNew, Update};

pub(super) fn against_rest(client: &DocOp, server: &DocOp) -> Result<(DocOp, DocOp), TransformError> {
    let mut meeting = Meeting::default();
    let mut server = server.components().iter();
    for component in client.components() {
        meeting.client_component(component)?;
        while meeting.ahead > 0 {
            meeting.server_component(server.next().ok_or(LENGTHS)?)?;
        }
    }
    for component in server {
        meeting.server_component(component)?;
    }
    Ok((meeting.client.out.finish()?, meeting.server.out.finish()?))
}

/// What one side does to one item, or to a run of items.
#[derive(Debug, Clone, Copy, Default)]
enum Part<'a> {
    #[default]
    Nothing,
    Retain(u32),
    Delete(&'a str),
    DeleteStart {
        kind: &'a Arc<str>,
        attributes: &'a Attributes,
    },
    DeleteEnd,
    Replace {
        old: &'a Attributes,
        new: &'a Attributes,
    },
    Update(&'a AttributesUpdate),
}

impl<'a> Part<'a> {
    fn of(component: &'a Component) -> Self {
        match component {
            Component::Retain(count) => Self::Retain(*count),
            Component::DeleteCharacters(text) => Self::Delete(text),
            Component::DeleteElementStart { kind, attributes } => Self::DeleteStart { kind, attributes },
            Component::DeleteElementEnd => Self::DeleteEnd,
            Component::ReplaceAttributes { old, new } => Self::Replace { old, new },
            Component::UpdateAttributes(update) => Self::Update(update),
            _ => Self::Nothing,
        }
    }

    /// The first items, and what is left.
    fn split(self, items: u32) -> (Self, Self) {
        match self {
            Self::Retain(all) if items < all => (Self::Retain(items), Self::Retain(all - items)),
            Self::Delete(text) => match split_items(text, items) {
                (_, "", _) => (self, Self::Nothing),
                (here, rest, _) => (Self::Delete(here), Self::Delete(rest)),
            },
            _ => (self, Self::Nothing),
        }
    }
}

/// One side: what it emits, and where it is in its annotation changes.
#[derive(Default)]
struct Side<'a> {
    out: Normalizer,
    /// What it does to the items that the other side has not come to.
    pending: Part<'a>,
    /// Its open changes as given.
    tracked: Update,
    /// The changes open in its output.
    active: Update,
    /// Keys whose active entry has changed since the last item that both kept, with the entry from before.
    propagating: KeyMap<Option<OldNew>>,
}

impl Side<'_> {
    fn set(&mut self, key: &Arc<str>, values: Option<OldNew>) {
        let before = match &values {
            Some(values) => {
                self.out.change(key, values.clone());
                if self.active.find(key) == Some(values) {
                    return;
                }
                let before = self.active.remove(key);
                self.active.set(key, values.clone());
                before
            }
            None => {
                self.out.end(key);
                let Some(before) = self.active.remove(key) else { return };
                Some(before)
            }
        };
        if self.propagating.find(key).is_none() {
            self.propagating.set(key, before);
        }
    }

    /// Deletes something that `other` keeps: around the deletion this side changes annotations so that the deleted items
    /// lead to what is left of them after both operations.
    fn delete(&mut self, other: &Side<'_>, emit: impl FnOnce(&mut Normalizer)) {
        let mut restore = Vec::new();
        for (key, earlier) in other.propagating.iter() {
            let (own, theirs) = (self.active.find(key).cloned(), other.active.find(key));
            let values = match (earlier, theirs) {
                (Some(earlier), _) => {
                    let old = own
                        .as_ref()
                        .map(|own| &own.old)
                        .or(theirs.map(|theirs| &theirs.new))
                        .unwrap_or(&earlier.old);
                    OldNew {
                        old: old.clone(),
                        new: earlier.new.clone(),
                    }
                }
                (None, Some(theirs)) => {
                    let new = own.as_ref().map_or(&theirs.old, |own| &own.new);
                    OldNew {
                        old: theirs.new.clone(),
                        new: new.clone(),
                    }
                }
                (None, None) => continue,
            };
            self.set(key, Some(values));
            restore.push((key.clone(), own));
        }
        emit(&mut self.out);
        self.propagating.clear();
        for (key, own) in restore {
            self.set(&key, own);
        }
    }
}

#[derive(Default)]
struct Meeting<'a> {
    client: Side<'a>,
    server: Side<'a>,
    /// How many items the client is ahead of the server.
    ahead: i64,
}

impl<'a> Meeting<'a> {
    fn client_component(&mut self, component: &'a Component) -> Result<(), TransformError> {
        if let Component::AnnotationBoundary(boundary) = component {
            self.client_boundary(boundary);
            return Ok(());
        }
        let items = count(component.consumes());
        let both = u32::try_from((-self.ahead).clamp(0, i64::from(items))).expect("not above an u32");
        self.ahead += i64::from(items);
        self.client.pending = Part::of(component);
        self.meet(both)
    }

    fn server_component(&mut self, component: &'a Component) -> Result<(), TransformError> {
        if let Component::AnnotationBoundary(boundary) = component {
            self.server_boundary(boundary);
            return Ok(());
        }
        let items = count(component.consumes());
        let both = u32::try_from(self.ahead.clamp(0, i64::from(items))).expect("not above an u32");
        self.ahead -= i64::from(items);
        self.server.pending = Part::of(component);
        self.meet(both)
    }

    /// Both sides pass so many items of what is pending.
    fn meet(&mut self, items: u32) -> Result<(), TransformError> {
        if items == 0 {
            return Ok(());
        }
        let (client, client_rest) = self.client.pending.split(items);
        let (server, server_rest) = self.server.pending.split(items);
        (self.client.pending, self.server.pending) = (client_rest, server_rest);
        match (client, server) {
            (Part::Update(client), Part::Update(server)) => {
                let (client, server) = both_update(client, server)?;
                self.client.out.update(client);
                self.server.out.update(server);
                self.kept();
            }
            (Part::Replace { new, .. }, Part::Replace { new: old, .. }) => {
                self.client.out.replace(old.clone(), new.clone());
                self.server.out.retain(1);
                self.kept();
            }
            (client, server) => {
                let one = pair(client, server, &mut self.client, &mut self.server)?;
                if !one && !pair(server, client, &mut self.server, &mut self.client)? {
                    return Err(TransformError("both do to each item what can be done to it"));
                }
            }
        }
        Ok(())
    }

    fn kept(&mut self) {
        self.client.propagating.clear();
        self.server.propagating.clear();
    }

    fn client_boundary(&mut self, boundary: &AnnotationBoundary) {
        let Self { client, server, .. } = self;
        for key in &boundary.ends {
            client.tracked.remove(key);
            client.set(key, None);
            if let Some(values) = server.tracked.find(key).cloned() {
                server.set(key, Some(values));
            }
        }
        for change in &boundary.changes {
            let key = &change.key;
            let mut values = OldNew::of(change);
            client.tracked.set(key, values.clone());
            if let Some(theirs) = server.tracked.find(key) {
                values.old.clone_from(&theirs.new);
            }
            client.set(key, Some(values));
            server.set(key, None);
        }
    }

    fn server_boundary(&mut self, boundary: &AnnotationBoundary) {
        let Self { client, server, .. } = self;
        for key in &boundary.ends {
            server.tracked.remove(key);
            match client.tracked.find(key).cloned() {
                Some(values) => client.set(key, Some(values)),
                None => server.set(key, None),
            }
        }
        for change in &boundary.changes {
            let key = &change.key;
            let values = OldNew::of(change);
            server.tracked.set(key, values.clone());
            match client.tracked.find(key).cloned() {
                Some(own) => client.set(
                    key,
                    Some(OldNew {
                        old: values.new,
                        new: own.new,
                    }),
                ),
                None => server.set(key, Some(values)),
            }
        }
    }
}

/// The pairs in which the sides' roles do not matter, seen from `own`; false if they are to be seen from the other side.
fn pair(
    own: Part<'_>,
    their: Part<'_>,
    own_side: &mut Side<'_>,
    their_side: &mut Side<'_>,
) -> Result<bool, TransformError> {
    const VALUES: TransformError = TransformError("both find the same attributes");
    match (own, their) {
        (Part::Delete(_), Part::Delete(_)) | (Part::DeleteStart { .. }, Part::DeleteStart { .. }) => return Ok(true),
        (Part::DeleteEnd, Part::DeleteEnd) => return Ok(true),
        (Part::Delete(text), Part::Retain(_)) => own_side.delete(their_side, |out| out.delete_characters(text)),
        (Part::DeleteEnd, Part::Retain(_)) => own_side.delete(their_side, Normalizer::delete_element_end),
        (Part::DeleteStart { kind, attributes }, Part::Retain(_)) => {
            own_side.delete(their_side, |out| out.delete_element_start(kind, attributes));
        }
        (Part::DeleteStart { kind, .. }, Part::Replace { new, .. }) => {
            own_side.delete(their_side, |out| out.delete_element_start(kind, new));
        }
        (Part::DeleteStart { kind, attributes }, Part::Update(update)) => {
            let attributes = attributes.updated(update).ok_or(VALUES)?;
            own_side.delete(their_side, |out| out.delete_element_start(kind, &attributes));
        }
        (Part::Retain(_), Part::Retain(items)) => {
            own_side.out.retain(items);
            their_side.out.retain(items);
            own_side.propagating.clear();
            their_side.propagating.clear();
        }
        (Part::Replace { old, new }, other) => {
            match other {
                Part::Retain(_) => own_side.out.replace(old.clone(), new.clone()),
                Part::Update(update) => own_side.out.replace(old.updated(update).ok_or(VALUES)?, new.clone()),
                _ => return Ok(false),
            }
            their_side.out.retain(1);
            own_side.propagating.clear();
            their_side.propagating.clear();
        }
        (Part::Update(update), Part::Retain(_)) => {
            own_side.out.update(update.clone());
            their_side.out.retain(1);
            own_side.propagating.clear();
            their_side.propagating.clear();
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Both change attributes of one element: where they name the same, the client's value stands.
fn both_update(
    client: &AttributesUpdate,
    server: &AttributesUpdate,
) -> Result<(AttributesUpdate, AttributesUpdate), TransformError> {
    let adjusted = client.changes().iter().map(|change| AttributeChange {
        old: server
            .find(&change.name)
            .map_or(&change.old, |theirs| &theirs.new)
            .clone(),
        ..change.clone()
    });
    let left = server
        .changes()
        .iter()
        .filter(|change| client.find(&change.name).is_none())
        .cloned();
    Ok((
        AttributesUpdate::new(adjusted.collect())?,
        AttributesUpdate::new(left.collect())?,
    ))
}
