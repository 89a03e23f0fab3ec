//! Tables: columns two spaces apart, no frames, one line per row.

use super::Style;

/// Columns for people. Rows stay on one line each, so that `grep` and `awk`
/// work; a terminal wraps what is too long.
pub(crate) struct Table {
    grid: comfy_table::Table,
    emphasis: Vec<Emphasis>,
}

/// How a row stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Emphasis {
    /// As it should be.
    Normal,
    /// Over, or of no concern.
    Faint,
    /// On its way, or worse than asked for.
    Notable,
    /// Broken.
    Bad,
}

impl Table {
    pub(crate) fn new<const N: usize>(titles: [&str; N]) -> Table {
        let mut grid = comfy_table::Table::new();
        grid.load_preset(comfy_table::presets::NOTHING);
        grid.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
        grid.set_header(titles);
        Table { grid, emphasis: Vec::new() }
    }

    pub(crate) fn row<const N: usize>(&mut self, emphasis: Emphasis, cells: [String; N]) {
        self.grid.add_row(cells.map(|cell| super::plain(&cell)));
        self.emphasis.push(emphasis);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.emphasis.is_empty()
    }

    /// The table as text, a line break at its end.
    pub(crate) fn render(&mut self, style: &Style) -> String {
        for column in self.grid.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let text = self.grid.to_string();
        let mut rendered = String::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_end();
            let emphasis = number.checked_sub(1).and_then(|row| self.emphasis.get(row));
            rendered.push_str(&match emphasis {
                None => style.bold(line),
                Some(Emphasis::Normal) => line.to_owned(),
                Some(Emphasis::Faint) => style.dim(line),
                Some(Emphasis::Notable) => style.yellow(line),
                Some(Emphasis::Bad) => style.red(line),
            });
            rendered.push('\n');
        }
        rendered
    }
}

/// `name  value` lines with the values under one another.
pub(crate) fn pairs(pairs: &[(&str, String)], indent: usize, style: &Style) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in pairs {
        let padded = format!("{name:width$}");
        text.push_str(&format!("{:indent$}{}  {value}\n", "", style.dim(&padded)));
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn columns_line_up_without_frames() {
        let mut table = Table::new(["NAME", "PHASE", "REASON"]);
        table.row(Emphasis::Normal, ["web-1".into(), "ready".into(), String::new()]);
        table.row(Emphasis::Bad, ["web-10".into(), "failed".into(), "it ended\nwith 1".into()]);
        expect![[r#"
            NAME    PHASE   REASON
            web-1   ready
            web-10  failed  it endedwith 1
        "#]]
        .assert_eq(&table.render(&Style::PLAIN));
    }

    #[test]
    fn values_line_up() {
        let rows = [("id", "app_1".to_owned()), ("created", "5m ago".to_owned())];
        expect![[r#"
            id       app_1
            created  5m ago
        "#]]
        .assert_eq(&pairs(&rows, 0, &Style::PLAIN));
        assert!(pairs(&rows, 2, &Style::PLAIN).starts_with("  id "));
    }
}
