//! A scene as SVG 1.1: shapes and texts only, no script, no style sheet, nothing that is loaded from elsewhere.
//!
//! Texts come from data. Each is escaped for XML, and has no control character left (see [`escape_control`]).

use std::fmt::Write as _;

use super::font::FAMILY;
use super::scene::{Anchor, Colour, Item, PAPER, Scene, WIDTH};
use crate::print::cell::escape_control;

/// The picture as a whole file.
pub(super) fn write(scene: &Scene) -> String {
    let mut svg = String::with_capacity(16 * 1024);
    let (width, height) = (number(WIDTH), number(scene.height));
    // Writing to a String cannot fail.
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\" aria-labelledby=\"title desc\" font-family=\"{FAMILY}\">\n\
         <title id=\"title\">{}</title>\n<desc id=\"desc\">{}</desc>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"{}\"/>\n",
        escape(&scene.title),
        escape(&scene.description),
        colour(PAPER),
    );
    for item in &scene.items {
        push(&mut svg, item);
    }
    svg.push_str("</svg>\n");
    svg
}

fn push(svg: &mut String, item: &Item) {
    let _ = match item {
        Item::Rect {
            x,
            y,
            width,
            height,
            fill,
            title,
        } => writeln!(
            svg,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\"{}",
            number(*x),
            number(*y),
            number(*width),
            number(*height),
            colour(*fill),
            end("rect", title.as_deref()),
        ),
        Item::Dot {
            x,
            y,
            radius,
            fill,
            title,
        } => writeln!(
            svg,
            "<circle cx=\"{}\" cy=\"{}\" r=\"{}\" fill=\"{}\"{}",
            number(*x),
            number(*y),
            number(*radius),
            colour(*fill),
            end("circle", title.as_deref()),
        ),
        Item::Path {
            points,
            width,
            colour: stroke,
        } => {
            let points: Vec<String> = points
                .iter()
                .map(|(x, y)| format!("{},{}", number(*x), number(*y)))
                .collect();
            writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" stroke-linejoin=\"round\"/>",
                points.join(" "),
                colour(*stroke),
                number(*width),
            )
        }
        Item::Text {
            x,
            y,
            anchor,
            style,
            text,
        } => {
            let anchor = match anchor {
                Anchor::Start => "",
                Anchor::Middle => " text-anchor=\"middle\"",
                Anchor::End => " text-anchor=\"end\"",
            };
            let weight = if style.bold { " font-weight=\"bold\"" } else { "" };
            writeln!(
                svg,
                "<text x=\"{}\" y=\"{}\" font-size=\"{}\"{weight} fill=\"{}\"{anchor}>{}</text>",
                number(*x),
                number(*y),
                number(style.size),
                colour(style.colour),
                escape(text),
            )
        }
    };
}

/// The end of an element, with what a pointer over it says.
fn end(name: &str, title: Option<&str>) -> String {
    title.map_or_else(
        || "/>".to_owned(),
        |title| format!("><title>{}</title></{name}>", escape(title)),
    )
}

/// A coordinate with at most two decimals: the same text on every machine.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}

fn colour([red, green, blue]: Colour) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// A text for XML, in an element or between double quotes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in escape_control(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // XML 1.0 has no way to write these.
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_markup() {
        assert_eq!(
            escape("</text><script>alert('x')</script>&\"\u{1b}[31m\u{ffff}"),
            "&lt;/text&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;&quot;\\u{1b}[31m\u{fffd}"
        );
    }

    #[test]
    fn coordinates_are_short() {
        for (value, text) in [
            (1.0, "1"),
            (1.25, "1.25"),
            (1.0 / 3.0, "0.33"),
            (-0.001, "0"),
            (120.0, "120"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
