//! Rows as columns of text, for people.

/// The widest column but the last: longer values are cut with an ellipsis.
const MAX_COLUMN: usize = 48;

/// Lays rows out under their headings.
pub(crate) fn layout(headings: &[&str], rows: &[Vec<String>]) -> String {
    let headings: Vec<String> = headings.iter().map(|&h| h.to_owned()).collect();
    let widths: Vec<usize> = (0..headings.len())
        .map(|i| {
            let lengths = rows.iter().chain([&headings]).map(|row| row[i].chars().count());
            lengths.max().unwrap_or(0).min(MAX_COLUMN)
        })
        .collect();
    let mut out = String::new();
    for row in std::iter::once(&headings).chain(rows) {
        out.push_str(&line(row, &widths));
        out.push('\n');
    }
    out
}

/// One row in columns of these widths.
pub(crate) fn line(row: &[String], widths: &[usize]) -> String {
    let last = row.len().saturating_sub(1);
    let mut out = String::new();
    for (i, (cell, &width)) in row.iter().zip(widths).enumerate() {
        let cell = cell.replace(|c: char| c.is_control(), " ");
        if i == last {
            out.push_str(&cell);
        } else {
            out.push_str(&format!("{:<width$}  ", cut(&cell, width)));
        }
    }
    out.truncate(out.trim_end().len());
    out
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_control_characters_do_not_reach_the_terminal() {
        let rows =
            vec![vec!["a".to_owned(), "x\u{1b}[31m".to_owned()], vec!["longer".to_owned(), "y".to_owned()]];
        assert_eq!(layout(&["N", "V"], &rows), "N       V\na       x [31m\nlonger  y\n");
    }
}
