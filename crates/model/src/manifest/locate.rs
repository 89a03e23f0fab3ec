//! Where in the file a field stands, so that an error can point at it.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The 1-based line and column of a byte offset.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    (line, column)
}

/// The place of a dotted field such as `processes.web.ports[0].internal`, or of
/// its nearest parent that is in the file.
pub(super) fn field(text: &str, path: &str) -> (usize, usize) {
    let Ok(table) = DeTable::parse(text) else {
        return (1, 1);
    };
    let mut offset = 0;
    let mut here: Option<&Spanned<DeValue<'_>>> = None;
    for segment in path.split(['.', '[']) {
        let next = match here.map(Spanned::get_ref) {
            None => entry(table.get_ref(), segment, &mut offset),
            Some(DeValue::Table(inner)) => entry(inner, segment, &mut offset),
            Some(DeValue::Array(items)) => {
                let index = segment.trim_end_matches(']').parse::<usize>().ok();
                index.and_then(|index| items.get(index)).inspect(|item| offset = item.span().start)
            }
            Some(_) => None,
        };
        let Some(next) = next else { break };
        here = Some(next);
    }
    position(text, offset)
}

fn entry<'t, 'a>(
    table: &'t DeTable<'a>,
    key: &str,
    offset: &mut usize,
) -> Option<&'t Spanned<DeValue<'a>>> {
    let (name, value) = table.iter().find(|(name, _)| name.get_ref() == key)?;
    *offset = name.span().start;
    Some(value)
}
