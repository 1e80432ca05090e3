//! A blip's text as one person sees it: characters, with a newline for each `line` element after the first.
//!
//! A newline is two items of the document (`<line></line>`), everything else one; the text begins after
//! `<body><line></line>`, at item 3. A cached place makes edits near the last one cheap.

use std::sync::Arc;

use anyhow::{Context, bail};
use billow_model::{Attributes, Component, DocOp};

use super::trace::Patch;

/// Items before the first character.
const HEAD: usize = 3;
/// Items after the last: `</body>`.
const TAIL: usize = 1;

/// The text and a remembered place in it.
#[derive(Debug, Default, Clone)]
pub(super) struct Text {
    chars: Vec<char>,
    lines: usize,
    /// A character's index and the number of newlines before it.
    place: (usize, usize),
}

impl Text {
    /// A text as it is at the start.
    pub(super) fn new(text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        Self {
            lines: chars.iter().filter(|c| **c == '\n').count(),
            chars,
            place: (0, 0),
        }
    }

    /// As a string.
    pub(super) fn to_text(&self) -> String {
        self.chars.iter().collect()
    }

    /// How many items the whole document has.
    fn items(&self) -> usize {
        HEAD + self.chars.len() + self.lines + TAIL
    }

    /// Newlines before the character at `index`.
    fn lines_before(&mut self, index: usize) -> usize {
        let (at, lines) = self.place;
        let newlines = |range: &[char]| range.iter().filter(|c| **c == '\n').count();
        let lines = if index >= at {
            lines + newlines(&self.chars[at..index])
        } else {
            lines - newlines(&self.chars[index..at])
        };
        self.place = (index, lines);
        lines
    }

    /// Makes the patches of one edit, each on the text the one before left, and gives them as one operation each.
    pub(super) fn edit(&mut self, patches: &[Patch]) -> anyhow::Result<Vec<DocOp>> {
        patches
            .iter()
            .map(|Patch(position, deleted, inserted)| self.splice(*position, *deleted, inserted))
            .collect()
    }

    fn splice(&mut self, position: usize, deleted: usize, inserted: &str) -> anyhow::Result<DocOp> {
        let end = position.checked_add(deleted).filter(|end| *end <= self.chars.len());
        let end = end.with_context(|| {
            format!(
                "the trace edits at {position}+{deleted}, the text has {} characters",
                self.chars.len()
            )
        })?;
        let before = HEAD + position + self.lines_before(position);
        let total = self.items();
        let gone: Vec<char> = self.chars[position..end].to_vec();
        let come: Vec<char> = inserted.chars().collect();
        let mut components = vec![retain(before)?];
        push_text(&mut components, &come, true);
        push_text(&mut components, &gone, false);
        let lines_gone = gone.iter().filter(|c| **c == '\n').count();
        components.push(retain(total - before - gone.len() - lines_gone)?);
        self.chars.splice(position..end, come.iter().copied());
        self.lines = self.lines - lines_gone + come.iter().filter(|c| **c == '\n').count();
        DocOp::new(components).context("an edit of the trace is no operation")
    }

    /// Somebody else's operation on the blip.
    pub(super) fn apply(&mut self, op: &DocOp) -> anyhow::Result<()> {
        let mut index = 0; // of characters
        let mut item = 0; // of the document before the operation, as far as it is still there
        for component in op.components() {
            match component {
                Component::Retain(count) => {
                    item += usize::try_from(*count)?;
                    index = self.index_at(item)?;
                }
                Component::Characters(text) => {
                    let come: Vec<char> = text.chars().collect();
                    item += come.len();
                    self.insert(index, &come);
                    index += come.len();
                }
                Component::ElementStart { kind, .. } if &**kind == "line" => {
                    self.insert(index, &['\n']);
                    index += 1;
                    item += 2;
                }
                Component::DeleteCharacters(text) => self.remove(index, text.chars().count())?,
                Component::DeleteElementStart { kind, .. } if &**kind == "line" => self.remove(index, 1)?,
                Component::ElementEnd | Component::DeleteElementEnd | Component::AnnotationBoundary(_) => {}
                other => bail!("expected text and lines in a replayed blip, got {other:?}"),
            }
        }
        Ok(())
    }

    /// The character at an item position; the end of a line's two items is never asked for.
    fn index_at(&mut self, item: usize) -> anyhow::Result<usize> {
        let Some(target) = item.checked_sub(HEAD) else {
            return Ok(0);
        };
        if target >= self.chars.len() + self.lines {
            return Ok(self.chars.len());
        }
        let (mut index, mut lines) = self.place;
        while index + lines > target {
            index -= 1;
            lines -= usize::from(self.chars[index] == '\n');
        }
        while index + lines < target {
            lines += usize::from(self.chars[index] == '\n');
            index += 1;
        }
        self.place = (index, lines);
        if index + lines != target {
            bail!("an operation reaches into a line element at item {item}");
        }
        Ok(index)
    }

    fn insert(&mut self, index: usize, come: &[char]) {
        self.lines_before(index);
        self.lines += come.iter().filter(|c| **c == '\n').count();
        self.chars.splice(index..index, come.iter().copied());
    }

    fn remove(&mut self, index: usize, count: usize) -> anyhow::Result<()> {
        self.lines_before(index);
        let end = index + count;
        if end > self.chars.len() {
            bail!("an operation deletes beyond the end of the text");
        }
        self.lines -= self.chars.drain(index..end).filter(|c| *c == '\n').count();
        Ok(())
    }
}

fn retain(count: usize) -> anyhow::Result<Component> {
    Ok(Component::Retain(u32::try_from(count).context("the text is too long")?))
}

/// Text and newlines as insertions or deletions.
fn push_text(components: &mut Vec<Component>, chars: &[char], insert: bool) {
    let line: Arc<str> = "line".into();
    for (number, part) in chars.split(|c| *c == '\n').enumerate() {
        if number > 0 {
            let (kind, attributes) = (Arc::clone(&line), Attributes::default());
            if insert {
                components.extend([Component::ElementStart { kind, attributes }, Component::ElementEnd]);
            } else {
                components.extend([
                    Component::DeleteElementStart { kind, attributes },
                    Component::DeleteElementEnd,
                ]);
            }
        }
        if !part.is_empty() {
            let text: String = part.iter().collect();
            components.push(if insert {
                Component::Characters(text)
            } else {
                Component::DeleteCharacters(text)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_copies_stay_equal_whatever_is_typed() {
        let (mut here, mut there) = (Text::default(), Text::default());
        let edits = [
            Patch(0, 0, "one\ntwo".into()),
            Patch(3, 1, " ".into()),
            Patch(7, 0, "\n\nthree".into()),
            Patch(8, 1, String::new()),
            Patch(0, 4, "\n".into()),
            Patch(4, 0, "é😀\n".into()),
        ];
        for patch in edits {
            for op in here.edit(std::slice::from_ref(&patch)).expect("fits") {
                there.apply(&op).expect("fits");
            }
            assert_eq!(here.to_text(), there.to_text());
            assert_eq!((here.lines, here.items()), (there.lines, there.items()));
        }
        assert_eq!(here.to_text(), "\ntwoé😀\n\nthree");
    }

    #[test]
    fn an_edit_outside_the_text_is_named() {
        let error = Text::default()
            .edit(&[Patch(1, 0, "x".into())])
            .expect_err("nothing there")
            .to_string();
        assert!(error.contains("0 characters"), "{error}");
    }
}
