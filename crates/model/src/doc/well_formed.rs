//! What makes a list of components an operation, whatever the document (operations.md §2 and §1, "permitted characters").

use std::sync::Arc;

use crate::doc::op::{AnnotationBoundary, Attributes, Component, IllFormed, utf16_cmp};

/// The reference counts positions in 32 bits; longer operations are refused here, so that no sum overflows later.
const ITEMS_MAX: usize = i32::MAX as usize;

/// Walks the components once.
pub(crate) fn check(components: &[Component]) -> Result<(), IllFormed> {
    let mut walk = Walk::default();
    for (index, component) in components.iter().enumerate() {
        walk.step(component).map_err(|reason| IllFormed { index, reason })?;
    }
    walk.end().map_err(|reason| IllFormed {
        index: components.len(),
        reason,
    })
}

#[derive(Default)]
struct Walk<'a> {
    inserting: usize,
    deleting: usize,
    before: usize,
    after: usize,
    after_boundary: bool,
    /// Keys of the annotations update, sorted.
    open: Vec<&'a Arc<str>>,
}

type Check = Result<(), &'static str>;

impl<'a> Walk<'a> {
    fn step(&mut self, component: &'a Component) -> Check {
        self.nesting(component)?;
        match component {
            Component::Retain(0) => return Err("a retain is above 0"),
            Component::Retain(_) | Component::ElementEnd | Component::DeleteElementEnd => {}
            Component::Characters(text) | Component::DeleteCharacters(text) => check_text(text)?,
            Component::ElementStart { kind, attributes } | Component::DeleteElementStart { kind, attributes } => {
                check_name(kind, "an element's type is an XML name")?;
                check_attributes(attributes)?;
            }
            Component::ReplaceAttributes { old, new } => {
                check_attributes(old)?;
                check_attributes(new)?;
            }
            Component::UpdateAttributes(update) => {
                for change in update.changes() {
                    check_name(&change.name, "an attribute's name is an XML name")?;
                    [&change.old, &change.new]
                        .into_iter()
                        .flatten()
                        .try_for_each(|value| check_value(value))?;
                }
            }
            Component::AnnotationBoundary(boundary) => self.boundary(boundary)?,
        }
        self.after_boundary = matches!(component, Component::AnnotationBoundary(_));
        self.before = self.before.saturating_add(component.consumes());
        self.after = self.after.saturating_add(component.produces());
        if self.before.max(self.after) > ITEMS_MAX {
            Err("an operation has at most 2^31-1 items")
        } else {
            Ok(())
        }
    }

    /// Inside an insertion only insertions, inside a deletion only deletions.
    fn nesting(&mut self, component: &Component) -> Check {
        match component {
            Component::AnnotationBoundary(_) => return Ok(()),
            Component::Characters(_) | Component::ElementStart { .. } | Component::ElementEnd => {
                if self.deleting > 0 {
                    return Err("nothing is inserted inside a deleted element");
                }
            }
            Component::DeleteCharacters(_) | Component::DeleteElementStart { .. } | Component::DeleteElementEnd => {
                if self.inserting > 0 {
                    return Err("nothing is deleted inside an inserted element");
                }
            }
            Component::Retain(_) | Component::ReplaceAttributes { .. } | Component::UpdateAttributes(_) => {
                if self.inserting + self.deleting > 0 {
                    return Err("nothing is kept inside an inserted or deleted element");
                }
            }
        }
        match component {
            Component::ElementStart { .. } => self.inserting += 1,
            Component::ElementEnd => {
                self.inserting = self.inserting.checked_sub(1).ok_or("an element end has its start")?
            }
            Component::DeleteElementStart { .. } => self.deleting += 1,
            Component::DeleteElementEnd => {
                self.deleting = self
                    .deleting
                    .checked_sub(1)
                    .ok_or("a deleted element end has its deleted start")?;
            }
            _ => {}
        }
        Ok(())
    }

