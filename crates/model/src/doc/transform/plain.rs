//! The commonest pair: both sides type, each at one place. The same result as by the five steps, without taking them.

use super::count;
use crate::doc::op::{Component, DocOp, item_count};

/// `None` where the pair is not of this kind.
pub(super) fn transform(client: &DocOp, server: &DocOp) -> Option<(DocOp, DocOp)> {
    let (client, server) = (Typed::of(client)?, Typed::of(server)?);
    let (client_len, server_len) = (count(item_count(client.text)), count(item_count(server.text)));
    let len = client.before.checked_add(client.after)?;
    let fits = server.before.checked_add(server.after)? == len;
    let end = len.checked_add(client_len)?.checked_add(server_len)?;
    if !fits || i32::try_from(end).is_err() {
        return None;
    }
    // At one place the client's text comes first.
    Some(if client.before <= server.before {
        (client.moved(0, server_len), server.moved(client_len, 0))
    } else {
        (client.moved(server_len, 0), server.moved(0, client_len))
    })
}

/// Text inserted at one place.
struct Typed<'a> {
    before: u32,
    text: &'a str,
    after: u32,
}

impl<'a> Typed<'a> {
    fn of(op: &'a DocOp) -> Option<Self> {
        match op.components() {
            [Component::Characters(text)] => Some(Self {
                before: 0,
                text,
                after: 0,
            }),
            [Component::Characters(text), Component::Retain(after)] => Some(Self {
                before: 0,
                text,
                after: *after,
            }),
            [Component::Retain(before), Component::Characters(text)] => Some(Self {
                before: *before,
                text,
                after: 0,
            }),
            [
                Component::Retain(before),
                Component::Characters(text),
                Component::Retain(after),
            ] => Some(Self {
                before: *before,
                text,
                after: *after,
            }),
            _ => None,
        }
    }

    /// With so many more items on the left and on the right.
    fn moved(&self, left: u32, right: u32) -> DocOp {
        let retain = |items: u32| (items > 0).then_some(Component::Retain(items));
        let mut out = Vec::with_capacity(3);
        out.extend(retain(self.before + left));
        out.push(Component::Characters(self.text.to_owned()));
        out.extend(retain(self.after + right));
        DocOp::trusted(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doc::transform::transform_by_parts;

    #[test]
    fn comes_to_what_the_five_steps_come_to() {
        let typed = |at, len, text: &str| {
            Typed {
                before: at,
                text,
                after: len - at,
            }
            .moved(0, 0)
        };
        for len in 0..4 {
            for client_at in 0..=len {
                for server_at in 0..=len {
                    for text in ["c", "cé😀"] {
                        let (client, server) = (typed(client_at, len, text), typed(server_at, len, "ss"));
                        let pair = transform(&client, &server).expect("both type at one place");
                        assert_eq!(Ok(pair), transform_by_parts(&client, &server));
                    }
                }
            }
        }
        assert_eq!(transform(&typed(0, 2, "c"), &typed(0, 3, "s")), None);
    }
}
