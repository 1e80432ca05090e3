//! Cutting text by items.

/// The first `count` items of a text, the rest, and how many items the first part has (less than `count` if it is all).
pub(crate) fn split_items(text: &str, count: u32) -> (&str, &str, u32) {
    if u32::try_from(text.len()).is_ok_and(|len| len <= count) && text.is_ascii() {
        return (text, "", text.len() as u32);
    }
    let mut taken = 0;
    for (at, _) in text.char_indices() {
        if taken == count {
            let (here, rest) = text.split_at(at);
            return (here, rest, taken);
        }
        taken += 1;
    }
    (text, "", taken)
}