    fn boundary(&mut self, boundary: &'a AnnotationBoundary) -> Check {
        if self.after_boundary {
            return Err("no two annotation boundaries are adjacent");
        }
        let AnnotationBoundary { ends, changes } = boundary;
        let sorted = ends.windows(2).all(|pair| utf16_cmp(&pair[0], &pair[1]).is_lt())
            && changes
                .windows(2)
                .all(|pair| utf16_cmp(&pair[0].key, &pair[1].key).is_lt());
        if !sorted {
            return Err("annotation keys strictly increase");
        }
        if changes
            .iter()
            .any(|change| ends.binary_search_by(|end| utf16_cmp(end, &change.key)).is_ok())
        {
            return Err("a boundary either ends or changes a key");
        }
        for key in ends {
            let at = self
                .open
                .binary_search_by(|open| utf16_cmp(open, key))
                .map_err(|_| "an annotation end has its change")?;
            self.open.remove(at);
        }
        for change in changes {
            if change.key.contains(['?', '@']) {
                return Err("an annotation key holds no ? and no @");
            }
            check_value(&change.key)?;
            [&change.old, &change.new]
                .into_iter()
                .flatten()
                .try_for_each(|value| check_value(value))?;
            if let Err(at) = self.open.binary_search_by(|open| utf16_cmp(open, &change.key)) {
                self.open.insert(at, &change.key);
            }
        }
        Ok(())
    }

    fn end(self) -> Check {
        if self.inserting > 0 {
            Err("an inserted element is closed")
        } else if self.deleting > 0 {
            Err("a deleted element is closed")
        } else if !self.open.is_empty() {
            Err("every annotation change has its end")
        } else {
            Ok(())
        }
    }
}

fn check_attributes(attributes: &Attributes) -> Check {
    attributes.iter().try_for_each(|(name, value)| {
        check_name(name, "an attribute's name is an XML name")?;
        check_value(value)
    })
}

fn check_text(text: &str) -> Check {
    if text.is_empty() {
        Err("text is not empty")
    } else {
        check_value(text)
    }
}

/// No noncharacters. Text beyond U+FFFF is allowed, unlike in the reference.
fn check_value(text: &str) -> Check {
    // The least noncharacter, U+FDD0, is EF B7 90 in UTF-8.
    if text.bytes().any(|byte| byte >= 0xEF) && text.chars().any(is_noncharacter) {
        Err("text holds no noncharacter")
    } else {
        Ok(())
    }
}

fn is_noncharacter(c: char) -> bool {
    let code = u32::from(c);
    (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
}

/// XML 1.0 (fifth edition), production 5, without noncharacters.
fn check_name(name: &str, reason: &'static str) -> Check {
    let mut chars = name.chars();
    let good = chars.next().is_some_and(is_name_start) && chars.all(|c| is_name_start(c) || is_name_rest(c));
    if good { Ok(()) } else { Err(reason) }
}

fn is_name_start(c: char) -> bool {
    c.is_ascii_alphabetic()
        || matches!(c, ':' | '_' | '\u{C0}'..='\u{D6}' | '\u{D8}'..='\u{F6}' | '\u{F8}'..='\u{2FF}' | '\u{370}'..='\u{37D}'
            | '\u{37F}'..='\u{1FFF}' | '\u{200C}'..='\u{200D}' | '\u{2070}'..='\u{218F}' | '\u{2C00}'..='\u{2FEF}'
            | '\u{3001}'..='\u{D7FF}' | '\u{F900}'..='\u{FDCF}' | '\u{FDF0}'..='\u{FFFD}' | '\u{10000}'..='\u{EFFFF}')
            && !is_noncharacter(c)
}

fn is_name_rest(c: char) -> bool {
    c.is_ascii_digit() || matches!(c, '-' | '.' | '\u{B7}' | '\u{300}'..='\u{36F}' | '\u{203F}'..='\u{2040}')
}
