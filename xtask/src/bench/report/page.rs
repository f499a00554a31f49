//! The HTML page: one file that needs no other.

use std::fmt::Write as _;

use super::{Chart, Table};

const STYLE: &str = "
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem;
  color: #1a1a1a; background: #fff }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: right }
th:first-child, td:first-child { text-align: left }
.wide { overflow-x: auto }
svg { max-width: 100%; height: auto }
td.met { color: #11702b } td.short { color: #b00020; font-weight: 600 }
";

pub(super) fn html(introduction: &[String], tables: &[Table], charts: &[Chart]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>netd beside others</title>\n\
         <style>{STYLE}</style>\n<h1>netd beside others</h1>\n"
    );
    for paragraph in introduction {
        let _ = writeln!(page, "<p>{}</p>", escaped(paragraph));
    }
    for chart in charts {
        let _ = writeln!(
            page,
            "<figure aria-label=\"{}\">{}</figure>",
            escaped(chart.title),
            chart.svg
        );
    }
    for table in tables.iter().filter(|table| !table.rows.is_empty()) {
        let _ =
            writeln!(page, "<h2>{}</h2>\n<p>{}</p>", escaped(&table.title), escaped(&table.note));
        page.push_str("<div class=\"wide\"><table>\n");
        row(&mut page, "th", &table.head);
        table.rows.iter().for_each(|cells| row(&mut page, "td", cells));
        page.push_str("</table></div>\n");
    }
    page.push_str("</html>\n");
    page
}

fn row(page: &mut String, element: &str, cells: &[String]) {
    page.push_str("<tr>");
    for cell in cells {
        let class = match cell.as_str() {
            "met" | "short" => format!(" class=\"{cell}\""),
            _ => String::new(),
        };
        let _ = write!(page, "<{element}{class}>{}</{element}>", escaped(cell));
    }
    page.push_str("</tr>\n");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
